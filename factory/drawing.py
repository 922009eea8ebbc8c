"""Completions through the store: what is there is taken from it, what is missing is drawn and stored as it arrives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.engines.base import Completion, Engine, Request
from factory.errors import StageError
from factory.rollout_store import RolloutStore
from factory.tables import in_chunks

LOOKUP = 512
"""Requests that are looked up together."""
_MAX_FAILED_SHARE = 0.02


@dataclass
class JudgeUsage:
    """What a judge's calls cost."""

    calls: int = 0
    """Distinct questions that were answered, those from the store included."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    compute_seconds: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    """Texts of failed calls."""
    _seen: set[str] = field(default_factory=set, repr=False)

    def add(self, completion: Completion) -> None:
        """Count an answer, unless the same question was counted before."""
        key = completion.request.key
        if key not in self._seen:
            self._seen.add(key)
            self.calls += 1
            self.prompt_tokens += completion.num_prompt_tokens
            self.completion_tokens += completion.num_tokens
            self.compute_seconds += completion.seconds

    def notes(self) -> dict[str, Any]:
        """For a ledger."""
        return {
            "calls": self.calls,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "compute_seconds": round(self.compute_seconds, 2),
            **({"errors": dict(self.errors.most_common(5))} if self.errors else {}),
        }


@dataclass
class Usage:
    """What completions cost."""

    asked: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    compute_seconds: float = 0.0
    """Seconds of generation when the completions were first drawn, summed."""
    truncated: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    """Texts of failed requests."""
    judges: dict[str, JudgeUsage] = field(default_factory=dict)
    """By the place in the recipe that names the judge; empty where rules decide."""
    adaptive: dict[str, Any] = field(default_factory=dict)
    """What adaptive sampling decided; empty for a fixed number of samples."""

    def notes(self) -> dict[str, Any]:
        """For a ledger."""
        return {
            "asked": self.asked,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "compute_seconds": round(self.compute_seconds, 2),
            "truncated": self.truncated,
            "outcomes": dict(sorted(self.outcomes.items())),
            **({"errors": dict(self.errors.most_common(5))} if self.errors else {}),
            **({"judges": {where: judge.notes() for where, judge in self.judges.items()}} if self.judges else {}),
            **({"adaptive": self.adaptive} if self.adaptive else {}),
        }


class Drawing:
    """Requests on their way through store and engine.

    Args:
        advance: told of every group of requests that is done, failed ones included, and how many were drawn so far.
    """

    def __init__(self, engine: Engine, store: RolloutStore, advance: Callable[[int, str], None]) -> None:
        self._engine = engine
        self._store = store
        self._advance = advance
        self._num_drawn = self._num_asked = 0
        self.failures: dict[str, Completion] = {}
        """By request key: what failed for good, or failed again."""

    def completions(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """The requests' completions in any order; what failed is asked once more where that may help, else left out.

        Raises:
            EngineError: when the engine cannot go on; what arrived is kept.
        """
        self._num_asked += len(requests)
        for group in self._through_store(requests):
            yield from self._good(group)
            self._advance(len(group), f"{self._num_drawn} drawn")
        again = [r for r in requests if r.key in self.failures and not self.failures[r.key].permanent]
        if again and len(again) <= max(_MAX_FAILED_SHARE * len(requests), 1):
            for group in self._through_store(again):
                yield from self._good(group)

    def _good(self, group: Sequence[Completion]) -> Iterator[Completion]:
        for completion in group:
            if completion.finish_reason == "error":
                self.failures[completion.request.key] = completion
            else:
                self.failures.pop(completion.request.key, None)
                yield completion

    def _through_store(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Every request's completion, the stored ones first where the engine schedules by itself.

        An engine that computes batches gets them cut at the same places every time, so that a resumed run draws in the
        same batches as an undisturbed one: float rounding depends on the batch.
        """
        size = self._engine.batch_size
        missing: list[Request] = []
        if size:  # equal temperatures and similar lengths together. Any order will do, as long as it is always the same
            requests = sorted(requests, key=lambda r: (r.params.temperature, len(r.prompt), r.key))
        for part in in_chunks(requests, size or LOOKUP):
            known = self._store.get(part)
            found = [c for c in known if c is not None]
            if found:
                yield found
            absent = [r for r, c in zip(part, known, strict=True) if c is None]
            if size is None:
                missing += absent
            elif absent:
                yield from self._generate(absent)
        if missing:
            if (estimate := getattr(self._engine, "estimate", None)) is not None:
                self._advance(0, str(estimate(missing)))
            yield from self._generate(missing)

    def _generate(self, requests: list[Request]) -> Iterator[list[Completion]]:
        for completions in self._engine.generate(requests):
            self._store.put(completions)
            self._num_drawn += len(completions)
            yield completions

    def refuse_many_failures(self, what: str) -> None:
        """Raises ``StageError`` when more than 2 % of all requests failed for passing reasons."""
        passing = [c.error or "unknown" for c in self.failures.values() if not c.permanent]
        if len(passing) > _MAX_FAILED_SHARE * self._num_asked:
            reasons = "; ".join(f"{count}x {text}" for text, count in Counter(passing).most_common(3))
            raise StageError(
                f"{what}: {len(passing)} of {self._num_asked} requests failed ({reasons}). That is no verdict on the"
                " model: the answers that arrived are kept, run again to ask only for the others"
            )
