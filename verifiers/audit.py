"""How far can the verdicts be trusted? A second grader on a sample, and references that the teachers contradict.

An audit changes no verdict: it reports

1. **Disagreement**: a second, independent grader judges a random sample, stratified by outcome, so that the rare
   outcomes are looked at too. Rates are per outcome, with Wilson's interval (Wilson 1927, JASA 22). Where the verdict
   was correct or incorrect, rows on which the second grader decides count, and a disagreement is the other decision.
   Where it was unverifiable or error, rows on which the second grader did not fail count, and a disagreement is that
   it decides.
2. **Suspect references**: problems where more than half of at least three teacher samples give one and the same answer
   and it was judged incorrect. Most suspicious first: by the lower end of the share's interval, which weighs share and
   number. Teachers do share mistakes, so this is a list to read, not to delete.

Rows are read once and may be more than fit into memory: of each outcome only the sampled responses are kept, and of
each problem only the short answers.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from verifiers.base import VerifyTask
from verifiers.verdict import Outcome, Verdict

__all__ = [
    "AuditReport",
    "Disagreement",
    "Grader",
    "Rate",
    "SuspectGold",
    "VerdictRow",
    "audit",
    "one_by_one",
    "same_text",
    "wilson",
]

Grader = Callable[[Iterable[VerifyTask]], Iterable[tuple[VerifyTask, Verdict]]]
"""Verdicts in the order of the tasks: ``VerifierPool.verify_all``, or ``judge_all`` with its engine filled in."""
Same = Callable[[str, str], bool]
"""Whether two extracted answers are the same answer."""

_Z = 1.959963984540054
_LONGEST_ANSWER = 500
_MOST_CLUSTERS = 50


@dataclass(frozen=True)
class VerdictRow:
    """One verdict with what it was about."""

    id: str
    problem_id: str
    gold: str
    response: str
    outcome: Outcome
    reason: str
    extracted: str | None = None
    finish_reason: str | None = None
    question: str = ""

    @classmethod
    def from_mapping(cls, row: Mapping[str, Any]) -> VerdictRow:
        """From a row of a table (pyarrow's ``to_pylist``, a line of JSON). Without ``problem_id`` a problem is its
        question and reference.

        Raises:
            ValueError: a column is missing, or the outcome is none of the four.
        """
        missing = [name for name in ("id", "gold", "response", "outcome") if row.get(name) is None]
        if missing:
            raise ValueError(f"row {row.get('id')!r} has no {', '.join(missing)}")
        gold, question = str(row["gold"]), str(row.get("question") or "")
        problem = row.get("problem_id")
        if problem is None:
            problem = hashlib.sha256(f"{question}\0{gold}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
        optional = {name: row.get(name) for name in ("extracted", "finish_reason")}
        return cls(
            id=str(row["id"]),
            problem_id=str(problem),
            gold=gold,
            response=str(row["response"]),
            outcome=Outcome(row["outcome"]),
            reason=str(row.get("reason") or ""),
            question=question,
            **{name: None if value is None else str(value) for name, value in optional.items()},
        )


@dataclass(frozen=True)
class Rate:
    """How often the second grader disagrees with verdicts of one outcome."""

    outcome: Outcome
    num_rows: int
    """Verdicts of this outcome in all."""
    num_sampled: int
    num_failed: int
    """Sampled rows on which the second grader erred."""
    num_judged: int
    """Sampled rows that count."""
    num_disagree: int
    rate: float | None
    """None where no row counts."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None


@dataclass(frozen=True)
class Disagreement:
    """One row to read."""

    id: str
    problem_id: str
    gold: str
    outcome: Outcome
    reason: str
    extracted: str | None
    second_outcome: Outcome
    second_reason: str
    second_extracted: str | None
    second_verifier: str


@dataclass(frozen=True)
class SuspectGold:
    """A problem whose samples agree on an answer that was judged incorrect."""

    problem_id: str
    gold: str
    answer: str
    """As the first of the agreeing samples writes it."""
    num_agree: int
    num_samples: int
    """Samples with an answer."""
    share: float
    low: float
    """Lower end of the share's 95 % interval: what the list is ordered by."""
    ids: tuple[str, ...]
    """Rows of the agreeing samples."""


@dataclass(frozen=True)
class AuditReport:
    """What an audit found."""

    rates: tuple[Rate, ...]
    disagreements: tuple[Disagreement, ...]
    suspect_golds: tuple[SuspectGold, ...]
    num_problems_too_few: int
    """Problems with fewer samples than asked for, of which nothing is said."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass
class _Problem:
    gold: str
    answers: list[tuple[str, str, Outcome]] = field(default_factory=list)
    """Answer, row id and outcome of each sample."""


def audit(
    rows: Iterable[VerdictRow],
    second: Grader | None,
    *,
    same: Same | None = None,
    num_per_outcome: int = 100,
    seed: int = 0,
    min_samples: int = 3,
) -> AuditReport:
    """Check a sample of verdicts with ``second`` (None: only suspect references) and list suspect references.

    The sample of an outcome is the ``num_per_outcome`` rows whose id has the smallest hash under ``seed``: the order of
    the rows plays no part. ``same`` compares extracted answers (default: ``same_text``) and should be quick.

    Raises:
        ValueError: ``second`` returned other rows than it was given, or a number is too small.
    """
    if num_per_outcome < 1 or min_samples < 2:
        raise ValueError("num_per_outcome must be at least 1 and min_samples at least 2")
    sampler = _Sampler(num_per_outcome, seed)
    problems: dict[str, _Problem] = {}
    for row in rows:
        sampler.add(row)
        problem = problems.setdefault(row.problem_id, _Problem(row.gold))
        if row.extracted and row.outcome is not Outcome.ERROR and row.reason != "truncated":
            problem.answers.append((row.extracted[:_LONGEST_ANSWER], row.id, row.outcome))
    rates, disagreements = _second_opinion(sampler, second) if second else ((), ())
    suspects = [
        suspect
        for problem_id, problem in problems.items()
        if len(problem.answers) >= min_samples
        and (suspect := _suspect(problem_id, problem, same or same_text)) is not None
    ]
    suspects.sort(key=lambda s: (-s.low, -s.num_agree, s.problem_id))
    too_few = sum(len(problem.answers) < min_samples for problem in problems.values())
    return AuditReport(rates, disagreements, tuple(suspects), too_few)


def one_by_one(grade: Callable[[VerifyTask], Verdict]) -> Grader:
    """A grader from a function of one task."""

    def grader(tasks: Iterable[VerifyTask]) -> Iterator[tuple[VerifyTask, Verdict]]:
        for task in tasks:
            yield task, grade(task)

    return grader


def wilson(num_hits: int, num: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson's score interval, without continuity correction); (0, 1) for none."""
    if num == 0:
        return 0.0, 1.0
    share = num_hits / num
    centre = share + _Z**2 / (2 * num)
    spread = _Z * math.sqrt(share * (1 - share) / num + _Z**2 / (4 * num**2))
    scale = 1 + _Z**2 / num
    low = 0.0 if num_hits == 0 else (centre - spread) / scale
    return low, 1.0 if num_hits == num else (centre + spread) / scale


def same_text(a: str, b: str) -> bool:
    """Equal but for case, spacing, Unicode forms, dollar signs and a full stop."""
    return _key(a) == _key(b)


def _key(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split()).strip("$. ").casefold()


class _Sampler:
    """Keeps of each outcome the rows with the smallest hashes."""

    def __init__(self, num_per_outcome: int, seed: int) -> None:
        self._num = num_per_outcome
        self._seed = seed
        self._heaps: dict[Outcome, list[tuple[int, int, VerdictRow]]] = defaultdict(list)
        self.num_rows: Counter[Outcome] = Counter()

    def add(self, row: VerdictRow) -> None:
        self.num_rows[row.outcome] += 1
        text = f"{self._seed}\0{row.id}\0{row.problem_id}".encode("utf-8", "surrogatepass")
        rank = -int.from_bytes(hashlib.sha256(text).digest()[:8])
        entry = (rank, self.num_rows.total(), row)  # the running number keeps rows of one id apart
        heap = self._heaps[row.outcome]
        if len(heap) < self._num:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)

    def rows(self) -> list[VerdictRow]:
        """The sample, by outcome and hash."""
        return [row for outcome in Outcome for _, _, row in sorted(self._heaps[outcome], key=lambda e: -e[0])]


