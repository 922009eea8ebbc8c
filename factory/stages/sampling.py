"""The chosen teacher's traces with their verdicts, and how often the student already solves a problem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curation.difficulty import pass_rate_posterior
from factory.context import Context
from factory.drawing import Usage
from factory.engines.base import Engine, SamplingParams
from factory.engines.config import TransformersEngineConfig
from factory.errors import StageError
from factory.recipe import Teacher
from factory.records import Problem
from factory.rollouts import Judged, draw_and_judge, plan_draws, trace_row
from factory.sampling_config import DifficultyConfig, RolloutsConfig
from factory.stages.problems import load_pool
from factory.tables import PASS_RATE_SCHEMA, TRACE_SCHEMA, read_table, write_table
from factory.waves import draw_in_waves
from factory.workspace import Artifact, Ledger
from verifiers import Outcome

ROLLOUTS_VERSION = 1
DIFFICULTY_VERSION = 1


def params_of(config: RolloutsConfig | DifficultyConfig) -> SamplingParams:
    """The engine's parameters for a recipe's."""
    return SamplingParams(config.temperature, config.top_p, config.max_tokens)


def student_engine(ctx: Context, model: str) -> TransformersEngineConfig:
    """How a student is run, wherever it is measured."""
    return TransformersEngineConfig(model=model, dtype=ctx.recipe.train.dtype, batch_size=ctx.recipe.eval.batch_size)


def sampling_inputs(ctx: Context, teacher: Teacher) -> dict[str, Any]:
    """What a teacher's traces depend on besides the problems."""
    return {
        "teacher": teacher.name,
        "engine": ctx.engine_id(teacher.engine),
        "system_prompt": teacher.system_prompt,
        "template": ctx.recipe.prompt_template,
        "seed": ctx.recipe.seed,
        "verify": ctx.verifier_id(ctx.recipe.verify),
    }


def write_traces(
    ctx: Context, teacher: Teacher, problems: Sequence[Problem], sampling: RolloutsConfig, path: Path, what: str
) -> Usage:
    """Draw, judge and write one row per asked trace."""
    usage = Usage()
    with ctx.engine(teacher.engine) as engine:
        parts = _sampled(ctx, engine, problems, sampling, teacher.system_prompt, what, usage)
        write_table(path, TRACE_SCHEMA, ([trace_row(j, teacher.name) for j in part] for part in parts))
    return usage


def _sampled(
    ctx: Context,
    engine: Engine,
    problems: Sequence[Problem],
    sampling: RolloutsConfig | DifficultyConfig,
    system_prompt: str | None,
    what: str,
    usage: Usage,
) -> Iterator[list[Judged]]:
    """Judged completions by problem and sample index: a fixed number of each, or as many as its question needs."""
    check, params = ctx.recipe.check, params_of(sampling)
    if sampling.adaptive:
        return draw_in_waves(
            ctx,
            engine,
            problems,
            sampling,
            system_prompt=system_prompt,
            params=params,
            check=check,
            what=what,
            usage=usage,
        )
    draws = plan_draws(
        engine,
        problems,
        template=ctx.recipe.prompt_template,
        system_prompt=system_prompt,
        params=params,
        num_samples=sampling.num_samples,
        seed=ctx.recipe.seed,
    )
    return draw_and_judge(ctx, engine, draws, check, what, usage)


def rollouts(ctx: Context, problems: Artifact, teacher: Teacher) -> Artifact:
    """``traces.parquet``: every trace asked of the teacher, right or wrong, with its verdict."""
    inputs = sampling_inputs(ctx, teacher) | {
        "problems": problems.id,
        "sampling": ctx.recipe.rollouts.model_dump(mode="json"),
        "wanted": sorted(wanted_outcomes(ctx)),
    }

    def fill(folder: Path) -> Ledger:
        pool = load_pool(problems)
        usage = write_traces(
            ctx, teacher, pool, ctx.recipe.rollouts, folder / "traces.parquet", f"rollouts {teacher.name}"
        )
        correct = usage.outcomes["correct"]
        if not any(usage.outcomes[outcome] for outcome in wanted_outcomes(ctx)):
            failed = "".join(f"; {count}x {said}" for said, count in usage.errors.most_common(1))
            raise StageError(
                f"rollouts: none of {usage.asked} traces of {teacher.name!r} was judged correct"
                f" ({dict(usage.outcomes)}{failed}); look at the answers and at verify.kind, or choose another teacher"
            )
        drops = {outcome: n for outcome, n in usage.outcomes.items() if outcome != "correct"}
        return Ledger("rollouts", usage.asked, correct, drops, usage.notes())

    return ctx.stage("rollouts", ROLLOUTS_VERSION, inputs, fill)


def difficulty(ctx: Context, problems: Artifact, traces: Artifact) -> Artifact:
    """``pass_rates.parquet``: the base student's k of n on every problem that has a correct trace."""
    recipe = ctx.recipe
    student = student_engine(ctx, recipe.train.student)
    inputs = {
        "traces": traces.id,
        "student": ctx.engine_id(student),
        "sampling": recipe.difficulty.model_dump(mode="json"),
        "template": recipe.prompt_template,
        "seed": recipe.seed,
        "verify": ctx.verifier_id(recipe.verify),
    }

    def fill(folder: Path) -> Ledger:
        pool = load_pool(problems)
        wanted = answered_problems(ctx, traces)
        usage = Usage()
        measured = [p for p in pool if p.id in wanted]
        counts = {p.id: [0, 0] for p in measured}  # of some nothing is asked where a budget ends
        with ctx.engine(student) as engine:
            for part in _sampled(ctx, engine, measured, recipe.difficulty, None, "student pass rate", usage):
                for judged in part:
                    k_n = counts[judged.draw.problem.id]
                    outcome = judged.verdict.outcome if judged.verdict else Outcome.ERROR
                    k_n[0] += outcome is Outcome.CORRECT
                    k_n[1] += outcome in (Outcome.CORRECT, Outcome.INCORRECT)
        rows = [_pass_rate_row(problem_id, k, n) for problem_id, (k, n) in counts.items()]
        write_table(folder / "pass_rates.parquet", PASS_RATE_SCHEMA, [rows])
        return Ledger("difficulty", len(pool), len(rows), {"no_usable_trace": len(pool) - len(rows)}, usage.notes())

    return ctx.stage("difficulty", DIFFICULTY_VERSION, inputs, fill)


def wanted_outcomes(ctx: Context) -> set[str]:
    """Outcomes of traces that curation may keep."""
    return {"correct"} if ctx.recipe.curate.require_correct else {"correct", "incorrect"}


def answered_problems(ctx: Context, traces: Artifact) -> set[str]:
    """Ids of the problems with at least one trace that curation may keep."""
    table = read_table(traces.path / "traces.parquet", ["problem_id", "outcome"]).to_pydict()
    wanted = wanted_outcomes(ctx)
    return {p for p, outcome in zip(table["problem_id"], table["outcome"], strict=True) if outcome in wanted}


def _pass_rate_row(problem_id: str, k: int, n: int) -> dict[str, Any]:
    mean, low, high = pass_rate_posterior(k, n)
    return {"problem_id": problem_id, "k": k, "n": n, "mean": mean, "low": low, "high": high}


def pass_counts(artifact: Artifact) -> dict[str, tuple[int, int]]:
    """Problem id -> (k, n)."""
    table = read_table(artifact.path / "pass_rates.parquet").to_pydict()
    return {p: (k, n) for p, k, n in zip(table["problem_id"], table["k"], table["n"], strict=True)}
