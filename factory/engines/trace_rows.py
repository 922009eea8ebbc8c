"""Traces in files as they are published: a prompt, what some model answered, and mostly the reference answer.

Known shapes: plain columns (``prompt``/``response``), chats (``messages`` with role and content, ``conversations`` with
from and value), reasoning and answer in columns of their own (as s1K has them), and several responses in one cell.
Reasoning goes between think tags, whatever marks it in the file.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from factory.engines.base import FinishReason
from factory.engines.imported_config import TraceColumns
from factory.errors import DataError
from factory.records import content_hash
from factory.sources.fields import GOLD_COLUMNS, PROMPT_COLUMNS, UnusableRowError, read_gold, read_prompt
from factory.sources.files import RawRow, RowStream, detect_format, file_stream

VERSION = 1
"""Goes up when an equal file no longer gives the traces it gave before."""
_PAIRS = (
    ("deepseek_thinking_trajectory", "deepseek_attempt"),
    ("deepseek_reasoning", "deepseek_solution"),
    ("thinking_trajectories", "attempt"),
    ("gemini_thinking_trajectory", "gemini_attempt"),
    ("reasoning_content", "content"),
    ("reasoning_content", "response"),
    ("thinking", "response"),
    ("reasoning", "response"),
)
"""Columns of reasoning and answer, the first pair that is there wins."""
_RESPONSES = ("response", "completion", "generation", "output", "trace", "responses", "completions", "generations")
_CHATS = ("messages", "conversations", "conversation")
_GOLDS = (*GOLD_COLUMNS, "ground_truth", "reference_answer", "ground_truth_solution", "gt")
_IDS = ("problem_id", "question_id", "id", "uuid")
_TEACHERS = ("teacher", "teacher_model", "model", "model_name", "generator")
_COUNTS = ("num_tokens", "completion_tokens", "output_tokens", "response_tokens")
_FINISHES = ("finish_reason",)
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant"}
_ROWS_FOR_COLUMNS = 100
_BYTES_PER_TOKEN = 4
COUNT_RULE = f"UTF-8 bytes / {_BYTES_PER_TOKEN}"
"""How tokens are counted where the file does not say: too rough for money, good enough for budgets."""
_MAX_COUNT = 2**31 - 1


class Trace(NamedTuple):
    """One response to one prompt."""

    prompt: str
    response: str
    gold: str | None
    problem_id: str | None
    teacher: str | None
    """Who wrote it, where the file says so."""
    finish_reason: FinishReason
    num_prompt_tokens: int
    """By ``COUNT_RULE``."""
    num_tokens: int
    counted: bool
    """Whether ``num_tokens`` is the file's own; else it is by ``COUNT_RULE``."""


class ReadRow(NamedTuple):
    """A row of the file: its traces, or why it has none."""

    number: int
    traces: tuple[Trace, ...]
    problem: str = ""


class _UnusableTraceError(Exception):
    """The row holds no trace."""


class Found(NamedTuple):
    """Which columns hold what; None where there is none."""

    prompt: str
    response: str
    thinking: str | None
    gold: str | None
    problem_id: str | None
    teacher: str | None
    num_tokens: str | None
    finish_reason: str | None

    def roots(self) -> list[str]:
        """Columns that are read at all."""
        return list(dict.fromkeys(name for name in self if name))

    def shown(self) -> str:
        """For people: ``prompt=question response=...``."""
        return " ".join(f"{role}={name}" for role, name in zip(self._fields, self) if name)


def traces_digest(path: Path, columns: TraceColumns, file_digest: Callable[[Path], str]) -> str:
    """Identity of a file's traces: its content, kind and columns; not its name."""
    return content_hash("traces", VERSION, detect_format(path).kind, file_digest(path), columns.model_dump(mode="json"))


def read_traces(path: Path, columns: TraceColumns) -> Iterator[ReadRow]:
    """Every row of the file with its traces, in order. Memory holds one batch of rows.

    Raises:
        DataError: when the file cannot be read or has no columns that could be prompt and response.
    """
    stream = file_stream(path)
    found, rows = open_traces(stream, columns)
    for row in rows:
        yield _read(row, found)


