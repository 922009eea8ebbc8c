"""The caller's side: starts the sandbox, hands out cells, and ends all that a job has left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from typing import IO, Any, Literal

from verifiers.base import VerifierError
from verifiers.sandbox import policy
from verifiers.sandbox.inside import wire

_START_LIMIT_S = 60.0
_END_LIMIT_S = 30.0
_MIB = 2**20
_SOLUTIONS_PER_CELL = 200


class SandboxFailedError(VerifierError):
    """The sandbox itself died or stopped answering; says nothing about the code that it ran."""


@cache
def _command(tmp_bytes: int) -> policy.Command:
    """The first way of isolating that works here. Raises ``SandboxUnavailableError`` where none does."""
    reasons = []
    for userns in (False, True) if os.getuid() == 0 else (True,):
        command = policy.confined(userns, tmp_bytes)
        reason = policy.works(command)
        if reason is None:
            return command
        reasons.append(reason)
    raise policy.SandboxUnavailableError(
        f"bubblewrap cannot isolate here ({'; '.join(reasons)}); {policy.INSTALL_HINT}"
    )


def ensure_available(tmp_bytes: int = 64 * _MIB) -> None:
    """Raise ``SandboxUnavailableError`` where this machine cannot isolate."""
    _command(tmp_bytes)


class _Channel:
    """Hanging up ends the process at the other side."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def fileno(self) -> int:
        """For ``select``."""
        return self._channel.fileno()

    def forget(self) -> None:
        """Close this process's copy and no more."""
        self._channel.close()

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._channel.close()


class Cell(_Channel):
    """Channel to the first process of a solution's namespaces.

    ``setup``: limits and modules that it was prepared with, once and for all.
    """

    def __init__(self, channel: socket.socket) -> None:
        super().__init__(channel)
        self.setup: dict[str, Any] | None = None
        self.num_solutions = 0
        self.is_clean = True

    def tell(self, head: dict[str, Any], descriptors: list[int] | None = None) -> None:
        """Ask for something; raises ``wire.WireError`` where the process is gone."""
        self._channel.settimeout(_START_LIMIT_S)
        wire.tell(self._channel, head, descriptors)

    def hear(self, limit_s: float) -> dict[str, Any] | None:
        """Its next answer; None where the process is gone. Raises ``TimeoutError``."""
        self._channel.settimeout(max(limit_s, 0.001))
        with contextlib.suppress(wire.WireError):
            message = wire.hear(self._channel)
            return message.head if message is not None else None
        return None


