"""Teacher smoke test (DED, arXiv 2508.09883, section 3.1): the teacher is chosen by what its traces teach the student.

Every candidate answers the same problems; the student is trained briefly, from the same weights and on equally many
tokens, on each candidate's accepted traces; the trained students answer the same held-out questions. The candidate
with the best student wins if the paired difference to a rival excludes zero; among those it does not beat, the one
with the fewest tokens per accepted trace is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evals.metrics import accuracy, paired_difference
from factory.engines.base import SamplingParams
from factory.errors import StageError
from factory.recipe import Teacher
from factory.records import Problem
from factory.stages.context import Context, Model, read_json
from factory.stages.problems import by_hash, read_problems
from factory.stages.sampling import Plan, read_traces, verified_samples
from factory.stages.training import STUDENT, train_student
from factory.workspace import Artifact, Ledger, write_json
from curation.filters import format_problem

VERSION = 1
MIN_ACCEPTED = 4
_FILE = "teachers.json"


class Trial(NamedTuple):
    """What one candidate's smoke test left on disk."""

    model: Model
    traces: Artifact
    student: Artifact | None
    answers: Artifact | None


def choose_teacher(ctx: Context, problems: Artifact) -> tuple[Model, Artifact | None]:
    """The teacher of this run, and the evidence (``teachers.json``) where candidates were compared."""
    config = ctx.recipe.teachers
    models = [_model(ctx, t) for t in config.candidates]
    if config.select == "first" or len(models) == 1:
        return models[0], None
    train_on, ask = smoke_split(ctx, read_problems(problems))
    trials = [_trial(ctx, m, train_on, ask) for m in models]
    evidence = _decide(ctx, trials)
    chosen = read_json(evidence.path / _FILE)["chosen"]
    return next(m for m in models if m.name == chosen), evidence


def read_evidence(artifact: Artifact) -> dict[str, Any]:
    """``{"chosen", "reason", "candidates": [...]}``."""
    return read_json(artifact.path / _FILE)


def _model(ctx: Context, teacher: Teacher) -> Model:
    return ctx.model(teacher.name, teacher.engine, teacher.system_prompt)


