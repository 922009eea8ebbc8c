"""Sample n responses per problem from one model and judge each: the stage behind rollouts, pass rates and scores."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from factory.engines.base import Completion, Engine, Request, SamplingParams
from factory.errors import StageError
from factory.records import TRACE_SCHEMA, TRACE_SCHEMA_VERSION, Problem, content_hash
from factory.rollouts import Asked, sample
from factory.stages.context import Context, Model
from factory.workspace import Artifact, Ledger
from verifiers import Outcome, Verdict, VerifierPool, VerifyTask, build_verifier

VERSION = 1
MAX_FAILED_SHARE = 0.05
_FILE = "traces.parquet"
_ROWS_PER_WRITE = 512


class Plan(NamedTuple):
    """What is to be sampled."""

    problems: Sequence[Problem]
    model: Model
    params: SamplingParams
    num_samples: int
    seeds: str
    """Name of the family of seeds: equal names give a problem's sample equal seeds, so that stages share rollouts."""


def verified_samples(ctx: Context, label: str, stage: str, plan: Plan) -> Artifact:
    """``traces.parquet`` in ``TRACE_SCHEMA``, in the order of the problems; ledger: kept = correct, drops = reasons.

    Raises:
        StageError: when more than ``MAX_FAILED_SHARE`` of the completions failed for reasons of infrastructure.
    """
    recipe = ctx.recipe
    verifier = build_verifier(recipe.verify)
    judge = [verifier.name, verifier.version, recipe.verify.model_dump(mode="json", exclude={"num_workers"})]
    inputs = [
        VERSION, TRACE_SCHEMA_VERSION, plan.model.identity, plan.model.system_prompt, recipe.prompt_template,
        asdict(plan.params), plan.num_samples, plan.seeds, recipe.seed, content_hash([p.to_row() for p in plan.problems]), judge,
        plan.model.name,
    ]  # fmt: skip

    def make(folder: Path) -> Ledger:
        with ctx.engine(plan.model) as engine:
            requests = list(_requests(ctx, plan, engine))
            asked = Asked()
            with ctx.progress.task(label, len(requests)) as task:
                completions = sample(engine, [r for _, r in requests], ctx.store, asked, task.advance)
                judged = _judge(ctx, requests, completions)
        _refuse_if_failing(label, asked, len(requests))
        counts = _write(folder / _FILE, ctx, plan, requests, judged)
        drops = {reason: n for (outcome, reason), n in counts.items() if outcome != Outcome.CORRECT}
        correct = sum(n for (outcome, _), n in counts.items() if outcome == Outcome.CORRECT)
        return Ledger(len(requests), correct, drops, costs=_costs(asked))

    return ctx.stage(label, stage, inputs, make)


def _requests(ctx: Context, plan: Plan, engine: Engine) -> Iterator[tuple[Problem, Request]]:
    for problem in plan.problems:
        messages = plan.model.messages(ctx.recipe.prompt_template.replace("{problem}", problem.prompt))
        prompt = engine.render(messages)
        for i in range(plan.num_samples):
            seed = int(content_hash(ctx.recipe.seed, plan.seeds, problem.id, i, length=7), 16)
            yield problem, Request(messages, prompt, plan.params, i, seed, plan.model.identity)


class _Judged(NamedTuple):
    verdict: Verdict
    failed: Completion | None
    """The completion itself where it is not in the store."""


def _judge(
    ctx: Context, requests: Sequence[tuple[Problem, Request]], completions: Iterator[Completion]
) -> dict[str, _Judged]:
    """Verdicts by request key. Verification runs in worker processes while the next completions are generated."""
    gold = {request.key: problem.gold for problem, request in requests}
    judged: dict[str, _Judged] = {}

    def tasks() -> Iterator[VerifyTask]:
        for c in completions:
            if c.finish_reason == "error":
                judged[c.request.key] = _Judged(Verdict(Outcome.ERROR, "engine_error"), c)
            else:
                yield VerifyTask(c.request.key, c.text, gold[c.request.key], c.finish_reason)

    with VerifierPool(ctx.recipe.verify) as pool:
        for task, verdict in pool.verify_all(tasks()):
            judged[task.id] = _Judged(verdict, None)
    return judged


def _refuse_if_failing(label: str, asked: Asked, total: int) -> None:
    if asked.failed > MAX_FAILED_SHARE * total:
        raise StageError(
            f"{label}: {asked.failed} of {total} completions failed, none of them is counted as an answer."
            f" First failures: {'; '.join(asked.errors)}. What arrived is stored: run again to ask only for the rest"
        )


def _write(
    path: Path, ctx: Context, plan: Plan, requests: Sequence[tuple[Problem, Request]], judged: dict[str, _Judged]
) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    with pq.ParquetWriter(path, TRACE_SCHEMA) as writer:
        for start in range(0, len(requests), _ROWS_PER_WRITE):
            part = requests[start : start + _ROWS_PER_WRITE]
            stored = ctx.store.get([request for _, request in part])
            rows = []
            for (problem, request), completion in zip(part, stored, strict=True):
                verdict, failed = judged[request.key]
                rows.append(_row(plan, problem, request, failed or completion, verdict))
                counts[rows[-1]["outcome"], rows[-1]["reason"]] += 1
            writer.write_table(pa.Table.from_pylist(rows, schema=TRACE_SCHEMA))
    return counts


def _row(
    plan: Plan, problem: Problem, request: Request, completion: Completion | None, verdict: Verdict
) -> dict[str, Any]:
    if completion is None:
        raise StageError("the rollout store lost a completion while this stage ran; run again to ask for it")
    return {
        "trace_id": request.key[:16],
        "problem_id": problem.id,
        "prompt": problem.prompt,
        "gold": problem.gold,
        "teacher": plan.model.name,
        "model": plan.model.identity,
        "sample": request.sample,
        "seed": request.seed,
        "sampling": json.dumps(asdict(plan.params)),
        "response": completion.text,
        "finish_reason": completion.finish_reason,
        "num_prompt_tokens": completion.num_prompt_tokens,
        "num_tokens": completion.num_tokens,
        "outcome": str(verdict.outcome),
        "reason": verdict.reason,
        "extracted": verdict.extracted,
        "verifier": verdict.verifier,
        "source": problem.source,
        "licence": problem.licence,
        "meta": problem.meta,
    }


def _costs(asked: Asked) -> dict[str, float]:
    return {
        "completions_drawn": asked.drawn,
        "completions_reused": asked.reused,
        "prompt_tokens": asked.prompt_tokens,
        "completion_tokens": asked.completion_tokens,
    }


def read_traces(artifact: Artifact, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Rows of an artifact of this stage."""
    return list(pq.read_table(artifact.path / _FILE, columns=list(columns) if columns else None).to_pylist())
