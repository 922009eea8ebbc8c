"""DED's selection (arXiv 2508.09883): compress by the student's pass rate, then re-expand by distant traces."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from curation.config import DedSelector
from curation.difficulty import difficulty_reason
from curation.diversity import farthest
from curation.draw import draw_key
from curation.sieve import Sieve

logger = logging.getLogger(__name__)


def select_ded(sieve: Sieve, selector: DedSelector, size: int, seed: int) -> None:
    """Three steps: ``difficulty`` drops problems, ``diversity`` keeps the farthest P of each, ``size`` trims."""
    _drop_by_difficulty(sieve, selector)
    chosen = _keep_farthest(sieve, selector.traces_per_problem)
    problems = sorted(chosen, key=lambda problem: (draw_key(seed, "problem", problem), problem))
    sieve.drop("size", dict.fromkeys(round_robin(chosen, problems)[size:], "over_size"))


def _drop_by_difficulty(sieve: Sieve, selector: DedSelector) -> None:
    drops: dict[int, str] = {}
    unknown = 0
    for problem, rows in sieve.by_problem().items():
        counts = sieve.pass_counts.get(problem)
        reason = difficulty_reason(counts, selector)
        if reason:
            drops |= dict.fromkeys(rows, reason)
        unknown += not counts or counts[1] == 0
    sieve.drop("difficulty", drops)
    if unknown:
        logger.warning("no judged sample of the student for %d problems: difficulty unknown, they are kept", unknown)


def _keep_farthest(sieve: Sieve, num_chosen: int) -> dict[str, list[int]]:
    """The chosen rows of every problem, in the order in which they were chosen: the shortest, then the farthest."""
    traces, digests = sieve.traces, sieve.filtered.digests
    chosen: dict[str, list[int]] = {}
    for problem, group in sieve.by_problem().items():
        rows = sorted(group, key=lambda row: (traces.num_tokens[row], traces.order(row), digests[row]))
        unknown = sieve.pass_counts.get(problem, (0, 0))[1] == 0
        for pick in farthest([traces.response[row] for row in rows], num_chosen):
            reason = "shortest" if pick.distance is None else "farthest"
            row = rows[pick.place]
            chosen.setdefault(problem, []).append(row)
            sieve.keep_reasons[row] = f"{reason}; difficulty_unknown" if unknown else reason
            sieve.distances[row] = pick.distance
    sieve.drop("diversity", {row: "not_farthest" for row in sieve.kept() if row not in sieve.keep_reasons})
    return chosen


def round_robin(chosen: Mapping[str, Sequence[int]], problems: Sequence[str]) -> list[int]:
    """The first trace of every problem, then the second of every problem that has one, and so on.

    Any beginning of this list covers as many problems as it can, and holds of each the traces that a smaller P would
    have chosen. Where more problems are left than wanted examples, these are the shortest traces only.
    """
    longest = max((len(rows) for rows in chosen.values()), default=0)
    return [chosen[problem][turn] for turn in range(longest) for problem in problems if turn < len(chosen[problem])]
