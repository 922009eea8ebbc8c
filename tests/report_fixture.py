"""A synthetic workspace in the true format, for tests of the report alone. Its numbers measure nothing."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.select import curate
from factory.recipe import Recipe
from factory.records import content_hash
from factory.tables import PASS_RATE_SCHEMA, TRACE_SCHEMA

STAGES = (
    "problems", "questions", "smoke/base", "smoke/steady", "smoke/wordy", "smoke/hasty", "teachers", "rollouts",
    "difficulty", "curate", "targets", "train/sft", "train/kd", "answers/base", "answers/sft", "answers/kd", "scores",
)  # fmt: skip
BENCHMARKS = (("heldout", "in_domain", 160), ("longer", "out_of_domain", 80), ("phrases", "retention", 60))

HOSTILE = (
    "<script>document.title = 'taken'</script>",
    "</pre></details></article></main></body></html><h1 class=planted>planted</h1>",
    "<!-- <svg onload=alert(1)> ]]> <img src=http://planted.example/x.png onerror=alert(1)>",
    "\x00\x01\x1b[31mred\x07 \u202egnp.exe\u202c \u2066hidden\u2069 \u200bzero\ufeff",
    "</style><style>@import 'http://planted.example/x.css';</style>",
    "{{ 7 * 7 }} {% include 'report.css' %} $\\frac{1}{0$",
    "z" + "\u0300" * 300,
)
"""What a trace may hold that a page must not obey."""


class WorkspaceMaker:
    """Writes stage folders one by one, so that a test can leave some out."""

    def __init__(self, root: Path, *, name: str = "demo", num_problems: int = 60, hostile: bool = False) -> None:
        self.root = root
        self.run_dir = root / "runs" / name
        self.run_dir.mkdir(parents=True)
        self.recipe = recipe(name)
        self.rng = random.Random(7)
        self.num_problems = num_problems
        self.hostile = hostile
        self.stages: dict[str, Any] = {}
        self.rows: pa.Table | None = None

    def folder(self, stage: str) -> Path:
        path = self.root / "store" / f"{stage.replace('/', '-')}-{content_hash(stage, length=12)}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def close(
        self, stage: str, rows_in: int, kept: int, drops: dict[str, int], notes: dict[str, Any] | None = None
    ) -> None:
        """Write the ledger and enter the stage into the manifest."""
        ledger = {"stage": stage, "rows_in": rows_in, "kept": kept, "drops": drops, "notes": notes or {}}
        ledger["seconds"] = round(0.4 + rows_in / 37, 2)
        folder = self.folder(stage)
        write_json(folder / "ledger.json", ledger)
        (folder / "DONE").write_text("")
        self.stages[stage] = {"dir": str(folder.relative_to(self.root)), "ledger": ledger}

    def write_run(self, *, limit: int | None = None, command: list[str] | None = None) -> Path:
        write_json(self.run_dir / "recipe.json", self.recipe)
        manifest = {"format": 1, "recipe": self.recipe["name"], "factory": "0.1.0", "limit": limit}
        manifest["command"] = command or ["factory", "run", "recipes/demo.yaml", "--set", "seed=7"]
        write_json(self.run_dir / "manifest.json", manifest | {"stages": self.stages})
        return self.run_dir


def make_workspace(
    root: Path,
    *,
    until: str = "scores",
    num_problems: int = 60,
    hostile: bool = False,
    limit: int | None = None,
    gains: dict[str, tuple[float, float, float, float]] | None = None,
) -> Path:
    """A run that got as far as ``until``; ``gains`` maps a method to (value, low, high, p) on the first benchmark."""
    maker = WorkspaceMaker(root, num_problems=num_problems, hostile=hostile)
    wanted = STAGES[: STAGES.index(until) + 1]
    steps: dict[str, Callable[..., None]] = {
        "problems": _problems, "questions": _questions, "smoke": _smoke, "teachers": _teachers, "rollouts": _rollouts,
        "difficulty": _difficulty, "curate": _curate, "targets": _targets, "train": _train, "answers": _answers,
    }  # fmt: skip
    for stage in wanted:
        kind, _, member = stage.partition("/")
        if kind == "scores":
            _scores(maker, gains or {"sft": (0.138, 0.091, 0.184, 0.0005), "kd": (0.161, 0.115, 0.209, 0.0005)})
        else:
            steps[kind](maker, *([member] if member else []))
    return maker.write_run(limit=limit)


def recipe(name: str) -> dict[str, Any]:
    """A valid recipe, resolved as the run stores it."""
    sources = {
        "heldout": {"kind": "arithmetic", "num": 160, "split": "heldout"},
        "longer": {"kind": "arithmetic", "num": 80, "split": "heldout", "min_steps": 6, "max_steps": 8},
        "phrases": {"kind": "file", "path": "phrases.jsonl", "licence": "CC-BY-4.0"},
    }
    resolved = Recipe.model_validate(
        {
            "name": name,
            "description": "A synthetic run for looking at the report; its numbers measure nothing.",
            "problems": {"kind": "arithmetic", "num": 1000},
            "teachers": {
                "candidates": [
                    {"name": "steady", "engine": {"kind": "transformers", "model": "models/steady"}},
                    {"name": "wordy", "engine": {"kind": "transformers", "model": "models/wordy"}},
                    {"name": "hasty", "engine": {"kind": "transformers", "model": "models/hasty"}},
                ]
            },
            "curate": {"size": 80, "max_tokens": 400, "selector": {"kind": "ded", "traces_per_problem": 2}},
            "train": {"student": "models/base", "methods": ["sft", "kd"], "learning_rate": 1e-3},
            "eval": {
                "benchmarks": [{"name": n, "role": role, "problems": sources[n]} for n, role, _ in BENCHMARKS],
                "max_tokens": 256,
            },
        }
    )
    return resolved.model_dump(mode="json")


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=True))


def estimate(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}


def change(value: float, low: float, high: float, p: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, "p_value": p}


def _problems(maker: WorkspaceMaker) -> None:
    maker.folder("problems")
    drops = {"held_out_for_benchmark": 160, "duplicate_problem": 3}
    maker.close("problems", maker.num_problems + 163, maker.num_problems, drops, {"benchmark_questions": 300})


def _questions(maker: WorkspaceMaker) -> None:
    maker.close("questions", 300, 300, {})


def _smoke(maker: WorkspaceMaker, name: str) -> None:
    notes: dict[str, Any] = {"prompt_tokens": 3_100, "completion_tokens": 21_450}
    if name != "base":
        pq.write_table(_traces(maker, name, 30), maker.folder(f"smoke/{name}") / "traces.parquet")
        notes = {"prompt_tokens": 2_250, "completion_tokens": 14_120, "money": 0.0, "train_tokens": 20_000}
    maker.close(f"smoke/{name}", 150, 120, {"not_accepted": 30}, notes)


def _candidate(name: str, accepted: int, tokens: int, score: float | None, gain: Any, behind: Any) -> dict[str, Any]:
    return {
        "name": name, "model": f"models/{name}", "engine": "transformers", "asked": 150, "accepted": accepted,
        "acceptance": estimate(accepted / 150, 0.06), "truncated": 4, "unjudged": 1, "tokens": tokens,
        "seconds": tokens / 900, "money": 0.0, "tokens_per_accepted": tokens / accepted,
        "seconds_per_accepted": tokens / 900 / accepted, "money_per_accepted": 0.0, "mean_tokens": tokens / 150,
        "student_score": None if score is None else estimate(score, 0.055), "gain": gain, "train_tokens": 20_000,
        "behind_best": behind,
    }  # fmt: skip


def _teachers(maker: WorkspaceMaker) -> None:
    candidates = [
        _candidate("steady", 139, 14_120, 0.512, change(0.161, 0.09, 0.23, 0.0005), None),
        _candidate("wordy", 144, 61_300, 0.498, change(0.147, 0.08, 0.21, 0.001), change(-0.014, -0.07, 0.045, 0.62)),
        _candidate("hasty", 121, 5_020, 0.377, change(0.026, -0.04, 0.09, 0.44), change(-0.135, -0.2, -0.07, 0.0005)),
    ]
    evidence = {
        "selected": "steady", "select": "smoke", "student_base": estimate(0.351, 0.05), "candidates": candidates,
        "rule": "best student after equal training tokens; among those not distinguishable from it, the cheapest",
        "reason": "steady's student scores 51.2%; steady and wordy cannot be told apart at this size, and steady needs"
        " 102 tokens per accepted trace, the least of them",
    }  # fmt: skip
    write_json(maker.folder("teachers") / "teachers.json", evidence)
    maker.close("teachers", 3, 1, {"not_chosen": 2}, {"selected": "steady"})


def _traces(maker: WorkspaceMaker, teacher: str, num_problems: int, samples: int = 4) -> pa.Table:
    rows = [_trace(maker, teacher, problem, sample) for problem in range(num_problems) for sample in range(samples)]
    return pa.Table.from_pylist(rows, schema=TRACE_SCHEMA)


def _trace(maker: WorkspaceMaker, teacher: str, problem: int, sample: int) -> dict[str, Any]:
    rng = maker.rng
    a, b, c = rng.randrange(10, 60), rng.randrange(1, 30), rng.randrange(1, 9)
    gold = a + b - c
    fate = rng.choices(["right", "wrong", "cut", "none", "gold", "timeout", "untagged"], [70, 12, 5, 4, 2, 2, 5])[0]
    said = gold + (1 if fate == "wrong" else 0)
    steps = "".join(f"Check {i}: {a} + {b} = {a + b}, minus {c} is {said}.\n" for i in range(rng.randrange(1, 9)))
    if maker.hostile:
        steps += HOSTILE[(problem * 4 + sample) % len(HOSTILE)] + "\n" + "wide" * 150
    response = f"<think>\nFirst {a} + {b}, then take away {c}.\n{steps}</think>\nThe answer is {said}."
    response = {"cut": response[:60], "untagged": f"The answer is {said}."}.get(fate, response)
    outcome, reason = {
        "right": ("correct", "exact"), "untagged": ("correct", "exact"), "wrong": ("incorrect", "mismatch"),
        "cut": ("incorrect", "truncated"), "none": ("incorrect", "no_answer"),
        "gold": ("unverifiable", "gold_unparsed"), "timeout": ("error", "timeout"),
    }[fate]  # fmt: skip
    mark = HOSTILE[problem % len(HOSTILE)] if maker.hostile else ""
    return {
        "trace_id": content_hash(teacher, problem, sample), "problem_id": content_hash("problem", problem),
        "prompt": f"{mark}{a}+{b}-{c}=?", "gold": str(gold), "teacher": teacher, "model": f"{teacher}@1f9c2a77",
        "sample": sample, "seed": problem * 31 + sample, "sampling": '{"temperature": 0.7, "top_p": 1.0}',
        "response": response, "finish_reason": "length" if fate == "cut" else "stop", "num_prompt_tokens": 15,
        "num_tokens": 20 + len(response) // 4, "outcome": outcome, "reason": reason,
        "extracted": None if fate in ("cut", "none") else str(said), "verifier": "math@1",
        "source": f"arithmetic num=1000 seed=0 split=train #{problem}",
        "licence": "Apache-2.0" if problem % 5 else "unknown", "meta": '{"steps": 3}',
    }  # fmt: skip


def _rollouts(maker: WorkspaceMaker) -> None:
    table = _traces(maker, "steady", maker.num_problems)
    maker.rows = table
    pq.write_table(table, maker.folder("rollouts") / "traces.parquet", compression="zstd", row_group_size=2_000)
    outcomes = Counter(table["outcome"].to_pylist())
    correct = outcomes.pop("correct")
    notes = {"prompt_tokens": 15 * table.num_rows, "completion_tokens": sum(table["num_tokens"].to_pylist())}
    maker.close("rollouts", table.num_rows, correct, dict(outcomes), notes | {"money": 0.0})


def _pass_counts(maker: WorkspaceMaker) -> dict[str, tuple[int, int]]:
    weights = [9, 8, 8, 7, 6, 5, 5, 6, 12]
    return {
        content_hash("problem", p): (random.Random(p).choices(range(9), weights)[0], 8)
        for p in range(maker.num_problems)
    }


def _difficulty(maker: WorkspaceMaker) -> None:
    rows = [
        {"problem_id": p, "k": k, "n": n, "mean": (k + 1) / (n + 2), "low": k / (n + 2), "high": (k + 2) / (n + 2)}
        for p, (k, n) in _pass_counts(maker).items()
    ]
    pq.write_table(
        pa.Table.from_pylist(rows, schema=PASS_RATE_SCHEMA), maker.folder("difficulty") / "pass_rates.parquet"
    )
    notes = {"prompt_tokens": 15 * 8 * len(rows), "completion_tokens": 31 * 8 * len(rows)}
    maker.close("difficulty", len(rows), len(rows), {}, notes)


def _curate(maker: WorkspaceMaker) -> None:
    config = Recipe.model_validate(maker.recipe).curate
    assert maker.rows is not None
    result = curate(maker.rows, config, pass_counts=_pass_counts(maker), seed=0)
    folder = maker.folder("curate")
    pq.write_table(result.rows, folder / "rows.parquet", compression="zstd", row_group_size=2_000)
    write_json(
        folder / "funnel.json",
        [{"name": s.name, "rows_in": s.rows_in, "kept": s.kept, "drops": s.drops} for s in result.funnel],
    )
    drops: Counter[str] = Counter()
    for step in result.funnel:
        drops.update(step.drops)
    maker.close("curate", result.rows.num_rows, result.funnel[-1].kept, dict(drops))


def _targets(maker: WorkspaceMaker) -> None:
    maker.folder("targets")
    maker.close("targets", 80, 80, {}, {"tokens": 6_900, "bytes_per_token": 122.0})


def _train(maker: WorkspaceMaker, method: str) -> None:
    start, end = (2.4, 0.31) if method == "sft" else (1.9, 0.52)
    log = [
        {"step": s, "loss": end + (start - end) * math.exp(-s / 18) + maker.rng.uniform(-0.03, 0.03),
         "lr": 1e-3 * (1 - s / 100), "tokens": s * 690}
        for s in range(1, 101)
    ]  # fmt: skip
    folder = maker.folder(f"train/{method}")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    summary = {"num_examples": 79, "num_steps": 100, "num_tokens": 69_000, "dropped_too_long": 1, "seconds": 41.7}
    write_json(folder / "summary.json", summary)
    maker.close(f"train/{method}", 80, 79, {"too_long": 1}, {"tokens": 69_000, "steps": 100})


def _answers(maker: WorkspaceMaker, model: str) -> None:
    folder = maker.folder(f"answers/{model}")
    for name, _, num_questions in BENCHMARKS:
        rows = [{"question_id": f"q{i}", "sample": i % 4, "num_tokens": 40 + i % 17} for i in range(4 * num_questions)]
        schema = pa.schema([("question_id", pa.string()), ("sample", pa.int32()), ("num_tokens", pa.int32())])
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / f"{name}.parquet")
    maker.close(f"answers/{model}", 1200, 1196, {"error": 1, "unverifiable": 3})


def _scores(maker: WorkspaceMaker, gains: dict[str, tuple[float, float, float, float]]) -> None:
    models = ["base", *gains]
    benchmarks = []
    for place, (name, role, num_questions) in enumerate(BENCHMARKS):
        base = (0.412, 0.183, 0.71)[place]
        weight = (1.0, 0.2, -0.1)[place]
        shift = {m: [part * weight for part in gain[:3]] for m, gain in gains.items()}
        if place == 2:
            shift = {m: [s[0], s[0] - 0.03, s[0] + 0.03] for m, s in shift.items()}
        entries = {m: _model_scores(base + (shift[m][0] if m in shift else 0), m) for m in models}
        differences = [
            {"model": m, "against": "base", **_shifted(shift[m], gains[m][3] if place < 2 else 0.31)} for m in gains
        ]
        if len(gains) == 2:
            differences.append({"model": "kd", "against": "sft", **change(0.023, -0.012, 0.058, 0.19)})
        benchmarks.append(
            {"name": name, "role": role, "num_questions": num_questions, "num_samples": 4, "temperature": 0.6,
             "top_p": 0.95, "max_tokens": 256, "models": entries, "differences": differences,
             "minimum_detectable_gain": 0.052}
        )  # fmt: skip
    table = {"format": 1, "recipe": maker.recipe["name"], "level": 0.95, "models": models, "benchmarks": benchmarks}
    write_json(maker.folder("scores") / "scores.json", table)
    write_json(maker.run_dir / "scores.json", table)
    maker.close("scores", 3600, 3600, {})


def _shifted(shift: list[float], p: float) -> dict[str, float]:
    return change(shift[0], shift[1], shift[2], p)


def _model_scores(value: float, model: str) -> dict[str, Any]:
    return {
        "avg_at_k": estimate(value, 0.05), "pass_at_k": estimate(min(value + 0.2, 1), 0.06),
        "maj_at_k": estimate(min(value + 0.05, 1), 0.06), "truncated": 0.0125 if model == "base" else 0.00625,
        "no_answer": 0.025, "unverifiable": 3, "error": 1, "mean_tokens": 48.25 if model == "base" else 131.5,
    }  # fmt: skip
