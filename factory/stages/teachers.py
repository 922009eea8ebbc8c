"""Which teacher: by a smoke test (DED, arXiv 2508.09883), never by its own accuracy.

Every candidate answers the same problems; the base student is trained briefly on each candidate's correct traces,
with an equal number of training tokens, and answers held-out questions. The candidate whose student does best is
chosen; when another one is not distinguishable from it (the paired interval of the difference includes 0), the cheaper
one per accepted trace is. Traces come out of the rollout store, so the chosen teacher's are not paid for again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.columns import read_traces
from curation.filters import filter_rows
from evals.answers import ANSWER_SCHEMA, correctness
from evals.intervals import bootstrap_mean, paired_difference, wilson_interval
from factory.context import Context
from factory.errors import DataError
from factory.recipe import Teacher
from factory.records import Problem, content_hash
from factory.rollouts import Usage, verify_config_inputs
from factory.stages.evaluation import write_answers
from factory.stages.problems import load_pool
from factory.stages.sampling import money, sampling_inputs, student_engine, write_traces
from factory.stages.training import encode, library_errors, run_training
from factory.tables import read_table, write_jsonl, write_table
from factory.workspace import Artifact, Ledger, write_json

SMOKE_VERSION = 1
TEACHERS_VERSION = 1
_BASE = "base"


@dataclass(frozen=True)
class SmokeSplit:
    """Problems for the traces and other problems for the questions."""

    problems: list[Problem]
    questions: list[Problem]


def choose_teacher(ctx: Context, problems: Artifact) -> Teacher:
    """The teacher of this run; ``teachers.json`` says why."""
    candidates = ctx.recipe.teachers.candidates
    if ctx.recipe.teachers.select == "first" or len(candidates) == 1:
        tests: dict[str, Artifact] = {}
    else:
        tests = {_BASE: base_answers(ctx, problems)}
        tests |= {teacher.name: smoke_test(ctx, problems, teacher) for teacher in candidates}
    artifact = decide(ctx, problems, tests)
    selected = json.loads((artifact.path / "teachers.json").read_text())["selected"]
    return next(t for t in candidates if t.name == selected)


def split_pool(ctx: Context, problems: Artifact) -> SmokeSplit:
    """Seeded choice by hash; with a small pool both parts shrink in proportion."""
    smoke = ctx.recipe.teachers.smoke
    pool = sorted(load_pool(problems), key=lambda p: content_hash("smoke", ctx.recipe.seed, p.id))
    if len(pool) < 2:
        raise DataError("teachers: the smoke test needs at least two problems; use teachers.select: first")
    wanted = smoke.num_problems + smoke.num_questions
    share = min(1.0, len(pool) / wanted)
    num_problems = max(1, int(smoke.num_problems * share))
    num_questions = max(1, int(smoke.num_questions * share))
    return SmokeSplit(pool[:num_problems], pool[num_problems : num_problems + num_questions])


def base_answers(ctx: Context, problems: Artifact) -> Artifact:
    """The untrained student on the smoke test's questions: what a gain is measured against."""
    student = student_engine(ctx, ctx.recipe.train.student)
    inputs = _question_inputs(ctx, problems) | {"student": ctx.engine_id(student)}

    def fill(folder: Path) -> Ledger:
        usage = Usage()
        _answer(ctx, problems, ctx.recipe.train.student, ctx.engine_id(student), folder, "base student", usage)
        return Ledger(f"smoke/{_BASE}", usage.asked, usage.asked, {}, usage.notes())

    return ctx.stage(f"smoke/{_BASE}", SMOKE_VERSION, inputs, fill, part=True)


def _question_inputs(ctx: Context, problems: Artifact) -> dict[str, Any]:
    recipe = ctx.recipe
    return {
        "problems": problems.id,
        "smoke": recipe.teachers.smoke.model_dump(mode="json"),
        "eval": {k: getattr(recipe.eval, k) for k in ("temperature", "top_p", "max_tokens", "batch_size")},
        "template": recipe.prompt_template,
        "seed": recipe.seed,
        "verify": verify_config_inputs(recipe.verify),
    }


