"""The verdict on one response: four outcomes, never a bool."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What is known about a response."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNVERIFIABLE = "unverifiable"
    """The reference itself cannot be used (for example a gold that does not parse)."""
    ERROR = "error"
    """The checker failed (time-out, crash, no sandbox): says nothing about the response."""


@dataclass(frozen=True)
class Verdict:
    """Outcome of one check, with what is needed to understand or repeat it."""

    outcome: Outcome
    reason: str
    """From the verifier's closed list ``REASONS``."""
    extracted: str | None = None
    """What was taken to be the answer."""
    rule: str | None = None
    """Which extraction rule found it."""
    verifier: str = ""
    """``name@version``, so that old verdicts can be told from new ones."""
    seconds: float = 0.0
    detail: str | None = None
    """JSON text with what is worth keeping beyond the reason: the first failing test, the votes of a judge."""
