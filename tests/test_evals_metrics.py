"""Scores of single questions, against brute force and by hand."""

from __future__ import annotations

import math
import random
from itertools import combinations, product

import numpy as np
import pytest

from evals.equivalence import same_answers
from evals.metrics import Same, accuracy_by_question, majority_by_question, pass_at_k_by_question
from verifiers import ExactConfig, VerifierPool
from verifiers.config import MathConfig


def test_accuracy_is_the_share_of_correct_samples_and_unknown_without_any() -> None:
    values = accuracy_by_question([[True, False, True, True], [False], [True], []])
    assert values[:3].tolist() == [0.75, 0.0, 1.0]
    assert math.isnan(values[3])


@pytest.mark.parametrize(
    ("num_correct", "num_samples", "k"), [(c, n, k) for n in range(1, 7) for c in range(n + 1) for k in range(1, n + 1)]
)
def test_pass_at_k_is_the_share_of_all_k_subsets_with_a_correct_sample(
    num_correct: int, num_samples: int, k: int
) -> None:
    samples = [True] * num_correct + [False] * (num_samples - num_correct)
    expected = np.mean([any(subset) for subset in combinations(samples, k)])
    assert pass_at_k_by_question([samples], k)[0] == pytest.approx(expected, abs=1e-12)


def test_pass_at_1_is_accuracy_and_pass_at_k_of_short_questions_uses_what_there_is() -> None:
    correct = [[True, False, False], [True], [False, False], []]
    np.testing.assert_allclose(pass_at_k_by_question(correct, 1), accuracy_by_question(correct))
    assert pass_at_k_by_question(correct, 8)[:3].tolist() == [1.0, 1.0, 0.0]
    assert math.isnan(pass_at_k_by_question(correct, 8)[3])
    with pytest.raises(ValueError, match="k = 0"):
        pass_at_k_by_question(correct, 0)


def test_pass_at_k_of_many_samples_is_exact_where_products_of_floats_would_drift() -> None:
    value = pass_at_k_by_question([[True] * 3 + [False] * 1021], 512)[0]
    assert value == pytest.approx(1 - (512 * 511 * 510) / (1024 * 1023 * 1022), abs=1e-12)


def vote(answers: list[str | None], right: str, same: Same = str.__eq__) -> float:
    correct = [answer is not None and same(right, answer) for answer in answers]
    return float(majority_by_question([correct], [answers], same)[0])


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["4", "4", "5"], 1.0),
        (["4", "5", "5"], 0.0),
        (["4", "5"], 1 / 2),
        (["4", "5", "6"], 1 / 3),
        (["4", "4", "5", "5", "6"], 1 / 2),
        (["4", None, None, None], 1.0),
        ([None, "5", None], 0.0),
        ([None, None], 0.0),
        (["4"], 1.0),
        (["6", "5", "7"], 0.0),
    ],
)
def test_majority_counts_answers_and_shares_ties(answers: list[str | None], expected: float) -> None:
    assert vote(answers, "4") == pytest.approx(expected)


def test_majority_of_an_unjudged_question_is_unknown() -> None:
    assert math.isnan(majority_by_question([[]], [[]], str.__eq__)[0])


def test_votes_for_the_same_value_in_another_notation_are_one_class() -> None:
    same = same_answers()
    assert vote(["3", "3", "1/2", "0.5", "\\frac{1}{2}"], "3", same) == 0.0
    assert vote(["3", "3", "1/2", "0.5", "\\frac{1}{2}"], "3") == 1.0
    assert vote(["1/2", "0.5", "3", "3"], "\\frac12", same) == pytest.approx(1 / 2)
    assert vote(["{1, 2}", "{2, 1}", "(1,2)", "7"], "7", same) == 0.0


def test_majority_equals_a_plain_count_over_all_classes() -> None:
    def same(a: str, b: str) -> bool:
        return a.lower() == b.lower()

    rng = random.Random(5)
    for _ in range(300):
        answers = [rng.choice(["a", "A", "b", "B", "c", None]) for _ in range(rng.randint(1, 7))]
        classes: dict[str, int] = {}
        for answer in answers:
            if answer is not None:
                classes[answer.lower()] = classes.get(answer.lower(), 0) + 1
        winners = [name for name, size in classes.items() if size == max(classes.values())]
        assert vote(answers, "a", same) == pytest.approx(winners.count("a") / len(winners) if winners else 0.0)


def test_majority_of_expected_ties_is_the_mean_over_all_tie_breaks() -> None:
    for answers in product("456", repeat=4):
        most = max(answers.count(a) for a in set(answers))
        tied = [a for a in set(answers) if answers.count(a) == most]
        assert vote(list(answers), "4") == pytest.approx(sum(a == "4" for a in tied) / len(tied))


def test_only_wrong_answers_that_could_win_are_compared() -> None:
    calls: list[tuple[str, str]] = []

    def same(a: str, b: str) -> bool:
        calls.append((a, b))
        return False

    right, wrong = [True] * 3 + [False] * 2, [False] * 5
    answers = ["4", "4.0", "4", "5", "6"]
    majority_by_question([right, wrong], [answers, answers], same)
    assert calls == []
    majority_by_question([[True, False, False, False]], [["4", "5", "5", "6"]], same)
    assert calls == [("5", "6")]


def test_equality_is_the_verifiers_own() -> None:
    assert same_answers()("1,000", "1000")
    assert not same_answers()("1,000", "100")
    assert not same_answers(ExactConfig())("0.5", "1/2")
    assert same_answers(ExactConfig())("Paris", "paris ")
    assert not same_answers()("no } brace", "{ brace")
    assert same_answers()("no } brace", "no } brace")


def test_symbolic_equality_needs_the_pool() -> None:
    a, b = r"\sum_{k=1}^{9} k", "45"
    assert not same_answers(MathConfig())(a, b)
    with VerifierPool(MathConfig(num_workers=1, time_limit_s=30)) as pool:
        assert same_answers(MathConfig(), pool)(a, b)
        assert not same_answers(MathConfig(), pool)(a, "46")