def smoke_split(ctx: Context, problems: Sequence[Problem]) -> tuple[list[Problem], list[Problem]]:
    """Problems every candidate answers, and other problems the trained students answer."""
    smoke = ctx.recipe.teachers.smoke
    ordered = by_hash(problems, "smoke", ctx.recipe.seed)
    if len(ordered) < 2:
        raise StageError("teachers: the smoke test needs at least 2 problems; give more, or use teachers.select: first")
    wanted = smoke.num_problems + smoke.num_questions
    cut = smoke.num_problems
    if len(ordered) < wanted:
        cut = min(max(1, len(ordered) * smoke.num_problems // wanted), len(ordered) - 1)
    return ordered[:cut], ordered[cut : cut + smoke.num_questions]


def _trial(ctx: Context, model: Model, train_on: Sequence[Problem], ask: Sequence[Problem]) -> Trial:
    recipe, smoke = ctx.recipe, ctx.recipe.teachers.smoke
    params = SamplingParams(recipe.rollouts.temperature, recipe.rollouts.top_p, recipe.rollouts.max_tokens)
    plan = Plan(train_on, model, params, smoke.num_samples, seeds="teach")
    traces = verified_samples(ctx, f"smoke {model.name}", "smoke-traces", plan)
    accepted = [(r["prompt"], r["response"]) for r in read_traces(traces) if is_accepted(ctx, r)]
    if len(accepted) < MIN_ACCEPTED:
        return Trial(model, traces, None, None)
    examples = [(recipe.prompt_template.replace("{problem}", q), response) for q, response in accepted]
    student = train_student(
        ctx, f"smoke train {model.name}", examples, data_key=traces.key, method="sft", token_budget=smoke.train_tokens
    )
    answers = verified_samples(
        ctx,
        f"smoke eval {model.name}",
        "smoke-answers",
        Plan(
            ask,
            ctx.student(f"student of {model.name}", str(student.path / STUDENT)),
            SamplingParams(recipe.eval.temperature, recipe.eval.top_p, recipe.eval.max_tokens),
            smoke.eval_samples,
            seeds="smoke-eval",
        ),
    )
    return Trial(model, traces, student, answers)


def is_accepted(ctx: Context, row: dict[str, Any]) -> bool:
    """Whether a trace may be learned from, before any selection."""
    curate = ctx.recipe.curate
    if row["outcome"] != "correct" or row["num_tokens"] > curate.max_tokens:
        return False
    return not curate.require_think_tags or format_problem(row["response"]) is None


def _decide(ctx: Context, trials: Sequence[Trial]) -> Artifact:
    inputs = [VERSION, ctx.recipe.seed, ctx.recipe.eval.intervals.model_dump(), ctx.recipe.curate.model_dump(mode="json")]
    inputs += [[t.model.name, t.traces.key, t.answers.key if t.answers else None] for t in trials]

    def make(folder: Path) -> Ledger:
        rows = [_candidate_row(ctx, t) for t in trials]
        chosen, reason = _choose(ctx, trials, rows)
        write_json(folder / _FILE, {"chosen": chosen, "reason": reason, "candidates": rows})
        return Ledger(len(rows), 1, {"not_chosen": len(rows) - 1}, {"chosen": chosen, "reason": reason})

    return ctx.stage("teachers", "teachers", inputs, make)


def _candidate_row(ctx: Context, trial: Trial) -> dict[str, Any]:
    rows = read_traces(trial.traces)
    accepted = [is_accepted(ctx, r) for r in rows]
    tokens = sum(r["num_tokens"] for r in rows)
    intervals, seed = ctx.recipe.eval.intervals, ctx.recipe.seed
    acceptance = accuracy(_by_question(rows, accepted), config=intervals, seed=seed)
    score = None
    if trial.answers:
        answers = read_traces(trial.answers)
        estimate = accuracy(_by_question(answers, [r["outcome"] == "correct" for r in answers]), config=intervals, seed=seed)
        score = estimate._asdict()
    return {
        "name": trial.model.name,
        "traces": len(rows),
        "accepted": sum(accepted),
        "acceptance": acceptance._asdict(),
        "mean_tokens": round(tokens / len(rows), 2),
        "truncated": sum(r["finish_reason"] == "length" for r in rows),
        "tokens_per_accepted": round(tokens / sum(accepted), 2) if any(accepted) else None,
        "student_accuracy": score,
    }


def _by_question(rows: Sequence[dict[str, Any]], correct: Sequence[bool]) -> list[list[bool]]:
    questions: dict[str, list[bool]] = {}
    for row, right in zip(rows, correct, strict=True):
        questions.setdefault(row["problem_id"], []).append(right)
    return list(questions.values())


def _choose(ctx: Context, trials: Sequence[Trial], rows: list[dict[str, Any]]) -> tuple[str, str]:
    """The winner and the reason in words; each row gets its paired difference to the best (``behind_best``)."""
    able = [i for i, t in enumerate(trials) if t.answers is not None]
    if not able:
        raise StageError(
            f"teachers: no candidate gave {MIN_ACCEPTED} accepted traces"
            f" ({', '.join(f'{r['name']}: {r['accepted']} of {r['traces']}' for r in rows)});"
            " check verify, curate.require_think_tags and rollouts.max_tokens, or use stronger teachers"
        )
    best = max(able, key=lambda i: (rows[i]["student_accuracy"]["value"], -i))
    tied = [best]
    for i in able:
        if i == best:
            continue
        difference = paired_difference(
            _answers(trials[best]), _answers(trials[i]), config=ctx.recipe.eval.intervals, seed=ctx.recipe.seed
        )
        rows[i]["behind_best"] = difference._asdict()
        if difference.low <= 0:
            tied.append(i)
    chosen = min(tied, key=lambda i: (rows[i]["tokens_per_accepted"], i))
    return rows[chosen]["name"], _reason(rows, best, tied, chosen)


def _answers(trial: Trial) -> list[list[bool]]:
    assert trial.answers is not None
    rows = read_traces(trial.answers, ["problem_id", "outcome"])
    return _by_question(rows, [r["outcome"] == "correct" for r in rows])


def _reason(rows: list[dict[str, Any]], best: int, tied: list[int], chosen: int) -> str:
    name, value = rows[best]["name"], rows[best]["student_accuracy"]["value"]
    if len(tied) == 1:
        return f"the student of {name} scores highest ({value:.1%}), and its lead over every other candidate excludes zero"
    rivals = ", ".join(rows[i]["name"] for i in tied if i != best)
    text = f"the student of {name} scores highest ({value:.1%}), but its lead over {rivals} does not exclude zero; "
    cost = rows[chosen]["tokens_per_accepted"]
    return text + f"of these {rows[chosen]['name']} needs the fewest tokens per accepted trace ({cost:.0f})"
