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
CAPITAL = "What is the capital of France?\nA. London\nB. Berlin\nC. Paris\nD. Madrid"
SUM = "What is 2+2?\nA. 3\nB. 4\nC. 5\nD. 6"
NEGATED = "Which city is NOT in France?\nA. Paris\nB. Lyon\nC. Madrid\nD. Nice"
GROUPS = "What does it carry?\nA) oxygen\nB) carbon dioxide\nC) both A and B\nD) none of the above"
CHANGES = "What will the pressure do?\nA. increase\nB. decrease\nC. stay the same\nD. increase then decrease"
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


def accepted_letters(response: str, question: str, letters: str = "ABCD") -> str:
    return "".join(letter for letter in letters if judged(response, letter, question)[0] is C)


@pytest.mark.parametrize(
    ("response", "letters"),
    [
        ("Let me see:\n\nA. London - no, UK.\nB. Berlin - no.\nC. Paris - yes!\nD. Madrid - no, Spain.", "C"),
        ("A. London is in England.\nB. Berlin is in Germany.\nC. Paris is the right one.\nD. Madrid is in Spain.", "C"),
        ("A. London is in England.\nB. Berlin is in Germany.\nD. Madrid is in Spain.\n\nSo Paris is the capital.", "C"),
        ("A) London: incorrect.\n\nB) Berlin: incorrect.\n\nTherefore the capital is Paris.", "C"),
        ("A. London is in England. B. Berlin is in Germany. C. Paris could be. D. Madrid is in Spain.", ""),
        ("A. London: yes\nC. Paris: yes", ""),
        ("(A) London is not in France, so we can rule it out.", ""),
        ("A. London is in England.\nThat leaves one.\n\nC", "C"),
        ("A. London no\nB. Berlin no\nD. Madrid no\nC. Paris", "C"),
        ("C. Paris\n\nA. London is in England.\nB. Berlin is in Germany.", "C"),
        ("C) Paris - incorrect", ""),
        ("(C) Paris is far away, so I exclude it.", ""),
    ],
)
def test_walking_through_the_options_names_only_the_one_that_is_affirmed(response: str, letters: str) -> None:
    assert accepted_letters(response, CAPITAL) == letters


def test_what_is_affirmed_in_a_walk_says_nothing_where_the_question_asks_what_is_not_so() -> None:
    assert accepted_letters("A. Paris - yes\nB. Lyon - no idea\nC. Madrid - no\nD. Nice - maybe", NEGATED) == ""
    assert accepted_letters("The answer is C. A is correct, B is correct and D is correct.", NEGATED) == "C"


@pytest.mark.parametrize(
    ("question", "response", "letters"),
    [
        (SUM, r"\boxed{4 \text{ (C)}}", ""),
        (SUM, r"\boxed{4 \text{ (B)}}", "B"),
        (SUM, "The result is 4 (C).", ""),
        (SUM, "2+2=4, option C", "C"),
        (SUM, "The answer is 4, i.e. C", ""),
        (SUM, "4 (C)", ""),
        (SUM, "4 (B)", "B"),
        (SUM, "B (4)", "B"),
        (SUM, "B (5)", ""),
        (CAPITAL, "The answer is Paris (B)", ""),
        (CAPITAL, "The answer is Paris (C)", "C"),
        (CAPITAL, "The answer is Paris, option B.", ""),
        (CAPITAL, "The answer is Paris, which is option C.", "C"),
        (CAPITAL, r"\boxed{\text{Paris (B)}}", ""),
        (CAPITAL, "Paris (C)", "C"),
        (CAPITAL, "Paris (B)", ""),
        (CAPITAL, "C (not correct)", ""),
        (CAPITAL, "C (or D)", ""),
        (CAPITAL, "The answer is C) Paris or D) Madrid.", ""),
        (CAPITAL, r"\boxed{C-D}", ""),
        (CAPITAL, "(C)(D)", ""),
        (CAPITAL, r"\boxed{(C)(D)}", ""),
        (GROUPS, "The answer is C) both A and B", "C"),
        (GROUPS, "The answer is C since both A and B are carried.", "C"),
        # a sentence after the letter, about another option, unless in the question's words
        (CAPITAL, "The answer is C. London is the capital of UK.", "C"),
        (CAPITAL, "The answer is B. Paris is the capital of France.", ""),
    ],
)
def test_a_letter_beside_a_text_has_to_be_its_own(question: str, response: str, letters: str) -> None:
    assert accepted_letters(response, question) == letters


@pytest.mark.parametrize(
    "response",
    [
        "The answer is C, not A.",
        "The answer is C not A.",
        "The answer is (C), not (A).",
        "The answer is C. Not A, because that is in England.",
        "The answer is C, not London.",
        "The correct answer is not A but C.",
        "The answer is C) Paris, not A) London.",
        "The answer is C, it can't be A or B",
        "C, not A",
    ],
)
def test_denying_one_option_does_not_deny_the_other(response: str) -> None:
    assert accepted_letters(response, CAPITAL) == "C"
    assert accepted_letters(response, "") == "C"


