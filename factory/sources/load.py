"""Problems from any source; the way into this package for the rest of the product."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path

from factory.errors import DataError
from factory.records import Problem, content_hash
from factory.sources.arithmetic import ArithmeticSource, generate
from factory.sources.collect import collect
from factory.sources.config import FileSource, ProblemSource
from factory.sources.files import detect_format, file_stream, resolve_path
from factory.sources.hub import hub_stream, local_path
from factory.sources.peek import first_golds, peek
from factory.sources.result import Dropped, Loaded, Reason, located
from factory.sources.split import holdout, normalise_prompt, remove_overlap
from sft.models import sha256_file

__all__ = [
    "Dropped",
    "Loaded",
    "Reason",
    "first_golds",
    "holdout",
    "load_problems",
    "normalise_prompt",
    "peek",
    "remove_overlap",
    "source_digest",
]

ARITHMETIC_LICENCE = "Apache-2.0"


def load_problems(
    source: ProblemSource, *, folder: Path | None = None, limit: int | None = None, where: str = "problems"
) -> Loaded:
    """The distinct, usable problems of a source.

    The whole source is read even under a limit, so that a limited load is the beginning of the full one.

    Args:
        source: the recipe's section.
        folder: the recipe's folder, for relative paths; they are tried in the working directory next.
        limit: keep the first so many problems.
        where: the recipe's key, with which messages begin.

    Raises:
        DataError: when the source cannot be read, lacks a column, has more bad rows than ``max_bad_rows`` allows, or
            holds no problem.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    with located(where):
        if isinstance(source, ArithmeticSource):
            return _load_arithmetic(source, limit)
        if isinstance(source, FileSource):
            return collect(source, file_stream(resolve_path(source.path, folder)), limit)
        return collect(source, hub_stream(source, folder), limit)


def _load_arithmetic(source: ArithmeticSource, limit: int | None) -> Loaded:
    settings = source.model_dump(exclude={"kind", "num"})
    label = "arithmetic " + json.dumps(settings, sort_keys=True, separators=(",", ":"))
    problems = []
    try:
        for chain, prompt in itertools.islice(generate(source), limit):
            gold = str(chain.results()[-1])
            meta = json.dumps({"steps": len(chain.steps), "chain": chain.expression()})
            problems.append(Problem(content_hash(prompt, gold), prompt, gold, label, ARITHMETIC_LICENCE, meta))
    except ValueError as error:
        raise DataError(f"arithmetic: {error}; lower num, or widen min_steps..max_steps or operators") from error
    return Loaded(problems, [], len(problems))


def source_digest(
    source: ProblemSource, folder: Path | None = None, file_digest: Callable[[Path], str] = sha256_file
) -> str:
    """Identity of a source's content: equal digests and equal settings give equal problems.

    The file's name does not count, its content and kind do; of a hub data set the pinned revision does.

    Args:
        source: the recipe's section.
        folder: the recipe's folder, as for ``load_problems``.
        file_digest: digest of one file; a caller with a cache gives its own.

    Raises:
        DataError: when a file is missing or empty.
    """
    if isinstance(source, ArithmeticSource):
        settings = json.dumps(source.model_dump(mode="json"), sort_keys=True)
        return f"arithmetic:{hashlib.sha256(settings.encode()).hexdigest()[:32]}"
    if isinstance(source, FileSource):
        return _digest_of_file(resolve_path(source.path, folder), file_digest)
    place = local_path(source.dataset, folder)
    if place is None:
        return f"hub:{source.dataset}@{source.revision}:{source.config or ''}:{source.split}"
    return _digest_of_file(place, file_digest) if place.is_file() else _digest_of_folder(place, file_digest)


def _digest_of_file(path: Path, file_digest: Callable[[Path], str]) -> str:
    return f"{detect_format(path).kind}:{file_digest(path)}"


def _digest_of_folder(place: Path, file_digest: Callable[[Path], str]) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in place.rglob("*") if p.is_file()):
        name = path.relative_to(place).as_posix()
        if not any(part.startswith(".") for part in Path(name).parts):
            digest.update(f"{name}\0{file_digest(path)}\n".encode())
    return f"folder:{digest.hexdigest()}"
