"""A quick look at a source before a run: is it there, does it have the columns, do its first rows hold problems?"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from factory.errors import DataError
from factory.sources.arithmetic import ArithmeticSource
from factory.sources.collect import parse_rows, refuse
from factory.sources.config import FileSource, HubSource, ProblemSource
from factory.sources.files import detect_format, file_stream, resolve_path
from factory.sources.hub import local_path
from factory.sources.result import Dropped, printable

_LARGEST_DOCUMENT = 50 * 2**20
"""Bytes of a JSON document, which can only be read whole."""


def peek(source: ProblemSource, folder: Path | None = None, rows: int = 20) -> list[str]:
    """Problems found in the first ``rows`` rows; empty when there are none. Reads no network and no pickles.

    Neither pyarrow nor ``datasets`` is loaded, but for a Parquet file. Of a data set on the hub, or in a folder,
    nothing is looked at but whether it can be there.
    """
    try:
        if isinstance(source, ArithmeticSource):
            return []
        path = _file(source, folder)
        return _peek_file(source, path, rows) if path is not None else []
    except DataError as error:
        return [printable(str(error))]


def first_golds(source: ProblemSource, folder: Path | None = None, rows: int = 20) -> list[tuple[str, str, str]]:
    """(place, question, reference) of the usable ones among the first rows; empty where only a run can tell."""
    if isinstance(source, ArithmeticSource):
        return []
    try:
        path = _file(source, folder)
        if path is None or path.stat().st_size > _LARGEST_DOCUMENT and detect_format(path).kind == "json":
            return []
        stream = file_stream(path)
        return [
            (f"{stream.label}, {stream.unit} {row.number}", row.fields.prompt, row.fields.gold)
            for row in parse_rows(source, stream, rows)
            if row.fields is not None
        ]
    except DataError:
        return []


def _file(source: FileSource | HubSource, folder: Path | None) -> Path | None:
    if isinstance(source, FileSource):
        return resolve_path(source.path, folder)
    place = local_path(source.dataset, folder)
    if place is not None and place.is_file():
        return place
    if importlib.util.find_spec("datasets") is None:
        raise DataError(
            "reading a data set needs the package `datasets`; install 'distillation-factory[train]' or use `kind: file`"
        )
    return None


def _peek_file(source: FileSource | HubSource, path: Path, rows: int) -> list[str]:
    kind, _ = detect_format(path)
    if kind == "json" and path.stat().st_size > _LARGEST_DOCUMENT:
        return []
    stream = file_stream(path)
    parsed = list(parse_rows(source, stream, rows))
    if not parsed:
        return [f"{stream.label} holds no rows"]
    bad = [Dropped(stream.label, row.number, row.reason, printable(row.detail)) for row in parsed if row.fields is None]
    refusal = refuse(source, stream, len(parsed), bad)
    return [f"among the first {len(parsed)} rows of {refusal}"] if refusal else []
