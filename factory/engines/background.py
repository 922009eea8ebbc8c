"""A coroutine in a thread of its own, read as an ordinary iterator."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Generic, TypeVar

from factory.errors import EngineError

_STOP_S = 5.0

_T = TypeVar("_T")


class Background(Generic[_T]):
    """A coroutine in a thread of its own whose results are iterated here, in groups of what has arrived.

    Args:
        work: gets a function to hand a result over; the iteration ends when it returns and raises what it raises.
    """

    def __init__(self, work: Callable[[Callable[[_T], None]], Awaitable[None]]) -> None:
        self._work = work
        self._arrived: queue.SimpleQueue[_T | _End] = queue.SimpleQueue()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._stopping = False
        # A daemon: a name look-up that hangs in the system's resolver outlives the cancelled loop.
        self._thread = threading.Thread(target=self._run, name="openai-engine", daemon=True)

    def __iter__(self) -> Iterator[list[_T]]:
        self._thread.start()
        while True:
            group, end = self._take()
            if group:
                yield group
            if end is not None:
                if end.error is not None:
                    raise end.error
                return

    def stop(self, wait_s: float = _STOP_S) -> None:
        """Cancel the coroutine and wait for its thread, ``wait_s`` at most. Safe to call twice."""
        if not self._thread.is_alive():
            return
        self._stopping = True
        self._ready.wait(wait_s)
        if self._loop is not None and self._task is not None:
            try:
                self._loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:
                pass  # the loop has just ended by itself
        self._thread.join(wait_s)

    def _take(self) -> tuple[list[_T], _End | None]:
        group: list[_T] = []
        item = self._arrived.get()
        while not isinstance(item, _End):
            group.append(item)
            try:
                item = self._arrived.get_nowait()
            except queue.Empty:
                return group, None
        return group, item

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            error = EngineError("the engine was closed while completions were outstanding")
        # The boundary of the thread: the error is raised again where the results are read.
        except BaseException as caught:
            error = caught
        self._ready.set()
        self._arrived.put(_End(error))

    async def _main(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._ready.set()
        if not self._stopping:
            await self._work(self._arrived.put)


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error
