"""Traces that exist already, as an engine: nothing is computed, everything else is as with any teacher.

Sample i of a prompt is answered with the i-th trace of that prompt, in the order of the file. One pass over the traces
serves all requests of a call; memory holds the requests and one group of answers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from factory.engines.base import Completion, Request
from factory.engines.imported_config import ImportedEngineConfig
from factory.engines.trace_rows import COUNT_RULE, ReadRow, Trace, read_traces, traces_digest
from factory.errors import DataError
from factory.rollout_store import ImportedTrace, RolloutStore, Stored
from factory.sources.files import file_stream, resolve_path

logger = logging.getLogger(__name__)

_GROUP = 256
_ROWS_TO_PEEK = 100

Traces = Callable[[], Iterator[ReadRow]]
"""Starts reading the traces anew."""


def imported_identity(config: ImportedEngineConfig, digest: str) -> str:
    """``imported:<digest of the traces>[/teacher]``: by content, so that neither path nor name counts."""
    return f"imported:{digest}" + (f"/{config.teacher}" if config.teacher else "")


def digest_of(
    config: ImportedEngineConfig, folder: Path, store: RolloutStore, file_digest: Callable[[Path], str]
) -> str:
    """Identity of the traces that the settings name.

    Raises:
        DataError: when there is no such file, or no such import in the workspace.
    """
    if config.path is not None:
        return traces_digest(resolve_path(config.path, folder), config.columns, file_digest)
    found = store.imports()
    done = found.get(config.name or "")
    if done is None or not done.finished:
        known = ", ".join(name for name, row in found.items() if row.finished) or "none"
        state = "was not finished; run the same `factory rollouts import` again" if done else "is not there"
        raise DataError(
            f"engine.name: the import {config.name!r} {state}\n  imports in this workspace: {known};"
            " `factory rollouts import FILE --name NAME` makes one"
        )
    return done.digest


def traces_of(config: ImportedEngineConfig, store: RolloutStore | None) -> Traces:
    """The rows of the file, or of the workspace's import."""
    if config.path is not None:
        path = resolve_path(config.path, None)
        return lambda: read_traces(path, config.columns)
    assert store is not None and config.name is not None, "an import lies in a store"
    name, lying = config.name, store
    return lambda: (_stored(facts, text) for facts, text in lying.imported(name))


def _stored(facts: ImportedTrace, text: Stored) -> ReadRow:
    trace = Trace(
        facts.prompt,
        text.text,
        facts.gold,
        facts.problem_id,
        facts.teacher,
        text.finish_reason,
        text.num_prompt_tokens,
        text.num_tokens,
        bool(facts.counted),
    )
    return ReadRow(facts.position, (trace,))


class ImportedEngine:
    """Engine over existing traces.

    Args:
        traces: where they come from.
        template: the recipe's ``prompt_template``, which traces made elsewhere do not have around their prompts.
    """

    batch_size: int | None = None

    def __init__(
        self, config: ImportedEngineConfig, identity: str, traces: Traces, template: str = "{problem}"
    ) -> None:
        self.config = config
        self.identity = identity
        self._traces = traces
        self._template = _pattern(template)

    def render(self, messages: Sequence[tuple[str, str]]) -> str:
        """The chat as canonical JSON."""
        turns = [{"role": role, "content": content} for role, content in messages]
        return json.dumps(turns, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Yield what there is in the order of the traces, then a permanent failure for each request without a trace.

        Raises:
            DataError: when the traces cannot be read.
        """
        asked: dict[bytes, dict[int, list[Request]]] = {}
        for request in requests:
            asked.setdefault(self._prompt_key(request), {}).setdefault(request.sample, []).append(request)
        seen: Counter[bytes] = Counter()
        group: list[Completion] = []
        num_left, num_rough = len(requests), 0
        for trace in self._of_teacher():
            key = _key(trace.prompt)
            if key not in asked:
                continue
            served = asked[key].pop(seen[key], [])
            seen[key] += 1
            num_left -= len(served)
            num_rough += 0 if trace.counted else len(served)
            group += [_completion(request, trace) for request in served]
            if len(group) >= _GROUP or not num_left:
                yield group
                group = []
            if not num_left:
                break
        if group:
            yield group
        if num_rough:
            logger.warning(
                "%s: the tokens of %d traces are counted roughly (%s)", self.config.model, num_rough, COUNT_RULE
            )
        yield from self._missing(asked, seen)

    def close(self) -> None:
        """Nothing is held."""

    def _of_teacher(self) -> Iterator[Trace]:
        wanted, num_bad, example = self.config.teacher, 0, ""
        for row in self._traces():
            if row.problem:
                num_bad, example = num_bad + 1, example or f"row {row.number}: {row.problem}"
            for trace in row.traces:
                if wanted is None or trace.teacher == wanted:
                    yield trace
        if num_bad:
            logger.warning("%s: %d rows hold no trace, the first is %s", self.config.model, num_bad, example)

    def _prompt_key(self, request: Request) -> bytes:
        turn = request.messages[-1][1]
        inner = self._template.fullmatch(turn)
        return _key(inner["problem"] if inner else turn)

    def _missing(
        self, asked: dict[bytes, dict[int, list[Request]]], seen: Counter[bytes]
    ) -> Iterator[list[Completion]]:
        none = f"no such trace: {self.config.model} has none of this prompt"
        fewer = f"no such trace: {self.config.model} has fewer of this prompt than num_samples"
        for key, by_sample in asked.items():
            text = fewer if seen[key] else none
            failed = [r for requests in by_sample.values() for r in requests]
            if failed:
                yield [Completion(r, "", "error", 0, 0, 0.0, error=text, permanent=True) for r in failed]


def _completion(request: Request, trace: Trace) -> Completion:
    return Completion(
        request, trace.response, trace.finish_reason, trace.num_prompt_tokens, trace.num_tokens, seconds=0.0
    )


def _pattern(template: str) -> re.Pattern[str]:
    """What finds the problem in a prompt that was made of it."""
    first, *others = template.split("{problem}")
    again = "(?P=problem)".join(re.escape(part) for part in others)
    return re.compile(f"{re.escape(first)}(?P<problem>.*){again}", re.DOTALL)


def _key(prompt: str) -> bytes:
    # 16 bytes: with a million prompts two differing ones share a digest with probability 1e-27.
    return hashlib.blake2b(" ".join(prompt.split()).encode("utf-8", "replace"), digest_size=16).digest()


def check_traces(config: ImportedEngineConfig, folder: Path | None) -> str | None:
    """What is wrong with the file as far as its first rows tell, or None. Imports in a workspace are not looked at."""
    if config.path is None:
        return None
    try:
        path = resolve_path(config.path, folder)
        stream = file_stream(path)
        rows = [row for row, _ in zip(read_traces(path, config.columns), range(_ROWS_TO_PEEK))]
    except DataError as error:
        return f"engine: {error}"
    bad = [row for row in rows if row.problem]
    if rows and len(bad) > len(rows) / 2:
        return (
            f"engine: {len(bad)} of the first {len(rows)} rows of {stream.label} hold no trace;"
            f" {stream.unit} {bad[0].number}: {bad[0].problem}; name the right columns in engine.columns"
        )
    return None
