"""References that the verifier would never accept: found before a teacher is paid for answers to them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import NamedTuple

from factory.errors import DataError
from factory.records import Problem
from factory.sources.result import Dropped
from verifiers import Outcome, Verdict, Verifier, VerifierError, VerifierPool, VerifyConfig, VerifyTask, build_verifier
from verifiers.config import JudgeConfig
from verifiers.self_check import NO_ANSWER

_DECIDED = (Outcome.CORRECT, Outcome.INCORRECT)
_READ_TEXT = ("math", "choice", "regex")
"""Kinds of verifiers to which a reference is an answer, written down."""


class Usable(NamedTuple):
    """A pool without problems that no response can solve, in the pool's order."""

    kept: list[Problem]
    dropped: list[Dropped]


def usable_golds(
    problems: Sequence[Problem],
    config: VerifyConfig | JudgeConfig,
    *,
    where: str = "problems",
    verifier_where: str = "verify",
) -> Usable:
    """Put every reference to the verifier as a response to itself; what is not accepted is dropped as ``gold_refused``.

    A verdict of ``error`` says nothing about the reference, which stays. Where no response states the reference (the
    tests of a program), only what the verifier cannot use at all is dropped. A judge is not asked, because its calls
    are paid for: what it would be asked about stays.

    Args:
        where: the recipe's key of the problems, with which messages begin.
        verifier_where: the recipe's key of the verifier.

    Raises:
        DataError: when no reference is accepted: the recipe names the wrong verifier.
    """
    try:
        with contextlib.closing(build_verifier(config)) as verifier:
            stated = [verifier.render(p.gold) for p in problems]
            tasks = [
                VerifyTask(p.id, NO_ANSWER if text is None else text, p.gold, question=p.prompt)
                for p, text in zip(problems, stated)
            ]
            verdicts = _verdicts(config, verifier, tasks)
    except VerifierError as error:
        raise DataError(f"{verifier_where}: {error}") from error
    usable = Usable([], [])
    for position, (problem, text, verdict) in enumerate(zip(problems, stated, verdicts, strict=True), start=1):
        accepted = (Outcome.CORRECT, Outcome.ERROR) if text is not None else (*_DECIDED, Outcome.ERROR)
        fault = wrong_sort(problem.gold, config)
        if fault is None and verdict is not None and verdict.outcome not in accepted:
            fault = f"{verdict.outcome.value}/{verdict.reason}"
        if fault is None:
            usable.kept.append(problem)
        else:
            detail = f"{fault}: {problem.gold[:200]!r}"
            usable.dropped.append(Dropped(problem.source, position, "gold_refused", detail))
    if problems and not usable.kept:
        raise DataError(
            f"{where}: the verifier {config.kind!r} accepts none of {len(problems)} references as an answer to itself"
            f" (the first: {usable.dropped[0].detail}); look at {verifier_where}.kind and at {where}.columns.gold"
        )
    return usable


def wrong_sort(gold: str, config: VerifyConfig | JudgeConfig) -> str | None:
    """Why a verifier would call every answer wrong although it accepts the reference as an answer to itself, or None.

    The tests of a program are a JSON object, and equal to themselves as any text is.
    """
    if config.kind not in _READ_TEXT or not gold.startswith("{"):
        return None
    try:
        read = json.loads(gold)
    except (ValueError, RecursionError):
        return None
    return (
        f"a JSON object, as verifiers of programs read it; {config.kind!r} reads text"
        if read and isinstance(read, dict)
        else None
    )


def _verdicts(
    config: VerifyConfig | JudgeConfig, verifier: Verifier, tasks: Sequence[VerifyTask]
) -> list[Verdict | None]:
    if isinstance(config, JudgeConfig):
        return [verifier.settle(task) for task in tasks]
    with VerifierPool(config) as pool:
        return [verdict for _, verdict in pool.verify_all(tasks)]
