"""Mathematical equivalence: a table of (gold, answer, outcome, reason), hostile rows, and measured agreement."""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from math_pairs import PAIRS

from verifiers import ExactConfig, MathConfig, Outcome, Verdict, VerifierPool, VerifyTask, build_verifier
from verifiers.exact import ExactVerifier
from verifiers.math import MathVerifier
from verifiers.second_math import SecondMathVerifier

CORRECT = [
    ("5", "5", "exact"),
    ("5", "5.0", "exact"),
    ("1,234,567", "1234567", "exact"),
    ("10,\\!080", "10080", "exact"),
    ("0.5", "\\frac{1}{2}", "exact"),
    ("1/2", "\\frac{2}{4}", "exact"),
    ("\\frac12", "0.5", "exact"),
    ("3\\frac{1}{2}", "7/2", "exact"),
    ("2^{10}", "1024", "exact"),
    ("1.87e6", "1.87 \\times 10^6", "exact"),
    ("1/3", "0.333333", "exact"),
    ("0.1\\overline{6}", "1/6", "exact"),
    ("-3", "−3", "exact"),
    ("$18", "18 dollars", "exact"),
    ("18", "18\\text{ cm}^2", "exact"),
    ("20 $cm^{2}$", "20", "exact"),
    ("18 m", "18", "exact"),
    ("15000", "15,000 \\, \\text{kcal m}^{-2} \\text{ yr}^{-1}", "exact"),
    ("50\\%", "50", "exact"),
    ("50\\%", "0.5", "exact"),
    ("90^\\circ", "90", "exact"),
    ("12", "12^{\\mathrm{th}} \\text{ grade}", "exact"),
    ("5am", "5\\text{ am}", "exact"),
    ("12:30", "12:30 pm", "exact"),
    ("3:4", "6:8", "exact"),
    ("1011_2", "(1011)_2", "exact"),
    ("1011_2", "1011", "exact"),
    ("x=5", "5", "exact"),
    ("5", "x = 2 + 3 = 5", "exact"),
    ("5, 9", "9 \\text{ and } 5", "exact"),
    ("\\pm 3", "3, -3", "exact"),
    ("\\{1,2\\}", "\\{2,1\\}", "exact"),
    ("\\{1,2\\}", "1, 2, 2", "exact"),
    ("(1,2),(3,4)", "(3,4) \\text{ and } (1,2)", "exact"),
    ("x=2, y=3", "(2,3)", "exact"),
    ("\\text{(C)}", "C", "exact"),
    ("C", "(C) Plane", "exact"),
    ("D", "(D) $x^2-8x+16=0$", "exact"),
    ("\\text{yes}", "Yes", "exact"),
    ("\\emptyset", "\\varnothing", "exact"),
    ("x^2+2x+1", "(x+1)^2", "exact"),
    ("\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt{2}}", "exact"),
    ("\\frac{x}{10}", "0.1x", "exact"),
    ("2\\sqrt{3}\\text{ cm}", "2\\sqrt{3}", "exact"),
    ("1+2i", "i(2-i)", "exact"),
    ("e^{i\\pi}", "-1", "exact"),
    ("\\frac{\\sinh(at)}{a}", "\\frac{e^{at}-e^{-at}}{2a}", "exact"),
    ("cx^2", "Cx^2", "exact"),
    ("x \\in (-2,3)", "-2<x<3", "exact"),
    ("\\{x \\mid -2 \\le x < 1\\}", "[-2,1)", "exact"),
    ("2x+4y-3=0", "y=-\\frac{1}{2}x+\\frac{3}{4}", "exact"),
    ("\\frac{1}{3}E_{1}+\\frac{2}{3}E_{2}", "\\frac{E_1+2E_2}{3}", "exact"),
    ("m_{\\max}=n^2-n", "n(n-1)", "exact"),
    ("\\lambda_{\\text{red}}/2", "0.5\\lambda_{\\text{red}}", "exact"),
    ("f'(x)=2x", "2x", "exact"),
    ("\\frac{dM}{dt}=2M", "\\frac{dM}{dt}=M+M", "exact"),
    ("\\begin{pmatrix} 1/2 \\\\ 3 \\end{pmatrix}", "\\begin{bmatrix} 0.5 \\\\ 3 \\end{bmatrix}", "exact"),
    ("\\log_{\\frac12} 3", "-\\log_2 3", "exact"),
]
WRONG = [
    ("5", "6"),
    ("8164961", "8164964"),
    ("4080", "40.8"),
    ("-25", "-2,5"),
    ("1/3", "0.33"),
    ("6630", "6630.65"),
    ("3", "\\infty"),
    ("\\infty", "-\\infty"),
    ("5am", "5pm"),
    ("12:00", "1:00"),
    ("1:20", "2:40"),
    ("18 cm", "18 km"),
    ("2\\sqrt{3} cm", "2\\sqrt{3} km"),
    ("1112112_3", "1112122_3"),
    ("1112112_3", "1112112_5"),
    ("(1,2)", "(2,1)"),
    ("(2,\\infty)", "[2,\\infty)"),
    ("(1,2)", "[1,2]"),
    ("1, 2, 3", "1, 2"),
    ("1, 2", "1, 2, 3"),
    ("\\sqrt{2}", "\\sqrt{2}, 16"),
    ("f(x)=x+1", "f(x) = 1 \\text{ or } f(x) = x + 1"),
    ("A", "(B) Plane"),
    ("A", "(A), (B)"),
    ("A", "(A) and (B)"),
    ("x>5", "x<5"),
    ("x \\ge 5", "x > 5"),
    ("x", "|x|"),
    ("x^2+2x+1", "x^2+2x-1"),
    ("7 = 11a+c", "11a+c"),
    ("x+y=5", "5"),
    ("m\\frac{dv}{dt}+bv=f", "f"),
    ("y''+y=0", "y'+y=0"),
    ("\\frac{dM}{dt}=2M", "\\frac{dM}{dt}=-3M"),
    ("\\frac{1}{2} g t", "\\frac{1}{2}"),
    ("5m", "5"),
    ("Mm", "m^2"),
    ("\\sqrt{2}\\cdot 10^{-8}", "0.0000001"),
    ("6.6\\cdot 10^{-34} f", "1.1\\cdot 10^{-30} f"),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 1 & 2 \\end{pmatrix}"),
    ("\\begin{pmatrix} 1/2 \\\\ 3 \\end{pmatrix}", "\\begin{pmatrix} 1/3 \\\\ 2 \\end{pmatrix}"),
    ("0", "__import__('os').system('true') or 0"),
    ("\\text{yes}", "no"),
]
RESPONSES = [
    # gold, response, finish_reason, outcome, reason
    ("5", "", None, Outcome.INCORRECT, "no_answer"),
    ("5", "I do not know, sorry about that", None, Outcome.INCORRECT, "no_answer"),
    ("5", "\\boxed{}", None, Outcome.INCORRECT, "no_answer"),
    ("5", "\\boxed{5}", "length", Outcome.INCORRECT, "truncated"),
    ("5", "<think> \\boxed{5}", "stop", Outcome.INCORRECT, "truncated"),
    ("5", "<think> 4? </think> \\boxed{5}", "stop", Outcome.CORRECT, "exact"),
    ("5", "\\boxed{\\frac{1}{0}}", None, Outcome.INCORRECT, "unparsed_answer"),
    ("5", "\\boxed{((((((}", None, Outcome.INCORRECT, "unparsed_answer"),
    ("", "\\boxed{5}", None, Outcome.UNVERIFIABLE, "gold_unparsed"),
    ("   ", "\\boxed{5}", None, Outcome.UNVERIFIABLE, "gold_unparsed"),
    ("\\frac{1}{0}", "\\boxed{5}", None, Outcome.UNVERIFIABLE, "gold_unparsed"),
    ("see the figure, part (", "\\boxed{x^2}", None, Outcome.UNVERIFIABLE, "gold_unparsed"),
    ("so 1+1 = 2.\n#### 2", "2", None, Outcome.CORRECT, "exact"),
    (
        "Hence $x=\\boxed{-2}$ or $x=\\boxed{1}$, as both work.",
        "\\boxed{1}",
        None,
        Outcome.UNVERIFIABLE,
        "gold_ambiguous",
    ),
    ("\\boxed{1} papers and \\boxed{2} bins", "\\boxed{1, 2}", None, Outcome.CORRECT, "exact"),
    ("\\boxed{1} papers and \\boxed{2} bins", "\\boxed{2}", None, Outcome.UNVERIFIABLE, "gold_ambiguous"),
    ("3, 5", "We get $y_1 = \\boxed{3}$ for $a$ and $y_2 = \\boxed{5}$ for $b$.", None, Outcome.CORRECT, "exact"),
    ("3, 6", "We get $y_1 = \\boxed{3}$ for $a$ and $y_2 = \\boxed{5}$ for $b$.", None, Outcome.INCORRECT, "mismatch"),
    # What is denied, asked or left open is no answer.
    ("12", "The answer is not 12.", None, Outcome.INCORRECT, "no_answer"),
    ("12", "The answer is not 12 but 13.", None, Outcome.INCORRECT, "mismatch"),
    ("13", "The answer is not 12 but 13.", None, Outcome.CORRECT, "exact"),
    ("13", "The answer is not 12. The answer is 13.", None, Outcome.CORRECT, "exact"),
    ("12", "The answer can't be 12. It is 13.", None, Outcome.INCORRECT, "mismatch"),
    ("12", "The answer is either 12 or 13.", None, Outcome.INCORRECT, "mismatch"),
    ("12", "The answer is between 12 and 13.", None, Outcome.INCORRECT, "mismatch"),
    ("12", "The answer is at least 12.", None, Outcome.INCORRECT, "mismatch"),
    ("12", "The answer is less than $12$.", None, Outcome.INCORRECT, "mismatch"),
    ("12", "The answer is 12? No, it is 13.", None, Outcome.INCORRECT, "mismatch"),
    ("13", "The answer is 12? No, it is 13.", None, Outcome.CORRECT, "exact"),
    ("5", "So the solutions are $x=\\boxed{3}$ and $x=\\boxed{5}$.", None, Outcome.INCORRECT, "mismatch"),
    ("5", "Wait, \\boxed{3}. Actually, \\boxed{5}.", None, Outcome.CORRECT, "exact"),
    ("5", "We get $n=\\boxed{3}$, so the answer is \\boxed{5}.", None, Outcome.CORRECT, "exact"),
    ("5", "\u6240\u4ee5\u7b54\u6848\u4e3a $5$\u3002", None, Outcome.CORRECT, "exact"),
    ("12", "<answer>The answer is 12</answer>", None, Outcome.CORRECT, "exact"),
    ("2", "#### The answer is 2", None, Outcome.CORRECT, "exact"),
    ("2", "#### Step 2\nWe get $x=2$.", None, Outcome.CORRECT, "exact"),
    ("2", "#### Step 1\n#### Answer\n2", None, Outcome.CORRECT, "exact"),
    ("Hence \\boxed{\\frac12}, that is \\boxed{0.5}", "\\boxed{1/2}", None, Outcome.CORRECT, "exact"),
    ("Either \\boxed{15\\frac{39}{40}} or \\boxed{\\frac{639}{40}}", "15.975", None, Outcome.CORRECT, "exact"),
]


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(MathConfig()) as pool:
        yield pool


