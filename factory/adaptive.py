"""Which problems get further samples, and why the others stop: pure arithmetic on verdicts and lengths.

A decision depends on the samples of completed waves only, so equal recipes and equal answers give equal decisions,
whatever the order of arrival, and a resumed run decides as an undisturbed one.

A problem's samples are taken as draws with one unknown probability of success, which follows Beta(a, b) over the
problems; after k successes in n decided samples it follows Beta(a + k, b + n - k) (Gelman et al., Bayesian Data
Analysis, 2.4). When a problem stops depends on its samples, but a posterior does not depend on the stopping rule. What
is neither success nor failure (no verdict, no answer) counts in neither k nor n, but is a sample that was asked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol, TypeVar

import numpy as np

T = TypeVar("T")

Stop = Literal["enough", "hopeless", "settled", "undecided", "refused", "max_samples", "budget"]
"""``enough``: the wanted number of successes. ``hopeless``: the chance to get there is below the bound. ``settled``:
the band of the pass rate. ``undecided``: its first samples were all neither right nor wrong. ``refused``: a request of
it failed for good, as the next would. ``max_samples``: all were asked. ``budget``: no tokens were left for it."""

MOST_UNDECIDED = 4
"""A problem whose first so many samples are all neither right nor wrong is given up: the next would hardly differ."""
_MEANS = 49
_CONCENTRATIONS = 25
_WAVE_SHARE = 0.5


class Beta(NamedTuple):
    """A Beta distribution."""

    a: float
    b: float

    @property
    def mean(self) -> float:
        return self.a / (self.a + self.b)

    def after(self, k: int, n: int) -> Beta:
        """The posterior after k successes in n."""
        return Beta(self.a + k, self.b + n - k)


UNIFORM = Beta(1.0, 1.0)


@dataclass
class Tally:
    """What is known of one problem after some waves."""

    id: str
    asked: int = 0
    successes: int = 0
    decided: int = 0
    """Successes and failures."""
    tokens: int = 0
    """Completion tokens of all samples that arrived."""
    arrived: int = 0
    refused: bool = False
    """A request failed in a way that asking for another sample cannot mend."""
    waves: int = 0
    """Waves that asked for it."""
    stopped: Stop | None = None


class Policy(Protocol):
    """When a problem is settled, and what its next sample is worth."""

    @property
    def max_samples(self) -> int:
        """Most samples of one problem."""
        ...

    def stop(self, tally: Tally, prior: Beta) -> Stop | None:
        """Why the problem gets no further sample, or None."""
        ...

    def likely_needed(self, tally: Tally, prior: Beta) -> int:
        """About how many samples would settle the problem, at least 1; a wave asks no more of it."""
        ...

    def gain(self, tally: Tally, prior: Beta) -> float:
        """What its next sample is worth, in a unit that is common to all problems."""
        ...


@dataclass(frozen=True)
class EnoughSuccesses:
    """Until ``wanted`` successes, unless the chance to get there within ``max_samples`` is below ``min_chance``."""

    wanted: int
    max_samples: int
    min_chance: float

    def stop(self, tally: Tally, prior: Beta) -> Stop | None:
        if tally.successes >= self.wanted:
            return "enough"
        if tally.asked and self.chance(tally, prior) < self.min_chance:
            return "hopeless" if tally.asked < self.max_samples else "max_samples"
        return None

    def chance(self, tally: Tally, prior: Beta) -> float:
        """To reach ``wanted`` within ``max_samples``."""
        left = self.max_samples - tally.asked
        return chance_of_at_least(self.wanted - tally.successes, left, prior.after(tally.successes, tally.decided))

    def likely_needed(self, tally: Tally, prior: Beta) -> int:
        """As many as would bring the missing successes, but no more than would end it if all were failures."""
        mean = prior.after(tally.successes, tally.decided).mean
        likely = max(int((self.wanted - tally.successes) / mean), 1)
        for count in range(1, likely):
            if self.chance(_continued(tally, count, 0), prior) < self.min_chance:
                return count
        return likely

    def gain(self, tally: Tally, prior: Beta) -> float:
        """Expected finished problems per sample: the chance to finish over the samples that this would take."""
        mean = prior.after(tally.successes, tally.decided).mean
        return self.chance(tally, prior) * mean / (self.wanted - tally.successes)


@dataclass(frozen=True)
class SettledBand:
    """Until the posterior holds the band of its mean with ``confidence``.

    Never and always are bands of their own, and what is asked of them is about the whole measurement: a problem with
    no success (or no failure) so far is settled when it would stay so up to ``max_samples`` with ``confidence``, and
    the outermost band of the rate holds as much.
    """

    edges: tuple[float, ...]
    max_samples: int
    confidence: float

    def stop(self, tally: Tally, prior: Beta) -> Stop | None:
        return "settled" if tally.decided and self.mass(tally, prior) >= self.confidence else None

    def mass(self, tally: Tally, prior: Beta) -> float:
        """Posterior probability of the band in which the mean lies."""
        posterior = prior.after(tally.successes, tally.decided)
        bounds = (0.0, *self.edges, 1.0)
        at = int(np.searchsorted(self.edges, posterior.mean, side="left"))
        inside = beta_cdf(bounds[at + 1], posterior) - beta_cdf(bounds[at], posterior)
        left = self.max_samples - tally.asked
        if tally.successes == 0:
            return min(inside, 1 - chance_of_at_least(1, left, posterior))
        if tally.successes == tally.decided:
            return min(inside, chance_of_at_least(left, left, posterior))
        return inside

    def likely_needed(self, tally: Tally, prior: Beta) -> int:
        """The least that can settle it, if all succeed, all fail, or as many as expected succeed."""
        mean = prior.after(tally.successes, tally.decided).mean
        for count in range(1, self.max_samples - tally.asked):
            if any(self.stop(_continued(tally, count, k), prior) for k in {0, round(mean * count), count}):
                return count
        return self.max_samples

    def gain(self, tally: Tally, prior: Beta) -> float:
        """By how much one more sample is expected to lower the posterior's variance."""
        a, b = prior.after(tally.successes, tally.decided)
        total = a + b
        return a * b / (total * (total + 1)) ** 2


