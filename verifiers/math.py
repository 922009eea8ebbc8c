"""Mathematical equivalence of the extracted answer and the reference.

Most rows are settled exactly, without sympy (``settle``); the rest goes to the symbolic core, whose work is not
bounded: ``VerifierPool`` gives it its hard limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar, NamedTuple

from verifiers.base import INFRASTRUCTURE_REASONS, TextVerifier, VerifyTask, error_verdict
from verifiers.config import MathConfig
from verifiers.equivalence import same_answer
from verifiers.extract import (
    Extraction,
    boxed_together,
    boxed_values,
    explicit_answer,
    extract_answer,
    last_boxes,
    rival_boxes,
)
from verifiers.notation import is_list, squeeze
from verifiers.symbolic import UnparsedError, refuse_unsafe, symbolic_equal
from verifiers.verdict import Outcome, Verdict

__all__ = ["MathVerifier"]

Leaf = Callable[[str, str], bool]

_LONGEST_RESPONSE = 200_000
_LONGEST_SETTLED = 1000
_MOST_COMPARED = 8


class _NeedsSymbolicError(Exception):
    """The exact path has no answer."""


class _Finding(NamedTuple):
    outcome: Outcome
    reason: str
    answer: str | None = None
    rule: str | None = None


class MathVerifier(TextVerifier):
    """Same number, tuple, set or expression, whatever the notation."""

    name: ClassVar[str] = "math"
    version: ClassVar[int] = 4
    REASONS: ClassVar[tuple[str, ...]] = (
        "exact",
        "symbolic",
        "mismatch",
        "no_answer",
        "truncated",
        "unparsed_answer",
        "gold_unparsed",
        "gold_ambiguous",
        *INFRASTRUCTURE_REASONS,
    )
    PRELOAD: ClassVar[tuple[str, ...]] = ("math_verify",)

    def __init__(self, config: MathConfig | None = None) -> None:
        super().__init__((config or MathConfig()).time_limit_s)

    def settle(self, task: VerifyTask) -> Verdict | None:
        """The verdict where exact arithmetic on short texts decides, else None."""
        if len(task.response) > _LONGEST_RESPONSE or len(task.gold) > _LONGEST_RESPONSE:
            return None
        try:
            return self._judge(task, _refuse)
        except _NeedsSymbolicError:
            return None

    def verify(self, task: VerifyTask) -> Verdict:
        """The verdict. Never raises on any text; may hang on hostile text, so run it in a ``VerifierPool``."""
        return self._judge(task, symbolic_equal)

    def _judge(self, task: VerifyTask, symbolic: Leaf) -> Verdict:
        start = time.perf_counter()
        try:
            found = _find(task.response, task.gold, task.finish_reason, symbolic)
        except _NeedsSymbolicError:
            raise
        except Exception:  # sympy raises anything; a failed check must become a recorded row, not end the run
            return error_verdict(self, "checker_failed", time.perf_counter() - start)
        seconds = time.perf_counter() - start
        return Verdict(*found, verifier=f"{self.name}@{self.version}", seconds=seconds)


VERIFIER = MathVerifier


def _refuse(gold: str, answer: str) -> bool:
    refuse_unsafe(gold, answer)
    raise _NeedsSymbolicError


def _find(response: str, gold: str, finish_reason: str | None, symbolic: Leaf) -> _Finding:
    several = is_ambiguous(gold)
    expected = (boxed_together(gold) or "") if several else reference(gold)
    if several and not expected:
        return _Finding(Outcome.UNVERIFIABLE, "gold_ambiguous")
    if not expected:
        return _Finding(Outcome.UNVERIFIABLE, "gold_unparsed")
    if finish_reason == "length":
        return _Finding(Outcome.INCORRECT, "truncated")
    answer, rule, truncated = extract_answer(response)
    if truncated:
        return _Finding(Outcome.INCORRECT, "truncated")
    if answer is None or rule is None:
        return _Finding(Outcome.INCORRECT, "no_answer")
    if symbolic is _refuse and max(len(answer), len(expected)) > _LONGEST_SETTLED:
        raise _NeedsSymbolicError
    return _compare(response, expected, several, Extraction(answer, rule, truncated), symbolic)


def _compare(response: str, expected: str, is_one_of: bool, found: Extraction, symbolic: Leaf) -> _Finding:
    used: list[bool] = []

    def leaf(a: str, b: str) -> bool:
        used.append(True)
        return symbolic(a, b)

    answer, rule, _ = found
    try:
        equal = same_answer(expected, answer or "", leaf)
        if not equal and rule == "boxed" and not is_one_of:
            together = last_boxes(response)
            if together and len(together) <= _LONGEST_SETTLED and same_answer(expected, together, leaf):
                equal, answer, rule = True, together, "boxed_list"
        elif equal and rule == "boxed" and not is_one_of and (together := _rivals(response, expected)):
            equal, answer, rule = False, together, "boxed_list"
    except UnparsedError as unparsed:
        if unparsed.side == "gold":
            return _Finding(Outcome.UNVERIFIABLE, "gold_unparsed", answer, rule)
        return _Finding(Outcome.INCORRECT, "unparsed_answer", answer, rule)
    if equal:
        return _Finding(Outcome.CORRECT, "symbolic" if used else "exact", answer, rule)
    if is_one_of:  # all of the boxes would have been right; one of them may be
        return _Finding(Outcome.UNVERIFIABLE, "gold_ambiguous", answer, rule)
    return _Finding(Outcome.INCORRECT, "mismatch", answer, rule)


def _rivals(response: str, expected: str) -> str | None:
    """The boxes of the last line where they give several values of a kind ("x = 3 and x = 5") and one is asked for."""
    values = rival_boxes(response)
    if len(values) < 2 or sum(map(len, values)) > _LONGEST_SETTLED or is_list(expected):
        return None
    return None if all(_exactly_same(expected, value) for value in values) else ", ".join(values)


def is_ambiguous(gold: str) -> bool:
    """Whether a reference solution boxes several answers apart from each other: one of them, or all of them?"""
    if "boxed" not in gold or len(boxed_values(gold)) < 2:
        return False
    last = explicit_answer(gold)
    if last is None or last[1] == "boxed_list":
        return False
    return not _all_the_same(last[0], boxed_values(gold))


def _all_the_same(first: str, others: list[str]) -> bool:
    """Whether several boxes hold one answer. Long lists in many boxes would take too long and count as different."""
    others = [other for other in others if squeeze(other) != squeeze(first)]
    if len(others) > _MOST_COMPARED or sum(map(len, others)) > 2 * _LONGEST_SETTLED:
        return False
    return all(_exactly_same(first, other) for other in others)


def _exactly_same(a: str, b: str) -> bool:
    try:
        return len(a) <= _LONGEST_SETTLED and len(b) <= _LONGEST_SETTLED and same_answer(a, b, _refuse)
    except _NeedsSymbolicError:
        return False


def reference(gold: str) -> str:
    """The answer in a reference that may be a whole solution (last box, or GSM8K's ``####``)."""
    if "\\boxed" in gold or "####" in gold:
        found = explicit_answer(gold)
        if found and found[1] == "boxed_list":  # the same thing in two notations is one answer
            first, *others = boxed_values(gold)
            return first if _all_the_same(first, others) else found[0]
        if found:
            return found[0]
    return gold.strip()