def box(answer: str) -> str:
    return f"Thus \\boxed{{{answer}}}."


def verdict(response: str, gold: str, finish_reason: str | None = None) -> Verdict:
    return MathVerifier().verify(VerifyTask("row", response, gold, finish_reason))


@pytest.mark.parametrize(("gold", "answer", "reason"), CORRECT)
def test_equal_answers_are_correct(gold: str, answer: str, reason: str) -> None:
    found = verdict(box(answer), gold)
    assert (found.outcome, found.reason, found.verifier) == (Outcome.CORRECT, reason, f"math@{MathVerifier.version}")


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_different_answers_are_incorrect(gold: str, answer: str) -> None:
    found = verdict(box(answer), gold)
    assert (found.outcome, found.reason) == (Outcome.INCORRECT, "mismatch")


@pytest.mark.parametrize("name", PAIRS)
def test_equal_pairs_of_every_class_are_correct(name: str) -> None:
    found = {(gold, answer): verdict(box(answer), gold) for gold, answer in PAIRS[name].equal}
    assert {pair: v.reason for pair, v in found.items() if v.outcome is not Outcome.CORRECT} == {}


@pytest.mark.parametrize("name", PAIRS)
def test_near_misses_of_every_class_are_incorrect(name: str) -> None:
    found = {(gold, answer): verdict(box(answer), gold) for gold, answer in PAIRS[name].unequal}
    assert {pair: v.reason for pair, v in found.items() if v.outcome is not Outcome.INCORRECT} == {}


