r"""Decide whether two expressions are equal by their values: exactly, or to 40 digits, at fixed pseudo-random points.

Values of polynomials and rational functions are exact fractions, and two different ones of the sizes read here agree
at four such points with a probability far below 1e-6 (Schwartz and Zippel: the degree over the 20,000 values that a
name can take, to the fourth power). Values of roots, logarithms and trigonometric functions agree to 25 digits, or
the expressions differ. Points at which a value is undefined, or leaves the real numbers although no imaginary unit is
written, say nothing and are skipped. Names that can only stand for integers get eight small ones, which is weaker.
The points are the same in every run, so that a verdict is; who knows them can construct two different expressions
that agree there. Everything is bounded: no sympy, no simplification.
"""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

from verifiers.expression import Expression, Node

_DIGITS = 40
_POINTS = 12
_NEEDED = 4
_NEEDED_OF_INTEGERS = 8
_NEEDED_OF_STEPS = 40
_MOST_BITS = 4096
_MOST_NAMES_SOLVED_FOR = 6
_LARGEST_EXPONENT = 100_000
_LARGEST_ANGLE = 10**12
_LARGEST_FACTORIAL = 200
_TOLERANCE = 1e-25
_DECIMAL_TOLERANCE = 1e-6
_CANCELLED = 1e-33


class UndecidedError(Exception):
    """The values do not decide: too big, undefined everywhere."""


class _UndefinedError(Exception):
    """No value at this point."""


class Angles(NamedTuple):
    """What is left open in the notation of both texts."""

    log_base: int | None = None
    r"""Base of ``\log`` without one; None for the natural logarithm."""
    degree_is_one: bool = False
    """Degree signs outside trigonometric functions are only a unit."""
    fold_case: bool = False
    """``C`` and ``c`` are the same name."""


class _Point(NamedTuple):
    values: dict[str, Fraction]
    settings: Angles


_local = threading.local()


def _mp() -> Any:
    """This thread's own mpmath context (the module's global one changes precision under other threads' feet)."""
    if not hasattr(_local, "mp"):
        from mpmath.ctx_mp import MPContext

        _local.mp = MPContext()
        _local.mp.dps = _DIGITS
    return _local.mp


def same_values(gold: Expression, answer: Expression, settings: Angles = Angles()) -> bool:  # noqa: B008 - immutable
    """Whether both have the same value wherever they have one. Raises ``UndecidedError``."""
    tally = _Tally()
    has_steps = gold.has_steps or answer.has_steps
    needed = _NEEDED_OF_INTEGERS if gold.integers or answer.integers else _NEEDED
    needed = _NEEDED_OF_STEPS if has_steps else needed
    for point in _points(gold, answer, settings, num=4 * _POINTS if has_steps else _POINTS):
        agree = _agree_at(point, gold, answer, tally)
        if agree is False:
            return False
        if tally.num_real >= needed or (tally.num_real and not point.values):
            return True
    if tally.num_real >= 2:
        return True
    if tally.num_real == 0 and tally.num_complex >= (_NEEDED if gold.symbols | answer.symbols else 1):
        if tally.complex_agree:
            return True
        if not gold.symbols | answer.symbols:
            return False
    raise UndecidedError


class _Tally:
    def __init__(self) -> None:
        self.num_real = self.num_complex = 0
        self.complex_agree = True


def _agree_at(point: _Point, gold: Expression, answer: Expression, tally: _Tally) -> bool | None:
    """Whether the values agree at a point of the domain; None outside it (complex values are tallied apart)."""
    evaluation = _Evaluation(point)
    try:
        a, b = evaluation.value(gold.tree), evaluation.value(answer.tree)
        agree = evaluation.close(a, b, gold.has_decimal or answer.has_decimal)
    except (_UndefinedError, ZeroDivisionError):
        return None
    except (OverflowError, ValueError, TypeError, RecursionError) as error:
        raise UndecidedError from error
    if evaluation.left_reals and not (gold.is_complex or answer.is_complex):
        tally.num_complex += 1
        tally.complex_agree &= agree
        return None
    tally.num_real += 1
    return agree


