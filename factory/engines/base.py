"""The one protocol every engine speaks: a batch of rendered prompts in, completions out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal, Protocol

from factory.records import content_hash

Message = dict[str, str]
"""One chat turn: ``{"role": "user", "content": "..."}``."""

FinishReason = Literal["stop", "length", "error"]


@dataclass(frozen=True)
class SamplingParams:
    """How a completion is drawn. ``max_tokens`` is not part of a finished completion's identity."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024

    def identity(self) -> dict[str, float]:
        """The parameters that change which text is drawn (everything but the token limit)."""
        row = asdict(self)
        del row["max_tokens"]
        return row


@dataclass(frozen=True)
class Request:
    """One completion to draw."""

    messages: tuple[tuple[str, str], ...]
    """Chat turns as ``(role, content)``."""
    prompt: str
    """The messages as this engine renders them; part of the completion's identity."""
    params: SamplingParams
    sample: int
    """Sample index 0..n-1 of this prompt."""
    seed: int
    """Seed of this sample alone, so that its text does not depend on its batch."""
    model: str
    """Identity of the engine's model."""

    @cached_property
    def key(self) -> str:
        """Identity of the completion in the rollout store."""
        return content_hash(self.model, self.prompt, self.params.identity(), self.sample, self.seed, length=32)


@dataclass(frozen=True)
class Completion:
    """What an engine returned. ``finish_reason == "error"`` is an infrastructure failure, never an answer."""

    request: Request
    text: str
    finish_reason: FinishReason
    num_prompt_tokens: int
    num_tokens: int
    seconds: float
    error: str | None = None
    permanent: bool = False
    """Of an error: asking again cannot help (prompt longer than the context, refused content)."""


class Engine(Protocol):
    """A source of completions. Engines hold no state about problems, verdicts or stages."""

    identity: str
    """Which model this is, by content where possible: equal identities must give equal completions."""
    batch_size: int | None
    """Requests computed together, or None for an engine that schedules by itself."""

    def render(self, messages: Sequence[tuple[str, str]]) -> str:
        """The prompt text of a chat, exactly as the model will see it where the engine knows."""
        ...

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Yield groups of completions as they arrive, every request exactly once, in any order.

        Raises:
            EngineError: when no further request can succeed (bad key, server gone).
        """
        ...

    def close(self) -> None:
        """Free memory, connections and processes."""
        ...
