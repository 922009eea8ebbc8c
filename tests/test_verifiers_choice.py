"""Multiple choice: letters, texts, and the words that look like letters; regular expressions."""

from __future__ import annotations

import gzip
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from verifiers import Outcome, VerifierPool, VerifyTask
from verifiers.choice import LETTERS, ChoiceVerifier, read_options
from verifiers.config_more import ChoiceConfig, RegexConfig
from verifiers.regex import RegexVerifier

CHOICE = ChoiceVerifier()
CELLS = "Which organelle makes ATP?\nA. nucleus\nB. mitochondrion\nC. E. coli\nD. vacuole"
NUMBERS = "How many? (A) 10 (B) -10 (C) 0.5 (D) 1/3 (E) None of these"
C, W, U = Outcome.CORRECT, Outcome.INCORRECT, Outcome.UNVERIFIABLE


def data_folder() -> Path:
    folder = Path(os.environ.get("FACTORY_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no evaluation data at {folder}")
    return folder


def rows_of(name: str) -> list[dict[str, Any]]:
    data = (data_folder() / name).read_bytes()
    text = gzip.decompress(data) if name.endswith(".gz") else data
    return [json.loads(line) for line in text.splitlines()]


def judged(response: str, gold: str, question: str = "") -> tuple[Outcome, str]:
    verdict = CHOICE.verify(VerifyTask("x", response, gold, question=question))
    assert verdict.reason in CHOICE.REASONS
    return verdict.outcome, verdict.reason


@pytest.mark.parametrize(
    ("question", "gold", "response", "outcome", "reason"),
    [
        # by letter
        (CELLS, "B", r"\boxed{B}", C, "same_letter"),
        (CELLS, "(B)", r"\boxed{\text{B}}", C, "same_letter"),
        (CELLS, "B.", r"So the answer is $\boxed{\textbf{(B)}}$.", C, "same_letter"),
        (CELLS, "B) mitochondrion", "The answer is (B).", C, "same_letter"),
        (CELLS, "B", "**B**", C, "same_letter"),
        (CELLS, "B", "b", C, "same_letter"),
        (CELLS, "B", "B. mitochondrion", C, "same_letter"),
        (CELLS, "B", "<think>A? no.</think>\n\nAnswer: B", C, "same_letter"),
        (CELLS, "B", "<answer>B</answer>", C, "same_letter"),
        (CELLS, "B", "Energy is made there, so option B.", C, "same_letter"),
        (CELLS, "B", "It's not A because that holds DNA, therefore I think it's B", C, "same_letter"),
        (CELLS, "B", "The answer is B, it can't be A or C", C, "same_letter"),
        (CELLS, "B", "B is the correct choice", C, "same_letter"),
        (CELLS, "B", "正确答案是 B，不是 A", C, "same_letter"),
        (CELLS, "B", r"\boxed{C}", W, "mismatch"),
        # by text
        (CELLS, "B", r"\boxed{\text{Mitochondrion}}", C, "same_text"),
        (CELLS, "B", "The answer is the mitochondrion.", C, "same_text"),
        (CELLS, "mitochondrion", r"\boxed{B}", C, "same_letter"),
        (CELLS, "The mitochondrion", "mitochondrion", C, "same_text"),
        (NUMBERS, "D", r"\boxed{\frac{1}{3}}", C, "same_text"),
        (NUMBERS, "C", "The answer is 0.50.", C, "same_text"),
        (NUMBERS, "B", r"B. $-10$", C, "same_letter"),
        (NUMBERS, "E", "None of these", C, "same_text"),
        (CELLS, "B", r"\boxed{\text{nucleus}}", W, "mismatch"),
        (CELLS, "C", "The answer is E. coli.", C, "same_text"),
        # a letter and a text that contradict each other
        (CELLS, "B", "The answer is (B) nucleus.", W, "letter_text_conflict"),
        (NUMBERS, "B", "B. 10", W, "letter_text_conflict"),
        (CELLS, "B", "\\boxed{\\text{mitochondrion}}\nThe answer is A.", W, "letter_text_conflict"),
        # several answers
        (CELLS, "B", r"\boxed{A or B}", W, "several_answers"),
        (CELLS, "B", "The answer is A and B.", W, "several_answers"),
        (CELLS, "B", r"\boxed{AB}", W, "several_answers"),
        (CELLS, "B", "The answer is the nucleus or the mitochondrion.", W, "several_answers"),
        (CELLS, "B", "Option A could be it, and option B could be it.", W, "several_answers"),
        (CELLS, "B", "\\boxed{B}\nThe answer is A.", W, "several_answers"),
        # words that look like letters
        ("", "A", "A cat sat on the mat", W, "no_answer"),
        (CELLS, "A", "A mitochondrion makes it.", W, "no_answer"),
        (CELLS, "A", "The answer is a mitochondrion.", W, "mismatch"),
        ("", "I", "I think so", W, "no_answer"),
        ("", "C", "Vitamin C helps.", W, "no_answer"),
        (CELLS, "B", "B cells are part of the immune system", W, "no_answer"),
        # denied
        (CELLS, "A", "Option A is wrong.", W, "no_answer"),
        (CELLS, "A", "The answer is not A.", W, "no_option"),
        (CELLS, "A", "Each answer choice: (A) can never be true, and (B) must be.", W, "no_answer"),
        # nothing there
        (CELLS, "B", "", W, "no_answer"),
        (CELLS, "B", "I don't know.", W, "no_answer"),
        (CELLS, "B", r"\boxed{E}", W, "no_option"),
        (CELLS, "B", r"\boxed{ribosome}", W, "no_option"),
        (CELLS, "B", "<think>it is B", W, "truncated"),
        # nobody can say
        (CELLS, "E", r"\boxed{B}", U, "gold_no_option"),
        (CELLS, "ribosome", r"\boxed{B}", U, "gold_no_option"),
        (CELLS, "B. nucleus", r"\boxed{B}", U, "gold_no_option"),
        (CELLS, "", r"\boxed{B}", U, "gold_no_option"),
        ("", "AB", r"\boxed{A}", U, "gold_no_option"),
        ("", "mitochondrion", r"\boxed{B}", U, "options_unknown"),
        ("", "B", r"\boxed{mitochondrion}", U, "options_unknown"),
        ("", "(B) mitochondrion", r"\boxed{mitochondrion}", C, "same_text"),
    ],
)
def test_verdict_and_reason(question: str, gold: str, response: str, outcome: Outcome, reason: str) -> None:
    assert judged(response, gold, question) == (outcome, reason)


def test_a_response_cut_off_at_the_token_limit_is_truncated() -> None:
    verdict = CHOICE.verify(VerifyTask("x", r"\boxed{B}", "B", finish_reason="length"))
    assert (verdict.outcome, verdict.reason) == (W, "truncated")


def test_the_number_of_options_bounds_the_letters() -> None:
    four = ChoiceVerifier(ChoiceConfig(num_options=4))
    assert four.verify(VerifyTask("x", r"\boxed{E}", "B")).reason == "no_option"
    assert four.verify(VerifyTask("x", r"\boxed{E}", "E")).reason == "gold_no_option"


@pytest.mark.parametrize(
    "layout", ["A. {}\nB. {}\nC. {}", "(A) {} (B) {} (C) {}", "A) {}\nB) {}\nC) {}", "A: {}\nB: {}\nC: {}"]
)
def test_options_are_read_from_the_usual_layouts(layout: str) -> None:
    texts = ["a point (B)", "3.5", r"$\frac{1}{2}$"] if layout.startswith("A") else ["one", "3.5", r"$\frac{1}{2}$"]
    assert read_options("In Section A. we ask:\n" + layout.format(*texts)) == dict(zip("ABC", texts))


def test_prose_holds_no_options() -> None:
    assert read_options("Let A be a point. B is another (see C). What is AB?") == {}


def test_a_duplicated_option_counts_under_both_letters() -> None:
    question = "Pick.\nA. one\nB. two\nC. two"
    assert judged(r"\boxed{two}", "B", question)[0] is C
    assert judged(r"\boxed{two}", "C", question)[0] is C


@pytest.mark.parametrize("gold", ["B", "(B)", "B.", "mitochondrion", "B) mitochondrion"])
def test_a_rendered_reference_is_accepted(gold: str) -> None:
    rendered = CHOICE.render(gold)
    assert rendered is not None
    assert judged(rendered, gold, CELLS)[0] is C


def test_real_traces_are_all_accepted_and_never_for_another_letter() -> None:
    rows = rows_of("06_long_cot/lucky_pcmb_traces.jsonl.gz")[::3]
    assert len(rows) > 100
    for row in rows:
        question = row["question"] + "\n" + "\n".join(f"{a}. {o}" for a, o in zip(LETTERS, row["options"]))
        gold = row["answer_letter"]
        response = f"<think>{row['reasoning']}</think>{row['answer_text']}"
        accepted = [letter for letter in LETTERS[: len(row["options"])] if judged(response, letter, question)[0] is C]
        assert accepted == [gold], row["id"]


def test_real_questions_accept_each_rendering_of_an_option_and_no_other_option() -> None:
    for row in rows_of("02_math/qwen25math_aqua.jsonl")[::5]:
        texts = [option[2:] for option in row["options"]]
        question = row["question"] + "\n" + "\n".join(row["options"])
        if len(read_options(question)) != len(texts) or len({*map(str.lower, texts)}) < len(texts):
            continue
        for i, text in enumerate(texts):
            for form in (r"\boxed{%s}", "The answer is %s.", f"{LETTERS[i]}. %s", f"({LETTERS[i]}) %s"):
                accepted = [x for x in LETTERS[: len(texts)] if judged(form % text, x, question)[0] is C]
                assert accepted == [LETTERS[i]], (form % text, row["options"])


def test_letter_cases_of_other_graders() -> None:
    rows = rows_of("07_math_equiv/math_equivalence_cases.jsonl")
    letters = [row for row in rows if row["kind"] == "mcq-letter"]
    wrong = [row for row in letters if (judged(row["prediction"], row["gold"])[0] is C) != row["expected"]]
    # "A Peter" is text here, not option A: whether a bare word after "A" is a name cannot be known.
    assert [row["gold"] for row in wrong] == ["A Peter\nCelina bum"]
    assert len(letters) >= 15


def test_hostile_text_costs_no_time_and_raises_nothing() -> None:
    units = [
        "**",
        "(A) ",
        "answer is A, ",
        "option A ",
        r"\text{",
        r"\boxed{",
        "mitochondrion or ",
        "\x00",
        "\ud800",
        "[",
    ]
    for unit in units:
        text = unit * (90_000 // len(unit))
        for response, question in ((text, CELLS), (r"\boxed{B}", text), (rf"\boxed{{{text}}}", CELLS)):
            start = time.process_time()
            assert judged(response, "B", question)[1] != "checker_failed"
            assert time.process_time() - start < 5, unit


def test_random_text_gives_a_verdict_with_a_known_reason() -> None:
    draw = random.Random(5)
    pieces = [
        "A",
        "B",
        "(",
        ")",
        ".",
        r"\boxed{",
        "}",
        "$",
        "answer is ",
        "not ",
        "\n",
        " ",
        "<think>",
        "答案",
        "\ud800",
        "-5",
    ]

    def text() -> str:
        parts = (draw.choice(pieces) if draw.random() < 0.9 else chr(draw.randrange(0x3000)) for _ in range(20))
        return "".join(parts)

    for _ in range(500):
        assert judged(text(), text(), draw.choice(["", CELLS, text()]))[1] != "checker_failed"


# Regular expressions


def matched(response: str, gold: str, **config: Any) -> tuple[Outcome, str]:
    verifier = RegexVerifier(RegexConfig(**config))
    verdict = verifier.verify(VerifyTask("x", response, gold))
    assert verdict.reason in verifier.REASONS
    return verdict.outcome, verdict.reason


@pytest.mark.parametrize(
    ("gold", "response", "config", "expected"),
    [
        (r"\d{3}", r"\boxed{123}", {}, (C, "match")),
        (r"\d{3}", "The answer is 123.", {}, (C, "match")),
        (r"\d{3}", r"\boxed{1234}", {}, (W, "mismatch")),
        (r"\d{3}", r"\boxed{1234}", {"match": "search"}, (C, "match")),
        ("paris", "Paris", {}, (W, "mismatch")),
        ("paris", "Paris", {"ignore_case": True}, (C, "match")),
        (r"def f\(.*", "def f(x):", {}, (C, "match")),
        (r"(?s).*\bTHE END", "long text\nTHE END", {"part": "final"}, (C, "match")),
        (r"(?s).*\bTHE END", "<think>THE END</think> no", {"part": "final"}, (W, "mismatch")),
        ("whatever", r"\boxed{7}", {"pattern": "[0-9]"}, (C, "match")),
        ("(", r"\boxed{7}", {}, (U, "pattern_invalid")),
        ("", r"\boxed{7}", {}, (U, "pattern_invalid")),
        ("a{99999999999}", r"\boxed{7}", {}, (U, "pattern_invalid")),
        (".*", "<think>", {}, (W, "truncated")),
        (".*", "", {}, (W, "no_answer")),
    ],
)
def test_pattern_verdicts(gold: str, response: str, config: dict[str, Any], expected: tuple[Outcome, str]) -> None:
    assert matched(response, gold, **config) == expected


def test_only_patterns_that_match_themselves_are_rendered() -> None:
    verifier = RegexVerifier()
    assert verifier.render(r"\d+") is None
    rendered = verifier.render("forty two")
    assert rendered is not None
    assert matched(rendered, "forty two")[0] is C


def test_a_catastrophic_pattern_ends_with_its_worker_and_the_next_row_is_judged() -> None:
    tasks = [
        VerifyTask("slow", r"\boxed{" + "a" * 60 + "!}", r"(a+)+b"),
        VerifyTask("next", r"\boxed{ab}", r"(a+)+b"),
    ]
    with VerifierPool(RegexConfig(time_limit_s=1.0, num_workers=1)) as pool:
        verdicts = [verdict for _, verdict in pool.verify_all(tasks)]
    assert [(v.outcome, v.reason) for v in verdicts] == [(Outcome.ERROR, "timeout"), (C, "match")]
