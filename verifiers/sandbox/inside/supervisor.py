"""First process of a solution's own namespaces: sets limits, forks a process per test, watches it, kills what is left.

Neither code nor data of a solution is ever in its memory, for what was freed there could be found by a later one:
program, input and output go through descriptors that only the host and the test's own process read.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import select
import signal
import socket
import time
import types
from typing import NamedTuple

from verifiers.sandbox.inside import kernel, program, wire

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_TICK_S = 0.03
_WALL_FACTOR = 3
_OTHER = 3
"""The descriptor beside the standard streams that a child may have."""
_STACK_BYTES = 512 * 2**20


class Limits(NamedTuple):
    """Limits of one test (time) and of one solution (the rest)."""

    time_s: float
    memory_bytes: int
    address_bytes: int
    processes: int
    files: int
    file_bytes: int


class Ended(NamedTuple):
    """How a process ended."""

    status: str
    """``exit``, ``signal``, ``time``, ``memory``, ``processes`` or ``stopped`` (by the host)."""
    number: int
    """Exit status or signal."""
    seconds: float
    clean: bool
    """Nothing of it is left: it ended by itself, alone, and without files. Else these namespaces are not used again."""


class Supervisor:
    """Serves solutions over ``channel``, one after the other.

    ``confined``: this process is the first one of a pid namespace of its own. ``folders``: where a solution can write.
    """

    def __init__(self, channel: socket.socket, prepared: types.ModuleType, confined: bool, folders: list[str]) -> None:
        self._channel = channel
        self._prepared = prepared
        self._confined = confined
        self._limits: Limits | None = None
        self._base_pages = _resident_pages(os.getpid())  # before a solution has a say in it
        self._folders = folders
        self._states = self._look()

    def _look(self) -> list[tuple[int, ...]]:
        return [_state(folder) for folder in self._folders]

    def run(self) -> None:
        """Answer the host's requests until it hangs up."""
        while (message := wire.hear(self._channel)) is not None:
            if message.head["op"] == "prepare":
                self._prepare(Limits(*message.head["limits"]), message.head["preload"])
            elif message.head["op"] == "run":
                ended = self._test(message.head["how"], message.head["cpu_s"], message.descriptors)
                wire.tell(self._channel, ended._asdict())
            # "mark" and "stop": for a process that has ended meanwhile

    def _prepare(self, limits: Limits, preload: list[str]) -> None:
        for name in preload:
            with contextlib.suppress(ImportError):
                __import__(name)
        if preload:
            gc.freeze()
            self._base_pages = _resident_pages(os.getpid())
        self._limits = limits
        self._set_limits(limits)

    def _set_limits(self, limits: Limits) -> None:
        """Our own, for the children to inherit. That of processor time is theirs only: we live longer."""
        for kind, value in (
            (resource.RLIMIT_AS, limits.address_bytes),
            (resource.RLIMIT_NOFILE, limits.files),
            (resource.RLIMIT_FSIZE, limits.file_bytes),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
            (resource.RLIMIT_RTPRIO, 0),
            (resource.RLIMIT_SIGPENDING, 256),
        ):
            program.clamp(kind, value, value)
        if self._confined:  # counted per user namespace; outside of one it would count the user's other processes
            program.clamp(resource.RLIMIT_NPROC, limits.processes, limits.processes)

    def _test(self, how: str, cpu_s: float, descriptors: list[int]) -> Ended:
        """Run one process, of at most ``cpu_s`` seconds of processor time.

        ``descriptors``: program, its compiled form, standard error, input (or the link to a tester), output.
        """
        assert self._limits is not None
        child = kernel.fork()
        if child == 0:
            program.guarded(lambda: self._become(how, cpu_s, descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
        return self._watch(child, self._limits)

    def _become(self, how: str, cpu_s: float, descriptors: list[int]) -> None:
        """In the child: only what it needs stays open once the program is read; the last limits are set."""
        assert self._limits is not None
        source, compiled, stderr, given, out = descriptors
        os.setsid()  # also a scheduling group of its own
        kernel.set_dumpable(True)  # as any program is; we read how much of its memory is shared
        program.clamp(resource.RLIMIT_CPU, int(cpu_s) + 2, int(cpu_s) + 3)
        if how == "script":
            program.rewire(given, out, stderr)
        else:
            nothing = os.open(os.devnull, os.O_RDWR)
            program.rewire(nothing, nothing, stderr)
        code = program.load(source, compiled)
        calls = program.read_calls(given) if how == "calls" else None
        if how != "script":
            os.dup2(given if how == "serve" else out, _OTHER)
        os.closerange(_OTHER if how == "script" else _OTHER + 1, self._limits.files)
        if how == "script":
            program.run_script(code, self._prepared)
        elif calls is not None:
            program.run_calls(code, self._prepared, calls, _OTHER)
        else:
            program.run_server(code, self._prepared, socket.socket(fileno=_OTHER))

    def _watch(self, child: int, limits: Limits) -> Ended:
        """Until the child ends by itself or by a limit; then nothing that it has started is left.

        The clock begins anew with each ``mark`` of the host's.
        """
        watch = _Watch(child, limits, self._base_pages, self._confined)
        poller = select.poll()
        handle = os.pidfd_open(child)
        poller.register(handle, select.POLLIN)
        poller.register(self._channel.fileno(), select.POLLIN)
        verdict: str | None = None
        running = True
        while running and verdict is None:
            for descriptor, _ in poller.poll(_TICK_S * 1000):
                if descriptor == handle:
                    running = False
                else:
                    verdict = self._message(watch)
            if running and verdict is None:
                verdict = watch.exceeded()
        os.close(handle)
        if verdict is None and watch.is_over_time():
            verdict = "time"
        seconds = watch.seconds()
        status, alone = self._end(child)
        clean = alone and verdict is None and self._states == self._look()
        return _ended(status, verdict, seconds, clean)

    def _message(self, watch: _Watch) -> str | None:
        message = wire.hear(self._channel)
        if message is None or message.head["op"] != "mark":
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
        self._waited_before = self._cpu_before = 0.0

    def restart(self) -> None:
        """A new test begins in the same process."""
        self._begin = time.monotonic()
        self._waited_before = _run_queue_s(self._child)
        self._cpu_before = self._cpu_s()

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
        the solution. Sleeping counts, and so does the work of its other processes. By the plain clock no test takes
        more than three times its limit.
        """
        wall, limit = self.seconds(), self._limits.time_s
        if wall <= limit:
            return False
        fair = wall - (_run_queue_s(self._child) - self._waited_before)
        return fair > limit or wall > _WALL_FACTOR * limit + 1 or self._cpu_s() - self._cpu_before > limit

    def _cpu_s(self) -> float:
        """Processor time of the solution's processes so far."""
        return sum(map(_processor_s, self._members()))

    def _members(self) -> list[int]:
        """Pids of the solution's processes, as far as they can be told."""
        if not self._confined:
            return [self._child]
        me = os.getpid()
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != me]  # noqa: PTH208

    def _family(self) -> tuple[int, int]:
        """Pages of memory, and the number, of the solution's processes. What they share counts once."""
        members = self._members()
        if not self._confined:
            return max(0, _resident_pages(self._child) - self._base_pages), 1
        pages = sum(map(_resident_pages, members))
        if pages * _PAGE > self._limits.memory_bytes:  # at most so many: now it is worth while to look closely
            pages = sum(map(_own_pages, members))
        return pages, len(members)


def _own_pages(pid: int) -> int:
    """Resident pages, those that n processes share by the n-th part; all of them where the process hides that."""
    try:
        descriptor = os.open(f"/proc/{pid}/smaps_rollup", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return _resident_pages(pid)
    try:
        fields = os.read(descriptor, 4096).split()
        return int(fields[fields.index(b"Pss:") + 1]) * 1024 // _PAGE
    except (OSError, ValueError):
        return _resident_pages(pid)
    finally:
        os.close(descriptor)


def _processor_s(pid: int) -> float:
    """Of a process with its threads, and of the children that it has waited for."""
    fields = _read_fields(f"/proc/{pid}/stat", 1024)
    after_name = fields[-50:]  # a name may hold blanks; what follows it has always 50 fields
    return sum(map(int, after_name[11:15])) / _TICKS_PER_S if len(fields) >= 52 else 0.0


def _resident_pages(pid: int) -> int:
    fields = _read_fields(f"/proc/{pid}/statm")
    return int(fields[1]) if len(fields) > 1 else 0


def _run_queue_s(pid: int) -> float:
    """Seconds that the main thread was ready to run and had no core; 0 where the kernel does not say."""
    fields = _read_fields(f"/proc/{pid}/schedstat")
    return int(fields[1]) / 1e9 if len(fields) > 1 else 0.0


def _read_fields(path: str, size: int = 256) -> list[bytes]:
    """Of a short file of the kernel's; none where it is gone. Without a file object, which costs more than the rest."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return os.read(descriptor, size).split()
    except OSError:  # the process ended meanwhile
        return []
    finally:
        os.close(descriptor)


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
    return Ended("exit", os.WEXITSTATUS(status), seconds, clean)


def prepare_stack() -> None:
    """Room for deep recursion in C code (a cached recursive function), as contest judges give it."""
    most = resource.getrlimit(resource.RLIMIT_STACK)[1]
    wanted = _STACK_BYTES if most == resource.RLIM_INFINITY else min(_STACK_BYTES, most)
    resource.setrlimit(resource.RLIMIT_STACK, (wanted, most))  # solutions that raise it themselves name the hard limit