def same_ratio(gold: Expression, answer: Expression) -> int:
    """1 or -1 if one expression is the other times a constant of that sign (so that ``= 0`` means the same), else 0.

    Raises ``UndecidedError``.
    """
    has_decimal = gold.has_decimal or answer.has_decimal
    ratios: list[Any] = []
    num_lopsided = 0
    for point in _points(gold, answer, Angles()):
        evaluation = _Evaluation(point)
        try:
            a, b = evaluation.value(gold.tree), evaluation.value(answer.tree)
            num_nonzero = sum(map(evaluation.is_clearly_not_zero, (a, b)))
            if evaluation.left_reals or num_nonzero < 2:
                num_lopsided += not evaluation.left_reals and num_nonzero == 1
                continue
            a, b = evaluation.pair(a, b)
            ratios.append(a / b)
            if not evaluation.close(ratios[0], ratios[-1], has_decimal):
                return 0
        except (_UndefinedError, ZeroDivisionError):
            continue
        except (OverflowError, ValueError, TypeError, RecursionError) as error:
            raise UndecidedError from error
        if len(ratios) >= _NEEDED:
            return 1 if ratios[0] > 0 else -1
    if num_lopsided >= _NEEDED and not ratios:  # one of them is zero everywhere
        return 0
    raise UndecidedError


def hold_apart(gold: Expression, answer: Expression, signs: tuple[str, str]) -> bool:
    """Whether one of two inequalities, each a comparison with zero, holds and the other does not at some point.

    One such point proves that they differ. That names are meant to be positive often goes without saying, so other
    points are left out.
    """
    for point in _points(gold, answer, Angles(), num=2 * _POINTS):
        if not _is_positive(point):
            continue
        try:
            truths = [_holds(tree, sign, point) for tree, sign in zip((gold.tree, answer.tree), signs, strict=True)]
        except (_UndefinedError, ZeroDivisionError):
            continue
        except (OverflowError, ValueError, TypeError, RecursionError) as error:
            raise UndecidedError from error
        if truths[0] != truths[1]:
            return True
    return False


def _is_positive(point: _Point) -> bool:
    return all(value > 0 for value in point.values.values())


def _holds(tree: Node, sign: str, point: _Point) -> bool:
    """Whether the tree compares like that with zero. Raises ``_UndefinedError`` where that is too close to call."""
    evaluation = _Evaluation(point)
    value = evaluation.value(tree)
    if evaluation.left_reals:
        raise _UndefinedError
    if sign == "=":
        return not evaluation.is_clearly_not_zero(value)
    if not evaluation.is_clearly_not_zero(value):
        raise _UndefinedError
    return bool((value < 0) == (sign in ("<", "\\le")))


def same_solutions(gold: Expression, answer: Expression) -> bool | None:
    """Whether ``gold = 0`` and ``answer = 0`` give the same value to some name in which both are linear.

    None when there is no such name. Raises ``UndecidedError``.
    """
    for name in sorted(gold.symbols & answer.symbols)[:_MOST_NAMES_SOLVED_FOR]:
        verdict = _same_solution_for(name, gold, answer)
        if verdict is not None:
            return verdict
    return None


def _same_solution_for(name: str, gold: Expression, answer: Expression) -> bool | None:
    has_decimal = gold.has_decimal or answer.has_decimal
    found = 0
    for point in _points(gold, answer, Angles()):
        evaluation = _Evaluation(point)
        try:
            a, b = (_solution(name, tree, point) for tree in (gold.tree, answer.tree))
            if a is None or b is None:
                return None
            if not evaluation.close(a, b, has_decimal):
                return False
        except (_UndefinedError, ZeroDivisionError):
            continue
        except (OverflowError, ValueError, TypeError, RecursionError) as error:
            raise UndecidedError from error
        found += 1
        if found >= _NEEDED:
            return True
    raise UndecidedError


def _solution(name: str, tree: Node, point: _Point) -> Any:
    """Where the tree is zero as a function of ``name``, if it is linear in it, else None."""
    start = point.values[name]
    values = []
    for step in range(3):
        evaluation = _Evaluation(point._replace(values=point.values | {name: start + step}))
        values.append(evaluation.value(tree))
        if evaluation.left_reals:
            raise _UndefinedError
    low, middle, high = values
    if not evaluation.close(high - middle, middle - low, has_decimal=False):
        return None
    if middle == low:
        return None
    low, slope = evaluation.pair(low, middle - low)
    start, step_back = evaluation.pair(start, low / slope)
    return start - step_back


