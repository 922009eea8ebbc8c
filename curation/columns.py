"""The columns of a trace table that curation reads, as plain Python values."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa

READS = ("trace_id", "problem_id", "sample", "response", "num_tokens", "finish_reason", "outcome", "reason")
"""What a trace table must hold; every other column is passed through untouched."""

_SHORT_TEXTS = ("trace_id", "problem_id", "finish_reason", "outcome", "reason")
_NUMBERS = ("sample", "num_tokens")
_ROWS_PER_READ = 256


class Texts:
    """A string column read piece by piece: long responses are never all in memory twice.

    Null reads as ``""``; bytes that are not UTF-8 (lone surrogates, say) read as U+FFFD.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._chunks = [_as_bytes(chunk) for chunk in column.chunks if len(chunk)]
        self._ends = list(accumulate(len(chunk) for chunk in self._chunks))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, row: int) -> str:
        if not 0 <= row < len(self):
            raise IndexError(row)
        index = bisect_right(self._ends, row)
        start = self._ends[index - 1] if index else 0
        return _decode(self._chunks[index][row - start].as_py())

    def __iter__(self) -> Iterator[str]:
        for chunk in self._chunks:
            for start in range(0, len(chunk), _ROWS_PER_READ):
                yield from map(_decode, chunk.slice(start, _ROWS_PER_READ).to_pylist())


def _as_bytes(chunk: pa.Array) -> pa.Array:
    if pa.types.is_large_string(chunk.type):
        return chunk.cast(pa.large_binary())
    if not pa.types.is_string(chunk.type):
        chunk = chunk.cast(pa.string())
    return chunk.cast(pa.binary())


def _decode(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")


@dataclass(frozen=True)
class Traces:
    """One list entry per row."""

    trace_id: list[str]
    problem_id: list[str]
    sample: list[int]
    num_tokens: list[int]
    finish_reason: list[str]
    outcome: list[str]
    reason: list[str]
    response: Texts

    def __len__(self) -> int:
        return len(self.trace_id)

    def order(self, row: int) -> tuple[int, str, str]:
        """Sort key that depends on what a row holds, never on where it stands."""
        return self.sample[row], self.trace_id[row], self.problem_id[row]


def read_traces(table: pa.Table) -> Traces:
    """The columns of ``READS``.

    Raises:
        ValueError: when one is missing.
    """
    missing = [name for name in READS if name not in table.column_names]
    if missing:
        raise ValueError(f"trace table: no column {', '.join(missing)}; it has {', '.join(table.column_names)}")
    columns: dict[str, Any] = {name: list(Texts(table[name])) for name in _SHORT_TEXTS}
    columns |= {name: [value or 0 for value in table[name].to_pylist()] for name in _NUMBERS}
    return Traces(**columns, response=Texts(table["response"]))
