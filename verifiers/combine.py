"""Several verifiers, one verdict.

An outcome has four values, so "and" and "or" need a table. C is correct, I incorrect, U unverifiable, E error; rows are
the first member, columns the second (of more members, the result so far and the next one)::

    all_of    C  I  U  E      any_of    C  I  U  E      first_decided    C  I  U  E
       C      C  I  U  E         C      C  C  C  C            C          C  C  C  C
       I      I  I  I  I         I      C  I  U  E            I          I  I  I  I
       U      U  I  U  E         U      C  U  U  E            U          C  I  U  E
       E      E  I  E  E         E      C  E  E  E            E          C  I  E  E

So ``incorrect`` dominates ``all_of`` and ``correct`` dominates ``any_of``; without it, ``error`` (which may go away
when asked again) comes before ``unverifiable``. Neither becomes correct or incorrect unless another member decides.

Members are asked in order and only until the verdict is certain. The verdict carries the reason of the member that
decided, its name in ``rule`` (``math:boxed``), and what all asked members said in ``detail``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, NamedTuple

from verifiers import build_verifier
from verifiers.base import INFRASTRUCTURE_REASONS, Verifier, VerifyTask, error_verdict
from verifiers.config_more import CombineConfig
from verifiers.verdict import Outcome, Verdict

__all__ = ["CombineVerifier", "combine_verdicts"]

Kind = Literal["all_of", "any_of", "first_decided"]

_LONGEST_DETAIL = 20_000
_DECIDES_AT_ONCE: dict[Kind, tuple[Outcome, ...]] = {
    "all_of": (Outcome.INCORRECT,),
    "any_of": (Outcome.CORRECT,),
    "first_decided": (Outcome.CORRECT, Outcome.INCORRECT),
}
_OTHERWISE: dict[Kind, tuple[Outcome, ...]] = {
    "all_of": (Outcome.ERROR, Outcome.UNVERIFIABLE, Outcome.CORRECT),
    "any_of": (Outcome.ERROR, Outcome.UNVERIFIABLE, Outcome.INCORRECT),
    "first_decided": (Outcome.ERROR, Outcome.UNVERIFIABLE),
}


class _Answer(NamedTuple):
    member: str
    verdict: Verdict


class CombineVerifier:
    """``all_of``, ``any_of`` or ``first_decided``, as ``config.kind`` says; ``REASONS`` is the members' together."""

    name: ClassVar[str] = "combine"
    version: ClassVar[int] = 1
    REASONS: ClassVar[tuple[str, ...]] = INFRASTRUCTURE_REASONS
    PRELOAD: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: CombineConfig, members: Sequence[Verifier] | None = None) -> None:
        self._kind: Kind = config.kind
        self._members = tuple(members) if members is not None else tuple(build_verifier(m) for m in config.members)
        # Three kinds over any members: what the protocol calls class variables depends on the config here.
        self.name = config.kind  # type: ignore[misc]
        self.REASONS = _union([*(m.REASONS for m in self._members), INFRASTRUCTURE_REASONS])  # type: ignore[misc]
        self.PRELOAD = _union([m.PRELOAD for m in self._members])  # type: ignore[misc]

    def settle(self, task: VerifyTask) -> Verdict | None:
        """The verdict if the members that ``verify`` would ask can all settle the row, else None."""
        return self._ask(task, lambda member: member.settle(task))

    def verify(self, task: VerifyTask) -> Verdict:
        """The verdict, asking the members in order."""
        verdict = self._ask(task, lambda member: member.settle(task) or member.verify(task))
        return verdict or error_verdict(self, "checker_failed")

    def wall_limit_s(self, task: VerifyTask) -> float:
        """The members' limits together: they run one after the other."""
        return sum(member.wall_limit_s(task) for member in self._members)

    def cpu_limit_s(self, task: VerifyTask) -> float:
        """The members' limits together."""
        return sum(member.cpu_limit_s(task) for member in self._members)

    def render(self, gold: str) -> str | None:
        """What the first member writes that can write the reference."""
        return next((text for member in self._members if (text := member.render(gold)) is not None), None)

    def close(self) -> None:
        """Close every member."""
        for member in self._members:
            member.close()

    def _ask(self, task: VerifyTask, ask: Callable[[Verifier], Verdict | None]) -> Verdict | None:
        start = time.perf_counter()
        answers: list[_Answer] = []
        for member in self._members:
            verdict = ask(member)
            if verdict is None:
                return None
            answers.append(_Answer(member.name, verdict))
            if verdict.outcome in _DECIDES_AT_ONCE[self._kind]:
                break
        return _combined(self._kind, answers, f"{self.name}@{self.version}", time.perf_counter() - start)


VERIFIER = CombineVerifier


def combine_verdicts(kind: Kind, verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict from several on the same row, in order: also from a judge's, which cannot be a member.

    ``seconds`` is their sum. Raises ``ValueError`` when there are none.
    """
    if not verdicts:
        raise ValueError("there are no verdicts to combine")
    answers = [_Answer(verdict.verifier.split("@")[0], verdict) for verdict in verdicts]
    return _combined(kind, answers, f"{kind}@{CombineVerifier.version}", sum(v.seconds for v in verdicts))


def _combined(kind: Kind, answers: Sequence[_Answer], name: str, seconds: float) -> Verdict:
    member, verdict = _deciding(kind, answers)
    rule = f"{member}:{verdict.rule}" if verdict.rule else member
    return Verdict(verdict.outcome, verdict.reason, verdict.extracted, rule, name, seconds, _detail(answers, member))


def _deciding(kind: Kind, answers: Sequence[_Answer]) -> _Answer:
    """The first answer with the outcome that the table gives."""
    for outcomes in (_DECIDES_AT_ONCE[kind], *((outcome,) for outcome in _OTHERWISE[kind])):
        for answer in answers:
            if answer.verdict.outcome in outcomes:
                return answer
    raise AssertionError("outcomes are four")


def _detail(answers: Sequence[_Answer], decided_by: str) -> str:
    """JSON: who decided, and what each said. What members keep beyond that is left out where it is long."""
    length = sum(len(answer.verdict.detail or "") for answer in answers)
    members = []
    for member, verdict in answers:
        kept = {"member": member, "verifier": verdict.verifier, "outcome": verdict.outcome, "reason": verdict.reason}
        if verdict.detail is not None and length <= _LONGEST_DETAIL:
            kept["detail"] = verdict.detail
        members.append(kept)
    return json.dumps({"decided_by": decided_by, "members": members})


def _union(parts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for part in parts for item in part))
