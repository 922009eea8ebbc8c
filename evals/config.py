"""How scores are estimated; which benchmarks there are is the recipe's business."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class IntervalConfig(BaseModel):
    """Bootstrap over questions and over samples within a question."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_resamples: int = Field(2000, ge=100, le=100_000)
    """Bootstrap resamples."""
    level: float = Field(0.95, gt=0.5, lt=1)
    """Coverage of the intervals."""
