"""The process that runs a data set's own test code. It never runs model-written code.

The solution lives in another process, in a pid namespace of its own; here its functions and objects are stand-ins that
ask over a socket. What comes back is plain data. The rules that keep a solution from deciding its own tests:

- A stand-in compared with plain data is unequal; it has no order and no arithmetic with plain data. What the solution's
  classes say about equality counts only between two of its own objects.
- Which names are the solution's is decided from the tests alone: the entry point, and what they use, do not define and
  Python does not have. Only where there is none of these, one name of Python's is the solution's (a function ``sum``).
- Tests have passed when their last line was reached without an exception, at least one check was made after the
  solution had been asked, and the solution's process was still there. An exit is no pass.
- Tests that cannot be run are told from a failing solution by what the tests say, never by what the solution does.
"""

from __future__ import annotations

import _thread
import ast
import builtins
import decimal
import fractions
import importlib
import math
import os
import socket
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

from verifiers.sandbox.inside import program, suites, values, wire
from verifiers.sandbox.inside.standins import CannotSendError, Remote, Solution, SolutionError, SolutionGoneError

_AMBIENT_MODULES = frozenset((*values.MODULES, "os", "numpy", "np", "pytest", "unittest", "asyncio", "threading"))
_AMBIENT_MODULES |= {"inspect", "io", "pathlib", "tempfile", "contextlib", "dataclasses", "enum", "warnings", "types"}
_LONGEST = 600
_SMALL_STACK = 2**18


