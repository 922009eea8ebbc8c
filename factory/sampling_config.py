"""The recipe's ``rollouts`` and ``difficulty`` sections: how many completions are drawn, and how."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

Temperature = Annotated[float, Field(ge=0, le=2)]
Edge = Annotated[float, Field(gt=0, lt=1)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SamplingConfig(_Config):
    """How completions are drawn."""

    num_samples: int = Field(4, ge=1, le=1024)
    """Completions per prompt."""
    temperature: float = Field(0.7, ge=0, le=2)
    """Softmax temperature; 0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus mass."""
    max_tokens: int = Field(1024, ge=1, le=1_000_000)
    """Longest completion; one that reaches it is truncated, and known as such."""

    @model_serializer(mode="wrap")
    def _without_absent_parts(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A fixed number of samples is written, and hashed, as if ``adaptive`` did not exist."""
        row: dict[str, Any] = plain(self)
        if row.get("adaptive", 0) is None:
            del row["adaptive"]
        return row


class WavesConfig(_Config):
    """What adaptive sampling of traces and of pass rates share: every unsettled problem gets samples wave by wave."""

    max_samples: int | None = Field(None, ge=1, le=1024)
    """Most completions of one problem. Default: the section's ``num_samples``."""
    first_wave: int = Field(2, ge=1, le=1024)
    """Completions of every problem in the first wave. The end of a wave leaves the engine partly idle: for traces as
    many as ``wanted`` make fewer waves, at little more tokens."""
    wave_growth: float = Field(2.0, ge=1, le=16)
    """Each wave asks this many times as many of a problem as the one before; 1 keeps the size."""
    max_tokens_total: int | None = Field(None, ge=1)
    """Budget of completion tokens of the whole stage, stored completions included: the next samples go where they are
    worth most per token. Waves are planned with expected lengths: longer answers may exceed it a little."""
    prior: tuple[float, float] | None = None
    """a and b of the Beta distribution that pass rates are expected to follow. Default: fitted to the problems' own
    verdicts after every wave."""

    @field_validator("prior")
    @classmethod
    def _positive(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not all(0 < part <= 1000 for part in value):
            raise ValueError(f"prior: got {list(value)}; a and b are above 0 and at most 1000, [1, 1] is uniform")
        return value


class AdaptiveTraces(WavesConfig):
    """Stop asking for a problem's traces when there are enough, or when there will hardly ever be."""

    wanted: int = Field(4, ge=1, le=1024)
    """Traces judged correct that are enough for one problem."""
    min_distance: float | None = Field(None, gt=0, le=1)
    """Count a trace only when it is at least this far from each one counted before: edit distance in words and signs
    over the longer one's length. Default: every correct trace counts."""
    min_chance: float = Field(0.05, ge=0, lt=1)
    """Give a problem up when its chance to reach ``wanted`` within ``max_samples`` is below this."""
    temperatures: tuple[Temperature, ...] | None = Field(None, min_length=1)
    """Temperatures taken in turn by the sample's index. Default: the section's ``temperature``."""
    prompt_variants: tuple[str, ...] | None = Field(None, min_length=1)
    """Templates taken in turn by the sample's index, each with ``{problem}``. The teacher sees them; the student is
    trained on ``prompt_template``, which is also the default."""

    @field_validator("prompt_variants")
    @classmethod
    def _hold_problem(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for template in value or ():
            if "{problem}" not in template:
                raise ValueError(f"prompt_variants: {template[:60]!r} must contain {{problem}}")
        return value


class AdaptiveRates(WavesConfig):
    """Stop asking the student when the band of its pass rate is settled."""

    edges: tuple[Edge, ...] = (0.25, 0.75)
    """Rates that part the bands, rising; put curation's ``max_pass_rate`` among them. Never solved and always solved
    are bands of their own."""
    confidence: float = Field(0.9, gt=0.5, lt=1)
    """Posterior probability of a band at which it is settled."""

    @field_validator("edges")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(low >= high for low, high in pairwise(value)):
            raise ValueError(f"edges: got {list(value)}; each must be above the one before")
        return value


class RolloutsConfig(SamplingConfig):
    """How the chosen teacher is sampled."""

    adaptive: AdaptiveTraces | None = None
    """Draw in waves and stop problem by problem. Default: ``num_samples`` of every problem."""

    @model_validator(mode="after")
    def _fits(self) -> RolloutsConfig:
        _refuse_odd_waves(self)
        if self.adaptive and self.adaptive.wanted > most_samples(self):
            raise ValueError(
                f"adaptive.wanted ({self.adaptive.wanted}) must not exceed {_bound(self)}; raise the latter,"
                " or want fewer"
            )
        greedy = self.adaptive and all(t == 0 for t in self.adaptive.temperatures or (self.temperature,))
        if greedy and self.adaptive and self.adaptive.wanted > len(self.adaptive.prompt_variants or ("",)):
            raise ValueError(
                f"adaptive.wanted ({self.adaptive.wanted}) traces cannot differ at temperature 0;"
                " give adaptive.temperatures, or want no more than there are prompt_variants"
            )
        return self


class DifficultyConfig(SamplingConfig):
    """How the student's pass rate is measured."""

    adaptive: AdaptiveRates | None = None
    """Draw in waves and stop when a problem's band is settled. Default: ``num_samples`` of every problem."""

    @model_validator(mode="after")
    def _fits(self) -> DifficultyConfig:
        _refuse_odd_waves(self)
        return self


def most_samples(config: RolloutsConfig | DifficultyConfig) -> int:
    """Most completions of one problem."""
    return (config.adaptive.max_samples if config.adaptive else None) or config.num_samples


def _bound(config: RolloutsConfig | DifficultyConfig) -> str:
    given = config.adaptive is not None and config.adaptive.max_samples is not None
    return f"{'adaptive.max_samples' if given else 'num_samples'} ({most_samples(config)})"


def _refuse_odd_waves(config: RolloutsConfig | DifficultyConfig) -> None:
    if config.adaptive and config.adaptive.first_wave > most_samples(config):
        raise ValueError(
            f"adaptive.first_wave ({config.adaptive.first_wave}) must not exceed {_bound(config)}; lower the former"
        )
    if config.adaptive and (total := config.adaptive.max_tokens_total) and total < config.max_tokens:
        raise ValueError(
            f"adaptive.max_tokens_total ({total}) does not pay for one completion of max_tokens ({config.max_tokens})"
        )
