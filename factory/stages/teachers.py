"""Which teacher: by what the student learns from it in a smoke test, never by its own accuracy.

The candidate whose student does best is chosen; when another one's student is not distinguishable from it (the paired
interval of the difference includes 0), the cheaper one per accepted trace is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.answers import correctness
from evals.intervals import bootstrap_mean, paired_difference, wilson_interval
from factory.context import Context
from factory.errors import DataError
from factory.recipe import Teacher
from factory.stages.smoke import base_trial, trial
from factory.tables import read_table
from factory.workspace import Artifact, Ledger, write_json

VERSION = 1

Correct = Mapping[str, list[bool]]
"""Question id -> was each judged answer correct?"""


def choose_teacher(ctx: Context, problems: Artifact) -> Teacher:
    """The teacher of this run; ``teachers.json`` says why."""
    candidates = ctx.recipe.teachers.candidates
    if ctx.recipe.teachers.select == "first" or len(candidates) == 1:
        artifact = _stage(ctx, {}, lambda: _first(ctx))
    else:
        base = base_trial(ctx, problems)
        trials = {teacher.name: trial(ctx, problems, teacher) for teacher in candidates}
        artifact = _stage(
            ctx, {"base": base.id, "trials": [a.id for a in trials.values()]}, lambda: _compare(ctx, base, trials)
        )
    selected = json.loads((artifact.path / "teachers.json").read_text())["selected"]
    return next(t for t in candidates if t.name == selected)


def _stage(ctx: Context, tests: dict[str, Any], table: Any) -> Artifact:
    teachers = ctx.recipe.teachers
    inputs = tests | {
        "candidates": [
            [t.name, written.engine.model, ctx.engine_id(t.engine), _prices(t)]
            for t, written in zip(teachers.candidates, ctx.written.teachers.candidates)
        ],
        "select": teachers.select,
        "intervals": ctx.recipe.eval.intervals.model_dump(mode="json"),
        "seed": ctx.recipe.seed,
    }

    def fill(folder: Path) -> Ledger:
        content = table()
        write_json(folder / "teachers.json", content)
        others = len(content["candidates"]) - 1
        drops = {"not_chosen": others} if others else {}
        return Ledger("teachers", others + 1, 1, drops, {"selected": content["selected"]})

    return ctx.stage("teachers", VERSION, inputs, fill)


def _prices(teacher: Teacher) -> tuple[float, float]:
    """Money per million prompt and completion tokens; a local model costs none."""
    engine = teacher.engine
    return (
        getattr(engine, "price_per_1m_prompt_tokens", 0.0),
        getattr(engine, "price_per_1m_completion_tokens", 0.0),
    )


def _first(ctx: Context) -> dict[str, Any]:
    candidates = ctx.written.teachers.candidates
    return {
        "selected": candidates[0].name,
        "select": "first",
        "rule": "the first candidate",
        "reason": "it is the only candidate" if len(candidates) == 1 else "the recipe says teachers.select: first",
        "student_base": None,
        "candidates": [
            {"name": t.name, "model": t.engine.model, "engine": t.engine.kind, "student_score": None}
            for t in candidates
        ],
    }


def _compare(ctx: Context, base: Artifact, trials: Mapping[str, Artifact]) -> dict[str, Any]:
    intervals, seed = ctx.recipe.eval.intervals, ctx.recipe.seed
    correct = {name: correctness(read_table(a.path / "answers.parquet")) for name, a in trials.items()}
    of_base = correctness(read_table(base.path / "answers.parquet"))
    rows = [
        _candidate(ctx, teacher, written.engine.model, trials[teacher.name], correct[teacher.name], of_base)
        for teacher, written in zip(ctx.recipe.teachers.candidates, ctx.written.teachers.candidates)
    ]
    scored = [r for r in rows if r["student_score"] and r["student_score"]["value"] is not None]
    if not scored:
        raise DataError(
            "teachers: no candidate's student could be scored: no accepted traces, or no judged answers, in the smoke"
            " test; look at verify.kind, at curate.require_think_tags, or at the teachers"
        )
    best = max(scored, key=lambda r: r["student_score"]["value"])
    for row in scored:
        if row is not best:
            difference = paired_difference(correct[row["name"]], correct[best["name"]], intervals, seed=seed)
            row["behind_best"] = difference.as_dict()
    tied = [r for r in scored if r is best or (r["behind_best"]["high"] is not None and r["behind_best"]["high"] >= 0)]
    chosen = min(tied, key=_price)
    return {
        "selected": chosen["name"],
        "select": "smoke",
        "rule": (
            "best student after equal training tokens;"
            " among those not distinguishable from it, the cheapest accepted trace"
        ),
        "reason": _reason(best, chosen, tied, scored),
        "student_base": bootstrap_mean(of_base, intervals, seed=seed).as_dict(),
        "candidates": rows,
    }


def _price(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Money first; tokens decide between free teachers (seconds would make the choice depend on the machine's mood)."""
    return (row["money_per_accepted"], row["tokens_per_accepted"], -row["student_score"]["value"])


def _reason(
    best: Mapping[str, Any], chosen: Mapping[str, Any], tied: Sequence[Mapping[str, Any]], scored: Sequence[Any]
) -> str:
    score = f"{best['name']}'s student scores {best['student_score']['value']:.1%}"
    if len(scored) == 1:
        reason = f"{score}; it is the only candidate that could be scored"
    elif len(tied) == 1:
        reason = f"{score}, and no other candidate's student comes within the noise of it"
    else:
        names = ", ".join(r["name"] for r in tied)
        reason = f"{score}; {names} cannot be told apart at this size, and {chosen['name']} costs the least of them: "
        if any(r["money_per_accepted"] for r in tied):
            reason += f"{chosen['money_per_accepted']:.4g} of money per accepted trace"
        else:
            reason += f"{chosen['tokens_per_accepted']:.0f} tokens per accepted trace"
    if chosen["gain"]["high"] is not None and chosen["gain"]["high"] < 0:
        reason += (
            ". Its student is worse than the untrained one in this trial: give it more tokens, or look at the traces"
        )
    return reason


def _candidate(
    ctx: Context, teacher: Teacher, model: str, test: Artifact, correct: Correct, of_base: Correct
) -> dict[str, Any]:
    intervals, seed = ctx.recipe.eval.intervals, ctx.recipe.seed
    summary = json.loads((test.path / "summary.json").read_text())
    accepted = summary["accepted"]
    prompt_price, completion_price = _prices(teacher)
    money = (summary["prompt_tokens"] * prompt_price + summary["tokens"] * completion_price) / 1e6
    cost = {"tokens": summary["tokens"], "seconds": summary["seconds"], "money": round(money, 6)}
    row = {
        "name": teacher.name,
        "model": model,
        "engine": teacher.engine.kind,
        **{k: summary[k] for k in ("asked", "accepted", "truncated", "train_tokens")},
        "unjudged": summary["asked"] - summary["judged"],
        "acceptance": wilson_interval(accepted, summary["judged"], intervals.level).as_dict(),
        **cost,
        **{f"{what}_per_accepted": (value / accepted if accepted else None) for what, value in cost.items()},
        "mean_tokens": summary["tokens"] / max(summary["asked"], 1),
        "student_score": None,
        "gain": None,
        "behind_best": None,
    }
    if accepted:
        row["student_score"] = bootstrap_mean(correct, intervals, seed=seed).as_dict()
        row["gain"] = paired_difference(correct, of_base, intervals, seed=seed).as_dict()
    return row
