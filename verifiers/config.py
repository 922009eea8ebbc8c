"""The recipe's ``verify`` section: which check decides, and its limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    time_limit_s: float = Field(default=5.0, gt=0, le=600)
    """Seconds of processor time one verdict may take before its worker is killed and the verdict is ``error/timeout``
    (rounded up to whole ones by the kernel; by the clock, six times as much)."""
    num_workers: int | None = Field(default=None, ge=1, le=256)
    """Verifier processes. Default: one per core."""


class MathConfig(_Config):
    """Mathematical equivalence of the extracted answer and the reference."""

    kind: Literal["math"] = "math"
    """Selects this verifier."""


class ExactConfig(_Config):
    """String equality of the extracted answer and the reference after Unicode and whitespace normalisation."""

    kind: Literal["exact"] = "exact"
    """Selects this verifier."""
    ignore_case: bool = True
    """Compare without regard to case."""


class PluginConfig(_Config):
    """A verifier of your own."""

    kind: Literal["plugin"] = "plugin"
    """Selects this verifier."""
    check: str = Field(min_length=1)
    """``./my_check.py:Check``, ``package.module:Check``, or the name under which a package registered it. The file's
    code runs with your rights."""
    options: dict[str, Any] = {}
    """Settings of the class, read into its pydantic model ``Config``."""


VerifyConfig = Annotated[MathConfig | ExactConfig | PluginConfig, Field(discriminator="kind")]
