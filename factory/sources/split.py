"""Keep training and measuring apart: questions held out of the pool, and pool problems that a benchmark asks."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from factory.errors import DataError
from factory.records import Problem
from factory.sources.result import Dropped


class Holdout(NamedTuple):
    """A pool in two parts, each in the pool's order."""

    held: list[Problem]
    rest: list[Problem]


class Overlap(NamedTuple):
    """A pool without what is asked elsewhere, in the pool's order."""

    kept: list[Problem]
    dropped: list[Dropped]


def holdout(problems: Sequence[Problem], num: int, seed: int) -> Holdout:
    """Hold out the ``num`` problems whose seeded id hashes are smallest.

    A hash depends on nothing but seed and id, so in a pool that has grown from n to m problems about ``num * n / m`` of
    the old choice stay, and none of the others moves for any other reason.

    Raises:
        DataError: when nothing would be left.
    """
    if num >= len(problems):
        raise DataError(
            f"holding out {num} questions leaves nothing of a pool of {len(problems)}; lower num, or give more problems"
        )
    chosen = {p.id for p in sorted(problems, key=lambda p: _rank(seed, p.id))[:num]}
    return Holdout([p for p in problems if p.id in chosen], [p for p in problems if p.id not in chosen])


def _rank(seed: int, problem_id: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{problem_id}".encode()).digest()


def remove_overlap(problems: Sequence[Problem], benchmark_prompts: Iterable[str]) -> Overlap:
    """Drop the problems that are a benchmark's question but for typography (``normalise_prompt``).

    A paraphrase is not recognised, nor are other numbers in the same story. ``Dropped.where`` is the problem's source,
    ``row`` its position among ``problems``.
    """
    asked = {normalise_prompt(prompt) for prompt in benchmark_prompts}
    overlap = Overlap([], [])
    for position, problem in enumerate(problems, start=1):
        if normalise_prompt(problem.prompt) in asked:
            overlap.dropped.append(Dropped(problem.source, position, "in_benchmark", f"problem {problem.id}"))
        else:
            overlap.kept.append(problem)
    return overlap


# NFKC alone would turn 10² into 102 and 3½ into 31/2, which are other questions.
_TYPOGRAPHY = str.maketrans(
    {c: "^" + unicodedata.normalize("NFKC", c) for c in "⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ"}
    | {c: " " + unicodedata.normalize("NFKC", c).replace("⁄", "/") for c in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
    | dict.fromkeys("‐‑‒–—−", "-")
    | dict.fromkeys("‘’ʼ′", "'")
    | dict.fromkeys("“”„«»", " ")
    | {"×": "\\times ", "·": "\\cdot ", "÷": "\\div ", "≤": "\\leq ", "≥": "\\geq ", "≠": "\\neq ", "π": "\\pi "}
)
_LATEX = (
    (re.compile(r"(?<=\d)(?:\{,\}|,\\!)(?=\d{3})"), ","),
    (
        re.compile(r"\\(?:[,;:! ()\[\]$]|(?:quad|qquad|left|right|displaystyle|textstyle|limits|bigl?|bigr)(?![a-z]))"),
        " ",
    ),
    (re.compile(r"\\[dt]frac(?![a-z])"), r"\\frac"),
    (re.compile(r"\\(le|ge|ne)(?![a-z])"), r"\\\1q"),
    (re.compile(r"\\(?:text|textrm|textbf|textit|mathrm|emph)(?=\s*\{)"), " "),
    (re.compile(r"\\%"), "%"),
)
_SPACE_LIKE = str.maketrans(dict.fromkeys('$~{}"', " "))
_SENTENCE_END = re.compile(r"[.?]+(?=\s|$)")
_AROUND_SIGN = re.compile(r" ?([^\w ]|_) ?")


def normalise_prompt(prompt: str) -> str:
    """A question without its typography: equal for texts that ask the same with other spacing, quotes, case or LaTeX.

    Operators, digits, decimal points and factorials stay: ``5!`` and ``5``, ``3-4`` and ``3+4`` remain different.
    """
    text = prompt
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_TYPOGRAPHY))
    text = text.casefold()
    if "\\" in text or "{,}" in text:
        for pattern, same in _LATEX:
            text = pattern.sub(same, text)
    text = _SENTENCE_END.sub(" ", text.translate(_SPACE_LIKE))
    return _AROUND_SIGN.sub(r"\1", " ".join(text.split()))
