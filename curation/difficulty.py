"""How hard a problem is for the student: k correct of n judged samples, and which problems that drops.

The threshold is put on the raw rate k/n, as DED does (arXiv 2508.09883). A posterior mean or median would be steadier
at small n, but it is drawn to one half: with 0 of 4 solved it stands at 1/6, and a threshold below that would drop a
problem that the student never solved as too easy. 0 of n is a bin of its own, with a switch of its own.

The price of few samples: of problems with uniformly spread true rates, a threshold of 0.75 keeps 39% of those above it
and drops 6% of those below it with n = 4; 28% and 6% with n = 8; 19% and 5% with n = 16.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from curation.config import DedSelector

DIFFICULTY_REASONS = ("too_easy", "unsolved")


class Posterior(NamedTuple):
    """Posterior of a success probability after k of n, from the uniform prior Beta(1, 1)."""

    mean: float
    low: float
    high: float


@lru_cache(maxsize=65_536)
def pass_rate_posterior(k: int, n: int, level: float = 0.95) -> Posterior:
    """Posterior mean ``(k + 1) / (n + 2)`` and central interval of Beta(k + 1, n - k + 1).

    Raises:
        ValueError: unless 0 <= k <= n.
    """
    check_counts(k, n)
    tail = (1 - level) / 2
    low, high = beta_quantile(tail, k + 1, n - k + 1), beta_quantile(1 - tail, k + 1, n - k + 1)
    return Posterior((k + 1) / (n + 2), low, high)


def beta_quantile(q: float, a: int, b: int) -> float:
    """Quantile of Beta(a, b) for whole a, b >= 1, to about 1e-12, by bisection.

    For whole parameters the distribution function is a binomial tail, a sum of positive terms:
    I_x(a, b) = P(Binomial(a + b - 1, x) >= a)  (Abramowitz & Stegun 26.5.24).
    """
    trials = a + b - 1
    hits = np.arange(a, trials + 1)
    log_ways = np.array([math.log(math.comb(trials, int(j))) for j in hits])
    low, high = 0.0, 1.0
    for _ in range(50):
        x = (low + high) / 2
        below = np.exp(log_ways + hits * math.log(x) + (trials - hits) * math.log1p(-x)).sum()
        low, high = (x, high) if below < q else (low, x)
    return (low + high) / 2


def check_counts(k: int, n: int) -> None:
    """Raises ValueError unless 0 <= k <= n."""
    if not 0 <= k <= n:
        raise ValueError(f"pass counts: got k = {k} correct of n = {n} judged; 0 <= k <= n must hold")


def difficulty_reason(counts: tuple[int, int] | None, selector: DedSelector) -> str | None:
    """The reason of ``DIFFICULTY_REASONS`` that drops a problem, or None. An unmeasured problem is kept."""
    if counts is None or counts[1] == 0:
        return None
    k, n = counts
    if k == 0:
        return "unsolved" if selector.drop_unsolved else None
    return "too_easy" if k / n > selector.max_pass_rate else None
