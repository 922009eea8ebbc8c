"""The workspace: content-addressed stage folders, one lock, and atomic writes.

``store/<stage>-<hash>/`` is built beside its final place and moved there when it is complete, ``done.json`` in it:
a folder that has its final name is whole. The hash covers the stage's settings, its version, and the hashes of what it
read, so equal inputs are never worked on twice, and ten variants of a recipe share what they have in common.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from factory.errors import WorkspaceError
from factory.records import content_hash

DONE = "done.json"
COSTS = "costs.json"
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


@dataclass(frozen=True)
class Ledger:
    """What became of a stage's rows: ``rows_in == kept + sum(drops.values())``."""

    rows_in: int
    kept: int
    drops: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Figures about the result that later stages or the report read; no times, they would differ between runs."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """What this one execution spent (tokens drawn, requests reused); kept apart from the result."""

    def __post_init__(self) -> None:
        dropped = sum(self.drops.values())
        if self.rows_in != self.kept + dropped:
            raise AssertionError(f"ledger does not add up: in={self.rows_in} kept={self.kept} dropped={dropped}")

    def line(self) -> str:
        """``in=8000 kept=5210 mismatch=2104 truncated=686``"""
        parts = [f"in={self.rows_in}", f"kept={self.kept}"]
        parts += [f"{reason}={count}" for reason, count in sorted(self.drops.items()) if count]
        return " ".join(parts)


@dataclass(frozen=True)
class Artifact:
    """A finished stage folder."""

    stage: str
    key: str
    path: Path
    ledger: Ledger
    cached: bool
    """Whether it was there before this run."""

    def costs(self) -> dict[str, float]:
        """Seconds and tokens that its making took, on the machine that made it."""
        return dict(json.loads((self.path / COSTS).read_text()))


class Workspace:
    """One folder that one run at a time may write to; use it as a context manager.

    Raises:
        WorkspaceError: when it cannot be created or written, or another run holds it.
    """

    def __init__(self, root: Path, *, readonly: bool = False) -> None:
        self.root = root
        self.store = root / "store"
        self.runs = root / "runs"
        self._readonly = readonly
        self._lock_fd: int | None = None

    def __enter__(self) -> Self:
        if not self._readonly:
            with disk_errors(self.root):
                self.store.mkdir(parents=True, exist_ok=True)
                self.runs.mkdir(exist_ok=True)
                self._take_lock()
                for leftover in self.store.glob(".building-*"):
                    shutil.rmtree(leftover)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _take_lock(self) -> None:
        """An advisory lock on an open file: the kernel gives it back when the process ends, however it ends."""
        fd = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 64).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise WorkspaceError(
                f"{self.root}: another run (process {holder}) is working in this workspace;"
                " wait for it, stop it, or use another --workspace"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        self._lock_fd = fd

    def find(self, stage: str, key: str) -> Artifact | None:
        """The finished folder of a stage, if there is one."""
        path = self.store / f"{stage}-{key}"
        try:
            done = json.loads((path / DONE).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        ledger = Ledger(done["rows_in"], done["kept"], done["drops"], done["facts"])
        return Artifact(stage, key, path, ledger, cached=True)

    def build(self, stage: str, inputs: Any, make: Callable[[Path], Ledger]) -> Artifact:
        """The stage's folder for these inputs, made by ``make(folder)`` if it is not there yet.

        Args:
            stage: lower-case name, part of the folder's name.
            inputs: everything the result depends on, JSON-serialisable: settings, versions, keys of other artifacts.
            make: writes its files into the given empty folder and returns the ledger.
        """
        key = content_hash(stage, inputs, length=12)
        found = self.find(stage, key)
        if found is not None:
            return found
        building = self.store / f".building-{stage}-{key}"
        with disk_errors(self.root):
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            started = time.monotonic()
            ledger = make(building)
            costs = {"seconds": round(time.monotonic() - started, 3), **ledger.costs}
            write_json(building / COSTS, costs)
            done = {"stage": stage, "key": key, "inputs": inputs, "rows_in": ledger.rows_in, "kept": ledger.kept}
            done |= {"drops": dict(ledger.drops), "facts": dict(ledger.facts)}
            write_json(building / DONE, done)
            _sync_tree(building)
            final = self.store / f"{stage}-{key}"
            if final.exists():  # no done marker in it: not ours to trust
                shutil.rmtree(final)
            os.rename(building, final)
            _sync(self.store)
        return Artifact(stage, key, final, ledger, cached=False)


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Full, read-only, and forbidden disks as ``WorkspaceError``; everything else passes."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        number = getattr(error, "errno", None)
        full = number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if number not in _DISK_ERRORS and not full:
            raise
        what = "no space left on the disk" if full else (os.strerror(number) if number else str(error))
        at = getattr(error, "filename", None) or where
        raise WorkspaceError(
            f"{where}: {what} (at {at}); finished stages and stored completions are kept:"
            " make room or fix the rights, then run the same command again, or use another --workspace"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: readers see the old text or the new one, never half."""
    part = path.with_name(f".{path.name}.part")
    with open(part, "w", encoding="utf-8", errors="surrogatepass") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(part, path)


def write_json(path: Path, value: Any) -> None:
    """Sorted, indented JSON, written in one step."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def copy_file(source: Path, target: Path) -> None:
    """Copy in one step; a target with the same bytes is left alone."""
    if target.is_file() and not target.is_symlink() and target.read_bytes() == source.read_bytes():
        return
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    os.replace(part, target)


def link(target: Path, name: Path) -> None:
    """Point the symbolic link ``name`` at ``target`` by a relative path, in one step."""
    relative = os.path.relpath(target, name.parent)
    if name.is_symlink() and os.readlink(name) == relative:
        return
    part = name.with_name(f".{name.name}.part")
    part.unlink(missing_ok=True)
    part.symlink_to(relative)
    os.replace(part, name)


def _sync_tree(folder: Path) -> None:
    for base, _, names in os.walk(folder):
        for name in names:
            _sync(Path(base) / name)
        _sync(Path(base))


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
