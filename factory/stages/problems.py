"""Problems and benchmark questions: loaded, cleaned, and kept apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from factory.checks import OWN_VERIFIER
from factory.context import Context
from factory.errors import DataError
from factory.recipe import Benchmark
from factory.records import Problem, content_hash
from factory.self_check import usable_golds
from factory.sources.config import PoolSource, ProblemSource
from factory.sources.load import Dropped, holdout, load_problems, remove_overlap, source_digest
from factory.sources.result import located
from factory.tables import read_problems, write_jsonl, write_problems
from factory.workspace import Artifact, Ledger

VERSION = 3
QUESTIONS_VERSION = 1


def problems(ctx: Context) -> Artifact:
    """The pool of problems and every benchmark's questions; no question of a benchmark is in the pool."""
    recipe = ctx.recipe
    inputs = {
        "problems": recipe.problems.model_dump(mode="json", exclude={"path"}),
        "content": _content(ctx, recipe.problems, "problems"),
        "benchmarks": [_benchmark_inputs(ctx, i, b) for i, b in enumerate(recipe.eval.benchmarks)],
        "seed": recipe.seed,
        "verify": ctx.verifier_id(recipe.verify),
        "limit": ctx.limit,
    }
    return ctx.stage("problems", VERSION, inputs, lambda folder: _fill(ctx, folder))


def _content(ctx: Context, source: ProblemSource, where: str) -> str:
    with located(where):
        return source_digest(source, ctx.folder, ctx.file_digest)


def _benchmark_inputs(ctx: Context, index: int, benchmark: Benchmark) -> dict[str, object]:
    source, where = benchmark.problems, f"eval.benchmarks[{index}].problems"
    content = "pool" if isinstance(source, PoolSource) else _content(ctx, source, where)
    return {
        "name": benchmark.name,
        "problems": source.model_dump(mode="json", exclude={"path"}),
        "content": content,
        "max_questions": benchmark.max_questions,
    }


def _fill(ctx: Context, folder: Path) -> Ledger:
    recipe = ctx.recipe
    held_out = {
        b.name: min(n for n in (b.problems.num, b.max_questions, ctx.limit) if n is not None)
        for b in recipe.eval.benchmarks
        if isinstance(b.problems, PoolSource)
    }
    wanted = None if ctx.limit is None else ctx.limit + sum(held_out.values())
    loaded = load_problems(recipe.problems, folder=ctx.folder, limit=wanted, where="problems")
    pool, dropped = list(loaded.problems), list(loaded.dropped)
    rows_in = len(pool) + len(dropped)
    prompts: list[str] = []
    held_total = num_questions = 0
    for i, b in enumerate(recipe.eval.benchmarks):
        if isinstance(b.problems, PoolSource):
            with located(f"eval.benchmarks[{i}].problems"):
                questions, pool = holdout(pool, held_out[b.name], recipe.seed)
            held_total += len(questions)
        else:
            own = load_problems(b.problems, folder=ctx.folder, where=f"eval.benchmarks[{i}].problems")
            questions = _choose(own.problems, _smallest(b.max_questions, ctx.limit), recipe.seed)
            prompts += [q.prompt for q in own.problems]  # also those not asked: a later run may ask them
            write_jsonl(folder / f"dropped-{b.name}.jsonl", (asdict(d) for d in own.dropped))
        if not questions:
            raise DataError(f"eval.benchmarks: {b.name!r} has no questions")
        write_problems(folder / "benchmarks" / f"{b.name}.parquet", questions)
        num_questions += len(questions)
        prompts += [q.prompt for q in questions]
    pool, overlapping = remove_overlap(pool, prompts)
    pool, refused = usable_golds(pool, recipe.verify)
    dropped += [*overlapping, *refused]
    _refuse_empty(ctx, pool, dropped)
    write_problems(folder / "problems.parquet", pool)
    write_jsonl(folder / "dropped.jsonl", (asdict(d) for d in dropped))
    drops: Counter[str] = Counter(d.reason for d in dropped)
    if held_total:
        drops["held_out_for_benchmark"] += held_total
    return Ledger("problems", rows_in, len(pool), dict(drops), {"benchmark_questions": num_questions})


def _choose(questions: Sequence[Problem], num: int | None, seed: int) -> list[Problem]:
    """A seeded choice by id: files are sorted by topic or level, so the first rows would be no sample."""
    if num is None or num >= len(questions):
        return list(questions)
    chosen = {q.id for q in sorted(questions, key=lambda q: content_hash("benchmark", seed, q.id))[:num]}
    return [q for q in questions if q.id in chosen]


def _smallest(*limits: int | None) -> int | None:
    return min((n for n in limits if n is not None), default=None)


def _refuse_empty(ctx: Context, pool: Sequence[Problem], dropped: Sequence[Dropped]) -> None:
    if not pool:
        counts = ", ".join(f"{reason} {n}" for reason, n in Counter(d.reason for d in dropped).most_common()) or "none"
        raise DataError(
            "problems: nothing is left to train on after benchmark questions were taken out"
            f" (dropped: {counts}); give more problems, or smaller benchmarks"
        )


def questions(ctx: Context, problems: Artifact) -> Artifact:
    """``NAME.parquet``: each benchmark's questions without those whose reference its verifier cannot use.

    A stage of its own, so that a benchmark's verifier can be changed without training again.
    """
    benchmarks = ctx.recipe.eval.benchmarks
    inputs = {
        "problems": problems.id,
        "verifiers": [[b.name, ctx.verifier_id(ctx.recipe.check_of(b).config)] for b in benchmarks],
    }

    def fill(folder: Path) -> Ledger:
        num_asked = 0
        dropped: list[dict[str, object]] = []
        for b in benchmarks:
            asked = read_problems(problems.path / "benchmarks" / f"{b.name}.parquet")
            check = ctx.recipe.check_of(b)
            where = f"eval.benchmarks ({b.name}): problems"
            try:
                kept, refused = usable_golds(asked, check.config, where=where, verifier_where=check.where)
            except DataError as error:
                if b.verifier is None:
                    raise DataError(f"{error}; {OWN_VERIFIER}") from error
                raise
            num_asked += len(asked)
            dropped += [{"benchmark": b.name, **asdict(d)} for d in refused]
            write_problems(folder / f"{b.name}.parquet", kept)
        write_jsonl(folder / "dropped.jsonl", dropped)
        drops = {"gold_refused": len(dropped)} if dropped else {}
        return Ledger("questions", num_asked, num_asked - len(dropped), drops)

    return ctx.stage("questions", QUESTIONS_VERSION, inputs, fill)


def load_pool(artifact: Artifact) -> list[Problem]:
    """The problems of a finished stage."""
    return read_problems(artifact.path / "problems.parquet")


def load_questions(artifact: Artifact, benchmark: str) -> list[Problem]:
    """The questions of one benchmark that are asked."""
    return read_problems(artifact.path / f"{benchmark}.parquet")
