"""Difficulty, selection, and the data set that is handed out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.select import Curated, TraceRow, curate
from factory.card import dataset_card
from factory.engines.base import SamplingParams
from factory.errors import StageError
from factory.stages.context import Context, Model
from factory.stages.problems import read_problems
from factory.stages.sampling import Plan, read_traces, verified_samples
from factory.stages.teachers import is_accepted
from factory.stages.training import Example
from factory.workspace import Artifact, Ledger, write_json, write_text

VERSION = 1
DATASET = "dataset"
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
EXAMPLE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("messages", pa.list_(_MESSAGE)),
        ("problem_id", pa.string()),
        ("problem", pa.string()),
        ("gold", pa.string()),
        ("response", pa.string()),
        ("num_tokens", pa.int32()),
        ("teacher", pa.string()),
        ("model", pa.string()),
        ("sampling", pa.string()),
        ("sample", pa.int32()),
        ("seed", pa.int64()),
        ("verdict", pa.string()),
        ("verdict_reason", pa.string()),
        ("extracted", pa.string()),
        ("verifier", pa.string()),
        ("student_correct", pa.int32()),
        ("student_samples", pa.int32()),
        ("pass_rate", pa.float64()),
        ("kept_because", pa.string()),
        ("rank", pa.int32()),
        ("distance", pa.float64()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("meta", pa.string()),
    ]
)
DROPPED_SCHEMA = pa.schema([("trace_id", pa.string()), ("reason", pa.string()), ("detail", pa.string())])


def sample_rollouts(ctx: Context, problems: Artifact, teacher: Model) -> Artifact:
    """The teacher's traces with their verdicts."""
    config = ctx.recipe.rollouts
    params = SamplingParams(config.temperature, config.top_p, config.max_tokens)
    plan = Plan(read_problems(problems), teacher, params, config.num_samples, seeds="teach")
    return verified_samples(ctx, "rollouts", "rollouts", plan)


def measure_difficulty(ctx: Context, problems: Artifact, rollouts: Artifact, student: Model) -> Artifact:
    """The student's own answers to every problem that has an accepted trace: its pass rate is the difficulty."""
    solved = {row["problem_id"] for row in read_traces(rollouts) if is_accepted(ctx, row)}
    if not solved:
        raise StageError(
            "difficulty: no trace was accepted, so there is nothing to learn from;"
            " look at the drop reasons of the rollouts above, then check verify, rollouts.max_tokens and"
            " curate.require_think_tags, or use a stronger teacher"
        )
    config = ctx.recipe.difficulty
    params = SamplingParams(config.temperature, config.top_p, config.max_tokens)
    asked = [p for p in read_problems(problems) if p.id in solved]
    plan = Plan(asked, student, params, config.num_samples, seeds="difficulty")
    return verified_samples(ctx, "difficulty", "difficulty", plan)


def pass_counts(difficulty: Artifact) -> dict[str, tuple[int, int]]:
    """``problem id -> (correct, judged)``; responses that could not be judged are left out of both."""
    counts: dict[str, tuple[int, int]] = {}
    for row in read_traces(difficulty, ["problem_id", "outcome"]):
        k, n = counts.get(row["problem_id"], (0, 0))
        if row["outcome"] in ("correct", "incorrect"):
            counts[row["problem_id"]] = (k + (row["outcome"] == "correct"), n + 1)
    return counts


def curate_set(ctx: Context, rollouts: Artifact, difficulty: Artifact) -> Artifact:
    """``dataset/`` (Parquet, JSONL, card), ``dropped.parquet`` with a reason per row, ``funnel.json``."""
    config = ctx.recipe.curate
    inputs = [
        VERSION, config.model_dump(mode="json"), ctx.recipe.seed, rollouts.key, difficulty.key,
        ctx.recipe.prompt_template, ctx.recipe.name, ctx.recipe.description,
    ]  # fmt: skip

    def make(folder: Path) -> Ledger:
        rows, counts = read_traces(rollouts), pass_counts(difficulty)
        result = curate([_trace_row(r, counts) for r in rows], config, ctx.recipe.seed)
        if not result.kept:
            raise StageError(f"curate: nothing was kept of {len(rows)} traces: {_drop_text(result)}")
        _write_dataset(folder, ctx, rows, counts, result)
        drops: dict[str, int] = {}
        for d in result.dropped:
            drops[d.reason] = drops.get(d.reason, 0) + 1
        write_json(folder / "funnel.json", [step._asdict() for step in result.funnel])
        pq.write_table(pa.Table.from_pylist([d._asdict() for d in result.dropped], DROPPED_SCHEMA), folder / "dropped.parquet")
        return Ledger(len(rows), len(result.kept), drops, {"problems": len({e["problem_id"] for e in read_set(folder)})})

    return ctx.stage("curate", "curated", inputs, make)


def _trace_row(row: dict[str, Any], counts: dict[str, tuple[int, int]]) -> TraceRow:
    k, n = counts.get(row["problem_id"], (0, 0))
    names = ("trace_id", "problem_id", "response", "num_tokens", "finish_reason", "outcome", "reason")
    return TraceRow(*(row[name] for name in names), pass_rate=k / n if n else None)


def _drop_text(result: Curated) -> str:
    drops: dict[str, int] = {}
    for d in result.dropped:
        drops[d.reason] = drops.get(d.reason, 0) + 1
    return ", ".join(f"{reason} {n}" for reason, n in sorted(drops.items(), key=lambda x: -x[1]))


def _write_dataset(
    folder: Path, ctx: Context, rows: Sequence[dict[str, Any]], counts: dict[str, tuple[int, int]], result: Curated
) -> None:
    by_id = {row["trace_id"]: row for row in rows}
    examples = []
    for kept in result.kept:
        row = by_id[kept.trace_id]
        k, n = counts.get(row["problem_id"], (0, 0))
        examples.append(_example(ctx, row, k, n) | {"kept_because": kept.reason, "rank": kept.rank, "distance": kept.distance})
    target = folder / DATASET
    target.mkdir()
    pq.write_table(pa.Table.from_pylist(examples, EXAMPLE_SCHEMA), target / "train.parquet")
    lines = [json.dumps({name: e[name] for name in EXAMPLE_SCHEMA.names}, ensure_ascii=False) + "\n" for e in examples]
    write_text(target / "train.jsonl", "".join(lines))
    write_text(target / "README.md", dataset_card(ctx.recipe, examples, result))


def _example(ctx: Context, row: dict[str, Any], correct: int, judged: int) -> dict[str, Any]:
    question = ctx.recipe.prompt_template.replace("{problem}", row["prompt"])
    same = ("problem_id", "gold", "response", "num_tokens", "teacher", "model", "sampling", "sample", "seed")
    same += ("extracted", "verifier", "source", "licence", "meta")
    return {name: row[name] for name in same} | {
        "id": row["trace_id"],
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": row["response"]}],
        "problem": row["prompt"],
        "verdict": row["outcome"],
        "verdict_reason": row["reason"],
        "student_correct": correct,
        "student_samples": judged,
        "pass_rate": correct / judged if judged else None,
    }


def read_set(folder: Path) -> list[dict[str, Any]]:
    """The examples of a curated artifact's folder."""
    return list(pq.read_table(folder / DATASET / "train.parquet").to_pylist())


def training_examples(curated: Artifact) -> list[Example]:
    """The curated set as the student sees it, in training order."""
    return [(e["messages"][0]["content"], e["response"]) for e in read_set(curated.path)]
