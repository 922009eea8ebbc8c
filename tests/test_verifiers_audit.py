"""The audit: a second grader on a sample, and references that the samples contradict."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from verifiers import Outcome, Verdict, VerifierPool, VerifyTask
from verifiers.audit import VerdictRow, audit, one_by_one, same_text, wilson
from verifiers.config_more import JudgeConfig, SecondMathConfig
from verifiers.judge import judge_all

C, W, U, E = Outcome.CORRECT, Outcome.INCORRECT, Outcome.UNVERIFIABLE, Outcome.ERROR


def row(name: str, outcome: Outcome, extracted: str | None = "7", problem: str = "p", gold: str = "7") -> VerdictRow:
    return VerdictRow(name, problem, gold, rf"\boxed{{{extracted}}}", outcome, "said", extracted)


def says(outcomes: dict[str, Outcome]) -> Any:
    return one_by_one(lambda task: Verdict(outcomes.get(task.id, C), "said", verifier="second@1"))


@pytest.mark.parametrize(
    ("hits", "num", "low", "high"),  # from the closed form: see Brown, Cai & DasGupta 2001 for the formula
    [(0, 10, 0.0, 0.2775), (1, 10, 0.0179, 0.4042), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_intervals(hits: int, num: int, low: float, high: float) -> None:
    assert wilson(hits, num) == pytest.approx((low, high), abs=1e-4)


def test_rates_count_what_the_second_grader_decides() -> None:
    rows = [row(f"c{i}", C) for i in range(10)] + [row(f"w{i}", W) for i in range(4)]
    rows += [row(f"u{i}", U) for i in range(3)] + [row(f"e{i}", E) for i in range(2)]
    second = says({"c0": W, "c1": U, "c2": E, "w0": C, "w1": W, "w2": W, "w3": E, "u0": U, "u1": E, "u2": C, "e0": U})
    report = audit(rows, second)
    found = {r.outcome: (r.num_rows, r.num_sampled, r.num_failed, r.num_judged, r.num_disagree) for r in report.rates}
    assert found == {C: (10, 10, 1, 8, 1), W: (4, 4, 1, 3, 1), U: (3, 3, 1, 2, 1), E: (2, 2, 0, 2, 1)}
    assert report.rates[0].rate == 1 / 8
    assert (report.rates[0].low, report.rates[0].high) == wilson(1, 8)
    assert {d.id for d in report.disagreements} == {"c0", "w0", "u2", "e1"}


def test_a_rate_without_rows_is_none() -> None:
    [rate] = audit([row("c", C)], says({"c": E})).rates
    assert (rate.num_judged, rate.rate, rate.low, rate.high) == (0, None, None, None)


def test_the_sample_is_stratified_seeded_and_blind_to_order() -> None:
    rows = [row(f"c{i}", C) for i in range(500)] + [row(f"w{i}", W) for i in range(30)]
    shuffled = random.Random(1).sample(rows, len(rows))

    def sampled(rows: Iterable[VerdictRow], seed: int) -> list[str]:
        seen: list[str] = []

        def grader(tasks: Iterable[VerifyTask]) -> Iterator[tuple[VerifyTask, Verdict]]:
            for task in tasks:
                seen.append(task.id)
                yield task, Verdict(C, "said")

        audit(rows, grader, num_per_outcome=20, seed=seed)
        return seen

    first = sampled(rows, 0)
    assert first == sampled(iter(shuffled), 0)
    assert first != sampled(rows, 1)
    assert [name[0] for name in first] == ["c"] * 20 + ["w"] * 20
    assert len(set(first)) == 40


def test_samples_of_different_seeds_are_about_evenly_spread() -> None:
    rows = [row(f"c{i}", C) for i in range(100)]
    counts = dict.fromkeys((r.id for r in rows), 0)
    for seed in range(200):
        for d in audit(rows, says({r.id: W for r in rows}), num_per_outcome=10, seed=seed).disagreements:
            counts[d.id] += 1
    assert sum(counts.values()) == 2000
    assert min(counts.values()) >= 5
    assert max(counts.values()) <= 45


def test_a_grader_that_loses_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="given 2 rows and returned 1"):
        audit([row("a", C), row("b", C)], lambda tasks: [(t, Verdict(C, "said")) for t in list(tasks)[:1]])


def test_the_audit_changes_no_verdict_and_is_ready_for_json() -> None:
    rows = [row("a", C), row("b", W, "8"), row("c", W, "8"), row("d", W, "8")]
    before = list(rows)
    report = audit(rows, says({"a": W}))
    assert rows == before
    value = json.loads(json.dumps(report.as_dict()))
    assert value["rates"][0]["outcome"] == "correct"
    assert value["suspect_golds"][0]["answer"] == "8"


def test_a_reference_that_most_samples_contradict_is_suspect() -> None:
    rows = [row("1", W, "8"), row("2", W, " 8. "), row("3", W, "8"), row("4", C, "7")]
    [suspect] = audit(rows, None).suspect_golds
    assert (suspect.problem_id, suspect.gold, suspect.answer) == ("p", "7", "8")
    assert (suspect.num_agree, suspect.num_samples, suspect.share) == (3, 4, 0.75)
    assert suspect.ids == ("1", "2", "3")
    assert suspect.low == wilson(3, 4)[0]


@pytest.mark.parametrize(
    "answers",
    [
        [("8", W), ("8", W)],  # too few
        [("8", W), ("8", W), ("7", C), ("7", C)],  # no majority
        [("7", C), ("7", C), ("8", W)],  # the majority is right
        [("8", W), ("9", W), ("10", W)],  # wrong in different ways
        [("8", U), ("8", U), ("8", U)],  # not judged incorrect
        [("8", W), ("8", W), (None, W), (None, W)],  # without an answer, nothing is said
    ],
)
def test_other_references_are_not_suspect(answers: list[tuple[str | None, Outcome]]) -> None:
    rows = [row(str(i), outcome, answer) for i, (answer, outcome) in enumerate(answers)]
    assert audit(rows, None).suspect_golds == ()


def test_errors_and_truncated_rows_are_no_samples() -> None:
    cut = [VerdictRow(f"t{i}", "p", "7", "", W, "truncated", "8") for i in range(3)]
    report = audit([*cut, *(row(f"e{i}", E, "8") for i in range(3))], None)
    assert report.suspect_golds == ()
    assert report.num_problems_too_few == 1


def test_more_and_clearer_agreement_comes_first() -> None:
    def problem(name: str, agree: int, other: int) -> list[VerdictRow]:
        rows = [row(f"{name}{i}", W, "8", name) for i in range(agree)]
        return rows + [row(f"{name}o{i}", C, "7", name) for i in range(other)]

    rows = problem("small", 3, 0) + problem("large", 16, 0) + problem("split", 9, 7)
    assert [s.problem_id for s in audit(rows, None).suspect_golds] == ["large", "small", "split"]


def test_what_counts_as_the_same_answer_can_be_given() -> None:
    rows = [row("1", W, "1/2"), row("2", W, "0.5"), row("3", W, r"\frac12")]
    assert audit(rows, None).suspect_golds == ()
    [suspect] = audit(rows, None, same=lambda a, b: True).suspect_golds
    assert suspect.num_agree == 3


def test_same_text_looks_through_spacing_and_case() -> None:
    assert same_text("$ X = 1 $", "x=1.")
    assert not same_text("1", "-1")


def test_rows_come_from_tables_and_lines() -> None:
    table = pa.table(
        {
            "id": ["a", "b"],
            "gold": ["7", "7"],
            "response": ["7", "8"],
            "outcome": ["correct", "incorrect"],
            "more": [1, 2],
        }
    )
    first, second = (VerdictRow.from_mapping(r) for r in table.to_pylist())
    assert (first.outcome, second.outcome) == (C, W)
    assert first.problem_id == second.problem_id
    other = VerdictRow.from_mapping({**table.to_pylist()[0], "question": "another"})
    assert other.problem_id != first.problem_id


@pytest.mark.parametrize(
    "value",
    [{}, {"id": "a", "gold": "7", "outcome": "correct"}, {"id": "a", "gold": "7", "response": "", "outcome": "maybe"}],
)
def test_rows_that_are_none_are_refused(value: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        VerdictRow.from_mapping(value)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        audit([], None, num_per_outcome=0)
    with pytest.raises(ValueError, match="at least"):
        audit([], None, min_samples=1)


def test_math_verify_in_a_pool_is_a_second_grader() -> None:
    rows = [
        VerdictRow("agrees", "1", "1/2", r"\boxed{0.5}", C, "exact", "0.5"),
        VerdictRow("overruled", "2", "1/2", r"\boxed{\frac{2}{4}}", W, "mismatch", r"\frac{2}{4}"),
        VerdictRow("accepted", "3", "1/2", r"\boxed{3}", C, "exact", "3"),
        VerdictRow("endless", "4", "x^2+2x+1", r"\boxed{\frac{((9^{9999})^{9999})^{9999}}{x}}", W, "mismatch", "9"),
    ]
    with VerifierPool(SecondMathConfig(time_limit_s=4.0, num_workers=1)) as pool:
        report = audit(rows, pool.verify_all)
    assert {d.id for d in report.disagreements} == {"overruled", "accepted"}
    assert [(r.outcome, r.num_failed) for r in report.rates] == [(C, 0), (W, 1)]


def test_a_judge_is_a_second_grader() -> None:
    grader = partial(judge_all, generate=lambda prompts: [None] * len(prompts), config=JudgeConfig(num_votes=1))
    [rate] = audit([row("a", C)], grader).rates
    assert rate.num_failed == 1


def test_real_model_outputs_are_audited() -> None:
    folder = Path(os.environ.get("FACTORY_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    path = folder / "07_math_equiv" / "real_pairs_qwen_vs_mathverify.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no evaluation data at {path}")
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()][:60]
    rows = [
        VerdictRow(str(i), str(i), r["gold"], rf"\boxed{{{r['prediction']}}}", C if r["qwen_grader"] else W, "stored")
        for i, r in enumerate(lines)
    ]
    with VerifierPool(SecondMathConfig(num_workers=1)) as pool:
        report = audit(rows, pool.verify_all)
    expected = {str(i) for i, r in enumerate(lines) if bool(r["qwen_grader"]) != bool(r["math_verify_0_9"])}
    assert len({d.id for d in report.disagreements} ^ expected) <= 3  # the stored verdicts had other wrappings