def test_the_exact_path_decides_nearly_all_pairs_and_as_the_full_one_does() -> None:
    tasks = [VerifyTask("", box(a), g) for pairs in PAIRS.values() for g, a in pairs.equal + pairs.unequal]
    settled = [(task, MathVerifier().settle(task)) for task in tasks]
    decided = [(task, v) for task, v in settled if v is not None]
    assert len(decided) > 0.95 * len(tasks)
    assert [t for t, v in decided if v.outcome is not MathVerifier().verify(t).outcome] == []


@pytest.mark.parametrize(
    ("gold", "answer", "outcome"),
    [
        # An answer may be sloppier than a reference.
        ("5", "x = 5", Outcome.CORRECT),
        ("17", "m + n = 17", Outcome.CORRECT),
        ("x + y = 17", "17", Outcome.INCORRECT),
        ("0", "x^2 - 4 = 0", Outcome.INCORRECT),
        ("AB = 17", "17", Outcome.CORRECT),
        ("1011_2", "1011", Outcome.CORRECT),
        ("3 \\pmod 7", "3", Outcome.CORRECT),
        ("3", "10 \\pmod 7", Outcome.INCORRECT),
        ("25\\%", "0.25", Outcome.CORRECT),
        ("0.25", "0.25\\%", Outcome.INCORRECT),
        ("18\\text{ cm}", "18", Outcome.CORRECT),
        ("18\\text{ cm}", "18\\text{ m}", Outcome.INCORRECT),
    ],
)
def test_rules_are_asymmetric_where_they_are_written_down(gold: str, answer: str, outcome: Outcome) -> None:
    assert verdict(box(answer), gold).outcome is outcome


