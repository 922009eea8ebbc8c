"""The solution's side of assert-style tests: it does what the tester asks, on numbered objects.

It shares its process with model-written code: what it sends is data, never a verdict.
"""

from __future__ import annotations

import ast
import contextlib
import operator
import os
import socket
import types
from collections.abc import Callable
from typing import Any, NoReturn

from verifiers.sandbox.inside import values, wire
from verifiers.sandbox.inside.copies import Copies

_FIXED_TAGS = {"h", "i", "f", "b", "c", "D", "F", "r", "td", "sl", "x", "T", "datetime", "date", "time"}


def out_of_memory() -> NoReturn:
    """End this process as one that a limit of memory has ended; the host knows it by the last line."""
    os.write(2, b"MemoryError\n")
    os._exit(1)


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as data: its nearest builtin class, its own class's name, and its text."""
    builtin = next((k.__name__ for k in type(error).__mro__ if k.__module__ == "builtins"), "Exception")
    try:
        text = str(error)[:2000]
    except BaseException:
        text = "(its text cannot be had)"
    try:
        arguments = values.Encoder().encode(list(error.args))
    except BaseException:
        arguments = [text]
    return {"builtin": builtin, "name": type(error).__name__, "text": str(text), "args": arguments}


class Server:
    """The solution's side of assert-style tests: does what the tester asks, on numbered objects."""

    def __init__(self, link: socket.socket, namespace: dict[str, Any]) -> None:
        self._link = link
        self._namespace = namespace
        self._ambient: dict[str, Any] = {}
        self._shared: set[str] = set()
        self._named_kinds: set[type] = set()
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._copies = Copies()

    def run(self, code: types.CodeType) -> None:
        """Import the solution with what the problem gives it; then answer requests until the tester is gone."""
        frame = wire.receive(self._link)
        if frame is None:
            return
        self._give(frame.head["helpers"])
        self._shared = set(frame.head["shared"])
        self._ambient = dict(self._namespace)
        failure = None
        try:
            exec(code, self._namespace)
        except MemoryError:
            out_of_memory()
        except BaseException as error:
            failure = describe(error)
        wire.send(self._link, {"failure": failure})
        self._serve()

    def _give(self, helpers: str) -> None:
        """The problem's own definitions; what cannot be had here is missing, as it would be in the solution alone."""
        for statement in ast.parse(helpers).body:
            with contextlib.suppress(Exception):
                exec(compile(ast.Module([statement], []), "<problem>", "exec"), self._namespace)

    def _serve(self) -> None:
        while (frame := wire.receive(self._link)) is not None:
            try:
                reply = self._answer(frame.head)
            except MemoryError:
                out_of_memory()
            except BaseException as error:
                reply = {"e": {**describe(error), "class": self._class_of(error)}}
            wire.send(self._link, reply)

    def _class_of(self, error: BaseException) -> int | str | None:
        return self._numbers.get(id(type(error)), self._shared_name(type(error)))

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        self._copies = Copies()
        encoder = values.Encoder(self)
        if request["op"] == "names":
            own = [name for name in request["names"] if self._is_own(name)]
            self._named_kinds.update(kind for name in own if isinstance(kind := self._namespace[name], type))
            found = {name: {"v": encoder.encode(self._namespace[name])} for name in own}
            return {"names": found, "copies": self._copies.pack(encoder.encode, self._shared_name)}
        self._copies.unpack(request.get("copies", []), self._kind, self._decode)
        arguments = [self._decode(tree) for tree in request["args"]]
        keywords = {name: self._decode(tree) for name, tree in request.get("kwargs", [])}
        value = _OPERATIONS[request["op"]](*arguments, **keywords)
        reply = {"v": encoder.encode(value)}
        changed = self._changed(request, {**dict(enumerate(arguments)), **keywords}, encoder)
        copies = self._copies.pack(encoder.encode, self._shared_name)
        return {**reply, **({"m": changed} if changed else {}), **({"copies": copies} if copies else {})}

    def _changed(self, request: dict[str, Any], now: dict[Any, Any], encoder: values.Encoder) -> list[Any]:
        """Arguments that the call has changed, as they are now: ``[position or name, tree]``."""
        changed = []
        for key, tree in [*enumerate(request["args"]), *request.get("kwargs", [])]:
            if isinstance(tree, list) or (isinstance(tree, dict) and _FIXED_TAGS.isdisjoint(tree)):
                after = encoder.encode(now[key])
                if after != tree:
                    changed.append([key, after])
        return changed

    def _is_own(self, name: str) -> bool:
        """Whether the solution itself has given the name a value (the preamble's are not its own)."""
        if name not in self._namespace:
            return False
        return name not in self._ambient or self._ambient[name] is not self._namespace[name]

    def _decode(self, tree: Any) -> Any:
        return values.decode(tree, self)

    def _kind(self, name: str) -> type:
        """The solution's class of a name that the problem has one of, too: its own, where it has defined it."""
        for names in (self._namespace, self._ambient):
            kind = names.get(name)
            if isinstance(kind, type):
                return kind
        made = self._ambient[name] = type(name, (), {})  # its definition wants what cannot be had here
        return made

    def _shared_name(self, kind: type) -> str | None:
        return next((base.__name__ for base in kind.__mro__ if base.__name__ in self._shared), None)

    def found(self, content: list[Any]) -> Any:
        """See ``values.Outside``."""
        if content[1:] == ["copy"]:
            return self._copies.found(content[0])
        return self._kind(content[0]) if content[1:] == ["class"] else self._objects[content[0]]

    def class_of(self, kind: type) -> Any:
        """See ``values.Outside``."""
        return self.handle(kind)

    def keeps(self, kind: type) -> bool:
        """See ``values.Outside``: those of classes that the tests name have methods that these will call."""
        return not self._named_kinds.isdisjoint(kind.__mro__)

    def named(self, kind: Any, fields: list[str], items: list[Any]) -> Any:
        """See ``values.Outside``."""
        made: Any = values.named_tuple(kind, fields) if isinstance(kind, str) else kind
        return tuple.__new__(made, items)

    def handle(self, value: object) -> dict[str, Any]:
        """See ``values.Outside``."""
        kind = value if isinstance(value, type) else type(value)
        shared = self._shared_name(kind)
        if shared is not None and not issubclass(kind, BaseException):
            return {"h": [shared, "class"]} if kind is value else self._copies.handle(value)
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
        name = getattr(value, "__name__", type(value).__name__)
        return {"h": [number, _kind_of(value), str(name)[:100]]}


def _kind_of(value: object) -> str:
    """What the tester is to make of a handle."""
    if not isinstance(value, type):
        return "container" if values.plain(value) is not value else "object"
    if not issubclass(value, BaseException):
        return "class"
    return f"exception {next(k.__name__ for k in value.__mro__ if k.__module__ == 'builtins')}"


def _awaited(value: Any) -> Any:
    import asyncio  # not before a test wants it: it is slow to import

    async def wait() -> Any:
        return await value

    return asyncio.run(wait())


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda function, *args, **kwargs: function(*args, **kwargs),
    "get": getattr,
    "set": setattr,
    "item": lambda owner, key: owner[key],
    "setitem": operator.setitem,
    "delitem": operator.delitem,
    "await": _awaited,
    "iter": iter,
    "next": next,
    "contains": operator.contains,
    "plain": values.plain,
    "len": len,
    "bool": bool,
    "str": lambda value: str(str(value)),
    "repr": lambda value: str(repr(value)),
    "hash": hash,
    "int": int,
    "float": float,
    "abs": abs,
    "isinstance": isinstance,
    **{name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "matmul")},
    **{name: getattr(operator, name) for name in ("truediv", "floordiv", "mod", "and_", "or_", "xor", "neg")},
}
