"""The sections with results: the verdict, the teachers, the training, the scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from factory.report import data, plots, text
from factory.report.data import RunFolder
from factory.report.layout import METHODS, ROLES, Cell, Picture, Table, not_run, partial_note, sampling


class Verdict(NamedTuple):
    """One method's result on the first benchmark."""

    kind: str
    """``better``, ``worse`` or ``none``."""
    title: str
    sentence: str


def _scores_json(run: RunFolder) -> Mapping[str, Any] | None:
    found = run.json("scores", "scores.json")
    return found if isinstance(found, dict) and found.get("benchmarks") else None


def verdict_section(run: RunFolder) -> Mapping[str, Any] | str:
    """Every method against the base model on the first benchmark, then the other benchmarks in a line each."""
    scores = _scores_json(run)
    if scores is None:
        return f"No verdict yet. {not_run(run, 'scores')}"
    first, *others = scores["benchmarks"]
    level = f"{100 * scores.get('level', 0.95):g}%"
    changes = [d for d in first["differences"] if d["against"] == "base"]
    if not changes:
        return "No verdict: only one model was scored, so there is nothing to compare."
    verdicts = [verdict(first, d, level) for d in changes]
    also = [_also(b, d) for b in others for d in b["differences"] if d["against"] == "base"]
    methods = [(d["model"], METHODS[d["model"]]) for d in changes if d["model"] in METHODS]
    return {"verdicts": verdicts, "also": also, "methods": methods, "warning": partial_note(run)}


def verdict(benchmark: Mapping[str, Any], difference: Mapping[str, Any], level: str) -> Verdict:
    """A difference to the base model in words. An interval that touches zero shows no difference.

    Args:
        benchmark: entry of ``scores.json``.
        difference: one of its ``differences``; shares between 0 and 1.
        level: coverage as text, ``95%``.
    """
    method, value = difference["model"], difference["value"]
    kind = direction(difference)
    size = f"{text.points(abs(value or 0)).lstrip('+')} points"
    title = {
        "better": f"The {method} student is better than the base model by {size}",
        "worse": f"The {method} student is worse than the base model by {size}",
        "none": f"No difference shown between the {method} student and the base model",
    }[kind]
    models = benchmark["models"]
    base, student = (text.percent(models[m]["avg_at_k"]["value"]) for m in ("base", method))
    sentence = (
        f"On {benchmark['name']} ({_role(benchmark)}; {_asked(benchmark)}) the base model answers {base} correctly and"
        f" the {method} student {student}: a difference of {text.points(value)} percentage points"
        f" ({level} interval {text.points(difference['low'])} to {text.points(difference['high'])},"
        f" {_p(difference)})."
    )
    if kind == "none" and _known(difference):
        sentence += " The interval includes zero, so these questions cannot tell whether training helped."
    gain = benchmark.get("minimum_detectable_gain")
    if gain is not None and math.isfinite(gain):
        sentence += f" With this many questions, a true gain of {text.points(gain).lstrip('+')} points would be found"
        sentence += " four times out of five; a smaller one may well go unnoticed."
    return Verdict(kind, title, sentence)


def direction(difference: Mapping[str, Any]) -> str:
    """``better`` or ``worse`` when the whole interval lies on that side of zero, else ``none``."""
    if not _known(difference):
        return "none"
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "none"


def _known(estimate: Mapping[str, Any] | None) -> bool:
    """Whether value and interval are numbers; too few questions give none."""
    return estimate is not None and all(
        estimate.get(k) is not None and math.isfinite(estimate[k]) for k in ("value", "low", "high")
    )


def _scaled(estimate: Mapping[str, Any]) -> dict[str, float]:
    """Shares as percent, for the pictures."""
    return {k: 100 * float(estimate[k]) for k in ("value", "low", "high")}


