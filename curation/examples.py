"""The rows that are handed out: what the student learns, and where each of them came from."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.columns import Texts
from curation.sieve import Curated

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
EXAMPLE_SCHEMA = pa.schema(
    [
        ("messages", pa.list_(_MESSAGE)),  # the question as the student sees it, and the response to learn
        ("trace_id", pa.string()),
        ("problem_id", pa.string()),
        ("prompt", pa.string()),
        ("gold", pa.string()),
        ("response", pa.string()),
        ("teacher", pa.string()),
        ("model", pa.string()),
        ("sample", pa.int32()),
        ("seed", pa.int64()),
        ("sampling", pa.string()),
        ("num_tokens", pa.int32()),
        ("pass_k", pa.int32()),
        ("pass_n", pa.int32()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("extracted", pa.string()),
        ("verifier", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("meta", pa.string()),
        ("keep_reason", pa.string()),
        ("position", pa.int32()),
    ]
)


def examples(curated: Curated) -> pa.Table:
    """The kept rows as ``EXAMPLE_SCHEMA``, in the order of the set. Bytes that are not UTF-8 become U+FFFD.

    ``messages`` is the row's ``prompt``, the question as it was put to the model, and its ``response``; a teacher's
    system prompt is no part of it.

    Raises:
        ValueError: when the rows lack a column.
    """
    kept = curated.rows.filter(pc.field("kept")).sort_by("position")
    names = [name for name in EXAMPLE_SCHEMA.names if name != "messages"]
    missing = [name for name in names if name not in kept.column_names]
    if missing:
        raise ValueError(f"curated rows: no column {', '.join(missing)}; they have {', '.join(kept.column_names)}")
    columns = {name: _values(kept[name]) for name in names}
    columns["messages"] = [
        [{"role": "user", "content": prompt or ""}, {"role": "assistant", "content": response or ""}]
        for prompt, response in zip(columns["prompt"], columns["response"], strict=True)
    ]
    return pa.table([pa.array(columns[field.name], field.type) for field in EXAMPLE_SCHEMA], schema=EXAMPLE_SCHEMA)


def _values(column: pa.ChunkedArray) -> list[Any]:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return list(column.to_pylist())
    present = column.is_valid().to_pylist()
    return [text if valid else None for text, valid in zip(Texts(column), present, strict=True)]