@pytest.mark.parametrize(("gold", "response", "finish", "outcome", "reason"), RESPONSES)
def test_outcome_and_reason_of_a_response(
    gold: str, response: str, finish: str | None, outcome: Outcome, reason: str
) -> None:
    found = verdict(response, gold, finish)
    assert (found.outcome, found.reason) == (outcome, reason)


@pytest.mark.parametrize(("gold", "answer"), [(g, a) for g, a, _ in CORRECT] + WRONG)
def test_the_exact_path_never_contradicts_the_full_one(gold: str, answer: str) -> None:
    settled = MathVerifier().settle(VerifyTask("row", box(answer), gold))
    if settled is not None:
        assert settled.outcome == verdict(box(answer), gold).outcome


@pytest.mark.parametrize("gold", [g for g, _, _ in CORRECT])
def test_every_gold_is_its_own_answer(gold: str) -> None:
    assert verdict(box(gold), gold).outcome is Outcome.CORRECT


def test_a_plain_number_needs_no_sympy() -> None:
    settled = MathVerifier().settle(VerifyTask("row", "The answer is 1,234.", "1234"))
    assert settled is not None and settled.outcome is Outcome.CORRECT


def test_long_lists_in_many_boxes_cases_and_names_take_bounded_time() -> None:
    terms = [f"\\ln(x+{k})" for k in range(1, 62)]
    boxes = "\n\n".join(
        f"by the rule of part {i} it is \\boxed{{{','.join(terms[i:] + terms[:i])}}}" for i in range(20)
    )
    rows = [f"x&n={k}" for k in range(10, 99)]
    cases = ["\\begin{cases}" + "\\\\".join(part) + "\\end{cases}" for part in (rows, rows[::-1])]
    names = "+".join(f"\\sin a_{{{k}}}" for k in range(60))
    start = time.process_time()
    for gold, answer in ((boxes, "5"), (cases[0], cases[1]), (f"{names}=1", f"{names}=2")):
        MathVerifier().settle(VerifyTask("row", box(answer), gold))
    assert time.process_time() - start < 1.5  # was 6 seconds


def test_the_second_opinion_takes_nothing_from_a_response_that_was_cut_off() -> None:
    found = SecondMathVerifier().verify(VerifyTask("row", "so 5", "5", "length"))
    assert (found.outcome, found.reason) == (Outcome.INCORRECT, "truncated")


def test_verdicts_refuse_to_be_read_as_a_bool_of_correctness() -> None:
    # A verdict is an object with an outcome; nothing about it is a bool, so nothing can be folded into one by accident.
    assert not isinstance(verdict("6", "5"), bool)
    assert {o.value for o in Outcome} == {"correct", "incorrect", "unverifiable", "error"}


