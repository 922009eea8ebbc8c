"""What every verifier offers."""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Protocol

from verifiers.verdict import Outcome, Verdict

INFRASTRUCTURE_REASONS = ("timeout", "worker_died", "checker_failed")
"""Reasons of ``error`` verdicts, common to all verifiers."""


class VerifierError(RuntimeError):
    """The check itself cannot run on this machine; says nothing about any response."""


class VerifyTask(NamedTuple):
    """One response to be checked."""

    id: str
    """The caller's name for the row; the pool hands it back untouched."""
    response: str
    """What the model wrote, reasoning included."""
    gold: str
    """The reference answer."""
    finish_reason: str | None = None
    """Why generation ended; ``length`` means that the response is cut off."""


class Verifier(Protocol):
    """A check of one response against one reference. Instances hold no state between calls."""

    name: ClassVar[str]
    version: ClassVar[int]
    REASONS: ClassVar[tuple[str, ...]]
    PRELOAD: ClassVar[tuple[str, ...]]
    """Modules that a worker imports before its first row, so that no row's time limit pays for them."""

    def settle(self, response: str, gold: str, finish_reason: str | None = None) -> Verdict | None:
        """The verdict if it can be had in provably bounded time (safe without a time limit), else None."""
        ...

    def verify(self, response: str, gold: str, finish_reason: str | None = None) -> Verdict:
        """The verdict. Never raises on any text; may hang on hostile text, so run it in a ``VerifierPool``."""
        ...


def error_verdict(verifier: type[Verifier] | Verifier, reason: str, seconds: float = 0.0) -> Verdict:
    """An ``error`` verdict: the checker failed, which says nothing about the response."""
    return Verdict(Outcome.ERROR, reason, verifier=f"{verifier.name}@{verifier.version}", seconds=seconds)
