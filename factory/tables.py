"""Arrow schemas of the tables that stages write, and how tables are written: in parts, without timestamps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from factory.records import Problem

T = TypeVar("T")

PROBLEM_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "prompt", "gold", "source", "licence", "meta")])

TRACE_SCHEMA = pa.schema(
    [
        ("trace_id", pa.string()),  # content hash of the rollout key
        ("problem_id", pa.string()),
        ("prompt", pa.string()),  # the user's turn as the model saw it; the student's where teachers get variants
        ("gold", pa.string()),
        ("teacher", pa.string()),  # name in the recipe
        ("model", pa.string()),  # identity: content hash of local weights, or name@server
        ("sample", pa.int32()),
        ("seed", pa.int64()),
        ("sampling", pa.string()),  # JSON of the sampling parameters
        ("response", pa.string()),
        ("finish_reason", pa.string()),  # stop | length | error
        ("num_prompt_tokens", pa.int32()),
        ("num_tokens", pa.int32()),  # completion tokens by the sampling model's own tokenizer
        ("outcome", pa.string()),  # verdict: correct | incorrect | unverifiable | error
        ("reason", pa.string()),
        ("extracted", pa.string()),
        ("verifier", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("meta", pa.string()),
    ]
)

PASS_RATE_SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("k", pa.int32()),  # attempts judged correct
        ("n", pa.int32()),  # attempts judged at all
        ("mean", pa.float64()),  # posterior mean under a uniform prior
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)


def write_table(path: Path, schema: pa.Schema, chunks: Iterable[Sequence[dict[str, Any]]]) -> int:
    """Write rows chunk by chunk (one row group each); returns the number of rows. Memory holds one chunk."""
    num_rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for chunk in chunks:
            if chunk:
                writer.write_table(pa.Table.from_pylist([clean_row(r) for r in chunk], schema=schema))
                num_rows += len(chunk)
    return num_rows


def clean_row(row: dict[str, Any]) -> dict[str, Any]:
    """Lone surrogates cannot be stored as UTF-8: they become replacement characters."""
    return {k: v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for k, v in row.items()}


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The whole table."""
    return pq.read_table(path, columns=list(columns) if columns else None)


def read_problems(path: Path) -> list[Problem]:
    """The rows of a problems table."""
    return [Problem(**row) for row in read_table(path).to_pylist()]


def write_problems(path: Path, problems: Sequence[Problem]) -> None:
    """Write a problems table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, PROBLEM_SCHEMA, ([p.to_row() for p in part] for part in in_chunks(problems, 10_000)))


def in_chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive parts of at most ``size`` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """One JSON object per line, UTF-8."""
    with open(path, "w", encoding="utf-8", errors="replace") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
