"""One verifier process: its parent side (``Worker``) and its body."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import threading
import time
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess

from verifiers.base import VerifyTask
from verifiers.config import VerifyConfig
from verifiers.verdict import Verdict

_MEMORY_BYTES = 4 * 2**30
_START_LIMIT_S = 120.0
_READY = "ready"


class WorkerTimedOut(Exception):
    """No verdict within the time limit."""


class WorkerDied(Exception):
    """The process ended before it answered."""


class Worker:
    """Parent side of one process. ``kill`` may be called from any thread, everything else from the owner's."""

    def __init__(self, context: ForkServerContext, config: VerifyConfig) -> None:
        self._connection, self._theirs = context.Pipe()
        self._process: ForkServerProcess = context.Process(
            target=serve, args=(self._theirs, config), name="verifier-worker", daemon=True
        )
        self._lock = threading.Lock()
        self._killed = False
        self.num_rows = 0

    def start(self) -> None:
        """Start and wait until everything is imported, so that no row's time limit pays for it."""
        with self._lock:
            if self._killed:
                raise WorkerDied("cancelled before its start")
            self._process.start()
        self._theirs.close()
        if self._receive(_START_LIMIT_S) != _READY:
            raise WorkerDied("it did not start up")

    def ask(self, task: VerifyTask, limit_s: float) -> Verdict:
        """The verdict on one row. Raises ``WorkerTimedOut`` or ``WorkerDied``; kill the worker then."""
        self.num_rows += 1
        try:
            self._connection.send(task)
        except OSError as error:
            raise WorkerDied(f"{type(error).__name__} on sending") from error
        answer = self._receive(limit_s)
        if not isinstance(answer, Verdict):
            raise WorkerDied(f"it sent {type(answer).__name__}")
        return answer

    def _receive(self, limit_s: float) -> object:
        try:
            if not self._connection.poll(limit_s):
                raise WorkerTimedOut
            return self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(1.0)
            raise WorkerDied(f"exit code {self._process.exitcode}") from error

    def kill(self) -> None:
        """End the process at once and reap it."""
        with self._lock:
            if self._killed:
                return
            self._killed = True
            if self._process.pid is not None:
                self._process.kill()
                self._process.join()


def serve(connection: Connection, config: VerifyConfig) -> None:
    """Body of the process: verdicts until the parent hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _exit_with_parent()
    _limit(resource.RLIMIT_AS, _MEMORY_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    from verifiers import build_verifier

    verifier = build_verifier(config)
    for name in verifier.PRELOAD:
        with contextlib.suppress(ImportError):  # the checker meets the same error and says so, row by row
            import_module(name)
    connection.send(_READY)
    with contextlib.suppress(EOFError, OSError):
        while True:
            task: VerifyTask = connection.recv()
            # Backstop for a worker whose parent is gone while it hangs in C code that never lets a thread run.
            _limit_soft_cpu(time.process_time() + 2 * config.time_limit_s + 30)
            connection.send(verifier.verify(task.response, task.gold, task.finish_reason))


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _limit_soft_cpu(seconds: float) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    value = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
