"""The pass rate's posterior against known values, and the rule that drops problems by it."""

from __future__ import annotations

import math

import pytest

from curation.config import DedSelector
from curation.difficulty import beta_quantile, difficulty_reason, pass_rate_posterior


@pytest.mark.parametrize("q", [0.001, 0.025, 0.5, 0.975, 0.999])
@pytest.mark.parametrize("n", [1, 2, 8, 64, 1024])
def test_beta_quantile_matches_its_closed_forms(q: float, n: int) -> None:
    assert beta_quantile(q, n, 1) == pytest.approx(q ** (1 / n), abs=1e-12)
    assert beta_quantile(q, 1, n) == pytest.approx(-math.expm1(math.log1p(-q) / n), abs=1e-12)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(3, 10, 0.0667, 0.6525), (5, 10, 0.1871, 0.8129), (1, 20, 0.0013, 0.2487), (15, 20, 0.5090, 0.9134)],
)
def test_beta_quantile_gives_the_tabulated_clopper_pearson_limits(k: int, n: int, low: float, high: float) -> None:
    assert beta_quantile(0.025, k, n - k + 1) == pytest.approx(low, abs=6e-5)
    assert beta_quantile(0.975, k + 1, n - k) == pytest.approx(high, abs=6e-5)


def test_beta_quantile_inverts_a_numerically_integrated_density() -> None:
    a, b, steps = 4, 7, 20_000
    x = beta_quantile(0.3, a, b)
    norm = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
    points = ((i + 0.5) * x / steps for i in range(steps))
    assert sum(norm * t ** (a - 1) * (1 - t) ** (b - 1) for t in points) * x / steps == pytest.approx(0.3, abs=1e-7)


def test_posterior_without_data_is_uniform_and_is_mirrored_by_failures() -> None:
    mean, low, high = pass_rate_posterior(0, 0)
    assert (mean, low, high) == (0.5, pytest.approx(0.025), pytest.approx(0.975))
    few, many = pass_rate_posterior(2, 8), pass_rate_posterior(6, 8)
    assert few.mean == pytest.approx(0.3)
    assert (few.low, few.high) == (pytest.approx(1 - many.high), pytest.approx(1 - many.low))


@pytest.mark.parametrize("counts", [(3, 2), (-1, 4)])
def test_impossible_counts_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="0 <= k <= n"):
        pass_rate_posterior(*counts)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((8, 8), "too_easy"),
        ((7, 8), "too_easy"),
        ((6, 8), None),  # exactly the threshold
        ((3, 4), None),
        ((1, 1), "too_easy"),
        ((1, 8), None),
        ((0, 8), None),
        ((0, 0), None),
        (None, None),
    ],
)
def test_problems_solved_more_often_than_the_threshold_are_too_easy(
    counts: tuple[int, int] | None, expected: str | None
) -> None:
    assert difficulty_reason(counts, DedSelector(max_pass_rate=0.75)) == expected


def test_never_solved_is_a_bin_of_its_own() -> None:
    strict = DedSelector(max_pass_rate=0.0, drop_unsolved=True)
    assert [difficulty_reason(c, strict) for c in [(0, 4), (1, 4), (0, 0), None]] == [
        "unsolved",
        "too_easy",
        None,
        None,
    ]
    assert difficulty_reason((0, 4), DedSelector(max_pass_rate=0.0)) is None


@pytest.mark.parametrize(("k", "n"), [(k, n) for n in (3, 7, 10, 20, 100) for k in range(1, n)])
def test_a_rate_written_as_decimal_is_not_above_itself(k: int, n: int) -> None:
    assert difficulty_reason((k, n), DedSelector(max_pass_rate=float(str(k / n)))) is None
