"""Progress of long work: bars on a terminal, plain lines otherwise. Nothing here changes a result."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

_SECONDS_BETWEEN_LINES = 5.0


class Task(Protocol):
    """One piece of work being counted."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """``count`` more units are done."""
        ...


class Progress:
    """Where a run reports to; use it as a context manager."""

    def __init__(self, *, quiet: bool = False, plain: bool | None = None) -> None:
        self._quiet = quiet
        self._plain = (not sys.stderr.isatty()) if plain is None else plain
        self._bars: Any = None

    def __enter__(self) -> Self:
        if not self._plain and not self._quiet:
            self._bars = _rich_bars()
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def line(self, text: str) -> None:
        """One line that stays."""
        if self._quiet:
            return
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        """Count a piece of work of ``total`` units."""
        if self._bars is not None:
            task_id = self._bars.add_task(name, total=total, note="")
            try:
                yield _Bar(self._bars, task_id)
            finally:
                self._bars.remove_task(task_id)
        else:
            yield _Lines(self, name, total)


def _rich_bars() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
    )


class _Bar:
    def __init__(self, bars: Any, task_id: Any) -> None:
        self._bars, self._id = bars, task_id

    def advance(self, count: int = 1, note: str = "") -> None:
        self._bars.update(self._id, advance=count, note=note)


class _Lines:
    def __init__(self, progress: Progress, name: str, total: int) -> None:
        self._progress, self._name, self._total = progress, name, total
        self._done = 0
        self._started = self._last = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done += count
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES or self._done >= self._total:
            return
        self._last = now
        rate = self._done / max(now - self._started, 1e-9)
        left = (self._total - self._done) / rate if rate else 0
        self._progress.line(
            f"  {self._name}: {self._done}/{self._total}, {rate:.1f}/s, about {left:.0f}s left {note}".rstrip()
        )
