"""Row filters: for every trace the first reason, in a fixed order, why it may not be learned from."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from curation.columns import Traces
from curation.config import CurationConfig

VERDICT_REASONS = ("error", "unverifiable", "truncated", "incorrect")
SHAPE_REASONS = ("format", "too_long")
DUPLICATE_REASONS = ("duplicate_trace",)
FILTER_REASONS = (*VERDICT_REASONS, *SHAPE_REASONS, *DUPLICATE_REASONS)
"""All reasons of this module, in the order in which they are tried."""

_OPEN, _CLOSE = "<think>", "</think>"


class Filtered(NamedTuple):
    """One entry per row."""

    reasons: list[str | None]
    """The first of ``FILTER_REASONS`` that applies, or None."""
    format_ok: list[bool]
    """Whether the response has the think-tag format, demanded or not."""
    digests: dict[int, bytes]
    """Of the responses that passed: equal for those that differ in whitespace only."""


def format_problem(response: str) -> str | None:
    """What is wrong with the think tags, or None: one pair, only whitespace before it, an answer after it.

    Returns one of ``empty``, ``no_think_tags``, ``unpaired_think_tags``, ``text_before_think``,
    ``no_answer_after_think``.
    """
    if not response or response.isspace():
        return "empty"
    opened, closed = response.count(_OPEN), response.count(_CLOSE)
    if not opened and not closed:
        return "no_think_tags"
    start, end = response.find(_OPEN), response.find(_CLOSE)
    if opened != 1 or closed != 1 or end < start:
        return "unpaired_think_tags"
    if response[:start].strip():
        return "text_before_think"
    return None if response[end + len(_CLOSE) :].strip() else "no_answer_after_think"


def well_formed(response: str) -> bool:
    """Whether the response has the think-tag format."""
    return format_problem(response) is None


def verdict_reason(outcome: str, finish_reason: str, reason: str) -> str | None:
    """The reason of ``VERDICT_REASONS``, or None for a correct, complete response.

    A missing or unknown outcome is an ``error``: it says nothing about the response.
    """
    if finish_reason == "error" or outcome not in ("correct", "incorrect", "unverifiable"):
        return "error"
    if outcome == "unverifiable":
        return "unverifiable"
    if finish_reason == "length" or reason == "truncated":
        return "truncated"
    return "incorrect" if outcome == "incorrect" else None


def filter_rows(traces: Traces, config: CurationConfig) -> Filtered:
    """Apply every filter; the work is linear in the length of the texts."""
    reasons: list[str | None] = []
    format_ok: list[bool] = []
    digests: dict[int, bytes] = {}
    for row, response in enumerate(traces.response):
        problem = format_problem(response)
        reason = verdict_reason(traces.outcome[row], traces.finish_reason[row], traces.reason[row])
        if reason == "incorrect" and not config.require_correct:
            reason = None
        if reason is None and problem and (config.require_think_tags or problem == "empty"):
            reason = "format"
        if reason is None and traces.num_tokens[row] > config.max_tokens:
            reason = "too_long"
        if reason is None:
            digests[row] = _digest(response)
        reasons.append(reason)
        format_ok.append(problem is None)
    for row in _repeated(traces, digests):
        reasons[row] = "duplicate_trace"
    return Filtered(reasons, format_ok, digests)


def _digest(response: str) -> bytes:
    return hashlib.sha256(" ".join(response.split()).encode("utf-8", "surrogatepass")).digest()


def _repeated(traces: Traces, digests: dict[int, bytes]) -> list[int]:
    """Rows whose response another row of the same problem also has; the one with the lowest sample index is spared."""
    groups: dict[tuple[str, bytes], list[int]] = {}
    for row, digest in digests.items():
        groups.setdefault((traces.problem_id[row], digest), []).append(row)
    repeated: list[int] = []
    for rows in groups.values():
        if len(rows) > 1:
            spared = min(rows, key=lambda row: (traces.order(row), traces.response[row]))
            repeated += [row for row in rows if row != spared]
    return repeated
