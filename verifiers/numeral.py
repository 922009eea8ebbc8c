r"""Exact arithmetic on short numerals, as models write them: ``1,234.50``, ``\frac{3}{4}``, ``1 1/2``, ``2^{10}-1``.

``read_number`` answers None for whatever is not a plain numeral; it never raises and its work is bounded (length of the
text, nesting, size of the integers), so it may run where no time limit guards it.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from verifiers.units import split_unit, units_contradict

LONGEST = 900
_MAX_DEPTH = 30
_MAX_BITS = 8192
_MAX_EXPONENT = 4096
_MAX_FACTORIAL = 200
_LITERAL = r"\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+"
_SCIENTIFIC = r"[eE][-+]?\d{1,3}(?![\d.])"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>(?:{_LITERAL})(?:{_SCIENTIFIC})?)|(?P<frac>\\frac(?![A-Za-z]))"
    r"|(?P<times>\\cdot(?![A-Za-z])|\\times(?![A-Za-z])|\*(?!\*))|(?P<over>\\div(?![A-Za-z])|/)"
    r"|(?P<power>\*\*|\^)|(?P<other>[-+(){}!]))"
)
_BARE = re.compile(rf"[-+]?\s*(?:{_LITERAL})(?:{_SCIENTIFIC})?")
_TIMES_TEN = re.compile(
    r"([-+]?\s*(?:\d+(?:\.\d*)?|\.\d+))\s*(?:\\times|\\cdot|\*)\s*10\s*\^\s*(?:\{\s*([-+]?\d{1,3})\s*\}|([-+]?\d{1,3}))"
)
_SPACED = re.compile(r"([-+]?)\s*(\d{1,3}(?: \d{3})+)((?:\.\d+)?)")
_MIXED = re.compile(r"([-+]?)\s*(\d{1,9})\s+(\d{1,9})\s*/\s*(\d{1,9})")
_REPEATING = re.compile(
    r"(-?)\s*(\d{0,40})\.(\d{0,40})(?:\\(?:overline|bar|dot)\s*(?:\{(\d{1,40})\}|(\d))|\((\d{1,40})\))"
)
_BASED = re.compile(
    r"(?:\(([0-9A-Za-z]+)\)|(?:\\(?:text|mathrm)\{)?([0-9A-Fa-f]*\d[0-9A-Fa-f]*|[0-9A-Z]*\d[0-9A-Z]*)\}?)\s*_\s*(?:\{\s*(?:\\text\{\s*)?(\w+)\s*\}{1,2}|(\d))"
)
_BASE_NAMES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
_COLONS = re.compile(r"(\d{1,9}(?:\s*:\s*\d{1,9})+)")
_X_TIMES = re.compile(r"(?<=[\d.}])\s*x\s*(?=\d)")


class Numeral(NamedTuple):
    """A number as written."""

    value: Fraction
    """Exact; a percentage is left as written (``50%`` is 50)."""
    places: int | None
    """Decimal places of a bare decimal literal; None for integers, fractions and arithmetic."""
    digits: int
    """Significant digits of a bare decimal literal, else 0."""
    unit: str | None
    """Canonical unit, ``%`` included; None when there is none; an unknown unit reads as ``?``."""


class _NotPlainError(Exception):
    """The text is not a numeral, or is too big to evaluate here."""


@lru_cache(maxsize=4096)
def read_number(text: str) -> Numeral | None:
    """The number that the whole of the (cleaned) text stands for, else None."""
    if len(text) > LONGEST or not any(c.isdigit() for c in text):
        return None
    core, unit = split_unit(text.strip())
    core = _X_TIMES.sub("*", core)
    try:
        value = _mixed(core) or _repeating(core)
        if value is None:
            spaced = _SPACED.fullmatch(core)
            if spaced:
                core = spaced[1] + spaced[2].replace(" ", "") + spaced[3]
            value = _Parser(core).parse()
        places, digits = _decimal_shape(core)
        return Numeral(value, places, digits, unit)
    except (_NotPlainError, ZeroDivisionError):
        return None


class Based(NamedTuple):
    """A numeral with its base as a subscript, such as ``1011_2``."""

    digits: str
    base: int


def read_based(text: str) -> Based | None:
    """The digits and the base of ``1011_2``, ``(2F)_{16}``, ``21_{\\text{three}}``; None for everything else."""
    match = _BASED.fullmatch(text.strip()) if len(text) <= LONGEST else None
    if not match:
        return None
    name = match[3] or match[4]
    base = int(name) if name.isdecimal() else _BASE_NAMES.get(name.casefold(), 0)
    return Based((match[1] or match[2]).upper().lstrip("0") or "0", base) if 2 <= base <= 36 else None


class Colons(NamedTuple):
    """A clock time or a ratio."""

    parts: tuple[int, ...]
    is_clock: bool
    """Whether all parts are what hours, minutes and seconds can be, the latter two with two digits."""
    unit: str | None


def read_colons(text: str) -> Colons | None:
    """The numbers of ``3:4`` or ``12:30 pm``; None for everything else."""
    if len(text) > LONGEST or ":" not in text:
        return None
    core, unit = split_unit(text.strip())
    match = _COLONS.fullmatch(core)
    if not match:
        return None
    parts = [p.strip() for p in match[1].split(":")]
    numbers = tuple(int(p) for p in parts)
    is_clock = len(parts) < 4 and all(len(p) == 2 and int(p) < 60 for p in parts[1:]) and numbers[0] <= 24
    return Colons(numbers, is_clock, unit)


def same_colons(gold: Colons, answer: Colons) -> bool:
    """Equal clock times, or proportional ratios."""
    longer = max(gold.parts, answer.parts, key=len)
    if gold.is_clock and answer.is_clock and {len(gold.parts), len(answer.parts)} == {2, 3} and longer[2] == 0:
        return same_colons(gold._replace(parts=gold.parts[:2]), answer._replace(parts=answer.parts[:2]))
    if units_contradict(gold.unit, answer.unit) or len(gold.parts) != len(answer.parts):
        return False
    if gold.is_clock or answer.is_clock:
        return _same_clock(gold, answer)
    first, other = gold.parts[0], answer.parts[0]
    return all(g * other == a * first for g, a in zip(gold.parts, answer.parts, strict=True))


def _same_clock(gold: Colons, answer: Colons) -> bool:
    """Equal as written, or one in the 24-hour form of the other (which must say am or pm)."""
    if gold.parts == answer.parts:
        return True
    if (gold.unit is None) == (answer.unit is None):
        return False
    return _hours(gold) == _hours(answer)


def _hours(clock: Colons) -> tuple[int, ...]:
    hour = clock.parts[0]
    if clock.unit in ("am", "pm") and 1 <= hour <= 12:
        hour = hour % 12 + (12 if clock.unit == "pm" else 0)
    return (hour, *clock.parts[1:])


def same_number(gold: Numeral, answer: Numeral) -> bool:
    """Whether two numerals state the same number; units may be missing on one side but not contradict each other."""
    percent = "%" in (gold.unit, answer.unit)
    if units_contradict(gold.unit, answer.unit):
        return False
    if answer.unit == "%" and gold.unit is None and abs(gold.value) <= 1:  # 0.25 is 25 %, not 0.25 %
        return gold.value == _scaled(answer)
    if _close(gold, answer):
        return True
    if percent and gold.unit != answer.unit:
        return _scaled(gold) == _scaled(answer)
    return False


def _scaled(numeral: Numeral) -> Fraction:
    return numeral.value / 100 if numeral.unit == "%" else numeral.value


def _close(a: Numeral, b: Numeral) -> bool:
    """Equal, or one is a decimal that rounds (or cuts off) the other, long enough not to do so by chance."""
    if a.value == b.value:
        return True
    if a.places is not None and b.places is not None:
        short, other = (a, b) if a.places <= b.places else (b, a)
        return min(short.places or 0, short.digits) >= 6 and rounds_to(other.value, short)
    for short, other in ((a, b), (b, a)):
        if short.places is not None and short.digits >= 4:
            return rounds_to(other.value, short)
    return False


def rounds_to(exact: Fraction, short: Numeral) -> bool:
    """Whether the decimal ``short`` is the exact value rounded, or cut off towards zero, at its last place."""
    places = short.places or 0
    if places < 1 or exact.denominator == 1:
        return False
    gap = exact - short.value
    last_place = Fraction(1, 10**places)
    return abs(gap) <= last_place / 2 or (abs(gap) < last_place and abs(exact) > abs(short.value))


def _mixed(text: str) -> Fraction | None:
    match = _MIXED.fullmatch(text)
    if not match:
        return None
    value = int(match[2]) + Fraction(int(match[3]), int(match[4]))
    return -value if match[1] == "-" else value


def _repeating(text: str) -> Fraction | None:
    r"""``0.1\overline{6}`` and ``0.1(6)`` are 1/6."""
    match = _REPEATING.fullmatch(text)
    if not match:
        return None
    whole, fixed, period = match[2] or "0", match[3], match[4] or match[5] or match[6]
    value = int(whole) + Fraction(int(fixed or "0"), 10 ** len(fixed))
    value += Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed))
    return -value if match[1] else value


def _decimal_shape(text: str) -> tuple[int | None, int]:
    """(decimal places, significant digits) of a bare decimal, ``(None, 0)`` of anything else."""
    exponent, literal = 0, text.strip()
    ten = _TIMES_TEN.fullmatch(literal)
    if ten:
        literal, exponent = ten[1], int(ten[2] or ten[3])
    elif not _BARE.fullmatch(literal):
        return None, 0
    mantissa, _, power = literal.lower().partition("e")
    exponent += int(power or 0)
    whole, dot, fraction = mantissa.partition(".")
    if not dot and exponent >= 0:
        return None, 0
    digits = re.sub(r"\D", "", whole + fraction).lstrip("0")
    return max(len(fraction) - exponent, 0), len(digits)


class _Parser:
    """Recursive descent over rational arithmetic with bounds on everything."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        position, text = 0, text.strip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if not match or match.lastgroup is None:
                raise _NotPlainError
            value = match[match.lastgroup]
            self._tokens.append((value if match.lastgroup == "other" else match.lastgroup, value))
            position = match.end()
        self._at = 0
        self._depth = 0

    def parse(self) -> Fraction:
        value = self._sum()
        if self._at != len(self._tokens):
            raise _NotPlainError
        return value

    def _peek(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _take(self, kind: str) -> str:
        if self._peek() != kind:
            raise _NotPlainError
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _sum(self) -> Fraction:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _NotPlainError
        value = self._term()
        while self._peek() in ("+", "-"):
            sign = 1 if self._take(self._peek()) == "+" else -1
            value = _bounded(value + sign * self._term())
        self._depth -= 1
        return value

    def _term(self) -> Fraction:
        value = self._factor()
        while True:
            kind = self._peek()
            if kind in ("times", "over"):
                self._take(kind)
                other = self._factor()
                value = _bounded(value * other if kind == "times" else value / other)
            elif kind == "(" or (kind in ("number", "frac") and self._after_group()):
                value = _bounded(value * self._factor())
            else:
                return value

    def _after_group(self) -> bool:
        """Whether the previous factor ended in a bracket or an exponent, so that juxtaposition means a product."""
        return self._tokens[self._at - 1][0] in (")", "}") or self._tokens[self._at - 2][0] == "power"

    def _factor(self) -> Fraction:
        signs = 1
        while self._peek() in ("+", "-"):
            signs *= 1 if self._take(self._peek()) == "+" else -1
        value = self._atom()
        if self._peek() == "power":
            self._take("power")
            value = self._power(value, self._exponent())
        if self._peek() == "!":
            self._take("!")
            value = _factorial(value)
        return signs * value

    def _exponent(self) -> Fraction:
        if self._peek() in ("+", "-"):
            sign = 1 if self._take(self._peek()) == "+" else -1
            return sign * self._atom()
        exponent = self._atom()
        if self._peek() == "power":  # a tower: right-associative in some notations, an error in LaTeX; not decided here
            raise _NotPlainError
        return exponent

    def _atom(self) -> Fraction:
        kind = self._peek()
        if kind == "number":
            value = _literal(self._take("number"))
            if self._peek() == "frac" and value.denominator == 1:
                return value + self._fraction()
            return value
        if kind == "frac":
            return self._fraction()
        if kind in ("(", "{"):
            self._take(kind)
            value = self._sum()
            self._take(")" if kind == "(" else "}")
            return value
        raise _NotPlainError

    def _fraction(self) -> Fraction:
        self._take("frac")
        if self._peek() == "number":
            literal = self._take("number")
            if len(literal) == 2 and literal.isdigit():  # \frac12
                return Fraction(int(literal[0]), int(literal[1]))
            if len(literal) != 1 or self._peek() != "{":
                raise _NotPlainError
            return _bounded(_literal(literal) / self._atom())
        top = self._group()
        bottom = self._group() if self._peek() == "{" else _single_digit(self._take("number"))
        return _bounded(top / bottom)

    def _group(self) -> Fraction:
        if self._peek() != "{":
            raise _NotPlainError
        return self._atom()

    @staticmethod
    def _power(base: Fraction, exponent: Fraction) -> Fraction:
        if exponent.denominator != 1 or abs(exponent) > _MAX_EXPONENT or (base == 0 and exponent <= 0):
            raise _NotPlainError
        size = max(base.numerator.bit_length(), base.denominator.bit_length())
        if size * abs(int(exponent)) > _MAX_BITS:
            raise _NotPlainError
        return base ** int(exponent)


def _literal(text: str) -> Fraction:
    return _bounded(Fraction(text.replace(",", "")))


def _single_digit(text: str) -> Fraction:
    if len(text) != 1:
        raise _NotPlainError
    return Fraction(int(text))


def _factorial(value: Fraction) -> Fraction:
    if value.denominator != 1 or not 0 <= value <= _MAX_FACTORIAL:
        raise _NotPlainError
    return Fraction(math.factorial(int(value)))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise _NotPlainError
    return value
