"""Runs a program on its tests and says how each test went. Python here; other languages have the same protocol."""

from __future__ import annotations

import json
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, NamedTuple, Protocol

from verifiers import code_asserts, code_compare
from verifiers.code_tests import AssertTests, CodeTests, FunctionTests, ScriptTests, UnusableTestsError
from verifiers.config import CodeConfig
from verifiers.sandbox import Cell, Job, Sandbox, SandboxFailedError
from verifiers.sandbox.inside import values, wire
from verifiers.sandbox.inside.supervisor import Limits

_MIB = 2**20
_ADDRESS_SLACK = 2048 * _MIB
_FILE_BYTES = 32 * _MIB
_PROCESSES = 64
_FILES = 128
_COMPILE_LIMIT_S = 30.0
_GRACE_S = 10.0
_WALL_FACTOR = 3
_LONGEST_SHOWN = 1000
_REASONS = {"time": "time_limit", "memory": "memory_limit", "output": "output_limit"}


class CaseResult(NamedTuple):
    """How one test went."""

    reason: str
    """``passed`` or a reason of the code verifier."""
    input: str = ""
    expected: str = ""
    got: str = ""
    error: str = ""


class Runner(Protocol):
    """A language."""

    def run(self, code: str, tests: CodeTests) -> Iterator[CaseResult]:
        """One result per test, in order; the caller may stop early.

        A program that does not compile gives ``syntax_error`` for its first test and nothing more.

        Raises:
            UnusableTestsError: the tests cannot be run.
            SandboxFailedError: the machinery failed; says nothing about the program.
        """
        ...

    def close(self) -> None:
        """Give back what the runner holds."""
        ...


class _SyntaxFailedError(Exception):
    """The program does not compile."""


class CompilerDiedError(SandboxFailedError):
    """The process ended while it compiled the program."""


class _OutOfTimeError(Exception):
    """The limit for all tests together has passed."""


class PythonRunner:
    """Python 3, the version of this interpreter."""

    def __init__(self, config: CodeConfig) -> None:
        self._config = config
        self._sandbox = Sandbox(config.sandbox)

    def close(self) -> None:
        """End the sandbox."""
        self._sandbox.close()

    def run(self, code: str, tests: CodeTests) -> Iterator[CaseResult]:
        """See ``Runner``."""
        with self._sandbox.job() as job:
            session = _Session(job, code, self._config, _output_bytes(tests), _preload(code))
            try:
                if isinstance(tests, ScriptTests):
                    yield from self._scripts(session, tests)
                elif isinstance(tests, FunctionTests):
                    yield from self._functions(session, tests)
                else:
                    yield from self._asserts(session, tests)
            except _SyntaxFailedError as error:
                yield CaseResult("syntax_error", error=str(error))
            except _OutOfTimeError:
                limit = self._config.total_time_limit_s
                yield CaseResult("time_limit", error=f"more than {limit:g} s for all tests together")

    def _tolerance(self, tests: ScriptTests | FunctionTests) -> float:
        return self._config.float_tolerance if tests.float_tolerance is None else tests.float_tolerance

    def _scripts(self, session: _Session, tests: ScriptTests) -> Iterator[CaseResult]:
        for text, expected in zip(tests.inputs, tests.outputs):
            report = session.ask({"op": "script"}, text.encode("utf-8", "surrogatepass"))
            got = report.body.decode("utf-8", "replace")
            reason, error = _failure(report.head)
            if reason is None:
                same = code_compare.same_output(got, expected, self._tolerance(tests))
                reason = "passed" if same else "wrong_output"
            yield _result(reason, text, expected, got, error)

    def _functions(self, session: _Session, tests: FunctionTests) -> Iterator[CaseResult]:
        for arguments, expected in zip(tests.arguments, tests.outputs):
            try:
                call = json.dumps(values.Encoder().encode([[arguments, {}]])).encode()
            except values.NotPlainError as error:
                raise UnusableTestsError(str(error)) from None
            report = session.ask({"op": "calls", "target": tests.name, "method": True}, call)
            answer = _Answers(report).next()
            reason = answer.reason or "wrong_output"
            if answer.reason is None and any(
                code_compare.same_value(answer.tree, tree, json_like=True, tolerance=self._tolerance(tests))
                for tree in expected
            ):
                reason = "passed"
            shown = json.dumps(arguments)
            yield _result(reason, shown, _shown(expected[-1]), answer.shown, answer.error)

    def _asserts(self, session: _Session, tests: AssertTests) -> Iterator[CaseResult]:
        plan = code_asserts.plan(tests.tests, tests.setup, tests.entry_point, tests.is_check)
        if plan is not None:
            yield from _planned(session, plan)
        else:
            yield from _tested(session, tests)


