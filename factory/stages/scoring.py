"""Base and students on every benchmark, and what the differences are worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from evals.scores import AnswerRow, BenchmarkInfo, score_table
from factory.engines.base import SamplingParams
from factory.stages.context import Context, Model
from factory.stages.problems import read_problems
from factory.stages.sampling import Plan, read_traces, verified_samples
from factory.workspace import Artifact, Ledger, write_json

VERSION = 1
BASE = "base"
SCORES = "scores.json"


def answer_benchmarks(
    ctx: Context, models: Sequence[Model], questions: Mapping[str, Artifact]
) -> dict[tuple[str, str], Artifact]:
    """Answers of every model to every benchmark, by ``(model, benchmark)``. Equal questions get equal seeds."""
    config = ctx.recipe.eval
    params = SamplingParams(config.temperature, config.top_p, config.max_tokens)
    answers = {}
    for model in models:
        for benchmark in config.benchmarks:
            asked = read_problems(questions[benchmark.name])
            plan = Plan(asked, model, params, benchmark.num_samples, seeds=f"eval {benchmark.name}")
            label = f"{model.name} on {benchmark.name}"
            answers[model.name, benchmark.name] = verified_samples(ctx, label, "answers", plan)
    return answers


def score(ctx: Context, models: Sequence[Model], answers: Mapping[tuple[str, str], Artifact]) -> Artifact:
    """``scores.json``: every accuracy with its interval, every difference to the base with interval and p-value."""
    config = ctx.recipe.eval
    infos = [BenchmarkInfo(b.name, b.role) for b in config.benchmarks]
    inputs = [VERSION, config.intervals.model_dump(), ctx.recipe.seed, infos]
    inputs += [[model, benchmark, artifact.key] for (model, benchmark), artifact in answers.items()]

    def make(folder: Path) -> Ledger:
        rows = list(_answer_rows(answers))
        names = [m.name for m in models]
        table = score_table(rows, base=BASE, models=names, benchmarks=infos, config=config.intervals, seed=ctx.recipe.seed)
        write_json(folder / SCORES, table)
        return Ledger(len(rows), len(rows))

    return ctx.stage("scores", "scores", inputs, make)


def _answer_rows(answers: Mapping[tuple[str, str], Artifact]) -> Iterator[AnswerRow]:
    for (model, benchmark), artifact in answers.items():
        for r in read_traces(artifact):
            yield AnswerRow(
                model, benchmark, r["problem_id"], r["sample"], r["outcome"], r["extracted"], r["finish_reason"], r["num_tokens"]
            )