def _also(benchmark: Mapping[str, Any], difference: Mapping[str, Any]) -> tuple[str, str, str]:
    """What is compared, the result, its numbers."""
    said = {"better": "better", "worse": "worse", "none": "no difference shown"}[direction(difference)]
    return (
        f"{benchmark['name']} ({_role(benchmark)}), {difference['model']} student:",
        said,
        f"({text.points(difference['value'])} points, interval {text.points(difference['low'])} to"
        f" {text.points(difference['high'])}, {_p(difference)}).",
    )


def _p(difference: Mapping[str, Any]) -> str:
    shown = text.p_value(difference["p_value"])
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def _role(benchmark: Mapping[str, Any]) -> str:
    return text.words(benchmark["role"]).replace("in domain", "in-domain").replace("out of domain", "out-of-domain")


def _asked(benchmark: Mapping[str, Any]) -> str:
    samples = benchmark["num_samples"]
    return f"{benchmark['num_questions']:,} questions, {'one answer' if samples == 1 else f'{samples} answers'} each"


def teachers(run: RunFolder, level: str) -> Mapping[str, Any] | str:
    """The candidates with what was measured, and why one was chosen."""
    evidence = run.json("teachers", "teachers.json")
    if evidence is None:
        return not_run(run, "teachers")
    candidates = evidence["candidates"]
    chosen = next((i for i, c in enumerate(candidates) if c["name"] == evidence["selected"]), None)
    second = _runner_up(candidates, evidence["selected"])
    paid = any(c.get("money") for c in candidates)
    head = ["teacher", "accepted", "cut off", "not judged", "mean tokens", "tokens per accepted"]
    head += ["seconds per accepted", *(["money per accepted"] if paid else [])]
    head += ["student's score", "its gain over base", "behind the best"]
    body: dict[str, Any] = {
        "selected": evidence["selected"],
        "reason": evidence.get("reason") or "",
        "rule": evidence.get("rule") or "",
        "runner_up": second,
        "paid": paid,
        "smoke": evidence.get("select") == "smoke" and len(candidates) > 1,
        "table": Table(
            "Candidate teachers",
            head,
            [_teacher_row(_as_written(run, c), evidence["selected"], second, paid) for c in candidates],
            chosen,
        ),
    }  # fmt: skip
    bars = [
        plots.Bar(c["name"], **_scaled(c["student_score"]), model="sft")
        for c in candidates
        if _known(c.get("student_score"))
    ]
    if bars and _known(evidence.get("student_base")):
        bars.insert(0, plots.Bar("untrained", **_scaled(evidence["student_base"]), model="base"))
    if bars:
        alt = "Student after a short training on each teacher: " + "; ".join(f"{b.label} {b.spoken()}" for b in bars)
        svg = plots.forest("teachers", alt, [("", bars)], xlabel="correct answers of the student after the trial, %")
        body["picture"] = Picture(svg, f"The student after a trial on each teacher's traces, with {level} intervals.")
    return body


def _runner_up(candidates: Sequence[Mapping[str, Any]], selected: str) -> str | None:
    """The best scored candidate that was not chosen."""
    rest = [c for c in candidates if c["name"] != selected and c.get("student_score")]
    return max(rest, key=lambda c: c["student_score"]["value"])["name"] if rest else None


def _as_written(run: RunFolder, candidate: Mapping[str, Any]) -> Mapping[str, Any]:
    """The candidate with its model as the recipe names it, not as a path of the machine that ran it."""
    listed = run.recipe["teachers"]["candidates"] if run.recipe else []
    models = {teacher["name"]: teacher["engine"]["model"] for teacher in listed}
    return {**candidate, "model": models.get(candidate["name"], candidate["model"])}


