"""Ask an engine for completions that the store does not hold yet, so that none is lost and none is paid twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from factory.engines.base import Completion, Engine, Request
from factory.rollout_store import RolloutStore

_STORE_GROUP = 256


@dataclass
class Asked:
    """What one call of ``sample`` cost; grows while its iterator is read."""

    reused: int = 0
    """Completions that were in the store."""
    drawn: int = 0
    """Completions the engine returned now."""
    failed: int = 0
    """Requests that ended in an infrastructure failure."""
    prompt_tokens: int = 0
    """Prompt tokens of drawn completions."""
    completion_tokens: int = 0
    """Tokens of drawn completions."""
    errors: list[str] = field(default_factory=list)
    """Texts of the first failures."""

    def add(self, completions: Sequence[Completion]) -> None:
        for c in completions:
            if c.finish_reason == "error":
                self.failed += 1
                if len(self.errors) < 5:
                    self.errors.append(c.error or "unknown failure")
            else:
                self.drawn += 1
                self.prompt_tokens += c.num_prompt_tokens
                self.completion_tokens += c.num_tokens


def sample(
    engine: Engine,
    requests: Sequence[Request],
    store: RolloutStore,
    asked: Asked,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[Completion]:
    """Every request's completion, stored ones first asked from the store, in an order of the engine's convenience.

    An engine with a ``batch_size`` gets the whole plan cut into groups that depend on the plan alone, and each group
    is stored in one transaction: after a kill the same groups are left, so the batches, and with them the last bit of
    every probability, are those of an undisturbed run. Groups hold prompts of similar length, so little is padding.
    """
    if engine.batch_size is None:
        yield from _sample_stream(engine, requests, store, asked, advance)
        return
    plan = sorted(requests, key=lambda r: (len(r.prompt), r.key))
    for start in range(0, len(plan), engine.batch_size):
        group = plan[start : start + engine.batch_size]
        held = store.get(group)
        missing = [r for r, c in zip(group, held, strict=True) if c is None]
        have = [c for c in held if c is not None]
        asked.reused += len(have)
        advance(len(have))
        yield from have
        if missing:
            arrived = [c for part in engine.generate(missing) for c in part]
            store.put(arrived)
            asked.add(arrived)
            advance(len(arrived))
            yield from arrived


def _sample_stream(
    engine: Engine, requests: Sequence[Request], store: RolloutStore, asked: Asked, advance: Callable[[int], None]
) -> Iterator[Completion]:
    """One stream over all missing requests: an engine with its own scheduling is kept full."""
    missing: list[Request] = []
    for start in range(0, len(requests), _STORE_GROUP):
        part = requests[start : start + _STORE_GROUP]
        for request, completion in zip(part, store.get(part), strict=True):
            if completion is None:
                missing.append(request)
            else:
                asked.reused += 1
                advance(1)
                yield completion
    for arrived in engine.generate(missing):
        store.put(arrived)
        asked.add(arrived)
        advance(len(arrived))
        yield from arrived
