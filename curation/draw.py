"""Random choices as hashes of the seed and of what a row is, so that the order of the rows decides nothing."""

from __future__ import annotations

import hashlib


def draw_key(seed: int, *parts: str) -> bytes:
    """A random number that only the seed and the parts decide: sorting by it is a seeded shuffle."""
    text = "\0".join([str(seed), *parts])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
