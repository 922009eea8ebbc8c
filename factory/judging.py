"""A language model behind an engine as the judge of ``verifiers.judge``: for a file of rows, and in a run.

In a run the judge's calls are completions like a teacher's: kept in the rollout store the moment they arrive, so a
stopped run pays for none of them twice. They are made in this process, when the answers that they are about are there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from factory.checks import JudgeSection
from factory.context import Context
from factory.drawing import Drawing, JudgeUsage
from factory.engines.base import Completion, Engine, Request, SamplingParams
from factory.errors import EngineError
from factory.progress import Task
from verifiers import Verdict, VerifyTask
from verifiers.judge import Generate, JudgePrompt, judge_all

Ask = Callable[[Sequence[Request]], Iterable[Completion]]
"""Gets the completions of requests, in any order; failed ones may be left out."""

_MAX_TOKENS = 2048


def generate_with(
    engine: Engine,
    ask: Ask | None = None,
    *,
    temperature: float = 0.0,
    max_tokens: int = _MAX_TOKENS,
    seed: int = 0,
) -> Generate:
    """The engine as ``judge_all`` asks it: one text per prompt, None where the request failed.

    Args:
        ask: default: the engine, without a store.
    """
    params = SamplingParams(temperature=temperature, max_tokens=max_tokens)
    ask = ask or (lambda requests: itertools.chain.from_iterable(engine.generate(requests)))

    def generate(prompts: Sequence[JudgePrompt]) -> list[str | None]:
        requests = [_request(engine, prompt, params, seed) for prompt in prompts]
        distinct = {request.key: request for request in requests}  # equal responses to a question are asked about once
        texts = {c.request.key: c.text for c in ask(list(distinct.values())) if c.finish_reason != "error"}
        return [texts.get(request.key) for request in requests]

    return generate


def _request(engine: Engine, prompt: JudgePrompt, params: SamplingParams, seed: int) -> Request:
    messages = (("system", prompt.system), ("user", prompt.user))
    return Request(messages, engine.render(messages), params, 0, seed, engine.identity)


def judge_rows(
    ctx: Context, section: JudgeSection, rows: Iterable[VerifyTask], num_rows: int, what: str, usage: JudgeUsage
) -> dict[str, Verdict]:
    """Verdicts by row id, the judge's calls through the workspace's store.

    Raises:
        EngineError: when the judge's engine cannot go on; what arrived is kept.
        StageError: when more than 2 % of its calls failed for passing reasons, even when asked again.
    """
    total = num_rows * section.num_votes
    with ctx.engine(section.engine) as engine, ctx.progress.task(what, total) as task:
        count = _Count(task)
        drawing = Drawing(engine, ctx.store, count.advance)

        def ask(requests: Sequence[Request]) -> Iterator[Completion]:
            for completion in drawing.completions(requests):
                usage.add(completion)
                yield completion

        generate = generate_with(engine, ask, temperature=section.temperature, max_tokens=section.max_tokens)
        verdicts: dict[str, Verdict] = {}
        try:
            for row, verdict in judge_all(rows, generate, section):
                verdicts[row.id] = verdict
                count.reach(len(verdicts) * section.num_votes)
        except EngineError as error:
            raise EngineError(f"{what}: {error}") from error
    usage.errors.update(c.error or "unknown" for c in drawing.failures.values())
    drawing.refuse_many_failures(what)
    return verdicts


class _Count:
    """Progress in calls; rows that need none, or share another row's, are made up for when their verdict is there."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._done = 0

    def advance(self, count: int, note: str) -> None:
        self._done += count
        self._task.advance(count, note)

    def reach(self, done: int) -> None:
        if done > self._done:
            self._task.advance(done - self._done)
            self._done = done
