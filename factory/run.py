"""The main flow, top to bottom: this is what ``factory run`` does."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from factory.context import Context, Stopped
from factory.errors import FactoryError, RecipeError
from factory.preflight import preflight
from factory.stages.curating import curate
from factory.stages.evaluation import answers, scores
from factory.stages.problems import problems, questions
from factory.stages.sampling import difficulty, rollouts
from factory.stages.teachers import choose_teacher
from factory.stages.training import targets, train_student
from verifiers.config import runs_unconfined

STAGES = (
    *("problems", "questions", "teachers", "rollouts", "difficulty"),
    *("curate", "targets", "train", "answers", "scores"),
)
"""Names for ``--until``, in the order of the flow."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    stopped_at: str | None
    """The stage where it was asked to stop, or None when it went through."""
    report: Path | None
    done: bool = True
    """False in a dry run that ended before ``stopped_at``, which has work to do."""


def run(ctx: Context) -> Outcome:
    """Do what is not done yet, and show the result in the run's folder.

    Raises:
        FactoryError: anything that a user can act on; what was finished stays, and running again goes on from there.
    """
    _refuse_what_would_fail_later(ctx)
    ctx.open_run()
    _warn_without_isolation(ctx)
    stopped_at, done = None, True
    try:
        flow(ctx)
    except Stopped as stop:
        stopped_at, done = stop.stage, stop.done
    except FactoryError:
        if ctx.artifacts and not ctx.dry_run:
            # What was reached may belong to other settings than the results of an earlier run that stand there.
            with contextlib.suppress(OSError, FactoryError):  # the disk may be what failed
                ctx.forget_others()
                write_report(ctx)
        raise
    if ctx.dry_run:
        return Outcome(stopped_at, None, done)
    ctx.forget_others(complete=stopped_at is None)
    return Outcome(stopped_at, write_report(ctx))


def _refuse_what_would_fail_later(ctx: Context) -> None:
    """A missing student or package must not show after the traces were paid for."""
    found = preflight(ctx.recipe, ctx.folder, ask_servers=False, until=ctx.until)
    if found:
        raise RecipeError("cannot start:\n  " + "\n  ".join(found))


def _warn_without_isolation(ctx: Context) -> None:
    """Loudly, and where it is kept."""
    for check in ctx.recipe.checks:
        if runs_unconfined(check.config) and not ctx.dry_run:
            danger = "programs that models wrote run as you, on your files and your network"
            text = f"{check.where}.sandbox: none - {danger}"
            ctx.event("warning", stage="", text=text)
            ctx.progress.line(f"WARNING: {text}")


def flow(ctx: Context) -> None:
    """The method."""
    pool = problems(ctx)
    asked = questions(ctx, pool)
    teacher = choose_teacher(ctx, pool)
    traces = rollouts(ctx, pool, teacher)
    pass_rates = difficulty(ctx, pool, traces)
    dataset = curate(ctx, traces, pass_rates)
    methods = ctx.recipe.train.methods
    captured = targets(ctx, dataset, teacher) if "kd" in methods else None
    ctx.stop_behind("targets")
    students = {m: train_student(ctx, m, dataset, captured if m == "kd" else None) for m in methods}
    ctx.stop_behind("train")
    answered = {"base": answers(ctx, "base", asked, None)}
    answered |= {m: answers(ctx, m, asked, student) for m, student in students.items()}
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
