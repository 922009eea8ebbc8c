r"""Symbolic comparison by math-verify and sympy, behind a gate that refuses what must not be evaluated.

Every text is parsed as a whole, as LaTeX, by math-verify's parser: its own search for a number somewhere in a text
would grade ``__import__('os') or 0`` as 0, and its removal of units reads ``g t`` at the end of an expression as grams
and tonnes. Its SIGALRM time-outs are off (they work in a main thread only); the hard limit is the pool's.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from verifiers.algebra import is_expression
from verifiers.notation import last_link, may_fold_case
from verifiers.units import numeric_core, units_contradict, without_unit_text

_LONGEST = 2000
_DEEPEST = 40
_LONGEST_DIGITS = 400
_HUGE_EXPONENT = 10_000
_CODE = re.compile(
    r"__|(?<![A-Za-z\\])(?:import|lambda|eval|exec|getattr|globals|subprocess|builtins|print|open)(?![A-Za-z])"
    r"|[@#?`\"]|==|:=|\w\.\w*[a-z]\w*\("
)
_TOWER = re.compile(r"\^\s*[({]?\s*-?\d+\s*\^|\^\s*\{?\s*\(?\s*\d+\s*!|!\s*!|!\s*\)\s*!")
_EXPONENT = re.compile(r"\^\s*[({]?\s*[-+]?\s*(\d{1,3}(?:,\d{3})+|\d+)")
_FACTORIAL = re.compile(r"(\d+)\s*\)?\s*!")
_IMAGINARY = re.compile(r"(?<![A-Za-z\\_])(?<!_\{)i(?![A-Za-z_=])")
_SQUEEZED_I = re.compile(r"(?<![A-Za-z\\])i\s*\(")
_EXP = re.compile(r"\\?exp\s*(?:\{([^{}]*)\}|\(([^()]*)\))")
_BARE_LOG = re.compile(r"\\log(?![A-Za-z])(?!\s*_)")
_BARE_FUNCTION = re.compile(r"(?<![A-Za-z\\])(sqrt|sin|cos|tan|log|ln|exp|pi)(?![A-Za-z])")
_SQRT_CALL = re.compile(r"\\sqrt\s*\(([^()]*)\)")
_WORD_SUBSCRIPT = re.compile(
    r"_\s*(?:\{\s*\\(?:text|mathrm|mathit)\s*\{\s*([A-Za-z0-9 ]{1,30})\}\s*\}"
    r"|\\(?:text|mathrm|mathit)\s*\{\s*([A-Za-z0-9 ]{1,30})\})"
)
_SIGN_SUBSCRIPT = re.compile(r"_\s*\{\s*\\(max|min|odot|oplus|ast|star|perp|parallel)\s*\}")
_DERIVATIVE = re.compile(r"\\frac\s*\{\s*d\s*(\\?[A-Za-z]+)\s*\}\s*\{\s*d\s*(\\?[A-Za-z]+)\s*\}")
_PRIMES = re.compile(r"(?<![A-Za-z\\])([A-Za-z])\s*('{1,3})")
_NO_CONSTANT = re.compile(r"(?<![A-Za-z\\])(?:[Ee](?=\s*_)|I(?![A-Za-z]))")
_RENAMED = {"E": r"\Xi ", "e": r"\xi ", "I": r"\iota "}
_FUNCTION_OF_NUMBER = re.compile(r"\^\s*\{?\s*\\circ\s*\}?")
_DECIMAL_TOLERANCE = 1e-6
_EXACT_TOLERANCE = 1e-18
_DIGITS = 30


class UnparsedError(Exception):
    """The text is no mathematics that can be compared; ``side`` says whose text it is."""

    def __init__(self, side: str) -> None:
        super().__init__(side)
        self.side = side


class _Reading(NamedTuple):
    """What both texts together say about their notation."""

    ln: bool
    """``\\log`` without a base is the natural one, since ``\\ln`` occurs."""
    degrees: bool
    """Both sides carry degree signs, so these may stay."""
    imaginary: bool
    r"""``i`` is :math:`\sqrt{-1}`; other symbols are then not known to be real."""
    fold_case: bool
    """No text uses a letter in both cases and only constants differ, so ``C`` and ``c`` are the same."""


def symbolic_equal(gold: str, answer: str) -> bool:
    """Whether both texts state the same mathematics. Raises ``UnparsedError``; may hang on hostile text."""
    from sympy.core.random import seed

    seed(0)  # sympy tests equality at random points; a verdict must not depend on the rows before it
    reading = _read_together(gold, answer)
    gold, unit = numeric_core(gold)
    answer, other_unit = numeric_core(answer)
    if units_contradict(unit, other_unit):
        return False
    return _equal(_parse(gold, "gold", reading), _parse(answer, "answer", reading))


def refuse_unsafe(gold: str, answer: str) -> None:
    """Raise the ``UnparsedError`` that ``symbolic_equal`` would raise, where that is known without its parser."""
    core, unit = numeric_core(gold)
    other, other_unit = numeric_core(answer)
    if units_contradict(unit, other_unit):
        return
    if not is_safe(core):
        raise UnparsedError("gold")
    if is_expression(gold) and not is_safe(other):
        raise UnparsedError("answer")


def _read_together(gold: str, answer: str) -> _Reading:
    return _Reading(
        ln="\\ln" in gold + answer,
        degrees=r"\circ" in gold and r"\circ" in answer,
        imaginary=bool(_IMAGINARY.search(gold) or _IMAGINARY.search(answer)),
        fold_case=may_fold_case(gold, answer),
    )


def _equal(gold: Any, answer: Any) -> bool:
    from math_verify import grader, verify
    from sympy import Add, Eq, Expr, exp, simplify
    from sympy.functions.elementary.hyperbolic import HyperbolicFunction

    grader.TIMEOUT_WARNING_SHOWN = True  # the warning is meant for callers without a limit of their own
    expressions = isinstance(gold, Expr) and isinstance(answer, Expr)
    if expressions:
        same = _same_value(gold, answer)
        if same is not None:
            return same
        if _differ_somewhere(gold, answer):
            return False
    if isinstance(gold, Eq) and isinstance(gold.lhs, Add) and not isinstance(answer, Eq):
        return False  # math-verify takes a sum of names for a name, and so "f" for "a + b = f"
    if verify(gold, answer, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True):
        return True
    if expressions and (gold.has(HyperbolicFunction) or answer.has(HyperbolicFunction)):
        return bool(simplify((gold - answer).rewrite(exp)) == 0)
    return False


def _same_value(gold: Any, answer: Any) -> bool | None:
    """Whether two finite numbers are equal, relative to their size; None when one of them is no such number.

    (math-verify compares absolute differences, so that to it all numbers below 1e-7 are the same.)
    """
    from sympy import Float

    if gold.free_symbols or answer.free_symbols:
        return None
    a, b = gold.evalf(_DIGITS), answer.evalf(_DIGITS)
    if not (_is_finite_number(a) and _is_finite_number(b)):
        return None
    tolerance = _DECIMAL_TOLERANCE if gold.has(Float) or answer.has(Float) else _EXACT_TOLERANCE
    return bool(abs(a - b) <= tolerance * max(abs(a), abs(b)))


def _differ_somewhere(gold: Any, answer: Any) -> bool:
    """Whether two expressions in names have clearly different values at a point, all of its names positive.

    (A point costs a millisecond, a simplification that fails fifty.)
    """
    from sympy import Float, Integral, Limit, Product, Rational, Sum
    from sympy.core.function import AppliedUndef, Derivative

    unusual = (Float, Integral, Sum, Product, Limit, Derivative, AppliedUndef)
    if any(side.is_Symbol or side.is_Matrix or side.has(*unusual) for side in (gold, answer)):
        return False
    names = sorted(gold.free_symbols | answer.free_symbols, key=str)
    point = {name: Rational(97 + 31 * index, 61 + 7 * index) for index, name in enumerate(names)}
    try:
        a, b = (side.evalf(_DIGITS, subs=point) for side in (gold, answer))
        if not (_is_finite_number(a) and _is_finite_number(b)):
            return False
        return bool(abs(a - b) > _DECIMAL_TOLERANCE * max(abs(a), abs(b)))
    except MemoryError:
        raise
    except Exception:  # sympy raises whatever its functions happen to raise at that point
        return False


def _is_finite_number(value: Any) -> bool:
    return all(part.is_Float or part.is_Rational for part in value.as_real_imag())


def _parse(text: str, side: str, reading: _Reading) -> Any:
    from sympy import nan, zoo

    if not is_safe(text):
        raise UnparsedError(side)
    parsed = _to_sympy_or_none(_for_latex(text, reading), reading)
    if not hasattr(parsed, "has") or parsed.has(nan, zoo):
        raise UnparsedError(side)
    return parsed


@lru_cache(maxsize=256)  # the samples of one problem share their gold
def _to_sympy_or_none(latex: str, reading: _Reading) -> Any:
    try:
        return _to_sympy(latex, reading)
    except MemoryError:
        raise
    except Exception:  # the parser raises whatever its grammar and sympy happen to raise
        return None


def _to_sympy(latex: str, reading: _Reading) -> Any:
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
    from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex
    from sympy import I
    from sympy.core.relational import Relational

    normalization = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
    )
    conversion = ConversionConfig(lowercase_symbols=reading.fold_case)

    def convert(text: str) -> Any:
        return latex2sympy(
            normalize_latex(text, normalization),
            is_real=None if reading.imaginary else True,
            normalization_config=None,
            conversion_config=conversion,
        )

    try:
        parsed = convert(latex)
    except Exception:  # as above; a chain may still end in something readable
        if last_link(latex) == latex or latex.count("=") < 2:
            raise
        parsed = convert(last_link(latex))
    if reading.imaginary and not parsed.has(Relational):
        parsed = parsed.subs({s: I for s in parsed.free_symbols if s.name == "i"})
    return parsed


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


def _for_latex(text: str, reading: _Reading) -> str:
    """Rewrite what models write beside LaTeX into LaTeX that the parser reads as meant."""
    text = without_unit_text(text)
    text = _BARE_FUNCTION.sub(r"\\\1 ", text)
    text = _SQRT_CALL.sub(r"\\sqrt{\1}", text)
    text = _EXP.sub(lambda m: f"e^{{{m[1] or m[2]}}}", text)
    text = _SQUEEZED_I.sub(r"i \\cdot (", text)
    text = _WORD_SUBSCRIPT.sub(lambda m: f"_{{{(m[1] or m[2]).replace(' ', '')}}}", text)
    text = _SIGN_SUBSCRIPT.sub(r"_{\1}", text)
    # The parser would take dM/dt of a bare M to be 0, and drop primes.
    text = _DERIVATIVE.sub(lambda m: rf"\Delta_{{{m[1].strip(chr(92))}over{m[2].strip(chr(92))}}}", text)
    text = _PRIMES.sub(lambda m: f"{m[1]}_{{{'prime' * len(m[2])}}}", text)
    text = _NO_CONSTANT.sub(lambda m: _RENAMED[m[0]], text)  # names to us, constants to the parser
    text = text.replace("**", "^").replace("\\%", "").replace("\\$", "")
    if reading.ln:
        text = _BARE_LOG.sub(r"\\ln ", text)
    if not reading.degrees and re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
        return _FUNCTION_OF_NUMBER.sub(r" \\cdot \\frac{\\pi}{180}", text)
    return text