def smoke_test(ctx: Context, problems: Artifact, teacher: Teacher) -> Artifact:
    """One candidate: its traces, a student trained on them, that student's answers."""
    recipe = ctx.recipe
    inputs = _question_inputs(ctx, problems) | {
        "teacher": sampling_inputs(ctx, teacher),
        "sampling": recipe.rollouts.model_dump(mode="json", exclude={"num_samples"}),
        "student": ctx.model_id(recipe.train.student),
        "train": recipe.train.model_dump(mode="json", exclude={"student", "methods", "kd", "epochs"}),
        "filters": recipe.curate.model_dump(mode="json", include={"max_tokens", "require_think_tags"}),
    }

    def fill(folder: Path) -> Ledger:
        sampling = recipe.rollouts.model_copy(update={"num_samples": recipe.teachers.smoke.num_samples})
        split = split_pool(ctx, problems)
        usage = write_traces(
            ctx, teacher, split.problems, sampling, folder / "traces.parquet", f"smoke test: {teacher.name}"
        )
        prompts, responses = _accepted(ctx, folder / "traces.parquet")
        answered = Usage()
        summary = _summary(teacher, usage, len(responses))
        if responses:
            summary |= _train_and_answer(ctx, problems, teacher, prompts, responses, folder, answered)
        else:
            write_table(folder / "answers.parquet", ANSWER_SCHEMA, [])
            write_jsonl(folder / "metrics.jsonl", [])
        write_json(folder / "summary.json", summary)
        drops = {"not_accepted": usage.asked - len(responses)}
        notes = usage.notes() | {"money": summary["money"], "train_tokens": summary["train_tokens"]}
        notes["student_answer_tokens"] = answered.completion_tokens
        return Ledger(f"smoke/{teacher.name}", usage.asked, len(responses), drops, notes)

    return ctx.stage(f"smoke/{teacher.name}", SMOKE_VERSION, inputs, fill, part=True)


def _accepted(ctx: Context, path: Path) -> tuple[list[str], list[str]]:
    """(questions, responses) of the traces that would pass the filters of curation."""
    table = read_table(path)
    reasons = filter_rows(read_traces(table), ctx.recipe.curate).reasons
    kept = [i for i, reason in enumerate(reasons) if reason is None]
    return table["prompt"].take(kept).to_pylist(), table["response"].take(kept).to_pylist()


def _summary(teacher: Teacher, usage: Usage, accepted: int) -> dict[str, Any]:
    judged = usage.outcomes["correct"] + usage.outcomes["incorrect"]
    return {
        "name": teacher.name,
        "engine": teacher.engine.kind,
        "asked": usage.asked,
        "judged": judged,
        "accepted": accepted,
        "truncated": usage.truncated,
        "unjudged": usage.asked - judged,
        "tokens": usage.completion_tokens,
        "prompt_tokens": usage.prompt_tokens,
        "seconds": round(usage.compute_seconds, 3),
        "money": money(teacher, usage),
        "train_tokens": None,
    }


def _train_and_answer(
    ctx: Context,
    problems: Artifact,
    teacher: Teacher,
    prompts: list[str],
    responses: list[str],
    folder: Path,
    answered: Usage,
) -> dict[str, Any]:
    smoke = ctx.recipe.teachers.smoke
    # A smaller pool or --limit shrinks the trial as a whole, for all candidates alike.
    token_budget = round(smoke.train_tokens * len(split_pool(ctx, problems).problems) / smoke.num_problems)
    student = folder / "student"
    with library_errors():
        examples = encode(ctx.recipe.train.student, prompts, responses)
        what = f"smoke test: train on {teacher.name}"
        trained = run_training(ctx, examples, student, what, token_budget=token_budget)
    (student / "metrics.jsonl").rename(folder / "metrics.jsonl")
    # The folder's final name says all that the student depends on; this one is used before it has it.
    identity = f"{content_hash(folder.name, length=24)}/{ctx.recipe.train.dtype}"
    _answer(ctx, problems, str(student), identity, folder, f"smoke test: student of {teacher.name}", answered)
    shutil.rmtree(student)  # a trial of minutes; the answers are what counts
    return {"train_tokens": trained["num_tokens"], "num_examples": trained["num_examples"]}


def _answer(ctx: Context, problems: Artifact, model: str, identity: str, folder: Path, what: str, usage: Usage) -> None:
    questions = split_pool(ctx, problems).questions
    num_samples = ctx.recipe.teachers.smoke.eval_samples
    config = student_engine(ctx, model)
    write_answers(ctx, config, identity, questions, num_samples, folder / "answers.parquet", what, usage)


def decide(ctx: Context, problems: Artifact, tests: dict[str, Artifact]) -> Artifact:
    """``teachers.json``: the candidates side by side and the choice."""
    teachers = ctx.recipe.teachers
    inputs = {
        "candidates": [t.model_dump(mode="json", exclude={"engine"}) for t in teachers.candidates],
        "engines": [ctx.engine_id(t.engine) for t in teachers.candidates],
        "select": teachers.select,
        "tests": {name: a.id for name, a in tests.items()},
        "intervals": ctx.recipe.eval.intervals.model_dump(mode="json"),
        "seed": ctx.recipe.seed,
    }

    def fill(folder: Path) -> Ledger:
        table = _compare(ctx, tests) if tests else _first(ctx)
        write_json(folder / "teachers.json", table)
        others = len(table["candidates"]) - 1
        return Ledger(
            "teachers", others + 1, 1, {"not_chosen": others} if others else {}, {"selected": table["selected"]}
        )

    return ctx.stage("teachers", TEACHERS_VERSION, inputs, fill)


