"""The table of a model's judged answers, and the views of it that the metrics take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

ANSWER_SCHEMA = pa.schema(
    [
        ("question_id", pa.string()),
        ("question", pa.string()),  # as it was put to the model
        ("gold", pa.string()),
        ("sample", pa.int32()),
        ("response", pa.string()),
        ("finish_reason", pa.string()),  # stop | length | error
        ("num_tokens", pa.int32()),  # completion tokens
        ("outcome", pa.string()),  # verdict: correct | incorrect | unverifiable | error
        ("reason", pa.string()),
        ("extracted", pa.string()),  # what was taken to be the answer; null: none found
        ("seconds", pa.float64()),
    ]
)

Correctness = Mapping[str, Sequence[bool]]
"""Question id -> verdicts of its judged samples in the order of their index; empty where none could be judged."""


class Judged(NamedTuple):
    """A sample with a verdict about it."""

    correct: bool
    answer: str | None
    truncated: bool


def judged_samples(answers: pa.Table) -> dict[str, list[Judged]]:
    """Question id -> its judged samples by sample index; every question of the table is there.

    A sample whose verdict is ``unverifiable`` or ``error`` (or missing) says nothing about the model and is left out.
    """
    names = ("question_id", "sample", "outcome", "extracted", "finish_reason")
    columns = [answers[name].to_pylist() for name in names]
    questions: dict[str, list[tuple[int, Judged]]] = {}
    for question, sample, outcome, extracted, finish_reason in zip(*columns, strict=True):
        samples = questions.setdefault(question, [])
        if outcome in ("correct", "incorrect") and finish_reason != "error":
            samples.append((sample or 0, Judged(outcome == "correct", extracted, finish_reason == "length")))
    return {
        question: [judged for _, judged in sorted(samples, key=lambda pair: pair[0])]
        for question, samples in questions.items()
    }


def correctness(answers: pa.Table) -> dict[str, list[bool]]:
    """Question id -> which of its judged samples are correct."""
    return {question: [j.correct for j in samples] for question, samples in judged_samples(answers).items()}
