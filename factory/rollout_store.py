"""Completions on disk: one SQLite file per workspace, in WAL mode, written the moment completions arrive.

A completion that ended by itself is stored without its token limit, so raising ``max_tokens`` asks again only for the
rows that were cut off. Failures of the infrastructure are never stored: they are asked again by the next run.

``synchronous=NORMAL``: a killed process loses nothing that was committed; a power cut may lose the last transactions,
never the file. Two processes may write one store at a time (each waits for the other's transaction).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from factory.engines.base import Completion, FinishReason, Request
from factory.errors import WorkspaceError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS completions (
    key TEXT NOT NULL,
    cap INTEGER NOT NULL,
    model TEXT NOT NULL,
    prompt TEXT NOT NULL,
    text TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    num_prompt_tokens INTEGER NOT NULL,
    num_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (key, cap)
);
CREATE TABLE IF NOT EXISTS fingerprints (
    path TEXT NOT NULL PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest TEXT NOT NULL
);
"""
_VERSION = 1
_COLUMNS = "key, cap, text, finish_reason, num_prompt_tokens, num_tokens, seconds"
_LOOKUP_CHUNK = 500
_BUSY_S = 60.0


class RolloutStore:
    """The workspace's completions; use it as a context manager.

    Raises:
        WorkspaceError: when the file cannot be opened or written (read-only, disk full, made by another version).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._errors():
            self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        try:
            with self._errors():
                self._prepare_with_patience()
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._db.close()

    def _prepare_with_patience(self) -> None:
        """SQLite does not wait while another process switches a new file to WAL: it says "locked" at once."""
        give_up = time.monotonic() + _BUSY_S
        while True:
            try:
                return self._prepare()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > give_up:
                    raise
                time.sleep(0.02)

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise WorkspaceError(
                f"{self._path}: written by another version of factory (format {version}, this one reads {_VERSION});"
                " use another --workspace"
            )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")  # with WAL: a killed process loses nothing that was committed
        if version == 0:
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version={_VERSION}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise WorkspaceError(
                f"{self._path}: {error}; the rollout store needs a writable disk with free space."
                " Nothing that was stored is lost: make room or fix the rights, and run again"
            ) from error
        except sqlite3.DatabaseError as error:
            raise WorkspaceError(
                f"{self._path}: {error}; the rollout store cannot be read. Move this file away (then its completions"
                " are asked for again), or use another --workspace"
            ) from error

    def put(self, completions: Sequence[Completion]) -> None:
        """Store a group in one transaction; error completions are left out."""
        rows = [
            (
                c.request.key,
                0
                if c.finish_reason == "stop" and c.num_tokens <= c.request.params.max_tokens
                else c.request.params.max_tokens,
                _storable(c.request.model),
                _storable(c.request.prompt),
                _storable(c.text),
                c.finish_reason,
                c.num_prompt_tokens,
                c.num_tokens,
                c.seconds,
            )
            for c in completions
            if c.finish_reason != "error"
        ]
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("INSERT OR REPLACE INTO completions VALUES (?,?,?,?,?,?,?,?,?)", rows)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def get(self, requests: Sequence[Request]) -> list[Completion | None]:
        """The stored completion of each request, or None where it has to be asked."""
        asked = [(r.key, r) for r in requests]
        keys = list(dict.fromkeys(key for key, _ in asked))
        found: dict[tuple[str, int], _Stored] = {}
        with self._errors():
            for start in range(0, len(keys), _LOOKUP_CHUNK):
                part = keys[start : start + _LOOKUP_CHUNK]
                marks = ",".join("?" * len(part))
                for row in self._db.execute(f"SELECT {_COLUMNS} FROM completions WHERE key IN ({marks})", part):
                    found[row[0], row[1]] = _Stored(*row[2:])
        usable = ((request, _usable(key, request.params.max_tokens, found)) for key, request in asked)
        return [Completion(request, *stored) if stored else None for request, stored in usable]

    def count(self) -> int:
        """Number of stored completions."""
        with self._errors():
            return int(self._db.execute("SELECT COUNT(*) FROM completions").fetchone()[0])

    def known_fingerprint(self, path: Path) -> str | None:
        """Digest of a file's content, if it was recorded for the file as it is now (path, size, mtime)."""
        stat, path = path.stat(), path.absolute()
        with self._errors():
            row = self._db.execute(
                "SELECT digest FROM fingerprints WHERE path=? AND size=? AND mtime_ns=?",
                (str(path), stat.st_size, stat.st_mtime_ns),
            ).fetchone()
        return row[0] if row else None

    def record_fingerprint(self, path: Path, digest: str) -> None:
        """Remember the digest of a file's content."""
        stat, path = path.stat(), path.absolute()
        with self._errors():
            self._db.execute(
                "INSERT OR REPLACE INTO fingerprints VALUES (?,?,?,?)",
                (str(path), stat.st_size, stat.st_mtime_ns, digest),
            )


class _Stored(NamedTuple):
    """A row's answer, in the order of ``Completion``'s fields."""

    text: str
    finish_reason: FinishReason
    num_prompt_tokens: int
    num_tokens: int
    seconds: float


def _usable(key: str, limit: int, found: dict[tuple[str, int], _Stored]) -> _Stored | None:
    """What stands for a request of at most ``limit`` tokens: a text that ended by itself in time, or one cut there."""
    finished = found.get((key, 0))
    if finished is not None and finished.num_tokens <= limit:
        return finished
    return found.get((key, limit))


def _storable(text: str) -> str:
    """SQLite takes no lone surrogates, which a server's JSON may hold; they become question marks."""
    return text.encode("utf-8", "replace").decode()
