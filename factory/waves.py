"""Adaptive sampling: draw and judge one wave after the other until every problem has stopped.

A wave holds the next samples of all problems that go on, so the engine is busy with all of them at once; it is judged
while it is drawn, and the next is planned when all of it has arrived and been judged. That keeps decisions independent
of the order of arrival. Its price is the end of every wave, where the last long completions run alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from factory.adaptive import Beta, EnoughSuccesses, Policy, SettledBand, Waves
from factory.checks import Check
from factory.context import Context
from factory.drawing import LOOKUP, Drawing, Usage
from factory.engines.base import Engine, Request, SamplingParams
from factory.progress import Task
from factory.records import Problem
from factory.rollout_store import RolloutStore
from factory.rollouts import Draw, Judged, chat, judging, read_back, refuse_many_unchecked, sample_seed, user_turn
from factory.sampling_config import AdaptiveRates, AdaptiveTraces, DifficultyConfig, RolloutsConfig, most_samples
from factory.tables import in_chunks
from verifiers import Outcome, Verdict

DrawOf = Callable[[Problem, int], Draw]
"""The request for a problem's sample index: equal for equal indices, whatever else is drawn."""


def draw_in_waves(
    ctx: Context,
    engine: Engine,
    problems: Sequence[Problem],
    sampling: RolloutsConfig | DifficultyConfig,
    *,
    system_prompt: str | None,
    params: SamplingParams,
    check: Check,
    what: str,
    usage: Usage,
) -> Iterator[list[Judged]]:
    """Yield the judged completions by problem and sample index, part by part, when the last wave is done.

    Args:
        sampling: has an ``adaptive`` section.
        params: of every sample, but for the temperature where ``adaptive`` has a ladder.

    Raises:
        EngineError: when the engine, or the judge's, cannot go on; what arrived is kept.
        StageError: when more than 2 % of the requests failed for passing reasons, even when asked again, or when the
            checker failed on more than 20 % of the answers.
    """
    adaptive = sampling.adaptive
    assert adaptive is not None
    traces = adaptive if isinstance(adaptive, AdaptiveTraces) else None
    draw_of = _draw_of(ctx, engine, traces, system_prompt, params)
    waves = Waves(
        [p.id for p in problems],
        _policy(adaptive, most_samples(sampling)),
        first_wave=adaptive.first_wave,
        growth=adaptive.wave_growth,
        prior=Beta(*adaptive.prior) if adaptive.prior else None,
        budget=adaptive.max_tokens_total,
        max_tokens=sampling.max_tokens,
    )
    run = _Run(ctx, engine, problems, waves, draw_of, traces.min_distance if traces else None)
    with judging(ctx, check, what, usage) as judge:
        while plan := waves.plan():
            run.draw(plan, judge, check, what, usage)
    usage.errors.update(c.error or "unknown" for c in run.drawing.failures.values())
    usage.adaptive = _notes(waves, sampling)
    draws = [draw for drawn in run.draws for draw in drawn]
    for part in in_chunks(draws, LOOKUP):
        yield read_back(ctx.store, part, run.verdicts, run.drawing.failures, usage)


class _Run:
    """What the waves of one stage have in common."""

    def __init__(
        self,
        ctx: Context,
        engine: Engine,
        problems: Sequence[Problem],
        waves: Waves,
        draw_of: DrawOf,
        min_distance: float | None,
    ) -> None:
        self._ctx, self._problems, self._waves, self._draw_of = ctx, problems, waves, draw_of
        self._task: Task | None = None
        self.drawing = Drawing(engine, ctx.store, self._advance)
        self.draws: list[list[Draw]] = [[] for _ in problems]
        """By problem, in the order of their sample indices."""
        self.verdicts: dict[str, Verdict] = {}
        self._counted = _Distinct(ctx.store, min_distance) if min_distance else None

    def _advance(self, count: int, note: str) -> None:
        if self._task:
            self._task.advance(count, note)

    def draw(
        self,
        plan: Sequence[tuple[int, range]],
        judge: Callable[[Drawing, Sequence[Draw]], dict[str, Verdict]],
        check: Check,
        what: str,
        usage: Usage,
    ) -> None:
        """Draw and judge a wave, and tell ``waves`` what came."""
        places = [(index, sample) for index, samples in plan for sample in samples]
        draws = [self._draw_of(self._problems[index], sample) for index, sample in places]
        label = f"{what}, wave {len(self._waves.wave_sizes)}"
        with self._ctx.progress.task(label, len(draws)) as self._task:
            self.verdicts |= judge(self.drawing, draws)
        refuse_many_unchecked(what, check, self.verdicts, sum(self._waves.wave_sizes), usage)
        asked = list(zip(places, draws, strict=True))
        for part in in_chunks(asked, LOOKUP):
            # A throw-away usage: every sample is counted once, when all are read in the end.
            judged = read_back(self._ctx.store, [d for _, d in part], self.verdicts, self.drawing.failures, Usage())
            for ((index, _), draw), row in zip(part, judged, strict=True):
                self.draws[index].append(draw)
                self._waves.add(
                    index,
                    success=self._success(index, row),
                    num_tokens=row.completion.num_tokens if row.completion else None,
                    refused=self._is_refused(draw),
                )

    def _is_refused(self, draw: Draw) -> bool:
        failure = self.drawing.failures.get(draw.request.key)
        return failure is not None and failure.permanent

    def _success(self, index: int, row: Judged) -> bool | None:
        outcome = row.verdict.outcome if row.verdict else Outcome.ERROR
        if outcome is Outcome.CORRECT:
            return self._counted is None or self._counted.add(index, row)
        return False if outcome is Outcome.INCORRECT else None


