"""What ``factory check`` finds before anything is paid for. No model is loaded and nothing heavy imported."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

from factory.checks import OWN_VERIFIER, Check, JudgeSection
from factory.engines.config import (
    EngineConfig,
    ImportedEngineConfig,
    OpenAIEngineConfig,
    TransformersEngineConfig,
    VllmEngineConfig,
)
from factory.errors import ModelError
from factory.recipe import Recipe
from factory.sources.config import PoolSource, ProblemSource
from sft.errors import ModelLoadError
from sft.models import ModelRef, resolve_model

_TRAIN_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


def preflight(recipe: Recipe, folder: Path, *, ask_servers: bool = True, until: str | None = None) -> list[str]:
    """Everything that would stop a run later, one sentence each; empty when the recipe can start.

    Args:
        until: the last stage that is wanted; what only later stages need is not asked for, so that traces can be
            collected from a server without torch.
    """
    found = _find(recipe, folder, ask_servers, until)
    return list(dict.fromkeys(found))  # a verifier that cannot run here is found with every source that it judges


def unpaid(recipe: Recipe) -> list[str]:
    """What ``preflight`` leaves out because it would be paid for, one sentence each."""
    return [
        f"{check.where}: the judge ({check.config.engine.model}) was not asked whether it accepts the references,"
        " because its calls are paid for; `factory run --limit 4 --until rollouts` is a small trial"
        for check in recipe.checks
        if isinstance(check.config, JudgeSection)
    ]


def _find(recipe: Recipe, folder: Path, ask_servers: bool, until: str | None) -> Iterator[str]:
    yield from _sources(recipe, folder)
    yield from _verifiers(recipe, folder)
    if until in ("problems", "questions"):
        return
    judges = _judges(recipe, until)
    engines = [*(t.engine for t in recipe.teachers.candidates), *judges.values()]
    local = any(isinstance(engine, TransformersEngineConfig) for engine in engines)
    trials = recipe.teachers.select == "smoke" and len(recipe.teachers.candidates) > 1
    student = trials or until not in ("teachers", "rollouts")
    if local or student:
        yield from _packages()
    if student:
        yield from _student(recipe)
    yield from _imported_as_they_are(recipe)
    for teacher in recipe.teachers.candidates:
        for problem in _engine(teacher.engine, ask_servers, folder):
            yield f"teachers.candidates ({teacher.name}): {problem}"
    for where, engine in judges.items():
        for problem in _engine(engine, ask_servers, folder):
            yield f"{where}.engine: {problem}"


def _imported_as_they_are(recipe: Recipe) -> Iterator[str]:
    adaptive = recipe.rollouts.adaptive
    imported = [t.name for t in recipe.teachers.candidates if t.engine.kind == "imported"]
    if imported and adaptive and (adaptive.prompt_variants or adaptive.temperatures):
        yield (
            f"rollouts.adaptive has prompt_variants or temperatures, but the traces of teacher {imported[0]!r} are"
            " imported, and were sampled as they are: leave both out"
        )


def _judges(recipe: Recipe, until: str | None) -> dict[str, EngineConfig]:
    """Engines of the judges that are asked up to a stage, by their place in the recipe."""
    late = until in (None, "answers", "scores")
    used = [c for c in recipe.checks if late or c.where == recipe.check.where]
    return {c.where: c.config.engine for c in used if isinstance(c.config, JudgeSection)}


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


def _verifiers(recipe: Recipe, folder: Path) -> Iterator[str]:
    """Every source's references against the verifier that decides on them."""
    yield from _verifier(recipe.check, recipe.problems, folder, "problems")
    for benchmark in recipe.eval.benchmarks:
        check, where = recipe.check_of(benchmark), f"eval.benchmarks ({benchmark.name})"
        if not isinstance(benchmark.problems, PoolSource):
            hint = "" if benchmark.verifier else f"; {OWN_VERIFIER}"
            yield from _verifier(check, benchmark.problems, folder, where, hint)
        elif benchmark.verifier is not None:
            yield from _verifier(check, recipe.problems, folder, where)


def _verifier(check: Check, source: ProblemSource, folder: Path, source_where: str, hint: str = "") -> Iterator[str]:
    """Does the verifier accept the first references? As far as that is known without its worker processes."""
    from factory.self_check import wrong_sort
    from factory.sources.load import first_golds
    from verifiers import VerifierError, build_verifier
    from verifiers.self_check import self_check

    golds = first_golds(source, folder)
    if not golds and check.config.kind == "math":
        return
    try:
        verifier = build_verifier(check.config)
    except VerifierError as error:
        yield f"{check.where}: {error}"
        return
    found = [
        (place, gold, problem)
        for place, question, gold in golds
        if (
            problem := wrong_sort(gold, check.config)
            or self_check(verifier, gold, question=question, judge=verifier.settle)
        )
    ]
    if len(found) > len(golds) / 2:  # fewer are dropped and counted by the run
        place, gold, problem = found[0]
        yield (
            f"{check.where}: {len(found)} of the first {len(golds)} references cannot be used by the verifier"
            f" {check.config.kind!r}; {source_where}, {place}: {gold[:80]!r}: {problem}{hint}"
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


def _vllm(config: VllmEngineConfig) -> Iterator[str]:
    from factory.engines.vllm_setup import engine_arguments, find_vllm

    if importlib.util.find_spec("transformers") is None:
        yield "missing package: transformers, whose tokenizer renders prompts for vLLM; pip install transformers"
    for look in (lambda: engine_arguments(config), lambda: find_vllm(config.python)):
        try:
            look()
        except ModelError as error:
            yield str(error)


def _engine(config: EngineConfig, ask_servers: bool, folder: Path) -> Iterator[str]:
    if isinstance(config, TransformersEngineConfig):
        try:
            resolve_model(config.model)
        except ModelLoadError as error:
            yield str(error)
    elif isinstance(config, VllmEngineConfig):
        yield from _vllm(config)
    elif isinstance(config, ImportedEngineConfig):
        from factory.engines.imported import check_traces

        problem = check_traces(config, folder)
        if problem:
            yield problem
    elif isinstance(config, OpenAIEngineConfig) and ask_servers:
        from factory.engines.openai_engine import check_server

        problem = check_server(config)
        if problem:
            yield problem
