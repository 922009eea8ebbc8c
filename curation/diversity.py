"""Mutually distant traces of one problem: DED's farthest P (arXiv 2508.09883), solved greedily.

The paper does not say how it finds the P farthest; greedy max-min selection (Gonzalez 1985: at least half of the best
possible smallest distance) is deterministic, needs about P distances per trace instead of all pairs, and what it
chooses for a smaller P is the beginning of what it chooses for a larger one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

DIVERSITY_REASONS = ("not_farthest",)

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
# A word, a number, or one sign. Scripts written without spaces give one unit per character.
_UNIT = re.compile(rf"\d+|[{_CJK}]|[^\W\d_{_CJK}]+|[^\w\s]|_")
_MOST_UNITS = 32_768
_NUM_CODES = 0x110000
_UNITS_WORTH_THREADS = 2000


class Chosen(NamedTuple):
    """One selected trace."""

    place: int
    """Index in the sequence that was given."""
    distance: float | None
    """Distance to the nearest trace chosen before it; None for the first."""


def units(text: str) -> list[str]:
    """Words, numbers and signs in order; whitespace only separates."""
    return _UNIT.findall(text)


class _Codes(dict[str, str]):
    """What stands between two spaces -> one character per unit; worked out once, as words recur."""

    def __init__(self) -> None:
        super().__init__()
        self._code_of: dict[str, str] = {}

    def __missing__(self, word: str) -> str:
        known = self._code_of
        codes = "".join([known.setdefault(unit, chr(len(known) % _NUM_CODES)) for unit in units(word)])
        self[word] = codes
        return codes


def encode(texts: Sequence[str]) -> list[str]:
    """One character per unit, equal units by equal characters: the alphabet that rapidfuzz compares fastest.

    Of a text with more than ``_MOST_UNITS`` units the first and the last half as many are taken.
    """
    codes = _Codes()
    half = _MOST_UNITS // 2
    encoded = ("".join([codes[word] for word in text.split()]) for text in texts)
    return [text if len(text) <= _MOST_UNITS else text[:half] + text[-half:] for text in encoded]


def distance(a: str, b: str) -> float:
    """Levenshtein distance of the unit sequences over the longer one's length, in [0, 1]."""
    return float(Levenshtein.normalized_distance(*encode([a, b])))


def farthest(texts: Sequence[str], num_chosen: int) -> list[Chosen]:
    """Greedy max-min selection that starts with ``texts[0]``; of equally far texts the earlier one is taken."""
    encoded = encode(texts)
    if not encoded or num_chosen < 1:
        return []
    chosen = [Chosen(0, None)]
    nearest = np.ones(len(encoded))
    nearest[0] = -1.0
    while len(chosen) < min(num_chosen, len(encoded)):
        nearest = np.minimum(nearest, _distances(encoded, chosen[-1].place, nearest))
        best = int(np.argmax(nearest))
        chosen.append(Chosen(best, float(nearest[best])))
        nearest[best] = -1.0
    return chosen


def _distances(encoded: Sequence[str], index: int, nearest: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distances to ``encoded[index]``; 1 stands for those above every entry of ``nearest``, which can lower none."""
    result = cdist(
        [encoded[index]],
        encoded,
        scorer=Levenshtein.normalized_distance,
        score_cutoff=float(nearest.max()),
        dtype=np.float64,
        workers=-1 if len(encoded[index]) >= _UNITS_WORTH_THREADS else 1,
    )
    return np.asarray(result[0], dtype=np.float64)
