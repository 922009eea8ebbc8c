"""Curation as a whole: the funnel adds up, the result follows the recipe and never the row order."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from curation.config import CurationConfig, DedSelector, RandomSelector
from curation.select import ADDED_COLUMNS, EXAMPLE_SCHEMA, KEEP_REASONS, Curated, Step, curate, examples
from factory.tables import TRACE_SCHEMA

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
RANDOM, DED = RandomSelector(), DedSelector(traces_per_problem=2)


def trace(problem: int, sample: int, thought: str, **changes: Any) -> dict[str, Any]:
    response = f"<think>{thought}</think> \\boxed{{{problem}}}"
    row: dict[str, Any] = dict.fromkeys(TRACE_SCHEMA.names, "x") | {
        "trace_id": f"t{problem}-{sample}",
        "problem_id": f"p{problem}",
        "prompt": f"What is {problem}?",
        "sample": sample,
        "seed": 1000 * problem + sample,
        "response": response,
        "finish_reason": "stop",
        "num_prompt_tokens": 5,
        "num_tokens": len(thought),
        "outcome": "correct",
        "reason": "exact",
    }
    return row | changes


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=TRACE_SCHEMA)


def pool(num_problems: int = 30, num_samples: int = 5) -> list[dict[str, Any]]:
    """Traces of all fates: right, wrong, cut off, unjudged, without tags, too long, repeated."""
    rng = random.Random(7)
    rows = []
    for problem in range(num_problems):
        for sample in range(num_samples):
            thought = " ".join(rng.choices(WORDS, k=rng.randint(4, 30)))
            fate: dict[str, Any] = rng.choice(
                [{}, {}, {}, {}, {"outcome": "incorrect"}, {"finish_reason": "length", "outcome": "incorrect"},
                 {"outcome": "error"}, {"outcome": "unverifiable"}, {"response": "no tags"}, {"num_tokens": 10_000}]
            )  # fmt: skip
            rows.append(trace(problem, sample, thought, **fate))
        if problem % 3 == 0:
            rows.append(rows[-1] | {"trace_id": f"t{problem}-again", "sample": num_samples})
    return rows


COUNTS = {f"p{i}": (i % 9, 8) for i in range(25)} | {"p25": (0, 0)}  # p26 to p29 were never asked


def run(rows: list[dict[str, Any]], selector: DedSelector | RandomSelector, size: int = 20, seed: int = 0) -> Curated:
    config = CurationConfig(size=size, max_tokens=1000, selector=selector)
    return curate(table(rows), config, pass_counts=COUNTS, seed=seed)


def fates(curated: Curated) -> dict[str, tuple[Any, ...]]:
    return {row["trace_id"]: tuple(row[name] for name in ADDED_COLUMNS.names) for row in curated.rows.to_pylist()}


def kept(curated: Curated) -> list[dict[str, Any]]:
    return sorted((r for r in curated.rows.to_pylist() if r["kept"]), key=lambda r: r["position"])


@pytest.mark.parametrize("selector", [RANDOM, DED])
@pytest.mark.parametrize("size", [2, 20, 1000])
def test_the_funnel_adds_up_from_all_rows_to_the_kept_ones(selector: DedSelector | RandomSelector, size: int) -> None:
    rows = pool()
    curated = run(rows, selector, size)
    names = ["verdict", "shape", "duplicates", "difficulty", "diversity", "size"]
    assert [s.name for s in curated.funnel] == (names if selector.kind == "ded" else [*names[:3], "size"])
    assert curated.funnel[0].rows_in == len(rows)
    for before, after in zip(curated.funnel, curated.funnel[1:], strict=False):
        assert after.rows_in == before.kept
    assert curated.funnel[-1].kept == len(kept(curated)) <= size
    drops: dict[str, int] = {}
    for step in curated.funnel:
        drops |= step.drops
    counted = [row["drop_reason"] for row in curated.rows.to_pylist() if row["drop_reason"]]
    assert drops == {reason: counted.count(reason) for reason in set(counted)}


def test_a_step_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(ValueError, match="10 rows in, but 7 kept"):
        Step("shape", 10, 7, {"format": 2})


@pytest.mark.parametrize("selector", [RANDOM, DED])
def test_every_row_says_why_it_stayed_or_went(selector: DedSelector | RandomSelector) -> None:
    curated = run(pool(), selector)
    for row in curated.rows.to_pylist():
        assert (row["drop_reason"] is None) is row["kept"]
        assert (row["keep_reason"] in KEEP_REASONS) is row["kept"]
        assert (row["position"] is not None) is row["kept"]
    assert [row["position"] for row in kept(curated)] == list(range(len(kept(curated))))


@pytest.mark.parametrize("selector", [RANDOM, DED])
@pytest.mark.parametrize("size", [3, 25])
def test_the_result_does_not_depend_on_the_row_order(selector: DedSelector | RandomSelector, size: int) -> None:
    rows = pool()
    expected = fates(run(rows, selector, size))
    for seed in range(3):
        shuffled = random.Random(seed).sample(rows, len(rows))
        assert fates(run(shuffled, selector, size)) == expected


@pytest.mark.parametrize("selector", [RANDOM, DED])
def test_the_seed_changes_the_choice_and_nothing_else_does(selector: DedSelector | RandomSelector) -> None:
    rows = pool()
    assert fates(run(rows, selector)) == fates(run(rows, selector))
    assert fates(run(rows, selector, seed=1)) != fates(run(rows, selector, seed=2))


def test_random_draws_every_qualified_trace_equally_often() -> None:
    rows = [trace(p, s, f"{p} {s}") for p in range(10) for s in range(4)]
    hits = {row["trace_id"]: 0 for row in rows}
    for seed in range(400):
        for row in kept(run(rows, RANDOM, 10, seed)):
            hits[row["trace_id"]] += 1
    # 400 draws of 10 of 40: mean 100, standard deviation 8.7; the largest of 40 deviations is below 4 of them.
    assert all(abs(count - 100) < 35 for count in hits.values())


def test_random_draw_of_a_smaller_set_is_the_start_of_a_larger_one() -> None:
    small, large = (kept(run(pool(), RANDOM, size)) for size in (5, 15))
    assert [r["trace_id"] for r in large[:5]] == [r["trace_id"] for r in small]


def test_ded_drops_what_the_student_solves_and_keeps_what_nobody_measured() -> None:
    rows = [trace(p, s, f"{p} and {s}") for p in range(30) for s in range(2)]
    curated = run(rows, DedSelector(max_pass_rate=0.5, drop_unsolved=True, traces_per_problem=2), size=1000)
    for row in curated.rows.to_pylist():
        counts = COUNTS.get(row["problem_id"])
        k, n = counts or (0, 0)
        assert (row["pass_k"], row["pass_n"]) == (counts or (None, None))
        assert row["pass_rate"] == (k / n if n else None)
        expected = None if not n else "unsolved" if k == 0 else "too_easy" if k / n > 0.5 else None
        assert row["drop_reason"] == expected
        if row["kept"]:
            assert row["keep_reason"].endswith("difficulty_unknown") is (not n)
    assert curated.funnel[3].drops == {"too_easy": 2 * 10, "unsolved": 2 * 3}


def test_random_ignores_difficulty_but_reports_it() -> None:
    curated = run([trace(8, 0, "a"), trace(0, 0, "b")], RANDOM)
    assert {(r["pass_rate"], r["keep_reason"]) for r in kept(curated)} == {(1.0, "drawn"), (0.0, "drawn")}


def test_ded_keeps_the_shortest_and_then_the_farthest_traces_of_a_problem() -> None:
    thoughts = ["a b c d e f", "a b c d", "w x y z", "a b c d e"]
    curated = run([trace(1, s, thought) for s, thought in enumerate(thoughts)], DED)
    by_sample = {r["sample"]: r for r in curated.rows.to_pylist()}
    assert (by_sample[1]["keep_reason"], by_sample[1]["distance"]) == ("shortest", None)
    assert by_sample[2]["keep_reason"] == "farthest"
    assert by_sample[2]["distance"] == pytest.approx(4 / 16)  # 3 + 4 + 4 + 5 units, 4 of them other words
    assert {by_sample[s]["drop_reason"] for s in (0, 3)} == {"not_farthest"}


def test_ded_covers_every_problem_before_it_takes_second_traces() -> None:
    rows = [trace(p, s, " ".join([f"w{p}"] * (s + 2))) for p in range(10) for s in range(3)]
    for size in (4, 10, 14, 20):
        chosen = kept(run(rows, DedSelector(max_pass_rate=1, traces_per_problem=2), size))
        assert len({r["problem_id"] for r in chosen}) == min(size, 10)
        assert sum(r["keep_reason"].startswith("shortest") for r in chosen) == min(size, 10)


def test_which_problems_a_trim_spares_depends_on_the_seed_only() -> None:
    rows = [trace(p, 0, f"{p}") for p in range(12)]
    hits = [0] * 12
    for seed in range(300):
        for row in kept(run(rows, DED, 4, seed)):
            hits[int(row["problem_id"][1:])] += 1
    hits = [h for i, h in enumerate(hits) if i not in (7, 8)]  # solved 7 and 8 of 8 times: too easy
    assert all(abs(count - 120) < 40 for count in hits)  # 300 draws of 4 of 10: standard deviation 8.5


def test_kept_rows_are_all_correct_complete_well_formed_and_distinct() -> None:
    chosen = kept(run(pool(), DED, 1000))
    assert chosen
    assert all(r["outcome"] == "correct" and r["finish_reason"] == "stop" and r["format_ok"] for r in chosen)
    assert len({(r["problem_id"], r["response"]) for r in chosen}) == len(chosen)


def test_input_columns_and_rows_pass_through_untouched() -> None:
    rows = table(pool()).append_column("more", pa.array(range(len(pool()))))
    curated = curate(rows, CurationConfig(), pass_counts=COUNTS, seed=0)
    assert curated.rows.select(rows.column_names).equals(rows)
    assert curated.rows.schema.names == rows.schema.names + ADDED_COLUMNS.names


def test_curating_a_curated_table_again_replaces_its_columns() -> None:
    first = run(pool(), DED)
    again = curate(first.rows, CurationConfig(size=20, max_tokens=1000, selector=DED), pass_counts=COUNTS, seed=0)
    assert again.rows.equals(first.rows)
    assert again.funnel == first.funnel


def test_nothing_to_keep_is_an_empty_set_with_reasons() -> None:
    for rows in ([], [trace(1, 0, "a", outcome="incorrect")]):
        curated = run(rows, DED)
        assert curated.funnel[-1].kept == 0
        assert curated.rows.num_rows == len(rows)
        assert examples(curated).num_rows == 0


def test_impossible_pass_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="k = 5 correct of n = 4"):
        curate(table(pool()), CurationConfig(), pass_counts={"p0": (5, 4)}, seed=0)


def test_rows_that_share_an_id_are_still_told_apart() -> None:
    rows = [trace(1, 0, "same id"), trace(2, 0, "other problem", trace_id="t1-0"), trace(1, 0, "same id twice")]
    results = [run(order, RANDOM, 2).rows.to_pylist() for order in (rows, rows[::-1])]
    results[1].reverse()
    assert results[0] == results[1]
    assert sum(r["kept"] for r in results[0]) == 2


def test_hostile_rows_are_dropped_or_kept_like_any_other() -> None:
    rows = [
        dict.fromkeys(TRACE_SCHEMA.names),
        trace(1, 0, "", response=""),
        trace(1, 1, "\0 \u202e \U0001f600" * 10),
        trace(1, 2, "x " * 500_000, num_tokens=1),
        trace(1, 3, "y" * 1_000_000, num_tokens=2),
        trace(1, -(2**31), "z", num_tokens=-1),
    ]
    curated = run(rows, DedSelector(traces_per_problem=3))
    assert [r["drop_reason"] for r in curated.rows.to_pylist()[:2]] == ["error", "format"]
    assert len(kept(curated)) == 3


def test_undecodable_text_is_curated_and_handed_out_as_valid_utf8() -> None:
    bad = b"<think>\xed\xa0\x80 lone surrogate \xff</think> 4"
    rows = table([trace(1, 0, "a")])
    index = rows.column_names.index("response")
    rows = rows.set_column(index, "response", pa.array([bad], pa.binary()).view(pa.string()))
    curated = curate(rows, CurationConfig(), pass_counts={}, seed=0)
    [example] = examples(curated).to_pylist()
    assert example["response"] == bad.decode("utf-8", "replace")
    assert example["messages"][1]["content"] == example["response"]


def test_examples_are_the_kept_rows_in_order_with_their_lineage() -> None:
    curated = run(pool(), DED)
    rows = examples(curated)
    assert rows.schema.equals(EXAMPLE_SCHEMA)
    listed = rows.to_pylist()
    assert [e["position"] for e in listed] == list(range(len(listed)))
    for example, row in zip(listed, kept(curated), strict=True):
        assert [m["role"] for m in example["messages"]] == ["user", "assistant"]
        assert [m["content"] for m in example["messages"]] == [row["prompt"], row["response"]]
        assert all(example[name] == row[name] for name in EXAMPLE_SCHEMA.names if name != "messages")


def test_examples_name_the_column_they_miss() -> None:
    curated = run(pool(), DED)
    with pytest.raises(ValueError, match="no column licence"):
        examples(Curated(curated.rows.drop_columns(["licence"]), curated.funnel))
