"""Intervals and p-values by simulation and against known values. All simulations are seeded."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest

from evals.config import IntervalConfig
from evals.intervals import (
    Difference,
    Estimate,
    bootstrap_mean,
    difference_interval,
    mean_interval,
    minimum_detectable_gain,
    paired_difference,
    t_quantile,
    wilson_interval,
)

FloatArray = npt.NDArray[np.float64]
FAST = IntervalConfig(num_resamples=300)


def answered(rng: np.random.Generator, rates: FloatArray, num_samples: int) -> FloatArray:
    """Observed accuracy per question."""
    return rng.binomial(num_samples, rates) / num_samples


def harder(rates: FloatArray, rng: np.random.Generator, shift: float) -> FloatArray:
    """Rates of a model that is ``shift`` logits better on average, unevenly."""
    logits = np.log(rates / (1 - rates)) + shift + 0.5 * rng.standard_normal(rates.shape)
    return np.asarray(1 / (1 + np.exp(-logits)))


# Mean accuracy from 2% to 93%; questions alike, spread out, or mostly hopeless.
@pytest.mark.parametrize(
    ("a", "b", "num_questions", "num_samples"),
    [
        (1, 1, 100, 4),
        (0.5, 0.5, 100, 4),
        (2, 18, 100, 4),
        (0.2, 1.8, 100, 4),
        (4, 0.3, 100, 4),
        (0.1, 4.9, 100, 4),
        (0.5, 0.5, 30, 16),
        (0.2, 1.8, 30, 1),
        (1, 1, 12, 4),
        (0.1, 4.9, 30, 4),
    ],
)
def test_intervals_of_means_cover_at_the_nominal_level(
    a: float, b: float, num_questions: int, num_samples: int
) -> None:
    rng, hits, repeats = np.random.default_rng(11), 0, 400
    for repeat in range(repeats):
        values = answered(rng, rng.beta(a, b, num_questions), num_samples)
        found = mean_interval(values, FAST, seed=repeat)
        hits += found.low <= a / (a + b) <= found.high
    assert 0.92 <= hits / repeats <= 0.985


@pytest.mark.parametrize(
    ("a", "b", "num_questions", "num_samples", "shift"),
    [(1, 1, 100, 4, 0.7), (0.2, 1.8, 100, 4, 0.7), (4, 1, 100, 4, 0.0), (1, 1, 30, 1, 0.7), (1, 1, 12, 4, 0.7)],
)
def test_intervals_of_paired_differences_cover_at_the_nominal_level(
    a: float, b: float, num_questions: int, num_samples: int, shift: float
) -> None:
    rng, hits, repeats = np.random.default_rng(12), 0, 400
    many = rng.beta(a, b, 400_000).clip(1e-9, 1 - 1e-9)
    truth = float((harder(many, rng, shift) - many).mean())
    for repeat in range(repeats):
        rates = rng.beta(a, b, num_questions).clip(1e-9, 1 - 1e-9)
        new, old = answered(rng, harder(rates, rng, shift), num_samples), answered(rng, rates, num_samples)
        found = difference_interval(new - old, FAST, seed=repeat)
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / repeats <= 0.985


def test_resampling_questions_alone_matches_the_true_spread_and_resampling_samples_too_does_not() -> None:
    rng = np.random.default_rng(13)
    num_questions, num_samples, repeats = 100, 4, 300
    means, ours, twice = [], [], []
    for repeat in range(repeats):
        values = answered(rng, rng.beta(2, 18, num_questions), num_samples)
        found = mean_interval(values, FAST, seed=repeat)
        means.append(found.value)
        ours.append((found.high - found.low) / (2 * t_quantile(0.975, num_questions - 1)))
        questions = rng.integers(0, num_questions, (100, num_questions))
        twice.append(answered(rng, values[questions], num_samples).mean(axis=1).std())
    truth = np.std(means)
    assert np.mean(ours) == pytest.approx(truth, rel=0.1)
    assert np.mean(twice) > 1.2 * truth


def test_the_sign_flip_test_rejects_a_true_null_as_often_as_it_says() -> None:
    rng, repeats = np.random.default_rng(14), 400
    p_values = []
    for repeat in range(repeats):
        rates = rng.beta(1, 1, 60)
        differences = answered(rng, rates, 4) - answered(rng, rates, 4)
        p_values.append(difference_interval(differences, FAST, seed=repeat).p_value)
    assert 0.02 <= np.mean([p <= 0.05 for p in p_values]) <= 0.08
    assert 0.4 <= np.mean([p <= 0.5 for p in p_values]) <= 0.6


def test_the_minimum_detectable_gain_is_found_four_times_in_five() -> None:
    rng, repeats, gain = np.random.default_rng(15), 400, 0.106
    found, stated = 0, []
    for repeat in range(repeats):
        rates = rng.uniform(0.2, 0.6, 80)
        differences = answered(rng, rates + gain, 4) - answered(rng, rates, 4)
        stated.append(minimum_detectable_gain(differences))
        found += difference_interval(differences, FAST, seed=repeat).p_value <= 0.05
    assert np.mean(stated) == pytest.approx(gain, abs=0.004)
    assert 0.74 <= found / repeats <= 0.86


@pytest.mark.parametrize(
    ("q", "freedom", "expected"),
    [(0.975, 1, 12.706), (0.975, 2, 4.303), (0.975, 5, 2.571), (0.975, 10, 2.228), (0.975, 30, 2.042),
     (0.975, 100, 1.984), (0.95, 4, 2.132), (0.995, 10, 3.169), (0.8, 10, 0.879), (0.5, 7, 0.0)],
)  # fmt: skip
def test_t_quantiles_are_those_of_the_tables(q: float, freedom: int, expected: float) -> None:
    assert t_quantile(q, freedom) == pytest.approx(expected, abs=1.5e-3)


@pytest.mark.parametrize(
    ("num_correct", "num_judged", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662), (15, 15, 0.7961, 1.0)],
)
def test_wilson_intervals_are_those_of_the_literature(
    num_correct: int, num_judged: int, low: float, high: float
) -> None:
    found = wilson_interval(num_correct, num_judged)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert found.value == num_correct / num_judged


def test_wilson_interval_of_nothing_is_unknown_and_of_impossible_counts_refused() -> None:
    assert math.isnan(wilson_interval(0, 0).value)
    with pytest.raises(ValueError, match="3 of 2"):
        wilson_interval(3, 2)


@pytest.mark.parametrize("num_questions", [1, 2, 5, 30, 500])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_equal_scores_do_not_give_certainty(num_questions: int, value: float) -> None:
    found = mean_interval(np.full(num_questions, value), FAST, seed=0)
    wilson = wilson_interval(round(value * num_questions), num_questions)
    assert found.value == value
    assert 0 <= found.low <= value <= found.high <= 1
    assert found.high - found.low >= 0.9 * (wilson.high - wilson.low) > 0


def test_none_of_thirty_reads_as_up_to_about_an_eighth() -> None:
    found = mean_interval(np.zeros(30), FAST, seed=0)
    assert (found.low, found.high) == (0.0, pytest.approx(0.122, abs=0.001))


@pytest.mark.parametrize("num_questions", [1, 2, 5, 30, 500])
def test_no_observed_change_does_not_mean_no_change(num_questions: int) -> None:
    found = difference_interval(np.zeros(num_questions), FAST, seed=0)
    assert (found.value, found.p_value) == (0.0, 1.0)
    assert found.low == -found.high < 0
    assert 0 < minimum_detectable_gain(np.zeros(num_questions)) <= 1


@pytest.mark.parametrize("change", [1.0, -1.0, 0.25])
def test_the_same_change_on_every_question_is_not_certain_either(change: float) -> None:
    found = difference_interval(np.full(20, change), FAST, seed=0)
    assert found.value == change
    assert -1 <= found.low <= change <= found.high <= 1
    assert found.high - found.low > 0.01
    assert found.p_value == pytest.approx(1 / 301)


def test_p_value_is_that_of_all_sign_flips() -> None:
    differences = np.array([0.5, 0.25, 0.25, -0.25, 1.0, 0.0, 0.5])
    flips = [abs(np.dot(signs, differences)) >= abs(differences.sum()) - 1e-9 for signs in product([1, -1], repeat=7)]
    found = difference_interval(differences, IntervalConfig(num_resamples=50_000), seed=0)
    assert found.p_value == pytest.approx(np.mean(flips), abs=0.01)


def test_a_few_lucky_questions_are_no_proof() -> None:
    differences = np.zeros(200)
    differences[:4] = 1.0
    found = difference_interval(differences, IntervalConfig(), seed=0)
    assert found.low < 0 < found.high
    assert found.p_value > 0.05


def test_intervals_narrow_with_questions_and_widen_with_the_level() -> None:
    rng = np.random.default_rng(1)
    values = answered(rng, rng.beta(1, 1, 400), 4)

    def width(values: FloatArray, level: float) -> float:
        found = mean_interval(values, IntervalConfig(level=level), seed=0)
        return found.high - found.low

    assert width(values[:50], 0.95) > 1.5 * width(values, 0.95)
    assert width(values, 0.99) > width(values, 0.95) > width(values, 0.8)


def test_equal_seeds_give_equal_intervals_whatever_the_order_of_the_questions() -> None:
    rng = np.random.default_rng(2)
    values = answered(rng, rng.beta(1, 1, 50), 4)
    assert mean_interval(values, FAST, seed=3) == mean_interval(values[::-1], FAST, seed=3)
    assert mean_interval(values, FAST, seed=3) != mean_interval(values, FAST, seed=4)


def test_many_resamples_are_drawn_in_parts_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).uniform(size=40)
    whole = mean_interval(values, FAST, seed=0)
    monkeypatch.setattr("evals.intervals._CELLS_PER_DRAW", 100)
    assert mean_interval(values, FAST, seed=0).as_dict() == whole.as_dict()


def test_unjudged_questions_are_left_out_of_means_and_pairs() -> None:
    new = {"a": [True, True], "b": [False], "c": [], "d": [True]}
    old = {"a": [True, False], "b": [True], "c": [True], "e": [True]}
    assert bootstrap_mean(new, FAST, seed=0).value == pytest.approx(2 / 3)
    assert paired_difference(new, old, FAST, seed=0).value == pytest.approx((0.5 - 1.0) / 2)


def test_nothing_judged_is_unknown_not_zero() -> None:
    assert bootstrap_mean({"a": []}, FAST, seed=0).as_dict() == {"value": None, "low": None, "high": None}
    unknown = paired_difference({"a": []}, {"a": [True]}, FAST, seed=0)
    assert set(unknown.as_dict().values()) == {None}
    assert math.isnan(minimum_detectable_gain(np.array([])))


def test_numbers_for_json_are_rounded_and_have_no_negative_zero() -> None:
    assert Estimate(1 / 3, -1e-9, 0.1 + 0.2).as_dict() == {"value": 0.333333, "low": 0.0, "high": 0.3}
    assert str(Estimate(0.0, -1e-9, 0.0).as_dict()["low"]) == "0.0"
    assert list(Difference(0.0, 0.0, 0.0, 1.0).as_dict()) == ["value", "low", "high", "p_value"]
