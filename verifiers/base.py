"""What every verifier offers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
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
    """The reference: an answer as text, or JSON text where it is more than that (the tests of a program)."""
    finish_reason: str | None = None
    """Why generation ended; ``length`` means that the response is cut off."""
    question: str = ""
    """As it was posed; read by verifiers that need options or context."""


class Verifier(Protocol):
    """A check of one response against one reference. No verdict depends on the calls before it."""

    @property
    def name(self) -> str:
        """Short and lower-case, as in ``verify.kind``."""
        ...

    @property
    def version(self) -> int:
        """Raised when verdicts change."""
        ...

    @property
    def REASONS(self) -> tuple[str, ...]:  # noqa: N802 - a constant of the class
        """Every reason that a verdict may have."""
        ...

    @property
    def PRELOAD(self) -> tuple[str, ...]:  # noqa: N802
        """Modules that a worker imports before its first row, so that no row's time limit pays for them."""
        ...

    def settle(self, task: VerifyTask) -> Verdict | None:
        """The verdict if it can be had in provably bounded time (safe without a time limit), else None."""
        ...

    def verify(self, task: VerifyTask) -> Verdict:
        """The verdict. Never raises on any text; may hang on hostile text, so run it in a ``VerifierPool``."""
        ...

    def wall_limit_s(self, task: VerifyTask) -> float:
        """Seconds by the clock after which a worker that has this row is killed, and the verdict is an error."""
        ...

    def cpu_limit_s(self, task: VerifyTask) -> float:
        """The same in seconds of the worker's own processor time, which do not depend on what else is running."""
        ...

    def render(self, gold: str) -> str | None:
        """A response that states the reference, which must be accepted; None where none can be written."""
        ...

    def close(self) -> None:
        """Give back what the verifier holds (a sandbox). Safe to call twice."""
        ...


class TextVerifier:
    """What verifiers have in common that compare an extracted answer with a reference answer."""

    WALL_FACTOR: ClassVar[float] = 6.0
    """By the clock a row may take so many times its limit of processor time: the machine may be busy."""

    def __init__(self, time_limit_s: float = 5.0) -> None:
        self._time_limit_s = time_limit_s

    def wall_limit_s(self, task: VerifyTask) -> float:
        """A multiple of ``time_limit_s``, whatever the row."""
        return self.WALL_FACTOR * self._time_limit_s

    def cpu_limit_s(self, task: VerifyTask) -> float:
        """``time_limit_s``, whatever the row."""
        return self._time_limit_s

    def render(self, gold: str) -> str | None:
        """The reference in a box."""
        return f"\\boxed{{{gold}}}"

    def close(self) -> None:
        """Nothing is held."""


def recorded(verifier: Verifier, find: Callable[[VerifyTask], Verdict], task: VerifyTask) -> Verdict:
    """What ``find`` says of a row, with the verifier's name and the seconds it took.

    What it raises is ``error/checker_failed``: a defect, of ours or of a library, must become a recorded row and not
    end the run.
    """
    start = time.perf_counter()
    try:
        verdict = find(task)
    except Exception:
        return error_verdict(verifier, "checker_failed", time.perf_counter() - start)
    name = f"{verifier.name}@{verifier.version}"
    return replace(verdict, verifier=name, seconds=time.perf_counter() - start)


def error_verdict(verifier: Verifier, reason: str, seconds: float = 0.0) -> Verdict:
    """An ``error`` verdict: the checker failed, which says nothing about the response."""
    return Verdict(Outcome.ERROR, reason, verifier=f"{verifier.name}@{verifier.version}", seconds=seconds)