def test_denied_texts_in_small_letters_are_seen_as_such() -> None:
    assert accepted_letters("The answer is B, not nucleus.", CELLS) == "B"


@pytest.mark.parametrize(
    "response",
    [
        "The answer could be C, though D is more likely.",
        "Answer: C? No, D.",
        "The answer is C? Hmm, actually D.",
        "The answer is C.\nWait, I made a mistake. It should be D.",
        "I first thought the answer is C, but it's actually D.",
        "Many would say the answer is C. However, I believe D is correct.",
        "If the answer is C, then the earth is flat.",
        "The answer is C. On second thought, D is the answer.",
        "The answer is C. Wait, no, it's Madrid.",
        "The answer is Paris. Wait, no, it's Madrid.",
        "The answer is C. Wait, that is wrong.",
        "The answer is C. Sorry, I meant D.",
        "The answer is C, or rather D.",
        "The answer is not only C but also D.",
        "\\boxed{C}\nWait, it should be D.",
        "\\boxed{C}. Wait, it should be D.",
        "C\n\nWait, I made a mistake. It should be D.",
        "C. Paris\n\nActually, it is D.",
        "Some say it's C.",
        "Maybe C.",
        "Is it C?",
        "It is unlikely to be Paris.",
        "So it might be Paris.",
        "Paris is not the capital. So Madrid is the capital.",
        '{"answer": "D", "other": "C"}',
        '{"answer": ["C", "D"]}',
    ],
)
def test_an_answer_that_is_doubted_or_changed_is_not_accepted(response: str) -> None:
    assert "C" not in accepted_letters(response, CAPITAL)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("The answer is C.\nWait, I made a mistake. It should be D.", "several_answers"),
        ("The answer is C. Hold on, let me think.", "several_answers"),
        ("The answer is C. Wait, let me check. Yes, it is C.", "same_letter"),
        ("The answer is D. Wait, no, the answer is C.", "same_letter"),
    ],
)
def test_the_last_announcement_counts_and_other_changes_are_several_answers(response: str, reason: str) -> None:
    assert judged(response, "C", CAPITAL)[1] == reason


@pytest.mark.parametrize(
    "response",
    [
        "It's C",
        "It is C.",
        "This is C.",
        "Hence (C).",
        "Thus, C.",
        "So C.",
        "Therefore, C.",
        "Not A, not B, not D, therefore C",
        "Thus the correct one is C.",
        '{"answer": "C"}',
        "{'answer': 'C'}",
        '```json\n{"reason": "A is wrong", "answer": "C"}\n```',
        "The answer is 'C'",
        "'C'",
        "[[C]]",
        "Final: C",
        "My choice: C",
        "I'd say C",
        "I'm going with C.",
        "Between C and D, I choose C.",
        "The capital of France is Paris.",
        "London is in England and Berlin is in Germany. So it must be Paris.",
        "【答案】C",
        "因此选择C。",
        "正解はCです。",
        "정답은 C입니다.",
        "La respuesta correcta es C.",
        "La réponse correcte est C.",
        "Die richtige Antwort ist C.",
        "The answer is C. However, some say D.",
        "The answer is (C), I am 90% confident; A is second.",
        "The answer is (C). Option A is London, option B is Berlin.",
        "The correct answer is C. If it was A, London would be in France.",
    ],
)
def test_usual_ways_to_state_a_letter(response: str) -> None:
    assert accepted_letters(response, CAPITAL) == "C"


def test_a_conclusion_in_words_is_an_option_unless_denied() -> None:
    assert accepted_letters("It will not increase; it will decrease.", CHANGES) == "B"
    assert accepted_letters("It will increase then decrease.", CHANGES) == "D"
    assert accepted_letters("It will not increase.", CHANGES) == ""
    assert accepted_letters("It is A.", CAPITAL) == "A"
    assert accepted_letters("It is A good question.", CAPITAL) == ""


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("Paris", (C, "same_text")),
        ("Paris.", (C, "same_text")),
        ("The answer is Paris. Wait, no, it's London.", (W, "several_answers")),
        ("I thought the answer is Paris. Actually it's London.", (W, "no_answer")),
        ("London", (W, "no_answer")),
    ],
)
def test_a_text_without_a_question(response: str, expected: tuple[Outcome, str]) -> None:
    assert judged(response, "Paris") == expected


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
        "mitochondrion (B) ",
        "So it is A. Wait, ",
        "\nA. no\nB. ",
        '"answer": "A", ',
        "if the answer ",
        "no, actually mitochondrion, ",
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
