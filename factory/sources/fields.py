"""From a row's cells to a question and its reference answer: which columns, and what their values may be."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from factory.errors import DataError
from factory.sources.config import ColumnMap
from factory.sources.result import RowFault
from verifiers.extract import explicit_answer

PROMPT_COLUMNS = ("prompt", "problem", "question", "query", "instruction")
GOLD_COLUMNS = ("gold", "answer", "expected_answer", "final_answer", "solution")
ID_COLUMN = "id"

GoldFormat = Literal["auto", "plain", "gsm8k", "boxed", "json"]

Column = tuple[str, ...]
"""A column's name; with more parts, names of fields inside it."""

_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_GROUPED = re.compile(r"[-+]?\$?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_LARGEST_EXACT_FLOAT = 2**53
_LONGEST_DECIMAL = 40


class UnusableRowError(Exception):
    """A row that is no problem, with the reason it is dropped for."""

    def __init__(self, reason: RowFault, detail: str) -> None:
        super().__init__(detail)
        self.reason: RowFault = reason
        self.detail = detail


class Columns(NamedTuple):
    """Which columns hold what."""

    prompt: Column
    gold: Column
    id: Column | None
    licence: Column | None

    def roots(self) -> list[str]:
        """Names of the columns that are read at all."""
        return list(dict.fromkeys(column[0] for column in self if column is not None))


class Fields(NamedTuple):
    """What a problem is made of."""

    prompt: str
    gold: str
    id: str | None
    licence: str | None


def choose_columns(present: Sequence[str], wanted: ColumnMap) -> Columns:
    """The columns to read: those named, else the first of the usual names, in any case of letters.

    A dot leads into an object: ``reward_model.ground_truth``. ``id: ""`` stands for no id column.

    Raises:
        DataError: when one is not there, with the columns that are.
    """
    prompt = _named("prompt", wanted.prompt, present) or _usual("prompt", PROMPT_COLUMNS, present)
    gold = _named("gold", wanted.gold, present) or _usual("gold", GOLD_COLUMNS, present)
    licence = _named("licence", wanted.licence, present)
    if wanted.id is None:
        return Columns(prompt, gold, (ID_COLUMN,) if ID_COLUMN in present else None, licence)
    return Columns(prompt, gold, _named("id", wanted.id, present), licence)


def _named(role: str, name: str | None, present: Sequence[str]) -> Column | None:
    if not name:
        return None
    if name in present:
        return (name,)
    parts = tuple(name.split("."))
    if len(parts) > 1 and parts[0] in present:
        return parts
    similar = difflib.get_close_matches(name, present, n=1, cutoff=0.6)
    hint = f"; did you mean {similar[0]!r}?" if similar else ""
    raise DataError(f"columns.{role}: there is no column {name!r}{hint}\n  columns: {_shown(present)}")


def _usual(role: str, usual: Sequence[str], present: Sequence[str]) -> Column:
    by_lower = {name.lower(): name for name in reversed(present)}
    for name in usual:
        if name in present or name in by_lower:
            return (name if name in present else by_lower[name],)
    raise DataError(
        f"no column of the usual names for the {role} ({', '.join(usual)}) is there\n  columns: {_shown(present)}\n"
        f"  name the right one with columns.{role}"
    )


def _shown(present: Sequence[str]) -> str:
    shown = [name if len(name) <= 40 else name[:37] + "..." for name in present[:30]]
    return ", ".join(shown) + (f" and {len(present) - 30} more" if len(present) > 30 else "")


def read_fields(values: dict[str, Any], columns: Columns, gold_format: GoldFormat) -> Fields:
    """The problem in a row.

    Raises:
        UnusableRowError: when there is none.
    """
    prompt = _checked("the prompt", read_prompt(_cell(values, columns.prompt)))
    gold = _checked("the reference answer", read_gold(_cell(values, columns.gold), gold_format))
    given_id = _label("the id", _cell(values, columns.id)) if columns.id else None
    licence = _label("the licence", _cell(values, columns.licence)) if columns.licence else None
    return Fields(prompt, gold, given_id, licence)


def _cell(values: dict[str, Any], column: Column) -> Any:
    value: Any = values
    for name in column:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _checked(what: str, text: str) -> str:
    """The text, if it can be stored, hashed and sent to a model."""
    if "\0" in text:
        raise UnusableRowError("malformed_row", f"{what} holds a NUL character")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise UnusableRowError("malformed_row", f"{what} is not valid Unicode (bytes that are no UTF-8?)") from None
    return text


def _label(what: str, value: Any) -> str | None:
    """An id or licence as text; None where there is none, or where it is no plain value."""
    if value is None or isinstance(value, list | dict | tuple):
        return None
    return _checked(what, _number_text(value) if isinstance(value, float) else str(value).strip()) or None


def read_prompt(value: Any) -> str:
    """The question: a text, or the user's turn of a chat. A system turn is left out: the recipe has its own.

    Raises:
        UnusableRowError: when there is no single question.
    """
    if value is None:
        raise UnusableRowError("missing_prompt", "the cell is missing or null")
    if isinstance(value, list):
        value = _user_turn(value)
    if not isinstance(value, str):
        raise UnusableRowError("unusable_prompt", f"expected a text or a list of messages, got {type(value).__name__}")
    text = value.replace("\r\n", "\n").strip()
    if not text:
        raise UnusableRowError("empty_prompt", "the prompt is blank")
    return text


def _user_turn(messages: list[Any]) -> str:
    if not messages or not all(isinstance(m, dict) and "role" in m and "content" in m for m in messages):
        raise UnusableRowError("unusable_prompt", "expected a list of messages with role and content")
    turns = [m["content"] for m in messages if m["role"] == "user"]
    if len(turns) != 1:
        raise UnusableRowError("multi_turn_prompt", f"expected one user turn, got {len(turns)}")
    content = turns[0]
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        if not all(isinstance(part, str) for part in parts):
            raise UnusableRowError("unusable_prompt", "the user's turn holds something beside text")
        content = "\n".join(str(part) for part in parts)
    if not isinstance(content, str):
        raise UnusableRowError("unusable_prompt", f"expected a text as the user's turn, got {type(content).__name__}")
    return content


def read_gold(value: Any, gold_format: GoldFormat) -> str:
    r"""The reference answer as text.

    ``auto`` takes the last ``\boxed{}`` (or the run of boxes it ends), else what follows ``####`` on the last line,
    else the whole text. Thousands separators after ``####`` go, as in GSM8K's own evaluation (arXiv 2110.14168).

    ``json`` takes any JSON value, or its text, whole.

    Raises:
        UnusableRowError: when there is no single answer.
    """
    if gold_format == "json":
        return _json_gold(value)
    text = _gold_text(value)
    if not text:
        raise UnusableRowError("empty_gold", "the reference answer is blank")
    if gold_format == "plain":
        return text
    if gold_format != "gsm8k" and ("\\boxed" in text or "\\fbox" in text):
        found = explicit_answer(text)
        if found and found[1].startswith("boxed"):
            return found[0]
    if gold_format == "auto":
        last_line = text[text.rfind("\n") + 1 :].lstrip()  # elsewhere, #### may be a heading
        answer = last_line.removeprefix("####").strip()
        return _ungrouped(answer) if answer and last_line.startswith("####") else text
    after = _HASHES.findall(text) if gold_format == "gsm8k" else []
    if not after or not after[-1].strip():
        mark = "####" if gold_format == "gsm8k" else "\\boxed{}"
        raise UnusableRowError("unmarked_gold", f"no answer after {mark}" if after else f"no {mark} with an answer")
    return _ungrouped(after[-1])


def _json_gold(value: Any) -> str:
    if value is None:
        raise UnusableRowError("missing_gold", "the cell is missing or null")
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise UnusableRowError("unusable_gold", f"not JSON: {error}") from None
    return text


def _ungrouped(answer: str) -> str:
    answer = answer.strip()
    return answer.replace(",", "") if _GROUPED.fullmatch(answer) else answer


def _gold_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        if len(value) > 1:
            raise UnusableRowError("unusable_gold", f"a list of {len(value)} answers; expected one")
        value = value[0] if value else None
        return _gold_text(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise UnusableRowError("missing_gold", "the cell is missing, null or not a number")
    if isinstance(value, str):
        return value.replace("\r\n", "\n").strip()
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float | Decimal) and math.isfinite(value):
        return _number_text(value)
    hint = "; an object, as the tests of a program are, takes gold_format: json" if isinstance(value, dict) else ""
    kind = type(value).__name__
    raise UnusableRowError("unusable_gold", f"expected a text, a number or a truth value, got {kind}{hint}")


def _number_text(value: float | Decimal) -> str:
    """The shortest decimal that is the number: 18 for 18.0, 0.1 for 0.1, 0.00001 for 1e-05, 1e+300 as it is."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_EXACT_FLOAT:
        return str(int(value))
    text = format(Decimal(str(value)), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text if len(text) <= _LONGEST_DECIMAL else str(value)
