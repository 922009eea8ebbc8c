"""References that the verifier would never accept: found before a teacher is paid for answers to them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

from factory.errors import DataError
from factory.records import Problem
from factory.sources.result import Dropped
from verifiers import Outcome, VerifierError, VerifierPool, VerifyConfig, VerifyTask, build_verifier
from verifiers.self_check import NO_ANSWER

_DECIDED = (Outcome.CORRECT, Outcome.INCORRECT)


class Usable(NamedTuple):
    """A pool without problems that no response can solve, in the pool's order."""

    kept: list[Problem]
    dropped: list[Dropped]


def usable_golds(problems: Sequence[Problem], config: VerifyConfig) -> Usable:
    """Put every reference to the verifier as a response to itself; what is not accepted is dropped as ``gold_refused``.

    A verdict of ``error`` says nothing about the reference, which stays. Where no response states the reference (the
    tests of a program), only what the verifier cannot use at all is dropped.

    Raises:
        DataError: when no reference is accepted: the recipe names the wrong verifier.
    """
    try:
        with contextlib.closing(build_verifier(config)) as verifier, VerifierPool(config) as pool:
            stated = [verifier.render(p.gold) for p in problems]
            tasks = (
                VerifyTask(p.id, NO_ANSWER if text is None else text, p.gold, question=p.prompt)
                for p, text in zip(problems, stated)
            )
            verdicts = [verdict for _, verdict in pool.verify_all(tasks)]
    except VerifierError as error:
        raise DataError(f"verify: {error}") from error
    usable = Usable([], [])
    for position, (problem, text, verdict) in enumerate(zip(problems, stated, verdicts, strict=True), start=1):
        accepted = (Outcome.CORRECT, Outcome.ERROR) if text is not None else (*_DECIDED, Outcome.ERROR)
        if verdict.outcome in accepted:
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
