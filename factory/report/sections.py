"""The report's sections in reading order, and those about data, cost and origin. No HTML here but the pictures."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from factory.report import data, plots, results, text
from factory.report.data import RunFolder
from factory.report.layout import (
    MALFORMED,
    ROLES,
    Cell,
    Picture,
    Section,
    Table,
    level_text,
    not_run,
    partial_note,
    sampling,
)

QUESTION_CHARS = 2_000
TRACE_CHARS = (12_000, 4_000)
"""Shown from the start and from the end of a trace."""
_MAX_SOURCES = 20
_STEPS = {
    "problems read": "read from the source; what a benchmark asks is taken out",
    "teacher asked": "answers asked of the teacher",
    "verified": "the check says right",
    "verdict": "the check says right, and the answer is complete",
    "shape": "well formed and not too long",
    "duplicates": "no copy of another answer",
    "difficulty": "the untrained student has something to learn from it",
    "diversity": "the answers to one problem that differ most",
    "size": "no more than the recipe wants",
}
_REASONS = {
    "incorrect": "the answer differs from the reference",
    "mismatch": "the answer differs from the reference",
    "no_answer": "no final answer found",
    "truncated": "cut off at the token limit",
    "unverifiable": "the check cannot tell: judged neither right nor wrong",
    "error": "the engine or the check failed: judged neither right nor wrong",
    "unparsed_answer": "the answer could not be read",
    "gold_unparsed": "the reference could not be read: judged neither right nor wrong",
    "timeout": "the check ran out of time: judged neither right nor wrong",
    "worker_died": "the check crashed: judged neither right nor wrong",
    "checker_failed": "the check failed: judged neither right nor wrong",
    "format": "no single think block with an answer after it",
    "too_long": "longer than the limit",
    "duplicate_trace": "the same text as another answer to the problem",
    "too_easy": "the untrained student already solves the problem",
    "unsolved": "the untrained student never solves the problem",
    "not_farthest": "too close to the answers kept for the same problem",
    "over_size": "enough were chosen before it",
    "held_out_for_benchmark": "kept for a benchmark",
    "in_benchmark": "a benchmark asks it",
    "malformed_row": "the row could not be read",
    "missing_prompt": "no question",
    "empty_prompt": "no question",
    "missing_gold": "no reference answer",
    "empty_gold": "no reference answer",
    "duplicate_problem": "an earlier row has it",
    "duplicate_id": "an earlier row has its id, with another question",
    "gold_conflict": "another row gives the same question another answer",
    "no_usable_trace": "the teacher gave no usable answer to it",
}
_KEEP_REASONS = {
    "drawn": "drawn at random",
    "shortest": "the shortest right answer to its problem",
    "farthest": "the one farthest from those already chosen for its problem",
    "difficulty_unknown": "nothing is known about its difficulty",
}


def build_sections(run: RunFolder, versions: Sequence[tuple[str, str]]) -> list[Section]:
    """All sections in reading order. A section whose files are damaged says so; the others are not touched by it."""
    level = level_text(run)
    plan: list[tuple[str, str, str, Callable[[], Mapping[str, Any] | str]]] = [
        (
            "verdict", "Did the student get better?",
            f"The trained student and the untrained base model answered the same held-out questions; a difference"
            f" counts as shown only if its whole {level} interval lies on one side of zero.",
            lambda: results.verdict_section(run),
        ),
        (
            "run", "What was run",
            "What this run set out to do, and how much of it has been done.",
            lambda: _what_was_run(run),
        ),
        (
            "funnel", "From problems to examples",
            "A trace is one answer of the teacher with its reasoning. Read from top to bottom: what enters a step is"
            " either kept or dropped for a reason, and what is kept enters the next step.",
            lambda: _funnel(run),
        ),
        (
            "teachers", "Which teacher, and why",
            "Each row is a candidate teacher: how many of its answers were right, what they cost, and how well a"
            " student did after a short training on them.",
            lambda: results.teachers(run, level),
        ),
        (
            "difficulty", "How hard, how long",
            "The first picture shows how often the untrained student solves each problem (left: never; right: always);"
            " the second shows how long the teacher's answers are.",
            lambda: _difficulty(run),
        ),
        (
            "examples", "Kept and dropped examples",
            "A few answers of the teacher to read for yourself, with the reason why each was kept or dropped; they are"
            " picked by the order of their ids, by nobody's taste.",
            lambda: _examples(run),
        ),
        (
            "training", "Training",
            "The loss should fall and level off; each method has its own picture because their losses measure different"
            " things.",
            lambda: results.training(run),
        ),
        (
            "scores", "Scores",
            f"Each dot is the share of correct answers and its line the {level} interval; overlapping lines decide"
            " nothing, the differences in the second picture do.",
            lambda: results.scores_section(run, level),
        ),
        (
            "costs", "What it cost",
            "Time and tokens per stage, as recorded when the stage was made; a stage taken from an earlier run cost"
            " nothing this time.",
            lambda: _costs(run),
        ),
        (
            "reproduce", "How to repeat it",
            "The command, the recipe and the versions, and the hash of every stage, which stands for all that the stage"
            " depends on.",
            lambda: _reproduce(run, versions),
        ),
    ]  # fmt: skip
    return [_section(run, *entry) for entry in plan]


def _section(run: RunFolder, name: str, title: str, lead: str, make: Callable[[], Mapping[str, Any] | str]) -> Section:
    try:
        body = make()
    except MALFORMED as error:
        return Section(name, title, lead, missing=f"Cannot be shown: {type(error).__name__}: {error}")
    if isinstance(body, str):
        return Section(name, title, lead, missing=body)
    return Section(name, title, lead, body)


def _what_was_run(run: RunFolder) -> Mapping[str, Any]:
    recipe = text.redact(run.recipe)
    facts = [("Recipe", str(run.manifest.get("recipe", run.run_dir.name)))]
    if recipe:
        facts += _recipe_facts(recipe)
    facts += [
        ("Stages", _progress(run)),
        ("Limit", "none" if run.manifest.get("limit") is None else f"--limit {run.manifest['limit']}"),
    ]
    return {
        "facts": facts,
        "warning": partial_note(run),
        "faults": run.faults,
        "description": recipe.get("description"),
    }


def _progress(run: RunFolder) -> str:
    expected = data.expected_stages(run.recipe)
    if not expected:
        return f"{len(run.stages)} done; the recipe could not be read, so how many there should be is not known"
    done = sum(run.has(stage) for stage in expected)
    return f"all {done} done" if done == len(expected) else f"{done} of {len(expected)} done"


def _recipe_facts(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    train, rollouts, evaluation = recipe["train"], recipe["rollouts"], recipe["eval"]
    facts = [("Problems", _brief(recipe["problems"]))]
    for teacher in recipe["teachers"]["candidates"]:
        engine = teacher["engine"]
        counts = "; tokens as its file counts them, else UTF-8 bytes / 4" if engine["kind"] == "imported" else ""
        facts.append((f"Teacher {teacher['name']}", f"{engine['model']} ({engine['kind']}{counts})"))
    facts += [
        ("Traces", _traces(rollouts)),
        ("Check", _check(recipe["verify"])),
        ("Curation", f"up to {recipe['curate']['size']:,} examples, {_brief(recipe['curate']['selector'])}"),
        ("Student", str(train["student"])),
        ("Training", f"{' and '.join(train['methods'])}; {text.count(train['epochs'])} epochs, {train['batch_size']}"
         f" sequences per step, learning rate {train['learning_rate']:g}, {train['dtype']}"
         + (f", LoRA rank {train['lora']['rank']}" if train.get("lora") else ", all weights")),
    ]  # fmt: skip
    for b in evaluation["benchmarks"]:
        said = f"{ROLES.get(b['role'], b['role'])}; {_brief(b['problems'])}; {b['num_samples']} answers per question"
        said += f"; checked by {_check(b['verifier'])}" if b.get("verifier") else ""
        facts.append((f"Benchmark {b['name']}", said))
    return [*facts, ("Evaluation", sampling(evaluation)), ("Seed", str(recipe["seed"]))]


def _traces(rollouts: Mapping[str, Any]) -> str:
    adaptive, drawn = rollouts.get("adaptive"), sampling(rollouts)
    if not adaptive:
        return f"{rollouts['num_samples']} per problem, {drawn}"
    if adaptive["temperatures"]:
        ladder = ", ".join(f"{t:g}" for t in adaptive["temperatures"])
        drawn = drawn.replace(f"temperature {rollouts['temperature']:g}", f"temperatures {ladder} in turn", 1)
    most = adaptive["max_samples"] or rollouts["num_samples"]
    return f"up to {most} per problem, until {adaptive['wanted']} are right or hardly can be; {drawn}"


def _check(verifier: Mapping[str, Any]) -> str:
    """A verifier in one line: what ``_brief`` says and the members of several, or who the judge is and what it sees."""
    if verifier["kind"] == "judge":
        engine = verifier["engine"]
        shown = f"judge: model {engine['model']} ({engine['kind']}), {verifier['num_votes']} votes,"
        shown += f" shown the response's {verifier['part']} part" if verifier["part"] != "whole" else " shown all of it"
        return shown + (f"; told: {verifier['rubric']}" if verifier["rubric"] else "")
    members = ", ".join(member["kind"] for member in verifier.get("members") or ())
    return ", ".join(part for part in (_brief(verifier), members) if part)


def _brief(section: Mapping[str, Any]) -> str:
    """A recipe section in one line: its kind, then its plain settings."""
    plain = [
        f"{text.words(k.removesuffix('_s'))} {v}{' s' if k.endswith('_s') else ''}"
        for k, v in section.items()
        if k != "kind" and isinstance(v, str | int | float) and not isinstance(v, bool)
    ]
    return ", ".join([str(section.get("kind", "")), *plain]).strip(", ")


def _funnel(run: RunFolder) -> Mapping[str, Any] | str:
    steps = data.funnel(run)
    if not steps:
        return not_run(run, "problems")
    rows = [
        [
            Cell(text.words(s.name), _STEPS.get(s.name, "")),
            Cell(f"{s.rows_in:,}", s.note or s.unit),
            Cell(f"{s.kept:,}", text.percent(s.kept / s.rows_in) if s.rows_in else ""),
            Cell(f"{sum(n for _, n in s.drops):,}"),
        ]
        for s in steps
    ]
    drops = [
        [Cell(text.words(r), explain(r)), Cell(text.words(s.name)), Cell(f"{n:,}")] for s in steps for r, n in s.drops
    ]
    said = "Dark: kept. Pale: dropped at this step. Green bars count problems, blue ones traces."
    return {
        "table": Table("Rows into and out of each step", ["step", "in", "kept", "dropped"], rows),
        "picture": Picture(plots.funnel(steps), said),
        "drops": Table("Why rows were dropped", ["reason", "step", "rows"], drops),
        "faults": data.funnel_faults(steps),
        "todo": "" if run.has("curate") else "Curation has not run, so no trace has been chosen yet.",
    }


def explain(reason: str) -> str:
    """A drop reason in plain words; empty for one we do not know."""
    return _REASONS.get(reason, "")


def _difficulty(run: RunFolder) -> Mapping[str, Any] | str:
    rates, lengths = data.pass_rates(run), data.trace_lengths(run)
    if rates is None and lengths is None:
        return not_run(run, "difficulty", "rollouts")
    body: dict[str, Any] = {"pictures": [], "notes": []}
    if rates:
        never, always = rates.counts[0], rates.counts[-1]
        judged = rates.num_problems - rates.not_judged
        body["pictures"].append(Picture(plots.difficulty(rates), f"{judged:,} problems by the student's pass rate."))
        body["notes"].append(f"{never[1]:,} of {judged:,} problems are at {never[0]}, {always[1]:,} at {always[0]}.")
        if rates.not_judged:
            body["notes"].append(f"{rates.not_judged:,} problems have no judged answer and are not drawn.")
    else:
        body["notes"].append(f"Difficulty: {not_run(run, 'difficulty')}")
    body["notes"] += [_stops(run, stage) for stage in ("rollouts", "difficulty") if _adaptive(run, stage)]
    if lengths:
        by = "kept or dropped by curation" if run.has("curate") else "right (kept) or not (dropped); not curated yet"
        body["pictures"].append(Picture(plots.lengths(lengths), f"Traces by length, {by}."))
        medians = text.count(lengths.median_kept), text.count(lengths.median_dropped)
        body["notes"].append(f"Median length: {medians[0]} tokens kept, {medians[1]} dropped.")
    return body


def _adaptive(run: RunFolder, stage: str) -> Mapping[str, Any]:
    return ((run.ledger(stage).get("notes") or {}).get("adaptive") or {}) if run.has(stage) else {}


_STOPS = {
    "enough": "had enough",
    "hopeless": "would hardly get enough",
    "settled": "were settled",
    "undecided": "got no verdict",
    "refused": "could not be asked for more",
    "max_samples": "had all their samples",
    "budget": "found the token budget spent",
}


def _stops(run: RunFolder, stage: str) -> str:
    """What adaptive sampling saved, and why problems stopped."""
    notes = _adaptive(run, stage)
    stopped = ", ".join(f"{count:,} {_STOPS.get(reason, reason)}" for reason, count in notes["stopped"].items())
    whose = "The teacher" if stage == "rollouts" else "The student"
    return (
        f"{whose} was asked {notes['asked']:,} times in {len(notes['waves'])} waves, where a fixed number of samples"
        f" would have been {notes['fixed']:,}. Of {notes['problems']:,} problems {stopped}."
    )


class Example(NamedTuple):
    """One trace, cut to what a page can hold."""

    question: text.Cut
    trace: text.Cut
    preview: str
    num_chars: int
    facts: list[tuple[str, str]]


def _examples(run: RunFolder) -> Mapping[str, Any] | str:
    kept, dropped, more = data.examples(run)
    if kept is None and not dropped:
        return not_run(run, "curate", "rollouts")
    return {
        "kept": [_example(r) for r in kept.rows] if kept else [],
        "num_kept": f"{kept.total:,}" if kept else "0",
        "dropped": [(g.reason, f"{g.total:,}", explain(g.reason), [_example(r) for r in g.rows]) for g in dropped],
        "more": more,
        "curated": run.has("curate"),
    }


def _example(row: Mapping[str, Any]) -> Example:
    response = row["response"] or ""
    n, k = row.get("pass_n"), row.get("pass_k")
    verdict_text = f"{row['outcome']} ({text.words(row['reason'] or '')})"
    facts = [
        ("kept because", _kept_because(row.get("keep_reason"))),
        ("reference", text.cut(row["gold"] or "", 200).head),
        ("extracted", None if row.get("extracted") is None else text.cut(row["extracted"], 200).head),
        ("verdict", f"{verdict_text} by {row['verifier']}" if row.get("verifier") else verdict_text),
        ("tokens", f"{row['num_tokens']:,}, {'cut off' if row['finish_reason'] == 'length' else row['finish_reason']}"),
        ("student solved", f"{k} of {n}" if n else None),
        ("distance", text.decimal(row["distance"]) if row.get("distance") is not None else None),
        ("teacher", f"{row['teacher']}, sample {row['sample']}"),
        ("source", f"{row['source']}, licence {row['licence']}"),
        ("id", row["trace_id"]),
    ]
    preview = " ".join(text.cut(response, 220).head.split())
    return Example(
        text.cut(row["prompt"] or "", QUESTION_CHARS),
        text.cut(response, *TRACE_CHARS),
        preview,
        len(response),
        [(name, str(value)) for name, value in facts if value not in (None, "")],
    )


def _kept_because(reason: str | None) -> str:
    return "; ".join(_KEEP_REASONS.get(part, part) for part in reason.split("; ")) if reason else ""


def _costs(run: RunFolder) -> Mapping[str, Any] | str:
    costs = data.costs(run)
    if not costs:
        return "Not run: this run has no stages yet."
    rows = [_cost_row(c) for c in costs]
    head = ["stage", "time", "prompt tokens", "answer tokens", "trained tokens", "money"]
    paid = any(c.money for c in costs)
    note = "Tokens count every answer that a stage holds, also those that an earlier run had drawn. "
    note += (
        "Money is in the currency of the prices in the recipe."
        if paid
        else "No money is shown because the recipe gives no prices; models on own hardware cost time."
    )
    return {"table": Table("Cost by stage", head, [*rows, _cost_row(data.total_cost(costs))], len(rows)), "note": note}


def _cost_row(c: data.Cost) -> list[Cell]:
    tokens = [Cell(text.count(n)) for n in (c.prompt_tokens, c.completion_tokens, c.trained_tokens)]
    return [Cell(c.stage), Cell(text.seconds(c.seconds)), *tokens, Cell(text.decimal(c.money))]


def _reproduce(run: RunFolder, versions: Sequence[tuple[str, str]]) -> Mapping[str, Any]:
    command = [str(word) for word in run.manifest.get("command") or []]
    by_licence, by_source = data.licences(run)
    stages = [[Cell(s), Cell(run.stages[s]["dir"]), Cell(_ledger_line(run.ledger(s)))] for s in run.stages]
    return {
        "command": text.redact(shlex.join(command)) if command else "",
        "recipe": json.dumps(text.redact(run.recipe), indent=2, ensure_ascii=False) if run.recipe else "",
        "versions": versions,
        "stages": Table("Stages and their hashes", ["stage", "folder", "rows"], stages),
        "licences": _share_table("Licences of the kept examples", "licence", by_licence),
        "sources": _share_table("Sources of the kept examples", "source", by_source[:_MAX_SOURCES]),
        "more_sources": max(len(by_source) - _MAX_SOURCES, 0),
        "unknown": any(name == "unknown" for name, _ in by_licence),
        "has_set": run.has("curate"),
    }


def _ledger_line(ledger: Mapping[str, Any]) -> str:
    if not ledger:
        return text.NONE
    dropped = sum(ledger["drops"].values())
    return f"{ledger['rows_in']:,} in, {ledger['kept']:,} kept, {dropped:,} dropped"


def _share_table(caption: str, name: str, totals: Sequence[tuple[str, int]]) -> Table:
    everything = sum(n for _, n in totals) or 1
    return Table(
        caption, [name, "examples"], [[Cell(k), Cell(f"{n:,}", text.percent(n / everything))] for k, n in totals]
    )
