"""Scorers of reasoning-gym: their own answers pass, nonsense does not, and nothing the model wrote is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from verifiers import Outcome, VerifierError, VerifierPool, VerifyTask
from verifiers.config_more import ReasoningGymConfig

reasoning_gym = pytest.importorskip("reasoning_gym", reason="the package reasoning-gym is not installed")

from verifiers.reasoning_gym import ReasoningGymVerifier  # noqa: E402

VERIFIER = ReasoningGymVerifier()
TASKS = [
    *("chain_sum", "basic_arithmetic", "gsm_symbolic", "prime_factorization", "polynomial_multiplication"),
    *("simple_integration", "n_queens", "string_insertion", "spiral_matrix", "binary_matrix", "countdown", "puzzle24"),
    *("arc_1d", "rearc", "arc_agi", "game_of_life_halting", "number_sorting", "syllogism", "word_sorting", "sudoku"),
]
NONSENSE = ["<answer>banana</answer>", "I do not know", "<answer>-987654</answer>", "<answer>[[1,2],[3]]</answer>", ""]


def entry(dataset: str, seed: int = 3) -> dict[str, Any]:
    item: dict[str, Any] = reasoning_gym.create_dataset(dataset, size=1, seed=seed)[0]
    return item


def gold(dataset: str, item: dict[str, Any]) -> str:
    return json.dumps({"dataset": dataset, "entry": item}, default=str)


def judged(response: str, reference: str, **fields: Any) -> tuple[Outcome, str]:
    verdict = VERIFIER.verify(VerifyTask("x", response, reference, **fields))
    assert verdict.reason in VERIFIER.REASONS
    return verdict.outcome, verdict.reason


@pytest.mark.parametrize("dataset", TASKS)
def test_a_tasks_own_answer_is_correct_after_its_way_through_json(dataset: str) -> None:
    item = entry(dataset)
    reference = gold(dataset, item)
    rendered = VERIFIER.render(reference)
    assert rendered is not None
    assert judged(rendered, reference) == (Outcome.CORRECT, "full_score")
    assert judged(f"<think>so</think>\n{item['answer']}", reference)[0] is Outcome.CORRECT


@pytest.mark.parametrize("dataset", TASKS)
def test_nonsense_is_incorrect_and_no_error(dataset: str) -> None:
    reference = gold(dataset, entry(dataset))
    assert {judged(text, reference)[0] for text in NONSENSE} == {Outcome.INCORRECT}


@pytest.mark.parametrize("dataset", ["n_queens", "string_insertion", "spiral_matrix", "simple_integration", "puzzle24"])
@pytest.mark.parametrize(
    "attack",
    [
        "__import__('pathlib').Path({!r}).touch()",
        "[__import__('pathlib').Path({!r}).touch() for _ in '1']",
        "[[open({!r}, 'w')]]",
        "sin('open({!r}, \"w\")')",
        "'open({!r}, \"w\")'",
        "5! + open\n({!r}, 'w')",
        "(lambda: open({!r}, 'w'))()",
    ],
)
def test_code_in_an_answer_is_not_run(dataset: str, attack: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    text = attack.replace("{!r}", repr(str(trace)))
    item = entry(dataset)
    assert judged(f"<answer>{text}</answer>", gold(dataset, item))[0] is Outcome.INCORRECT
    assert judged(text, gold(dataset, item))[0] is Outcome.INCORRECT
    assert not trace.exists()


def test_the_scorer_itself_would_run_it(tmp_path: Path) -> None:
    """The guard guards something: without it the text is executed."""
    trace = tmp_path / "trace"
    text = f"[open({str(trace)!r}, 'w')]"
    reasoning_gym.get_score_answer_fn("spiral_matrix")(answer=text, entry=entry("spiral_matrix"))
    assert trace.exists()


def test_a_scorer_that_accepts_everything_is_not_believed() -> None:
    item = next(e for e in (entry("game_of_life_halting", seed) for seed in range(50)) if e["answer"] == "True")
    reference = gold("game_of_life_halting", item)
    assert reasoning_gym.get_score_answer_fn("game_of_life_halting")(answer="banana", entry=item) == 1.0
    assert judged("<answer>banana</answer>", reference) == (Outcome.INCORRECT, "scorer_accepts_all")
    assert judged("<answer>true</answer>", reference) == (Outcome.CORRECT, "full_score")


def test_a_part_of_the_score_is_incorrect_and_in_the_detail() -> None:
    item = entry("countdown")
    verdict = VERIFIER.verify(VerifyTask("x", "<answer>1 + 1</answer>", gold("countdown", item)))
    assert (verdict.outcome, verdict.reason) == (Outcome.INCORRECT, "low_score")
    assert 0 < json.loads(verdict.detail or "")["score"] < 1


def test_a_lower_threshold_lets_a_part_of_the_score_pass() -> None:
    item = entry("chain_sum")
    task = VerifyTask("x", f"<answer>about {item['answer']}</answer>", gold("chain_sum", item))
    assert VERIFIER.verify(task).outcome is Outcome.INCORRECT
    assert ReasoningGymVerifier(ReasoningGymConfig(threshold=0.1)).verify(task).outcome is Outcome.CORRECT


def test_a_scorer_that_raises_on_bad_text_makes_it_unparsed() -> None:
    item = entry("boxnet")
    assert judged("<answer>-987654</answer>", gold("boxnet", item)) == (Outcome.INCORRECT, "unparsed_answer")


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("", "gold_unparsed"),
        ("42", "gold_unparsed"),
        ("[" * 100_000, "gold_unparsed"),
        ('{"dataset": "chain_sum", "entry": {}}', "gold_unparsed"),
        ('{"dataset": "no_such", "entry": {"answer": "1"}}', "unknown_dataset"),
        ('{"dataset": "prime_factorization", "entry": {"answer": "four", "metadata": {}}}', "gold_rejected"),
    ],
)
def test_a_broken_reference_is_unverifiable(reference: str, reason: str) -> None:
    assert judged("<answer>5</answer>", reference) == (Outcome.UNVERIFIABLE, reason)


def test_a_truncated_response_is_truncated() -> None:
    item = entry("chain_sum")
    assert judged("<think>1 + 1", gold("chain_sum", item)) == (Outcome.INCORRECT, "truncated")
    complete = f"<answer>{item['answer']}</answer>"
    assert judged(complete, gold("chain_sum", item), finish_reason="length") == (Outcome.INCORRECT, "truncated")


def test_a_missing_package_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(VerifierError, match="pip install reasoning-gym"):
        ReasoningGymVerifier()


def test_a_pool_judges_rows_and_ends_an_endless_one() -> None:
    item = entry("simple_integration")
    reference = gold("simple_integration", item)
    tasks = [
        VerifyTask("right", f"<answer>{item['answer']}</answer>", reference),
        VerifyTask("endless", "<answer>9**9**9**9</answer>", reference),
        VerifyTask("wrong", "<answer>X**77</answer>", reference),
    ]
    with VerifierPool(ReasoningGymConfig(time_limit_s=4.0, num_workers=1)) as pool:
        verdicts = [verdict for _, verdict in pool.verify_all(tasks)]
    assert [v.outcome for v in verdicts] == [Outcome.CORRECT, Outcome.ERROR, Outcome.INCORRECT]
    assert verdicts[1].reason == "timeout"
