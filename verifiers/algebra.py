r"""Expressions, equations and inequalities as texts: equal by value or not, without sympy, in bounded time.

Every function answers None where it does not know; the symbolic core decides then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from verifiers.evaluate import (
    Angles,
    UndecidedError,
    hold_apart,
    number,
    same_ratio,
    same_solutions,
    same_values,
    solutions_differ,
)
from verifiers.expression import Expression, Reading, UnreadableError, read_expression
from verifiers.notation import may_fold_case
from verifiers.numeral import Numeral, read_number, rounds_to
from verifiers.units import numeric_core, units_contradict, without_unit_text

_RELATION = re.compile(r"\\(?:le|ge|ne)(?![A-Za-z])|[<>]|(?<![:!<>=])=(?!=)")
_FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "=": "=", "\\ne": "\\ne"}
_ALTERNATIVE_READINGS = (
    Reading(short_arguments=True),
    Reading(long_denominators=True),
    Reading(short_arguments=True, long_denominators=True),
    Reading(products=True),
)
_DECIMALS_COMPARED = 30
_ENOUGH_DIGITS = 4


def same_expression(gold: str, answer: str) -> bool | None:
    """Whether two expressions have the same value everywhere; None when one is unreadable or nothing is certain."""
    core, unit = numeric_core(gold)
    other, other_unit = numeric_core(answer)
    if units_contradict(unit, other_unit):
        return False
    core = without_unit_text(gold if unit == "degree" else core)  # the sign is a factor to the reader
    other = without_unit_text(answer if other_unit == "degree" else other)
    try:
        first, second = read_expression(core), read_expression(other)
    except UnreadableError:
        return None
    try:
        rounded = _rounded(core, first, other, second)
        if rounded is not None:
            return rounded
        if any(same_values(g, a, s) for g, a, s in _readings(core, first, other, second)):
            return True
    except UndecidedError:
        return None
    return None if first.uncertain or second.uncertain else False


def names_of(text: str) -> frozenset[str]:
    """The names in an expression; none where it cannot be read."""
    try:
        return frozenset(read_expression(text).symbols)
    except UnreadableError:
        return frozenset()


def is_closed(text: str) -> bool:
    """Whether the text is an expression without names: one fixed number."""
    try:
        return not read_expression(without_unit_text(numeric_core(text).core)).symbols
    except UnreadableError:
        return False


def is_expression(text: str) -> bool:
    """Whether the text is one number or expression, and not a relation, a list or a sentence."""
    try:
        read_expression(without_unit_text(numeric_core(text).core))
    except UnreadableError:
        return False
    return True


def _readings(gold: str, first: Expression, answer: str, second: Expression) -> Iterator[tuple[Any, ...]]:
    """Both expressions with what their notation leaves open, the likeliest reading first."""
    yield first, second, Angles()
    if first.has_bare_log or second.has_bare_log:
        yield first, second, Angles(log_base=10)
    if first.has_degree or second.has_degree:
        yield first, second, Angles(degree_is_one=True)
    if _has_capital(first) != _has_capital(second) and may_fold_case(gold, answer):
        yield first, second, Angles(fold_case=True)
    if first.is_complex != second.is_complex and "I" in first.symbols | second.symbols:
        yield _with_unit_i(gold, first), _with_unit_i(answer, second), Angles()
    for reading in _ALTERNATIVE_READINGS if first.uncertain or second.uncertain else ():
        other = read_expression(gold, reading), read_expression(answer, reading)
        if other != (first, second):
            yield *other, Angles()


def _with_unit_i(text: str, expression: Expression) -> Expression:
    if expression.is_complex:
        return expression
    return read_expression(re.sub(r"(?<![A-Za-z\\])I(?![A-Za-z_])", "i", text))


def _has_capital(expression: Expression) -> frozenset[str]:
    return frozenset(name for name in expression.symbols if name != name.casefold())


def _rounded(gold: str, first: Expression, answer: str, second: Expression) -> bool | None:
    r"""A bare decimal against a closed expression: rounding decides (``3.1416`` against ``\pi``)."""
    if first.symbols or second.symbols or first.is_complex or second.is_complex:
        return None
    for text, other in ((answer, first), (gold, second)):
        decimal = read_number(text)
        if decimal is not None and decimal.places and not other.has_decimal:
            value = _as_fraction(number(other))
            return value == decimal.value or (decimal.digits >= _ENOUGH_DIGITS and _rounds(value, decimal))
    return None


def _rounds(value: Fraction, decimal: Numeral) -> bool:
    return rounds_to(value, decimal)


def _as_fraction(value: Any) -> Fraction:
    if isinstance(value, Fraction):
        return value
    if value.imag != 0 or abs(value) > 10**_DECIMALS_COMPARED:
        raise UndecidedError
    scaled = value.real * 10**_DECIMALS_COMPARED
    return Fraction(int(scaled), 10**_DECIMALS_COMPARED)


def split_relation(text: str) -> tuple[list[str], list[str]]:
    """The sides and the signs of a relation: ``a < b = c``; no signs when it is none."""
    signs = [match[0] for match in _RELATION.finditer(text)]
    return [side.strip() for side in _RELATION.split(text)], signs


def same_relation(gold: str, answer: str) -> bool | None:
    """Two equations, or two inequalities, in the same names; None when not that, or when it cannot be known."""
    (sides, signs), (other_sides, other_signs) = split_relation(gold), split_relation(answer)
    if len(signs) != 1 or len(other_signs) != 1:
        return None
    if "\\ne" in signs + other_signs or (signs == ["="]) != (other_signs == ["="]):
        return None
    try:
        first, second = (read_expression(f"({a})-({b})") for a, b in (sides, other_sides))
        ratio = same_ratio(first, second)
        if not ratio:
            pair = (signs[0], other_signs[0])
            same = _same_zeros(first, second) if signs == ["="] else _differ(first, second, pair)
            return None if same is False and _leaves_open(gold, first, answer, second) else same
    except (UnreadableError, UndecidedError):
        return None
    return signs[0] == (other_signs[0] if ratio > 0 else _FLIPPED[other_signs[0]])


def _leaves_open(gold: str, first: Expression, answer: str, second: Expression) -> bool:
    """Whether another reading of the two may make them equal, so that nothing is known of what differs in this one."""
    if first.uncertain or second.uncertain:
        return True
    names, others = ({name.casefold() for name in side.symbols} for side in (first, second))
    if first.symbols != second.symbols and names == others and may_fold_case(gold, answer):
        return True
    has_loose_sign = any(side.has_bare_log or side.has_degree for side in (first, second))
    return has_loose_sign and bool(first.symbols & second.symbols)


def _same_zeros(first: Expression, second: Expression) -> bool | None:
    """Whether two equations that are no multiples of each other still mean the same."""
    same = same_solutions(first, second)
    return _differ(first, second) if same is None else same


def _differ(first: Expression, second: Expression, signs: tuple[str, str] | None = None) -> bool | None:
    """False for relations that are known to differ, no multiples of each other; ``signs`` are those of inequalities.

    Two polynomials in names and values of unknown functions are: their zeros determine them, nearly always.
    """
    if first.symbols and second.symbols and not first.symbols & second.symbols:
        return False
    if _is_polynomial(first.tree) and _is_polynomial(second.tree):
        return False
    apart = hold_apart(first, second, signs) if signs else solutions_differ(first, second)
    return False if apart else None


def _is_polynomial(node: Any) -> bool:
    """Whether the zeros of the tree determine it up to a factor, nearly always: sums, products and whole powers."""
    if node[0] in ("num", "sym", "const", "call"):
        return True
    if node[0] == "pow":
        return node[2][0] == "num" and _is_polynomial(node[1])
    if node[0] == "div":
        return _is_polynomial(node[1]) and not _has_names(node[2])
    return node[0] in ("add", "mul", "neg") and all(_is_polynomial(part) for part in node[1:])


def _has_names(node: Any) -> bool:
    return node[0] in ("sym", "call") or any(_has_names(part) for part in node[1:] if isinstance(part, tuple))