def _planned(session: _Session, plan: code_asserts.Plan) -> Iterator[CaseResult]:
    """All asserts in one process, one after the other; after one that ends the process, the next tests in a new one."""
    left = plan.checks
    while left:
        calls = b"[" + b",".join(json.dumps(check.arguments).encode() for check in left) + b"]"
        head = {"op": "calls", "target": plan.target, "method": False}
        answers = _Answers(session.ask(head, calls, len(left)))
        num_done = 0
        for _, group in groupby(left, key=lambda check: check.test):
            checks = list(group)
            num_done += len(checks)
            yield _of_test(answers, checks)
            if answers.ended:
                break
        left = left[num_done:]


def _of_test(answers: _Answers, checks: list[code_asserts.Check]) -> CaseResult:
    """The first failing assert of a test."""
    result = CaseResult("passed")
    for check in checks:
        answer = answers.next()
        if result.reason == "passed" and (answer.reason is not None or not check.is_met(answer.tree)):
            reason = answer.reason or "wrong_output"
            result = _result(reason, check.source, check.expected, answer.shown, answer.error)
    return result


class _Answer(NamedTuple):
    tree: Any
    reason: str | None
    shown: str = ""
    error: str = ""


class _Answers:
    """The lines that a process wrote, one per call."""

    def __init__(self, report: wire.Frame) -> None:
        self._lines = iter(report.body.split(b"\n"))
        self._head = report.head
        self.ended = False
        """Whether a call has ended the process (so no later one has an answer)."""

    def next(self) -> _Answer:
        """The answer to the next call."""
        line = b"" if self.ended else next(self._lines, b"")
        try:
            reply = json.loads(line) if line else None
        except (ValueError, RecursionError):
            reply = None
        if isinstance(reply, dict) and "v" in reply:
            return _Answer(reply["v"], None, _shown(reply["v"]))
        if isinstance(reply, dict) and "u" in reply and isinstance(reply.get("b"), bool):
            return _Answer({"u": reply["b"]}, None, f"({reply['u']})")
        self.ended = True
        reason, error = _failure(self._head)
        if isinstance(reply, dict) and isinstance(reply.get("e"), dict) and reason in (None, "runtime_error"):
            about = reply["e"]
            return _Answer(None, "runtime_error", error=f"{about.get('name')}: {about.get('text')}")
        return _Answer(None, reason or "runtime_error", error=error or "it ended without an answer")


def _tested(session: _Session, tests: AssertTests) -> Iterator[CaseResult]:
    left = tests.tests
    while left:
        pair = session.pair()
        reason, error = pair.set_up(tests, left)
        for i, test in enumerate(left):
            result = CaseResult(reason, test, error=error) if reason else pair.test(test)
            yield _result(*result)
            if pair.is_over and reason is None:
                left = left[i + 1 :]
                break
        else:
            return


