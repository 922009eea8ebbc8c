"""Whether what a program gave is what was expected, from data alone: nothing here runs code from outside.

Text is compared as LiveCodeBench's grader does: stripped, line by line, each line as text or else token by token as
decimal numbers. Values come as trees (``sandbox.inside.values``) and are never turned into sets or dictionaries of the
values themselves, whose building a hostile choice of keys can make quadratic.
"""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from verifiers.sandbox.inside import values

_DEEPEST = 320
_LARGEST_EXPONENT = 400
_SEQUENCES = {"t": "tuple", "q": "deque"}
_SETS = ("s", "z")
_MAPPINGS = ("d", "o", "n")
_NUMBERS = ("i", "f", "c", "D", "F")
_NO_VALUE = (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What a tree that no encoder has made may lead to: it equals nothing and is false."""


def same_output(got: str, expected: str, tolerance: float = 0.0) -> bool:
    """Whether standard output is right. ``tolerance``: relative and absolute, for tokens that are not integers."""
    mine, theirs = _lines(got), _lines(expected)
    return len(mine) == len(theirs) and all(_same_line(a, b, tolerance) for a, b in zip(mine, theirs))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _same_line(got: str, expected: str, tolerance: float) -> bool:
    if got == expected:
        return True
    mine, theirs = _decimals(got), _decimals(expected)
    if mine is None or theirs is None or len(mine) != len(theirs):
        return False
    return all(a == b or (tolerance > 0 and _is_close(a, b, tolerance)) for a, b in zip(mine, theirs))


def _decimals(line: str) -> list[Decimal] | None:
    """None where a token is no number; a signalling NaN, which cannot even be compared, is none."""
    try:
        numbers = [Decimal(token) for token in line.split()]
    except InvalidOperation:
        return None
    return None if any(number.is_snan() for number in numbers) else numbers


def _is_close(got: Decimal, expected: Decimal, tolerance: float) -> bool:
    """Only where the expected number is written as one that is not an integer."""
    if not expected.is_finite() or not got.is_finite() or expected.as_tuple().exponent == 0:
        return False
    mine, theirs = float(got), float(expected)
    return math.isfinite(mine) and math.isclose(mine, theirs, rel_tol=tolerance, abs_tol=tolerance)


def same_value(got: Any, expected: Any, json_like: bool = False, tolerance: float = 0.0) -> bool:
    """Whether two trees are equal as Python values are.

    ``json_like``: what JSON cannot tell apart is the same: tuples and lists at any depth, and the keys 1 and "1" of a
    dictionary (the expected value was JSON). ``tolerance``: relative and absolute, where one side is a float.
    """
    try:
        return _Comparison(json_like, tolerance).same(got, expected, 0)
    except _NO_VALUE:
        return False


def is_true(tree: Any) -> bool:
    """The truth value of the value of a tree; ``{"u": …}`` stands for one without plain form and holds just that."""
    if not isinstance(tree, dict):
        return bool(tree)
    try:
        tag, content = next(iter(tree.items()))
        if tag == "u":
            return content is True
        return bool(values.decode(tree) if tag in (*_NUMBERS, "r", "td") else content)
    except (*_NO_VALUE, StopIteration):
        return False


class _Comparison:
    def __init__(self, json_like: bool, tolerance: float) -> None:
        self._json_like = json_like
        self._tolerance = tolerance

    def same(self, a: Any, b: Any, depth: int) -> bool:
        if depth > _DEEPEST:
            return False
        kind, content = self._parts(a)
        other, theirs = self._parts(b)
        if kind != other:
            return False
        if kind == "number":
            return self._same_number(content, theirs)
        if kind in ("list", "tuple", "deque"):
            return len(content) == len(theirs) and all(self.same(x, y, depth + 1) for x, y in zip(content, theirs))
        if kind == "set":
            return {self._key(item) for item in content} == {self._key(item) for item in theirs}
        if kind == "dict":
            mine, others = self._pairs(content), self._pairs(theirs)
            return mine.keys() == others.keys() and all(self.same(mine[k], others[k], depth + 1) for k in mine)
        return bool(content == theirs)

    def _pairs(self, pairs: list[list[Any]]) -> dict[str, Any]:
        found = {self._key(key, in_dict=True): value for key, value in pairs}
        if len(found) != len(pairs):  # 1 and "1" where JSON is expected: one of the values would go unseen
            raise values.NotPlainError("two equal keys")
        return found

    def _parts(self, tree: Any) -> tuple[str, Any]:
        """The kind of a value and its content; kinds that may be equal in Python have one name."""
        if isinstance(tree, bool | int | float):
            return "number", tree
        if isinstance(tree, list):
            return "list", tree
        if not isinstance(tree, dict):
            return type(tree).__name__, tree
        if len(tree) != 1:
            raise values.NotPlainError("not a value")
        tag, content = next(iter(tree.items()))
        if tag in _NUMBERS:
            return "number", values.decode(tree)
        if tag in _SEQUENCES and isinstance(content, list):
            return ("list" if self._json_like and tag == "t" else _SEQUENCES[tag]), content
        if tag in _SETS and isinstance(content, list):
            return "set", content
        if tag in _MAPPINGS and isinstance(content, list):
            return "dict", content
        if tag in ("b", "y"):
            return "bytes", content
        if tag == "r":
            span = values.decode(tree)
            return "range", (len(span), span[:1], span.step if len(span) > 1 else None) if span else ()
        return tag, content

    def _same_number(self, a: Any, b: Any) -> bool:
        if a == b:
            return True
        if self._tolerance <= 0 or not (isinstance(a, float) or isinstance(b, float)):
            return False
        if isinstance(a, complex) or isinstance(b, complex):
            return False
        return math.isclose(float(a), float(b), rel_tol=self._tolerance, abs_tol=self._tolerance)

    def _key(self, tree: Any, in_dict: bool = False, depth: int = 0) -> str:
        """A text that is the same for equal values (members of sets, keys of dictionaries)."""
        if depth > _DEEPEST:
            raise values.NotPlainError("too deep")
        kind, content = self._parts(tree)
        if kind == "number":
            text = _number_key(content)
            return f"str:{str(content)!r}" if self._json_like and in_dict and not isinstance(content, bool) else text
        if kind in ("list", "tuple", "deque"):
            return f"{kind}:[{','.join(self._key(item, depth=depth + 1) for item in content)}]"
        if kind == "set":
            return f"set:[{','.join(sorted(self._key(item, depth=depth + 1) for item in content))}]"
        return f"{kind}:{content!r}"


def _number_key(number: Any) -> str:
    if isinstance(number, complex):
        if number.imag != 0:
            return f"c:{number!r}"
        number = number.real
    if isinstance(number, float) and not math.isfinite(number):
        return f"f:{number!r}"
    if isinstance(number, Decimal) and (not number.is_finite() or abs(number.adjusted()) > _LARGEST_EXPONENT):
        return f"D:{number.normalize()}"
    ratio = Fraction(number)
    return f"n:{ratio.numerator:x}/{ratio.denominator:x}"
