"""The process that runs model-written code: one test, or one solution's side of assert-style tests.

Everything here shares its process with hostile code once ``exec`` has begun: what it sends is data, never a verdict.
"""

from __future__ import annotations

import _io
import atexit
import gc
import marshal
import os
import random
import resource
import socket
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple, NoReturn

from verifiers.sandbox.inside import answers, kernel, values, wire

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

_STREAM_NAMES = ("stdin", "stdout", "stderr", "input", "print", "open")
_COMPILED, _NOT_STORED, SYNTAX = b"C", b"N", b"E"


class Calls(NamedTuple):
    """What ``run_calls`` calls: arguments and keywords of each call."""

    target: str
    is_method: bool
    calls: list[Any]


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
    """New standard streams over descriptors 0, 1 and 2, made over an empty file and pipes, as they will be later.

    Made once: children only exchange what is behind the descriptors.
    """
    given = os.memfd_create("stdin")
    read_end, write_end = os.pipe()
    rewire(given, write_end, write_end)
    sys.stdin = sys.__stdin__ = _stream(0, "r", "surrogateescape")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(1, "w", "surrogateescape")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, "w", "backslashreplace")  # type: ignore[misc]
    for descriptor in (given, read_end, write_end):
        os.close(descriptor)


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


def guarded(body: Callable[[], None]) -> NoReturn:
    """Run ``body`` and end this process, whatever happens; after an exception, which is printed, with 70."""
    status = 70
    try:
        body()
        status = 0
    except BaseException as error:
        os.write(2, f"sandbox: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


def load(source: int, compiled: int) -> types.CodeType:
    """The program, from its text or from what an earlier test of the same solution has made of it.

    ``compiled`` is sealed before the program runs, so what the host reads in it is from here: a program that does not
    compile leaves its error there and ends this process.
    """
    stored = _contents(compiled)
    if stored[:1] == _COMPILED:
        code: types.CodeType = marshal.loads(stored[1:])
        return code
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(_contents(source).decode("utf-8", "surrogatepass"), "<solution>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        text = f"{type(error).__name__}: {error}"[:2000]
        _write(compiled, SYNTAX + text.encode("utf-8", "backslashreplace"))
        os._exit(1)
    if not stored:
        _store(code, compiled)
    return code


def _store(code: types.CodeType, compiled: int) -> None:
    try:
        text = _COMPILED + marshal.dumps(code)
        _write(compiled, text)
    except (ValueError, MemoryError, OSError):  # nested too deeply, or too large: compiled anew by each test
        os.ftruncate(compiled, 0)
        os.pwrite(compiled, _NOT_STORED, 0)
    kernel.seal(compiled)


def read_calls(given: int) -> Calls:
    """From the host's descriptor."""
    said = wire.json.loads(_contents(given))
    return Calls(said["target"], said["is_method"], values.decode(said["calls"]))


def _contents(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _write(descriptor: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(descriptor, view) :]


def enter(prepared: types.ModuleType, name: str) -> dict[str, Any]:
    """Make ``prepared`` the module ``name`` of this process; its namespace."""
    gc.enable()  # off in the process that this one was forked from
    prepared.__name__ = name
    sys.modules[name] = prepared
    return vars(prepared)


def _finish(status: int, namespace: dict[str, Any], num_ambient: int) -> NoReturn:
    """End as an interpreter does: wait for threads, run exit handlers, flush, finalize the program's own objects."""
    try:
        if len(threading._active) > 1:  # type: ignore[attr-defined]
            threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
        status = status or 1
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not getattr(stream, "closed", False):
                stream.flush()
        except BaseException:
            status = status or 120
    _finalize(namespace, num_ambient)
    os._exit(status)


def _finalize(namespace: dict[str, Any], num_ambient: int) -> None:
    """Of the module's new values, flush the open files and let those go that have a finalizer; then the first streams.

    An interpreter lets go of everything; for what cannot be seen from outside that would only take time.
    """
    new = islice(
        reversed(namespace), max(0, len(namespace) - num_ambient)
    )  # from the end: to pass a name is to copy it
    for name in (*new, *_STREAM_NAMES):
        value = namespace.get(name)
        try:
            if isinstance(value, _io._IOBase) and not value.closed:  # C class: io.IOBase itself asks an ABC
                value.flush()
            elif hasattr(type(value), "__del__"):
                namespace[name] = value = None
        except BaseException:
            continue
    value = None
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except BaseException:
            continue


def _exit_status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def run_script(code: types.CodeType, prepared: types.ModuleType) -> NoReturn:
    """Run a program that reads standard input."""
    status = 0
    namespace = enter(prepared, "__main__")
    num_ambient = len(namespace)
    try:
        exec(code, namespace)
    except SystemExit as end:
        status = _exit_status(end.code)
    except MemoryError:
        answers.out_of_memory()
    except BaseException as error:
        trace = error.__traceback__
        traceback.print_exception(error.with_traceback(trace.tb_next if trace else None))  # without this frame
        status = 1
    _finish(status, namespace, num_ambient)


def run_calls(code: types.CodeType, prepared: types.ModuleType, wanted: Calls, result: int) -> NoReturn:
    """Call the solution's function and write one line per value to descriptor ``result``.

    ``wanted.is_method``: a method of ``class Solution``, where there is such a class.
    """
    try:
        namespace = enter(prepared, "solution")
        ambient = namespace.get(wanted.target)
        exec(code, namespace)
        if namespace.get(wanted.target) is ambient:
            namespace.pop(wanted.target, None)  # a function of the preamble's is not the solution's
        function = _target(namespace, wanted.target, wanted.is_method)
        for arguments, keywords in wanted.calls:
            value = function(*arguments, **keywords)
            try:
                reply = {"v": values.Encoder().encode(value)}
            except values.NotPlainError as error:
                reply = {"u": str(error), "b": bool(value)}
            _reply(result, reply)
    except BaseException as error:
        _reply(result, {"e": answers.describe(error)})
        os._exit(1)
    os._exit(0)


def _reply(descriptor: int, reply: dict[str, Any]) -> None:
    _write(descriptor, wire.json.dumps(reply).encode() + b"\n")


def _target(namespace: dict[str, Any], name: str, method: bool) -> Callable[..., Any]:
    if method and "Solution" in namespace:
        found: Callable[..., Any] = getattr(namespace["Solution"](), name)
        return found
    if name not in namespace:
        raise NameError(f"name {name!r} is not defined")
    function: Callable[..., Any] = namespace[name]
    return function


def run_server(code: types.CodeType, prepared: types.ModuleType, link: socket.socket) -> None:
    """Import the solution, then answer the tester; never returns."""
    try:
        answers.Server(link, enter(prepared, "solution")).run(code)
    except BaseException:
        os._exit(1)
    os._exit(0)
