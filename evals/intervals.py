"""Intervals and tests for means over questions.

**What is resampled.** Questions, each with all of its samples. A question's mean already carries the noise of its
samples, so resampling questions alone gets the variance of the benchmark's mean right; resampling the samples again
within each resampled question counts that noise twice and makes intervals too wide (Davison & Hinkley 1997, *Bootstrap
Methods and their Application*, section 3.8; Field & Welsh 2007 on the cluster bootstrap; simulated in
``tests/test_evals_intervals.py``). The target is the mean over questions like these, not over these very questions
(Miller 2024, arXiv 2411.00640).

**Few questions.** A percentile interval is too short for small Q; its tail probabilities are widened to what a t
interval would have (Hesterberg 2015, *What Teachers Should Know About the Bootstrap*: expanded percentile interval).

**Scores near 0 or 1.** Where fewer than ``_FEW`` questions are off the floor, or off the ceiling, a bootstrap cannot
see the tail (all wrong would give [0, 0]). There the Wilson interval at the effective number of questions is taken
(Korn & Graubard 1998): p(1-p) / variance of the mean, and Q itself where the variance is 0.

**Differences** are paired: the same questions, the difference per question, resampled as above. Where fewer than
``_FEW_CHANGED`` questions differ, two pseudo-questions of +1 and -1 are added and a t interval is taken (after Bonett &
Price 2012, who do so for paired proportions). The p-value is that of a two-sided sign-flip test over questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from evals.answers import Correctness
from evals.config import IntervalConfig
from evals.metrics import FloatArray, accuracy_by_question

_NORMAL = NormalDist()
_FEW = 10
_FEW_CHANGED = 5
_CELLS_PER_DRAW = 4_000_000
_DIGITS = 6


@dataclass(frozen=True)
class Estimate:
    """A value with its interval. All are NaN where no question has a judged sample."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """For JSON: rounded to 6 digits, NaN as None."""
        return {name: rounded(number) for name, number in vars(self).items()}


@dataclass(frozen=True)
class Difference(Estimate):
    """Mean paired difference; the p-value is two-sided."""

    p_value: float


def rounded(number: float) -> float | None:
    """As it is written to JSON: 6 digits, no negative zero, NaN as None."""
    return None if math.isnan(number) else round(float(number), _DIGITS) + 0.0


def mean_interval(values: FloatArray, config: IntervalConfig, *, seed: int) -> Estimate:
    """Mean of per-question scores in [0, 1], shape [Q], with its interval. NaN entries are left out."""
    values = values[~np.isnan(values)]
    if not values.size:
        return Estimate(math.nan, math.nan, math.nan)
    mean = float(values.mean())
    informative = min(np.count_nonzero(values > 0), np.count_nonzero(values < 1))
    if informative < _FEW or np.ptp(values) == 0:
        low, high = _effective_wilson(values, config.level)
    else:
        low, high = _expanded_percentiles(values, config, seed)
    return Estimate(mean, min(max(low, 0.0), mean), max(min(high, 1.0), mean))


def bootstrap_mean(correct: Correctness, config: IntervalConfig, *, seed: int) -> Estimate:
    """avg@k with its interval."""
    return mean_interval(accuracy_by_question(list(correct.values())), config, seed=seed)


def wilson_interval(num_correct: int, num_judged: int, level: float = 0.95) -> Estimate:
    """A share of independent trials (Wilson 1927). NaN for no trial."""
    if not 0 <= num_correct <= num_judged:
        raise ValueError(f"wilson_interval: got {num_correct} of {num_judged}")
    if num_judged == 0:
        return Estimate(math.nan, math.nan, math.nan)
    low, high = _wilson(num_correct / num_judged, num_judged, _NORMAL.inv_cdf((1 + level) / 2))
    return Estimate(num_correct / num_judged, low, high)


def paired_difference(new: Correctness, old: Correctness, config: IntervalConfig, *, seed: int) -> Difference:
    """avg@k of ``new`` minus that of ``old`` over the questions where both have a judged sample."""
    return difference_interval(paired_differences(new, old), config, seed=seed)


def paired_differences(new: Correctness, old: Correctness) -> FloatArray:
    """Difference of the accuracies per question, over the questions where both have a judged sample."""
    common = sorted(question for question in new.keys() & old.keys() if len(new[question]) and len(old[question]))
    return _accuracies(new, common) - _accuracies(old, common)


def _accuracies(correct: Correctness, questions: Sequence[str]) -> FloatArray:
    return accuracy_by_question([correct[question] for question in questions])


def difference_interval(differences: FloatArray, config: IntervalConfig, *, seed: int) -> Difference:
    """Mean of per-question differences in [-1, 1], shape [Q], with interval and p-value."""
    if not differences.size:
        return Difference(math.nan, math.nan, math.nan, math.nan)
    mean = float(differences.mean())
    if np.count_nonzero(differences) < _FEW_CHANGED or np.ptp(differences) == 0:
        extended = _with_pseudo_questions(differences)
        half = t_quantile((1 + config.level) / 2, extended.size - 1) * _standard_error(extended)
        low, high = float(extended.mean()) - half, float(extended.mean()) + half
    else:
        low, high = _expanded_percentiles(differences, config, seed)
    p_value = _sign_flip_p(differences, config.num_resamples, seed)
    return Difference(mean, min(max(low, -1.0), mean), max(min(high, 1.0), mean), p_value)


def minimum_detectable_gain(differences: FloatArray, level: float = 0.95, power: float = 0.8) -> float:
    """The true mean difference that a two-sided test at this level would find with this power.

    (t at (1 + level) / 2 plus t at ``power``) times the standard error of the observed paired differences, shape [Q]:
    it holds for so many questions and samples and for changes as uneven as the observed ones. NaN for no question.
    """
    if not differences.size:
        return math.nan
    if np.count_nonzero(differences) < _FEW_CHANGED or np.ptp(differences) == 0:
        differences = _with_pseudo_questions(differences)
    freedom = differences.size - 1
    gain = (t_quantile((1 + level) / 2, freedom) + t_quantile(power, freedom)) * _standard_error(differences)
    return min(gain, 1.0)


def _with_pseudo_questions(differences: FloatArray) -> FloatArray:
    return np.concatenate([differences, [1.0, -1.0]])


def _standard_error(values: FloatArray) -> float:
    return float(values.std(ddof=1)) / math.sqrt(values.size)


def _expanded_percentiles(values: FloatArray, config: IntervalConfig, seed: int) -> tuple[float, float]:
    means = _bootstrap_means(values, config.num_resamples, seed)
    num = values.size
    tail = _NORMAL.cdf(-math.sqrt(num / (num - 1)) * t_quantile((1 + config.level) / 2, num - 1))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _bootstrap_means(values: FloatArray, num_resamples: int, seed: int) -> FloatArray:
    """Means of samples of Q questions drawn with replacement, shape [num_resamples].

    Only how often each distinct value was drawn matters: a multinomial count, much cheaper than drawing indices.
    """
    distinct, counts = np.unique(values, return_counts=True)
    rng = np.random.default_rng(seed)
    rows = max(_CELLS_PER_DRAW // distinct.size, 1)
    parts = []
    for start in range(0, num_resamples, rows):
        drawn = rng.multinomial(values.size, counts / values.size, size=min(rows, num_resamples - start))
        parts.append(drawn @ distinct / values.size)
    return np.concatenate(parts)


def _sign_flip_p(differences: FloatArray, num_flips: int, seed: int) -> float:
    """Two-sided p-value of "the mean difference is 0" if signs of the questions' differences were flipped at random."""
    sizes, counts = np.unique(np.abs(differences), return_counts=True)
    rng = np.random.default_rng(seed)
    observed = abs(float(differences.sum())) - 1e-9
    rows = max(_CELLS_PER_DRAW // sizes.size, 1)
    as_far = 0
    for start in range(0, num_flips, rows):
        positive = rng.binomial(counts, 0.5, size=(min(rows, num_flips - start), sizes.size))
        as_far += int(np.count_nonzero(np.abs((2 * positive - counts) @ sizes) >= observed))
    return (1 + as_far) / (1 + num_flips)


def _effective_wilson(values: FloatArray, level: float) -> tuple[float, float]:
    mean, num = float(values.mean()), values.size
    variance = float(values.var(ddof=1)) / num if num > 1 else 0.0
    effective = mean * (1 - mean) / variance if variance > 0 else num
    return _wilson(mean, effective, t_quantile((1 + level) / 2, max(num - 1, 1)))


def _wilson(share: float, num: float, z: float) -> tuple[float, float]:
    """Wilson interval for ``num`` trials (not necessarily whole)."""
    shrink = 1 + z * z / num
    centre = (share + z * z / (2 * num)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def t_quantile(q: float, freedom: int) -> float:
    """Quantile of Student's t: exact for 1 and 2 degrees of freedom, else Abramowitz & Stegun 26.7.5.

    The error is below 1% for 3 degrees, below 0.01% from 10 on (q up to 0.995).
    """
    if freedom == 1:
        return math.tan(math.pi * (q - 0.5))
    if freedom == 2:
        return (2 * q - 1) * math.sqrt(2 / (1 - (2 * q - 1) ** 2))
    z = _NORMAL.inv_cdf(q)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))
