"""The few types that pass between stages, and their Arrow schemas. Identity is a content hash, never a row number."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa


def content_hash(*parts: Any, length: int = 16) -> str:
    """Hex digest of JSON-serialisable parts; stable across processes and machines."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]


@dataclass(frozen=True)
class Problem:
    """One question with its reference answer."""

    id: str
    """Content hash of prompt and gold, or the id the source gave."""
    prompt: str
    gold: str
    source: str
    """Where the row came from: generator settings, file and line, hub id and revision."""
    licence: str
    """As the source states it; ``unknown`` when it does not."""
    meta: str = "{}"
    """JSON object of provenance and difficulty facts (for example ``{"steps": 4}``)."""

    def to_row(self) -> dict[str, str]:
        return asdict(self)


PROBLEM_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "prompt", "gold", "source", "licence", "meta")])
PROBLEM_SCHEMA_VERSION = 1

TRACE_SCHEMA = pa.schema(
    [
        ("trace_id", pa.string()),  # content hash of the rollout key
        ("problem_id", pa.string()),
        ("prompt", pa.string()),
        ("gold", pa.string()),
        ("teacher", pa.string()),  # name in the recipe
        ("model", pa.string()),  # identity: content hash of local weights, or name@revision
        ("sample", pa.int32()),
        ("seed", pa.int64()),
        ("sampling", pa.string()),  # JSON of the sampling parameters
        ("response", pa.string()),
        ("finish_reason", pa.string()),  # stop | length | error
        ("num_prompt_tokens", pa.int32()),
        ("num_tokens", pa.int32()),  # completion tokens by the sampling model's own tokenizer
        ("outcome", pa.string()),  # verdict: correct | incorrect | unverifiable | error
        ("reason", pa.string()),
        ("extracted", pa.string()),
        ("verifier", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("meta", pa.string()),
    ]
)
TRACE_SCHEMA_VERSION = 1