def _teacher_row(c: Mapping[str, Any], selected: str, second: str | None, paid: bool) -> list[Cell]:
    asked = c.get("asked")
    role = "chosen" if c["name"] == selected else "runner-up" if c["name"] == second else ""
    accepted, score = c.get("acceptance"), c.get("student_score")
    return [
        Cell(c["name"], f"{role}: {c['model']}" if role else c["model"]),
        _estimate(accepted, f";\n{c['accepted']:,} of {asked:,}" if asked else ""),
        _share(c.get("truncated"), asked),
        _share(c.get("unjudged"), asked),
        Cell(text.count(_whole(c.get("mean_tokens")))),
        Cell(text.count(_whole(c.get("tokens_per_accepted")))),
        Cell(text.decimal(c.get("seconds_per_accepted"))),
        *([Cell(text.decimal(c.get("money_per_accepted")))] if paid else []),
        _estimate(score),
        _gain(c.get("gain")),
        _gain(c.get("behind_best")),
    ]


def _estimate(estimate: Mapping[str, Any] | None, more: str = "") -> Cell:
    return Cell(text.percent(estimate["value"]), _range(estimate) + more) if estimate else Cell(text.NONE)


def _share(part: int | None, whole: int | None) -> Cell:
    return Cell(text.percent(part / whole), f"{part:,}") if part is not None and whole else Cell(text.NONE)


def _gain(change: Mapping[str, Any] | None) -> Cell:
    """A difference in points with its interval and p-value."""
    if not change:
        return Cell(text.NONE)
    return Cell(text.points(change["value"]), f"{_points_range(change)}; {_p(change)}".replace("; ", ";\n"))


def _points_range(change: Mapping[str, Any]) -> str:
    return f"{text.points(change['low'])} to {text.points(change['high'])}"


def _range(estimate: Mapping[str, Any]) -> str:
    return f"{text.percent(estimate['low'])} to {text.percent(estimate['high'])}"


def _whole(value: float | None) -> float | None:
    """Token counts above a hundred need no decimals."""
    return round(value) if value is not None and abs(value) >= 100 else value


def training(run: RunFolder) -> Mapping[str, Any] | str:
    """One curve and one row per trained student."""
    methods = run.under("train")
    if not methods:
        return not_run(run, "train")
    rows, curves, notes = [], [], []
    for method in methods:
        log = data.train_log(run, f"train/{method}") or []
        line = data.curve(log)
        if line.loss:
            curves.append((method, line))
        if line.not_finite:
            notes.append(f"{method}: the loss was not a finite number at {line.not_finite:,} logged steps (not drawn).")
        if line.steps_per_point > 1:
            notes.append(f"{method}: each point is the mean of {line.steps_per_point} logged steps.")
        summary = {"seconds": run.ledger(f"train/{method}").get("seconds")}
        summary |= run.json(f"train/{method}", "summary.json") or {}
        rows.append(_training_row(method, summary, line))
    head = ["method", "examples", "too long, left out", "steps", "tokens", "time", "loss, first to last"]
    body: dict[str, Any] = {"table": Table("Trained students", head, rows), "notes": notes}
    if curves:
        body["picture"] = Picture(plots.training(curves), "Training loss over the tokens seen.")
    return body


def _training_row(method: str, summary: Mapping[str, Any], line: data.Curve) -> list[Cell]:
    names = ("num_examples", "dropped_too_long", "num_steps", "num_tokens")
    ends = f"{text.decimal(line.loss[0])} to {text.decimal(line.loss[-1])}" if line.loss else text.NONE
    numbers = [Cell(text.count(summary.get(name))) for name in names]
    return [Cell(method), *numbers, Cell(text.seconds(summary.get("seconds"))), Cell(ends)]


def scores_section(run: RunFolder, level: str) -> Mapping[str, Any] | str:
    """Every model on every benchmark, and the differences."""
    scores = _scores_json(run)
    if scores is None:
        return not_run(run, "scores")
    benchmarks, models = scores["benchmarks"], scores["models"]
    head = ["benchmark and model", "correct (avg@k)", "solved at least once (pass@k)", "majority right (maj@k)",
            "cut off", "no answer", "not judged", "mean tokens"]  # fmt: skip
    rows = [_score_row(b, m) for b in benchmarks for m in models if m in b["models"]]
    changes = [_change_row(b, d) for b in benchmarks for d in b["differences"]]
    compared = ["comparison", "difference, points", "p", "in words", "gain found 4 times of 5"]
    return {
        "roles": [(b["name"], ROLES.get(b["role"], b["role"]), _settings(b)) for b in benchmarks],
        "table": Table("Scores", head, rows),
        "changes": Table("Differences", compared, changes),
        "pictures": _score_pictures(benchmarks, models, level),
    }  # fmt: skip


