"""A regular expression decides: the reference (or the config) is a pattern that the answer has to match.

Python's matcher backtracks, so an expression such as ``(a+)+b`` may take for ever: nothing is settled in the caller's
process, and a row that takes too long ends with its worker (``error/timeout``).
"""

from __future__ import annotations

import re
from typing import ClassVar, NamedTuple

from verifiers.base import INFRASTRUCTURE_REASONS, TextVerifier, VerifyTask, recorded
from verifiers.config_more import RegexConfig
from verifiers.extract import extract_answer, final_text
from verifiers.verdict import Outcome, Verdict

__all__ = ["RegexVerifier"]

_WEAK_RULES = (None, "math_env", "last_number")
_LONGEST_PATTERN = 100_000


class _Candidate(NamedTuple):
    text: str
    rule: str | None


class RegexVerifier(TextVerifier):
    """The answer matches the expression."""

    name: ClassVar[str] = "regex"
    version: ClassVar[int] = 1
    REASONS: ClassVar[tuple[str, ...]] = (
        "match",
        "mismatch",
        "no_answer",
        "truncated",
        "pattern_invalid",
        *INFRASTRUCTURE_REASONS,
    )
    PRELOAD: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: RegexConfig | None = None) -> None:
        self._config = config or RegexConfig()
        super().__init__(self._config.time_limit_s)

    def settle(self, task: VerifyTask) -> None:
        """None, whatever the row: no bound on the time of a match is known."""

    def verify(self, task: VerifyTask) -> Verdict:
        """The verdict. Never raises on any text; may hang on a hostile pattern, so run it in a ``VerifierPool``."""
        return recorded(self, self._verdict, task)

    def _verdict(self, task: VerifyTask) -> Verdict:
        outcome, reason, found = self._find(task)
        text, rule = found or (None, None)
        return Verdict(outcome, reason, text, rule)

    def render(self, gold: str) -> str | None:
        """The pattern itself where it has no special characters and so matches itself; else None."""
        pattern = self._pattern_text(gold)
        return f"\\boxed{{{pattern}}}" if pattern and not re.search(r"[\\.^$*+?{}\[\]|()]", pattern) else None

    def _pattern_text(self, gold: str) -> str:
        return gold if self._config.pattern is None else self._config.pattern

    def _find(self, task: VerifyTask) -> tuple[Outcome, str, _Candidate | None]:
        pattern = self._compile(self._pattern_text(task.gold))
        if pattern is None:
            return Outcome.UNVERIFIABLE, "pattern_invalid", None
        if task.finish_reason == "length" or extract_answer(task.response).truncated:
            return Outcome.INCORRECT, "truncated", None
        candidates = self._candidates(task.response)
        if not candidates:
            return Outcome.INCORRECT, "no_answer", None
        match = pattern.fullmatch if self._config.match == "fullmatch" else pattern.search
        for candidate in candidates:
            if match(candidate.text):
                return Outcome.CORRECT, "match", candidate
        return Outcome.INCORRECT, "mismatch", candidates[-1]

    def _compile(self, text: str) -> re.Pattern[str] | None:
        if not text or len(text) > _LONGEST_PATTERN:
            return None
        try:
            return re.compile(text, re.IGNORECASE if self._config.ignore_case else 0)
        except (re.error, OverflowError, RecursionError, ValueError):
            return None

    def _candidates(self, response: str) -> list[_Candidate]:
        """What may be the answer. Where nothing is marked as such, the whole final text comes first."""
        final = final_text(response)
        if self._config.part == "final":
            return [_Candidate(final, "final")] if final else []
        found = extract_answer(response)
        candidates = [_Candidate(final, "whole")] if final and found.rule in _WEAK_RULES else []
        if found.answer is not None:
            candidates.append(_Candidate(found.answer, found.rule))
        return candidates


VERIFIER = RegexVerifier
