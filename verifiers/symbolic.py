r"""Symbolic comparison by math-verify and sympy, behind a gate that refuses what must not be evaluated.

Every text is parsed as a whole, as LaTeX: math-verify's own search for a number somewhere in a text would grade
``__import__('os') or 0`` as 0. Its SIGALRM time-outs are off (they work in a main thread only); the hard limit is the
pool's.
"""

from __future__ import annotations

import re
from typing import Any

_LONGEST = 2000
_DEEPEST = 40
_LONGEST_DIGITS = 400
_HUGE_EXPONENT = 10_000
_CODE = re.compile(r"__|\b(?:import|lambda|eval|exec|getattr|globals|subprocess|builtins|print|open|def)\b|[@#?`\"]|==|:=|\w\.\w*[a-z]\w*\(")
_TOWER = re.compile(r"\^\s*[({]?\s*-?\d+\s*\^|\^\s*\{?\s*\(?\s*\d+\s*!|!\s*!|!\s*\)\s*!")
_EXPONENT = re.compile(r"\^\s*[({]?\s*[-+]?\s*(\d{1,3}(?:,\d{3})+|\d+)")
_FACTORIAL = re.compile(r"(\d+)\s*\)?\s*!")
_SQUEEZED_I = re.compile(r"(?<![A-Za-z\\])i\s*\(")
_EXP = re.compile(r"\\?exp\s*(?:\{([^{}]*)\}|\(([^()]*)\))")
_BARE_LOG = re.compile(r"\\log(?![A-Za-z])(?!\s*_)")
_BARE_FUNCTION = re.compile(r"(?<![A-Za-z\\])(sqrt|sin|cos|tan|log|ln|exp|pi)(?![A-Za-z])")
_SQRT_CALL = re.compile(r"\\sqrt\s*\(([^()]*)\)")
_UNIT_TEXT = re.compile(r"(?<=[\d})])\s*\\(?:text|mbox|mathrm|textbf|textnormal)\s*\{[^{}]*\}(?:\s*\^\s*\{?\d\}?)?\s*$")
_FUNCTION_OF_NUMBER = re.compile(r"\^\s*\{?\s*\\circ\s*\}?")


class Unparsed(Exception):
    """The text is no mathematics that can be compared; ``side`` says whose text it is."""

    def __init__(self, side: str) -> None:
        super().__init__(side)
        self.side = side


def symbolic_equal(gold: str, answer: str) -> bool:
    """Whether both texts state the same mathematics. Raises ``Unparsed``; may hang on hostile text."""
    from math_verify import grader, verify

    grader.TIMEOUT_WARNING_SHOWN = True  # the warning is meant for callers without a limit of their own
    if "\\ln" in gold + answer:
        gold, answer = (_BARE_LOG.sub(r"\\ln ", text) for text in (gold, answer))
    degrees = r"\circ" in gold and r"\circ" in answer
    parsed_gold = _parse(gold, "gold", degrees)
    parsed_answer = _parse(answer, "answer", degrees)
    return bool(
        verify(
            parsed_gold,
            parsed_answer,
            allow_set_relation_comp=True,
            timeout_seconds=None,
            raise_on_error=True,
        )
    )


def _parse(text: str, side: str, keep_degrees: bool) -> Any:
    from math_verify import parse, parser
    from math_verify.parser import LatexExtractionConfig
    from sympy import nan, zoo

    parser.TIMEOUT_WARNING_SHOWN = True
    if not is_safe(text):
        raise Unparsed(side)
    try:
        found = parse(
            f"${_for_latex(text, keep_degrees)}$",
            [LatexExtractionConfig()],
            fallback_mode="no_fallback",
            extraction_mode="first_match",
            parsing_timeout=None,
            raise_on_error=True,
        )
    except MemoryError:
        raise
    except Exception as error:  # the parser raises whatever its grammar and sympy happen to raise
        raise Unparsed(side) from error
    if not found or (getattr(found[0], "has", None) and found[0].has(nan, zoo)):
        raise Unparsed(side)
    return found


def is_safe(text: str) -> bool:
    """Whether the text may be handed to the symbolic core: of sane size, no program text, no astronomic numeral."""
    if not text.strip() or len(text) > _LONGEST or _CODE.search(text) or _TOWER.search(text):
        return False
    if re.search(rf"\d{{{_LONGEST_DIGITS},}}", text) or _nesting(text) > _DEEPEST:
        return False
    exponents = (int(e.replace(",", "")) for e in _EXPONENT.findall(text))
    factorials = (int(n) for n in _FACTORIAL.findall(text))
    return all(e <= _HUGE_EXPONENT for e in exponents) and all(n <= 1000 for n in factorials)


def _nesting(text: str) -> int:
    deepest = depth = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _for_latex(text: str, keep_degrees: bool) -> str:
    """Rewrite what models write beside LaTeX into LaTeX that the parser reads as meant."""
    text = _UNIT_TEXT.sub("", text)
    text = _BARE_FUNCTION.sub(r"\\\1 ", text)
    text = _SQRT_CALL.sub(r"\\sqrt{\1}", text)
    text = _EXP.sub(lambda m: f"e^{{{m[1] or m[2]}}}", text)
    text = _SQUEEZED_I.sub(r"i \\cdot (", text)
    text = text.replace("**", "^").replace("\\%", "").replace("\\$", "")
    if not keep_degrees and re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
        return _FUNCTION_OF_NUMBER.sub(r" \\cdot \\frac{\\pi}{180}", text)
    return text
