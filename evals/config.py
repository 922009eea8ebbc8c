"""How scores are estimated; which benchmarks there are is the recipe's business."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class IntervalConfig(BaseModel):
    """Bootstrap over questions; the samples of a question stay together (see ``evals.intervals`` for why)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_resamples: int = Field(2000, ge=100, le=100_000)
    """Bootstrap resamples, and sign flips of the paired test: a p-value is never below 1 / (this + 1)."""
    level: float = Field(0.95, gt=0.5, lt=1)
    """Coverage of the intervals."""
