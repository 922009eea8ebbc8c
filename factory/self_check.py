"""References that the verifier would never accept: found before a teacher is paid for answers to them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

from factory.errors import DataError
from factory.records import Problem
from factory.sources.result import Dropped
from verifiers import Outcome, VerifierError, VerifierPool, VerifyConfig, VerifyTask, build_verifier


class Usable(NamedTuple):
    """A pool without problems that no response can solve, in the pool's order."""

    kept: list[Problem]
    dropped: list[Dropped]


def usable_golds(problems: Sequence[Problem], config: VerifyConfig) -> Usable:
    """Put every reference to the verifier as a response to itself; what is not accepted is dropped as ``gold_refused``.

    A verdict of ``error`` says nothing about the reference, which stays. Of code, no response is known beforehand.

    Raises:
        DataError: when no reference is accepted: the recipe names the wrong verifier.
    """
    try:
        with contextlib.closing(build_verifier(config)) as verifier, VerifierPool(config) as pool:
            tasks = (VerifyTask(p.id, verifier.render(p.gold) or "", p.gold, question=p.prompt) for p in problems)
            verdicts = [verdict for _, verdict in pool.verify_all(task for task in tasks if task.response)]
    except VerifierError as error:
        raise DataError(f"verify: {error}") from error
    if len(verdicts) != len(problems):
        return Usable(list(problems), [])
    usable = Usable([], [])
    for position, (problem, verdict) in enumerate(zip(problems, verdicts, strict=True), start=1):
        if verdict.outcome in (Outcome.CORRECT, Outcome.ERROR):
            usable.kept.append(problem)
        else:
            detail = f"{verdict.outcome.value}/{verdict.reason}: {problem.gold[:200]!r}"
            usable.dropped.append(Dropped(problem.source, position, "gold_refused", detail))
    if problems and not usable.kept:
        raise DataError(
            f"problems: the verifier {config.kind!r} accepts none of {len(problems)} references as an answer to itself"
            f" (the first: {usable.dropped[0].detail}); look at verify.kind and at problems.columns.gold"
        )
    return usable