def _continued(tally: Tally, num_samples: int, successes: int) -> Tally:
    """The tally after further samples, all of them decided."""
    return replace(
        tally,
        asked=tally.asked + num_samples,
        successes=tally.successes + successes,
        decided=tally.decided + num_samples,
    )


class Waves:
    """Plans wave after wave; tell ``add`` every sample of a wave before the next is planned.

    Args:
        first_wave: samples of every problem in the first wave.
        growth: each further wave asks so many times as many.
        prior: of the success probabilities; None fits it to the tallies before every wave.
        budget: completion tokens to spend, or None. Waves are planned with expected lengths and take half of what is
            left at most, so it is exceeded only by as much as a wave's answers are longer than expected.
        max_tokens: longest completion; what one is expected to cost while none was seen.
    """

    def __init__(
        self,
        problem_ids: Sequence[str],
        policy: Policy,
        *,
        first_wave: int,
        growth: float,
        prior: Beta | None,
        budget: int | None,
        max_tokens: int,
    ) -> None:
        self.tallies = [Tally(problem_id) for problem_id in problem_ids]
        self.wave_sizes: list[int] = []
        """Samples of each wave so far."""
        self._policy = policy
        self._first, self._growth = first_wave, growth
        self._fixed_prior, self._budget, self._max_tokens = prior, budget, max_tokens
        self.prior = prior or UNIFORM

    def add(self, index: int, *, success: bool | None, num_tokens: int | None, refused: bool = False) -> None:
        """One sample of the problem at ``index``.

        Args:
            success: None where it was neither.
            num_tokens: None where none arrived.
            refused: the request failed for good.
        """
        tally = self.tallies[index]
        tally.asked += 1
        tally.refused |= refused
        tally.successes += success is True
        tally.decided += success is not None
        if num_tokens is not None:
            tally.tokens += num_tokens
            tally.arrived += 1

    def plan(self) -> list[tuple[int, range]]:
        """The next wave: places of problems and their next sample indices. Empty when all have stopped."""
        if self._fixed_prior is None:
            self.prior = fit_prior((t.successes, t.decided) for t in self.tallies)
        stop_of, size_of = _by_counts(self._stop), _by_counts(self._policy_size)
        going = []
        for index, tally in enumerate(self.tallies):
            tally.stopped = tally.stopped or stop_of(tally)
            if tally.stopped is None:
                going.append(index)
        sizes = {index: min(self._most(self.tallies[index]), size_of(self.tallies[index])) for index in going}
        if self._budget is not None:
            sizes = self._affordable(sizes)
        if sizes:
            self.wave_sizes.append(sum(sizes.values()))
        for index in sizes:
            self.tallies[index].waves += 1
        return [(i, range(self.tallies[i].asked, self.tallies[i].asked + size)) for i, size in sorted(sizes.items())]

    def stopped(self) -> dict[str, int]:
        """Problems by why they stopped; call it when ``plan`` is empty."""
        return dict(sorted(Counter(str(t.stopped) for t in self.tallies).items()))

    def _stop(self, tally: Tally) -> Stop | None:
        reason = self._policy.stop(tally, self.prior)
        if reason is None and tally.asked >= self._policy.max_samples:
            return "max_samples"
        if reason is None and tally.refused:
            return "refused"
        if reason is None and tally.asked >= MOST_UNDECIDED and not tally.decided:
            return "undecided"
        return reason

    def _most(self, tally: Tally) -> int:
        wave = self._first * self._growth ** min(tally.waves, 64)
        return min(math.ceil(wave - 1e-9), self._policy.max_samples - tally.asked)

    def _policy_size(self, tally: Tally) -> int:
        """What the policy has use for; all there is where nothing is known yet."""
        return self._policy.likely_needed(tally, self.prior) if tally.asked else self._policy.max_samples

    def _affordable(self, sizes: Mapping[int, int]) -> dict[int, int]:
        """The part of a wave that the budget is best spent on; at most half of what is left, so that later waves can
        use what this one teaches. Problems for which nothing is left stop."""
        costs = self._costs()
        left = max((self._budget or 0) - sum(t.tokens for t in self.tallies), 0)
        gain = _by_counts(lambda tally: self._policy.gain(tally, self.prior))
        order = sorted(sizes, key=lambda i: (-gain(self.tallies[i]) / costs[i], self.tallies[i].id))
        chosen: dict[int, int] = {}
        limit = left * _WAVE_SHARE
        for index in order:
            count = min(sizes[index], int(limit / costs[index]))
            if not chosen and not count and costs[index] <= left:
                count = 1  # the last of the money
            if count:
                chosen[index] = count
                limit -= count * costs[index]
        if not chosen:
            for index in sizes:
                self.tallies[index].stopped = "budget"
        return chosen

    def _costs(self) -> list[float]:
        """Expected tokens of each problem's next sample: its own mean, the mean of all standing in for one sample."""
        tokens, arrived = sum(t.tokens for t in self.tallies), sum(t.arrived for t in self.tallies)
        overall = max(tokens / arrived, 1.0) if arrived else float(self._max_tokens)
        return [(t.tokens + overall) / (t.arrived + 1) for t in self.tallies]