class _Session:
    """One program in clean cells: a new cell wherever a test has left something behind."""

    def __init__(self, job: Job, code: str, config: CodeConfig, output_bytes: int, preload: list[str]) -> None:
        self._job = job
        self._code = code.encode("utf-8", "surrogatepass")
        memory = config.memory_mb * _MIB
        self._limits = Limits(
            config.time_limit_s, memory, memory + _ADDRESS_SLACK, output_bytes, _PROCESSES, _FILES, _FILE_BYTES
        )
        self._preload = preload
        self._cell: Cell | None = None
        self._end = time.monotonic() + config.total_time_limit_s

    def ask(self, head: dict[str, Any], body: bytes, num_calls: int = 1) -> wire.Frame:
        """Run one test (or ``num_calls`` calls) in a clean process; its report."""
        cell, is_new = self._clean_cell(), self._cell is None
        try:
            if is_new:
                self._send_program(cell)
            cell.send(head, body)
        except wire.WireError:
            if not is_new:
                raise SandboxFailedError("the cell is gone") from None
        if is_new:
            self._compiled(cell)
            self._cell = cell
        report = self._report(cell, num_calls)
        cell.is_clean = bool(report.head["clean"])
        return report

    def _clean_cell(self) -> Cell:
        if self._cell is not None and self._cell.is_clean:
            return self._cell
        self._cell = None
        return self._job.cell()

    def _send_program(self, cell: Cell) -> None:
        cell.send({"op": "compile", "limits": list(self._limits), "preload": self._preload}, self._code)

    def _compiled(self, cell: Cell) -> None:
        try:
            frame = cell.receive(_COMPILE_LIMIT_S)
        except TimeoutError:
            frame = None
        if frame is None:
            cell.is_clean = False
            raise CompilerDiedError("the compiler died on it")
        if frame.head["event"] == "syntax":
            cell.is_clean = False  # the request after it is still on its way
            raise _SyntaxFailedError(frame.head["error"])

    def remaining(self) -> float:
        """Seconds until all tests together have taken too long; raises ``_OutOfTimeError`` then."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise _OutOfTimeError
        return left

    def longest(self, num_calls: int = 1) -> float:
        """Seconds after which the supervisor inside must have ended a test by itself."""
        return num_calls * (_WALL_FACTOR * self._limits.time_s + 1) + _GRACE_S

    def _report(self, cell: Cell, num_calls: int) -> wire.Frame:
        remaining, longest = self.remaining(), self.longest(num_calls)
        try:
            frame = cell.receive(min(remaining, longest))
        except TimeoutError:
            cell.is_clean = False
            if remaining < longest:
                raise _OutOfTimeError from None
            raise SandboxFailedError("the cell does not answer") from None
        if frame is None:
            cell.is_clean = False
            raise SandboxFailedError("the cell died")
        return frame

    def pair(self) -> _Pair:
        """The program in a new cell, and a tester that is linked with it."""
        ours, theirs = socket.socketpair()
        try:
            cell = self._job.cell(ours)
            tester = self._job.tester(theirs)
        finally:
            ours.close()
            theirs.close()
        cell.is_clean = False
        self._send_program(cell)
        self._compiled(cell)
        cell.send({"op": "serve"})
        return _Pair(self, cell, tester)


class _Pair:
    """A solution's process and the tester that asks it."""

    def __init__(self, session: _Session, cell: Cell, tester: Cell) -> None:
        self._session = session
        self._cell = cell
        self._tester = tester
        self._ended: dict[str, Any] | None = None
        self.is_over = False

    def set_up(self, tests: AssertTests, sources: list[str]) -> tuple[str | None, str]:
        """Import the solution and run the setup: a reason where that fails already."""
        head = {"op": "setup", "setup": tests.setup, "prompt": tests.prompt, "entry_point": tests.entry_point}
        report = self._ask({**head, "tests": sources})
        if report["status"] == "passed":
            return None, ""
        if report["status"] == "died":
            raise UnusableTestsError(report["error"])
        result = self._judge(report, "")
        return result.reason, result.error

    def test(self, source: str) -> CaseResult:
        """Run one test."""
        try:
            self._cell.send({"op": "mark"})
        except wire.WireError:
            pass  # it is over; the tester says so
        return self._judge(self._ask({"op": "test", "test": source}), source)

    def _ask(self, head: dict[str, Any]) -> dict[str, Any]:
        """The tester's report; ``gone`` where it cannot be had because of the solution."""
        try:
            self._tester.send(head)
        except wire.WireError:
            raise SandboxFailedError("the tester died") from None
        longest = self._session.longest()
        end = time.monotonic() + longest
        waiting = [self._tester, *([] if self._ended else [self._cell])]
        while True:
            left = min(end - time.monotonic(), self._session.remaining())
            ready, _, _ = select.select(waiting, [], [], max(left, 0))
            if self._tester in ready:
                return self._tester_report()
            if self._cell in ready:
                self._note_end()
                waiting.remove(self._cell)
                end = min(end, time.monotonic() + _GRACE_S / 4)  # a tester that waits for it will notice
            elif end - time.monotonic() <= 0:
                if self._ended is None:
                    raise SandboxFailedError("neither the solution nor the tester answers")
                return {"status": "gone"}

    def _tester_report(self) -> dict[str, Any]:
        frame = self._tester.receive(_GRACE_S)
        if frame is None:
            self.is_over = True
            # in a test it may have been a value of the solution's that took its memory
            return {"status": "died", "error": "the tests' own process ended before the tests did"}
        return frame.head

    def _note_end(self) -> None:
        frame = self._cell.receive(_GRACE_S)
        self._ended = frame.head if frame is not None else {"status": "signal", "number": 0, "stderr": ""}

    def _judge(self, report: dict[str, Any], source: str) -> CaseResult:
        status, error = report["status"], str(report.get("error", ""))
        if status == "passed":
            return CaseResult("passed")
        if status == "unusable":
            raise UnusableTestsError(error)
        if status == "gone":
            return self._gone(source)
        shown = _assert_at(source, report.get("line", 0))
        got, expected = (report.get("sides") or ["", ""])[:2]
        return CaseResult("wrong_output" if status == "wrong" else "runtime_error", shown, expected, got, error)

    def _gone(self, source: str) -> CaseResult:
        self.is_over = True
        if self._ended is None:
            try:
                self._note_end()
            except TimeoutError:  # it answered with what is no answer, and lives
                self._ended = {"status": "exit", "number": 0}
        assert self._ended is not None
        reason, error = _failure(self._ended)
        return CaseResult(reason or "runtime_error", source, error=error or "the program ended before the tests did")


