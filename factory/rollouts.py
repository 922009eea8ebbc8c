"""Draw completions through the store and have them judged: by rules while the next ones are drawn, by a judge after."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple

from factory.checks import Check, JudgeSection
from factory.context import Context
from factory.drawing import LOOKUP, Drawing, JudgeUsage, Usage
from factory.engines.base import Completion, Engine, Request, SamplingParams
from factory.errors import EngineError, StageError
from factory.judging import judge_rows
from factory.records import Problem, content_hash
from factory.rollout_store import RolloutStore
from factory.tables import in_chunks
from verifiers import Outcome, Verdict, VerifierError, VerifierPool, VerifyTask

_MOST_PENDING = 4096
_MAX_UNCHECKED_SHARE = 0.2


class Draw(NamedTuple):
    """One completion to draw and the problem it answers."""

    problem: Problem
    request: Request
    student_turn: str | None = None
    """The question as the student will see it, where the model is asked in other words."""


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
        messages = chat(text, system_prompt)
        prompt = engine.render(messages)
        for sample in range(num_samples):
            own_seed = sample_seed(seed, text, sample)
            draws.append(Draw(problem, Request(messages, prompt, params, sample, own_seed, engine.identity)))
    return draws


def chat(text: str, system_prompt: str | None) -> tuple[tuple[str, str], ...]:
    """The chat that asks for a completion."""
    return (*((("system", system_prompt),) if system_prompt else ()), ("user", text))


def sample_seed(seed: int, text: str, sample: int) -> int:
    """Seed of one sample of a question under a recipe's seed."""
    return int(content_hash(seed, text, sample, length=15), 16) % 2**31


def user_turn(template: str, problem: Problem) -> str:
    """The question as it is put to a model."""
    return template.replace("{problem}", problem.prompt)


def draw_and_judge(
    ctx: Context, engine: Engine, draws: Sequence[Draw], check: Check, what: str, usage: Usage
) -> Iterator[list[Judged]]:
    """Yield the judged completions in the order of ``draws``, part by part.

    First everything that is not in the store yet is drawn, each completion stored the moment it arrives and judged in
    worker processes meanwhile (a judge is asked when all are there); then the rows are read back. Memory holds the
    verdicts and one part.

    Raises:
        EngineError: when the engine, or the judge's, cannot go on; what arrived is kept.
        StageError: when more than 2 % of the requests failed for passing reasons, even when asked again, or when the
            checker failed on more than 20 % of the answers.
    """
    with ctx.progress.task(what, len(draws)) as task:
        drawing = Drawing(engine, ctx.store, task.advance)
        with judging(ctx, check, what, usage) as judge:
            verdicts = judge(drawing, draws)
    refuse_many_unchecked(what, check, verdicts, len(draws), usage)
    usage.errors.update(c.error or "unknown" for c in drawing.failures.values())
    for part in in_chunks(draws, LOOKUP):
        yield read_back(ctx.store, part, verdicts, drawing.failures, usage)


@contextmanager
def judging(
    ctx: Context, check: Check, what: str, usage: Usage
) -> Iterator[Callable[[Drawing, Sequence[Draw]], dict[str, Verdict]]]:
    """A function that draws and judges a group: verdicts by request key; what failed is in ``drawing.failures``.

    Raises:
        StageError: when the checker cannot go on.
    """
    try:
        if isinstance(check.config, JudgeSection):
            yield lambda drawing, draws: _draw_then_judge(ctx, drawing, draws, check, what, usage)
        else:
            with VerifierPool(check.config) as pool:
                yield lambda drawing, draws: _draw_and_verify(drawing, draws, pool, what)
    except VerifierError as error:
        raise StageError(f"{what}: {error}; the completions that arrived are kept, run again to go on") from error


def _draw_then_judge(
    ctx: Context, drawing: Drawing, draws: Sequence[Draw], check: Check, what: str, usage: Usage
) -> dict[str, Verdict]:
    assert isinstance(check.config, JudgeSection)
    for _ in drawing.completions([d.request for d in draws]):
        pass  # stored: their texts are read again part by part
    drawing.refuse_many_failures(what)
    answered = [d for d in draws if d.request.key not in drawing.failures]
    judge = usage.judges.setdefault(check.where, JudgeUsage())
    rows = _stored_rows(ctx.store, answered)
    return judge_rows(ctx, check.config, rows, len(answered), f"{what}: the judge of {check.where}", judge)


def _draw_and_verify(drawing: Drawing, draws: Sequence[Draw], pool: VerifierPool, what: str) -> dict[str, Verdict]:
    gold = {d.request.key: d.problem.gold for d in draws}
    pending = _Judging(pool)
    for completion in drawing.completions([d.request for d in draws]):
        pending.submit(_row(completion, gold[completion.request.key]))
    drawing.refuse_many_failures(what)
    return pending.finish()


def _stored_rows(store: RolloutStore, draws: Sequence[Draw]) -> Iterator[VerifyTask]:
    for part in in_chunks(draws, LOOKUP):
        for draw, completion in zip(part, store.get([d.request for d in part]), strict=True):
            yield _row(_present(completion, draw), draw.problem.gold)


def _present(completion: Completion | None, draw: Draw) -> Completion:
    if completion is None:
        raise EngineError(
            f"a stored completion disappeared ({draw.request.key}); is another program changing the workspace?"
        )
    return completion


def _row(completion: Completion, gold: str) -> VerifyTask:
    request = completion.request
    return VerifyTask(request.key, completion.text, gold, completion.finish_reason, request.messages[-1][1])


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


def refuse_many_unchecked(what: str, check: Check, verdicts: dict[str, Verdict], total: int, usage: Usage) -> None:
    """Raises ``StageError`` when the checker failed on more than 20 % of ``total`` answers."""
    unchecked = Counter(v.reason for v in verdicts.values() if v.outcome is Outcome.ERROR)
    if unchecked.total() <= _MAX_UNCHECKED_SHARE * total:
        return
    hint = f"raise {check.where}.time_limit_s, or look at the references"
    if isinstance(check.config, JudgeSection):
        said = usage.judges[check.where].errors.most_common(1)
        hint = f"look at {check.where}.engine" + (f" (it says: {said[0][0]})" if said else "")
    raise StageError(
        f"{what}: the checker failed on {unchecked.total()} of {total} answers ({dict(unchecked)}),"
        f" too many to trust the rest; the completions are kept: {hint}, and run again"
    )


def read_back(
    store: RolloutStore,
    part: Sequence[Draw],
    verdicts: dict[str, Verdict],
    failures: dict[str, Completion],
    usage: Usage,
) -> list[Judged]:
    """The completions of drawn requests with their verdicts, counted in ``usage``."""
    rows = []
    for draw, completion in zip(part, store.get([d.request for d in part]), strict=True):
        key = draw.request.key
        usage.asked += 1
        if key in failures:
            usage.outcomes["engine_error"] += 1
            rows.append(Judged(draw, None, None))
            continue
        completion = _present(completion, draw)
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
        "prompt": judged.draw.student_turn or request.messages[-1][1],
        "gold": problem.gold,
        "teacher": teacher,
        "model": request.model,
        "sample": request.sample,
        "seed": request.seed,
        "sampling": json.dumps(_sampling(judged.draw)),
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


def _sampling(draw: Draw) -> dict[str, Any]:
    request = draw.request
    asked = {} if draw.student_turn is None else {"asked": request.messages[-1][1]}
    return request.params.identity() | {"max_tokens": request.params.max_tokens} | asked


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