class _Distinct:
    """The traces that count, each far enough from those of its problem before it; texts stay in the store."""

    def __init__(self, store: RolloutStore, min_distance: float) -> None:
        self._store, self._min_distance = store, min_distance
        self._requests: dict[int, list[Request]] = {}

    def add(self, index: int, row: Judged) -> bool:
        """Whether this correct trace counts."""
        from rapidfuzz.distance import Levenshtein

        from curation.diversity import encode

        assert row.completion is not None
        earlier = self._requests.setdefault(index, [])
        stored = [c.text for c in self._store.get(earlier) if c]
        own, *others = encode([row.completion.text, *stored])
        far = self._min_distance
        if all(Levenshtein.normalized_distance(own, other, score_cutoff=far) >= far for other in others):
            earlier.append(row.draw.request)
            return True
        return False


def _policy(adaptive: AdaptiveTraces | AdaptiveRates, max_samples: int) -> Policy:
    if isinstance(adaptive, AdaptiveTraces):
        return EnoughSuccesses(adaptive.wanted, max_samples, adaptive.min_chance)
    return SettledBand(adaptive.edges, max_samples, adaptive.confidence)


def _draw_of(
    ctx: Context, engine: Engine, traces: AdaptiveTraces | None, system_prompt: str | None, params: SamplingParams
) -> DrawOf:
    template = ctx.recipe.prompt_template
    templates = (traces and traces.prompt_variants) or (template,)
    temperatures = (traces and traces.temperatures) or (params.temperature,)

    rendered = lru_cache(maxsize=1024)(engine.render)  # the samples of a problem follow each other

    def draw_of(problem: Problem, sample: int) -> Draw:
        temperature, variant = cycled(sample, len(temperatures), len(templates))
        text, student_turn = user_turn(templates[variant], problem), user_turn(template, problem)
        messages = chat(text, system_prompt)
        request = Request(
            messages,
            rendered(messages),
            replace(params, temperature=temperatures[temperature]),
            sample,
            sample_seed(ctx.recipe.seed, text, sample),
            engine.identity,
        )
        return Draw(problem, request, student_turn if text != student_turn else None)

    return draw_of


def cycled(sample: int, num_temperatures: int, num_templates: int) -> tuple[int, int]:
    """Which temperature and which template a sample index has: both change from sample to sample, and every pair comes
    once in ``num_temperatures * num_templates`` samples."""
    turn = sample // math.lcm(num_temperatures, num_templates) % math.gcd(num_temperatures, num_templates)
    return sample % num_temperatures, (sample + turn) % num_templates


def _notes(waves: Waves, sampling: RolloutsConfig | DifficultyConfig) -> dict[str, Any]:
    """For a ledger. ``asked + saved`` is what ``num_samples`` of every problem would have been."""
    asked = sum(tally.asked for tally in waves.tallies)
    fixed = sampling.num_samples * len(waves.tallies)
    return {
        "problems": len(waves.tallies),
        "asked": asked,
        "fixed": fixed,
        "saved": fixed - asked,
        "stopped": waves.stopped(),
        "waves": waves.wave_sizes,
        "prior": [round(part, 4) for part in waves.prior],
    }
