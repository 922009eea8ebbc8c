"""Runs a program on its tests and says how each test went. Python here; other languages have the same protocol."""

from __future__ import annotations

import ast
import contextlib
import json
import os
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
from verifiers.sandbox import Cell, Job, Sandbox, SandboxFailedError, TesterChannel, streams
from verifiers.sandbox.inside import values, wire
from verifiers.sandbox.inside.supervisor import Limits

_MIB = 2**20
_ADDRESS_SLACK = 2048 * _MIB
_FILE_BYTES = 32 * _MIB
_PROCESSES = 64
_FILES = 64
_STDERR_BYTES = 4096
_ANSWER_BYTES = 1 << 16
_GRACE_S = 10.0
_WALL_FACTOR = 3
_LONGEST_SHOWN = 1000
_OUT_OF_MEMORY = "MemoryError"
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
        text = code.encode("utf-8", "surrogatepass")
        with self._sandbox.job() as job, streams.Program(text) as program:
            session = _Session(job, program, self._config, _output_bytes(tests), _preload(code))
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
            report = session.ask("script", text.encode("utf-8", "surrogatepass"))
            got = report.out.decode("utf-8", "replace")
            reason, error = _failure(report)
            if reason is None:
                same = code_compare.same_output(got, expected, self._tolerance(tests))
                reason = "passed" if same else "wrong_output"
            yield _result(reason, text, expected, got, error)

    def _functions(self, session: _Session, tests: FunctionTests) -> Iterator[CaseResult]:
        for arguments, expected in zip(tests.arguments, tests.outputs):
            try:
                call = values.Encoder().encode([[arguments, {}]])
            except values.NotPlainError as error:
                raise UnusableTestsError(str(error)) from None
            wanted = {"target": tests.name, "is_method": True, "calls": call}
            answer = _Answers(session.ask("calls", json.dumps(wanted).encode())).next()
            reason = answer.reason or "wrong_output"
            if answer.reason is None and any(
                code_compare.same_value(answer.tree, tree, json_like=True, tolerance=self._tolerance(tests))
                for tree in expected
            ):
                reason = "passed"
            if reason == "passed":
                yield CaseResult(reason)
            else:
                yield _result(reason, json.dumps(arguments), _shown(expected[-1]), answer.shown(), answer.error)

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
        wanted = {"target": plan.target, "is_method": False, "calls": [check.arguments for check in left]}
        answers = _Answers(session.ask("calls", json.dumps(wanted).encode(), len(left)))
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
            result = _result(reason, ast.unparse(check.node), check.expected, answer.shown(), answer.error)
    return result


class _Answer(NamedTuple):
    tree: Any
    reason: str | None
    kind: str = ""
    """Of a value without plain form."""
    error: str = ""

    def shown(self) -> str:
        """For people."""
        if self.kind:
            return f"({self.kind})"
        return "" if self.reason else _shown(self.tree)


class _Answers:
    """The lines that a process wrote, one per call."""

    def __init__(self, report: _Report) -> None:
        self._lines = iter(report.out.split(b"\n"))
        self._report = report
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
            return _Answer(reply["v"], None)
        if isinstance(reply, dict) and "u" in reply and isinstance(reply.get("b"), bool):
            return _Answer({"u": reply["b"]}, None, str(reply["u"]))
        self.ended = True
        reason, error = _failure(self._report)
        if isinstance(reply, dict) and isinstance(reply.get("e"), dict) and reason in (None, "runtime_error"):
            about = reply["e"]
            reason = "memory_limit" if about.get("name") == _OUT_OF_MEMORY else "runtime_error"
            return _Answer(None, reason, error=f"{about.get('name')}: {about.get('text')}")
        return _Answer(None, reason or "runtime_error", error=error or "it ended without an answer")


def _tested(session: _Session, tests: AssertTests) -> Iterator[CaseResult]:
    left = tests.tests
    while left:
        with session.pair(len(left)) as pair:
            reason, error = pair.set_up(tests, left)
            for i, test in enumerate(left):
                result = CaseResult(reason, test, error=error) if reason else pair.test(test)
                yield _result(*result)
                if pair.is_over and reason is None:
                    left = left[i + 1 :]
                    break
            else:
                return


class _Report(NamedTuple):
    """How a process ended, and what it wrote."""

    status: str
    number: int
    out: bytes
    stderr: str


