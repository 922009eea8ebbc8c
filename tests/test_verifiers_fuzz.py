"""What must hold for any text: no exception, reasons of the closed list, the reference is its own answer."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from math_pairs import PAIRS

from verifiers import MathConfig, Outcome, VerifierPool, VerifyTask
from verifiers.base import INFRASTRUCTURE_REASONS
from verifiers.math import MathVerifier

QUICK = settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
FEW = settings(QUICK, max_examples=40)

RENDERINGS: dict[str, Callable[[str], str]] = {
    "box": lambda g: f"So the value is \\boxed{{{g}}}.",
    "box in dollars": lambda g: f"Hence $\\boxed{{{g}}}$",
    "box in display math": lambda g: f"Therefore\n\\[\n\\boxed{{{g}}}\n\\]\nas claimed.",
    "spaces in the box": lambda g: f"\\boxed{{ {g} }}",
    "dollars in the box": lambda g: f"\\boxed{{${g}$}}",
    "parentheses of math in the box": lambda g: f"\\boxed{{\\({g}\\)}}",
    "display style in the box": lambda g: f"\\boxed{{\\displaystyle {g}}}",
    "box in a box": lambda g: f"\\boxed{{\\boxed{{{g}}}}}",
    "fbox": lambda g: f"We get \\fbox{{{g}}}",
    "full stop in the box": lambda g: f"\\boxed{{{g}.}}",
    "second box": lambda g: f"First we find \\boxed{{-99}}.\n\nThe final answer:\n\n\\boxed{{{g}}}",
    "bold heading": lambda g: f"**Final Answer**\n\n$$\\boxed{{{g}}}$$",
    "think tags": lambda g: f"<think>\\boxed{{-99}} or not?</think>\n\\boxed{{{g}}}",
    "close tag only": lambda g: f"\\boxed{{-99}} or not?</think>\n\\boxed{{{g}}}",
    "thought and solution": lambda g: (
        f"<|begin_of_thought|>hm, -99<|end_of_thought|><|begin_of_solution|>It is \\boxed{{{g}}}<|end_of_solution|>"
    ),
    "channels": lambda g: (
        "<|channel|>analysis<|message|>\\boxed{-99}?<|end|><|start|>assistant<|channel|>final<|message|>"
        f"It is \\boxed{{{g}}}.<|return|>"
    ),
    "end of turn": lambda g: f"\\boxed{{{g}}}<|im_end|>\n<|im_start|>user\nAnd 1+1?<|im_start|>assistant\n\\boxed{{2}}",
    "answer tag": lambda g: f"<think>hm</think><answer>{g}</answer>",
    "hashes": lambda g: f"A step.\nAnother step.\n#### {g}",
    "the answer is": lambda g: f"After all that, the final answer is ${g}$.",
    "answer with a colon": lambda g: f"Some steps.\n\n**Answer:** ${g}$",
    "line breaks before": lambda g: f"\n\n\n\\boxed{{{g}}}\n\n",
}

WHOLE = st.integers(-(10**9), 10**9).map(str)
POSITIVE = st.integers(1, 999).map(str)
DECIMAL = st.decimals(-1000, 1000, places=3, allow_nan=False, allow_infinity=False).map(lambda d: f"{d:f}")
FRACTION = st.tuples(st.integers(-99, 99), st.integers(2, 99)).map(lambda t: f"\\frac{{{t[0]}}}{{{t[1]}}}")
ROOT = st.tuples(st.integers(2, 9), st.integers(2, 99)).map(lambda t: f"{t[0]}\\sqrt{{{t[1]}}}")
NUMBER = st.one_of(WHOLE, DECIMAL, FRACTION, ROOT)
POLYNOMIAL = st.lists(st.integers(-9, 9).filter(bool), min_size=2, max_size=4).map(
    lambda cs: "+".join(f"{c}x^{{{i}}}" for i, c in enumerate(cs, 1)).replace("+-", "-")
)
TUPLE = st.lists(NUMBER, min_size=2, max_size=4).map(lambda ps: f"({', '.join(ps)})")
INTERVAL = st.tuples(st.sampled_from("(["), WHOLE, POSITIVE, st.sampled_from(")]")).map(
    lambda t: f"{t[0]}{t[1]}, {10**10}{t[2]}{t[3]}"
)
NUMBER_SET = st.lists(WHOLE, min_size=1, max_size=4, unique=True).map(lambda ps: f"\\{{{', '.join(ps)}\\}}")
MATRIX = st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=3).map(
    lambda rows: "\\begin{pmatrix} " + " \\\\ ".join(" & ".join(row) for row in rows) + " \\end{pmatrix}"
)
GOLD = st.one_of(NUMBER, POLYNOMIAL, TUPLE, INTERVAL, NUMBER_SET, MATRIX)

PIECES = [
    "{", "}", "(", ")", "[", "]", "\\{", "\\frac{1}{", "\\frac", "^", "^{", "_", "_{", "9^9^", "!", "|", "\\left(",
    "\\sqrt[", "\\sqrt", "\\sin ", "sin", "\\log_", "1,", ";", "x=", "<", "\\le ", "\\cup ", "\\pm ",
    "\\begin{pmatrix}", "\\end{pmatrix}", "&", "\\\\", "\\text{", "\\text{ and }", "%", "$", "\\$", "^\\circ",
    "\u0000", "\ud7ff", "\\input{/etc/passwd}", "__import__('os').system('true')", "e^", "i", "x", "\\pi", "\\infty",
    "-", "+", "*", "**", "/", ".", "1e9", "0.\\overline{3}", "\\binom{9}", "\\in ", "\\mathbb{R}", "\\setminus",
    "3:4", "f(x)", "\\lfloor ", "\\pmod{7}", "10^{9}", "½", "√", "\\boxed{", "\\boxed{1}", "#### ", "the answer is ",
    "<think>", "</think>", "<|channel|>", "<|message|>", "<|end|>", "<answer>", "</answer>", "\n", " ", "7", "(A)",
    "January ", "no solution", "\u202e", "\U0001d7d9", "١",
]  # fmt: skip
SOUP = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
ANY_TEXT = st.one_of(SOUP, st.text(max_size=200))


@QUICK
@given(gold=ANY_TEXT, response=ANY_TEXT)
def test_no_text_makes_the_bounded_path_raise_or_fail(gold: str, response: str) -> None:
    for text in (response, f"\\boxed{{{response}}}"):
        verdict = MathVerifier().settle(VerifyTask("", text, gold))
        if verdict is not None:
            assert verdict.reason in MathVerifier.REASONS
            assert verdict.reason not in INFRASTRUCTURE_REASONS


@FEW
@given(
    gold=GOLD,
    response=st.lists(st.sampled_from([p for p in PIECES if p not in ("9^9^", "!")]), max_size=12).map("".join),
)
def test_no_text_makes_the_whole_check_raise(gold: str, response: str) -> None:
    verdict = MathVerifier().verify(VerifyTask("", f"\\boxed{{{response}}}", gold))
    assert verdict.reason in MathVerifier.REASONS
    assert verdict.reason not in INFRASTRUCTURE_REASONS


@pytest.mark.parametrize("name", RENDERINGS)
@settings(QUICK, max_examples=25)
@given(gold=GOLD)
def test_a_generated_reference_is_its_own_answer_however_rendered(name: str, gold: str) -> None:
    response = RENDERINGS[name](gold)
    verdict = MathVerifier().settle(VerifyTask("", response, gold))
    assert verdict is not None and verdict.outcome is Outcome.CORRECT, (response, verdict)


def test_there_are_twenty_renderings_at_least() -> None:
    assert len(RENDERINGS) >= 20


@pytest.mark.parametrize("name", RENDERINGS)
def test_every_written_reference_is_its_own_answer_however_rendered(name: str) -> None:
    golds = dict.fromkeys(gold for pairs in PAIRS.values() for gold, _ in pairs.equal + pairs.unequal)
    failed = []
    for gold in golds:
        task = VerifyTask("", RENDERINGS[name](gold), gold)
        verdict = MathVerifier().settle(task) or MathVerifier().verify(task)
        if verdict.outcome is not Outcome.CORRECT:
            failed.append((gold, verdict.reason, verdict.extracted))
    assert failed == []


@QUICK
@given(a=st.integers(-(10**12), 10**12), b=st.integers(-(10**12), 10**12))
def test_two_integers_are_the_same_answer_only_if_equal(a: int, b: int) -> None:
    assume(a != b)
    for text in (str(b), f"{b:,}", f"x = {b}", f"{b}.0", f"\\text{{{b}}}"):
        verdict = MathVerifier().settle(VerifyTask("", f"\\boxed{{{text}}}", str(a)))
        assert verdict is not None and verdict.outcome is Outcome.INCORRECT, text


@QUICK
@given(a=st.tuples(st.integers(-99, 99), st.integers(1, 99)), b=st.tuples(st.integers(-99, 99), st.integers(1, 99)))
def test_two_fractions_are_the_same_answer_exactly_if_equal(a: tuple[int, int], b: tuple[int, int]) -> None:
    equal = a[0] * b[1] == b[0] * a[1]
    verdict = MathVerifier().settle(
        VerifyTask("", f"\\boxed{{\\dfrac{{{b[0]}}}{{{b[1]}}}}}", f"\\frac{{{a[0]}}}{{{a[1]}}}")
    )
    assert verdict is not None and (verdict.outcome is Outcome.CORRECT) == equal


@QUICK
@given(roots=st.lists(st.integers(-9, 9), min_size=2, max_size=4), other=st.integers(-9, 9))
def test_a_polynomial_equals_its_factors_and_no_other_ones(roots: list[int], other: int) -> None:
    coefficients = [1]
    for root in roots:
        shifted, scaled = [*coefficients, 0], [0, *(-root * c for c in coefficients)]
        coefficients = [s + t for s, t in zip(shifted, scaled, strict=True)]
    degree = len(roots)
    gold = "+".join(f"({c})x^{{{degree - i}}}" for i, c in enumerate(coefficients))
    factors = "".join(f"(x-({root}))" for root in roots)
    verdict = MathVerifier().settle(VerifyTask("", f"\\boxed{{{factors}}}", gold))
    assert verdict is not None and verdict.outcome is Outcome.CORRECT
    wrong = factors.replace(f"(x-({roots[0]}))", f"(x-({other}))", 1)
    verdict = MathVerifier().settle(VerifyTask("", f"\\boxed{{{wrong}}}", gold))
    assert verdict is not None and (verdict.outcome is Outcome.CORRECT) == (other == roots[0])


def rows() -> list[VerifyTask]:
    pairs = [pair for group in PAIRS.values() for pair in group.equal + group.unequal]
    return [VerifyTask(str(i), f"\\boxed{{{answer}}}", gold) for i, (gold, answer) in enumerate(pairs)]


def outcomes(tasks: list[VerifyTask], num_workers: int) -> dict[str, tuple[str, str]]:
    with VerifierPool(MathConfig(num_workers=num_workers)) as pool:
        return {task.id: (verdict.outcome, verdict.reason) for task, verdict in pool.verify_all(tasks)}


def test_verdicts_depend_neither_on_the_order_of_the_rows_nor_on_the_number_of_workers() -> None:
    tasks = rows()
    shuffled = random.Random(1).sample(tasks, len(tasks))
    expected = outcomes(tasks, num_workers=1)
    assert len(expected) == len(tasks)
    assert outcomes(shuffled, num_workers=2) == expected
    assert outcomes(tasks[::-1], num_workers=1) == expected
