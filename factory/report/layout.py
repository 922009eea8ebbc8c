"""What sections are made of, and the words they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from factory.report import data, text
from factory.report.data import RunFolder

MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError, pa.ArrowException)
"""What a file that is not what it should be raises when it is read or understood."""
_MAX_MISSING = 6
METHODS = {
    "sft": "trained to repeat the teacher's traces",
    "kd": "trained on the traces and on the teacher's probabilities for every token of them",
}
ROLES = {
    "in_domain": "in-domain: the skill that was taught",
    "out_of_domain": "out-of-domain: how far the skill reaches",
    "retention": "retention: what must not be lost",
}


class Cell(NamedTuple):
    """A table cell: the value, and what is said about it in small type."""

    main: str
    small: str = ""


class Table(NamedTuple):
    """A table whose first column names the row."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    strong: int | None = None
    """Index of the row that is set off."""


class Picture(NamedTuple):
    """An SVG element and what is written under it."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One section; ``missing`` says in words why there is no ``body``."""

    id: str
    title: str
    lead: str
    body: Mapping[str, Any] = field(default_factory=dict)
    missing: str | None = None


def level_text(run: RunFolder) -> str:
    """Coverage of the intervals, ``95%``."""
    try:
        return f"{100 * float(run.recipe['eval']['intervals']['level']):g}%"
    except MALFORMED:
        return "95%"


def not_run(run: RunFolder, *stages: str) -> str:
    """Why a section is empty: the stage did not run, or its files are gone."""
    if any(run.has(stage) for stage in stages):
        return "The stage ran, but its files cannot be read; see the notes under “What was run”."
    return f"Not run: this run has no {text.listing(stages)} stage."


def partial_note(run: RunFolder) -> str:
    """Why this run is not the whole recipe; empty when it is."""
    parts = []
    if run.manifest.get("limit") is not None:
        parts.append(
            f"This run used --limit {run.manifest['limit']}, a small part of the recipe's data: its numbers show that"
            " everything works, not how good anything is."
        )
    missing = [stage for stage in data.expected_stages(run.recipe) if not run.has(stage)]
    if missing:
        command = run.manifest.get("command") or []
        asked = any(str(word).split("=")[0] == "--until" for word in command)
        why = "as asked with --until" if asked else "before the end of the recipe"
        more = f" and {len(missing) - _MAX_MISSING} more" if len(missing) > _MAX_MISSING else ""
        parts.append(f"This run stopped {why}; not run: {', '.join(missing[:_MAX_MISSING])}{more}.")
    return " ".join(parts)


def sampling(section: Mapping[str, Any]) -> str:
    """How completions are drawn, of any section or record with the three settings."""
    return (
        f"temperature {section['temperature']:g}, top-p {section['top_p']:g}, at most {section['max_tokens']:,} tokens"
    )