class Tester:
    """Runs one solution's tests on request of the host and reports each."""

    def __init__(self, channel: socket.socket, link: socket.socket) -> None:
        self._channel = channel
        self._solution = Solution(link)
        self._namespace: dict[str, Any] = {}
        self._line = 0
        self._num_asserts = self._num_passed = 0
        self._sides: tuple[Any, ...] = ()
        self._begun: set[int] = set()
        self._cases: suites.Cases | None = None
        self._imported: set[str] = set()
        self._subjects: set[str] = set()
        self._built: set[str] = set()
        self._limit_s = math.inf
        self._reporting = threading.Lock()
        self._has_values = False
        """Whether the tests use plain values of the solution's: what goes wrong may then be its fault unasked."""

    def run(self) -> None:
        """Serve one job: set up, then the tests one by one, as the host asks."""
        nothing = os.open(os.devnull, os.O_RDWR)
        program.rewire(nothing, nothing, nothing)
        while (frame := wire.receive(self._channel)) is not None:
            body = self._set_up if frame.head["op"] == "setup" else self._test
            done = self._watched(frame.head.get("limit_s"))
            report = self._guarded(body, frame.head)
            with self._reporting:
                done.set()
                wire.send(self._channel, report)

    def _watched(self, limit_s: float | None) -> threading.Event:
        """A thread that ends this process if the tests' own code does not end. Until the event."""
        done = threading.Event()
        self._limit_s = limit_s or math.inf
        self._solution.turns.begin()
        if limit_s:
            usual = threading.stack_size(_SMALL_STACK)  # by default as large as the main thread's, for deep recursion
            _thread.start_new_thread(self._end_late, (done, limit_s))  # ``Thread.start`` would wait for it
            threading.stack_size(usual)
        return done

    def _end_late(self, done: threading.Event, limit_s: float) -> None:
        while not done.wait(limit_s):  # beyond the limit also while the solution is asked: its own clock ends that
            with self._reporting:
                if done.is_set() or self._solution.turns.is_waiting or not self._is_own_time():
                    continue
                wire.send(self._channel, self._late())
                os._exit(0)

    def _is_own_time(self) -> bool:
        """Whether it is the tests' own code that took the time, and at a stretch."""
        return self._solution.turns.own_s() > self._limit_s / 2

    def _late(self) -> dict[str, Any]:
        """Unusable, but for tests that walk through what the solution has tied into a ring."""
        report = {"event": "tests", "line": self._line, "over": True}
        if self._solution.has_given_cycle:
            return {**report, "status": "raised", "error": "the solution's objects lead back to themselves"}
        return {**report, "status": "unusable", "error": "the tests' own code takes longer than the limit"}

    def _set_up(self, head: dict[str, Any]) -> None:
        made = types.ModuleType("__main__")
        sys.modules["__main__"] = made
        self._namespace = vars(made)
        self._namespace["_verifier_assert"] = self._count_assert
        self._namespace["_verifier_passed"] = self._count_passed
        self._namespace["_verifier_sides"] = self._keep_sides
        self._namespace["_verifier_begun"] = self._begun.add
        self._namespace["_verifier_in"] = self._solution.contains
        helpers = _helpers(head["prompt"], head["entry_point"])
        sources = [ast.unparse(helpers), head["setup"], *head["tests"]]
        try:
            tests = ast.Module([node for source in sources[1:] for node in ast.parse(source).body], [])
            trees = ast.Module([*helpers.body, *tests.body], [])
            given = ast.Module([*helpers.body, *suites.data_classes(tests)], [])
            self._solution.begin(ast.unparse(given), suites.shared(given), self._namespace)
            self._imported = suites.imported(trees)
            if "unittest" in self._imported:
                self._cases = suites.Cases(self._count_passed)
            self._subjects, ambient = _subjects(sources, trees, head["entry_point"])
            self._built = suites.built(trees, self._subjects)
        except SyntaxError as error:
            raise CannotSendError(f"the tests do not compile: {error}") from None
        self._namespace.update(ambient)
        defined = self._define(helpers)  # before the solution's values, of which some may be of these classes
        self._solution.hello()
        self._bind(head["entry_point"])
        if not defined:
            exec(compile(helpers, "<prompt>", "exec"), self._namespace)
        self._exec(head["setup"])

    def _define(self, helpers: ast.Module) -> bool:
        """What the problem defines; false where that needs a name of the solution's."""
        try:
            exec(compile(helpers, "<prompt>", "exec"), self._namespace)
        except NameError:
            return False
        return True

    def _bind(self, entry_point: str | None) -> None:
        """Give the tests' names of the solution's their stand-ins."""
        said = self._solution.names(sorted(self._subjects))
        self._solution.has_classes = any(name[:1].isupper() for name in self._subjects)
        for name in self._subjects:
            if "v" in said.get(name, {}):
                value = self._namespace[name] = self._solution.decode(said[name]["v"])
                if isinstance(value, Remote):
                    self._solution.subjects.add(value._r[1])
                else:
                    self._has_values = True
            elif _is_ambient(name):  # Python's own of that name must not take its place
                error = SolutionError(f"name {name!r} is not defined")
                error.__dict__["from_solution"] = f"NameError: {error}"
                raise error

    def _exec(self, source: str) -> None:
        recorder = suites.Recorder(self._subjects, self._built)
        tree = ast.fix_missing_locations(recorder.visit(suites.without_exit(ast.parse(source))))
        try:
            code = compile(tree, "<tests>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise CannotSendError(f"the tests do not compile: {error}") from None
        exec(code, self._namespace)

    def _test(self, head: dict[str, Any]) -> None:
        source = head["test"]
        self._line, self._sides, self._num_asserts, self._num_passed = 0, (), 0, 0
        self._begun.clear()
        self._solution.has_given_cycle = False
        before = dict(self._namespace)
        try:
            self._exec(source)
        except SystemExit:
            if self._cases is None or not self._cases.num_run + (self._cases.failure is not None):
                raise
        new = {name: value for name, value in self._namespace.items() if before.get(name, _NOTHING) is not value}
        if self._cases is not None:
            self._cases.run_left(new)
        try:
            suites.run_functions(new, self._begun, source, self._cases)
        except suites.NotRunnableError as error:
            raise CannotSendError(str(error)) from None
        if self._solution.gone:
            raise SolutionGoneError
        if self._cases is not None and self._cases.failure is not None:
            failure, self._cases.failure = self._cases.failure, None
            raise failure
        if not self._num_passed:
            if self._num_asserts and self._subjects and self._subjects.isdisjoint(suites.names(ast.parse(source))):
                return  # one of several tests, and one that would hold for every solution
            never_asked = self._num_asserts > 0 and not self._solution.num_asked
            if not self._subjects or never_asked or not self._has_checks(source):
                raise CannotSendError("the tests assert nothing of the solution, or never ask it")
            raise AssertionError("no check of the tests was reached")

    def _has_checks(self, source: str) -> bool:
        recorder = suites.Recorder(self._subjects, self._built)
        recorder.visit(ast.parse(source))
        return recorder.num_checks > 0

    def _count_assert(self, line: int) -> None:
        self._line, self._sides = line, ()
        self._num_asserts += 1

    def _count_passed(self, names_subject: bool = False) -> None:
        """A check has been made; it counts where the solution had a part in it."""
        self._num_passed += bool(names_subject or self._solution.num_asked or self._has_values)

    def _keep_sides(self, *sides: Any) -> None:
        self._sides = sides

    def _guarded(self, body: Callable[[dict[str, Any]], None], head: dict[str, Any]) -> dict[str, Any]:
        try:
            body(head)
        except SystemExit:
            return {
                "event": "tests",
                "status": "wrong",
                "line": self._line,
                "error": "the tests exited before their end",
            }
        except SolutionGoneError:
            return self._gone()
        except CannotSendError as error:
            return {"event": "tests", "status": "unusable", "error": str(error)[:_LONGEST]}
        except BaseException as error:
            return self._failure(error)
        return self._gone() if self._solution.gone else _PASSED

    def _gone(self) -> dict[str, Any]:
        """``idle``: what it did until then was to wait for the tests."""
        return {"event": "tests", "status": "gone", "idle": self._is_own_time()}

    def _failure(self, error: BaseException) -> dict[str, Any]:
        report = {"event": "tests", "line": self._line, "error": f"{type(error).__name__}: {error}"[:_LONGEST]}
        from_solution = getattr(error, "from_solution", None)
        if from_solution is not None:
            return {**report, "status": "raised", "error": from_solution}
        if self._is_tests_own(error):
            return {**report, "status": "unusable"}
        if isinstance(error, AssertionError):
            report["sides"] = [_shown(side) for side in self._sides]
            return {**report, "status": "wrong"}
        return {**report, "status": "raised"}

    def _is_tests_own(self, error: BaseException) -> bool:
        """Whether the solution had no part in what went wrong."""
        if isinstance(error, ImportError) and error.name and error.name.partition(".")[0] in self._imported:
            return True
        if not self._subjects:
            return True
        if self._solution.num_asked or self._has_values or self._num_asserts or isinstance(error, NameError):
            return False
        return "Remote" not in str(error)  # as in: 'Remote' object does not support …


_NOTHING = object()
_PASSED = {"event": "tests", "status": "passed"}


def _shown(value: Any) -> str:
    try:
        return repr(value)[:_LONGEST]
    except BaseException:
        return "(cannot be shown)"


_AMBIENT = {**program.preamble(), "Decimal": decimal.Decimal, "Fraction": fractions.Fraction}


def _is_ambient(name: str) -> bool:
    return hasattr(builtins, name) or name in _AMBIENT


def _subjects(sources: list[str], tree: ast.Module, entry_point: str | None) -> tuple[set[str], dict[str, Any]]:
    """The names that the solution is to define, and the standard library's that the tests may not have imported."""
    free = suites.free_names(sources)
    called = suites.called(tree)
    modules = {name for name in free if _is_module(name) and name not in called}
    subjects = {name for name in free - modules if not _is_ambient(name) or (name in called and _is_module(name))}
    if entry_point is not None:
        subjects |= suites.names(ast.parse(entry_point))
    elif not subjects:
        within, sides = suites.asserted(tree)
        ours = {name for name in free & within if not hasattr(builtins, name)}
        for candidates in (ours, free & sides, free & called):
            if len(candidates) == 1:
                subjects = candidates
                break
    ambient = {name: _AMBIENT[name] for name in free if name in _AMBIENT and not hasattr(builtins, name)}
    for name in modules:
        try:
            ambient[name] = importlib.import_module("numpy" if name == "np" else name)
        except ImportError:
            subjects.add(name)
    return subjects, {name: value for name, value in ambient.items() if name not in subjects}


def _is_module(name: str) -> bool:
    return isinstance(_AMBIENT[name], types.ModuleType) if name in _AMBIENT else name in _AMBIENT_MODULES


def _helpers(prompt: str, entry_point: str | None) -> ast.Module:
    """What the problem's own text defines beside the function that is asked for."""
    for text in (prompt, prompt + "\n    pass\n"):
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        tree.body = [node for node in tree.body if not _is_stub(node, entry_point)]
        return tree
    return ast.Module([], [])


def _is_stub(node: ast.stmt, entry_point: str | None) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):
        return not isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign)
    if entry_point is not None and node.name in suites.names(ast.parse(entry_point)):
        return True
    if isinstance(node, ast.ClassDef) and any(ast.unparse(base) in values.EXCEPTIONS for base in node.bases):
        return False
    to_be_written = any(isinstance(part, ast.FunctionDef) and _is_idle(part.body) for part in node.body)
    return _is_idle(node.body) or (to_be_written and entry_point is None and isinstance(node, ast.ClassDef))


def _is_idle(body: list[ast.stmt]) -> bool:
    return all(
        isinstance(part, ast.Pass) or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        for part in body
    )
