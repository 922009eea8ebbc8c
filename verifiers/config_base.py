"""What the settings of all verifiers have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class VerifierConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    time_limit_s: float = Field(default=5.0, gt=0, le=600)
    """Seconds of processor time one verdict may take before its worker is killed and the verdict is ``error/timeout``
    (rounded up to whole ones by the kernel; by the clock, six times as much)."""
    num_workers: int | None = Field(default=None, ge=1, le=256)
    """Verifier processes. Default: one per core."""
