"""Does a verifier accept the reference itself, and refuse what is no answer? Asked before anything is paid for."""

from __future__ import annotations

from collections.abc import Callable

from verifiers.base import Verifier, VerifyTask
from verifiers.verdict import Outcome, Verdict

NO_ANSWER = "I do not know."


def self_check(
    verifier: Verifier,
    gold: str,
    wrong: str | None = None,
    *,
    question: str = "",
    judge: Callable[[VerifyTask], Verdict | None] | None = None,
) -> str | None:
    """What is wrong with judging by this reference, or None.

    Args:
        wrong: an answer that must be refused, besides a response without any answer.
        judge: gives the verdicts; default: ``verifier.verify``, here in this process. None as a verdict says nothing.
    """
    judge = judge or verifier.verify
    stated = verifier.render(gold)
    if stated is not None:
        verdict = judge(VerifyTask("gold", stated, gold, question=question))
        if verdict is not None and verdict.outcome is not Outcome.CORRECT:
            return f"the reference itself is not accepted: {verdict.outcome.value}/{verdict.reason}"
    refused = [NO_ANSWER, *([rendered] if wrong is not None and (rendered := verifier.render(wrong)) else [])]
    for response in refused:
        verdict = judge(VerifyTask("wrong", response, gold, question=question))
        if verdict is not None and verdict.outcome is Outcome.CORRECT:
            return f"a wrong answer is accepted: {response!r}"
    return None