def solutions_differ(gold: Expression, answer: Expression) -> bool:
    """Whether a solution of one of two equations, each with zero on one side, is known that is none of the other.

    Found where an equation is linear in a name, and for positive values only, as in ``hold_apart``.
    """
    if gold.has_decimal or answer.has_decimal:
        return False
    points = [point for point in _points(gold, answer, Angles()) if point.values and _is_positive(point)][:_NEEDED]
    try:
        if any(_holds(gold.tree, "=", point) != _holds(answer.tree, "=", point) for point in points):
            return True  # one of them holds everywhere
    except (_UndefinedError, ZeroDivisionError, OverflowError, ValueError, TypeError, RecursionError) as error:
        raise UndecidedError from error
    return any(
        _solves_only_one(name, one, other, points)
        for one, other in ((gold, answer), (answer, gold))
        for name in sorted(one.symbols)[:_MOST_NAMES_SOLVED_FOR]
    )


def _solves_only_one(name: str, one: Expression, other: Expression, points: list[_Point]) -> bool:
    """Whether a value of ``name`` that makes ``one`` zero at one of the points leaves ``other`` far from zero."""
    for point in points:
        try:
            value = _solution(name, one.tree, point)
            if value is None:
                return False
            evaluation = _Evaluation(point._replace(values=point.values | {name: value}))
            rest = evaluation.value(other.tree)
            if value > 0 and not evaluation.left_reals and evaluation.is_clearly_not_zero(rest):
                return True
        except (_UndefinedError, ZeroDivisionError):
            continue
        except (UndecidedError, OverflowError, ValueError, TypeError, RecursionError):
            return False
    return False


def number(expression: Expression) -> Any:
    """The value of an expression without symbols: a ``Fraction`` or an mpmath number. Raises ``UndecidedError``."""
    if expression.symbols:
        raise UndecidedError
    evaluation = _Evaluation(_Point({}, Angles()))
    try:
        return evaluation.value(expression.tree)
    except (_UndefinedError, ZeroDivisionError, OverflowError, ValueError, TypeError, RecursionError) as error:
        raise UndecidedError from error


def _points(gold: Expression, answer: Expression, settings: Angles, num: int = _POINTS) -> Iterator[_Point]:
    names = sorted(gold.symbols | answer.symbols)
    integers = gold.integers | answer.integers
    if not names:
        yield _Point({}, settings)
        return
    for index in range(num):
        values = {}
        for position, name in enumerate(names):
            key = name.casefold() if settings.fold_case else name
            values[name] = _sample(key, index, position, key in integers or name in integers)
        yield _Point(values, settings)


def _sample(name: str, index: int, position: int, is_integer: bool) -> Fraction:
    """A fixed value for a name: positive at even points, of mixed signs at odd ones."""
    seed = zlib.crc32(f"{name}/{index}".encode())
    if is_integer:
        return Fraction(1 + index + seed % (2 + 3 * index))
    size = Fraction(23 + seed % 251, 37 + (seed >> 8) % 83)
    size = size / 8 if index % 4 >= 2 else size
    return -size if index % 2 and (index == 1 or (seed >> 20) % 2) else size


