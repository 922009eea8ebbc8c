"""Python values as plain JSON trees, for the way between processes that do not trust one another.

Nothing in a tree can run code. Scalars, strings and lists are themselves; everything else is ``{tag: content}``. What
has no plain form (an object of the solution's own class, a function, an iterator) becomes a numbered handle where there
is an ``Outside`` that keeps them, and is refused otherwise.
"""

from __future__ import annotations

import builtins
import datetime
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from keyword import iskeyword
from typing import Any, Protocol

_DEEPEST = 150
_MOST_NODES = 1_000_000
_MOST_FIELDS = 250
_EXACT = 2**53
_LARGEST_EXPONENT = 100_000
"""Of a decimal number: ``int(Decimal('1e999999999'))`` would keep whoever does it busy."""
TYPES = ("int", "float", "str", "bool", "list", "tuple", "dict", "set", "frozenset", "bytes", "complex", "object")
EXCEPTIONS: tuple[str, ...] = tuple(
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)
)
MODULES: tuple[str, ...] = (
    "collections",
    "copy",
    "datetime",
    "decimal",
    "fractions",
    "functools",
    "heapq",
    "bisect",
    "itertools",
)
MODULES += ("json", "math", "operator", "random", "re", "statistics", "string", "sys", "time", "typing", "cmath")
_DAY = (datetime.datetime, datetime.date, datetime.time)
_SEQUENCES: dict[type, str] = {tuple: "t", set: "s", frozenset: "z", deque: "q"}
_MAPPINGS: dict[type, str] = {dict: "d", OrderedDict: "o", Counter: "n", defaultdict: "d"}

_GROWING = (list, dict, set, deque)


class Outside(Protocol):
    """A side of a link: what it makes of values that have no plain form, or are more than that."""

    def handle(self, value: object) -> dict[str, Any]:
        """The tree of a value without plain form."""
        ...

    def class_of(self, kind: type) -> Any:
        """The tree of a named tuple's class."""
        ...

    def keeps(self, kind: type) -> bool:
        """Whether an object of this subclass of a container is more than what it contains."""
        ...

    def found(self, content: list[Any]) -> Any:
        """The value that a handle is for."""
        ...

    def named(self, kind: Any, fields: list[str], items: list[Any]) -> Any:
        """The named tuple of class ``kind``."""
        ...


class NotPlainError(ValueError):
    """The value has no plain form within the limits (kind, depth, size)."""


class Encoder:
    """Values to trees; its limit of nodes is for all of them together."""

    def __init__(self, outside: Outside | None = None) -> None:
        self._outside = outside
        self._left = _MOST_NODES

    def encode(self, value: Any, depth: int = 0) -> Any:
        """The tree of ``value``; raises ``NotPlainError``."""
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            raise NotPlainError("too deep or too large")
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if -_EXACT < value < _EXACT else {"i": hex(value)}
        if kind is float:
            return value if value - value == 0 else {"f": repr(value)}
        if kind is list:
            return [self.encode(item, depth + 1) for item in value]
        if kind in _SEQUENCES:
            return {_SEQUENCES[kind]: [self.encode(item, depth + 1) for item in value]}
        if kind in _MAPPINGS:
            pairs = [[self.encode(k, depth + 1), self.encode(v, depth + 1)] for k, v in kind.items(value)]
            return {_MAPPINGS[kind]: pairs}
        return self._rare(value, kind, depth)

    def _rare(self, value: Any, kind: type, depth: int) -> Any:
        if kind is bytes or kind is bytearray:
            return {"b" if kind is bytes else "y": value.decode("latin-1")}
        if kind is complex:
            return {"c": [self.encode(value.real), self.encode(value.imag)]}
        if kind is Decimal:
            return {"D": str(value)}
        if kind is Fraction:
            return {"F": [hex(value.numerator), hex(value.denominator)]}
        if kind is range:
            return {"r": [hex(value.start), hex(value.stop), hex(value.step)]}
        if kind is datetime.timedelta:
            return {"td": [value.days, value.seconds, value.microseconds]}
        if kind in _DAY and getattr(value, "tzinfo", None) is None:
            return {kind.__name__: value.isoformat()}
        if kind is slice:
            return {"sl": [self.encode(part, depth + 1) for part in (value.start, value.stop, value.step)]}
        if value is Ellipsis or value is NotImplemented:
            return {"x": repr(value)}
        if isinstance(value, type) and value.__module__ == "builtins" and value.__name__ in (*TYPES, *EXCEPTIONS):
            return {"T": value.__name__}
        return self._derived(value, kind, depth)

    def _derived(self, value: Any, kind: type, depth: int) -> Any:
        """A subclass of a plain type goes over as the plain value in it: what it overrides stays behind."""
        outside = self._outside
        if outside is not None and issubclass(kind, tuple) and (fields := field_names(kind, tuple.__len__(value))):
            items = [self.encode(item, depth + 1) for item in tuple.__iter__(value)]
            return {"nt": [outside.class_of(kind), fields, items]}
        if outside is not None and issubclass(kind, _GROWING) and outside.keeps(kind):
            return outside.handle(value)
        for plain in (int, float, str, bytes, tuple, list, dict, set, frozenset, deque):
            if issubclass(kind, plain):
                return self.encode(_strip(plain, value), depth + 1)
        if kind.__module__ == "numpy" and hasattr(kind, "item") and getattr(value, "ndim", 1) == 0:
            return self.encode(value.item(), depth + 1)
        if outside is None:
            raise NotPlainError(f"a {kind.__name__} has no plain form")
        return outside.handle(value)


