"""The main flow, top to bottom: this is what ``factory run`` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from factory.context import Context, Stopped
from factory.stages.curating import curate
from factory.stages.evaluation import answers, scores
from factory.stages.problems import problems
from factory.stages.sampling import difficulty, rollouts
from factory.stages.teachers import choose_teacher
from factory.stages.training import targets, train_student

STAGES = ("problems", "teachers", "rollouts", "difficulty", "curate", "targets", "train", "answers", "scores")
"""Names for ``--until``, in the order of the flow."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    stopped_at: str | None
    """The stage where it was asked to stop, or None when it went through."""
    report: Path | None


def run(ctx: Context) -> Outcome:
    """Do what is not done yet, and show the result in the run's folder.

    Raises:
        FactoryError: anything that a user can act on; what was finished stays, and running again goes on from there.
    """
    ctx.open_run()
    try:
        flow(ctx)
        stopped_at = None
    except Stopped as stop:
        stopped_at = stop.stage
    if ctx.dry_run:
        return Outcome(stopped_at, None)
    ctx.forget_others()
    return Outcome(stopped_at, write_report(ctx))


def flow(ctx: Context) -> None:
    """The method."""
    pool = problems(ctx)
    teacher = choose_teacher(ctx, pool)
    traces = rollouts(ctx, pool, teacher)
    pass_rates = difficulty(ctx, pool, traces)
    dataset = curate(ctx, traces, pass_rates)
    methods = ctx.recipe.train.methods
    captured = targets(ctx, dataset, teacher) if "kd" in methods else None
    ctx.stop_behind("targets")
    students = {m: train_student(ctx, m, dataset, captured if m == "kd" else None) for m in methods}
    ctx.stop_behind("train")
    answered = {"base": answers(ctx, "base", pool, None)}
    answered |= {m: answers(ctx, m, pool, student) for m, student in students.items()}
    ctx.stop_behind("answers")
    scores(ctx, answered)


def write_report(ctx: Context) -> Path:
    """``report.html``, written again only when something that it shows has changed."""
    from factory.report import build_report

    report = ctx.run_dir / "report.html"
    shown = ctx.report_inputs()
    if ctx.published.get("report.html") == shown and report.is_file():
        return report
    build_report(ctx.run_dir)
    ctx.published["report.html"] = shown
    ctx.write_manifest()
    return report
