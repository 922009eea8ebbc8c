"""Exact verifier: the extracted answer and the reference are the same text."""

from __future__ import annotations

import time
import unicodedata
from typing import ClassVar

from verifiers.base import INFRASTRUCTURE_REASONS, TextVerifier, VerifyTask, error_verdict
from verifiers.config import ExactConfig
from verifiers.extract import Extraction, extract_answer, final_text
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
        start = time.perf_counter()
        try:
            verdict = self._verify(task, start)
        except Exception:  # a defect of ours must become a recorded row, not end the run
            verdict = error_verdict(self, "checker_failed", time.perf_counter() - start)
        return verdict

    def _verify(self, task: VerifyTask, start: float) -> Verdict:
        def verdict(outcome: Outcome, reason: str, found: Extraction | None = None) -> Verdict:
            answer, rule = (found.answer, found.rule) if found else (None, None)
            seconds = time.perf_counter() - start
            return Verdict(outcome, reason, answer, rule, f"{self.name}@{self.version}", seconds)

        response = task.response
        expected = self._normalise(task.gold)
        if not expected:
            return verdict(Outcome.UNVERIFIABLE, "gold_unparsed")
        if task.finish_reason == "length":
            return verdict(Outcome.INCORRECT, "truncated")
        found = extract_answer(response)
        if found.truncated:
            return verdict(Outcome.INCORRECT, "truncated")
        if found.rule in _WEAK_RULES and self._normalise(final_text(response)) == expected:
            return verdict(Outcome.CORRECT, "same_text", Extraction(final_text(response), "whole", truncated=False))
        if found.answer is None:
            return verdict(Outcome.INCORRECT, "no_answer")
        if self._normalise(found.answer) == expected:
            return verdict(Outcome.CORRECT, "same_text", found)
        return verdict(Outcome.INCORRECT, "mismatch", found)

    def _normalise(self, text: str) -> str:
        text = " ".join(unicodedata.normalize("NFKC", text).split()).strip(" .")
        return text.casefold() if self._ignore_case else text


VERIFIER = ExactVerifier
