"""The second opinion on mathematics: math-verify's own extraction and comparison.

It shares no code with ``verifiers.math`` before sympy, so an audit that compares the two sees the mistakes of either.
It is not meant to decide what enters a dataset: it makes more of them.
"""

from __future__ import annotations

import logging
import time
from typing import ClassVar

from verifiers.base import INFRASTRUCTURE_REASONS, TextVerifier, VerifyTask, error_verdict
from verifiers.config_more import SecondMathConfig
from verifiers.verdict import Outcome, Verdict

__all__ = ["SecondMathVerifier"]

_LONGEST_SHOWN = 500


class SecondMathVerifier(TextVerifier):
    """math-verify says that response and reference agree."""

    name: ClassVar[str] = "second_math"
    version: ClassVar[int] = 2
    REASONS: ClassVar[tuple[str, ...]] = (
        "same",
        "mismatch",
        "no_answer",
        "truncated",
        "gold_unparsed",
        *INFRASTRUCTURE_REASONS,
    )
    PRELOAD: ClassVar[tuple[str, ...]] = ("math_verify",)

    def __init__(self, config: SecondMathConfig | None = None) -> None:
        super().__init__((config or SecondMathConfig()).time_limit_s)

    def settle(self, task: VerifyTask) -> None:
        """None, whatever the row: sympy's time is not bounded."""

    def verify(self, task: VerifyTask) -> Verdict:
        """The verdict. Never raises on any text; may hang on hostile text, so run it in a ``VerifierPool``."""
        start = time.perf_counter()
        try:
            outcome, reason, extracted = _compare(task)
        except Exception:  # sympy raises anything; a failed check must become a recorded row, not end the run
            return error_verdict(self, "checker_failed", time.perf_counter() - start)
        name = f"{self.name}@{self.version}"
        return Verdict(outcome, reason, extracted, "math_verify", name, time.perf_counter() - start)


VERIFIER = SecondMathVerifier


def _compare(task: VerifyTask) -> tuple[Outcome, str, str | None]:
    from math_verify import parse, verify

    # Its own time-outs use SIGALRM, which works in main threads only; the pool has the limits, so no warning is due.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    gold_text = task.gold if "\\boxed" in task.gold else f"\\boxed{{{task.gold}}}"
    gold = parse(gold_text, parsing_timeout=None, raise_on_error=True)
    if not gold:
        return Outcome.UNVERIFIABLE, "gold_unparsed", None
    if task.finish_reason == "length":
        return Outcome.INCORRECT, "truncated", None
    answer = parse(task.response, parsing_timeout=None, raise_on_error=True)
    if not answer:
        return Outcome.INCORRECT, "no_answer", None
    shown = str(answer[-1])[:_LONGEST_SHOWN]
    if verify(gold, answer, timeout_seconds=None, raise_on_error=True):
        return Outcome.CORRECT, "same", shown
    return Outcome.INCORRECT, "mismatch", shown
