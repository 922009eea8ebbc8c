"""Stand-ins for the solution's functions and objects in the process that runs the tests, and the link behind them.

What the other side says is data from model-written code: no answer of it can decide a comparison with the tests' own
values, and one that is no answer ends the conversation.
"""

from __future__ import annotations

import builtins
import socket
from collections.abc import Callable, Generator, Iterator
from time import monotonic
from typing import Any

from verifiers.sandbox.inside import values, wire
from verifiers.sandbox.inside.copies import Copies, Row, has_cycle, merge

_LONGEST = 600


class SolutionGoneError(BaseException):
    """The solution's process has ended, or answers with what is no answer."""


class SolutionError(Exception):
    """An exception of the solution that has no builtin class here."""


class CannotSendError(BaseException):
    """The tests hand the solution something that has no plain form: they cannot be run here."""


class Remote:
    """Stand-in for an object, class or function of the solution."""

    __slots__ = ("__weakref__", "_r")  # no other attributes of its own: ``vars`` asks, too

    def __init__(self, solution: Solution, number: int, kind: str, name: str) -> None:
        object.__setattr__(self, "_r", (solution, number, kind, name))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._r[0].call(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "_r":
            raise AttributeError(name)
        return self._r[0].ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._r[0].ask("set", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._r[0].ask("item", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._r[0].ask("setitem", self, key, value)

    def __delitem__(self, key: Any) -> None:
        self._r[0].ask("delitem", self, key)

    def __iter__(self) -> Iterator[Any]:
        iterator = self._r[0].ask("iter", self)
        return iterator if isinstance(iterator, Remote) else iter(iterator)

    def __next__(self) -> Any:
        return self._r[0].ask("next", self)

    def __contains__(self, item: Any) -> bool:
        return any(item is own or item == own for own in self)  # here: the solution must not see what is looked for

    def __len__(self) -> int:
        return int(self._r[0].ask("len", self))

    def __bool__(self) -> bool:
        return self._r[0].ask("bool", self) is True

    def __int__(self) -> int:
        return int(self._r[0].ask("int", self))

    def __float__(self) -> float:
        return float(self._r[0].ask("float", self))

    def __abs__(self) -> Any:
        return self._r[0].ask("abs", self)

    def __str__(self) -> str:
        return str(self._r[0].ask("str", self))

    def __repr__(self) -> str:
        return str(self._r[0].ask("repr", self))

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        return self._r[0].ask("await", self)

    def __enter__(self) -> Any:
        return self.__getattr__("__enter__")()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        plain = kind if kind is not None and kind.__name__ in values.EXCEPTIONS else None
        self.__getattr__("__exit__")(plain, None, None)
        # it swallows nothing: that could be an assert, or have kept one from being reached

    def __hash__(self) -> int:
        return int(self._r[0].ask("hash", self))

    def __instancecheck__(self, value: Any) -> bool:
        is_its = isinstance(value, Remote) or self._r[0].has_made(type(value))
        return is_its and self._r[0].ask("isinstance", value, self) is True

    def __eq__(self, other: object) -> Any:
        if isinstance(other, Remote):
            return self._r[0].ask("eq", self, other) is True
        return self._r[2] == "container" and _same(self._r[0].ask("plain", self), other)

    def __ne__(self, other: object) -> Any:
        if isinstance(other, Remote):
            return self._r[0].ask("ne", self, other) is True
        return not self == other


def _same(content: Any, other: object) -> bool:
    """What a container of the solution's contains, compared here."""
    return not isinstance(content, Remote) and bool(content == other)


def _between_two(name: str) -> Callable[[Remote, object], Any]:
    def operation(self: Remote, other: object) -> Any:
        if not isinstance(other, Remote):
            return NotImplemented
        return self._r[0].ask(name, self, other)

    return operation


for _name in (
    "lt",
    "le",
    "gt",
    "ge",
    "add",
    "sub",
    "mul",
    "matmul",
    "truediv",
    "floordiv",
    "mod",
    "and_",
    "or_",
    "xor",
):
    setattr(Remote, f"__{_name.rstrip('_')}__", _between_two(_name))


class Turns:
    """Whose turn it was: the tests' own code for how long at a stretch, or the solution."""

    def __init__(self) -> None:
        self.is_waiting = False
        self._since = monotonic()
        self._longest_s = 0.0

    def begin(self) -> None:
        """A test begins."""
        self._since, self._longest_s = monotonic(), 0.0

    def wait(self) -> None:
        """The solution is asked."""
        self._longest_s = self.own_s()
        self.is_waiting = True

    def resume(self) -> None:
        """Its answer has been read: to read a long one takes time that is not the tests'."""
        self._since = monotonic()
        self.is_waiting = False

    def own_s(self) -> float:
        """The longest time that the tests' own code took at a stretch."""
        return self._longest_s if self.is_waiting else max(self._longest_s, monotonic() - self._since)


class Solution:
    """This side of the link."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._known: dict[int, Any] = {}
        self._numbers: dict[type, int] = {}
        self._named: dict[int, type] = {}
        self._copies = Copies()
        self._namespace: dict[str, Any] = {}
        self._shared_names: set[str] = set()
        self.turns = Turns()
        self.num_asked = 0
        self.gone = False
        self.subjects: set[int] = set()
        """Numbers of what the tests themselves name."""
        self.has_classes = False
        """Whether the tests name a class of the solution's: what they hand its methods is then their affair, too."""
        self.has_given_cycle = False
        """Whether objects that the solution has made or changed lead back to themselves."""

    def begin(self, helpers: str, shared: set[str], namespace: dict[str, Any]) -> None:
        """Give the solution what the problem defines.

        ``shared``: names of classes, to be found in ``namespace``, whose objects are values for both sides.
        """
        self._namespace, self._shared_names = namespace, shared
        self._send({"op": "begin", "helpers": helpers, "shared": sorted(shared)})

    def hello(self) -> None:
        """Raises what importing the solution raised, if anything."""
        failure = self._field(self._receive(), "failure")
        self.turns.resume()
        if failure is not None:
            raise self._exception(failure)

    def names(self, wanted: list[str]) -> dict[str, dict[str, Any]]:
        """The solution's values of these names: those that it defines."""
        self._send({"op": "names", "names": wanted})
        reply = self._receive()
        found = self._field(reply, "names")
        self._copies = Copies()
        self._take([], reply.get("copies", []))
        self.turns.resume()
        if not isinstance(found, dict) or not all(isinstance(about, dict) for about in found.values()):
            raise self._garbled()
        return found

    def _field(self, reply: dict[str, Any], name: str) -> Any:
        if name not in reply:
            raise self._garbled()
        return reply[name]

    def _garbled(self) -> SolutionGoneError:
        """Whoever writes to the link beside our own code in that process has ended the conversation."""
        self.gone = True
        self._link.close()
        return SolutionGoneError()

    def ask(self, operation: str, *args: Any) -> Any:
        """Have the solution do one operation."""
        return self.call(None, args, {}, operation)

    def call(
        self, target: Remote | None, args: tuple[Any, ...], kwargs: dict[str, Any], operation: str = "call"
    ) -> Any:
        """Call ``target`` there; arguments that it changed are changed here, too."""
        sent = args if target is None else (target, *args)
        is_tests_doing = target is not None and (self.has_classes or target._r[1] in self.subjects)
        self._copies = Copies()
        try:
            encode = self._encoding()
            trees = [encode(value) for value in sent]
            named = [[name, encode(value)] for name, value in kwargs.items()]
            rows = self._copies.pack(encode, self._shared_name)
        except CannotSendError as error:
            if is_tests_doing:
                raise
            self.num_asked += 1  # the tests would not do this with what they expect here
            raise SolutionError(str(error)) from None
        self.num_asked += 1
        self._send({"op": operation, "args": trees, "kwargs": named, "copies": rows})
        try:
            return self._answer(self._receive(), sent, kwargs, rows)
        finally:
            self.turns.resume()

    def _answer(self, reply: dict[str, Any], sent: tuple[Any, ...], kwargs: dict[str, Any], rows: list[Row]) -> Any:
        if "e" in reply:
            raise self._exception(reply["e"])
        self._take(rows, reply.get("copies", []))
        value = self.decode(self._field(reply, "v"))
        try:
            changed = [(kwargs[k] if isinstance(k, str) else sent[k], self.decode(t)) for k, t in reply.get("m", [])]
        except (KeyError, IndexError, TypeError, ValueError):
            raise self._garbled() from None
        for old, new in changed:
            merge(old, new)
        return value

    def contains(self, item: Any, owner: Any) -> bool:
        """``item in owner``, where the tests have built the owner of a class of the solution's."""
        return self.call(owner, (item,), {}, "contains") is True if isinstance(owner, Remote) else item in owner

    def _take(self, sent: list[Row], came: list[Row]) -> None:
        try:
            self._copies.unpack(came, self._kind, self.decode)
            if came and not self.has_given_cycle:
                self.has_given_cycle = has_cycle([*{row[0]: row for row in (*sent, *came)}.values()])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._garbled() from None

    def _kind(self, name: str) -> type:
        """The tests' own class of a name that the solution has been given."""
        kind = self._namespace.get(name) if name in self._shared_names else None
        if not isinstance(kind, type) or kind.__module__ != "__main__":
            raise ValueError(f"no class {name} that both sides have")
        return kind

    def _shared_name(self, kind: type) -> str | None:
        names = (base.__name__ for base in kind.__mro__ if self._namespace.get(base.__name__) is base)
        return next((name for name in names if name in self._shared_names), None)

    def has_made(self, kind: type) -> bool:
        """Whether it stands for a class of the solution's."""
        return kind in self._numbers

    def _send(self, head: dict[str, Any]) -> None:
        if self.gone:
            raise SolutionGoneError
        self.turns.wait()
        try:
            wire.send(self._link, head)
        except wire.WireError:
            self.gone = True
            raise SolutionGoneError from None

    def _receive(self) -> dict[str, Any]:
        try:
            frame = wire.receive(self._link)
        except wire.WireError:
            frame = None
        if frame is None:
            self.gone = True
            raise SolutionGoneError
        return frame.head

    def _encoding(self) -> Callable[[Any], Any]:
        encoder = values.Encoder(self)

        def encode(value: Any) -> Any:
            try:
                return encoder.encode(value)
            except values.NotPlainError as error:  # too deep or too large: the solution's own values may be in it
                raise (SolutionError if self.num_asked else CannotSendError)(str(error)) from None

        return encode

    def handle(self, value: object) -> dict[str, Any]:
        """See ``values.Outside``."""
        if isinstance(value, Remote):
            return {"h": [value._r[1]]}
        if isinstance(value, type) and value in self._numbers:
            return {"h": [self._numbers[value]]}
        if isinstance(value, BaseException) and hasattr(value, "from_solution"):
            raise SolutionError("the tests hand the solution an exception of its own")
        shared = self._shared_name(value if isinstance(value, type) else type(value))
        if shared is None or isinstance(value, BaseException):
            raise CannotSendError(f"the tests hand the solution a {type(value).__name__}")
        return {"h": [shared, "class"]} if isinstance(value, type) else self._copies.handle(value)

    def class_of(self, kind: type) -> Any:
        """See ``values.Outside``. A class that the solution has not is made there from its name."""
        is_known = kind in self._numbers or self._shared_name(kind) is not None
        return self.handle(kind) if is_known else kind.__name__

    def keeps(self, kind: type) -> bool:
        """See ``values.Outside``."""
        return False

    def decode(self, tree: Any) -> Any:
        """A value of the solution's."""
        try:
            return values.decode(tree, self)
        except values.NotPlainError:
            raise self._garbled() from None

    def found(self, content: list[Any]) -> Any:
        """See ``values.Outside``."""
        if len(content) == 2:
            return self._copies.found(content[0]) if content[1] == "copy" else self._kind(content[0])
        number, kind, name = int(content[0]), str(content[1]), str(content[2])
        if number not in self._known:
            self._known[number] = self._made(number, kind, name)
        return self._known[number]

    def named(self, kind: Any, fields: list[str], items: list[Any]) -> Any:
        """See ``values.Outside``. Compared here, as the tuple that it is; its class's methods are the solution's."""
        if isinstance(kind, Remote):
            kind = self._named_kind(kind._r[1], kind._r[3], fields)
        if not isinstance(items, list) or kind._fields != tuple(fields) or len(items) != len(fields):
            raise ValueError("no named tuple")
        return tuple.__new__(kind, items)

    def _named_kind(self, number: int, name: str, fields: list[str]) -> Any:
        if number not in self._named:

            def attribute(value: Any, name: str) -> Any:
                if name.startswith("_"):
                    raise AttributeError(name)
                return self.ask("get", value, name)

            made = type(name, (values.named_tuple(name, fields),), {"__slots__": (), "__getattr__": attribute})
            self._named[number], self._numbers[made] = made, number
        return self._named[number]

    def _made(self, number: int, kind: str, name: str) -> Any:
        if kind.startswith("exception "):
            made = type(name, (_builtin_exception(kind.partition(" ")[2]),), {})
            self._numbers[made] = number
            return made
        return Remote(self, number, kind, name)

    def _exception(self, about: Any) -> BaseException:
        if not isinstance(about, dict):
            return self._garbled()
        number = about.get("class")
        kind = self._known.get(number) if isinstance(number, int) else None
        if isinstance(number, str) and number in self._shared_names:
            kind = self._namespace.get(number)
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            kind = _builtin_exception(str(about.get("builtin")))
        try:
            error: BaseException = kind(*self.decode(about.get("args")))
        except Exception:
            error = SolutionError(str(about.get("text")))
        error.__dict__["from_solution"] = f"{about.get('name')}: {about.get('text')}"[:_LONGEST]
        return error


def _builtin_exception(name: str) -> type[Exception]:
    found = getattr(builtins, name, None) if name in values.EXCEPTIONS else None
    return found if isinstance(found, type) and issubclass(found, Exception) else SolutionError
