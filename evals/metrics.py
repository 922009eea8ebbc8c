"""Scores of single questions: mean accuracy, pass@k, majority vote. Their mean over questions is the benchmark's score.

``correct`` is always one list of judged samples per question; lists may differ in length. A question without a judged
sample has no score (NaN) and takes no part in a mean: it is neither right nor wrong.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

Same = Callable[[str, str], bool]
"""Whether two answers say the same."""


def accuracy_by_question(correct: Sequence[Sequence[bool]]) -> FloatArray:
    """Share of correct samples per question, shape [Q]; the mean of it is avg@k."""
    return np.array(
        [sum(samples) / len(samples) if len(samples) else math.nan for samples in correct], dtype=np.float64
    )


def pass_at_k_by_question(correct: Sequence[Sequence[bool]], k: int) -> FloatArray:
    """Unbiased estimate, per question, of the chance that one of k samples is correct, shape [Q].

    1 - C(n - c, k) / C(n, k) for c correct of n (Chen et al. 2021, arXiv 2107.03374). A question with fewer than k
    judged samples is scored at its own n: a lower bound, since no unbiased estimate exists there.

    Raises:
        ValueError: when k < 1.
    """
    if k < 1:
        raise ValueError(f"pass@k: got k = {k}; k must be at least 1")
    return np.array([_pass_at_k(len(samples), sum(samples), k) for samples in correct], dtype=np.float64)


def _pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    if num_samples == 0:
        return math.nan
    k = min(k, num_samples)
    return 1 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)


def majority_by_question(
    correct: Sequence[Sequence[bool]], answers: Sequence[Sequence[str | None]], same: Same
) -> FloatArray:
    """Whether the most frequent answer of all judged samples is right, per question, shape [Q].

    Answers fall into classes by ``same``. A tie counts as the chance that a fair draw among the tied classes is right.
    Samples without an answer form no class; a question where no sample has one is wrong.
    """
    return np.array([_majority(c, a, same) for c, a in zip(correct, answers, strict=True)], dtype=np.float64)


def _majority(correct: Sequence[bool], answers: Sequence[str | None], same: Same) -> float:
    """Right answers equal the reference and thus each other, so only wrong ones need to be compared, and these
    only where they could outvote the right ones."""
    if not len(correct):
        return math.nan
    votes = [(right, answer) for right, answer in zip(correct, answers, strict=True) if answer is not None]
    num_right = sum(right for right, _ in votes)
    wrong = Counter(answer for right, answer in votes if not right)
    if num_right == 0:
        return 0.0
    if num_right > wrong.total():
        return 1.0
    sizes = _class_sizes(wrong, same)
    if num_right < max(sizes):
        return 0.0
    return 1 / (1 + sizes.count(num_right))


def _class_sizes(votes: Counter[str], same: Same) -> list[int]:
    """Votes per class. A text joins the first class whose most frequent text says the same."""
    sizes: dict[str, int] = {}
    for text, count in sorted(votes.items(), key=lambda item: (-item[1], item[0])):
        first = next((other for other in sizes if same(other, text)), text)
        sizes[first] = sizes.get(first, 0) + count
    return list(sizes.values())
