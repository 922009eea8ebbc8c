"""The recipe's ``verify`` section: which check decides, and its limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from verifiers.config_base import VerifierConfig
from verifiers.config_more import (
    ChoiceConfig,
    CombineConfig,
    JudgeConfig,
    ReasoningGymConfig,
    RegexConfig,
    SecondMathConfig,
    complete_combine_config,
)


class MathConfig(VerifierConfig):
    """Mathematical equivalence of the extracted answer and the reference."""

    kind: Literal["math"] = "math"
    """Selects this verifier."""


class ExactConfig(VerifierConfig):
    """String equality of the extracted answer and the reference after Unicode and whitespace normalisation."""

    kind: Literal["exact"] = "exact"
    """Selects this verifier."""
    ignore_case: bool = True
    """Compare without regard to case."""


class PluginConfig(VerifierConfig):
    """A verifier of your own."""

    kind: Literal["plugin"] = "plugin"
    """Selects this verifier."""
    check: str = Field(min_length=1)
    """``./my_check.py:Check``, ``package.module:Check``, or the name under which a package registered it. The file's
    code runs with your rights."""
    options: dict[str, Any] = {}
    """Settings of the class, read into its pydantic model ``Config``."""


class CodeConfig(VerifierConfig):
    """A program against the problem's tests, in a sandbox."""

    kind: Literal["code"] = "code"
    """Selects this verifier."""
    time_limit_s: float = Field(default=6.0, gt=0, le=600)
    """Seconds per test, by a clock that stands still while another process has the core; by the plain clock, three
    times as much. Past it the program is wrong (``incorrect/time_limit``)."""
    total_time_limit_s: float = Field(default=120.0, gt=0, le=3600)
    """Seconds by the clock for all tests of one program; past it, too, it is ``incorrect/time_limit``."""
    memory_mb: int = Field(default=1024, ge=64, le=1_048_576)
    """Resident memory of all processes of a program together, in MiB."""
    float_tolerance: float = Field(default=0.0, ge=0, lt=1)
    """Relative and absolute tolerance for numbers that are not integers. 0, LiveCodeBench's rule: equal as decimal
    numbers. Tests that say ``float_tolerance`` themselves go by that."""
    all_tests: bool = False
    """Run all tests, for the pass fraction in the verdict's detail, and do not stop at the first failure."""
    sandbox: Literal["bubblewrap", "none"] = "bubblewrap"
    """``none`` runs model-written code as you, on your files and network: for machines that are thrown away after."""


VerifyConfig = Annotated[
    MathConfig
    | ExactConfig
    | PluginConfig
    | CodeConfig
    | ChoiceConfig
    | RegexConfig
    | ReasoningGymConfig
    | SecondMathConfig
    | CombineConfig,
    Field(discriminator="kind"),
]
"""Settings of a verifier that decides row by row, in a worker process."""
AnyVerifyConfig = Annotated[VerifyConfig | JudgeConfig, Field(discriminator="kind")]
"""Those, or a judge, who needs a model (``verifiers.judge``)."""
complete_combine_config(VerifyConfig)


def runs_unconfined(config: VerifyConfig | JudgeConfig) -> bool:
    """Whether model-written code would run without a sandbox, in this verifier or in a member of it."""
    if isinstance(config, CombineConfig):
        return any(runs_unconfined(member) for member in config.members)
    return isinstance(config, CodeConfig) and config.sandbox == "none"
