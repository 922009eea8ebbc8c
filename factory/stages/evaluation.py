"""What base and students answer on the benchmarks, and the scores with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.answers import ANSWER_SCHEMA
from evals.equivalence import same_answers
from evals.scores import BenchmarkAnswers, score_table
from factory.checks import Check, label
from factory.context import Context
from factory.drawing import Usage
from factory.engines.base import Engine, SamplingParams
from factory.recipe import Benchmark
from factory.records import Problem
from factory.rollouts import answer_row, draw_and_judge, plan_draws
from factory.stages.problems import load_questions
from factory.stages.sampling import student_engine
from factory.tables import read_table, write_table
from factory.workspace import Artifact, Ledger, write_json

ANSWERS_VERSION = 1
SCORES_VERSION = 1


def answers(ctx: Context, model: str, questions: Artifact, student: Artifact | None) -> Artifact:
    """One table of judged answers per benchmark. ``student`` None is the base model."""
    config = student_engine(ctx, str(student.path / "student") if student else ctx.recipe.train.student)
    settings = ctx.recipe.eval
    inputs = {
        "questions": questions.id,
        "model": ctx.engine_id(config),  # by content, so that answers never outlive the weights that gave them
        "eval": settings.model_dump(mode="json", include={"temperature", "top_p", "max_tokens"}),
        "samples": [[b.name, b.num_samples] for b in settings.benchmarks],
        "verifiers": _verifiers(ctx),
        "template": ctx.recipe.prompt_template,
        "seed": ctx.recipe.seed,
    }

    def fill(folder: Path) -> Ledger:
        usage = Usage()
        with ctx.engine(config) as engine:
            for b in settings.benchmarks:
                asked, check = load_questions(questions, b.name), ctx.recipe.check_of(b)
                path, what = folder / f"{b.name}.parquet", f"{model} on {b.name}"
                write_answers(ctx, engine, asked, b.num_samples, check, path, what, usage)
        judged = usage.outcomes["correct"] + usage.outcomes["incorrect"]
        drops = {outcome: n for outcome, n in usage.outcomes.items() if outcome not in ("correct", "incorrect")}
        return Ledger(f"answers/{model}", usage.asked, judged, drops, usage.notes())

    return ctx.stage(f"answers/{model}", ANSWERS_VERSION, inputs, fill)


def _verifiers(ctx: Context) -> dict[str, Any]:
    """Identity of each benchmark's verifier."""
    return {b.name: ctx.verifier_id(ctx.recipe.check_of(b).config) for b in ctx.recipe.eval.benchmarks}


def write_answers(
    ctx: Context,
    engine: Engine,
    questions: Sequence[Problem],
    num_samples: int,
    check: Check,
    path: Path,
    what: str,
    usage: Usage,
) -> None:
    """Have a model answer questions under the recipe's eval settings."""
    settings = ctx.recipe.eval
    draws = plan_draws(
        engine,
        questions,
        template=ctx.recipe.prompt_template,
        system_prompt=None,
        params=SamplingParams(settings.temperature, settings.top_p, settings.max_tokens),
        num_samples=num_samples,
        seed=ctx.recipe.seed,
    )
    parts = draw_and_judge(ctx, engine, draws, check, what, usage)
    write_table(path, ANSWER_SCHEMA, ([answer_row(j) for j in part] for part in parts))


def scores(ctx: Context, answered: dict[str, Artifact]) -> Artifact:
    """``scores.json``: every model on every benchmark, with intervals and paired differences."""
    recipe = ctx.recipe
    inputs = {
        "answers": {model: artifact.id for model, artifact in answered.items()},
        "intervals": recipe.eval.intervals.model_dump(mode="json"),
        "roles": [[b.name, b.role, _label(ctx, b)] for b in recipe.eval.benchmarks],
        "verifiers": _verifiers(ctx),
        "name": recipe.name,
        "seed": recipe.seed,
    }

    def fill(folder: Path) -> Ledger:
        benchmarks = [_benchmark_answers(ctx, b, answered) for b in recipe.eval.benchmarks]
        table: dict[str, Any] = {"format": 1, "recipe": recipe.name}
        table |= score_table(benchmarks, recipe.eval.intervals, seed=recipe.seed)
        write_json(folder / "scores.json", table)
        rows = sum(t.num_rows for b in benchmarks for t in b.answers.values())
        return Ledger("scores", rows, rows)

    return ctx.stage("scores", SCORES_VERSION, inputs, fill, show={"scores.json": "scores.json"})


def _benchmark_answers(ctx: Context, benchmark: Benchmark, answered: dict[str, Artifact]) -> BenchmarkAnswers:
    settings = ctx.recipe.eval
    return BenchmarkAnswers(
        name=benchmark.name,
        role=benchmark.role,
        settings={
            "num_samples": benchmark.num_samples,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": settings.max_tokens,
            "verifier": _label(ctx, benchmark),
        },
        answers={model: read_table(a.path / f"{benchmark.name}.parquet") for model, a in answered.items()},
        same=same_answers(ctx.recipe.check_of(benchmark).config),
    )


def _label(ctx: Context, benchmark: Benchmark) -> str:
    """As the recipe writes it: no path of this machine in a result."""
    written = next(b for b in ctx.written.eval.benchmarks if b.name == benchmark.name)
    return label(ctx.written.check_of(written).config)