@pytest.mark.parametrize("kind", [MathConfig(), ExactConfig()])
def test_reasons_come_from_the_closed_list(kind: MathConfig | ExactConfig) -> None:
    verifier = build_verifier(kind)
    for gold, response, finish, _, _ in RESPONSES:
        assert verifier.verify(VerifyTask("row", response, gold, finish)).reason in verifier.REASONS


@pytest.mark.parametrize(
    ("gold", "response", "outcome", "reason"),
    [
        ("Paris", "The answer is  PARIS.", Outcome.CORRECT, "same_text"),
        ("½", "1⁄2", Outcome.CORRECT, "same_text"),
        ("Paris", "\\boxed{Rome}", Outcome.INCORRECT, "mismatch"),
        ("0.5", "\\boxed{1/2}", Outcome.INCORRECT, "mismatch"),
        ("the cat sat on 3 mats", "<think>hm</think> The cat sat on 3 mats.", Outcome.CORRECT, "same_text"),
        ("3", "The cat sat on 3 mats", Outcome.CORRECT, "same_text"),
        ("Paris", "", Outcome.INCORRECT, "no_answer"),
        ("Paris", "<think>Paris", Outcome.INCORRECT, "truncated"),
        (" . ", "Paris", Outcome.UNVERIFIABLE, "gold_unparsed"),
    ],
)
def test_exact_verifier_compares_text(gold: str, response: str, outcome: Outcome, reason: str) -> None:
    found = ExactVerifier().verify(VerifyTask("row", response, gold))
    assert (found.outcome, found.reason) == (outcome, reason)


def test_exact_verifier_may_mind_the_case() -> None:
    strict = ExactVerifier(ExactConfig(ignore_case=False))
    assert strict.verify(VerifyTask("row", "\\boxed{paris}", "Paris")).outcome is Outcome.INCORRECT


def labelled_cases(folder: Path) -> list[tuple[VerifyTask, bool]]:
    """Pairs whose label nobody disputes, except multiple-choice letters in prose, which this verifier does not read."""
    cases = []
    with open(folder / "math_equivalence_cases.jsonl") as file:
        for number, line in enumerate(file):
            row = json.loads(line)
            if not row["controversial"] and row["kind"] != "mcq-letter" and row["gold"]:
                response = box(row["prediction"]) if row["kind"] == "answer" else row["prediction"]
                cases.append((VerifyTask(f"case {number}", response, row["gold"]), bool(row["expected"])))
    with open(folder / "real_pairs_adjudicated.jsonl") as file:
        for number, line in enumerate(file):
            row = json.loads(line)
            if row["truth"] is not None:
                cases.append((VerifyTask(f"pair {number}", box(row["prediction"]), row["gold"]), bool(row["truth"])))
    return cases


def test_agreement_with_labelled_equivalence_cases(shared_data: Path, pool: VerifierPool) -> None:
    """Measured: 0 wrong accepts but one (a row about a think tag), 99 % of the right answers accepted."""
    cases = labelled_cases(shared_data / "07_math_equiv")
    expected = {task.id: label for task, label in cases}
    counts = Counter((expected[t.id], v.outcome) for t, v in pool.verify_all(task for task, _ in cases))
    right = sum(n for (label, _), n in counts.items() if label)
    wrong = sum(n for (label, _), n in counts.items() if not label)
    assert right > 300 and wrong > 60
    assert counts[False, Outcome.CORRECT] <= 1
    assert counts[True, Outcome.CORRECT] / right > 0.98
    assert counts[True, Outcome.ERROR] + counts[False, Outcome.ERROR] <= 2


def test_agreement_on_gsm8k_solutions_of_four_models(shared_data: Path, pool: VerifierPool) -> None:
    """5,276 responses labelled by the benchmark's authors: every single verdict is theirs."""
    tasks, expected = [], {}
    path = shared_data / "05_model_outputs" / "gsm8k_example_model_solutions.jsonl.gz"
    with gzip.open(path, "rt") as file:
        for number, line in enumerate(file):
            row = json.loads(line)
            gold = row["ground_truth"].rsplit("A:", 1)[1].strip()
            for model in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
                task = VerifyTask(f"{number}/{model}", row[model]["solution"], gold)
                tasks.append(task)
                expected[task.id] = bool(row[model]["is_correct"])
    assert len(tasks) == 5276
    differ = [t.id for t, v in pool.verify_all(tasks) if (v.outcome is Outcome.CORRECT) != expected[t.id]]
    assert differ == []
