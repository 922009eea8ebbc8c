"""Distances between traces and the farthest-point selection."""

from __future__ import annotations

import gzip
import json
import random
import time
from itertools import combinations
from pathlib import Path

import pytest

from curation.diversity import distance, encode, farthest, units

DATA = Path(__file__).parents[2] / "shared" / "data" / "06_long_cot"
FILES = sorted(DATA.glob("sky_t1_*_aime24.jsonl.gz"))


def edit_distance(a: list[str], b: list[str]) -> int:
    """The textbook recurrence."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def test_units_are_words_numbers_and_signs() -> None:
    text = "So x_1 = 12.5kg, naïve\n\\frac{3}{4}!"
    expected = [
        "So",
        "x",
        "_",
        "1",
        "=",
        "12",
        ".",
        "5",
        "kg",
        ",",
        "naïve",
        "\\",
        "frac",
        "{",
        "3",
        "}",
        "{",
        "4",
        "}",
        "!",
    ]
    assert units(text) == expected
    assert units("所以答案是42。") == ["所", "以", "答", "案", "是", "42", "。"]
    assert units(" \n\t") == []


def test_distance_is_the_textbook_edit_distance_over_the_longer_length() -> None:
    rng = random.Random(3)
    for _ in range(50):
        a, b = (" ".join(rng.choices("abcdefg", k=rng.randint(1, 70))) for _ in range(2))
        longer = max(len(a.split()), len(b.split()))
        assert distance(a, b) == pytest.approx(edit_distance(a.split(), b.split()) / longer, abs=1e-12)


def test_distance_ignores_whitespace_and_is_bounded() -> None:
    assert distance("a  b\n c", "a b c") == 0.0
    assert distance("a b", "c d e f") == 1.0
    assert distance("", "") == 0.0
    assert distance("", "a") == 1.0


def test_selection_starts_with_the_first_and_takes_the_farthest_each_time() -> None:
    texts = ["a b c d", "a b c x", "w x y z", "a b x y"]
    chosen = farthest(texts, 3)
    assert [c.place for c in chosen] == [0, 2, 3]
    assert [c.distance for c in chosen] == [None, 1.0, 0.5]


def test_greedy_choice_equals_a_plain_implementation_of_max_min() -> None:
    rng = random.Random(0)
    for _ in range(20):
        texts = [" ".join(rng.choices("abcd", k=rng.randint(1, 12))) for _ in range(9)]
        places = [0]
        while len(places) < 5:
            rest = [i for i in range(9) if i not in places]
            places.append(max(rest, key=lambda i: (min(distance(texts[i], texts[j]) for j in places), -i)))
        chosen = farthest(texts, 5)
        assert [c.place for c in chosen] == places
        for turn, pick in enumerate(chosen[1:], start=1):
            assert pick.distance == min(distance(texts[pick.place], texts[j]) for j in places[:turn])


def test_fewer_traces_than_wanted_are_all_chosen_and_a_smaller_choice_is_the_start_of_a_larger_one() -> None:
    texts = ["a b", "c d", "a b", "a d"]
    assert sorted(c.place for c in farthest(texts, 10)) == [0, 1, 2, 3]
    for num in range(5):
        assert farthest(texts, num) == farthest(texts, 4)[:num]
    assert farthest([], 3) == []


def test_of_equally_far_traces_the_earlier_one_is_taken() -> None:
    assert [c.place for c in farthest(["a", "b", "c", "d"], 3)] == [0, 1, 2]


def test_more_different_units_than_there_are_codes_do_not_break_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.diversity._NUM_CODES", 3)
    assert encode(["a b c d", "d e"]) == ["\0\1\2\0", "\0\1"]


def test_a_megabyte_of_text_is_compared_in_bounded_time() -> None:
    rng = random.Random(1)
    long = [" ".join(str(rng.randrange(1000)) for _ in range(250_000)) for _ in range(2)]
    start = time.perf_counter()
    assert 0.5 < (farthest(["short", *long], 3)[2].distance or 0) <= 1
    assert time.perf_counter() - start < 8


def _first_solution(path: Path) -> str:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return str(json.loads(next(iter(lines)))["code"][0])


def test_long_real_reasoning_is_spread_wider_than_a_random_choice() -> None:
    if not FILES:
        pytest.skip("needs the reasoning traces of shared/data/06_long_cot")
    texts = sorted((_first_solution(path) for path in FILES), key=len)
    pairs = {frozenset(p): distance(texts[p[0]], texts[p[1]]) for p in combinations(range(len(texts)), 2)}
    assert 0 < min(pairs.values()) < max(pairs.values()) < 1

    def spread(places: tuple[int, ...]) -> float:
        return min(pairs[frozenset(p)] for p in combinations(places, 2))

    ours = spread(tuple(c.place for c in farthest(texts, 3)))
    others = [spread(places) for places in combinations(range(len(texts)), 3)]
    assert ours > sum(others) / len(others)
    assert ours >= max(others) / 2
