"""Draw completions through the store and have them judged while the next ones are drawn."""

from __future__ import annotations

import contextlib
import json
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from factory.context import Context
from factory.engines.base import Completion, Engine, Request, SamplingParams
from factory.errors import EngineError, StageError
from factory.records import Problem, content_hash
from factory.rollout_store import RolloutStore
from factory.tables import in_chunks
from sft.models import sha256_file
from verifiers import Outcome, Verdict, VerifierError, VerifierPool, VerifyConfig, VerifyTask
from verifiers.config import PluginConfig

_LOOKUP = 512
_MOST_PENDING = 4096
_MAX_FAILED_SHARE = 0.02
_MAX_UNCHECKED_SHARE = 0.2


class Draw(NamedTuple):
    """One completion to draw and the problem it answers."""

    problem: Problem
    request: Request


@dataclass
class Usage:
    """What completions cost."""

    asked: int = 0
    generated: int = 0
    """Drawn in this process; the rest came from the store."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    compute_seconds: float = 0.0
    """Seconds of generation when the completions were first drawn, summed."""
    truncated: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    """Texts of failed requests."""

    def notes(self) -> dict[str, Any]:
        """For a ledger. ``generated`` is left out: it says something of this process, not of the result."""
        return {
            "asked": self.asked,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "compute_seconds": round(self.compute_seconds, 2),
            "truncated": self.truncated,
            "outcomes": dict(sorted(self.outcomes.items())),
            **({"errors": dict(self.errors.most_common(5))} if self.errors else {}),
        }


class Judged(NamedTuple):
    """A drawn and judged completion. ``completion`` is None where the engine failed for good."""

    draw: Draw
    completion: Completion | None
    verdict: Verdict | None


def plan_draws(
    engine: Engine,
    problems: Sequence[Problem],
    *,
    template: str,
    system_prompt: str | None,
    params: SamplingParams,
    num_samples: int,
    seed: int,
) -> list[Draw]:
    """``num_samples`` requests per problem, in the order of the problems.

    A sample's seed depends on the recipe's seed, the question and the sample index only, so another stage (or run)
    that asks the same finds the answer in the store.
    """
    draws = []
    for problem in problems:
        text = user_turn(template, problem)
        messages = (*((("system", system_prompt),) if system_prompt else ()), ("user", text))
        prompt = engine.render(messages)
        for sample in range(num_samples):
            own_seed = int(content_hash(seed, text, sample, length=15), 16) % 2**31
            draws.append(Draw(problem, Request(messages, prompt, params, sample, own_seed, engine.identity)))
    return draws


def user_turn(template: str, problem: Problem) -> str:
    """The question as it is put to a model."""
    return template.replace("{problem}", problem.prompt)


def draw_and_judge(
    ctx: Context, engine: Engine, draws: Sequence[Draw], what: str, usage: Usage
) -> Iterator[list[Judged]]:
    """Yield the judged completions in the order of ``draws``, part by part.

    First everything that is not in the store yet is drawn, each completion stored the moment it arrives and judged in
    worker processes meanwhile; then the rows are read back. Memory holds the verdicts and one part.

    Raises:
        EngineError: when the engine cannot go on; what arrived is kept.
        StageError: when more than 2 % of the requests failed for passing reasons, even when asked again, or when the
            checker failed on more than 20 % of the answers.
    """
    failures: dict[str, Completion] = {}
    try:
        verdicts = _draw_all(ctx, engine, draws, what, usage, failures)
    except VerifierError as error:
        raise StageError(f"{what}: {error}; the completions that arrived are kept, run again to go on") from error
    _refuse_many_failures(what, failures, verdicts, len(draws))
    usage.errors.update(c.error or "unknown" for c in failures.values())
    for part in in_chunks(draws, _LOOKUP):
        yield _read_back(ctx.store, part, verdicts, failures, usage)


def _draw_all(
    ctx: Context, engine: Engine, draws: Sequence[Draw], what: str, usage: Usage, failures: dict[str, Completion]
) -> dict[str, Verdict]:
    """Verdicts by request key; what failed (asked a second time where that may help) goes to ``failures``."""
    gold = {d.request.key: d.problem.gold for d in draws}
    with VerifierPool(ctx.recipe.verify) as pool, ctx.progress.task(what, len(draws)) as task:
        judging = _Judging(pool)
        requests = [d.request for d in draws]
        for completions in _through_store(engine, ctx.store, requests, usage):
            _sort_out(completions, gold, judging, failures)
            task.advance(len(completions), f"{usage.generated} drawn")
        again = [r for r in requests if r.key in failures and not failures[r.key].permanent]
        if again and len(again) <= max(_MAX_FAILED_SHARE * len(requests), 1):
            for completions in _through_store(engine, ctx.store, again, usage):
                for c in completions:
                    failures.pop(c.request.key, None)
                _sort_out(completions, gold, judging, failures)
        return judging.finish()


class _Judging:
    """Rows on their way through the verifier; only so many wait, so that their texts do not pile up."""

    def __init__(self, pool: VerifierPool) -> None:
        self._pool = pool
        self._pending: deque[tuple[str, Future[Verdict]]] = deque()
        self._verdicts: dict[str, Verdict] = {}

    def submit(self, row: VerifyTask) -> None:
        self._pending.append((row.id, self._pool.submit(row)))
        while len(self._pending) > _MOST_PENDING or (self._pending and self._pending[0][1].done()):
            self._take()

    def finish(self) -> dict[str, Verdict]:
        while self._pending:
            self._take()
        return self._verdicts

    def _take(self) -> None:
        key, future = self._pending.popleft()
        self._verdicts[key] = future.result()


def _sort_out(
    completions: Sequence[Completion], gold: dict[str, str], judging: _Judging, failures: dict[str, Completion]
) -> None:
    for c in completions:
        if c.finish_reason == "error":
            failures[c.request.key] = c
        else:
            judging.submit(
                VerifyTask(c.request.key, c.text, gold[c.request.key], c.finish_reason, c.request.messages[-1][1])
            )


def _through_store(
    engine: Engine, store: RolloutStore, requests: Sequence[Request], usage: Usage
) -> Iterator[list[Completion]]:
    """Every request's completion, the stored ones first where the engine schedules by itself.

    An engine that computes batches gets them cut at the same places every time, so that a resumed run draws in the
    same batches as an undisturbed one: float rounding depends on the batch.
    """
    missing: list[Request] = []
    if engine.batch_size:  # similar lengths together: less padding. Any order will do, as long as it is always the same
        requests = sorted(requests, key=lambda r: (len(r.prompt), r.key))
    for part in in_chunks(requests, engine.batch_size or _LOOKUP):
        known = store.get(part)
        found = [c for c in known if c is not None]
        if found:
            yield found
        absent = [r for r, c in zip(part, known, strict=True) if c is None]
        if engine.batch_size is None:
            missing += absent
        elif absent:
            yield from _generate(engine, store, absent, usage)
    if missing:
        yield from _generate(engine, store, missing, usage)


def _generate(engine: Engine, store: RolloutStore, requests: list[Request], usage: Usage) -> Iterator[list[Completion]]:
    for completions in engine.generate(requests):
        store.put(completions)
        usage.generated += len(completions)
        yield completions


def _refuse_many_failures(what: str, failures: dict[str, Completion], verdicts: dict[str, Verdict], total: int) -> None:
    passing = [c.error or "unknown" for c in failures.values() if not c.permanent]
    if len(passing) > _MAX_FAILED_SHARE * total:
        reasons = "; ".join(f"{count}x {text}" for text, count in Counter(passing).most_common(3))
        raise StageError(
            f"{what}: {len(passing)} of {total} requests failed ({reasons}). That is no verdict on the model: the"
            " answers that arrived are kept, run again to ask only for the others"
        )
    unchecked = Counter(v.reason for v in verdicts.values() if v.outcome is Outcome.ERROR)
    if unchecked.total() > _MAX_UNCHECKED_SHARE * total:
        raise StageError(
            f"{what}: the checker failed on {unchecked.total()} of {total} answers ({dict(unchecked)}),"
            " too many to trust the rest; the completions are kept: raise verify.time_limit_s, or look at the"
            " references, and run again"
        )


def _read_back(
    store: RolloutStore,
    part: Sequence[Draw],
    verdicts: dict[str, Verdict],
    failures: dict[str, Completion],
    usage: Usage,
) -> list[Judged]:
    rows = []
    for draw, completion in zip(part, store.get([d.request for d in part]), strict=True):
        key = draw.request.key
        usage.asked += 1
        if key in failures or completion is None:
            if key not in failures:
                raise EngineError(
                    f"a stored completion disappeared ({key}); is another program changing the workspace?"
                )
            usage.outcomes["engine_error"] += 1
            rows.append(Judged(draw, None, None))
            continue
        verdict = verdicts[key]
        usage.prompt_tokens += completion.num_prompt_tokens
        usage.completion_tokens += completion.num_tokens
        usage.compute_seconds += completion.seconds
        usage.truncated += completion.finish_reason == "length"
        usage.outcomes[verdict.outcome.value] += 1
        rows.append(Judged(draw, completion, verdict))
    return rows


def trace_row(judged: Judged, teacher: str) -> dict[str, Any]:
    """A row of TRACE_SCHEMA. A failed request is a row, too: ``finish_reason`` and ``outcome`` are ``error``."""
    problem, request = judged.draw.problem, judged.draw.request
    c, v = judged.completion, judged.verdict
    return {
        "trace_id": request.key[:16],
        "problem_id": problem.id,
        "prompt": request.messages[-1][1],
        "gold": problem.gold,
        "teacher": teacher,
        "model": request.model,
        "sample": request.sample,
        "seed": request.seed,
        "sampling": json.dumps(request.params.identity() | {"max_tokens": request.params.max_tokens}),
        "response": c.text if c else "",
        "finish_reason": c.finish_reason if c else "error",
        "num_prompt_tokens": c.num_prompt_tokens if c else 0,
        "num_tokens": c.num_tokens if c else 0,
        "outcome": v.outcome.value if v else "error",
        "reason": v.reason if v else "engine_failed",
        "extracted": v.extracted if v else None,
        "verifier": v.verifier if v else "",
        "source": problem.source,
        "licence": problem.licence,
        "meta": problem.meta,
    }


def answer_row(judged: Judged) -> dict[str, Any]:
    """A row of the evals' answer table."""
    problem, request = judged.draw.problem, judged.draw.request
    c, v = judged.completion, judged.verdict
    return {
        "question_id": problem.id,
        "question": request.messages[-1][1],
        "gold": problem.gold,
        "sample": request.sample,
        "response": c.text if c else "",
        "finish_reason": c.finish_reason if c else "error",
        "num_tokens": c.num_tokens if c else 0,
        "outcome": v.outcome.value if v else "error",
        "reason": v.reason if v else "engine_failed",
        "extracted": v.extracted if v else None,
        "seconds": round(c.seconds, 6) if c else 0.0,
    }


def verify_config_inputs(config: VerifyConfig) -> dict[str, Any]:
    """What verdicts depend on: the settings and the verifier's version, not the number of its workers."""
    from verifiers import build_verifier

    with contextlib.closing(build_verifier(config)) as verifier:
        inputs = config.model_dump(mode="json", exclude={"num_workers"}) | {"version": verifier.version}
    if isinstance(config, PluginConfig):
        place, _, name = config.check.rpartition(":")
        if place.endswith(".py"):  # by content, as everything local
            inputs["check"] = [name, sha256_file(Path(place))]
    return inputs
