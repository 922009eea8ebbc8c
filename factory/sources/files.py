"""Rows of a JSONL, JSON, CSV, TSV or Parquet file, one at a time, whatever state the file is in.

What a file is follows from its content where that is plain (gzip, Parquet, a JSON array), else from its name. A row
that cannot be read is handed on with what is wrong with it; a file that cannot be read raises ``DataError``. JSONL, CSV
and Parquet are streamed; a JSON document is read whole.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, cast

from factory.errors import DataError

FileKind = Literal["jsonl", "json", "csv", "tsv", "parquet"]

_SUFFIXES: dict[str, FileKind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_BOM = b"\xef\xbb\xbf"
_OTHER_CONTENT = {
    b"\x28\xb5\x2f\xfd": "compressed with zstd; gzip is read",
    b"\xfd7zXZ": "compressed with xz; gzip is read",
    b"BZh": "compressed with bzip2; gzip is read",
    b"PK\x03\x04": "a zip archive (or a spreadsheet); unpack it, or export the sheet as CSV",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}
_LONGEST_LINE = 64 * 2**20
"""Bytes. A longer line (or CSV cell) is damage, not a problem, and must not fill the memory."""
_BLANK_CELLS = " \t\r\n\ufeff,;"
_BATCH = 4096
_WRAPPERS = ("data", "rows", "examples", "problems")


class RawRow(NamedTuple):
    """One row as the file has it."""

    number: int
    """Line number in JSONL, CSV and TSV (where the row starts), else the row's position; from 1."""
    values: dict[str, Any] | None
    """None when the row cannot be read."""
    problem: str = ""
    """Why it cannot be read."""


@dataclass(frozen=True)
class RowStream:
    """Where rows come from, before any is read."""

    label: str
    """How messages and rows name it."""
    unit: Literal["line", "row"]
    """What ``RawRow.number`` counts."""
    columns: tuple[str, ...] | None
    """None when only the rows can tell."""
    rows: Callable[[Sequence[str] | None], Iterator[RawRow]]
    """Starts reading; given names of columns, those that a columnar format does not need are left out."""


class FileFormat(NamedTuple):
    """How a file is written."""

    kind: FileKind
    gzipped: bool


def candidates(path: str, folder: Path | None) -> list[Path]:
    """Where a path of the recipe may lie: in the recipe's folder, then in the working directory."""
    given = Path(path).expanduser()
    if given.is_absolute():
        return [given]
    places = [folder / given] if folder is not None else []
    return list(dict.fromkeys(p.absolute() for p in [*places, given]))


def resolve_path(path: str, folder: Path | None) -> Path:
    """The file that ``path`` names.

    Raises:
        DataError: when there is none, with the places looked at and the most similar file names there.
    """
    looked = candidates(path, folder)
    for place in looked:
        if place.is_file():
            return place
    for place in looked:
        if place.is_dir():
            files = sorted(p.name for p in place.iterdir() if p.suffix in {*_SUFFIXES, ".gz"})
            holds = f"it holds {', '.join(files[:5])}" if files else "it holds no data file"
            raise DataError(
                f"{path!r} is a folder ({holds}); name one file, or use `kind: hub` with the folder as dataset"
            )
        if place.exists():
            raise DataError(f"{place} is not a regular file")
    places = "".join(f"\n  looked at {place}" for place in looked)
    raise DataError(f"there is no file {path!r}{places}{_did_you_mean(looked)}")


def _did_you_mean(looked: Sequence[Path]) -> str:
    for place in looked:
        names = [p.name for p in place.parent.iterdir() if p.is_file()] if place.parent.is_dir() else []
        similar = difflib.get_close_matches(place.name, names, n=3, cutoff=0.6)
        if similar:
            return f"\n  did you mean {' or '.join(repr(name) for name in similar)} in {place.parent}?"
    return "\n  write a path from the recipe's folder or from the working directory, or an absolute one"


