"""The options of a multiple-choice question, and when a text is one of them."""

from __future__ import annotations

import re
import unicodedata

from verifiers.equivalence import same_answer
from verifiers.symbolic import UnparsedError

__all__ = ["LETTERS", "Options", "by_text", "by_value", "key", "plain", "read_options", "same_text", "same_value"]

Options = dict[str, str]
"""Option texts by their upper-case letter, in the question's order."""

LETTERS = "ABCDEFGHIJ"
_LONGEST_OPTION = 2000

# One layout of labels each; the label may be bold or in \text{...}. A question uses one of them throughout.
_WRAP = r"(?:\*\*|\\(?:text|textbf|textrm|mathrm|mathbf|textit)\s?\{\s?)?"
_LABELS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<![\w\\]){_WRAP}\(([A-J])\)(?:\*\*|\s?\}})?",
        rf"(?<![\w\\(]){_WRAP}([A-J])\)(?:\*\*|\}})?(?!\w\))",
        rf"(?:(?<=\n)|(?<=\s)|^){_WRAP}([A-J])(?:\.(?!\w\.)|[．、。])(?:\*\*|\}})?",
        rf"(?:(?<=\n)|^)[ \t]*{_WRAP}([A-J])[:：](?:\*\*|\}})?",
    )
)
_UNWRAP = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|textit|boxed|mbox|emph)\s?\{([^{}]*)\}")
_NOISE = re.compile(r"\$|\\[()\[\] ,;!]|\*\*|__|\\quad|\\qquad|[`\"“”‘’]|\\left|\\right")
_ARTICLE = re.compile(r"^(?:the|an|a)\s+(?=\w)")
_DIGIT = re.compile(r"\d")
_QUOTED = re.compile(r"(?<!\w)'([A-Ja-j])'(?!\w)")


def read_options(question: str) -> Options:
    """The options in a question, by letter; empty where none are found. The last run of A, B, ... is taken.

    Of several layouts the one with most options counts, and labels at line starts before labels within lines.
    """
    best: list[re.Match[str]] = []
    for pattern in _LABELS:
        marks = list(pattern.finditer(question))
        at_line_start = [m for m in marks if _begins_its_line(question, m.start())]
        for candidates in (at_line_start, marks):
            run = _last_run(candidates)
            if len(run) > max(1, len(best)):
                best = run
    return _option_texts(question, best)


def _begins_its_line(text: str, at: int) -> bool:
    before = text[max(0, at - 20) : at].rstrip(" \t>*-$")
    return not before or before.endswith("\n")


def _last_run(marks: list[re.Match[str]]) -> list[re.Match[str]]:
    """The longest run of labels A, B, C, ...; of equally long ones the last."""
    best: list[re.Match[str]] = []
    run: list[re.Match[str]] = []
    for mark in marks:
        if mark[1] == "A":
            run = [mark]
        elif run and LETTERS.find(mark[1]) == len(run):
            run = [*run, mark]
        if len(run) >= max(2, len(best)):
            best = run
    return best


def _option_texts(question: str, run: list[re.Match[str]]) -> Options:
    texts: Options = {}
    single_lines = all("\n" in question[a.end() : b.start()].strip(" \t") for a, b in zip(run, run[1:]))
    for i, mark in enumerate(run):
        end = run[i + 1].start() if i + 1 < len(run) else len(question)
        text = question[mark.end() : end]
        if i + 1 == len(run):
            text = text.lstrip()
            text = text.split("\n\n", 1)[0]
            if not single_lines or all("\n" not in t for t in texts.values()):
                text = text.split("\n", 1)[0]
        texts[mark[1]] = text.strip().strip("*").strip()[:_LONGEST_OPTION]
    return texts


def plain(text: str) -> str:
    """Without the marks of LaTeX and Markdown that a letter or an option may be wrapped in."""
    text = unicodedata.normalize("NFKC", text)
    for _ in range(3):
        text = _UNWRAP.sub(r"\1", text)
    return " ".join(_NOISE.sub(" ", _QUOTED.sub(r"\1", text)).split())


def key(text: str) -> str:
    """What two spellings of one option text have in common."""
    text = plain(text).casefold().strip(" .;,:!*")
    return re.sub(r"\s+", " ", _ARTICLE.sub("", text))


def same_text(option: str, answer: str) -> bool:
    """Same words, whatever the spacing, case and leading article."""
    a, b = key(option), key(answer)
    return a != "" and (a == b or a.replace(" ", "") == b.replace(" ", ""))


def same_value(option: str, answer: str) -> bool:
    """Same number or simple expression, exactly (no symbolic algebra, so in bounded time)."""
    if max(len(option), len(answer)) > 200 or not (_DIGIT.search(option) and _DIGIT.search(answer)):
        return False
    try:
        return same_answer(option, answer, lambda _a, _b: False)
    except UnparsedError:
        return False


def by_text(options: Options, text: str) -> frozenset[str]:
    """The options that have this text: several where one is repeated."""
    return frozenset(x for x, option in options.items() if same_text(option, text))


def by_value(options: Options, text: str) -> frozenset[str]:
    """The options with the same number or simple expression."""
    return frozenset(x for x, option in options.items() if same_value(option, text))