def field_names(kind: type, size: int) -> list[str]:
    """The names of a named tuple's items; none where it is no such tuple."""
    fields = getattr(kind, "_fields", None)
    if not isinstance(fields, tuple) or len(fields) != size or size > _MOST_FIELDS:
        return []
    are_names = all(type(f) is str and f.isidentifier() and not iskeyword(f) and f[0] != "_" for f in fields)
    return list(fields) if are_names and len(set(fields)) == size and kind.__name__.isidentifier() else []


def named_tuple(name: str, fields: list[str]) -> type:
    """A class of named tuples. Raises ``ValueError`` on what cannot be names."""
    if len(fields) > _MOST_FIELDS:
        raise ValueError("too many fields")
    return namedtuple(name, fields)  # noqa: PYI024


def plain(value: Any) -> Any:
    """The plain container in an object of a subclass; the object itself where there is none."""
    for base in _GROWING:
        if isinstance(value, base):
            return _strip(base, value)
    return value


def _strip(plain: type, value: Any) -> Any:
    if plain in (tuple, list, set, frozenset, deque):
        return plain(plain.__iter__(value))
    if plain is dict:
        return dict(dict.items(value))
    if plain is int:
        return int.__index__(value)
    if plain is float:
        return float.__float__(value)
    return plain.__getitem__(value, slice(None)) if plain is bytes else str.__str__(value)


def decode(tree: Any, outside: Outside | None = None, depth: int = 0) -> Any:
    """The value of a tree; raises ``NotPlainError`` on a tree that no ``Encoder`` makes."""
    if depth > 2 * _DEEPEST:
        raise NotPlainError("too deep")
    if isinstance(tree, list):
        return [decode(item, outside, depth + 1) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) != 1:
        raise NotPlainError("not a value")
    tag, content = next(iter(tree.items()))
    try:
        if tag == "h" and outside is not None:
            return outside.found(content)
        if tag == "nt" and outside is not None:
            kind, fields, items = content
            return outside.named(decode(kind, outside, depth + 1), fields, decode(items, outside, depth + 1))
        if tag in _PAIRS:
            pairs = [(decode(k, outside, depth + 1), decode(v, outside, depth + 1)) for k, v in content]
            return _PAIRS[tag](pairs)
        if tag in _ITEMS:
            return _ITEMS[tag]([decode(item, outside, depth + 1) for item in content])
        return _ATOMS[tag](content)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise NotPlainError(f"not a value: {error}") from error


def _count(pairs: list[tuple[Any, Any]]) -> Counter[Any]:
    return Counter(dict(pairs))


_PAIRS: dict[str, Callable[[list[tuple[Any, Any]]], Any]] = {"d": dict, "o": OrderedDict, "n": _count}
_ITEMS: dict[str, Callable[[list[Any]], Any]] = {
    "t": tuple,
    "s": set,
    "z": frozenset,
    "q": deque,
    "c": lambda parts: complex(*parts),
    "sl": lambda parts: slice(*parts),
}
_ATOMS: dict[str, Callable[[Any], Any]] = {
    "i": lambda text: int(text, 16),
    "f": float,
    "b": lambda text: text.encode("latin-1"),
    "y": lambda text: bytearray(text.encode("latin-1")),
    "D": lambda text: _decimal(text),
    "F": lambda parts: Fraction(*(int(p, 16) for p in parts)),
    "r": lambda parts: range(*(int(p, 16) for p in parts)),
    "td": lambda parts: datetime.timedelta(*parts),
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "x": {"Ellipsis": Ellipsis, "NotImplemented": NotImplemented}.__getitem__,
    "T": lambda name: _named_type(name),
}


def _decimal(text: str) -> Decimal:
    number = Decimal(text)
    if number.is_snan() or (number.is_finite() and abs(number.adjusted()) > _LARGEST_EXPONENT):
        raise ValueError("a decimal that cannot be computed with")
    return number


def _named_type(name: str) -> type:
    if name not in TYPES and name not in EXCEPTIONS:
        raise ValueError(name)
    found: type = getattr(builtins, name)
    return found
