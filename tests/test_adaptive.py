"""Which problems get further samples: the arithmetic against brute force, and what decisions depend on."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest

from factory.adaptive import (
    UNIFORM,
    Beta,
    EnoughSuccesses,
    Policy,
    SettledBand,
    Tally,
    Waves,
    beta_cdf,
    chance_of_at_least,
    fit_prior,
)

BETAS = [Beta(1, 1), Beta(0.3, 0.7), Beta(5, 2), Beta(2.5, 40), Beta(120, 3)]
ENOUGH = EnoughSuccesses(wanted=3, max_samples=16, min_chance=0.1)
BAND = SettledBand(edges=(0.25, 0.75), max_samples=16, confidence=0.9)

Answer = Callable[[str, int], tuple[bool | None, int]]
"""Success and tokens of a problem's sample."""


def density(beta: Beta, num: int = 400_000) -> tuple[np.ndarray, np.ndarray]:
    """Middles of equal parts of (0, 1) in p = u^8 / (u^8 + (1 - u)^8), which resolves both ends, and their masses."""
    u = (np.arange(num) + 0.5) / num
    odds = 8 * (np.log(u) - np.log1p(-u))
    log_p, log_q = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
    mass = np.exp(beta.a * log_p + beta.b * log_q) * 8 / (u * (1 - u))
    return np.exp(log_p), mass / mass.sum()


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("x", [0.001, 0.25, 0.5, 0.9, 0.999])
def test_the_distribution_function_is_the_integral_of_the_density(beta: Beta, x: float) -> None:
    p, mass = density(beta)
    assert beta_cdf(x, beta) == pytest.approx(mass[p <= x].sum(), abs=3e-5)
    assert beta_cdf(x, beta) + beta_cdf(1 - x, Beta(beta.b, beta.a)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(("wanted", "trials"), [(1, 1), (1, 7), (4, 9), (12, 12), (30, 200)])
def test_the_chance_is_the_binomial_tail_averaged_over_the_rate(beta: Beta, wanted: int, trials: int) -> None:
    p, mass = density(beta, 40_000)
    tail = sum(math.comb(trials, j) * p**j * (1 - p) ** (trials - j) for j in range(wanted, trials + 1))
    assert chance_of_at_least(wanted, trials, beta) == pytest.approx(float((tail * mass).sum()), abs=1e-6)


def test_what_is_reached_already_is_certain_and_what_cannot_be_reached_has_no_chance() -> None:
    assert chance_of_at_least(0, 0, UNIFORM) == 1
    assert chance_of_at_least(3, 2, UNIFORM) == 0


@pytest.mark.parametrize("true", [Beta(0.4, 0.6), Beta(6, 2), Beta(1, 1)])
def test_the_fitted_prior_finds_the_distribution_that_rates_were_drawn_from(true: Beta) -> None:
    rng = np.random.default_rng(1)
    rates = rng.beta(true.a, true.b, 3000)
    found = fit_prior((int(rng.binomial(n, p)), n) for p, n in zip(rates, rng.integers(1, 9, 3000), strict=True))
    assert found.mean == pytest.approx(true.mean, abs=0.03)
    assert math.log2((found.a + found.b) / (true.a + true.b)) == pytest.approx(0, abs=1.01)


def test_a_few_lucky_problems_do_not_make_a_prior_that_is_sure_of_success() -> None:
    assert fit_prior([]) == fit_prior([(0, 0)]) == UNIFORM
    assert fit_prior([(1, 1)] * 3).mean < 0.9


@pytest.mark.parametrize(
    ("asked", "k", "n", "reason"),
    [(0, 0, 0, None), (3, 3, 3, "enough"), (4, 2, 4, None), (14, 0, 14, "hopeless"), (14, 2, 14, None),
     (16, 2, 16, "max_samples"), (14, 0, 2, "hopeless")],
)  # fmt: skip
def test_a_problem_goes_on_until_it_has_enough_or_hardly_can(asked: int, k: int, n: int, reason: str | None) -> None:
    assert ENOUGH.stop(Tally("a", asked, k, n), UNIFORM) == reason


@pytest.mark.parametrize(
    ("k", "n", "prior", "settled"),
    [(0, 0, UNIFORM, False), (8, 16, UNIFORM, True), (1, 2, UNIFORM, False), (2, 8, UNIFORM, False),
     (0, 4, UNIFORM, False), (4, 4, UNIFORM, False), (15, 16, UNIFORM, True),
     (0, 6, Beta(0.05, 0.4), True), (6, 6, Beta(0.4, 0.05), True)],
)  # fmt: skip
def test_a_band_is_settled_by_its_mass_and_never_solved_only_when_it_would_stay_so(
    k: int, n: int, prior: Beta, settled: bool
) -> None:
    assert (BAND.stop(Tally("a", n, k, n), prior) == "settled") is settled


def play(policy: Policy, ids: list[str], answer: Answer, seed: int = 0, budget: int | None = None) -> Waves:
    """Every wave's samples in an order of their own."""
    rng = random.Random(seed)
    waves = Waves(ids, policy, first_wave=2, growth=2, prior=None, budget=budget, max_tokens=100)
    while plan := waves.plan():
        places = [(index, sample) for index, samples in plan for sample in samples]
        rng.shuffle(places)
        for index, sample in places:
            success, tokens = answer(ids[index], sample)
            waves.add(index, success=success, num_tokens=tokens)
    return waves


def by_chance(problem: str, sample: int) -> tuple[bool | None, int]:
    """Rates from 0 to 1 over the problems, lengths from 20 to 99."""
    draw = random.Random(f"{problem}/{sample}")
    return draw.random() < int(problem) / 29, draw.randint(20, 99)


IDS = [f"{i:02}" for i in range(30)]


@pytest.mark.parametrize("policy", [ENOUGH, BAND])
@pytest.mark.parametrize("budget", [None, 9000])
def test_decisions_depend_neither_on_the_order_of_arrival_nor_on_that_of_the_problems(
    policy: Policy, budget: int | None
) -> None:
    first = {t.id: t for t in play(policy, IDS, by_chance, seed=1, budget=budget).tallies}
    again = {t.id: t for t in play(policy, IDS, by_chance, seed=2, budget=budget).tallies}
    turned = {t.id: t for t in play(policy, IDS[::-1], by_chance, seed=3, budget=budget).tallies}
    assert first == again == turned
    assert len({t.asked for t in first.values()}) > 1


def test_every_problem_stops_for_a_reason_within_the_most_samples() -> None:
    waves = play(ENOUGH, IDS, by_chance)
    assert sum(waves.stopped().values()) == 30 and {"enough", "hopeless"} <= set(waves.stopped())
    assert all(t.asked <= 16 for t in waves.tallies)
    assert all(t.successes >= 3 for t in waves.tallies if t.stopped == "enough")
    assert sum(waves.wave_sizes) == sum(t.asked for t in waves.tallies) < 16 * 30 * 0.6


def test_samples_without_a_verdict_count_neither_way_and_end() -> None:
    def answer(problem: str, sample: int) -> tuple[bool | None, int]:
        return (None if problem < "05" or sample % 2 else problem > "10"), 50

    waves = play(ENOUGH, IDS, answer)
    lost = waves.tallies[:5]
    assert {t.stopped for t in lost} == {"undecided"} and all(t.asked <= 6 and t.decided == 0 for t in lost)
    assert {t.stopped for t in waves.tallies[11:]} == {"enough"}


def test_a_budget_is_kept_and_goes_to_what_finishes_most_problems_per_token() -> None:
    def answer(problem: str, sample: int) -> tuple[bool | None, int]:
        return sample % 4 < 2, 90 if int(problem) % 2 else 30

    whole = play(ENOUGH, IDS, answer)
    spent = sum(t.tokens for t in whole.tallies)
    waves = play(ENOUGH, IDS, answer, budget=spent * 2 // 3)
    assert sum(t.tokens for t in waves.tallies) <= spent * 2 // 3
    dear, cheap = waves.tallies[1::2], waves.tallies[::2]
    assert sum(t.stopped == "enough" for t in cheap) == 15 > sum(t.stopped == "enough" for t in dear)
    assert waves.stopped()["budget"] > 0


@pytest.mark.parametrize("budget", [100, 500, 2500, 12_000])
def test_answers_much_longer_than_expected_end_a_budget_too(budget: int) -> None:
    def answer(problem: str, sample: int) -> tuple[bool | None, int]:
        return sample % 3 == 0, 1000 if random.Random(f"{problem}.{sample}").random() < 0.05 else 5

    waves = play(ENOUGH, IDS, answer, budget=budget)
    assert sum(waves.stopped().values()) == 30
    assert 0 < sum(t.tokens for t in waves.tallies) <= budget + 2000


def test_equal_problems_share_a_budget_by_their_ids() -> None:
    waves = play(ENOUGH, IDS[::-1], lambda *_: (True, 50), budget=1000)
    done = sorted(t.id for t in waves.tallies if t.stopped == "enough")
    assert 0 < len(done) < 30 and done == IDS[: len(done)]
