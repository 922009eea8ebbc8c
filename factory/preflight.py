"""What ``factory check`` finds before anything is paid for. No model is loaded and nothing heavy imported."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

from factory.engines.config import EngineConfig, OpenAIEngineConfig, TransformersEngineConfig
from factory.recipe import Recipe
from factory.sources.config import PoolSource
from sft.errors import ModelLoadError
from sft.models import ModelRef, resolve_model

_TRAIN_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


def preflight(recipe: Recipe, folder: Path, *, ask_servers: bool = True, until: str | None = None) -> list[str]:
    """Everything that would stop a run later, one sentence each; empty when the recipe can start.

    Args:
        until: the last stage that is wanted; what only later stages need is not asked for, so that traces can be
            collected from a server without torch.
    """
    return list(_find(recipe, folder, ask_servers, until))


def _find(recipe: Recipe, folder: Path, ask_servers: bool, until: str | None) -> Iterator[str]:
    yield from _sources(recipe, folder)
    yield from _verifier(recipe, folder)
    if until == "problems":
        return
    local = any(isinstance(t.engine, TransformersEngineConfig) for t in recipe.teachers.candidates)
    trials = recipe.teachers.select == "smoke" and len(recipe.teachers.candidates) > 1
    student = trials or until not in ("teachers", "rollouts")
    if local or student:
        yield from _packages()
    if student:
        yield from _student(recipe)
    for teacher in recipe.teachers.candidates:
        for problem in _engine(teacher.engine, ask_servers):
            yield f"teachers.candidates ({teacher.name}): {problem}"


def _packages() -> Iterator[str]:
    missing = [name for name in _TRAIN_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        yield f"missing packages for models and training: {names}; pip install 'distillation-factory[train]'"


def _sources(recipe: Recipe, folder: Path) -> Iterator[str]:
    from factory.sources.load import peek

    for problem in peek(recipe.problems, folder):
        yield f"problems: {problem}"
    for benchmark in recipe.eval.benchmarks:
        if not isinstance(benchmark.problems, PoolSource):
            for problem in peek(benchmark.problems, folder):
                yield f"eval.benchmarks ({benchmark.name}): {problem}"


def _verifier(recipe: Recipe, folder: Path) -> Iterator[str]:
    """Does the verifier accept the first references? As far as that is known without its worker processes."""
    from factory.sources.load import first_golds
    from verifiers import VerifierError, build_verifier
    from verifiers.self_check import self_check

    golds = first_golds(recipe.problems, folder)
    if not golds and recipe.verify.kind == "math":
        return
    try:
        verifier = build_verifier(recipe.verify)
    except VerifierError as error:
        yield f"verify: {error}"
        return
    found = [
        (place, gold, problem)
        for place, question, gold in golds
        if (problem := self_check(verifier, gold, question=question, judge=verifier.settle))
    ]
    if len(found) > len(golds) / 2:  # fewer are dropped and counted by the run
        place, gold, problem = found[0]
        yield (
            f"verify: {len(found)} of the first {len(golds)} references cannot be used by the verifier"
            f" {recipe.verify.kind!r}; {place}: {gold[:80]!r}: {problem}"
        )


def _student(recipe: Recipe) -> Iterator[str]:
    try:
        ref = resolve_model(recipe.train.student)
    except ModelLoadError as error:
        yield f"train.student: {error}"
        return
    context = _context_length(ref)
    if context is None:
        return
    for where, wanted in (
        ("eval.max_tokens", recipe.eval.max_tokens),
        ("difficulty.max_tokens", recipe.difficulty.max_tokens),
        ("train.max_length", recipe.train.max_length or 0),
    ):
        if wanted > context:
            yield f"{where}: {wanted} is more than the student's context of {context} tokens"


def _context_length(ref: ModelRef) -> int | None:
    if ref.kind != "directory":
        return None
    try:
        config = json.loads((Path(ref.location) / "config.json").read_text())
    except (OSError, ValueError):
        return None
    length = config.get("max_position_embeddings") if isinstance(config, dict) else None
    return length if isinstance(length, int) else None


def _engine(config: EngineConfig, ask_servers: bool) -> Iterator[str]:
    if isinstance(config, TransformersEngineConfig):
        try:
            resolve_model(config.model)
        except ModelLoadError as error:
            yield str(error)
    elif isinstance(config, OpenAIEngineConfig) and ask_servers:
        from factory.engines.openai_engine import check_server

        problem = check_server(config)
        if problem:
            yield problem