def _first(ctx: Context) -> dict[str, Any]:
    teachers = ctx.recipe.teachers
    first = teachers.candidates[0]
    only = len(teachers.candidates) == 1
    return {
        "selected": first.name,
        "select": "first",
        "rule": "the first candidate",
        "reason": "it is the only candidate" if only else "the recipe says teachers.select: first",
        "student_base": None,
        "candidates": [
            {"name": t.name, "model": t.engine.model, "engine": t.engine.kind, "student_score": None}
            for t in ctx.written.teachers.candidates
        ],
    }


def _written_model(ctx: Context, name: str) -> str:
    return next(t.engine.model for t in ctx.written.teachers.candidates if t.name == name)


def _compare(ctx: Context, tests: dict[str, Artifact]) -> dict[str, Any]:
    intervals, seed = ctx.recipe.eval.intervals, ctx.recipe.seed
    correct = {name: correctness(read_table(a.path / "answers.parquet")) for name, a in tests.items()}
    rows = [_candidate(ctx, t, tests[t.name], correct) for t in ctx.recipe.teachers.candidates]
    scored = [r for r in rows if r["student_score"] is not None]
    if not scored:
        raise DataError(
            "teachers: no candidate gave a single accepted trace in the smoke test;"
            " look at verify.kind, at curate.require_think_tags, or at the teachers"
        )
    best = max(scored, key=lambda r: r["student_score"]["value"])
    for row in scored:
        if row is not best:
            row["behind_best"] = paired_difference(
                correct[row["name"]], correct[best["name"]], intervals, seed=seed
            ).as_dict()
    tied = [r for r in scored if r is best or r["behind_best"]["high"] >= 0]
    chosen = min(tied, key=_price)
    return {
        "selected": chosen["name"],
        "select": "smoke",
        "rule": (
            "best student after equal training tokens;"
            " among those not distinguishable from it, the cheapest accepted trace"
        ),
        "reason": _reason(best, chosen, tied, scored),
        "student_base": bootstrap_mean(correct[_BASE], intervals, seed=seed).as_dict(),
        "candidates": rows,
    }


def _price(row: dict[str, Any]) -> tuple[float, float, float]:
    """Money first; tokens decide between free teachers (seconds would make the choice depend on the machine's mood)."""
    return (row["money_per_accepted"], row["tokens_per_accepted"], -row["student_score"]["value"])


def _reason(best: dict[str, Any], chosen: dict[str, Any], tied: Sequence[dict[str, Any]], scored: Sequence[Any]) -> str:
    score = f"{best['name']}'s student scores {best['student_score']['value']:.1%}"
    if len(tied) == 1 and len(scored) > 1:
        return f"{score}, and no other candidate's student comes within the noise of it"
    if len(tied) == 1:
        return f"{score}; it is the only candidate with accepted traces"
    names = ", ".join(r["name"] for r in tied)
    return (
        f"{score}; {names} cannot be told apart at this size, and {chosen['name']} needs"
        f" {chosen['tokens_per_accepted']:.0f} tokens per accepted trace, the least of them"
    )


def _candidate(ctx: Context, teacher: Teacher, test: Artifact, correct: dict[str, Any]) -> dict[str, Any]:
    intervals, seed = ctx.recipe.eval.intervals, ctx.recipe.seed
    summary = json.loads((test.path / "summary.json").read_text())
    accepted = summary["accepted"]
    per = {
        f"{what}_per_accepted": (summary[what] / accepted if accepted else None)
        for what in ("tokens", "seconds", "money")
    }
    row = {
        **{
            k: summary[k]
            for k in ("name", "engine", "asked", "accepted", "truncated", "unjudged", "tokens", "seconds", "money")
        },
        "model": _written_model(ctx, teacher.name),
        "acceptance": wilson_interval(accepted, summary["asked"], intervals.level).as_dict(),
        **per,
        "mean_tokens": summary["tokens"] / max(summary["asked"], 1),
        "train_tokens": summary["train_tokens"],
        "student_score": None,
        "gain": None,
        "behind_best": None,
    }
    if accepted:
        own = correct[teacher.name]
        row["student_score"] = bootstrap_mean(own, intervals, seed=seed).as_dict()
        row["gain"] = paired_difference(own, correct[_BASE], intervals, seed=seed).as_dict()
    return row
