"""YAML as a tree in which every value knows its line; the user's mistakes are collected instead of ending the reading.

Scalars follow the YAML 1.2 core schema, because the 1.1 rules of PyYAML read ``1e-5`` as text, ``no`` as a boolean and
``2024-01-01`` as a date. The tree is built from parser events without recursion, and its depth and size are bounded,
so no input can exhaust the stack or the memory.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from factory.errors import RecipeError

MAX_DEPTH = 40
MAX_NODES = 20_000
"""Counted after aliases are expanded; a large recipe has a few hundred."""
MAX_SHOWN = 40

Scalar = bool | int | float | str | None
Key = str | int
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?[0-9]+(_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.inf|\.nan", re.IGNORECASE)
_CONSTANTS = {form: value for word, value in (("true", True), ("false", False), ("null", None), ("~", None), ("", None))
              for form in (word, word.title(), word.upper())}  # fmt: skip
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Place:
    """Where something was written: a line of a file, or a ``--set`` (line 0, no folder)."""

    label: str
    line: int = 0
    folder: Path | None = None

    def __str__(self) -> str:
        return f"{self.label}:{self.line}" if self.line else self.label

    def at(self, line: int) -> Place:
        """Another line of the same file; a ``--set`` has no lines."""
        return Place(self.label, line, self.folder) if self.line else self


@dataclass(frozen=True)
class Node:
    """A value with its place, which is the line of its key where it has one."""

    value: Scalar | dict[str, Node] | list[Node]
    place: Place
    raw: str = ""
    """A scalar as it was written."""
    size: int = 1
    """Number of nodes in it, aliases expanded."""
    depth: int = 1
    """Levels, aliases expanded."""

    def child(self, key: Key) -> Node | None:
        """The entry under ``key``, if there is one."""
        if isinstance(self.value, dict):
            return self.value.get(str(key))
        if isinstance(self.value, list) and isinstance(key, int) and key < len(self.value):
            return self.value[key]
        return None

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def describe(self) -> str:
        """What it is, short enough for a message: ``"mathh" (text)``."""
        value = self.value
        if isinstance(value, dict):
            return f"a mapping with {', '.join(shown(k, 30) for k in list(value)[:4])}" if value else "an empty mapping"
        if isinstance(value, list):
            return f"a list of {len(value)}" if value else "an empty list"
        if value is None:
            return "nothing (null)"
        if isinstance(value, str):
            return f"{quoted(value)} (text)"
        return f"{shown(self.raw or str(value), 60)} ({'a truth value' if isinstance(value, bool) else 'a number'})"


class Fault(NamedTuple):
    """One mistake."""

    place: Place
    path: tuple[Key, ...]
    text: str

    def line(self) -> str:
        at = f"{dotted(self.path)}: " if self.path else ""
        return f"{self.place}: {at}{self.text}"


def recipe_error(faults: Sequence[Fault], first: str = "") -> RecipeError:
    """All mistakes in the order of lines: of the file labelled ``first``, of other files, then of ``--set``."""

    def order(fault: Fault) -> tuple[bool, bool, str, int]:
        place = fault.place
        return (place.line == 0, place.label != first, place.label if place.line else "", place.line)

    lines = list(dict.fromkeys(fault.line() for fault in sorted(faults, key=order)))
    count = f"{len(lines)} mistakes" if len(lines) > 1 else "1 mistake"
    if len(lines) > MAX_SHOWN:
        count = f"more than {MAX_SHOWN} mistakes"
        lines[MAX_SHOWN:] = ["..."]
    if any(fault.path for fault in faults):
        lines.append(f"{count}; `factory schema` prints every key with its meaning and default.")
    return RecipeError("\n".join(lines))


def dotted(path: Sequence[Key]) -> str:
    """``teachers.candidates.0.name``: the same spelling as in ``--set``."""
    return ".".join(shown(str(key), 60) for key in path)


def shown(text: str, limit: int = 200) -> str:
    """Text that can be printed on one line of a terminal."""
    safe = text[: limit + 1].encode("utf-8", "backslashreplace").decode()
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in safe)
    return safe if len(safe) <= limit else safe[: limit - 3] + "..."


def quoted(text: str) -> str:
    """``shown`` in double quotes."""
    return json.dumps(shown(text, 60), ensure_ascii=False)


def read_tree(text: str, top: Place, faults: list[Fault]) -> Node:
    """Parse one YAML document.

    Args:
        text: the document.
        top: its first line, or a ``--set``, which is then the place of everything in it.
        faults: receives the mistakes that still leave a tree.

    Raises:
        RecipeError: for any other mistake, with those in ``faults``.
    """
    bad = _UNPRINTABLE.search(text)
    if bad:
        place = top.at(text.count("\n", 0, bad.start()) + 1)
        raise recipe_error([*faults, Fault(place, (), f"a character that text cannot hold (U+{ord(bad[0]):04X})")])
    builder = _TreeBuilder(top, faults)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.feed(event)
    except yaml.MarkedYAMLError as error:
        raise recipe_error([*faults, _syntax_fault(error, text, top)]) from None
    except yaml.YAMLError as error:
        raise recipe_error([*faults, Fault(top, (), f"not YAML: {shown(str(error).splitlines()[0])}")]) from None
    if builder.root is None:
        if top.line:
            raise recipe_error([*faults, Fault(top, (), "the file is empty")])
        return Node(None, top)
    return builder.root


def _syntax_fault(error: yaml.MarkedYAMLError, text: str, top: Place) -> Fault:
    what = " ".join(part for part in (error.context, error.problem) if part)
    noticed = error.problem_mark.line if error.problem_mark else 0
    at = noticed
    if error.context_mark and ("quoted" in what or "flow" in what):  # the sign that closes it is missing
        at = error.context_mark.line
    lines = text.splitlines() or [""]
    hint = "text that holds : # { } [ ] or begins with a sign needs quotes"
    if re.match(r"\s*\t", lines[min(at, len(lines) - 1)]):
        hint = "lines are indented with spaces; here is a tab"
    later = f" (noticed in line {noticed + 1})" if noticed != at else ""
    return Fault(top.at(at + 1), (), f"not YAML: {shown(what)}{later}; {hint}")


@dataclass
class _Open:
    """A mapping or list that is being read."""

    items: dict[str, Node] | list[Node]
    place: Place
    anchor: str | None
    key: str | None = None
    key_place: Place | None = None
    size: int = 1
    depth: int = 1


class _TreeBuilder:
    """Turns parser events into nodes."""

    def __init__(self, top: Place, faults: list[Fault]) -> None:
        self._top = top
        self._faults = faults
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        self.root: Node | None = None

    def feed(self, event: yaml.Event) -> None:
        """Take one event."""
        place = self._top.at(event.start_mark.line + 1 if event.start_mark else 1)
        if isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise self._stop(place, "a second document begins here (`---`); a recipe is one document")
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, place)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(str(event.anchor), place)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open(event, place)
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._stack.pop()
            self._attach(Node(done.items, done.place, size=done.size, depth=done.depth), done.anchor)

    def _path(self) -> tuple[Key, ...]:
        keys = [o.key if isinstance(o.items, dict) else len(o.items) for o in self._stack]
        return tuple(key for key in keys if key is not None)

    def _fault(self, place: Place, text: str) -> None:
        self._faults.append(Fault(place, self._path(), text))

    def _stop(self, place: Place, text: str) -> RecipeError:
        """The error for a mistake after which nothing sensible can be read."""
        self._fault(place, text)
        return recipe_error(self._faults)

    def _expects_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].items, dict) and self._stack[-1].key is None

    def _open(self, event: yaml.CollectionStartEvent, place: Place) -> None:
        if self._expects_key():
            raise self._stop(place, "a list or mapping cannot be a key; text that begins with { or [ needs quotes")
        if len(self._stack) >= MAX_DEPTH:
            raise self._stop(place, f"nested deeper than {MAX_DEPTH} levels")
        self._check_tag(event.tag, place)
        if event.anchor:
            self._anchors[event.anchor] = None
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        self._stack.append(_Open({} if is_mapping else [], place, event.anchor))

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> None:
        raw: str = event.value
        if _UNPRINTABLE.search(raw):  # written as an escape
            self._fault(place, "text with a control character in it")
            raw = _UNPRINTABLE.sub("?", raw)
        if self._expects_key():
            self._begin_entry(raw, place)
            return
        self._check_tag(event.tag, place)
        value: Scalar = raw
        if event.implicit[0]:  # written without quotes
            value, problem = plain_scalar(raw)
            if problem:
                self._fault(place, problem)
        self._attach(Node(value, place, raw), event.anchor)

    def _begin_entry(self, key: str, place: Place) -> None:
        parent = self._stack[-1]
        parent.key, parent.key_place = key, place
        if isinstance(parent.items, dict) and key in parent.items:
            self._fault(place, f"this key is already there at {parent.items[key].place}; keep one of the two")

    def _alias(self, name: str, place: Place) -> None:
        label = f"*{shown(name, 40)}"
        if name not in self._anchors:
            raise self._stop(place, f"{label} has no anchor before it; text that begins with * needs quotes")
        node = self._anchors[name]
        if node is None:
            raise self._stop(place, f"{label} lies inside its own anchor")
        if self._expects_key():
            raise self._stop(place, f"{label} is an alias, which cannot be a key")
        self._attach(node, None)

    def _check_tag(self, tag: str | None, place: Place) -> None:
        if tag is not None:
            self._fault(place, f"the tag {shown(tag, 40)} means nothing here; text that begins with ! needs quotes")

    def _attach(self, node: Node, anchor: str | None) -> None:
        if anchor:
            self._anchors[anchor] = node
        if not self._stack:
            self.root = node
            return
        parent = self._stack[-1]
        parent.size += node.size
        parent.depth = max(parent.depth, node.depth + 1)
        if parent.size > MAX_NODES:
            raise self._stop(node.place, f"more than {MAX_NODES:,} values once its aliases are expanded")
        if len(self._stack) + node.depth > MAX_DEPTH + 1:
            raise self._stop(node.place, f"nested deeper than {MAX_DEPTH} levels once its aliases are expanded")
        if isinstance(parent.items, list):
            parent.items.append(node)
            return
        assert parent.key is not None and parent.key_place is not None
        parent.items.setdefault(parent.key, replace(node, place=parent.key_place))
        parent.key = None


def plain_scalar(raw: str) -> tuple[Scalar, str]:
    """Value of an unquoted scalar, and what is wrong with it if something is.

    YAML 1.2 core schema, with ``1_000`` for 1000, and whole numbers in exponent notation (``2e5``) as integers.
    """
    if raw in _CONSTANTS:
        return _CONSTANTS[raw], ""
    if _NOT_FINITE.fullmatch(raw):
        return 0, f"{raw} is not a finite number"
    if _INT.fullmatch(raw):
        number = _int64(raw)
        return (number, "") if number is not None else (0, f"{shown(raw, 40)} is too large a number")
    if _FLOAT.fullmatch(raw):
        value = float(raw)
        if not math.isfinite(value):
            return 0, f"{shown(raw, 40)} is too large a number"
        whole = value.is_integer() and "e" in raw.lower() and abs(value) < 2**53
        return (int(value) if whole else value), ""
    return raw, ""


def _int64(raw: str) -> int | None:
    """None when it needs more than 64 bits."""
    if len(raw) > 100:  # before int(), whose cost is quadratic
        return None
    base = {"0o": 8, "0x": 16}.get(raw[:2], 10)
    number = int(raw, base)
    return number if -(2**63) <= number < 2**63 else None
