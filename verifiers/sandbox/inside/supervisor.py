"""First process of a solution's own namespaces: sets limits, forks a process per test, watches it, kills what is left.

Never runs model-written code itself; nothing but the input of the present test is ever in its memory.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import time
import types
import warnings
from typing import Any, NamedTuple

from verifiers.sandbox.inside import kernel, program, values, wire

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK_S = 0.03
_WALL_FACTOR = 3
_STDERR_BYTES = 4096
_OTHER = 3
"""The descriptor beside the standard streams that a child may have."""
_STACK_BYTES = 512 * 2**20
_READ = 1 << 16


class Limits(NamedTuple):
    """Limits of one test (time, output) and of one solution (the rest)."""

    time_s: float
    memory_bytes: int
    address_bytes: int
    output_bytes: int
    processes: int
    files: int
    file_bytes: int


_NO_LIMITS = Limits(0.0, 0, 0, 0, 0, 0, 0)


class Ended(NamedTuple):
    """How a process ended."""

    status: str
    """``exit``, ``signal``, ``time``, ``memory``, ``output``, ``processes`` or ``stopped`` (by the host)."""
    number: int
    """Exit status or signal."""
    seconds: float
    clean: bool
    """Nothing of it is left: it ended by itself, alone, and without files. Else these namespaces are not used again."""


class Sink:
    """What a process writes to one pipe: kept up to a limit, or (``rolling``) the last bytes only."""

    def __init__(self, limit: int, rolling: bool = False) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self.data = bytearray()
        self.overflow = False
        self._limit = limit
        self._rolling = rolling

    def drain(self) -> bool:
        """Take what is there; False at the end of the stream."""
        for _ in range(16):  # bounded: a fast writer must not keep the supervisor from its clock
            try:
                chunk = os.read(self.read_end, _READ)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self.data += chunk
            if len(self.data) > self._limit:
                if self._rolling:
                    del self.data[: -self._limit]
                else:
                    self.overflow = True
                    del self.data[self._limit :]
        return True

    def close(self) -> None:
        """Give both descriptors back."""
        for descriptor in (self.read_end, self.write_end):
            if descriptor >= 0:
                os.close(descriptor)
        self.read_end = self.write_end = -1

    def close_write_end(self) -> None:
        """In the parent, so that the end of the stream can be seen."""
        os.close(self.write_end)
        self.write_end = -1


class Supervisor:
    """Serves solutions over ``channel``, one after the other.

    ``confined``: this process is the first one of a pid namespace of its own. ``folders``: where a solution can write.
    """

    def __init__(
        self,
        channel: socket.socket,
        link: socket.socket | None,
        prepared: types.ModuleType,
        confined: bool,
        folders: list[str],
    ) -> None:
        self._channel = channel
        self._link = link
        self._prepared = prepared
        self._confined = confined
        self._code: types.CodeType | None = None
        self._limits = _NO_LIMITS
        self._base_pages = _resident_pages(os.getpid())  # before a solution has a say in it
        self._cpu_limit = (-1, -1)
        self._folders = folders
        self._states = self._look()

    def _look(self) -> list[tuple[int, ...]]:
        return [_state(folder) for folder in self._folders]

    def run(self) -> None:
        """Answer the host's requests until it hangs up."""
        while (frame := wire.receive(self._channel)) is not None:
            operation = frame.head["op"]
            if operation == "compile":
                self._compile(frame)
            elif operation == "script":
                self._script(frame)
            elif operation == "calls":
                self._calls(frame)
            elif operation == "serve":
                self._serve()

    def _compile(self, frame: wire.Frame) -> None:
        limits = Limits(*frame.head["limits"])
        if limits != self._limits:
            self._limits = limits
            self._set_limits()
        reply: dict[str, Any] = {"event": "compiled"}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                text = frame.body.decode("utf-8", "surrogatepass")
                self._code = compile(text, "<solution>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            reply = {"event": "syntax", "error": f"{type(error).__name__}: {error}"[:2000]}
        for name in frame.head.get("preload", []):
            with contextlib.suppress(ImportError):
                __import__(name)
        wire.send(self._channel, reply)

    def _set_limits(self) -> None:
        """Our own, for the children to inherit. That of processor time is theirs only: we live longer."""
        limits, seconds = self._limits, int(self._limits.time_s) + 2
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        self._cpu_limit = (seconds, seconds + 1) if hard < 0 else (min(seconds, hard), min(seconds + 1, hard))
        for kind, soft, hard in (
            (resource.RLIMIT_AS, limits.address_bytes, limits.address_bytes),
            (resource.RLIMIT_NOFILE, limits.files, limits.files),
            (resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_MEMLOCK, 0, 0),
            (resource.RLIMIT_MSGQUEUE, 0, 0),
            (resource.RLIMIT_RTPRIO, 0, 0),
            (resource.RLIMIT_SIGPENDING, 256, 256),
        ):
            program.clamp(kind, soft, hard)
        if self._confined:  # counted per user namespace; outside of one it would count the user's other processes
            program.clamp(resource.RLIMIT_NPROC, limits.processes, limits.processes)

    def _script(self, frame: wire.Frame) -> None:
        out, err = Sink(self._limits.output_bytes), Sink(_STDERR_BYTES, rolling=True)
        read_end, write_end = os.pipe()
        child = kernel.fork()
        if child == 0:
            self._enter(read_end, out.write_end, err.write_end)
            assert self._code is not None
            program.run_script(self._code, self._prepared)
        os.close(read_end)
        ended = self._watch(child, [out, err], frame.body, write_end)
        self._report(ended, bytes(out.data), err)
        out.close()

    def _calls(self, frame: wire.Frame) -> None:
        result, err = Sink(self._limits.output_bytes), Sink(_STDERR_BYTES, rolling=True)
        calls = values.decode(wire.json.loads(frame.body))
        child = kernel.fork()
        if child == 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            descriptor = self._enter(nothing, nothing, err.write_end, result.write_end)
            assert self._code is not None
            head = frame.head
            program.run_calls(self._code, self._prepared, head["target"], head["method"], calls, descriptor)
        ended = self._watch(child, [result, err], num_lines=len(calls))
        self._report(ended, bytes(result.data), err)
        result.close()

    def _serve(self) -> None:
        assert self._link is not None
        err = Sink(_STDERR_BYTES, rolling=True)
        child = kernel.fork()
        if child == 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            descriptor = self._enter(nothing, nothing, err.write_end, self._link.detach())
            assert self._code is not None
            program.run_server(self._code, self._prepared, socket.socket(fileno=descriptor))
        self._link.close()  # so that the tester sees it when the solution is gone
        ended = self._watch(child, [err], restart_on_message=True)
        self._report(ended, b"", err)

    def _enter(self, stdin: int, stdout: int, stderr: int, other: int = -1) -> int:
        """In the child: only these descriptors stay open, ``other`` as the one returned; the last limits are set."""
        program.rewire(stdin, stdout, stderr)
        if other >= 0:
            os.dup2(other, _OTHER)
        os.closerange(_OTHER + 1 if other >= 0 else _OTHER, self._limits.files)
        resource.setrlimit(resource.RLIMIT_CPU, self._cpu_limit)
        if not self._confined:
            os.setsid()
        return _OTHER

    def _report(self, ended: Ended, body: bytes, err: Sink) -> None:
        head = {
            "event": "test",
            "status": ended.status,
            "number": ended.number,
            "seconds": ended.seconds,
            "clean": ended.clean,
        }
        head["stderr"] = err.data.decode("utf-8", "replace")
        err.close()
        wire.send(self._channel, head, body)

    def _watch(
        self,
        child: int,
        sinks: list[Sink],
        feed: bytes = b"",
        feeder: int = -1,
        num_lines: int = 0,
        restart_on_message: bool = False,
    ) -> Ended:
        """Until the child ends by itself or by a limit; then nothing that it has started is left.

        The clock begins anew with each of the first ``num_lines`` lines in the first sink, or with each message.
        """
        watch = _Watch(child, self._limits, self._base_pages, self._confined)
        for sink in sinks:
            sink.close_write_end()
        poller = select.poll()
        by_descriptor = {sink.read_end: sink for sink in sinks}
        for descriptor in by_descriptor:
            poller.register(descriptor, select.POLLIN)
        handle = os.pidfd_open(child)
        poller.register(handle, select.POLLIN)
        poller.register(self._channel.fileno(), select.POLLIN)
        pending = memoryview(feed)
        if feeder >= 0:
            os.set_blocking(feeder, False)
            poller.register(feeder, select.POLLOUT)
        verdict: str | None = None
        running = True
        while running and verdict is None:
            for descriptor, _ in poller.poll(_TICK_S * 1000):
                if descriptor == handle:
                    running = False
                elif descriptor == feeder:
                    pending = _push(feeder, pending)
                    if not pending:
                        poller.unregister(feeder)
                        os.close(feeder)
                        feeder = -1
                elif descriptor == self._channel.fileno():
                    verdict = self._message(watch, restart_on_message)
                else:
                    sink = by_descriptor[descriptor]
                    if not sink.drain():
                        poller.unregister(descriptor)
                    if num_lines and sink is sinks[0]:
                        watch.restart_at(min(num_lines, sink.data.count(b"\n")))
                    verdict = "output" if sink.overflow else verdict
            if running and verdict is None:
                verdict = watch.exceeded()
        os.close(handle)
        if feeder >= 0:
            os.close(feeder)
        if verdict is None and watch.is_over_time():
            verdict = "time"
        seconds = watch.seconds()
        status, alone = self._end(child)
        for sink in sinks:
            sink.drain()
            verdict = "output" if verdict is None and sink.overflow else verdict
        clean = alone and verdict is None and self._states == self._look()
        return _ended(status, verdict, seconds, clean)

    def _message(self, watch: _Watch, restart: bool) -> str | None:
        frame = wire.receive(self._channel)
        if frame is None or not restart or frame.head["op"] != "mark":
            return "stopped"
        watch.restart()
        return None

    def _end(self, child: int) -> tuple[int, bool]:
        """Kill all that is left and reap it: the child's wait status, and whether there was nothing else."""
        status, alone = 0, True
        while True:
            with contextlib.suppress(ProcessLookupError):
                if self._confined:  # everything in this pid namespace but its first process, at once
                    os.kill(-1, signal.SIGKILL)
                else:
                    os.killpg(child, signal.SIGKILL)
            try:
                pid, ended = os.waitpid(-1, 0)
            except ChildProcessError:
                return status, alone
            if pid == child:
                status = ended
            else:
                alone = False


class _Watch:
    """A running process against its limits."""

    def __init__(self, child: int, limits: Limits, base_pages: int, confined: bool) -> None:
        self._child = child
        self._limits = limits
        self._base_pages = base_pages
        self._confined = confined
        self._begin = time.monotonic()
        self._waited_before = 0.0
        self._num_done = 0

    def restart(self) -> None:
        """A new test begins in the same process."""
        self._begin = time.monotonic()
        self._waited_before = _run_queue_s(self._child)

    def restart_at(self, num_done: int) -> None:
        """``restart`` where this number of tests done is news."""
        if num_done > self._num_done:
            self._num_done = num_done
            self.restart()

    def seconds(self) -> float:
        """By the clock."""
        return time.monotonic() - self._begin

    def exceeded(self) -> str | None:
        """The limit that is passed, if any."""
        if self.is_over_time():
            return "time"
        if self.seconds() < _TICK_S:
            return None
        pages, num = self._family()
        if pages * _PAGE > self._limits.memory_bytes:
            return "memory"
        if num > self._limits.processes:
            return "processes"
        return None

    def is_over_time(self) -> bool:
        """The clock stops while the process is ready to run and another one has the core: a busy machine is no fault of
        the solution. Sleeping counts. By the plain clock no test takes more than three times its limit.
        """
        wall = self.seconds()
        if wall <= self._limits.time_s:
            return False
        fair = wall - (_run_queue_s(self._child) - self._waited_before)
        return fair > self._limits.time_s or wall > _WALL_FACTOR * self._limits.time_s + 1

    def _family(self) -> tuple[int, int]:
        """Resident pages beyond those shared with this process, and the number, of all processes of the solution."""
        if not self._confined:
            return max(0, _resident_pages(self._child) - self._base_pages), 1
        me, pages, num = os.getpid(), 0, 0
        for name in os.listdir("/proc"):  # noqa: PTH208
            if name.isdigit() and int(name) != me:
                num += 1
                pages += max(0, _resident_pages(int(name)) - self._base_pages)
        return pages, num


def _resident_pages(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1])
    except (OSError, IndexError):
        return 0


