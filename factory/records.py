"""The few types that pass between stages. Identity is a content hash, never a row number."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any


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
