"""The store's completions to a file, and traces from a file into the store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from factory.engines.base import Completion, Request, SamplingParams
from factory.engines.imported_config import TraceColumns
from factory.engines.trace_rows import COUNT_RULE, ReadRow, Trace, open_traces, read_traces, traces_digest
from factory.errors import DataError, WorkspaceError
from factory.rollout_store import ImportedRow, Rollout, RolloutStore
from factory.sources.files import file_stream, resolve_path
from factory.workspace import disk_errors

_PARQUET, _JSONL = (".parquet", ".pq"), (".jsonl", ".ndjson")
_CHUNK_ROWS, _CHUNK_CHARS = 4096, 8 * 2**20
_GROUP = 500
MAX_BAD_ROWS = 0.05
_NUM_EXAMPLES = 3


def export_rollouts(store: RolloutStore, out: Path, model: str | None = None) -> int:
    """Write the store's completions in the order of their keys; returns how many. Memory holds one chunk.

    The file has the columns of a trace file, so that ``rollouts import`` and the ``imported`` engine read it.

    Args:
        out: a Parquet or JSONL file, by its ending; it appears whole or not at all.
        model: only this model's; ``*`` stands for any text.

    Raises:
        DataError: an unknown ending, or no completion of this model.
        WorkspaceError: when the file cannot be written.
    """
    suffix = out.suffix.lower()
    if suffix not in (*_PARQUET, *_JSONL):
        raise DataError(f"{out}: unknown ending; known: {', '.join((*_PARQUET, *_JSONL))}")
    if out.is_dir():
        raise DataError(f"{out} is a folder; name a file in it")
    rows = (_export_row(rollout) for rollout in store.rollouts(model))
    partial = out.with_name(out.name + ".partial")
    with disk_errors(out):
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            num = _write_parquet(partial, rows) if suffix in _PARQUET else _write_jsonl(partial, rows)
            if not num:
                raise DataError(_nothing(store, model))
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    return num


def _nothing(store: RolloutStore, model: str | None) -> str:
    models = list(dict.fromkeys(group.model for group in store.groups()))
    if not models:
        return "the store holds no completions"
    return f"--model {model}: the store has none of it; it has:\n  " + "\n  ".join(models)


def _export_row(r: Rollout) -> dict[str, Any]:
    return {
        "key": r.key,
        "model": r.model,
        "teacher": r.teacher or r.model,
        "problem_id": r.problem_id,
        "prompt": r.prompt,
        "gold": r.gold,
        "response": r.response,
        "finish_reason": r.finish_reason,
        "max_tokens": r.max_tokens or None,
        "num_prompt_tokens": r.num_prompt_tokens,
        "num_tokens": r.num_tokens,
        "seconds": r.seconds,
    }


def _write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    num = 0
    with open(path, "w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
            num += 1
    return num


def _write_parquet(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    import pyarrow as pa

    from factory.tables import write_table

    kinds = dict.fromkeys(("max_tokens", "num_prompt_tokens", "num_tokens"), pa.int64()) | {"seconds": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in _COLUMNS])
    return write_table(path, schema, _chunks(rows))


_COLUMNS = tuple(_export_row(Rollout("", 0, "", "", "", "", 0, 0, 0.0, None, None, None)))


def _chunks(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows in parts that fit into memory, however long their texts are."""
    part: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        part.append(row)
        size += len(row["prompt"]) + len(row["response"])
        if len(part) >= _CHUNK_ROWS or size >= _CHUNK_CHARS:
            yield part
            part, size = [], 0
    if part:
        yield part


class BadRow(NamedTuple):
    """A row without a trace."""

    number: int
    problem: str


@dataclass
class Imported:
    """What an import did."""

    name: str
    columns: str
    """Which columns were read as what."""
    was_there: bool = False
    rows: int = 0
    traces: int = 0
    counted: int = 0
    """Traces with a token count of the file's own."""
    tokens: int = 0
    with_gold: int = 0
    bad: int = 0
    examples: list[BadRow] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """For people."""
        if self.was_there:
            yield f"{self.name}: these traces were imported before ({self.traces}); nothing to do"
            return
        yield f"{self.name}: {self.traces} traces of {self.rows} rows ({self.columns})"
        rough = self.traces - self.counted
        if rough:
            yield f"  tokens: {self.tokens} (those of {rough} traces are counted roughly: {COUNT_RULE})"
        else:
            yield f"  tokens: {self.tokens}, as the file counts them"
        if self.with_gold < self.traces:
            yield f"  {self.traces - self.with_gold} traces have no usable reference answer in this file"
        if self.bad:
            yield f"  {self.bad} rows hold no trace:"
            yield from (f"    row {row.number}: {row.problem}" for row in self.examples)


