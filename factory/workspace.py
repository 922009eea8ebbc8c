"""The workspace on disk: one lock, content-addressed stage folders written whole or not at all, one rollout store.

Layout::

    DIR/rollouts.sqlite               every completion ever drawn
    DIR/store/<stage>-<hash>/         one stage's output; DONE is written last, then the folder gets its name
    DIR/runs/<recipe name>/           what a run is about: recipe, manifest, events, published results, report
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from factory.errors import StageError, WorkspaceError
from factory.records import content_hash

DONE = "DONE"
LEDGER = "ledger.json"
_PARTIAL = ".partial-"
_LINK_ABOVE_BYTES = 2**30
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass
class Ledger:
    """How many rows came in and where they went; ``check`` makes sure that the parts add up."""

    stage: str
    rows_in: int
    kept: int
    drops: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    """Figures worth telling: tokens, seconds of compute, money."""
    seconds: float = 0.0

    def check(self) -> Ledger:
        """Raises ``StageError`` when rows were lost without a reason (a defect of ours)."""
        if self.rows_in != self.kept + sum(self.drops.values()):
            raise StageError(f"stage {self.stage}: the ledger does not add up: {asdict(self)}")
        return self

    def line(self) -> str:
        """One line for people."""
        drops = " ".join(f"{reason}={count}" for reason, count in sorted(self.drops.items()) if count)
        text = f"{self.stage:<18} in={self.rows_in} kept={self.kept}"
        return f"{text} dropped {{{drops}}}" if drops else text


@dataclass(frozen=True)
class Artifact:
    """A finished stage's folder."""

    key: str
    path: Path
    ledger: Ledger

    @property
    def id(self) -> str:
        """Identity for the stages that read it: it stands for everything that the folder depends on."""
        return self.path.name


class Workspace:
    """A workspace that this process owns while it is open; use it as a context manager.

    Raises:
        WorkspaceError: when another run holds the lock, or the folder cannot be written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.store = self.root / "store"
        self._lock: int | None = None

    def __enter__(self) -> Self:
        with disk_errors(self.root):
            self.store.mkdir(parents=True, exist_ok=True)
            (self.root / "runs").mkdir(exist_ok=True)
            self._take_lock()
            for left in self.store.glob(f"{_PARTIAL}*"):  # a killed run's unfinished stages; nobody else is here
                shutil.rmtree(left, ignore_errors=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.read(handle, 100).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise WorkspaceError(
                f"{self.root}: another run (process {other}) is using this workspace; wait for it, stop it,"
                " or give this run its own --workspace"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._lock = handle

    def locate(self, key: str, version: int, inputs: dict[str, Any]) -> Path:
        """The folder of a stage with these inputs, whether it is there or not."""
        digest = content_hash(key, version, inputs, length=12)
        return self.store / f"{key.replace('/', '-')}-{digest}"

    def finished(self, key: str, path: Path) -> Artifact | None:
        """The artifact if the folder is complete."""
        if not (path / DONE).is_file():
            return None
        return Artifact(key, path, read_ledger(path))

    def holds(self, place: str) -> bool:
        """Whether ``store/<name>`` is a finished stage's folder."""
        return (self.root / place / DONE).is_file()

    def build(self, key: str, path: Path, fill: Callable[[Path], Ledger]) -> Artifact:
        """Have ``fill`` write the stage's files into a folder that appears under its name only when it is complete.

        Raises:
            WorkspaceError: when the disk is full or not writable; nothing half-written stays.
        """
        partial = path.with_name(_PARTIAL + path.name)
        started = time.monotonic()
        try:
            with disk_errors(path):
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                ledger = fill(partial).check()
                ledger.seconds = round(time.monotonic() - started, 2)
                write_json(partial / LEDGER, asdict(ledger))
                (partial / DONE).write_text(key + "\n")
                _sync_tree(partial)
                shutil.rmtree(path, ignore_errors=True)  # a folder without DONE cannot be ours; never keep it
                partial.rename(path)
                _sync(path.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return Artifact(key, path, ledger)


def read_ledger(path: Path) -> Ledger:
    """The ledger of a finished stage folder."""
    return Ledger(**json.loads((path / LEDGER).read_text()))


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what a disk says into a message that says what to do."""
    try:
        yield
    except OSError as error:
        place = error.filename2 or error.filename or path  # the second one is where a copy was to go
        if error.errno in _NO_SPACE:
            raise WorkspaceError(
                f"{place}: no space left on the disk; everything finished so far is kept:"
                " make room (`factory clean` removes stages that no run uses) and run again"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise WorkspaceError(
                f"{place}: cannot be used ({os.strerror(error.errno)}); look at the rights of this file or folder,"
                " or give a writable folder with --workspace"
            ) from error
        raise


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that readers see the old file or the new one, never a part."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, sort_keys=False) + "\n")


def write_text_if_changed(path: Path, text: str) -> None:
    """Leave the file alone when it says this already."""
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Replace a file atomically."""
    partial = path.with_name(f".{path.name}.partial")
    with _removed_on_error(partial):
        with open(partial, "w", encoding="utf-8", errors="replace") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)


@contextmanager
def _removed_on_error(partial: Path) -> Iterator[None]:
    """What could not be completed must not go on filling the disk."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            remove(partial)
        raise


def publish(source: Path, target: Path) -> None:
    """Make ``target`` a copy of ``source`` (file or folder); very large files become hard links of the stage's own."""
    partial = target.with_name(f".{target.name}.partial")
    old = target.with_name(f".{target.name}.old")
    for left in (partial, old):
        remove(left)
    with _removed_on_error(partial):
        _copy(source, partial)
    if source.is_file() and not target.is_dir():
        partial.replace(target)  # a reader finds the old file or the new one at every moment
        return
    if target.exists():
        target.rename(old)
    partial.rename(target)
    remove(old)


def _copy(source: Path, target: Path) -> None:
    """Unlike ``shutil.copytree``, raises the ``OSError`` itself: its number says whether the disk is full."""
    if not source.is_dir():
        _link_or_copy(source, target)
        return
    target.mkdir()
    for path in sorted(source.iterdir()):
        _copy(path, target / path.name)


def _link_or_copy(source: Path, target: Path) -> None:
    if source.stat().st_size > _LINK_ABOVE_BYTES:
        with contextlib.suppress(OSError):  # not every file system has hard links
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def remove(path: Path) -> None:
    """Delete a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems refuse fsync on folders
            os.fsync(handle)
    finally:
        os.close(handle)
