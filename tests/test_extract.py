"""Extraction of the final answer: which rule finds it, and what is no answer."""

from __future__ import annotations

import time

import pytest

from verifiers.extract import boxed_together, extract_answer, last_boxes, split_reasoning

FOUND = [
    (r"So \boxed{42}.", "42", "boxed"),
    (r"first \boxed{wrong}, final \boxed{42}", "42", "boxed"),
    (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}", "boxed"),
    (r"\boxed{\left\{x \mid x>0\right\}}", r"\left\{x \mid x>0\right\}", "boxed"),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}", "boxed"),
    (r"\boxed{\boxed{7}}", r"\boxed{7}", "boxed"),
    (r"$x = \boxed{3}$ or $x = \boxed{5}$", "5", "boxed"),
    (r"$\boxed{3}$ and $\boxed{5}$", "3, 5", "boxed_list"),
    (r"$\boxed{3}$ and $\boxed{3}$", "3", "boxed"),
    (r"\\boxed{8}", "8", "boxed"),
    (r"\fbox{9}", "9", "boxed"),
    (r"\boxed 5", "5", "boxed"),
    (r"line\\\boxed{5}", "5", "boxed"),
    ("<answer> 12 </answer>", "12", "answer_tag"),
    ("work\n#### 1,234", "1,234", "hashes"),
    ("The final answer is $\\frac{3}{4}$. I hope it is correct.", "$\\frac{3}{4}$", "answer_is"),
    ("**Answer:** 17", "17", "answer_is"),
    ("The answer is:\n\\[\n9\n\\]", "\\[\n9\n\\]", "answer_is"),
    ("Answer $$ \n 9 \n $$", "$$ \n 9 \n $$", "answer_is"),
    ("Ans: 5", "5", "answer_is"),
    ("所以答案是 13。", "13", "answer_is"),
    ("42", "42", "whole"),
    ("x^2 + 1", "x^2 + 1", "whole"),
    ("Janet has 3 apples and 5 pears, 8 in all.", "8", "last_number"),
    ("Therefore the probability is 2/3. Done, all of it.", "2/3", "last_number"),
    ("3 + 4 = 7\nA: 7", "7", "last_number"),
    ("计划的比例为13/28", "13/28", "last_number"),
    ("It follows that the value we look for is $x^2+1$ as wanted", "x^2+1", "math_env"),
    (
        r"The sum of the two is $ \begin{pmatrix} 1 \\ 2 \end{pmatrix} $ as shown.",
        r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
        "math_env",
    ),
    ("Réponse : il reste 220 $ à payer d'ici 12 mois.", "220", "answer_is"),
    ("$\\text{three big dogs}$", "$\\text{three big dogs}$", "whole"),
    ("They pay $ 5 and then again $ 6 for the two tickets", "6", "last_number"),
]


@pytest.mark.parametrize(("text", "answer", "rule"), FOUND)
def test_final_answer_is_found_by_the_strongest_rule(text: str, answer: str, rule: str) -> None:
    found = extract_answer(text)
    assert (found.answer, found.rule, found.truncated) == (answer, rule, False)


@pytest.mark.parametrize("text", ["", "   \n", "no idea at all, sorry about that", r"\boxed{}"])
def test_text_without_an_answer_yields_none(text: str) -> None:
    assert extract_answer(text) == (None, None, False)


def test_box_that_never_closes_is_no_box() -> None:
    assert extract_answer(r"so we get \boxed{\frac{1}{2}").rule != "boxed"


def test_reasoning_is_cut_off_before_the_answer_is_looked_for() -> None:
    assert extract_answer(r"<think>maybe \boxed{1}</think> It is \boxed{2}").answer == "2"


def test_close_tag_without_open_tag_ends_the_reasoning() -> None:
    assert split_reasoning("hm, 1 or 2</think>\n2") == ("2", False)


