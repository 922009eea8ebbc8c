"""Verification in worker processes with a hard limit of time and memory per row.

One thread drives one worker over a pipe of its own: it sends a row and waits for the verdict; a worker that takes
longer than ``time_limit_s`` is killed. A row costs a worker some 20 milliseconds (sympy) and its trip through the pipe
about a tenth of one, so rows are not batched: every limit is per row by construction, and a death touches one row only.
Rows that the verifier settles in provably bounded time (``Verifier.settle``) never reach a worker; a pool of such rows
starts none.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import NamedTuple, Self

from verifiers import build_verifier
from verifiers.base import VerifierError, VerifyTask, error_verdict
from verifiers.config import VerifyConfig
from verifiers.verdict import Outcome, Verdict
from verifiers.worker import Worker, WorkerDiedError, WorkerTimedOutError

__all__ = ["VerifierPool", "VerifyTask"]

logger = logging.getLogger(__name__)

_WINDOW_PER_WORKER = 32
_ROWS_PER_WORKER = 1000
_ATTEMPTS = 2
_HIRINGS = 4
_PAUSE_S = 0.5


class _Job(NamedTuple):
    task: VerifyTask
    future: Future[Verdict]


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class VerifierPool:
    """Verdicts from worker processes; use it as a context manager. All methods may be called from any thread.

    Workers start with the first row that needs one and end with the pool, with this process, or with their row's limit.
    A worker takes about half a second to start and 100 MB of memory, sympy's.
    """

    def __init__(self, config: VerifyConfig) -> None:
        self._config = config
        self._verifier = build_verifier(config)
        self.num_workers = config.num_workers or _num_cores()
        """Most processes at a time."""
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._workers: set[Worker] = set()
        self._unsettled = 0
        self._closed = False
        self._cancelled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=kind is not None)

    def verify_all(self, tasks: Iterable[VerifyTask]) -> Iterator[tuple[VerifyTask, Verdict]]:
        """Verdicts in the order of the tasks, as they come; only a bounded number of tasks is read ahead."""
        window = _WINDOW_PER_WORKER * self.num_workers
        pending: deque[_Job] = deque()
        try:
            for task in tasks:
                pending.append(_Job(task, self.submit(task)))
                while pending and (pending[0].future.done() or len(pending) >= window):
                    job = pending.popleft()
                    yield job.task, job.future.result()
            while pending:
                job = pending.popleft()
                yield job.task, job.future.result()
        finally:
            for job in pending:
                job.future.cancel()

    def submit(self, task: VerifyTask) -> Future[Verdict]:
        """A future of the verdict, already done when the row needs no worker."""
        if self._closed:
            raise RuntimeError("the VerifierPool is closed; submit inside its `with` block")
        future: Future[Verdict] = Future()
        verdict = self._verifier.settle(task)
        if verdict is not None:
            future.set_result(verdict)
            return future
        with self._lock:
            if self._closed:
                raise RuntimeError("the VerifierPool is closed; submit inside its `with` block")
            self._unsettled += 1
            self._jobs.put(_Job(task, future))
            if len(self._threads) < min(self.num_workers, self._unsettled):
                self._start_thread()
        return future

    def close(self, cancel: bool = False) -> None:
        """End all workers: after the submitted rows are done, or at once with ``cancel``. Safe to call twice."""
        with self._lock:
            self._closed = True
            self._cancelled = self._cancelled or cancel
            threads = list(self._threads)
            workers = list(self._workers) if self._cancelled else []
            for _ in threads:
                self._jobs.put(None)
        for worker in workers:
            worker.kill()
        try:
            for thread in threads:
                thread.join()
        except BaseException:  # Ctrl-C while waiting: stop waiting for rows, but leave no process behind
            self._cancelled = True
            for worker in list(self._workers):
                worker.kill()
            raise

    def _start_thread(self) -> None:
        name = f"verifier-pool-{len(self._threads)}"
        thread = threading.Thread(target=self._drive, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _drive(self) -> None:
        """Body of one thread: take a job, have the worker do it, replace the worker when it is spent."""
        worker: Worker | None = None
        while (job := self._jobs.get()) is not None:
            if self._cancelled or not job.future.set_running_or_notify_cancel():
                job.future.cancel()
                continue
            try:
                verdict, worker = self._run(job.task, worker)
            except Exception as error:  # a worker that cannot be started must not leave a future waiting for ever
                job.future.set_exception(error)
                worker = None
            else:
                job.future.set_result(verdict)
        self._retire(worker)

    def _run(self, task: VerifyTask, worker: Worker | None) -> tuple[Verdict, Worker | None]:
        """The verdict of one row and the worker for the next one."""
        for _ in range(_ATTEMPTS):
            worker = worker or self._hire()
            started = time.monotonic()
            try:
                verdict = worker.ask(task, self._verifier.wall_limit_s(task))
            except WorkerTimedOutError:
                self._retire(worker)
                return error_verdict(self._verifier, "timeout", time.monotonic() - started), None
            except WorkerDiedError as death:
                self._retire(worker)
                worker = None
                if self._cancelled:  # we killed it ourselves: that says nothing about the row
                    raise CancelledError from None
                logger.warning("verifier worker died on row %r: %s", task.id, death)
                continue
            if verdict.outcome is Outcome.ERROR or worker.num_rows >= _ROWS_PER_WORKER:
                self._retire(worker)
                worker = None
            return verdict, worker
        return error_verdict(self._verifier, "worker_died"), None

    def _hire(self, attempts: int = _HIRINGS) -> Worker:
        worker = Worker(self._config)
        with self._lock:
            if self._cancelled:
                raise CancelledError
            self._workers.add(worker)
        try:
            worker.start()
        except VerifierError:
            self._retire(worker)
            if self._cancelled:
                raise CancelledError from None
            if attempts > 1:  # the machine may have been short of memory just then
                time.sleep(_PAUSE_S * (_HIRINGS - attempts))
                return self._hire(attempts - 1)
            raise
        return worker

    def _retire(self, worker: Worker | None) -> None:
        if worker is not None:
            worker.close()
            with self._lock:
                self._workers.discard(worker)