def import_traces(
    store: RolloutStore,
    source: Path,
    name: str,
    columns: TraceColumns,
    file_digest: Callable[[Path], str],
    max_bad_rows: float = MAX_BAD_ROWS,
) -> Imported:
    """Put a file's traces into the store as completions of ``imported:NAME[/teacher]``.

    They can be used when all are there; a call that was stopped begins anew. Memory holds one group.

    Args:
        max_bad_rows: share of rows without a trace above which the file is refused.

    Raises:
        DataError: when the file cannot be read or is refused, or the name is another file's.
        WorkspaceError: when the store cannot be written.
    """
    path = resolve_path(str(source), None)
    found, _ = open_traces(file_stream(path), columns)
    digest = traces_digest(path, columns, file_digest)
    done = Imported(name, found.shown())
    known = store.imports().get(name)
    if known is not None and known.finished:
        if known.digest != digest:
            raise DataError(
                f"--name {name}: these are the traces of {known.source} already, read as they were then;"
                " choose another name"
            )
        done.was_there, done.traces = True, known.num_traces
        return done
    store.begin_import(name, str(source), digest)
    try:
        _store_rows(store, name, read_traces(path, columns), done)
        _refuse(done, source, max_bad_rows)
    except DataError:
        store.drop_import(name)
        raise
    store.finish_import(name)
    return done


def _store_rows(store: RolloutStore, name: str, rows: Iterator[ReadRow], done: Imported) -> None:
    group: list[ImportedRow] = []
    for row in rows:
        _count(done, row)
        group += [_imported_row(name, done.traces - len(row.traces) + at, t) for at, t in enumerate(row.traces)]
        if len(group) >= _GROUP:
            store.add_imported(name, group)
            group = []
    store.add_imported(name, group)


def _count(done: Imported, row: ReadRow) -> None:
    done.rows += 1
    done.traces += len(row.traces)
    done.counted += sum(t.counted for t in row.traces)
    done.tokens += sum(t.num_tokens for t in row.traces)
    done.with_gold += sum(t.gold is not None for t in row.traces)
    if row.problem:
        done.bad += 1
        if len(done.examples) < _NUM_EXAMPLES:
            done.examples.append(BadRow(row.number, row.problem))


def _refuse(done: Imported, source: Path, max_bad_rows: float) -> None:
    if done.traces and done.bad <= max_bad_rows * done.rows:
        return
    examples = "".join(f"\n  row {row.number}: {row.problem}" for row in done.examples)
    raise DataError(
        f"{source}: {done.bad} of {done.rows} rows hold no trace ({done.columns}){examples}"
        "\n  name the right columns with --columns prompt=...,response=..., or leave them out with a higher"
        " --max-bad-rows"
    )


def _imported_row(name: str, position: int, trace: Trace) -> ImportedRow:
    model = f"imported:{name}" + (f"/{trace.teacher}" if trace.teacher else "")
    turns = (("user", trace.prompt),)
    shown = json.dumps([{"content": trace.prompt, "role": "user"}], ensure_ascii=False, separators=(",", ":"))
    # How it was sampled is not known: the position alone tells equal prompts apart.
    request = Request(turns, shown, SamplingParams(max_tokens=trace.num_tokens), position, 0, model)
    completion = Completion(
        request, trace.response, trace.finish_reason, trace.num_prompt_tokens, trace.num_tokens, 0.0
    )
    return ImportedRow(position, completion, trace.prompt, trace.gold, trace.problem_id, trace.teacher, trace.counted)


def trace_columns(text: str | None) -> TraceColumns:
    """``prompt=question,response=answer`` as settings.

    Raises:
        DataError: for anything else, with what is allowed.
    """
    values: dict[str, str] = {}
    for part in (text or "").split(","):
        role, equals, name = part.strip().partition("=")
        if not part.strip():
            continue
        if role not in TraceColumns.model_fields or not equals or not name:
            allowed = ", ".join(TraceColumns.model_fields)
            raise DataError(f"--columns: expected ROLE=COLUMN, got {part!r}; roles: {allowed}")
        values[role] = name
    return TraceColumns(**values)


def open_store(workspace: Path, *, create: bool = False) -> RolloutStore:
    """The workspace's store; a run may be writing it meanwhile.

    Raises:
        WorkspaceError: when there is none, unless ``create``.
    """
    path = workspace / "rollouts.sqlite"
    if create:
        with disk_errors(workspace):
            workspace.mkdir(parents=True, exist_ok=True)
    elif not path.is_file():
        raise WorkspaceError(
            f"{workspace}: no rollouts there; give a workspace with --workspace, or make one with `factory run RECIPE`"
            " or `factory rollouts import FILE --name NAME`"
        )
    return RolloutStore(path)