def _by_counts(function: Callable[[Tally], T]) -> Callable[[Tally], T]:
    """The function, worked out once for all problems with equal counts: there are many problems and few counts."""
    known: dict[tuple[int, int, int], T] = {}

    def looked_up(tally: Tally) -> T:
        key = (tally.asked, tally.successes, tally.decided)
        if key not in known:
            known[key] = function(tally)
        return known[key]

    return looked_up


@lru_cache(maxsize=65_536)
def chance_of_at_least(wanted: int, trials: int, success: Beta) -> float:
    """P(at least ``wanted`` successes in ``trials``), the success probability following ``success``.

    The tail of the beta-binomial distribution (Johnson, Kemp and Kotz, Univariate Discrete Distributions, 6.2.2).
    """
    if wanted <= 0:
        return 1.0
    if wanted > trials:
        return 0.0
    a, b = success
    base = math.lgamma(trials + 1) - _log_beta(a, b)
    terms = (
        base - math.lgamma(j + 1) - math.lgamma(trials - j + 1) + _log_beta(a + j, b + trials - j)
        for j in range(wanted, trials + 1)
    )
    return min(math.fsum(math.exp(term) for term in terms), 1.0)


@lru_cache(maxsize=65_536)
def beta_cdf(x: float, beta: Beta) -> float:
    """P(a Beta variable <= x), to about 1e-12.

    By the continued fraction of the incomplete beta function (DLMF 8.17.22) with Lentz's method, on the side of the
    mean where it converges fast.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    a, b = beta
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, Beta(b, a))
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - _log_beta(a, b)) / a
    return front / _continued_fraction(x, a, b)


def _continued_fraction(x: float, a: float, b: float) -> float:
    """1 + d1/(1 + d2/(1 + ...)) of DLMF 8.17.22."""
    tiny = 1e-300
    value, numerator, denominator = 1.0, 1.0, 0.0
    for step in range(1, 10_000):
        m = step // 2
        if step % 2:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        denominator = 1 / ((1 + d * denominator) or tiny)
        numerator = (1 + d / numerator) or tiny
        value *= numerator * denominator
        if abs(numerator * denominator - 1) < 1e-14:
            break
    return value


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def fit_prior(counts: Iterable[tuple[int, int]]) -> Beta:
    """The Beta prior under which the problems' (k, n) are most likely: empirical Bayes on a fixed grid.

    A fixed grid, so that rounding does not move the result: means 0.02 to 0.98, a + b from 1/4 to 1024. A weak belief
    keeps few problems from being taken for all: two problems' worth of even verdicts, and a + b near 2, give or take a
    factor of e.
    """
    seen = Counter((k, n) for k, n in counts if n)
    if not seen:
        return UNIFORM
    means = np.linspace(0.02, 0.98, _MEANS)[:, None]
    totals = 2.0 ** np.linspace(-2, 10, _CONCENTRATIONS)[None, :]
    a, b = means * totals, (1 - means) * totals
    score = np.log(means) + np.log1p(-means) - np.log(totals / 2) ** 2 / 2
    most = max(n for _, n in seen)
    right, wrong, both = (_log_rising(value + 0 * means, most) for value in (a, b, totals))
    for (k, n), count in sorted(seen.items()):
        score = score + count * (right[k] + wrong[n - k] - both[n])
    row, column = np.unravel_index(int(np.argmax(np.round(score, 6))), score.shape)
    return Beta(float(a[row, column]), float(b[row, column]))


def _log_rising(start: np.ndarray, most: int) -> np.ndarray:
    """log of start (start + 1) ... (start + i - 1) for i = 0 ... most, along a new first axis."""
    steps = np.log(start[None] + np.arange(most).reshape(-1, 1, 1))
    return np.concatenate([np.zeros((1, *start.shape)), np.cumsum(steps, axis=0)])
