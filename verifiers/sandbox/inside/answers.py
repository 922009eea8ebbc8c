"""The solution's side of assert-style tests: it does what the tester asks, on numbered objects.

It shares its process with model-written code: what it sends is data, never a verdict.
"""

from __future__ import annotations

import operator
import os
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from verifiers.sandbox.inside import values, wire

_MUTABLE_TAGS = {"y", "s", "d", "o", "n", "q"}


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

    def __init__(self, link: socket.socket, namespace: dict[str, Any], ambient: dict[str, Any]) -> None:
        self._link = link
        self._namespace = namespace
        self._ambient = ambient
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}

    def serve(self, failure: dict[str, Any] | None) -> None:
        """Answer requests until the tester is gone. ``failure``: what the solution's import raised."""
        wire.send(self._link, {"failure": failure})
        while (frame := wire.receive(self._link)) is not None:
            try:
                reply = self._answer(frame.head)
            except MemoryError:
                out_of_memory()
            except BaseException as error:
                reply = {"e": {**describe(error), "class": self._class_of(error)}}
            wire.send(self._link, reply)

    def _class_of(self, error: BaseException) -> int | None:
        return self._numbers.get(id(type(error)))

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] == "names":
            return {"names": {name: self._named(name) for name in request["names"] if self._is_own(name)}}
        arguments = [self._decode(tree) for tree in request["args"]]
        keywords = {name: self._decode(tree) for name, tree in request.get("kwargs", [])}
        value = _OPERATIONS[request["op"]](*arguments, **keywords)
        reply = {"v": self._encode(value)}
        changed = self._changed(request, arguments, keywords)
        return {**reply, "m": changed} if changed else reply

    def _changed(self, request: dict[str, Any], arguments: list[Any], keywords: dict[str, Any]) -> list[Any]:
        """Arguments that the call has changed, as they are now: ``[position or name, tree]``."""
        before = [*enumerate(request["args"]), *request.get("kwargs", [])]
        now: dict[Any, Any] = {**dict(enumerate(arguments)), **keywords}
        changed = []
        for key, tree in before:
            if isinstance(tree, list) or (isinstance(tree, dict) and not _MUTABLE_TAGS.isdisjoint((*tree, "s"))):
                after = self._encode(now[key])
                if after != tree:
                    changed.append([key, after])
        return changed

    def _is_own(self, name: str) -> bool:
        """Whether the solution itself has given the name a value (the preamble's are not its own)."""
        if name not in self._namespace:
            return False
        return name not in self._ambient or self._ambient[name] is not self._namespace[name]

    def _named(self, name: str) -> dict[str, Any]:
        return {"v": self._encode(self._namespace[name])}

    def _encode(self, value: Any) -> Any:
        return values.Encoder(self._handle).encode(value)

    def _decode(self, tree: Any) -> Any:
        return values.decode(tree, lambda content: self._objects[content[0]])

    def _handle(self, value: object) -> dict[str, Any]:
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
        name = getattr(value, "__name__", type(value).__name__)
        kind = "object"
        if isinstance(value, type):
            kind = "class"
            if issubclass(value, BaseException):
                base = next(k.__name__ for k in value.__mro__ if k.__module__ == "builtins")
                kind = f"exception {base}"
        return {"h": [number, kind, str(name)[:100]]}


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
    "len": len,
    "bool": bool,
    "str": lambda value: str(str(value)),
    "repr": lambda value: str(repr(value)),
    "int": int,
    "float": float,
    "abs": abs,
    "isinstance": isinstance,
    **{name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "matmul")},
    **{name: getattr(operator, name) for name in ("truediv", "floordiv", "mod", "and_", "or_", "xor", "neg")},
}