class _Session:
    """One program in clean cells: a new cell wherever a test has left something behind."""

    def __init__(
        self, job: Job, program: streams.Program, config: CodeConfig, output_bytes: int, preload: list[str]
    ) -> None:
        self._job = job
        self._program = program
        self._time_s = config.time_limit_s
        memory = config.memory_mb * _MIB
        limits = Limits(config.time_limit_s, memory, memory + _ADDRESS_SLACK, _PROCESSES, _FILES, _FILE_BYTES)
        self._setup = {"limits": list(limits), "preload": preload}
        self._output_bytes = output_bytes
        self._cell: Cell | None = None
        self._total_s = config.total_time_limit_s
        self._end = time.monotonic() + config.total_time_limit_s

    def ask(self, how: str, given: bytes, num_calls: int = 1) -> _Report:
        """Run one test (or ``num_calls`` calls) in a clean process; its report. Raises ``_SyntaxFailedError``."""
        if self._cell is None or not self._cell.is_clean:
            self._cell = self._job.cell(self._setup)
        self._cell.is_clean = False  # until it says so: whatever ends this meanwhile leaves it busy
        with streams.Sink(self._output_bytes) as out, streams.Sink(_STDERR_BYTES, rolling=True) as err:
            self.start(self._cell, how, streams.sealed(given), out, err, num_calls)
            head = self._wait(self._cell, out, err, num_calls)
            self._cell.is_clean = bool(head["clean"])
            text = self._program.syntax_error()
            if text is not None:
                raise _SyntaxFailedError(text)
            return _report(head, out, err)

    def start(self, cell: Cell, how: str, given: int, out: streams.Sink, err: streams.Sink, num_calls: int = 1) -> None:
        """Have the program run on ``given``, which is closed here. The time limit is for each of the calls."""
        cpu_s = min(num_calls * self._time_s, max(self._total_s, self._time_s))
        try:
            descriptors = [*self._program.descriptors, err.write_end, given, out.write_end]
            cell.tell({"op": "run", "how": how, "cpu_s": cpu_s}, descriptors)
        except wire.WireError:
            raise SandboxFailedError("the cell is gone") from None
        finally:
            os.close(given)
            for sink in (out, err):
                sink.close_write_end()

    def _wait(self, cell: Cell, out: streams.Sink, err: streams.Sink, num_calls: int) -> dict[str, Any]:
        """The cell's report, while taking what the process writes."""
        remaining, longest = self.remaining(), self.longest(num_calls)
        end = time.monotonic() + min(remaining, longest)
        poller = select.poll()
        for item in (cell, out, err):
            poller.register(item, select.POLLIN)
        num_lines, stopping = 0, False
        while (left := end - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(left * 1000):
                if descriptor == cell.fileno():
                    return self._heard(cell)
                sink = out if descriptor == out.fileno() else err
                if not sink.drain():
                    poller.unregister(descriptor)
            if out.overflow and not stopping:
                stopping = True
                _tell(cell, "stop")
            if num_calls > 1 and (now := min(num_calls - 1, out.data.count(b"\n"))) > num_lines:
                num_lines = now
                _tell(cell, "mark")
        if remaining < longest:
            raise _OutOfTimeError
        raise SandboxFailedError("the cell does not answer")

    def _heard(self, cell: Cell) -> dict[str, Any]:
        head = cell.hear(_GRACE_S)
        if head is None:
            raise SandboxFailedError("the cell died")
        return head

    def remaining(self) -> float:
        """Seconds until all tests together have taken too long; raises ``_OutOfTimeError`` then."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise _OutOfTimeError
        return left

    def tests_limit_s(self) -> float:
        """Seconds for the tests' own code: a little more than the solution's, whose clock goes on meanwhile."""
        return self._time_s + 0.5

    def longest(self, num_calls: int = 1) -> float:
        """Seconds after which the supervisor inside must have ended a test by itself."""
        return num_calls * (_WALL_FACTOR * self._time_s + 1) + _GRACE_S

    @contextlib.contextmanager
    def pair(self, num_tests: int) -> Iterator[_Pair]:
        """The program in a cell, and a tester that is linked with it."""
        ours, theirs = socket.socketpair()
        with ours, theirs, streams.Sink(0) as out, streams.Sink(_STDERR_BYTES, rolling=True) as err:
            cell = self._job.cell(self._setup)
            tester = self._job.tester(theirs)
            cell.is_clean = False
            self.start(cell, "serve", ours.detach(), out, err, num_tests)
            theirs.close()
            yield _Pair(self, self._job, cell, tester, err)

    def check_syntax(self) -> None:
        """Raises ``_SyntaxFailedError``."""
        text = self._program.syntax_error()
        if text is not None:
            raise _SyntaxFailedError(text)


def _tell(cell: Cell, operation: str) -> None:
    with contextlib.suppress(wire.WireError):  # its end is the next thing that will be heard of it
        cell.tell({"op": operation})


def _report(head: dict[str, Any], out: streams.Sink, err: streams.Sink) -> _Report:
    """All that the process has written is in the pipes: nothing of it is left."""
    while out.drain() and not out.overflow and streams.readable([out], 0):
        pass
    err.drain()
    status = "output" if out.overflow else head["status"]
    return _Report(status, head["number"], bytes(out.data), err.data.decode("utf-8", "replace").strip())


class _Pair:
    """A solution's process and the tester that asks it."""

    def __init__(self, session: _Session, job: Job, cell: Cell, tester: TesterChannel, err: streams.Sink) -> None:
        self._session = session
        self._job = job
        self._cell = cell
        self._tester = tester
        self._err = err
        self._ended: _Report | None = None
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
        _tell(self._cell, "mark")
        return self._judge(self._ask({"op": "test", "test": source}), source)

    def _ask(self, head: dict[str, Any]) -> dict[str, Any]:
        """The tester's report; ``gone`` where it cannot be had because of the solution."""
        try:
            self._tester.send({**head, "limit_s": self._session.tests_limit_s()})
        except wire.WireError:
            raise SandboxFailedError("the tester died") from None
        longest = self._session.longest()
        end = time.monotonic() + longest
        waiting: list[TesterChannel | Cell | streams.Sink] = [
            self._tester,
            self._err,
            *([] if self._ended else [self._cell]),
        ]
        while True:
            left = min(end - time.monotonic(), self._session.remaining())
            ready = streams.readable(waiting, max(left, 0))
            if self._err in ready and not self._err.drain():
                waiting.remove(self._err)
            if self._tester in ready:
                return self._tester_report()
            if self._cell in ready:
                self._note_end()
                waiting.remove(self._cell)
                end = min(end, time.monotonic() + _GRACE_S / 4)  # a tester that waits for it will notice
            elif end - time.monotonic() <= 0:
                if self._ended is None:
                    raise SandboxFailedError("neither the solution nor the tester answers")
                return {"status": "gone", "idle": True}  # a tester that waited for the solution would have noticed

    def _tester_report(self) -> dict[str, Any]:
        frame = self._tester.receive(_GRACE_S)
        if frame is None:
            self.is_over = True
            if self._job.tester_was_killed():
                raise SandboxFailedError("the tests' own process was killed")
            # in a test it may have been a value of the solution's that took its memory
            return {"status": "died", "error": "the tests' own process ended before the tests did"}
        return frame.head

    def _note_end(self) -> None:
        head = self._cell.hear(_GRACE_S)
        if head is None:
            raise SandboxFailedError("the cell died")
        self._err.drain()
        self._ended = _Report(head["status"], head["number"], b"", self._err.data.decode("utf-8", "replace").strip())

    def _judge(self, report: dict[str, Any], source: str) -> CaseResult:
        status, error = report["status"], str(report.get("error", ""))
        if status == "passed":
            return CaseResult("passed")
        if status == "unusable":
            raise UnusableTestsError(error)
        if status == "gone":
            return self._gone(source, report.get("idle") is True)
        self.is_over = self.is_over or report.get("over") is True
        shown = _assert_at(source, report.get("line", 0))
        got, expected = (report.get("sides") or ["", ""])[:2]
        return CaseResult("wrong_output" if status == "wrong" else "runtime_error", shown, expected, got, error)

    def _gone(self, source: str, was_idle: bool) -> CaseResult:
        """``was_idle``: the solution had answered, and it was the tests' own code that took the time."""
        self.is_over = True
        if self._ended is None:
            try:
                self._note_end()
            except TimeoutError:  # it answered with what is no answer, and lives
                self._ended = _Report("exit", 0, b"", "")
        assert self._ended is not None
        self._session.check_syntax()
        reason, error = _failure(self._ended)
        if reason == "time_limit" and was_idle:
            raise UnusableTestsError("the tests' own code takes longer than the limit")
        return CaseResult(reason or "runtime_error", source, error=error or "the program ended before the tests did")


def _assert_at(source: str, line: int) -> str:
    lines = source.splitlines()
    return lines[line - 1].strip() if 0 < line <= len(lines) else source


def _failure(report: _Report) -> tuple[str | None, str]:
    """Why a process's end is no success, and in words; None where it is one."""
    status, number, stderr = report.status, report.number, report.stderr
    if status in _REASONS:
        return _REASONS[status], stderr
    if status == "exit" and number == 0:
        return None, ""
    if status == "exit":
        ran_out = stderr.rpartition("\n")[2].startswith(_OUT_OF_MEMORY)
        return "memory_limit" if ran_out else "runtime_error", stderr or f"exit status {number}"
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
    """One MiB beyond the longest expected output (of asserts: all together), in steps that give no length away."""
    longest = 0
    if isinstance(tests, AssertTests):
        longest = sum(4 * len(test) + _ANSWER_BYTES for test in tests.tests)
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