def open_traces(stream: RowStream, columns: TraceColumns) -> tuple[Found, Iterator[RawRow]]:
    """The columns, and all rows. Where only the rows know the columns, those of the first hundred count."""
    if stream.columns is not None:
        found = find_columns(stream.columns, columns, stream.label)
        return found, stream.rows(found.roots())
    rows = stream.rows(None)
    first = list(itertools.islice(rows, _ROWS_FOR_COLUMNS))
    present = dict.fromkeys(name for row in first for name in row.values or ())
    return find_columns(list(present), columns, stream.label), itertools.chain(first, rows)


def find_columns(present: Sequence[str], wanted: TraceColumns, label: str) -> Found:
    """The columns to read: those named, else the first of the usual names that is there.

    Raises:
        DataError: when a named one is missing, or prompt or response cannot be told.
    """
    for role, name in wanted.model_dump().items():
        if name and name not in present:
            raise DataError(f"{label}: columns.{role}: there is no column {name!r}\n  columns: {', '.join(present)}")

    def usual(names: Sequence[str], *taken: str | None) -> str | None:
        return next((name for name in names if name in present and name not in taken), None)

    chat = usual(_CHATS)
    thinking, response = _response_columns(present, wanted, usual(_RESPONSES) or chat)
    prompt = wanted.prompt or usual(PROMPT_COLUMNS) or chat
    gold = wanted.gold or usual(_GOLDS, response, thinking, prompt)
    if prompt is None or response is None:
        lacking = "prompt" if prompt is None else "response"
        raise DataError(
            f"{label}: no column of the usual names holds the {lacking}; name it with columns.{lacking}"
            f"\n  columns: {', '.join(present)}"
        )
    return Found(
        prompt,
        response,
        thinking,
        gold,
        wanted.problem_id or usual(_IDS),
        wanted.teacher or usual(_TEACHERS),
        wanted.num_tokens or usual(_COUNTS),
        wanted.finish_reason or usual(_FINISHES),
    )


def _response_columns(present: Sequence[str], wanted: TraceColumns, usual: str | None) -> tuple[str | None, str | None]:
    """Columns of the reasoning, where it has one of its own, and of the response."""
    if wanted.response:
        return wanted.thinking, wanted.response
    for thinking, response in _PAIRS:
        if thinking in present and response in present and wanted.thinking in (None, thinking):
            return thinking, response
    return wanted.thinking, usual


def _read(row: RawRow, columns: Found) -> ReadRow:
    if row.values is None:
        return ReadRow(row.number, (), row.problem)
    try:
        return ReadRow(row.number, tuple(_traces(row.values, columns)))
    except UnusableRowError as error:
        return ReadRow(row.number, (), f"{columns.prompt}: {error.detail}")
    except _UnusableTraceError as error:
        return ReadRow(row.number, (), f"{columns.response}: {error}")


def _traces(values: dict[str, Any], columns: Found) -> Iterator[Trace]:
    prompt = _storable(read_prompt(_chat_of(values.get(columns.prompt))))
    responses = _texts(values.get(columns.response))
    thoughts: Sequence[str | None] = _texts(values.get(columns.thinking)) if columns.thinking else ()
    if not responses:
        raise _UnusableTraceError("the cell is missing, or holds no text of an assistant")
    if not thoughts:
        thoughts = [None] * len(responses)
    if len(thoughts) != len(responses):
        raise _UnusableTraceError(f"{len(responses)} responses, but {len(thoughts)} texts in {columns.thinking}")
    counts = _counts(values.get(columns.num_tokens), len(responses)) if columns.num_tokens else None
    said = values.get(columns.finish_reason) if columns.finish_reason else None
    gold = _gold(values.get(columns.gold)) if columns.gold else None
    for at, (thinking, response) in enumerate(zip(thoughts, responses, strict=True)):
        text = _storable(_joined(thinking, response))
        if not text.strip():
            raise _UnusableTraceError("the response is blank")
        count = counts[at] if counts else None
        yield Trace(
            prompt=prompt,
            response=text,
            gold=gold,
            problem_id=_label(values.get(columns.problem_id)) if columns.problem_id else None,
            teacher=_label(values.get(columns.teacher)) if columns.teacher else None,
            finish_reason=_finish(said, text),
            num_prompt_tokens=rough_count(prompt),
            num_tokens=count or rough_count(text),
            counted=count is not None,
        )