def _second_opinion(sampler: _Sampler, second: Grader) -> tuple[tuple[Rate, ...], tuple[Disagreement, ...]]:
    sample = sampler.rows()
    tasks = [VerifyTask(row.id, row.response, row.gold, row.finish_reason, row.question) for row in sample]
    answers = list(second(tasks))
    if [task.id for task, _ in answers] != [task.id for task in tasks]:
        raise ValueError(f"the second grader was given {len(tasks)} rows and returned {len(answers)}, or others")
    pairs = [(row, verdict) for row, (_, verdict) in zip(sample, answers)]
    rates = tuple(_rate(outcome, sampler.num_rows[outcome], pairs) for outcome in Outcome if sampler.num_rows[outcome])
    return rates, tuple(
        _disagreement(row, verdict) for row, verdict in pairs if _disagree(row.outcome, verdict.outcome)
    )


_DECIDED = (Outcome.CORRECT, Outcome.INCORRECT)


def _counts(first: Outcome, second: Outcome) -> bool:
    return second in _DECIDED if first in _DECIDED else second is not Outcome.ERROR


def _disagree(first: Outcome, second: Outcome) -> bool:
    return second in _DECIDED and second is not first


def _rate(outcome: Outcome, num_rows: int, pairs: list[tuple[VerdictRow, Verdict]]) -> Rate:
    seconds = [verdict.outcome for row, verdict in pairs if row.outcome is outcome]
    num_judged = sum(_counts(outcome, second) for second in seconds)
    num_disagree = sum(_disagree(outcome, second) for second in seconds)
    low, high = wilson(num_disagree, num_judged) if num_judged else (None, None)
    return Rate(
        outcome=outcome,
        num_rows=num_rows,
        num_sampled=len(seconds),
        num_failed=seconds.count(Outcome.ERROR),
        num_judged=num_judged,
        num_disagree=num_disagree,
        rate=num_disagree / num_judged if num_judged else None,
        low=low,
        high=high,
    )


