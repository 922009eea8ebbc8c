"""The process that runs a data set's own test code. It never runs model-written code.

The solution lives in another process, in a pid namespace of its own; here its functions and objects are stand-ins that
ask over a socket. What comes back is plain data. The rules that keep a solution from deciding its own tests:

- A stand-in compared with plain data is unequal; it has no order and no arithmetic with plain data. What the solution's
  classes say about equality counts only between two of its own objects.
- A name that Python, the standard library's modules or the tests themselves define is theirs. The solution's definition
  is used only where the tests name nothing else of the solution's (a function called ``sum``), or as entry point.
- Tests have passed when their last line was reached without an exception, and the solution's process was still there.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import os
import socket
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from verifiers.sandbox.inside import program, values, wire

_AMBIENT_MODULES = frozenset((*values.MODULES, "os", "numpy", "np"))
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
        self.num_asked = 0
        self.gone = False

    def hello(self) -> None:
        """Raises what importing the solution raised, if anything."""
        failure = self._field(self._receive(), "failure")
        if failure is not None:
            raise self._exception(failure)

    def names(self, wanted: list[str]) -> dict[str, dict[str, Any]]:
        """What the solution says of these names: those that it defines."""
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
        self.num_asked += 1
        self._send(
            {
                "op": operation,
                "args": [self._encode(value) for value in sent],
                "kwargs": [[name, self._encode(value)] for name, value in kwargs.items()],
            }
        )
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
        except values.NotPlainError as error:
            raise CannotSendError(str(error)) from None

    def _handle(self, value: object) -> dict[str, Any]:
        if isinstance(value, Remote):
            return {"h": [value._r[1]]}
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
            base = _builtin_exception(kind.partition(" ")[2])
            return type(name, (base,), {})
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


class _Recorder(ast.NodeTransformer):
    """Makes each ``assert`` count itself and, for ``assert A == B``, keep what A and B were."""

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:  # noqa: N802
        line = ast.Constant(node.lineno)
        test = node.test
        simple = isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq)
        body: list[ast.stmt] = [ast.Expr(_call("_verifier_assert", [line]))]
        if simple:
            assert isinstance(test, ast.Compare)
            names = ("_verifier_got", "_verifier_expected")
            for name, value in zip(names, (test.left, test.comparators[0])):
                body.append(ast.Assign([ast.Name(name, ast.Store())], value))
            sides: list[ast.expr] = [ast.Name(name, ast.Load()) for name in names]
            body.append(ast.Expr(_call("_verifier_sides", sides)))
            node.test = ast.Compare(sides[0], [ast.Eq()], [sides[1]])
        body.append(node)
        return [ast.copy_location(statement, node) for statement in body]


def _call(name: str, arguments: list[ast.expr]) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), arguments, [])


class Tester:
    """Runs one solution's tests on request of the host and reports each."""

    def __init__(self, channel: socket.socket, link: socket.socket) -> None:
        self._channel = channel
        self._solution = Solution(link)
        self._namespace: dict[str, Any] = {}
        self._line = 0
        self._num_asserts = 0
        self._sides: tuple[Any, ...] = ()
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
        self._namespace["_verifier_sides"] = self._keep_sides
        self._solution.hello()
        helpers = _helpers(head["prompt"], head["entry_point"])
        sources = [head["prompt"] and ast.unparse(helpers), head["setup"], *head["tests"]]
        self._bind(sources, head["entry_point"])
        exec(compile(helpers, "<prompt>", "exec"), self._namespace)
        self._exec(head["setup"])

    def _bind(self, sources: list[str], entry_point: str | None) -> None:
        """Give the tests' free names that the solution defines their stand-ins."""
        used = _names("\n".join(source for source in sources if source) + f"\n{entry_point or ''}")
        said = self._solution.names(sorted(used))
        own = {name for name, about in said.items() if "v" in about}
        plainly_own = {name for name in own if not _is_ambient(name)}
        for name in used:
            if name in plainly_own or (name in own and (name == entry_point or not plainly_own)):
                value = self._namespace[name] = self._solution.decode(said[name].get("v"))
                self._has_values = self._has_values or not isinstance(value, Remote | type)
            else:
                found = _trusted(name, said.get(name, {}))
                if found is not None:
                    self._namespace[name] = found

    def _exec(self, source: str) -> None:
        tree = ast.fix_missing_locations(_Recorder().visit(ast.parse(source)))
        exec(compile(tree, "<tests>", "exec", dont_inherit=True), self._namespace)

    def _test(self, head: dict[str, Any]) -> None:
        source = head["test"]
        self._line, self._sides, self._num_asserts = 0, (), 0
        asked = self._solution.num_asked
        before = set(self._namespace)
        self._exec(source)
        for name in [n for n in self._namespace if n.startswith("test_") and n not in before]:
            function = self._namespace[name]  # test functions that nobody calls, as pytest finds them
            if isinstance(function, types.FunctionType) and not _calls(source, name):
                function()
        if not self._num_asserts and self._solution.num_asked == asked:
            raise CannotSendError("the tests assert nothing and never ask the solution")
        if self._solution.gone:
            raise SolutionGoneError

    def _count_assert(self, line: int) -> None:
        self._line, self._sides = line, ()
        self._num_asserts += 1

    def _keep_sides(self, *sides: Any) -> None:
        self._sides = sides

    def _guarded(self, body: Callable[[dict[str, Any]], None], head: dict[str, Any]) -> dict[str, Any]:
        try:
            body(head)
        except SystemExit as end:  # unittest.main() ends so
            return {"event": "tests", "status": "wrong", "error": "exit"} if end.code else _PASSED
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
        untouched = not self._solution.num_asked and not self._has_values and not isinstance(error, NameError)
        if isinstance(error, ImportError | SyntaxError) or (untouched and not self._num_asserts):
            return {**report, "status": "unusable"}
        if isinstance(error, AssertionError):
            report["sides"] = [_shown(side) for side in self._sides]
            return {**report, "status": "wrong"}
        return {**report, "status": "raised"}


_PASSED = {"event": "tests", "status": "passed"}


def _shown(value: Any) -> str:
    try:
        return repr(value)[:_LONGEST]
    except BaseException:
        return "(cannot be shown)"


def _names(source: str) -> set[str]:
    tree = ast.parse(source)
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _calls(source: str, name: str) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
        for node in ast.walk(ast.parse(source))
    ) or "unittest" in source or "pytest.main" in source  # fmt: skip


_AMBIENT = program.preamble()


def _is_ambient(name: str) -> bool:
    return hasattr(builtins, name) or name in _AMBIENT_MODULES or name in _AMBIENT


def _trusted(name: str, about: dict[str, Any]) -> Any:
    """The standard library's own object for a name that the tests use and may not have imported themselves."""
    if hasattr(builtins, name):
        return None
    if name in _AMBIENT:
        return _AMBIENT[name]
    module = about.get("module", name if name in _AMBIENT_MODULES and about else None)
    if isinstance(module, str) and module in _AMBIENT_MODULES:
        return importlib.import_module("numpy" if module == "np" else module)
    member = about.get("member")
    if isinstance(member, list) and len(member) == 2 and member[0] in values.MODULES:
        return getattr(importlib.import_module(member[0]), str(member[1]), None)
    return None


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
    if entry_point is not None and node.name in _names(entry_point):
        return True
    return all(
        isinstance(part, ast.Pass) or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        for part in node.body
    )
