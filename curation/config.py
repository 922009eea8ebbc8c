"""The recipe's ``curate`` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RandomSelector(_Config):
    """A seeded draw from everything that passed the filters: the control for every other selector."""

    kind: Literal["random"] = "random"
    """Selects this selector."""


class DedSelector(_Config):
    """DED (arXiv 2508.09883): drop problems the student already solves, keep P mutually distant traces of the rest."""

    kind: Literal["ded"] = "ded"
    """Selects this selector."""
    max_pass_rate: float = Field(0.75, ge=0, le=1)
    """Problems that the student solves more often than this are dropped as too easy."""
    drop_unsolved: bool = False
    """Also drop problems the student never solved (0 of n)."""
    traces_per_problem: int = Field(4, ge=1, le=64)
    """P: at most this many traces of one problem, chosen farthest apart."""


Selector = Annotated[DedSelector | RandomSelector, Field(discriminator="kind")]


class CurationConfig(_Config):
    """Filters, then one selection step."""

    size: int = Field(800, ge=1)
    """Wanted number of examples; fewer are kept when fewer qualify, and the funnel says so."""
    max_tokens: int = Field(16_384, ge=1)
    """Longest trace kept, in tokens of the sampling model."""
    require_think_tags: bool = True
    """Keep only traces with exactly one ``<think>`` ... ``</think>`` pair and an answer after it."""
    require_correct: bool = True
    """Keep only traces judged correct. ``false`` keeps complete wrong ones too: an ablation, or a rehearsal."""
    selector: Selector = DedSelector()
    """How examples are chosen among those that passed the filters."""

    @model_validator(mode="after")
    def _selector_fits(self) -> CurationConfig:
        if isinstance(self.selector, DedSelector) and self.selector.traces_per_problem > self.size:
            raise ValueError(
                f"selector.traces_per_problem ({self.selector.traces_per_problem}) must not exceed size ({self.size})"
            )
        return self
