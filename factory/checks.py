"""Which verifier decides what: the recipe's ``verify``, or a benchmark's own."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

from factory.engines.config import EngineConfig
from verifiers.config import CombineConfig, JudgeConfig, PluginConfig, VerifyConfig

OWN_VERIFIER = "a benchmark whose references are of another sort takes a `verifier` of its own"


class JudgeSection(JudgeConfig):
    """A language model compares the response with the reference; its calls are kept in the workspace as completions."""

    engine: EngineConfig
    """Where the judge runs."""
    temperature: float = Field(0.0, ge=0, le=2)
    """Of the judge's own sampling; 0 is greedy."""
    max_tokens: int = Field(2048, ge=1, le=1_000_000)
    """Longest output of the judge, its thinking included; one that is cut off is no vote."""
    batch_size: int = Field(1024, ge=1, le=10_000)
    """Responses whose questions go to the engine together; the engine's own settings say how many are open at once."""


RecipeVerifier = Annotated[VerifyConfig | JudgeSection, Field(discriminator="kind")]
"""What decides in a run: a verifier in worker processes, or a judge."""


class Check(NamedTuple):
    """A verifier and where the recipe names it."""

    where: str
    """``verify``, or ``eval.benchmarks (NAME): verifier``: how messages about it begin."""
    config: RecipeVerifier


def label(config: RecipeVerifier) -> str:
    """The verifier in a few words, for tables and cards: its kind, its members, of a judge the model."""
    if isinstance(config, JudgeSection):
        return f"judge ({config.engine.model}, {config.engine.kind})"
    if isinstance(config, CombineConfig):
        return f"{config.kind} ({', '.join(label(member) for member in config.members)})"
    return config.check if isinstance(config, PluginConfig) else config.kind