def _assert_at(source: str, line: int) -> str:
    lines = source.splitlines()
    return lines[line - 1].strip() if 0 < line <= len(lines) else source


def _failure(head: dict[str, Any]) -> tuple[str | None, str]:
    """Why a process's end is no success, and in words; None where it is one."""
    status, number, stderr = head["status"], head.get("number", 0), str(head.get("stderr", "")).strip()
    if status in _REASONS:
        return _REASONS[status], stderr
    if status == "exit":
        return (None, "") if number == 0 else ("runtime_error", stderr or f"exit status {number}")
    if status == "signal":
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        return "runtime_error", f"killed by {name}. {stderr}".strip()
    if status == "processes":
        return "runtime_error", f"more than {_PROCESSES} processes"
    raise SandboxFailedError(f"the cell reports {status}")


def _result(reason: str, text: str = "", expected: str = "", got: str = "", error: str = "") -> CaseResult:
    if reason == "passed":
        return CaseResult("passed")
    return CaseResult(reason, _cut(text), _cut(expected), _cut(got), _cut_front(error))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}… ({len(text)} characters)"


def _cut_front(text: str) -> str:
    """The end of a traceback says most."""
    return text if len(text) <= _LONGEST_SHOWN else f"…{text[-_LONGEST_SHOWN:]}"


def _shown(tree: Any) -> str:
    """A value for people; a tree that is too large or odd to be rebuilt is shown as it is."""
    text = json.dumps(tree)
    if len(text) > 10 * _LONGEST_SHOWN or any(tag in text for tag in ('{"s":', '{"z":', '{"d":', '{"o":', '{"n":')):
        return _cut(text)
    try:
        return _cut(repr(values.decode(tree)))
    except ValueError:  # no value, or an integer of more digits than Python prints
        return _cut(text)


def _output_bytes(tests: CodeTests) -> int:
    """One MiB beyond the longest expected output, in steps that give no expected length away."""
    longest = 0
    if isinstance(tests, ScriptTests):
        longest = max(len(text) for text in tests.outputs) * 4
    elif isinstance(tests, FunctionTests):
        longest = max(len(json.dumps(tree)) for trees in tests.outputs for tree in trees) * 4
    return _MIB + (1 << longest.bit_length() if longest > _MIB else _MIB)


def _preload(code: str) -> list[str]:
    """Slow imports that all tests of a program share."""
    return ["numpy"] if "numpy" in code else []


RUNNERS: dict[str, Callable[[CodeConfig], Runner]] = {"python": PythonRunner}
"""By language."""
