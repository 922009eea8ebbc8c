"""One verifier process: its parent side (``Worker``) and its body.

The process is a fresh interpreter and not a ``multiprocessing`` child: such a child imports the caller's ``__main__``
again, which costs seconds where that imports torch, and ends the child where it has no ``__name__`` guard.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from verifiers.base import Verifier, VerifierError, VerifyTask
from verifiers.config import VerifyConfig
from verifiers.verdict import Verdict

_SECRET_NAME = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)
_MEMORY_BYTES = 4 * 2**30
_START_LIMIT_S = 120.0
_READY = "ready"
_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from verifiers.worker import serve
serve(int(sys.argv[2]))
"""


class WorkerTimedOutError(Exception):
    """No verdict within the time limit."""


class WorkerDiedError(Exception):
    """The process ended before it answered."""


class WorkerStartError(VerifierError):
    """The process cannot be started at all, whatever the row."""


def _without_secrets() -> dict[str, str]:
    """The environment for a process that reads hostile text: it needs no one's keys."""
    return {k: v for k, v in os.environ.items() if not _SECRET_NAME.search(k)}


class Worker:
    """Parent side of one process. ``kill`` may be called from any thread, everything else from the owner's."""

    def __init__(self, config: VerifyConfig) -> None:
        self._config = config
        self._connection, self._theirs = Pipe()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._killed = False
        self.num_rows = 0

    def start(self) -> None:
        """Start and wait until everything is imported, so that no row's time limit pays for it.

        Raises:
            WorkerStartError: the interpreter or an import failed, or it was killed meanwhile.
        """
        with self._lock:
            if self._killed:
                raise WorkerStartError("cancelled before its start")
            self._process = self._spawn()
        self._theirs.close()
        try:
            self._connection.send(self._config)
            answer = self._receive(_START_LIMIT_S)
        except (OSError, WorkerDiedError, WorkerTimedOutError) as error:
            raise WorkerStartError(f"no verifier process could be started: {error or type(error).__name__}") from error
        if answer != _READY:
            raise WorkerStartError(f"no verifier process could be started: {answer}")

    def _spawn(self) -> subprocess.Popen[bytes]:
        file = self._theirs.fileno()
        try:
            return subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, json.dumps(sys.path), str(file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[file],
                env={**_without_secrets(), "PYTHONHASHSEED": "0"},  # sympy's choices follow the order of its sets
                process_group=0,  # Ctrl-C is for the parent, which decides
            )
        except OSError as error:
            raise WorkerStartError(f"no verifier process could be started: {error}") from error

    def ask(self, task: VerifyTask, wall_limit_s: float) -> Verdict:
        """The verdict on one row, in so many seconds by the clock (and ``cpu_limit_s`` of its processor time).

        Raises ``WorkerTimedOutError`` or ``WorkerDiedError``; close the worker then.
        """
        self.num_rows += 1
        try:
            self._connection.send(task)
        except OSError as error:
            raise WorkerDiedError(f"{type(error).__name__} on sending") from error
        answer = self._receive(wall_limit_s)
        if not isinstance(answer, Verdict):
            raise WorkerDiedError(f"it sent {type(answer).__name__}")
        return answer

    def _receive(self, limit_s: float) -> object:
        try:
            if not self._connection.poll(limit_s):
                raise WorkerTimedOutError
            return self._connection.recv()
        except (EOFError, OSError) as error:
            code = self._exit_code()
            if code == -signal.SIGXCPU:
                raise WorkerTimedOutError from error
            raise WorkerDiedError(f"exit code {code}") from error

    def _exit_code(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(1.0) if self._process else None
        return None

    def kill(self) -> None:
        """End the process at once and reap it; the owner's call that waits for it raises ``WorkerDiedError``."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def close(self) -> None:
        """``kill``, and give back the file descriptors."""
        self.kill()
        self._connection.close()
        self._theirs.close()


def serve(file: int) -> None:
    """Body of the process: verdicts until the parent hangs up (a row under way then still has its time limit)."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _limit(resource.RLIMIT_AS, _MEMORY_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    from verifiers import build_verifier

    with contextlib.suppress(EOFError, OSError), Connection(file) as connection:
        config: VerifyConfig = connection.recv()
        try:
            verifier = build_verifier(config)
            for name in verifier.PRELOAD:
                import_module(name)
        except ImportError as error:
            connection.send(f"{type(error).__name__}: {error}")
            return
        connection.send(_READY)
        with contextlib.closing(verifier):
            _answer(connection, verifier)


def _answer(connection: Connection, verifier: Verifier) -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            task: VerifyTask = connection.recv()
            # The kernel ends us at the limit, in C code too. Of processor time, not of the clock: a verdict must not
            # depend on what else the machine is doing.
            _limit_soft_cpu(time.process_time() + verifier.cpu_limit_s(task))
            connection.send(verifier.verify(task))


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS has no limit on address space
        resource.setrlimit(kind, (value, value))


def _limit_soft_cpu(seconds: float) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    value = math.ceil(seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
