"""The score table: its shape, what it counts, and what it leaves out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from evals.answers import ANSWER_SCHEMA, correctness
from evals.config import IntervalConfig
from evals.scores import BenchmarkAnswers, score_table

SETTINGS = {"num_samples": 4, "temperature": 0.6, "top_p": 0.95, "max_tokens": 256}
CONFIG = IntervalConfig(num_resamples=500)


def answer(question: str, sample: int, outcome: str, extracted: str | None = "7", **changes: Any) -> dict[str, Any]:
    row = {
        "question_id": question,
        "question": "?",
        "gold": "4",
        "sample": sample,
        "response": "",
        "finish_reason": "stop",
        "num_tokens": 10,
        "outcome": outcome,
        "reason": "",
        "extracted": extracted,
        "seconds": 0.1,
    }
    return row | changes


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=ANSWER_SCHEMA)


def model(rate: float, seed: int, num_questions: int = 60) -> pa.Table:
    rng = np.random.default_rng(seed)
    rows = []
    for question in range(num_questions):
        for sample in range(4):
            right = rng.random() < rate
            rows.append(answer(f"q{question}", sample, "correct" if right else "incorrect", "4" if right else "5"))
    return table(rows)


def scores(answers: dict[str, pa.Table]) -> dict[str, Any]:
    return score_table([BenchmarkAnswers("arith", "in_domain", SETTINGS, answers)], CONFIG, seed=0)


def test_the_table_has_the_promised_shape_and_is_plain_json() -> None:
    found = scores({"base": model(0.3, 1), "sft": model(0.6, 2), "kd": model(0.7, 3)})
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["level"], found["models"]) == (0.95, ["base", "sft", "kd"])
    [benchmark] = found["benchmarks"]
    assert benchmark["num_questions"] == 60
    assert {name: benchmark[name] for name in SETTINGS} == SETTINGS
    for row in benchmark["models"].values():
        assert list(row) == [
            "avg_at_k", "pass_at_k", "maj_at_k", "truncated", "no_answer", "judged", "unverifiable", "error",
            "mean_tokens",
        ]  # fmt: skip
        assert row["avg_at_k"]["low"] < row["avg_at_k"]["value"] < row["avg_at_k"]["high"]
        assert row["avg_at_k"]["value"] <= row["pass_at_k"]["value"]
    assert 0 < benchmark["minimum_detectable_gain"] < 0.3


def test_models_are_compared_with_the_first_and_with_the_one_before() -> None:
    found = scores({"base": model(0.3, 1), "sft": model(0.6, 2), "kd": model(0.7, 3)})["benchmarks"][0]
    assert [(d["model"], d["against"]) for d in found["differences"]] == [
        ("sft", "base"),
        ("kd", "base"),
        ("kd", "sft"),
    ]
    averages = {name: row["avg_at_k"]["value"] for name, row in found["models"].items()}
    for d in found["differences"]:
        assert d["value"] == pytest.approx(averages[d["model"]] - averages[d["against"]], abs=2e-6)
    sft = found["differences"][0]
    assert sft["low"] > 0 and sft["p_value"] < 0.01


def test_one_model_alone_has_no_differences_and_no_detectable_gain() -> None:
    found = scores({"base": model(0.3, 1)})["benchmarks"][0]
    assert (found["differences"], found["minimum_detectable_gain"]) == ([], None)


def test_equal_inputs_give_equal_tables_whatever_the_row_order() -> None:
    base, student = model(0.3, 1), model(0.5, 2)
    shuffled = student.take(np.random.default_rng(0).permutation(student.num_rows))
    first, again = (scores({"base": base, "sft": s}) for s in (student, shuffled))
    assert json.dumps(first) == json.dumps(again)


def test_unjudged_samples_are_counted_and_never_wrong() -> None:
    rows = [
        answer("a", 0, "correct", "4"),
        answer("a", 1, "error", None, reason="timeout"),
        answer("a", 2, "error", None, finish_reason="error", num_tokens=0, reason="engine_failed"),
        answer("a", 3, "correct", "4"),
        answer("b", 0, "unverifiable", None, reason="gold_unparsed"),
        answer("b", 1, "unverifiable", None, reason="gold_unparsed", finish_reason="length", num_tokens=30),
        answer("c", 0, "incorrect", "5"),
    ]
    found = scores({"base": table(rows)})["benchmarks"][0]
    row = found["models"]["base"]
    assert found["num_questions"] == 3
    assert [row[name]["value"] for name in ("avg_at_k", "pass_at_k", "maj_at_k")] == [0.5, 0.5, 0.5]
    assert (row["judged"], row["unverifiable"], row["error"]) == (3, 2, 2)
    assert (row["truncated"], row["no_answer"]) == (0.0, 0.0)
    assert row["mean_tokens"] == pytest.approx((10 * 5 + 30) / 6, abs=1e-6)
    assert correctness(table(rows)) == {"a": [True, True], "b": [], "c": [False]}


def test_truncated_and_no_answer_are_disjoint_shares_of_the_judged_samples() -> None:
    rows = [
        answer("a", 0, "incorrect", None, finish_reason="length"),
        answer("a", 1, "incorrect", None),
        answer("a", 2, "incorrect", "5"),
        answer("a", 3, "correct", "4"),
        answer("b", 0, "error", None, finish_reason="error"),
    ]
    row = scores({"base": table(rows)})["benchmarks"][0]["models"]["base"]
    assert (row["truncated"], row["no_answer"]) == (0.25, 0.25)


def test_a_benchmark_without_one_judged_sample_is_unknown() -> None:
    rows = [answer("a", i, "unverifiable", None) for i in range(4)]
    found = scores({"base": table(rows), "sft": table([])})["benchmarks"][0]
    assert found["models"]["base"]["avg_at_k"] == {"value": None, "low": None, "high": None}
    assert found["models"]["base"]["mean_tokens"] == 10.0
    assert found["models"]["sft"]["mean_tokens"] is None
    assert found["differences"][0]["value"] is None
    assert found["minimum_detectable_gain"] is None


def test_majority_uses_the_verifiers_notion_of_the_same_answer() -> None:
    rows = [answer("a", 0, "correct", "4"), answer("a", 1, "correct", "4")]
    rows += [answer("a", 2 + i, "incorrect", text) for i, text in enumerate(["0.5", "1/2", "\\frac{1}{2}"])]
    answers = {"base": table(rows)}
    assert scores(answers)["benchmarks"][0]["models"]["base"]["maj_at_k"]["value"] == 0.0
    by_text = score_table([BenchmarkAnswers("x", "in_domain", SETTINGS, answers)], CONFIG, seed=0, same=str.__eq__)
    assert by_text["benchmarks"][0]["models"]["base"]["maj_at_k"]["value"] == 1.0


def test_differences_pair_questions_by_id() -> None:
    base = table([answer("a", 0, "incorrect"), answer("b", 0, "correct"), answer("only", 0, "correct")])
    student = table([answer("b", 0, "correct"), answer("a", 0, "correct")])
    [difference] = scores({"base": base, "sft": student})["benchmarks"][0]["differences"]
    assert difference["value"] == 0.5


def test_samples_are_ordered_by_their_index() -> None:
    rows = [answer("a", 2, "correct"), answer("a", 0, "incorrect"), answer("a", 1, "incorrect")]
    assert correctness(table(rows)) == {"a": [False, False, True]}
