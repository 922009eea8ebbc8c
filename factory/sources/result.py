"""What loading a source gives: problems, and a reason for every row that is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

from factory.errors import DataError
from factory.records import Problem

RowFault = Literal[
    "malformed_row",  # not JSON, not UTF-8, wrong number of cells, characters no text may hold
    "missing_prompt",  # no such cell, or null
    "empty_prompt",
    "unusable_prompt",  # neither text nor a chat, or a chat with pictures
    "multi_turn_prompt",  # a chat in which the user speaks more than once, or never
    "missing_gold",
    "empty_gold",
    "unusable_gold",  # several answers, an object, not a finite number
    "unmarked_gold",  # gold_format asks for #### or a box, and the text has none
]
"""Why a row is no problem by itself."""
Reason = (
    RowFault
    | Literal[
        "duplicate_id",  # the id of an earlier row with another question
        "duplicate_problem",  # question and answer of an earlier row
        "gold_conflict",  # the question of another row with another answer: no telling which is right, so both go
        "in_benchmark",  # a benchmark asks it
        "gold_refused",  # the verifier does not accept the reference as an answer to itself
    ]
)
FAULTS: frozenset[str] = frozenset({*get_args(RowFault), "duplicate_id", "gold_conflict"})
"""Reasons that count against ``max_bad_rows``. Many equal ids or contradictions mean that a column is not what it is
taken for: half a question, for example, has as many answers as it has first halves."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that was not kept."""

    where: str
    """File name, or hub id with revision and split."""
    row: int
    """Line in JSONL, CSV and TSV, else the row's position; from 1."""
    reason: Reason
    detail: str


@dataclass(frozen=True)
class Loaded:
    """What a source holds."""

    problems: list[Problem]
    """In the source's order."""
    dropped: list[Dropped]
    """In the source's order."""
    rows_in: int
    """Rows read, blank lines not counted: problems, dropped rows, and rows beyond the limit."""

    def counts(self) -> dict[str, int]:
        """Dropped rows by reason, the most frequent first."""
        return dict(Counter(str(d.reason) for d in self.dropped).most_common())


@contextmanager
def located(where: str) -> Iterator[None]:
    """Messages of ``DataError`` begin with the key of the recipe."""
    try:
        yield
    except DataError as error:
        raise DataError(printable(f"{where}: {error}")) from error


def printable(text: str) -> str:
    """A message that may quote a damaged file, as a terminal and a UTF-8 file can take it."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)
