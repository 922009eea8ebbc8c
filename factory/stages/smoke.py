"""The smoke test of one candidate teacher (DED, arXiv 2508.09883): its traces, and what a student learns from them.

Every candidate answers the same problems; the base student is trained briefly on each candidate's accepted traces, with
an equal number of training tokens, and answers questions that none of them was trained on. Traces come out of the
rollout store, so the chosen teacher's are not paid for again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.columns import read_traces
from curation.filters import filter_rows
from evals.answers import ANSWER_SCHEMA
from factory.context import Context
from factory.drawing import Usage
from factory.errors import DataError
from factory.recipe import Teacher
from factory.records import Problem, content_hash
from factory.stages.evaluation import write_answers
from factory.stages.problems import load_pool
from factory.stages.sampling import sampling_inputs, student_engine, write_traces
from factory.stages.training import encode, library_errors, run_training
from factory.tables import read_table, write_jsonl, write_table
from factory.workspace import Artifact, Ledger, write_json

VERSION = 1


@dataclass(frozen=True)
class Split:
    """Problems for the traces, and other problems as questions."""

    problems: list[Problem]
    questions: list[Problem]


def split_pool(ctx: Context, problems: Artifact) -> Split:
    """Seeded choice by hash; with a small pool both parts shrink in proportion."""
    smoke = ctx.recipe.teachers.smoke
    pool = sorted(load_pool(problems), key=lambda p: content_hash("smoke", ctx.recipe.seed, p.id))
    if len(pool) < 2:
        raise DataError("teachers: the smoke test needs at least two problems; use teachers.select: first")
    share = min(1.0, len(pool) / (smoke.num_problems + smoke.num_questions))
    num_problems = max(1, int(smoke.num_problems * share))
    num_questions = max(1, int(smoke.num_questions * share))
    return Split(pool[:num_problems], pool[num_problems : num_problems + num_questions])


def base_trial(ctx: Context, problems: Artifact) -> Artifact:
    """``answers.parquet`` of the untrained student: what a gain is measured against."""
    model = ctx.recipe.train.student
    inputs = _question_inputs(ctx, problems) | {"student": ctx.engine_id(student_engine(ctx, model))}

    def fill(folder: Path) -> Ledger:
        usage = Usage()
        _answer(ctx, split_pool(ctx, problems), model, folder, "smoke test: base student", usage)
        return Ledger("smoke/base", usage.asked, usage.asked, {}, usage.notes())

    return ctx.stage("smoke/base", VERSION, inputs, fill, within="teachers")


def trial(ctx: Context, problems: Artifact, teacher: Teacher) -> Artifact:
    """One candidate's ``traces.parquet``, its student's ``answers.parquet``, and ``summary.json``."""
    recipe = ctx.recipe
    smoke = recipe.teachers.smoke
    inputs = _question_inputs(ctx, problems) | {
        "teacher": sampling_inputs(ctx, teacher),
        "sampling": recipe.rollouts.model_dump(mode="json", exclude={"num_samples", "adaptive"}),
        "student": ctx.model_id(recipe.train.student),
        "train": recipe.train.model_dump(mode="json", exclude={"student", "methods", "kd", "epochs"}),
        "filters": recipe.curate.model_dump(
            mode="json", include={"max_tokens", "require_think_tags", "require_correct"}
        ),
    }

    def fill(folder: Path) -> Ledger:
        sampling = recipe.rollouts.model_copy(update={"num_samples": smoke.num_samples, "adaptive": None})
        split = split_pool(ctx, problems)
        traces = folder / "traces.parquet"
        usage = write_traces(ctx, teacher, split.problems, sampling, traces, f"smoke test: {teacher.name}")
        prompts, responses = _accepted(ctx, traces)
        summary = _summary(usage, len(responses))
        student: dict[str, Any] = {}
        if responses:
            student = _train_and_answer(ctx, split, teacher, prompts, responses, folder, usage)
            summary["train_tokens"] = student["train_tokens"]
        else:
            write_table(folder / "answers.parquet", ANSWER_SCHEMA, [])
            write_jsonl(folder / "metrics.jsonl", [])
        write_json(folder / "summary.json", summary)
        drops = {"not_accepted": usage.asked - len(responses)}
        return Ledger(f"smoke/{teacher.name}", usage.asked, len(responses), drops, usage.notes() | student)

    return ctx.stage(f"smoke/{teacher.name}", VERSION, inputs, fill, within="teachers")


def _question_inputs(ctx: Context, problems: Artifact) -> dict[str, Any]:
    recipe = ctx.recipe
    return {
        "problems": problems.id,
        "smoke": recipe.teachers.smoke.model_dump(mode="json"),
        "eval": recipe.eval.model_dump(mode="json", include={"temperature", "top_p", "max_tokens"}),
        "template": recipe.prompt_template,
        "seed": recipe.seed,
        "verify": ctx.verifier_id(recipe.verify),
    }


def _accepted(ctx: Context, path: Path) -> tuple[list[str], list[str]]:
    """(questions, responses) of the traces that would pass the filters of curation."""
    table = read_table(path)
    reasons = filter_rows(read_traces(table), ctx.recipe.curate).reasons
    kept = [i for i, reason in enumerate(reasons) if reason is None]
    return table["prompt"].take(kept).to_pylist(), table["response"].take(kept).to_pylist()


def _summary(usage: Usage, accepted: int) -> dict[str, Any]:
    judged = usage.outcomes["correct"] + usage.outcomes["incorrect"]
    return {
        "asked": usage.asked,
        "judged": judged,
        "accepted": accepted,
        "truncated": usage.truncated,
        "tokens": usage.completion_tokens,
        "prompt_tokens": usage.prompt_tokens,
        "seconds": round(usage.compute_seconds, 3),
        "train_tokens": None,
    }


def _train_and_answer(
    ctx: Context, split: Split, teacher: Teacher, prompts: list[str], responses: list[str], folder: Path, traces: Usage
) -> dict[str, Any]:
    """Facts about the trial's student; what a judge costs for its answers is added to that for the ``traces``."""
    smoke = ctx.recipe.teachers.smoke
    # A smaller pool or --limit shrinks the trial as a whole, for all candidates alike.
    token_budget = max(1, round(smoke.train_tokens * len(split.problems) / smoke.num_problems))
    student = folder / "student"
    with library_errors():
        examples = encode(ctx.recipe.train.student, prompts, responses)
        what = f"smoke test: train on {teacher.name}"
        trained = run_training(ctx, examples, student, what, token_budget=token_budget)
    (student / "metrics.jsonl").rename(folder / "metrics.jsonl")
    usage = Usage(judges=traces.judges)
    _answer(ctx, split, str(student), folder, f"smoke test: student of {teacher.name}", usage)
    shutil.rmtree(student)  # a trial of minutes; the answers are what counts
    return {"train_tokens": trained["num_supervised_tokens"], "student_answer_tokens": usage.completion_tokens}


def _answer(ctx: Context, split: Split, model: str, folder: Path, what: str, usage: Usage) -> None:
    config = student_engine(ctx, model)
    with ctx.engine(config) as engine:
        num_samples = ctx.recipe.teachers.smoke.eval_samples
        path = folder / "answers.parquet"
        write_answers(ctx, engine, split.questions, num_samples, ctx.recipe.check, path, what, usage)
