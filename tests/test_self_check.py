"""References and verifiers that do not fit: found before a teacher is paid for answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flow import call_factory, tiny_recipe

from factory.errors import DataError
from factory.records import Problem
from factory.self_check import usable_golds
from verifiers import CodeConfig, ExactConfig, MathConfig, PluginConfig, build_verifier
from verifiers.self_check import self_check

ACCEPTS_ALL = """
from verifiers import Outcome, TextVerifier, Verdict

class Check(TextVerifier):
    name, version, REASONS = "generous", 1, ("fine",)

    def verify(self, task):
        return Verdict(Outcome.CORRECT, "fine")
"""


@pytest.mark.parametrize("gold", ["18", r"\frac{1}{2}", "x^2+2x", r"\{1, 2\}", "(3, \\infty)", "Paris"])
def test_the_maths_verifier_accepts_a_reference_and_refuses_another_answer(gold: str) -> None:
    assert self_check(build_verifier(MathConfig()), gold, "17") is None


def test_an_empty_reference_and_a_check_that_accepts_everything_are_told(tmp_path: Path) -> None:
    assert "unverifiable/gold_unparsed" in str(self_check(build_verifier(ExactConfig()), "  "))
    (tmp_path / "check.py").write_text(ACCEPTS_ALL)
    generous = build_verifier(PluginConfig(check=f"{tmp_path}/check.py:Check"))
    assert "a wrong answer is accepted" in str(self_check(generous, "18", "17"))


def test_a_reference_that_the_verifier_would_never_accept_is_dropped_before_anything_is_paid_for() -> None:
    problems = [
        Problem("a", "1+1?", "2", "s", "l"),
        Problem("b", "Solve.", r"\boxed{1} and then, after some more steps further down, \boxed{2}", "s", "l"),
        Problem("c", "Expand.", "x^2 + 2x", "s", "l"),
    ]
    usable = usable_golds(problems, MathConfig(num_workers=1))
    assert [p.id for p in usable.kept] == ["a", "c"]
    assert [(d.row, d.reason) for d in usable.dropped] == [(2, "gold_refused")]
    assert "unverifiable/gold_ambiguous" in usable.dropped[0].detail
    with pytest.raises(DataError, match="accepts none of 1 references"):
        usable_golds(problems[1:2], MathConfig())


def test_check_tells_of_references_that_fit_no_verifier(tmp_path: Path) -> None:
    rows = [
        {"question": f"Solve {n}.", "answer": f"\\boxed{{{n}}} and further down, quite another, \\boxed{{x}}"}
        for n in range(9)
    ]
    (tmp_path / "ambiguous.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tiny_recipe(tmp_path, problems={"kind": "file", "path": "ambiguous.jsonl", "gold_format": "plain"})
    ended = call_factory("check", recipe)
    assert ended.code == 1
    assert "verify: 9 of the first 9 references cannot be used" in ended.err and "line 1" in ended.err


def test_tests_that_cannot_be_run_are_dropped_and_the_others_stay() -> None:
    problems = [
        Problem("a", "Double it.", '{"inputs": ["1"], "outputs": ["2"]}', "s", "l"),
        Problem("b", "Double it again.", '{"inputs": ["1"]}', "s", "l"),
    ]
    usable = usable_golds(problems, CodeConfig(num_workers=1))
    assert [p.id for p in usable.kept] == ["a"]
    assert [(d.row, d.detail.partition(":")[0]) for d in usable.dropped] == [(2, "unverifiable/tests_unusable")]