def file_stream(path: Path) -> RowStream:
    """The rows of a file.

    Raises:
        DataError: when it is empty or of no known format; while rows are read, when the file is damaged.
    """
    kind, gzipped = detect_format(path)
    if kind == "parquet":
        return _parquet_stream(path)

    def rows(columns: Sequence[str] | None) -> Iterator[RawRow]:
        with _reading(path), _open(path, gzipped) as handle:
            if kind == "jsonl":
                yield from _json_lines(handle)
            elif kind == "json":
                yield from _document_rows(path, handle)
            else:
                yield from _csv_rows(path, handle, "\t" if kind == "tsv" else ",")

    return RowStream(path.name, "row" if kind == "json" else "line", None, rows)


def detect_format(path: Path) -> FileFormat:
    """What the file is.

    Raises:
        DataError: when it is empty, unreadable, or of no known format.
    """
    with _reading(path):
        with open(path, "rb") as handle:
            magic = handle.read(8)
        gzipped = magic.startswith(b"\x1f\x8b")
        with _open(path, gzipped) as handle:
            head = handle.readline(_LONGEST_LINE) if not magic.startswith(b"PAR1") else magic
            while head and not head.removeprefix(_BOM).strip():
                head = handle.readline(_LONGEST_LINE)
            more = handle.read(4096).strip() != b""
    if not head:
        raise DataError(f"{path} is empty")
    for start, what in _OTHER_CONTENT.items():
        if head.startswith(start):
            raise DataError(f"{path} is {what}")
    return FileFormat(_kind(path, head.removeprefix(_BOM).strip(), more, gzipped), gzipped)


def _kind(path: Path, first_line: bytes, more: bool, gzipped: bool) -> FileKind:
    if first_line.startswith(b"PAR1"):
        if gzipped:
            raise DataError(f"{path} is a gzipped Parquet file, which cannot be read in part; unpack it with gunzip")
        return "parquet"
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    kind = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    if kind is None:
        raise DataError(f"{path}: unknown kind of file; known: {', '.join(_SUFFIXES)}, the text ones also with .gz")
    if kind == "parquet":
        raise DataError(f"{path} is not a Parquet file, though its name says so (was the download completed?)")
    if kind in ("json", "jsonl"):
        return _json_kind(kind, first_line, more)
    return kind


def _json_kind(kind: FileKind, first_line: bytes, more: bool) -> FileKind:
    """``.json`` is also used for JSON lines, and ``.jsonl`` for an array."""
    if first_line.startswith(b"["):
        return "json"
    if kind == "jsonl" or not more:
        return kind
    try:
        json.loads(first_line)
    except (ValueError, RecursionError):
        return "json"
    return "jsonl"


def _open(path: Path, gzipped: bool) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if gzipped else open(path, "rb")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What goes wrong with the file as a whole, as ``DataError``."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: its gzip data is damaged or cut short ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _json_lines(handle: BinaryIO) -> Iterator[RawRow]:
    for number, line in _lines(handle):
        if line is None:
            yield RawRow(number, None, f"the line is longer than {_LONGEST_LINE} bytes")
        elif line.strip():
            yield _json_line(number, line)


