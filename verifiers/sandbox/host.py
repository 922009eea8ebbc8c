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
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import IO, Any, Literal

from verifiers.base import VerifierError
from verifiers.sandbox import policy
from verifiers.sandbox.inside import wire

_START_LIMIT_S = 60.0
_END_LIMIT_S = 30.0
_MIB = 2**20
_SOLUTIONS_PER_CELL = 1
"""A first process that served one solution may still have its source in freed memory, which children of it inherit."""


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
    raise policy.SandboxUnavailableError(f"bubblewrap cannot isolate here ({reasons[-1]}); {policy.INSTALL_HINT}")


def ensure_available(tmp_bytes: int = 64 * _MIB) -> None:
    """Raise ``SandboxUnavailableError`` where this machine cannot isolate."""
    _command(tmp_bytes)


class Cell:
    """Channel to one process inside."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self.num_solutions = 0
        self.is_clean = True

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

    def fileno(self) -> int:
        """For ``select``."""
        return self._channel.fileno()

    def close(self) -> None:
        """Hang up: the process inside ends."""
        self._channel.close()


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
        hello = process.line(_START_LIMIT_S)
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

    def close(self) -> None:
        """End the sandbox. Another job starts a new one."""
        with self._lock:
            self.drop()


class _Process:
    """A server process started by us."""

    def __init__(
        self, command: policy.Command, mode: str, settings: dict[str, Any], links: list[socket.socket]
    ) -> None:
        # To the zygote a message per command, so that descriptors stay with theirs.
        kind = socket.SOCK_SEQPACKET if mode == "zygote" else socket.SOCK_STREAM
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
            )
        except OSError as error:
            self.channel.close()
            raise SandboxFailedError(f"the sandbox did not start: {error}") from error
        finally:
            theirs.close()
        self._buffer = b""

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
            descriptors = [item.fileno() for item in sockets]
            socket.send_fds(self.channel, [json.dumps(head).encode()], descriptors)
        except OSError:
            return False
        return True

    def line(self, limit_s: float) -> dict[str, Any] | None:
        """The zygote's next message; None where it is gone or silent for so long."""
        end = time.monotonic() + limit_s
        while b"\n" not in self._buffer:
            self.channel.settimeout(max(0.001, end - time.monotonic()))
            try:
                data = self.channel.recv(1 << 16)
            except OSError:
                return None
            if not data:
                return None
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(text)
        return message

    def close(self) -> str:
        """Kill it and all that it has started; what it wrote to its standard error."""
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
    """Cells of one solution."""

    def cell(self, link: socket.socket | None = None) -> Cell:
        """A process that will run model-written code in namespaces of its own. ``link`` goes to its tester.

        Ends the cell that it gave before.
        """
        raise NotImplementedError

    def tester(self, link: socket.socket) -> Cell:
        """A process that runs a data set's own test code, out of the solution's reach."""
        raise NotImplementedError

    def end(self) -> None:
        """Kill and reap everything of this job."""
        raise NotImplementedError


class _ZygoteJob(Job):
    def __init__(self, sandbox: Sandbox, zygote: _Process) -> None:
        self._sandbox = sandbox
        self._zygote = zygote
        self._cells: list[Cell] = []
        self._must_end = False

    def cell(self, link: socket.socket | None = None) -> Cell:
        warm, self._sandbox.warm = self._sandbox.warm, None
        if warm is not None and link is None and not self._cells:
            self._cells.append(warm)
        else:
            if warm is not None or self._cells:
                self._end_all()
            self._cells.append(self._start("cell", link))
        self._cells[-1].num_solutions += 1
        return self._cells[-1]

    def tester(self, link: socket.socket) -> Cell:
        self._must_end = True
        self._cells.append(self._start("tester", link))
        return self._cells[-1]

    def _start(self, kind: str, link: socket.socket | None) -> Cell:
        ours, theirs = socket.socketpair()
        try:
            sent = self._zygote.command({"op": kind}, [theirs] + ([link] if link else []))
        finally:
            theirs.close()
            if link is not None:
                link.close()
        if not sent:
            ours.close()
            self._sandbox.drop()
            raise SandboxFailedError("the sandbox died")
        return Cell(ours)

    def _end_all(self) -> None:
        for cell in self._cells:
            cell.close()
        self._cells.clear()
        self._must_end = False
        if not (self._zygote.command({"op": "end"}, []) and self._zygote.line(_END_LIMIT_S)):
            self._sandbox.drop()

    def end(self) -> None:
        cell = self._cells[0] if len(self._cells) == 1 else None
        if cell is not None and cell.is_clean and not self._must_end and cell.num_solutions < _SOLUTIONS_PER_CELL:
            self._sandbox.warm = cell
        elif self._cells or self._must_end:
            self._end_all()


class _ProcessJob(Job):
    """A sandbox of its own per process: slower, no less isolated."""

    def __init__(self, launch: Callable[[str, list[socket.socket]], _Process]) -> None:
        self._launch = launch
        self._processes: list[_Process] = []

    def cell(self, link: socket.socket | None = None) -> Cell:
        self.end()
        return self._start("cell", link)

    def tester(self, link: socket.socket) -> Cell:
        return self._start("tester", link)

    def _start(self, kind: str, link: socket.socket | None) -> Cell:
        try:
            process = self._launch(kind, [link] if link else [])
        finally:
            if link is not None:
                link.close()
        self._processes.append(process)
        return Cell(process.channel)

    def end(self) -> None:
        for process in self._processes:
            process.close()
        self._processes.clear()