def _disagreement(row: VerdictRow, second: Verdict) -> Disagreement:
    return Disagreement(
        id=row.id,
        problem_id=row.problem_id,
        gold=row.gold,
        outcome=row.outcome,
        reason=row.reason,
        extracted=row.extracted,
        second_outcome=second.outcome,
        second_reason=second.reason,
        second_extracted=second.extracted,
        second_verifier=second.verifier,
    )


def _suspect(problem_id: str, problem: _Problem, same: Same) -> SuspectGold | None:
    """The majority's answer, if it was judged incorrect."""
    if not any(outcome is Outcome.INCORRECT for _, _, outcome in problem.answers):
        return None
    cluster = _largest_cluster(problem.answers, same)
    num_agree, num = len(cluster), len(problem.answers)
    judged_incorrect = sum(outcome is Outcome.INCORRECT for _, _, outcome in cluster)
    if 2 * num_agree <= num or judged_incorrect < num_agree:
        return None
    low, _ = wilson(num_agree, num)
    ids = tuple(row_id for _, row_id, _ in cluster)
    return SuspectGold(problem_id, problem.gold, cluster[0][0], num_agree, num, num_agree / num, low, ids)


def _largest_cluster(answers: list[tuple[str, str, Outcome]], same: Same) -> list[tuple[str, str, Outcome]]:
    """The samples that give the most frequent answer; each is compared with the first of each answer so far."""
    clusters: list[list[tuple[str, str, Outcome]]] = []
    for answer in answers:
        for cluster in clusters[:_MOST_CLUSTERS]:
            if same_text(cluster[0][0], answer[0]) or same(cluster[0][0], answer[0]):
                cluster.append(answer)
                break
        else:
            clusters.append([answer])
    return max(clusters, key=len)
