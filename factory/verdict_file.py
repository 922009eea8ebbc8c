"""Where the verdicts of ``factory verify`` go while they come in.

They are appended to ``OUT.partial`` as they arrive; when all are there the file becomes ``OUT``. A call that was killed
goes on behind the last whole line, if it is made again with the same input and settings: ``OUT.partial.json`` says with
which ones it was begun, and is locked while a call is under way.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from factory.errors import DataError, WorkspaceError

COLUMNS = ("id", "row", "outcome", "reason", "extracted", "rule", "verifier", "seconds", "detail")
SUFFIXES = (".jsonl", ".ndjson", ".parquet", ".pq")
_PARQUET_ROWS = 4096


def check_place(out: Path, source: Path) -> None:
    """Raises ``DataError`` when ``out`` is no name for verdicts, or it or a file beside it is the input."""
    if out.suffix.lower() not in SUFFIXES:
        raise DataError(f"--out {out}: unknown ending; known: {', '.join(SUFFIXES)}")
    if out.is_dir():
        raise DataError(f"--out {out} is a folder; name a file in it")
    with _writing(out):
        for path in (out, *(_beside(out, ending) for ending in (".partial", ".partial.json", ".whole"))):
            if path.exists() and path.samefile(source):
                raise DataError(f"--out {out}: {path.name} would be written there, and is the input; name another file")


def _beside(out: Path, ending: str) -> Path:
    return out.with_name(out.name + ending)


class VerdictFile:
    """Verdicts on their way to ``out``; use it as a context manager.

    Raises:
        WorkspaceError: when it cannot be written, or another call writes it.
    """

    def __init__(self, out: Path, call: dict[str, Any]) -> None:
        self._out = out
        self._path, self._begun = _beside(out, ".partial"), _beside(out, ".partial.json")
        self._call = json.loads(json.dumps(call))
        self._lock = -1
        self._handle: IO[str] | None = None
        self.num_rows = 0
        """Verdicts that a stopped call had left."""
        self.discarded = 0
        """Verdicts of a stopped call with other input or settings, which are gone."""

    def __enter__(self) -> Self:
        with _writing(self._out):
            self._out.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
            found = self._whole_lines()
            if self._begun_as() == self._call:
                self.num_rows = found
            else:
                self.discarded = found
                self._path.unlink(missing_ok=True)
                os.truncate(self._lock, 0)
                os.pwrite(self._lock, json.dumps(self._call).encode() + b"\n", 0)
            self._handle = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 - closed in __exit__
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._handle is not None:
                self._handle.close()
        except OSError:
            if error is None:  # else it was said already
                raise
        finally:
            os.close(self._lock)

    def _locked(self) -> int:
        """A lock on ``OUT.partial.json`` that the system takes back when this process ends."""
        while True:
            lock = os.open(self._begun, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                raise WorkspaceError(
                    f"--out {self._out}: another call is writing it; wait for it, or name another file"
                ) from None
            if self._begun.exists() and os.path.samestat(os.fstat(lock), self._begun.stat()):
                return lock
            os.close(lock)  # it was finished and removed just now

    def _begun_as(self) -> object:
        try:
            return json.loads(self._begun.read_text())
        except ValueError:
            return None

    def _whole_lines(self) -> int:
        """Number of good lines; what follows the last one is cut off, and is verified again."""
        if not self._path.is_file():
            return 0
        count = end = 0
        with open(self._path, "r+b") as handle:
            for line in handle:
                if not line.endswith(b"\n") or not _is_verdict(line):
                    break
                count, end = count + 1, end + len(line)
            handle.truncate(end)
        return count

    def append(self, row: dict[str, Any]) -> None:
        """Write one line at once, so that a killed process loses none."""
        assert self._handle is not None
        with _writing(self._out):
            self._handle.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._handle.flush()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every verdict so far, in order."""
        with open(self._path, encoding="utf-8") as handle:
            yield from map(json.loads, handle)

    def finish(self) -> None:
        """Give the file its name, in its format."""
        with _writing(self._out):
            if self._out.suffix.lower() in (".parquet", ".pq"):
                whole = _beside(self._out, ".whole")
                _write_parquet(whole, self.rows())
                whole.replace(self._out)
                self._path.unlink()
            else:
                self._path.replace(self._out)
            self._begun.unlink()


def _is_verdict(line: bytes) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and "outcome" in row and "reason" in row


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """What the disk says, as ``WorkspaceError``."""
    try:
        yield
    except OSError as error:
        raise WorkspaceError(
            f"--out {out}: cannot be written ({error.strerror or error}); verdicts written so far are kept:"
            " make room or fix the rights, and run the same command again"
        ) from error


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    import pyarrow as pa

    from factory.tables import write_table

    kinds = {"row": pa.int64(), "seconds": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    write_table(path, schema, iter(lambda: list(islice(rows, _PARQUET_ROWS)), []))
