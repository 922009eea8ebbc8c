r"""Sets of real numbers however written: ``[-2, 3)``, ``-2 \le x < 3``, ``x \ne 1``, ``\mathbb{R} \setminus \{1\}``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from verifiers.algebra import split_relation
from verifiers.evaluate import UndecidedError, number
from verifiers.expression import UnreadableError, read_expression

_INFINITY = "\\infty"
_NAME = r"(?:[A-Za-z]|\\(?:theta|alpha|beta|lambda|mu|phi|omega))(?:_(?:\w|\{\w{1,6}\}))?"
_NAMED = re.compile(rf"\s*(?:{_NAME}|\|\s*{_NAME}\s*\||[A-Za-z]\(\s*[A-Za-z]\s*\))\s*")
_MEMBER = re.compile(rf"\s*({_NAME})\s*\\in(?![A-Za-z])\s*(.+)$", re.DOTALL)
_BUILDER = re.compile(
    rf"\\?\{{\s*({_NAME})\s*(?:\\in\s*\\mathbb\s*\{{?\s*R\s*\}}?\s*)?(?:\\mid|\\vert|\||:)\s*(.+?)\\?\}}$"
)
_REALS = re.compile(
    r"\s*(?:\\mathbb\s*\{?\s*R\s*\}?|\\R|\\Re|\(\s*-\s*\\infty\s*,\s*\+?\s*\\infty\s*\)"
    r"|(?:\\text\s*\{)?\s*all\s+real(?:\s+numbers?|s)?(?:\s+(?:\$?x\$?))?\s*\}?)\s*"
)
_UNION = re.compile(
    r"\\cup(?![A-Za-z])|\\(?:lor|vee)(?![A-Za-z])|(?<=[)\]])\s*U\s*(?=[(\[])|(?<![A-Za-z\\])or(?![A-Za-z])"
    r"|\\(?:text|mbox|textrm|mathrm)\s*\{\s*or\s*\}"
)
_AND = re.compile(
    r"\\(?:text|mbox|textrm|mathrm)\s*\{\s*and\s*\}|(?<![A-Za-z\\])and(?![A-Za-z])|\\(?:land|wedge)(?![A-Za-z])"
)
_EXCEPT = re.compile(
    r"\s*(?:\\setminus|\\backslash|\\smallsetminus|-)\s*\\?\{([^{}]*)\\?\}\s*$|\s*\\setminus\s*\\lbrace(.*)\\rbrace"
)
_BRACKETED = re.compile(r"\s*([(\[\]])(.*)([)\]\[])\s*$", re.DOTALL)
_POINTS = re.compile(r"\s*\\?\{([^{}|:]*)\\?\}\s*$")
_LOWER = {"<": False, "\\le": True}
_UPPER = {">": False, "\\ge": True}
_IS_SET = re.compile(
    r"\\cup|\\setminus|\\backslash|\\mathbb|\\in(?![A-Za-z])|[<>]|\\(?:le|ge|ne)(?![A-Za-z])|\breals?\b|\\R\b"
)
_MOST_PIECES = 12

Same = Callable[[str, str], bool]


class Interval(NamedTuple):
    r"""One piece, with its ends as texts; ``\infty`` and ``-\infty`` for no end."""

    low: str
    low_closed: bool
    high: str
    high_closed: bool


class RealSet(NamedTuple):
    """Disjoint pieces, and the name of the number that they are about, if it is written."""

    name: str
    pieces: tuple[Interval, ...]

    @property
    def is_wide(self) -> bool:
        """Whether it holds more than some points."""
        return any(piece.low != piece.high for piece in self.pieces)


class _NoSetError(Exception):
    """The text states no such set."""


def states_a_set(text: str) -> bool:
    """Whether the text is more than a bare pair of brackets."""
    return bool(_IS_SET.search(text))


def read_real_set(text: str) -> RealSet | None:
    """The set that a (cleaned) text states; None when it states none of these."""
    if len(text) > 600:
        return None
    text = text.replace("\\{", "{").replace("\\}", "}")
    try:
        name, body = _named(text)
        pieces: list[Interval] = []
        for part in _UNION.split(body):
            inner, found = _pieces(part.strip().strip(","), name)
            if name and inner and inner != name:
                return None
            name = name or inner
            pieces += found
    except _NoSetError:
        return None
    if len(pieces) > _MOST_PIECES or (not pieces and not _AND.search(body)):
        return None
    return RealSet(name, tuple(_merged(pieces)))


def _merged(pieces: list[Interval]) -> list[Interval]:
    """Without overlaps: [-2, 0] and [0, 2] are [-2, 2]. Pieces whose ends are no fixed numbers stay as they are."""
    try:
        ordered = sorted(pieces, key=lambda piece: (_position(piece.low), not piece.low_closed))
        merged = ordered[:1]
        for piece in ordered[1:]:
            last = merged[-1]
            reach, start = _position(last.high), _position(piece.low)
            if start > reach or (start == reach and not (last.high_closed or piece.low_closed)):
                merged.append(piece)
            elif (_position(piece.high), piece.high_closed) > (reach, last.high_closed):
                merged[-1] = last._replace(high=piece.high, high_closed=piece.high_closed)
    except _NoSetError:
        return pieces
    return merged


def _named(text: str) -> tuple[str, str]:
    builder = _BUILDER.fullmatch(text.strip())
    if builder:
        return _squeezed(builder[1]), builder[2]
    member = _MEMBER.match(text)
    if member and not re.search(r"[<>]|\\(?:le|ge|ne)(?![A-Za-z])", text):
        return _squeezed(member[1]), member[2]
    return "", text


def _squeezed(text: str) -> str:
    return re.sub(r"[\s{}]", "", text)


def _pieces(text: str, name: str) -> tuple[str, list[Interval]]:
    without = _EXCEPT.search(text)
    if without and _REALS.fullmatch(text[: without.start()]):
        return "", _around([p.strip() for p in (without[1] or without[2] or "").split(",")])
    if _REALS.fullmatch(text):
        return "", [Interval("-" + _INFINITY, False, _INFINITY, False)]
    if _BRACKETED.fullmatch(text):
        return "", [_bracketed(text)]
    points = _POINTS.fullmatch(text)
    if points and not split_relation(text)[1]:
        return "", [Interval(p.strip(), True, p.strip(), True) for p in points[1].split(",") if p.strip()]
    return _inequalities(text, name)


def _around(points: list[str]) -> list[Interval]:
    """The line without these points."""
    if not all(points) or len(points) > _MOST_PIECES:
        raise _NoSetError
    points = sorted(points, key=_position)
    ends = ["-" + _INFINITY, *points, _INFINITY]
    return [Interval(a, False, b, False) for a, b in zip(ends, ends[1:], strict=False)]


def _position(text: str) -> float:
    if _squeezed(text).strip("+") == _INFINITY:
        return float("inf")
    if _squeezed(text) == "-" + _INFINITY:
        return float("-inf")
    try:
        value = number(read_expression(text))
        return float(value.real if hasattr(value, "real") else value)
    except (UnreadableError, UndecidedError, OverflowError) as error:
        raise _NoSetError from error


def _bracketed(text: str) -> Interval:
    match = _BRACKETED.fullmatch(text)
    if not match:
        raise _NoSetError
    parts = _top_level(match[2])
    if len(parts) != 2 or not all(p.strip() for p in parts):
        raise _NoSetError
    return _interval(parts[0], match[1] == "[", parts[1], match[3] == "]")


def _interval(low: str, low_closed: bool, high: str, high_closed: bool) -> Interval:
    low, high = low.strip(), high.strip()
    if _squeezed(low) == "-" + _INFINITY:
        low, low_closed = "-" + _INFINITY, False
    if _squeezed(high).strip("+") == _INFINITY:
        high, high_closed = _INFINITY, False
    return Interval(low, low_closed, high, high_closed)


def _top_level(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for position, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char in ",;" and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


def _inequalities(text: str, name: str) -> tuple[str, list[Interval]]:
    """``a < x \\le b``, ``x > a``, ``x \\ne a``, and several of them, joined by "and" or a comma."""
    halves: list[Interval] = []
    holes: list[str] = []
    for part in _top_level(_AND.sub(",", text)):
        sides, signs = split_relation(part)
        if not signs and holes and part.strip():  # x \ne 1, 2
            holes.append(part.strip())
            continue
        found, half, hole = _inequality(sides, signs, name)
        if name and found != name:
            raise _NoSetError
        name = found
        halves += [half] if half else []
        holes += [hole] if hole else []
    if name.startswith("|"):
        if holes or len(halves := _joined(halves, both=False)) != 1:
            raise _NoSetError
        return name.strip("|"), _on_both_sides(halves[0])
    if holes and not halves:
        return name, _around(holes)
    pieces = _joined(halves, both=bool(_AND.search(text)))
    for hole in holes:
        pieces = [part for piece in pieces for part in _without(piece, hole)]
    return name, pieces


def _without(piece: Interval, hole: str) -> list[Interval]:
    """The interval without a point of it: ``0 < x < 2, x \\ne 1``."""
    place = _position(hole)
    if not _position(piece.low) < place < _position(piece.high):
        raise _NoSetError
    return [piece._replace(high=hole, high_closed=False), piece._replace(low=hole, low_closed=False)]


def _on_both_sides(size: Interval) -> list[Interval]:
    """Where a number is whose size is there: ``1 < |x| < 2``."""
    if size.low == "-" + _INFINITY:
        return [_interval(f"-({size.high})", size.high_closed, size.high, size.high_closed)]
    low = "-" + _INFINITY if size.high == _INFINITY else f"-({size.high})"
    return [Interval(low, size.high_closed, f"-({size.low})", size.low_closed), size]


def _inequality(sides: list[str], signs: list[str], name: str) -> tuple[str, Interval | None, str | None]:
    if len(signs) == 1 and signs[0] == "\\ne" and _is_name(sides[0]):
        return _squeezed(sides[0]), None, sides[1]
    if len(signs) == 1 and signs[0] == "=" and _is_name(sides[0]) and _is_bound(sides[1], sides[0]):
        return _squeezed(sides[0]), Interval(sides[1], True, sides[1], True), None
    if len(signs) == 2 and all(s in _UPPER for s in signs):
        sides, signs = sides[::-1], [{">": "<", "\\ge": "\\le"}[s] for s in reversed(signs)]
    if len(signs) == 2 and all(s in _LOWER for s in signs) and _is_name(sides[1]):
        if not (_is_bound(sides[0], sides[1]) and _is_bound(sides[2], sides[1])):
            raise _NoSetError
        return _squeezed(sides[1]), _interval(sides[0], _LOWER[signs[0]], sides[2], _LOWER[signs[1]]), None
    if len(signs) != 1 or signs[0] in ("=", "\\ne"):
        raise _NoSetError
    left, right = sides
    sign = signs[0]
    if not _is_name(left):
        left, right = right, left
        sign = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}[sign]
    if not _is_name(left) or not _is_bound(right, left):
        raise _NoSetError
    if sign in _LOWER:
        return _squeezed(left), _interval("-" + _INFINITY, False, right, _LOWER[sign]), None
    return _squeezed(left), _interval(right, _UPPER[sign], _INFINITY, False), None


def _is_name(text: str) -> bool:
    return bool(_NAMED.fullmatch(text)) and text.strip() not in ("e", "i")


def _is_bound(text: str, name: str) -> bool:
    if not text.strip():
        return False
    return not re.search(rf"(?<![A-Za-z\\]){re.escape(name.strip())}(?![A-Za-z])", text)


def _joined(halves: list[Interval], both: bool) -> list[Interval]:
    """Two half-lines that overlap are meant as a bounded interval, others as alternatives, unless "and" joins them."""
    if len(halves) != 2:
        return halves
    lower = next((h for h in halves if h.high == _INFINITY and h.low != "-" + _INFINITY), None)
    upper = next((h for h in halves if h.low == "-" + _INFINITY and h.high != _INFINITY), None)
    if lower and upper and _position(lower.low) < _position(upper.high):
        return [Interval(lower.low, lower.low_closed, upper.high, upper.high_closed)]
    return [] if both and lower and upper else halves


def same_real_set(gold: RealSet, answer: RealSet, same: Same) -> bool | None:
    """Whether both hold the same numbers; None when they speak of numbers with different names."""
    if gold.name and answer.name and gold.name != answer.name:
        return None
    if len(gold.pieces) != len(answer.pieces):
        return False
    left = list(answer.pieces)
    for piece in gold.pieces:
        match = next((other for other in left if _same_piece(piece, other, same)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same_piece(a: Interval, b: Interval, same: Same) -> bool:
    if (a.low_closed, a.high_closed) != (b.low_closed, b.high_closed):
        return False
    return _same_end(a.low, b.low, same) and _same_end(a.high, b.high, same)


def _same_end(a: str, b: str, same: Same) -> bool:
    if _INFINITY in a or _INFINITY in b:
        return _squeezed(a) == _squeezed(b)
    return same(a, b)
