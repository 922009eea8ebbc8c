"""Completions on disk: one SQLite file per workspace, in WAL mode, written the moment completions arrive.

A completion that ended by itself is stored without its token limit, so raising ``max_tokens`` asks again only for the
rows that were cut off. Failures of the infrastructure are never stored: they are asked again by the next run.

Imported traces lie among the completions, keyed by the import's name and their position in the file; what the file says
of them beside that (reference, problem) is in a table of its own.

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
_IMPORT_SCHEMA = """
CREATE TABLE IF NOT EXISTS imports (
    name TEXT NOT NULL PRIMARY KEY, source TEXT NOT NULL, digest TEXT NOT NULL,
    num_traces INTEGER NOT NULL, num_counted INTEGER NOT NULL, finished INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS imported (
    name TEXT NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL UNIQUE,
    prompt TEXT NOT NULL, gold TEXT, problem_id TEXT, teacher TEXT, counted INTEGER NOT NULL,
    PRIMARY KEY (name, position)
) WITHOUT ROWID;
"""
"""Made by the first import: other stores stay as they are, and older versions of factory can read these."""
_VERSION = 1
_COLUMNS = "key, cap, text, finish_reason, num_prompt_tokens, num_tokens, seconds"
_INSERT = "INSERT OR REPLACE INTO completions VALUES (?,?,?,?,?,?,?,?,?)"
_PAGE = 500
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
        rows = [_row(c) for c in completions if c.finish_reason != "error"]
        with self._transaction():
            self._db.executemany(_INSERT, rows)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of what is written within, or nothing."""
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def get(self, requests: Sequence[Request]) -> list[Completion | None]:
        """The stored completion of each request, or None where it has to be asked."""
        asked = [(r.key, r) for r in requests]
        keys = list(dict.fromkeys(key for key, _ in asked))
        found: dict[tuple[str, int], Stored] = {}
        with self._errors():
            for start in range(0, len(keys), _LOOKUP_CHUNK):
                part = keys[start : start + _LOOKUP_CHUNK]
                marks = ",".join("?" * len(part))
                for row in self._db.execute(f"SELECT {_COLUMNS} FROM completions WHERE key IN ({marks})", part):
                    found[row[0], row[1]] = Stored(*row[2:])
        usable = ((request, _usable(key, request.params.max_tokens, found)) for key, request in asked)
        return [Completion(request, *stored) if stored else None for request, stored in usable]

    def count(self) -> int:
        """Number of stored completions."""
        with self._errors():
            return int(self._db.execute("SELECT COUNT(*) FROM completions").fetchone()[0])

    def groups(self) -> list[Group]:
        """Completions by model and finish reason, the models in their order."""
        query = (
            "SELECT model, finish_reason, COUNT(*), SUM(num_prompt_tokens), SUM(num_tokens), SUM(seconds)"
            " FROM completions GROUP BY model, finish_reason ORDER BY model, finish_reason"
        )
        with self._errors():
            return [Group(*row) for row in self._db.execute(query)]

    def find(self, prefix: str, most: int = 20) -> list[Rollout]:
        """Completions whose key begins so (one key may have several: cut at different limits)."""
        with self._errors():
            query = f"{self._rollout_query()} WHERE c.key >= ? AND c.key < ? ORDER BY c.key, c.cap LIMIT ?"
            return [Rollout(*row) for row in self._db.execute(query, (prefix, prefix + "~", most))]

    def rollouts(self, model: str | None = None) -> Iterator[Rollout]:
        """Every completion in the order of the keys, whatever order they arrived in. Memory holds a page.

        What other processes store meanwhile may or may not be among them.

        Args:
            model: only those of this model; ``*`` in it stands for any text.
        """
        within = " AND c.model GLOB ?" if model else ""
        chosen = (_glob(model),) if model else ()
        query = f"{self._rollout_query()} WHERE (c.key, c.cap) > (?, ?){within} ORDER BY c.key, c.cap LIMIT {_PAGE}"
        last: tuple[str, int] = ("", -1)
        while True:
            with self._errors():
                page = [Rollout(*row) for row in self._db.execute(query, (*last, *chosen))]
            yield from page
            if len(page) < _PAGE:
                return
            last = (page[-1].key, page[-1].max_tokens)

    def _rollout_query(self) -> str:
        own = "c.key, c.cap, c.model, c.prompt, c.text, c.finish_reason, c.num_prompt_tokens, c.num_tokens, c.seconds"
        if not self._has_imports():
            return f"SELECT {own}, NULL, NULL, NULL FROM completions c"
        return f"SELECT {own}, i.gold, i.problem_id, i.teacher FROM completions c LEFT JOIN imported i ON i.key = c.key"

    def _has_imports(self) -> bool:
        found = self._db.execute("SELECT 1 FROM sqlite_master WHERE type='table' AND name='imports'").fetchone()
        return found is not None

    def imports(self) -> dict[str, Import]:
        """Every import by its name."""
        with self._errors():
            if not self._has_imports():
                return {}
            columns = "name, source, digest, num_traces, num_counted, finished"
            found = [Import(*row) for row in self._db.execute(f"SELECT {columns} FROM imports ORDER BY name")]
        return {row.name: row for row in found}

    def begin_import(self, name: str, source: str, digest: str) -> None:
        """Make room for the rows of an import; what an unfinished one of this name had left goes."""
        with self._errors():
            self._db.executescript(_IMPORT_SCHEMA)
        self.drop_import(name)
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO imports VALUES (?,?,?,0,0,0)", (name, source, digest))

    def drop_import(self, name: str) -> None:
        """Take the rows of an import out again."""
        with self._transaction():
            self._db.execute("DELETE FROM completions WHERE key IN (SELECT key FROM imported WHERE name=?)", (name,))
            self._db.execute("DELETE FROM imported WHERE name=?", (name,))
            self._db.execute("DELETE FROM imports WHERE name=?", (name,))

    def add_imported(self, name: str, rows: Sequence[ImportedRow]) -> None:
        """Store a group of an import in one transaction."""
        facts = [
            (name, r.position, r.completion.request.key, r.prompt, r.gold, r.problem_id, r.teacher, r.counted)
            for r in rows
        ]
        with self._transaction():
            self._db.executemany(_INSERT, [_row(r.completion) for r in rows])
            self._db.executemany("INSERT OR REPLACE INTO imported VALUES (?,?,?,?,?,?,?,?)", facts)
            counted = sum(r.counted for r in rows)
            self._db.execute(
                "UPDATE imports SET num_traces=num_traces+?, num_counted=num_counted+? WHERE name=?",
                (len(rows), counted, name),
            )

    def finish_import(self, name: str) -> None:
        """From now on its traces can be used."""
        with self._transaction():
            self._db.execute("UPDATE imports SET finished=1 WHERE name=?", (name,))

    def imported(self, name: str) -> Iterator[tuple[ImportedTrace, Stored]]:
        """The traces of an import in the order of its file. Memory holds a page."""
        query = (
            "SELECT i.position, i.prompt, i.gold, i.problem_id, i.teacher, i.counted,"
            " c.text, c.finish_reason, c.num_prompt_tokens, c.num_tokens, c.seconds"
            " FROM imported i JOIN completions c ON c.key = i.key"
            f" WHERE i.name = ? AND i.position > ? ORDER BY i.position LIMIT {_PAGE}"
        )
        last = -1
        while True:
            with self._errors():
                page = self._db.execute(query, (name, last)).fetchall()
            yield from ((ImportedTrace(*row[:6]), Stored(*row[6:])) for row in page)
            if len(page) < _PAGE:
                return
            last = page[-1][0]

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


class Group(NamedTuple):
    """Completions of one model that ended in one way."""

    model: str
    finish_reason: str
    num: int
    num_prompt_tokens: int
    num_tokens: int
    seconds: float


class Rollout(NamedTuple):
    """A completion as it lies in the store."""

    key: str
    max_tokens: int
    """The limit at which it was cut; 0 for one that ended by itself."""
    model: str
    prompt: str
    """As its engine rendered it."""
    response: str
    finish_reason: str
    num_prompt_tokens: int
    num_tokens: int
    seconds: float
    gold: str | None
    """Of an imported one: the file's reference answer, problem and model."""
    problem_id: str | None
    teacher: str | None


class Import(NamedTuple):
    """A trace set that was imported."""

    name: str
    source: str
    digest: str
    num_traces: int
    num_counted: int
    """Traces whose tokens the file counts itself; those of the others are counted roughly."""
    finished: int


class ImportedRow(NamedTuple):
    """One trace on its way into the store."""

    position: int
    completion: Completion
    prompt: str
    """The question alone."""
    gold: str | None
    problem_id: str | None
    teacher: str | None
    counted: bool


class ImportedTrace(NamedTuple):
    """What a file says of a trace beside its text."""

    position: int
    prompt: str
    gold: str | None
    problem_id: str | None
    teacher: str | None
    counted: int


class Stored(NamedTuple):
    """A row's answer, in the order of ``Completion``'s fields."""

    text: str
    finish_reason: FinishReason
    num_prompt_tokens: int
    num_tokens: int
    seconds: float


def _usable(key: str, limit: int, found: dict[tuple[str, int], Stored]) -> Stored | None:
    """What stands for a request of at most ``limit`` tokens: a text that ended by itself in time, or one cut there."""
    finished = found.get((key, 0))
    if finished is not None and finished.num_tokens <= limit:
        return finished
    return found.get((key, limit))


def _storable(text: str) -> str:
    """SQLite takes no lone surrogates, which a server's JSON may hold; they become question marks."""
    return text.encode("utf-8", "replace").decode()


def _row(c: Completion) -> tuple[str | int | float, ...]:
    """The columns of the table. A completion that ended by itself is stored without its limit."""
    limit = c.request.params.max_tokens
    cap = 0 if c.finish_reason == "stop" and c.num_tokens <= limit else limit
    texts = (_storable(c.request.model), _storable(c.request.prompt), _storable(c.text))
    return (c.request.key, cap, *texts, c.finish_reason, c.num_prompt_tokens, c.num_tokens, c.seconds)


def _glob(model: str) -> str:
    """A pattern of SQLite in which ``*`` alone is special."""
    return "".join(f"[{c}]" if c in "?[" else c for c in model)