def _run_queue_s(pid: int) -> float:
    """Seconds that the main thread was ready to run and had no core; 0 where the kernel does not say."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _push(descriptor: int, data: memoryview) -> memoryview:
    """Write what fits; an empty view when done or when no one reads any more."""
    try:
        return data[os.write(descriptor, data[:_READ]) :]
    except BlockingIOError:
        return data
    except OSError:
        return data[:0]


def _state(folder: str) -> tuple[int, ...]:
    """Changes with every entry made or removed in the folder, and with its own mode."""
    try:
        about = os.stat(folder)  # noqa: PTH116
    except OSError:  # a folder above it was closed
        return ()
    return about.st_mode, about.st_size, about.st_nlink, about.st_ctime_ns


def _ended(status: int, verdict: str | None, seconds: float, clean: bool) -> Ended:
    if verdict is not None:
        return Ended(verdict, 0, seconds, False)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Ended("time" if number == signal.SIGXCPU else "signal", number, seconds, False)
    number = os.WEXITSTATUS(status)
    return Ended("memory" if number == program.EXIT_MEMORY else "exit", number, seconds, clean)


def prepare_stack() -> None:
    """Room for deep recursion in C code (a cached recursive function), as contest judges give it."""
    most = resource.getrlimit(resource.RLIMIT_STACK)[1]
    wanted = _STACK_BYTES if most == resource.RLIM_INFINITY else min(_STACK_BYTES, most)
    resource.setrlimit(resource.RLIMIT_STACK, (wanted, most))  # solutions that raise it themselves name the hard limit
