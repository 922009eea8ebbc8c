"""From rows to problems: one reason for every row that is not kept, and one problem per question."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from factory.errors import DataError
from factory.records import Problem, content_hash
from factory.sources.config import FileSource, HubSource
from factory.sources.fields import Columns, Fields, GoldFormat, UnusableRowError, choose_columns, read_fields
from factory.sources.files import RawRow, RowStream
from factory.sources.result import FAULTS, Dropped, Loaded, Reason, RowFault, located, printable
from verifiers.equivalence import same_answer

_ROWS_FOR_COLUMNS = 100
_NUM_EXAMPLES = 3
_LONGEST_DETAIL = 300
_LONGEST_COMPARED_GOLD = 400


class ParsedRow(NamedTuple):
    """A row, and either its problem or why it has none."""

    number: int
    fields: Fields | None
    reason: RowFault = "malformed_row"
    detail: str = ""


def parse_rows(source: FileSource | HubSource, stream: RowStream, num_rows: int | None = None) -> Iterator[ParsedRow]:
    """Every row (or the first ``num_rows``) as a problem, or with what is wrong with it.

    Where only the rows know the columns, those of the first hundred readable rows count.

    Raises:
        DataError: when a column is missing, or the file is damaged.
    """
    if stream.columns is not None:
        columns = _choose(source, stream.label, stream.columns)
        rows = itertools.islice(stream.rows(columns.roots()), num_rows)
        yield from (_parse(row, columns, source.gold_format) for row in rows)
        return
    rows = itertools.islice(stream.rows(None), num_rows)
    for row in rows:
        if row.values:
            break
        yield _unreadable(row)
    else:
        return
    first = [row, *itertools.islice(rows, _ROWS_FOR_COLUMNS)]
    columns = _choose(source, stream.label, dict.fromkeys(name for row in first for name in row.values or ()))
    yield from (_parse(row, columns, source.gold_format) for row in itertools.chain(first, rows))


def _choose(source: FileSource | HubSource, label: str, present: Iterable[str]) -> Columns:
    with located(label):
        return choose_columns(list(present), source.columns)


def _parse(row: RawRow, columns: Columns, gold_format: GoldFormat) -> ParsedRow:
    if row.values is None:
        return _unreadable(row)
    try:
        return ParsedRow(row.number, read_fields(row.values, columns, gold_format))
    except UnusableRowError as error:
        return ParsedRow(row.number, None, error.reason, error.detail)


def _unreadable(row: RawRow) -> ParsedRow:
    return ParsedRow(row.number, None, "malformed_row", row.problem or "the object is empty")


def refuse(source: FileSource | HubSource, stream: RowStream, num_rows: int, dropped: Sequence[Dropped]) -> str | None:
    """Why the source cannot be used, if more of its rows are bad than ``max_bad_rows`` allows."""
    bad = [d for d in dropped if d.reason in FAULTS]
    if len(bad) <= source.max_bad_rows * num_rows:
        return None
    examples = "".join(f"\n  {stream.unit} {d.row}: {d.reason}: {d.detail}" for d in bad[:_NUM_EXAMPLES])
    main_reason, _ = Counter(d.reason for d in bad).most_common(1)[0]
    return (
        f"{stream.label}: {len(bad)} of {num_rows} rows cannot be used, more than"
        f" max_bad_rows ({source.max_bad_rows:g}) allows{examples}\n"
        f"  {_ADVICE.get(main_reason, 'correct the rows')}, or raise max_bad_rows to drop them"
    )


_ADVICE: dict[str, str] = {
    "missing_prompt": "name the question's column with columns.prompt",
    "empty_prompt": "name the question's column with columns.prompt",
    "missing_gold": "name the answer's column with columns.gold",
    "empty_gold": "name the answer's column with columns.gold",
    "unmarked_gold": "choose another gold_format",
    "duplicate_id": 'name the id\'s column with columns.id ("" for none)',
    "gold_conflict": "see whether columns.prompt holds the whole question and columns.gold its answer",
}


def collect(source: FileSource | HubSource, stream: RowStream, limit: int | None) -> Loaded:
    """Read every row. Raises ``DataError`` as ``load_problems`` does."""
    collector = _Collector(stream, source.licence)
    for row in parse_rows(source, stream):
        collector.add(row)
    loaded = collector.loaded(limit)
    if loaded.rows_in == 0:
        raise DataError(f"{stream.label} holds no rows")
    refusal = refuse(source, stream, loaded.rows_in, loaded.dropped)
    if refusal:
        raise DataError(refusal)
    if not loaded.problems:
        counts = ", ".join(f"{reason} {n}" for reason, n in loaded.counts().items())
        raise DataError(f"{stream.label}: none of its {loaded.rows_in} rows is left as a problem ({counts})")
    return loaded


class _Collector:
    """Keeps the first of equal problems and none of contradicting ones."""

    def __init__(self, stream: RowStream, licence: str) -> None:
        self._stream = stream
        self._licence = licence
        self._problems: list[Problem | None] = []  # None: dropped after all, for a later row contradicts it
        self._rows: list[int] = []
        self._by_prompt: dict[bytes, int] = {}
        self._by_id: dict[str, int] = {}
        self._dropped: list[Dropped] = []
        self._rows_in = 0

    def loaded(self, limit: int | None) -> Loaded:
        """What there is after the last row."""
        problems = [p for p in self._problems if p is not None]
        return Loaded(problems[:limit], sorted(self._dropped, key=lambda d: d.row), self._rows_in)

    def add(self, row: ParsedRow) -> None:
        self._rows_in += 1
        if row.fields is None:
            self._drop(row.number, row.reason, row.detail)
            return
        # 16 bytes per row: with a million rows two differing prompts share a digest with probability 1e-27.
        key = hashlib.blake2b(" ".join(row.fields.prompt.split()).encode(), digest_size=16).digest()
        known = self._by_prompt.get(key)
        if known is not None:
            self._add_again(row.number, row.fields, known)
        elif row.fields.id is not None and row.fields.id in self._by_id:
            first = self._rows[self._by_id[row.fields.id]]
            self._drop(
                row.number, "duplicate_id", f"id {row.fields.id!r} belongs to another question in {self._at(first)}"
            )
        else:
            self._by_prompt[key] = len(self._problems)
            if row.fields.id is not None:
                self._by_id[row.fields.id] = len(self._problems)
            self._problems.append(self._problem(row.number, row.fields))
            self._rows.append(row.number)

    def _add_again(self, number: int, fields: Fields, known: int) -> None:
        """A question that is known already."""
        earlier, place = self._problems[known], self._at(self._rows[known])
        if earlier is None:
            self._drop(number, "gold_conflict", f"the question of {place}, to which there are several answers")
        elif _same_gold(earlier.gold, fields.gold):
            self._drop(number, "duplicate_problem", f"question and answer of {place}")
        else:
            here, there = repr(fields.gold[:60]), repr(earlier.gold[:60])
            self._problems[known] = None
            self._drop(self._rows[known], "gold_conflict", f"answer {there}, but {here} in {self._at(number)}")
            self._drop(number, "gold_conflict", f"answer {here}, but {there} in {place}")

    def _problem(self, number: int, fields: Fields) -> Problem:
        return Problem(
            id=fields.id or content_hash(fields.prompt, fields.gold),
            prompt=fields.prompt,
            gold=fields.gold,
            source=f"{self._stream.label}:{number}",
            licence=fields.licence or self._licence,
        )

    def _drop(self, number: int, reason: Reason, detail: str) -> None:
        self._dropped.append(Dropped(self._stream.label, number, reason, printable(detail[:_LONGEST_DETAIL])))

    def _at(self, number: int) -> str:
        return f"{self._stream.unit} {number}"


class _UndecidedError(Exception):
    """Exact arithmetic has no answer."""


def _undecided(gold: str, answer: str) -> bool:
    raise _UndecidedError


def _same_gold(first: str, second: str) -> bool:
    """Whether two reference answers are surely the same; what would take algebra to see counts as a contradiction."""
    if " ".join(first.split()) == " ".join(second.split()):
        return True
    if max(len(first), len(second)) > _LONGEST_COMPARED_GOLD:
        return False
    try:
        return same_answer(first, second, _undecided)
    except _UndecidedError:
        return False