def _lines(handle: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines; None in place of one that is too long to hold."""
    number = 0
    while line := handle.readline(_LONGEST_LINE):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        if len(line) < _LONGEST_LINE or line.endswith(b"\n"):
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = handle.readline(_LONGEST_LINE)
        yield number, None


def _json_line(number: int, line: bytes) -> RawRow:
    try:
        values = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return RawRow(number, None, f"not UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}")
    except json.JSONDecodeError as error:
        nul = "; it holds NUL bytes" if b"\0" in line else ""
        return RawRow(number, None, f"not JSON: {error.msg} at column {error.colno}{nul}")
    except (ValueError, RecursionError) as error:  # a number of too many digits, or nested too deeply
        return RawRow(number, None, f"not usable JSON: {error}")
    if not isinstance(values, dict):
        return RawRow(number, None, f"expected a JSON object, got {_json_type(values)}")
    return RawRow(number, values)


def _document_rows(path: Path, handle: BinaryIO) -> Iterator[RawRow]:
    raw = handle.read()
    try:
        document = json.loads(raw.removeprefix(_BOM).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start}") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{path} is not JSON: {error.msg} at {place} (was the file cut short?)") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not usable JSON: {error}") from error
    del raw
    for number, values in enumerate(_table(path, document), start=1):
        if isinstance(values, dict):
            yield RawRow(number, values)
        else:
            yield RawRow(number, None, f"expected a JSON object, got {_json_type(values)}")


def _table(path: Path, document: Any) -> Iterable[Any]:
    """The rows in a JSON document of one of the shapes in use."""
    if isinstance(document, list):
        return document
    values = list(document.values()) if isinstance(document, dict) else []
    if values:
        for name in _WRAPPERS:
            inner = document.get(name)
            if isinstance(inner, list) and any(isinstance(row, dict) for row in inner):
                return inner
        if all(isinstance(v, list) for v in values):
            return _from_columns(path, document)
        if all(isinstance(v, dict) and v and all(key.isdigit() for key in v) for v in values):  # as pandas writes it
            return _from_columns(path, {name: list(column.values()) for name, column in document.items()})
        if all(not isinstance(v, list | dict) for v in values):
            return [document]
    shapes = 'a list of objects, {"data": [objects]}, or an object of equally long columns'
    raise DataError(f"{path}: expected {shapes}; got {_json_type(document)}{_keys(document)}")


def _from_columns(path: Path, columns: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: its columns differ in length: {lengths}")
    return (dict(zip(columns, cells)) for cells in zip(*columns.values()))


def _keys(document: Any) -> str:
    return f" with the keys {', '.join(list(document)[:8])}" if isinstance(document, dict) else ""


def _json_type(value: Any) -> str:
    names = {list: "a list", dict: "an object", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _csv_rows(path: Path, handle: BinaryIO, delimiter: str) -> Iterator[RawRow]:
    csv.field_size_limit(_LONGEST_LINE)  # process-wide; the default of 128 kB refuses real solutions
    # Bytes that are no UTF-8 become lone surrogates, which the row's reader refuses where they matter.
    lines = (line.decode("utf-8", "surrogateescape") for line in handle)
    skipped, first = next((n, line) for n, line in enumerate(lines) if line.strip(_BLANK_CELLS))
    first = first.removeprefix("\ufeff")
    if delimiter not in first:
        delimiter = next((d for d in ",;\t" if d in first), delimiter)
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
    header = _csv_header(path, reader)
    while True:
        line = skipped + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error) or "field larger" in str(error):
                raise DataError(f"{path}: a quote opened in the row at line {line} is never closed") from error
            yield RawRow(line, None, f"not CSV: {error}")
            continue
        if len(cells) == len(header):
            if any(cell.strip() for cell in cells):
                yield RawRow(line, dict(zip(header, cells)))
        elif cells:
            yield RawRow(line, None, f"{len(cells)} cells under {len(header)} columns")


def _csv_header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        header = [cell.strip() for cell in next(reader)]
    except (csv.Error, StopIteration) as error:
        raise DataError(f"{path}: its first line is no CSV header ({error})") from error
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{path}: the header names {', '.join(twice)} twice")
    return header


def _parquet_stream(path: Path) -> RowStream:
    import pyarrow.parquet as pq

    with _reading(path), _decoding(path):
        names = tuple(pq.read_schema(path).names)

    def rows(columns: Sequence[str] | None) -> Iterator[RawRow]:
        numbers = itertools.count(1)
        with _reading(path), _decoding(path), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH, columns=list(columns) if columns is not None else None):
                yield from (RawRow(next(numbers), values) for values in _widen(batch).to_pylist())

    return RowStream(path.name, "row", names, rows)


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """What pyarrow raises for damaged data, text that is no UTF-8 and impossible dates among it."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise DataError(f"{path} is a damaged Parquet file ({error}); fetch it again") from error


def _widen(batch: Any) -> Any:
    """Single-precision columns as the short decimals they stand for: 0.1, not 0.10000000149011612."""
    import pyarrow as pa

    for index, field in enumerate(batch.schema):
        if pa.types.is_float32(field.type) or pa.types.is_float16(field.type):
            wide = batch.column(index).cast(pa.float32()).cast(pa.string()).cast(pa.float64())
            batch = batch.set_column(index, field.name, wide)
    return batch