@pytest.mark.parametrize("tag", ["<think>", "<thinking>", "<reasoning>", "<|begin_of_thought|>", "<THINK>"])
def test_unclosed_reasoning_is_truncated_even_with_a_box_inside(tag: str) -> None:
    assert extract_answer(rf"{tag} maybe \boxed{{5}}").truncated


def test_answer_may_stand_inside_closed_reasoning_when_nothing_follows() -> None:
    assert extract_answer(r"<think>so \boxed{5}</think>").answer == "5"


def test_what_follows_the_end_of_turn_is_another_question() -> None:
    text = r"It is \boxed{5}.<|im_end|><|im_start|>user What is 1+1?<|im_start|>assistant \boxed{2}"
    assert extract_answer(text).answer == "5"


CHANNELS = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>{}"


@pytest.mark.parametrize("ending", ["", "<|return|>", "<|end|>", "<|start|>user<|message|>1+1?<|end|>"])
def test_the_final_channel_holds_the_answer(ending: str) -> None:
    text = CHANNELS.format(r"maybe \boxed{1}", r"It is \boxed{2}.") + ending
    assert extract_answer(text) == ("2", "boxed", False)


def test_channels_without_a_final_one_are_truncated() -> None:
    assert extract_answer(r"<|channel|>analysis<|message|>so \boxed{5}").truncated
    assert extract_answer(r"<|channel|>analysis<|message|>so \boxed{5}<|end|>").truncated


def test_channels_whose_special_tokens_were_dropped_are_read_too() -> None:
    assert extract_answer(r"analysisIs it \boxed{1}? No.assistantfinalIt is \boxed{2}.").answer == "2"


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("<think>", "</think>"),
        ("<thinking>", "</thinking>"),
        ("<reasoning>", "</reasoning>"),
        ("<thought>", "</thought>"),
        ("<scratchpad>", "</scratchpad>"),
        ("[THINK]", "[/THINK]"),
        ("◁think▷", "◁/think▷"),
        ("<seed:think>", "</seed:think>"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ],
)
def test_reasoning_in_any_usual_tags_is_cut_off_and_must_be_closed(opening: str, closing: str) -> None:
    assert extract_answer(rf"{opening}\boxed{{1}}?{closing}\boxed{{2}}").answer == "2"
    assert extract_answer(rf"{opening}\boxed{{1}}? \boxed{{2}}").truncated


def test_boxes_of_the_last_line_are_known_together() -> None:
    assert last_boxes("\\boxed{0}\n$a=\\boxed{1}$ for odd, $b=\\boxed{2}$ for even") == "1, 2"
    assert last_boxes("\\boxed{0}\n\\boxed{1}") is None
    assert boxed_together("\\boxed{1} papers and \\boxed{2} bins") == "1, 2"
    assert boxed_together("\\boxed{1} or, if you like that more, \\boxed{2}") is None


def test_markers_before_the_answer_do_not_hide_it() -> None:
    assert extract_answer("<|im_start|>assistant\nIt is \\boxed{5}").answer == "5"


HOSTILE = {
    "digits": "1",
    "open braces": "{",
    "open boxes": r"\boxed{",
    "closed boxes": r"\boxed{1}",
    "open tags": "<answer>",
    "announcers": "answer is ",
    "dollars": "$x ",
    "spaced dollars": "$ " + "a" * 1999,
    "backslashes": "\\",
    "open display math": r"\[ a ",
    "open fractions": r"\frac{1}{",
    "channels": "<|channel|>final<|message|>",
    "lines": "x\n",
    "empty math": "$$",
    "spaces": "answer" + " " * 200_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_megabyte_of_anything_is_read_in_linear_time(name: str) -> None:
    # About a second on a busy machine; anything quadratic would take hours.
    unit = HOSTILE[name]
    text = unit * (10**6 // len(unit))
    start = time.process_time()
    extract_answer(text)
    assert time.process_time() - start < 20
