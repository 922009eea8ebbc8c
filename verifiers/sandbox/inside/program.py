"""The process that runs model-written code: one test, or one solution's side of assert-style tests.

Everything here shares its process with hostile code once ``exec`` has begun: what it sends is data, never a verdict.
"""

from __future__ import annotations

import atexit
import gc
import operator
import os
import random
import resource
import socket
import sys
import threading
import traceback
import types
from collections.abc import Callable
from typing import Any

from verifiers.sandbox.inside import values, wire

EXIT_MEMORY = 97
_PREAMBLE = """
from string import *
from re import *
from datetime import *
from collections import *
from heapq import *
from bisect import *
from copy import *
from math import *
from random import *
from statistics import *
from itertools import *
from functools import *
from operator import *
from io import *
from sys import *
from json import *
from builtins import *
from typing import *
import string, re, datetime, collections, heapq, bisect, copy, math, random, statistics, itertools
import functools, operator, io, sys, json
"""
_MUTABLE_TAGS = {"y", "s", "d", "o", "n", "q"}


def preamble() -> dict[str, Any]:
    """The names that a solution finds without importing them, as in LiveCodeBench's runner."""
    namespace: dict[str, Any] = {}
    exec(_PREAMBLE, namespace)
    del namespace["__builtins__"]
    return namespace


def clamp(kind: int, soft: int, hard: int) -> None:
    """Set a limit, or the highest one that is allowed below it."""
    most = resource.getrlimit(kind)[1]
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))


def prepare_streams() -> None:
    """New standard streams over descriptors 0, 1 and 2, made while pipes are there, as they will be later.

    Made once: children only exchange what is behind the descriptors.
    """
    read_end, write_end = os.pipe()
    rewire(read_end, write_end, write_end)
    sys.stdin = sys.__stdin__ = _stream(0, "r", "surrogateescape")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(1, "w", "surrogateescape")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, "w", "backslashreplace")  # type: ignore[misc]
    os.close(read_end)
    os.close(write_end)


def _stream(descriptor: int, mode: str, errors: str) -> Any:
    return open(descriptor, mode, encoding="utf-8", errors=errors, newline="\n", closefd=False)


def rewire(stdin: int, stdout: int, stderr: int) -> None:
    """Put these behind the standard streams."""
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)


def prepare_module() -> types.ModuleType:
    """The module that will hold the solution, with the preamble's names in it.

    Made once and used by every child in its own copy of the memory: to fill a new one would write to (so copy) the
    pages of each object named in it.
    """
    made = types.ModuleType("__main__")
    vars(made).update(preamble())
    vars(made).update({stream: getattr(sys, stream) for stream in ("stdin", "stdout", "stderr")})
    random.seed(0)  # every test starts from here: the same solution gets the same verdict again
    sys.argv = ["solution.py"]
    sys.setrecursionlimit(50_000)
    sys.set_int_max_str_digits(50_000)  # as LiveCodeBench's grader
    vars(made)["__file__"] = "solution.py"
    return made


def enter(prepared: types.ModuleType, name: str) -> dict[str, Any]:
    """Make ``prepared`` the module ``name`` of this process; its namespace."""
    gc.enable()  # off in the process that this one was forked from
    prepared.__name__ = name
    sys.modules[name] = prepared
    return vars(prepared)


def finish(status: int) -> None:
    """End as an interpreter does: wait for threads, run exit handlers, flush."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
        status = status or 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            status = status or 1
    os._exit(status)


def _exit_status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def run_script(code: types.CodeType, prepared: types.ModuleType) -> None:
    """Run a program that reads standard input; never returns."""
    status = 0
    try:
        exec(code, enter(prepared, "__main__"))
    except SystemExit as end:
        status = _exit_status(end.code)
    except MemoryError:
        status = EXIT_MEMORY
    except BaseException:
        traceback.print_exc()
        status = 1
    finish(status)


def run_calls(
    code: types.CodeType, prepared: types.ModuleType, target: str, method: bool, calls: list[Any], result: int
) -> None:
    """Call the solution's ``target`` and write one line per value to descriptor ``result``; never returns.

    ``method``: a method of ``class Solution``, where there is such a class.
    """
    try:
        namespace = enter(prepared, "solution")
        ambient = namespace.get(target)
        exec(code, namespace)
        if namespace.get(target) is ambient:
            namespace.pop(target, None)  # a function of the preamble's is not the solution's
        function = _target(namespace, target, method)
        for arguments, keywords in calls:
            value = function(*arguments, **keywords)
            try:
                reply = {"v": values.Encoder().encode(value)}
            except values.NotPlainError as error:
                reply = {"u": str(error), "b": bool(value)}
            _write(result, reply)
    except MemoryError:
        os._exit(EXIT_MEMORY)
    except BaseException as error:
        _write(result, {"e": describe(error)})
        os._exit(1)
    os._exit(0)


def _write(descriptor: int, reply: dict[str, Any]) -> None:
    text = wire.json.dumps(reply).encode() + b"\n"
    while text:
        text = text[os.write(descriptor, text) :]


def _target(namespace: dict[str, Any], name: str, method: bool) -> Callable[..., Any]:
    if method and "Solution" in namespace:
        found: Callable[..., Any] = getattr(namespace["Solution"](), name)
        return found
    if name not in namespace:
        raise NameError(f"name {name!r} is not defined")
    function: Callable[..., Any] = namespace[name]
    return function


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
                os._exit(EXIT_MEMORY)
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


def run_server(code: types.CodeType, prepared: types.ModuleType, link: socket.socket) -> None:
    """Import the solution, then answer the tester; never returns."""
    failure = None
    namespace = enter(prepared, "solution")
    ambient = dict(namespace)
    try:
        exec(code, namespace)
    except MemoryError:
        os._exit(EXIT_MEMORY)
    except BaseException as error:
        failure = describe(error)
    try:
        Server(link, namespace, ambient).serve(failure)
    except BaseException:
        os._exit(1)
    os._exit(0)