def _settings(benchmark: Mapping[str, Any]) -> str:
    checked = f"; checked by {benchmark['verifier']}" if benchmark.get("verifier") else ""
    return f"{_asked(benchmark)}; {sampling(benchmark)}{checked}"


def _score_row(benchmark: Mapping[str, Any], model: str) -> list[Cell]:
    s = benchmark["models"][model]
    unjudged = s["unverifiable"] + s["error"]
    judged = s.get("judged", benchmark["num_questions"] * benchmark["num_samples"] - unjudged)
    estimates = [Cell(text.percent(s[m]["value"]), _range(s[m])) for m in ("avg_at_k", "pass_at_k", "maj_at_k")]
    return [
        Cell(f"{benchmark['name']}: {model}", f"k = {benchmark['num_samples']}"),
        *estimates,
        _part_of(s["truncated"], judged),
        _part_of(s["no_answer"], judged),
        Cell(f"{unjudged:,}", f"{s['unverifiable']:,} unverifiable,\n{s['error']:,} error"),
        Cell(text.count(_whole(s["mean_tokens"]))),
    ]


def _part_of(share: float | None, total: int) -> Cell:
    """A share of the judged answers, and how many that are."""
    return Cell(text.percent(share), "" if share is None else f"{round(share * total):,} of {total:,}")


def _change_row(benchmark: Mapping[str, Any], d: Mapping[str, Any]) -> list[Cell]:
    said = {"better": "better", "worse": "worse", "none": "no difference shown"}[direction(d)]
    gain = benchmark.get("minimum_detectable_gain")
    return [
        Cell(f"{benchmark['name']}: {d['model']} against {d['against']}", _role(benchmark)),
        Cell(text.points(d["value"]), _points_range(d)),
        Cell(text.p_value(d["p_value"])),
        Cell(said),
        Cell(text.points(gain).lstrip("+") if gain is not None else text.NONE),
    ]


def _score_pictures(benchmarks: Sequence[Mapping[str, Any]], models: Sequence[str], level: str) -> list[Picture]:
    scores, changes = [], []
    for b in benchmarks:
        heading = f"{b['name']} ({_role(b)})"
        there = [m for m in models if m in b["models"] and _known(b["models"][m]["avg_at_k"])]
        bars = [plots.Bar(m, **_scaled(b["models"][m]["avg_at_k"]), model=m) for m in there]
        scores.append((heading, bars))
        against = [d for d in b["differences"] if d["against"] == "base" and _known(d)]
        rows = [plots.Bar(f"{d['model']} \u2212 base", **_scaled(d), model=d["model"]) for d in against]
        changes.append((heading, rows))
    pictures = [_forest("scores", "Share of correct answers", scores, "correct answers (avg@k), %", level)]
    if any(rows for _, rows in changes):
        pictures.append(_forest("changes", "Difference to the base model", changes, "points against base", level))
    return pictures


def _forest(
    name: str, what: str, groups: Sequence[tuple[str, Sequence[plots.Bar]]], xlabel: str, level: str
) -> Picture:
    alt = f"{what}: " + "; ".join(f"{heading}, {bar.label} {bar.spoken()}" for heading, bars in groups for bar in bars)
    zero = name == "changes"
    caption = f"{what} with {level} intervals."
    if zero:
        caption += " A line that crosses zero shows no difference."
    return Picture(plots.forest(name, alt, groups, xlabel=xlabel, zero=zero), caption)
