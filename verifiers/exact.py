"""Exact verifier: the extracted answer and the reference are the same text."""

from __future__ import annotations

import unicodedata
from typing import ClassVar

from verifiers.base import INFRASTRUCTURE_REASONS, TextVerifier, VerifyTask, recorded
from verifiers.config import ExactConfig
from verifiers.extract import extract_answer, final_text
from verifiers.verdict import Outcome, Verdict

__all__ = ["ExactVerifier"]

_LONGEST_BOUNDED = 100_000
_WEAK_RULES = (None, "math_env", "last_number")


class ExactVerifier(TextVerifier):
    """String equality after Unicode (NFKC) and whitespace normalisation."""

    name: ClassVar[str] = "exact"
    version: ClassVar[int] = 1
    REASONS: ClassVar[tuple[str, ...]] = (
        "same_text",
        "mismatch",
        "no_answer",
        "truncated",
        "gold_unparsed",
        *INFRASTRUCTURE_REASONS,
    )
    PRELOAD: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: ExactConfig | None = None) -> None:
        config = config or ExactConfig()
        super().__init__(config.time_limit_s)
        self._ignore_case = config.ignore_case

    def settle(self, task: VerifyTask) -> Verdict | None:
        """The verdict, unless the texts are so long that it belongs in a worker."""
        if len(task.response) + len(task.gold) > _LONGEST_BOUNDED:
            return None
        return self.verify(task)

    def verify(self, task: VerifyTask) -> Verdict:
        """Compare; where nothing in the text is marked as the answer, the whole final text may be it, too."""
        return recorded(self, self._find, task)

    def _find(self, task: VerifyTask) -> Verdict:
        response = task.response
        expected = self._normalise(task.gold)
        if not expected:
            return Verdict(Outcome.UNVERIFIABLE, "gold_unparsed")
        if task.finish_reason == "length":
            return Verdict(Outcome.INCORRECT, "truncated")
        found = extract_answer(response)
        if found.truncated:
            return Verdict(Outcome.INCORRECT, "truncated")
        if found.rule in _WEAK_RULES and self._normalise(final_text(response)) == expected:
            return Verdict(Outcome.CORRECT, "same_text", final_text(response), "whole")
        if found.answer is None:
            return Verdict(Outcome.INCORRECT, "no_answer")
        if self._normalise(found.answer) == expected:
            return Verdict(Outcome.CORRECT, "same_text", found.answer, found.rule)
        return Verdict(Outcome.INCORRECT, "mismatch", found.answer, found.rule)

    def _normalise(self, text: str) -> str:
        text = " ".join(unicodedata.normalize("NFKC", text).split()).strip(" .")
        return text.casefold() if self._ignore_case else text


VERIFIER = ExactVerifier
