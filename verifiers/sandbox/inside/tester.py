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

import ast
import builtins
import decimal
import fractions
import importlib
import os
import socket
import sys
import types
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

from verifiers.sandbox.inside import program, suites, values, wire

_AMBIENT_MODULES = frozenset((*values.MODULES, "os", "numpy", "np", "pytest", "unittest", "asyncio", "threading"))
_AMBIENT_MODULES |= {"inspect", "io", "pathlib", "tempfile", "contextlib", "dataclasses", "enum", "warnings", "types"}
_LONGEST = 600


class SolutionGoneError(BaseException):
    """The solution's process has ended, or answers with what is no answer."""


class SolutionError(Exception):
    """An exception of the solution that has no builtin class here."""


class CannotSendError(BaseException):
    """The tests hand the solution something that has no plain form: they cannot be run here."""


class Remote:
    """Stand-in for an object, class or function of the solution."""

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
        return hash((id(self._r[0]), self._r[1]))

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, Remote) and self._r[0].ask("isinstance", value, self) is True

    def __eq__(self, other: object) -> Any:
        return self._r[0].ask("eq", self, other) is True if isinstance(other, Remote) else False

    def __ne__(self, other: object) -> Any:
        return self._r[0].ask("ne", self, other) is True if isinstance(other, Remote) else True


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


class Solution:
    """This side of the link."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._known: dict[int, Any] = {}
        self._numbers: dict[type, int] = {}
        self.num_asked = 0
        self.gone = False
        self.subjects: set[int] = set()
        """Numbers of what the tests themselves name."""
        self.has_classes = False
        """Whether the tests name a class of the solution's: what they hand its methods is then their affair, too."""

    def hello(self) -> None:
        """Raises what importing the solution raised, if anything."""
        failure = self._field(self._receive(), "failure")
        if failure is not None:
            raise self._exception(failure)

    def names(self, wanted: list[str]) -> dict[str, dict[str, Any]]:
        """The solution's values of these names: those that it defines."""
        self._send({"op": "names", "names": wanted})
        found = self._field(self._receive(), "names")
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
        try:
            trees = [self._encode(value) for value in sent]
            named = [[name, self._encode(value)] for name, value in kwargs.items()]
        except CannotSendError as error:
            if is_tests_doing:
                raise
            self.num_asked += 1  # the tests would not do this with what they expect here
            raise SolutionError(str(error)) from None
        self.num_asked += 1
        self._send({"op": operation, "args": trees, "kwargs": named})
        reply = self._receive()
        if "e" in reply:
            raise self._exception(reply["e"])
        value = self.decode(self._field(reply, "v"))
        try:
            changed = [(kwargs[k] if isinstance(k, str) else sent[k], self.decode(t)) for k, t in reply.get("m", [])]
        except (KeyError, IndexError, TypeError, ValueError):
            raise self._garbled() from None
        for old, new in changed:
            _merge(old, new)
        return value

    def _send(self, head: dict[str, Any]) -> None:
        if self.gone:
            raise SolutionGoneError
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

    def _encode(self, value: Any) -> Any:
        try:
            return values.Encoder(self._handle).encode(value)
        except values.NotPlainError as error:  # too deep or too large: the solution's own values may be in it
            raise (SolutionError if self.num_asked else CannotSendError)(str(error)) from None

    def _handle(self, value: object) -> dict[str, Any]:
        if isinstance(value, Remote):
            return {"h": [value._r[1]]}
        if isinstance(value, type) and value in self._numbers:
            return {"h": [self._numbers[value]]}
        if isinstance(value, BaseException) and hasattr(value, "from_solution"):
            raise SolutionError("the tests hand the solution an exception of its own")
        raise CannotSendError(f"the tests hand the solution a {type(value).__name__}")

    def decode(self, tree: Any) -> Any:
        """A value of the solution's."""
        try:
            return values.decode(tree, self._stand_in)
        except values.NotPlainError:
            raise self._garbled() from None

    def _stand_in(self, content: list[Any]) -> Any:
        try:
            number, kind, name = int(content[0]), str(content[1]), str(content[2])
        except (KeyError, IndexError, TypeError, ValueError):
            raise self._garbled() from None
        if number not in self._known:
            self._known[number] = self._made(number, kind, name)
        return self._known[number]

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


def _merge(old: Any, new: Any) -> None:
    """Make ``old`` equal to ``new`` and keep its identity, and that of the containers in it."""
    if type(old) is not type(new):
        return
    if isinstance(old, list | deque):
        kept = list(old)
        items = [_merged(kept[i], item) if i < len(kept) else item for i, item in enumerate(new)]
        old.clear()
        old.extend(items)
    elif isinstance(old, dict):
        items_of = {key: _merged(old[key], value) if key in old else value for key, value in new.items()}
        old.clear()
        old.update(items_of)
    elif isinstance(old, set):
        old.clear()
        old.update(new)
    elif isinstance(old, bytearray):
        old[:] = new
    elif isinstance(old, tuple):
        for mine, theirs in zip(old, new):
            _merge(mine, theirs)


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, list | deque | dict | set | bytearray) and type(old) is type(new):
        _merge(old, new)
        return old
    return new


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
        self._has_values = False
        """Whether the tests use plain values of the solution's: what goes wrong may then be its fault unasked."""

    def run(self) -> None:
        """Serve one job: set up, then the tests one by one, as the host asks."""
        nothing = os.open(os.devnull, os.O_RDWR)
        program.rewire(nothing, nothing, nothing)
        while (frame := wire.receive(self._channel)) is not None:
            if frame.head["op"] == "setup":
                report = self._guarded(self._set_up, frame.head)
            else:
                report = self._guarded(self._test, frame.head)
            wire.send(self._channel, report)

    def _set_up(self, head: dict[str, Any]) -> None:
        made = types.ModuleType("__main__")
        sys.modules["__main__"] = made
        self._namespace = vars(made)
        self._namespace["_verifier_assert"] = self._count_assert
        self._namespace["_verifier_passed"] = self._count_passed
        self._namespace["_verifier_sides"] = self._keep_sides
        self._namespace["_verifier_begun"] = self._begun.add
        helpers = _helpers(head["prompt"], head["entry_point"])
        sources = [ast.unparse(helpers), head["setup"], *head["tests"]]
        try:
            trees = ast.Module([node for source in sources for node in ast.parse(source).body], [])
            self._imported = suites.imported(trees)
            if "unittest" in self._imported:
                self._cases = suites.Cases(self._count_passed)
            self._subjects, ambient = _subjects(sources, trees, head["entry_point"])
        except SyntaxError as error:
            raise CannotSendError(f"the tests do not compile: {error}") from None
        self._namespace.update(ambient)
        self._solution.hello()
        self._bind(head["entry_point"])
        exec(compile(helpers, "<prompt>", "exec"), self._namespace)
        self._exec(head["setup"])

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
        recorder = suites.Recorder(self._subjects)
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
        recorder = suites.Recorder(self._subjects)
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
            return {"event": "tests", "status": "gone"}
        except CannotSendError as error:
            return {"event": "tests", "status": "unusable", "error": str(error)[:_LONGEST]}
        except BaseException as error:
            return self._failure(error)
        return {"event": "tests", "status": "gone"} if self._solution.gone else _PASSED

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
    return all(
        isinstance(part, ast.Pass) or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        for part in node.body
    )