class _Evaluation:
    """The value of trees at one point."""

    def __init__(self, point: _Point) -> None:
        self._point = point
        self._scale: Any = 0
        self.left_reals = False

    def value(self, node: Node) -> Any:
        """A ``Fraction`` as long as possible, else an mpmath number."""
        return getattr(self, f"_{node[0]}")(*node[1:])

    def close(self, a: Any, b: Any, has_decimal: bool) -> bool:
        """Whether two values count as the same."""
        if a == b:
            return True
        if isinstance(a, Fraction) and isinstance(b, Fraction) and not has_decimal:
            return False
        a, b = self._inexact(a), self._inexact(b)
        tolerance = _DECIMAL_TOLERANCE if has_decimal else _TOLERANCE
        return bool(abs(a - b) <= tolerance * max(abs(a), abs(b)) + _CANCELLED * self._scale)

    def _inexact(self, value: Any) -> Any:
        mp = _mp()
        if isinstance(value, Fraction):
            return mp.mpf(value.numerator) / value.denominator
        if not mp.isfinite(value):
            raise _UndefinedError
        return value

    def _checked(self, value: Any) -> Any:
        if isinstance(value, Fraction):
            if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_BITS:
                return self._inexact(value)
            return value
        mp = _mp()
        if not mp.isfinite(value):
            raise _UndefinedError
        if mp.im(value) != 0:
            if abs(mp.im(value)) <= _TOLERANCE * abs(value):
                return mp.re(value)
            self.left_reals = True
            return value
        return mp.re(value)

    def is_clearly_not_zero(self, value: Any) -> bool:
        """Whether a value is far above what its computation may have lost."""
        return value != 0 and (isinstance(value, Fraction) or bool(abs(value) > _TOLERANCE * self._scale))

    def pair(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Two numbers that can be computed with each other."""
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return a, b
        return self._inexact(a), self._inexact(b)

    def _num(self, value: Fraction) -> Any:
        return value

    def _sym(self, name: str) -> Any:
        return self._point.values[name]

    def _const(self, name: str) -> Any:
        mp = _mp()
        return {"pi": +mp.pi, "e": +mp.e, "i": mp.mpc(0, 1)}[name]

    def _degree(self) -> Any:
        return Fraction(1) if self._point.settings.degree_is_one else _mp().pi / 180

    def _neg(self, node: Node) -> Any:
        return -self.value(node)

    def _add(self, *nodes: Node) -> Any:
        total: Any = Fraction(0)
        for node in nodes:
            total, term = self.pair(total, self.value(node))
            before = total
            total = self._checked(total + term)
            if not isinstance(total, Fraction):
                self._scale = max(self._scale, abs(term))
                if term != 0 and before != 0 and total in (term, before):
                    raise UndecidedError  # 3^5000 + 1: one of them is below the last digit
        return total

    def _mul(self, left: Node, right: Node) -> Any:
        a, b = self.pair(self.value(left), self.value(right))
        return self._checked(a * b)

    def _div(self, top: Node, bottom: Node) -> Any:
        a, b = self.pair(self.value(top), self.value(bottom))
        return self._checked(a / b)

    def _pow(self, base: Node, exponent: Node) -> Any:
        return self._power(self.value(base), self.value(exponent))

    def _power(self, a: Any, b: Any) -> Any:
        if isinstance(a, Fraction) and isinstance(b, Fraction) and b.denominator == 1:
            size = max(a.numerator.bit_length(), a.denominator.bit_length())
            if size * abs(b) <= _MOST_BITS:
                return a ** int(b)
        a = self._inexact(a)
        if abs(b) > _LARGEST_EXPONENT or (a != 0 and abs(b * _mp().log(abs(a))) > _LARGEST_EXPONENT):
            raise UndecidedError
        if isinstance(b, Fraction) and b.denominator == 1:
            return self._checked(a ** int(b))
        return self._checked(_mp().power(a, self._inexact(b)))

    def _root(self, node: Node, index: Node) -> Any:
        value, degree = self.value(node), self.value(index)
        if not isinstance(degree, Fraction) or degree.denominator != 1 or not 2 <= degree <= 100:
            return self._power(value, 1 / degree)
        exact = _exact_root(value, int(degree))
        if exact is not None:
            return exact
        mp = _mp()
        value = self._inexact(value)
        if degree % 2 and mp.im(value) == 0 and value < 0:
            return -mp.root(-value, int(degree))
        return self._checked(mp.sqrt(value) if degree == 2 else mp.root(value, int(degree)))

    def _fn(self, name: str, argument: Node) -> Any:
        settings = self._point.settings
        if settings.degree_is_one and name in _TRIGONOMETRIC:
            self._point = self._point._replace(settings=settings._replace(degree_is_one=False))
            value = self.value(argument)
            self._point = self._point._replace(settings=settings)
        else:
            value = self.value(argument)
        if name in ("abs", "floor", "ceil"):
            return self._step(name, value)
        if name == "log" and settings.log_base is not None:
            return self._logarithm(value, Fraction(settings.log_base))
        if name == "lg":
            return self._logarithm(value, Fraction(10))
        return self._transcendental(name, self._inexact(value))

    def _step(self, name: str, value: Any) -> Any:
        if name == "abs":
            return abs(value)
        if isinstance(value, Fraction):
            return Fraction(math.floor(value) if name == "floor" else math.ceil(value))
        mp = _mp()
        if mp.im(value) != 0 or abs(value) > mp.mpf(10) ** 12:
            raise UndecidedError
        if abs(value - mp.nint(value)) < _TOLERANCE:  # the logarithm of 8 to base 2
            return Fraction(int(mp.nint(value)))
        return Fraction(int(mp.floor(value) if name == "floor" else mp.ceil(value)))

    def _transcendental(self, name: str, value: Any) -> Any:
        mp = _mp()
        if abs(value) > (_LARGEST_EXPONENT if name in _EXPONENTIAL else _LARGEST_ANGLE):
            raise UndecidedError
        if name in ("ln", "log") and value == 0:
            raise _UndefinedError
        try:
            result = getattr(mp, _MPMATH_NAMES.get(name, name))(value)
        except ZeroDivisionError as error:
            raise _UndefinedError from error
        if name in ("sin", "cos", "tan", "cot", "sec", "csc") and abs(result) > 1e30:
            raise _UndefinedError
        self._scale = max(self._scale, 1 if name in _TRIGONOMETRIC else abs(result))
        return self._checked(result)

    def _logbase(self, argument: Node, base: Node) -> Any:
        return self._logarithm(self.value(argument), self.value(base))

    def _logarithm(self, value: Any, base: Any) -> Any:
        if value == 0 or base in (0, 1):
            raise _UndefinedError
        mp = _mp()
        return self._checked(mp.log(self._inexact(value)) / mp.log(self._inexact(base)))

    def _fact(self, node: Node) -> Any:
        value = self.value(node)
        if not isinstance(value, Fraction) or value.denominator != 1:
            raise UndecidedError
        if value < 0:
            raise _UndefinedError
        if value > _LARGEST_FACTORIAL:
            raise UndecidedError
        return Fraction(math.factorial(int(value)))

    def _binom(self, top: Node, bottom: Node) -> Any:
        n, k = self.value(top), self.value(bottom)
        if not (isinstance(n, Fraction) and isinstance(k, Fraction)) or n.denominator != 1 or k.denominator != 1:
            raise UndecidedError
        if n < 0 or k < 0:
            raise _UndefinedError
        if n > 1000:
            raise UndecidedError
        return Fraction(math.comb(int(n), int(k)))

    def _several(self, name: str, *nodes: Node) -> Any:
        """The least, the greatest, or the common divisor or multiple of some values."""
        values = [self.value(node) for node in nodes]
        if name in ("gcd", "lcm"):
            if not all(isinstance(value, Fraction) and value.denominator == 1 for value in values):
                raise UndecidedError
            return self._checked(Fraction((math.gcd if name == "gcd" else math.lcm)(*map(int, values))))
        if not all(isinstance(value, Fraction) for value in values):
            values = [self._inexact(value) for value in values]
            if any(_mp().im(value) != 0 for value in values):
                raise _UndefinedError
        return min(values) if name == "min" else max(values)

    def _call(self, name: str, *arguments: Node) -> Any:
        """An unknown function: any smooth one without identities does."""
        mp = _mp()
        seed = zlib.crc32(name.encode())
        result: Any = 0
        for argument in arguments:
            value = self._inexact(self.value(argument)) + result * 41 / 29
            if abs(value) > _LARGEST_ANGLE:
                raise UndecidedError
            result = self._checked(mp.cos(value * (1 + seed % 97) / 31 + 1) * 3 + mp.atan(value + seed % 7))
        return result


_TRIGONOMETRIC = frozenset(["sin", "cos", "tan", "cot", "sec", "csc"])
_EXPONENTIAL = frozenset(["exp", "sinh", "cosh", "tanh", "coth"])
_MPMATH_NAMES = {
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arccot": "acot",
    "arsinh": "asinh",
    "arcosh": "acosh",
    "artanh": "atanh",
    "log": "ln",
}


def _exact_root(value: Any, degree: int) -> Fraction | None:
    if not isinstance(value, Fraction) or (value < 0 and degree % 2 == 0):
        return None
    top, bottom = _whole_root(abs(value.numerator), degree), _whole_root(value.denominator, degree)
    if top is None or bottom is None:
        return None
    return Fraction(-top if value < 0 else top, bottom)


def _whole_root(value: int, degree: int) -> int | None:
    if degree == 2:
        root = math.isqrt(value)
    elif value.bit_length() <= 300:
        root = round(value ** (1 / degree))
    else:
        return None
    return root if root**degree == value else None
