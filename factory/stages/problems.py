"""Problems and benchmark questions: read, hold out, and keep apart."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import StageError
from factory.recipe import Benchmark
from factory.records import PROBLEM_SCHEMA, PROBLEM_SCHEMA_VERSION, Problem, content_hash
from factory.sources.config import FileSource, PoolSource
from factory.sources.load import load_problems, source_fingerprint
from factory.stages.context import Context
from factory.workspace import Artifact, Ledger

VERSION = 1
_FILE = "problems.parquet"


def load_pool(ctx: Context) -> Artifact:
    """Everything the recipe's source has."""
    return _read_source(ctx, "pool", ctx.recipe.problems)


def _read_source(ctx: Context, label: str, source: object) -> Artifact:
    def make(folder: Path) -> Ledger:
        loaded = load_problems(source)  # type: ignore[arg-type]
        write_problems(folder / _FILE, loaded.problems)
        rows = [json.dumps({"row": d.row, "reason": d.reason, "detail": d.detail}) + "\n" for d in loaded.dropped]
        (folder / "dropped.jsonl").write_text("".join(rows))
        return Ledger(loaded.rows_in, len(loaded.problems), Counter(d.reason for d in loaded.dropped))

    dump = source.model_dump(mode="json")  # type: ignore[attr-defined]
    if isinstance(source, FileSource):
        del dump["path"]  # the same bytes at another place are the same problems
    inputs = [VERSION, PROBLEM_SCHEMA_VERSION, dump, source_fingerprint(source)]  # type: ignore[arg-type]
    return ctx.stage(label, "problems", inputs, make)


def load_benchmark(ctx: Context, benchmark: Benchmark, pool: Artifact) -> Artifact:
    """The questions of one benchmark; at most ``max_questions``, chosen by a hash of their ids."""
    if isinstance(benchmark.problems, PoolSource):
        source, wanted = pool, benchmark.problems.num
    else:
        source, wanted = _read_source(ctx, f"benchmark {benchmark.name}", benchmark.problems), 2**62
    limits = [wanted, benchmark.max_questions or wanted, ctx.limit or wanted]

    def make(folder: Path) -> Ledger:
        problems = read_problems(source)
        chosen = by_hash(problems, "benchmark", ctx.recipe.seed)[: min(limits)]
        if isinstance(benchmark.problems, PoolSource) and len(chosen) == len(problems):
            raise StageError(
                f"benchmark {benchmark.name}: holding out {len(chosen)} questions leaves nothing of the"
                f" {len(problems)} problems to learn from; lower problems.num of the benchmark or give more problems"
            )
        write_problems(folder / _FILE, chosen)
        return Ledger(len(problems), len(chosen), {"not_chosen": len(problems) - len(chosen)})

    inputs = [VERSION, source.key, min(limits), ctx.recipe.seed]
    return ctx.stage(f"questions {benchmark.name}", "questions", inputs, make)


def training_problems(ctx: Context, pool: Artifact, benchmarks: Sequence[Artifact]) -> Artifact:
    """The pool without anything a benchmark asks, and within ``--limit``."""

    def make(folder: Path) -> Ledger:
        problems = read_problems(pool)
        asked = {squeeze(p.prompt) for b in benchmarks for p in read_problems(b)}
        free = [p for p in problems if squeeze(p.prompt) not in asked]
        kept = free[: ctx.limit] if ctx.limit else free
        if not kept:
            raise StageError("problems: nothing is left to learn from; every problem is a benchmark's question")
        write_problems(folder / _FILE, kept)
        drops = {"in_benchmark": len(problems) - len(free), "over_limit": len(free) - len(kept)}
        return Ledger(len(problems), len(kept), drops)

    return ctx.stage("problems", "pool", [VERSION, pool.key, [b.key for b in benchmarks], ctx.limit], make)


def squeeze(prompt: str) -> str:
    """A prompt without regard to case and spacing: what counts as the same question."""
    return " ".join(prompt.casefold().split())


def by_hash(problems: Sequence[Problem], purpose: str, seed: int) -> list[Problem]:
    """A seeded order that depends on each problem's id alone, not on the order of the file."""
    return sorted(problems, key=lambda p: content_hash(purpose, seed, p.id))


def write_problems(path: Path, problems: Sequence[Problem]) -> None:
    """Parquet in ``PROBLEM_SCHEMA``."""
    pq.write_table(pa.Table.from_pylist([p.to_row() for p in problems], schema=PROBLEM_SCHEMA), path)


def read_problems(artifact: Artifact) -> list[Problem]:
    """The problems of an artifact of this module."""
    return [Problem(**row) for row in pq.read_table(artifact.path / _FILE).to_pylist()]