class TesterChannel(_Channel):
    """Channel to a process that runs a data set's own test code."""

    def send(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Ask for something; raises ``wire.WireError`` where the process is gone."""
        self._channel.settimeout(_START_LIMIT_S)
        wire.send(self._channel, head, body)

    def receive(self, limit_s: float) -> wire.Frame | None:
        """The next answer; None where the process is gone. Raises ``TimeoutError``."""
        self._channel.settimeout(max(limit_s, 0.001))
        with contextlib.suppress(wire.WireError):
            return wire.receive(self._channel)
        return None


class Sandbox:
    """One warm parent process in one sandbox. A job at a time; safe to share between threads.

    Args:
        isolation: ``none`` runs without any isolation, with a warning.
        tmp_mb: room for files per solution, in MiB, half of it in /tmp and half in /dev/shm.
        tester_mb: address space of the process that runs the tests' own code, in MiB.
    """

    def __init__(
        self, isolation: Literal["bubblewrap", "none"] = "bubblewrap", tmp_mb: int = 64, tester_mb: int = 2048
    ) -> None:
        self._isolation = isolation
        self._settings = {"tmp_bytes": tmp_mb * _MIB, "tester_bytes": tester_mb * _MIB, "keep": policy.kept_under_tmp()}
        self._tmp_bytes = tmp_mb * _MIB
        self._lock = threading.RLock()
        _OPEN.add(self)
        self._zygote: _Process | None = None
        self.warm: Cell | None = None
        """A cell of which a solution has left nothing behind, for the next one."""
        self._nests = isolation == "bubblewrap"
        if isolation == "none":
            warnings.warn(
                "sandbox: none - model-written code runs as this user, with access to its files, processes and network",
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            ensure_available(self._tmp_bytes)

    @contextlib.contextmanager
    def job(self) -> Iterator[Job]:
        """Cells for one solution. At the end nothing of it is left: no process, no file.

        Raises:
            SandboxFailedError: the sandbox cannot be started (or died; the next job starts another one).
        """
        with self._lock:
            job = self._begin()
            try:
                yield job
            finally:
                job.end()

    def _begin(self) -> Job:
        if self._nests and self._zygote is None:
            self._zygote = self._start_zygote()
        if self._zygote is not None:
            return _ZygoteJob(self, self._zygote)
        return _ProcessJob(self._launch)

    def _start_zygote(self) -> _Process | None:
        process = self._launch("zygote", [])
        hello = process.answer(_START_LIMIT_S)
        if hello is None:
            message = process.close()
            raise SandboxFailedError(f"the sandbox did not start: {message or 'no answer'}")
        if not hello["cells"]:  # no namespaces within namespaces here: one sandbox per solution instead
            process.close()
            self._nests = False
            return None
        return process

    def _launch(self, mode: str, links: list[socket.socket]) -> _Process:
        confined = self._isolation == "bubblewrap"
        command = _command(self._tmp_bytes) if confined else policy.unconfined()
        settings = {
            **self._settings,
            "confined": confined,
            "userns": command.userns,
            "links": [link.fileno() for link in links],
        }
        return _Process(command, mode, settings, links)

    def drop(self) -> None:
        """End the zygote with all that it has started."""
        if self.warm is not None:
            self.warm.close()
            self.warm = None
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None

    def forget(self) -> None:
        """In a child of the process that it belongs to: leave it alone, and start another one when asked."""
        self._lock = threading.RLock()
        for item in (self.warm, self._zygote):
            if item is not None:
                item.forget()
        self.warm = self._zygote = None

    def close(self) -> None:
        """End the sandbox. Another job starts a new one."""
        with self._lock:
            self.drop()


_OPEN: weakref.WeakSet[Sandbox] = weakref.WeakSet()


def _forget_all() -> None:
    for sandbox in list(_OPEN):
        sandbox.forget()


os.register_at_fork(after_in_child=_forget_all)


class _Process:
    """A server process started by us."""

    def __init__(
        self, command: policy.Command, mode: str, settings: dict[str, Any], links: list[socket.socket]
    ) -> None:
        kind = socket.SOCK_STREAM if mode == "tester" else socket.SOCK_SEQPACKET
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, kind)
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # Without isolation a program's files at least start out in a folder of their own.
        self._folder = None if command.environment == {} else tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        try:
            self._process = subprocess.Popen(
                [*command.arguments, mode, str(theirs.fileno()), json.dumps(settings)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[theirs.fileno(), *(link.fileno() for link in links)],
                env=command.environment,
                cwd=self._folder.name if self._folder else None,
                start_new_session=True,
                **policy.identity(command),
            )
        except OSError as error:
            self.channel.close()
            raise SandboxFailedError(f"the sandbox did not start: {error}") from error
        finally:
            theirs.close()

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of bubblewrap's process outside."""
        return self._process.pid

    def command(self, head: dict[str, Any], sockets: list[socket.socket]) -> bool:
        """Tell the zygote; False where it is gone. Its answers, if any, come in order."""
        try:
            self.channel.settimeout(_END_LIMIT_S)
            wire.tell(self.channel, head, [item.fileno() for item in sockets])
        except wire.WireError:
            return False
        return True

    def answer(self, limit_s: float) -> dict[str, Any] | None:
        """The zygote's next message; None where it is gone or silent for so long."""
        self.channel.settimeout(limit_s)
        try:
            message = wire.hear(self.channel)
        except (wire.WireError, TimeoutError):
            return None
        return message.head if message is not None else None

    def forget(self) -> None:
        """In a child of the process that started it."""
        self.channel.close()
        self._errors.close()
        self._process.returncode = 0  # not ours: no one is to wait for it
        if self._folder is not None:
            self._folder._finalizer.detach()  # type: ignore[attr-defined]

    def was_killed(self) -> bool:
        """Whether it was ended by SIGKILL (bubblewrap tells it by 128 more), which no code inside it asks for."""
        return self._process.wait() in (-signal.SIGKILL, 128 + signal.SIGKILL)

    def close(self) -> str:
        """Kill it and all that it has started; what it wrote to its standard error."""
        with contextlib.suppress(OSError):  # for all who have it: a forked child would keep it open
            self.channel.shutdown(socket.SHUT_RDWR)
        self.channel.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(OSError):
            self._errors.seek(0)
        text = self._errors.read(4000).decode("utf-8", "replace").strip()
        self._errors.close()
        if self._folder is not None:
            self._folder.cleanup()
        return text


class Job:
    """Processes of one solution."""

    def cell(self, setup: dict[str, Any]) -> Cell:
        """A process that will run model-written code in namespaces of its own, prepared with ``setup`` (limits and
        modules). Ends the cell that it gave before.
        """
        raise NotImplementedError

    def tester(self, link: socket.socket) -> TesterChannel:
        """A process that runs a data set's own test code, out of the solution's reach, and asks it over ``link``."""
        raise NotImplementedError

    def tester_was_killed(self) -> bool:
        """Of a tester that is gone: whether it was by SIGKILL, from outside. Ends the job's processes.

        Raises:
            SandboxFailedError: the whole sandbox is gone.
        """
        raise NotImplementedError

    def end(self) -> None:
        """Kill and reap everything of this job."""
        raise NotImplementedError


class _ZygoteJob(Job):
    def __init__(self, sandbox: Sandbox, zygote: _Process) -> None:
        self._sandbox = sandbox
        self._zygote = zygote
        self._cell: Cell | None = None
        self._testers: list[TesterChannel] = []

    def cell(self, setup: dict[str, Any]) -> Cell:
        warm, self._sandbox.warm = self._sandbox.warm, None
        if warm is not None and warm.setup == setup and self._cell is None:
            self._cell = warm
        else:
            if warm is not None or self._cell is not None:
                self._end_all(warm)
            self._cell = Cell(self._start("cell", socket.SOCK_SEQPACKET, None))
            _prepare(self._cell, setup)
        self._cell.num_solutions += 1
        return self._cell

    def tester(self, link: socket.socket) -> TesterChannel:
        self._testers.append(TesterChannel(self._start("tester", socket.SOCK_STREAM, link)))
        return self._testers[-1]

    def _start(self, op: str, kind: socket.SocketKind, link: socket.socket | None) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        with theirs:
            sent = self._zygote.command({"op": op}, [theirs, *([link] if link is not None else [])])
        if not sent:
            ours.close()
            self._sandbox.drop()
            raise SandboxFailedError("the sandbox died")
        return ours

    def tester_was_killed(self) -> bool:
        statuses = self._end_all()
        if statuses is None:
            raise SandboxFailedError("the sandbox died")
        return any(os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL for status in statuses)

    def _end_all(self, *others: Cell | None) -> list[int] | None:
        """Wait statuses of the testers (SIGKILL for one that lived); None where the sandbox is gone."""
        for item in (self._cell, *others, *self._testers):
            if item is not None:
                item.close()
        self._cell = None
        self._testers.clear()
        answer = self._zygote.answer(_END_LIMIT_S) if self._zygote.command({"op": "end"}, []) else None
        if answer is None:
            self._sandbox.drop()
            return None
        statuses: list[int] = answer["testers"]
        return statuses

    def end(self) -> None:
        cell = self._cell
        if cell is not None and cell.is_clean and not self._testers and cell.num_solutions < _SOLUTIONS_PER_CELL:
            self._sandbox.warm = cell
        elif cell is not None or self._testers:
            self._end_all()


class _ProcessJob(Job):
    """A sandbox of its own per process: slower, no less isolated."""

    def __init__(self, launch: Callable[[str, list[socket.socket]], _Process]) -> None:
        self._launch = launch
        self._processes: list[_Process] = []

    def cell(self, setup: dict[str, Any]) -> Cell:
        self.end()
        cell = Cell(self._start("cell", []))
        _prepare(cell, setup)
        return cell

    def tester(self, link: socket.socket) -> TesterChannel:
        return TesterChannel(self._start("tester", [link]))

    def _start(self, kind: str, links: list[socket.socket]) -> socket.socket:
        self._processes.append(self._launch(kind, links))
        return self._processes[-1].channel

    def tester_was_killed(self) -> bool:
        killed = self._processes[-1].was_killed()
        self.end()
        return killed

    def end(self) -> None:
        for process in self._processes:
            process.close()
        self._processes.clear()


def _prepare(cell: Cell, setup: dict[str, Any]) -> None:
    cell.setup = setup
    try:
        cell.tell({"op": "prepare", **setup})
    except wire.WireError as error:
        raise SandboxFailedError(str(error)) from None
