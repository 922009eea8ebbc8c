"""The state of a curation: what is decided about every row, and the funnel whose lines add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from curation.columns import Traces
from curation.filters import Filtered

PassCounts = Mapping[str, tuple[int, int]]
"""Problem id -> (k, n): the student's correct samples and its judged samples."""

ADDED_COLUMNS = pa.schema(
    [
        ("format_ok", pa.bool_()),  # exactly one think pair and an answer after it, demanded or not
        ("pass_k", pa.int32()),  # the student's correct samples of this problem; null: never asked
        ("pass_n", pa.int32()),  # its judged samples
        ("pass_rate", pa.float64()),  # k / n; null where nothing was judged
        ("distance", pa.float64()),  # to the nearest trace of the problem chosen before it; null for the first chosen
        ("kept", pa.bool_()),
        ("drop_reason", pa.string()),  # null where kept
        ("keep_reason", pa.string()),  # null where dropped
        ("position", pa.int32()),  # place in the set, from 0; null where dropped
    ]
)


@dataclass(frozen=True)
class Step:
    """One line of the funnel. Raises ValueError when it does not add up."""

    name: str
    rows_in: int
    kept: int
    drops: dict[str, int]
    """Rows dropped by reason."""

    def __post_init__(self) -> None:
        if self.rows_in != self.kept + sum(self.drops.values()):
            raise ValueError(f"step {self.name}: {self.rows_in} rows in, but {self.kept} kept and {self.drops} dropped")


@dataclass(frozen=True)
class Curated:
    """Every input row with what became of it, and the funnel."""

    rows: pa.Table
    """The input rows in their order, with the columns of ``ADDED_COLUMNS``."""
    funnel: tuple[Step, ...]


@dataclass
class Sieve:
    """What is decided so far. Rows are named by their index."""

    traces: Traces
    filtered: Filtered
    pass_counts: PassCounts
    reasons: list[str | None]
    """Drop reason per row; None while the row is kept."""
    keep_reasons: dict[int, str] = field(default_factory=dict)
    distances: dict[int, float | None] = field(default_factory=dict)
    funnel: list[Step] = field(default_factory=list)

    def kept(self) -> list[int]:
        return [row for row, reason in enumerate(self.reasons) if reason is None]

    def drop(self, step: str, drops: Mapping[int, str]) -> None:
        """Record a step that drops the given rows, all of them kept until now."""
        rows_in = len(self.kept())
        for row, reason in drops.items():
            self.reasons[row] = reason
        self.funnel.append(Step(step, rows_in, rows_in - len(drops), dict(sorted(Counter(drops.values()).items()))))

    def by_problem(self) -> dict[str, list[int]]:
        """The kept rows of every problem."""
        groups: dict[str, list[int]] = {}
        for row in self.kept():
            groups.setdefault(self.traces.problem_id[row], []).append(row)
        return groups

    def add_columns(self, table: pa.Table, order: Iterable[int]) -> pa.Table:
        """The table with ``ADDED_COLUMNS``; ``order``: the kept rows as the set lists them."""
        counts = [self.pass_counts.get(problem) for problem in self.traces.problem_id]
        position = {row: place for place, row in enumerate(order)}
        rows = range(len(self.traces))
        values: dict[str, list[Any]] = {
            "format_ok": self.filtered.format_ok,
            "pass_k": [c[0] if c else None for c in counts],
            "pass_n": [c[1] if c else None for c in counts],
            "pass_rate": [c[0] / c[1] if c and c[1] else None for c in counts],
            "distance": [self.distances.get(row) for row in rows],
            "kept": [reason is None for reason in self.reasons],
            "drop_reason": self.reasons,
            "keep_reason": [self.keep_reasons[row] if row in position else None for row in rows],
            "position": [position.get(row) for row in rows],
        }
        for column in ADDED_COLUMNS:
            table = table.append_column(column, pa.array(values[column.name], column.type))
        return table