def rough_count(text: str) -> int:
    """Tokens by ``COUNT_RULE``, at least 1."""
    return max(1, -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN))


def _chat_of(value: Any) -> Any:
    """A chat in one spelling; a text that is a chat in JSON (as our own export has them) as that chat."""
    if isinstance(value, str) and value.startswith("[{"):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, list) and all(isinstance(turn, dict) for turn in value):
        return [_turn(turn) for turn in value]
    return value


def _turn(turn: dict[str, Any]) -> dict[str, Any]:
    role = str(turn.get("role") or turn.get("from") or "")
    content = turn.get("content") if turn.get("content") is not None else turn.get("value")
    return {**turn, "role": _ROLES.get(role, role), "content": content}


def _texts(value: Any) -> list[str]:
    """The responses in a cell: one text, a list of them, or the last assistant's turn of a chat."""
    if isinstance(value, str):
        chat = _chat_of(value)
        return [value] if isinstance(chat, str) else _texts(chat)
    if not isinstance(value, list) or not value:
        return []
    if all(isinstance(item, str) for item in value):
        return list(value)
    if all(isinstance(item, dict) for item in value):
        turns = [_turn(item) for item in value if _turn(item)["role"] == "assistant"]
        content = turns[-1]["content"] if turns else None
        if not isinstance(content, str):
            return []
        thinking = next((turns[-1][n] for n in ("reasoning_content", "reasoning") if turns[-1].get(n)), None)
        return [_joined(thinking, content) if isinstance(thinking, str) else content]
    return []


_MARKS = (
    (re.compile(r"<\|begin_of_thought\|>\s*"), "<think>\n"),
    (re.compile(r"\s*<\|end_of_thought\|>\s*"), "\n</think>\n\n"),
    (re.compile(r"<\|begin_of_solution\|>\s*|\s*<\|end_of_solution\|>\s*"), ""),
)


def _joined(thinking: str | None, response: str) -> str:
    """Reasoning and answer as one text with think tags."""
    if thinking and thinking.strip() and "</think>" not in response:
        inner = thinking.strip().removeprefix("<think>").removesuffix("</think>").strip("\n")
        return f"<think>\n{inner}\n</think>\n\n{response.lstrip()}"
    if "<|begin_of_" in response:
        for pattern, replacement in _MARKS:
            response = pattern.sub(replacement, response)
    return response


def _finish(said: Any, text: str) -> FinishReason:
    """As the file says; else a trace that never stops thinking was cut off."""
    if said == "length" or (said is None and "<think>" in text and "</think>" not in text):
        return "length"
    return "stop"


def _counts(value: Any, num: int) -> list[int | None]:
    """Token counts of a row's responses; None where the file has no usable one."""
    if isinstance(value, list) and len(value) == num:
        return [_counts(item, 1)[0] for item in value]
    if isinstance(value, str) and value.strip().isdecimal():  # as CSV has it
        value = int(value)
    if num == 1 and isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _MAX_COUNT:
        return [int(value) or None]
    return [None] * num


def _gold(value: Any) -> str | None:
    try:
        return _storable(read_gold(value, "auto"))
    except UnusableRowError:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else None


def _label(value: Any) -> str | None:
    if isinstance(value, str):
        return _storable(value.strip()) or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _storable(text: str) -> str:
    """Lone surrogates and NUL, which neither a hash nor a server's JSON can take, become question marks."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")
