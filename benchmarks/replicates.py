"""Repeat recipes as independent experiments, and say what holds beyond one lucky seed.

    python benchmarks/replicates.py --workspace /tmp/replicates --replicates 5
    python benchmarks/replicates.py --workspace /tmp/tuning --split validation --recipe recipes/quickstart.yaml \
        --set train.epochs=8

Every replicate has other training problems, other questions, other samples and another seed of training, so the
replicates are independent and a Student t interval over them covers all of that at once (one run's own intervals know
nothing of the luck in its training). Within a replicate the recipes share problems, questions and seed: differences
between them are paired. All recipes must use the arithmetic generator. Prints a table per question asked, then the same
as JSON in ``WORKSPACE/replicates-SPLIT.json``; a finished replicate is not run again.

Tune with ``--split validation``: its chains are in no reported benchmark, and its replicates have seeds of their own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evals.intervals import t_quantile
from factory.recipe_io import load_recipe

ROOT = Path(__file__).parents[1]
OFFSETS = {"heldout": 0, "validation": 1_000_000}
"""Added to every seed of a split's replicates."""
LEVEL = 0.95


@dataclass(frozen=True)
class Finding:
    """Mean over replicates with its t interval; in percent or, for differences, in points."""

    what: str
    mean: float
    low: float
    high: float
    each: list[float]

    def line(self) -> str:
        each = " ".join(f"{value:6.1f}" for value in self.each)
        return f"  {self.what:44} {self.mean:+7.1f} [{self.low:+6.1f}, {self.high:+6.1f}]   {each}"


def finding(what: str, values: Sequence[float]) -> Finding:
    """``values``: one per replicate, as shares."""
    percent = [100 * value for value in values]
    mean = statistics.fmean(percent)
    half = math.inf
    if len(percent) > 1:
        half = t_quantile((1 + LEVEL) / 2, len(percent) - 1) * statistics.stdev(percent) / math.sqrt(len(percent))
    return Finding(what, round(mean, 2), round(mean - half, 2), round(mean + half, 2), [round(p, 2) for p in percent])


def run_replicate(recipe: Path, replicate: int, options: argparse.Namespace) -> Path:
    """Run the recipe as this replicate; the folder of its results."""
    loaded = load_recipe(recipe, options.set).recipe
    seed = OFFSETS[options.split] + replicate
    name = f"{loaded.name}-{options.split}-{replicate}"
    settings = [f"name={name}", f"seed={seed}", f"problems.seed={100 + seed}"]
    for i in range(len(loaded.eval.benchmarks)):
        settings += [
            f"eval.benchmarks.{i}.problems.seed={1000 + 20 * seed + i}",
            f"eval.benchmarks.{i}.problems.split={options.split}",
        ]
    words = [word for setting in [*options.set, *settings] for word in ("--set", setting)]
    command = [sys.executable, "-m", "factory", "run", str(recipe), "--workspace", str(options.workspace), *words]
    print(f"{name} ...", file=sys.stderr, flush=True)
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    if done.returncode:
        raise SystemExit(f"{name} failed (exit code {done.returncode}):\n{done.stderr[-4000:]}")
    return Path(options.workspace) / "runs" / name


def accuracies(run: Path) -> dict[str, dict[str, float]]:
    """Benchmark -> model -> avg@k."""
    table = json.loads((run / "scores.json").read_text())
    return {
        b["name"]: {model: row["avg_at_k"]["value"] for model, row in b["models"].items()} for b in table["benchmarks"]
    }


def teachers(run: Path) -> dict[str, Any]:
    """``teachers.json`` of the run."""
    manifest = json.loads((run / "manifest.json").read_text())
    folder = run.parents[1] / manifest["stages"]["teachers"]["dir"]
    return json.loads((folder / "teachers.json").read_text())


def scores_of(name: str, runs: Sequence[dict[str, dict[str, float]]]) -> Iterable[Finding]:
    """Accuracy of every model, and the later method against the earlier one."""
    for benchmark, models in runs[0].items():
        for model in models:
            yield finding(f"{name} {benchmark} {model}", [run[benchmark][model] for run in runs])
        if "sft" in models and "kd" in models:
            values = [run[benchmark]["kd"] - run[benchmark]["sft"] for run in runs]
            yield finding(f"{name} {benchmark} kd - sft", values)


def compare(names: Sequence[str], first: Sequence[Any], second: Sequence[Any]) -> Iterable[Finding]:
    """First recipe minus second, paired by replicate."""
    for benchmark, models in first[0].items():
        for model in models:
            if model != "base":
                values = [a[benchmark][model] - b[benchmark][model] for a, b in zip(first, second, strict=True)]
                yield finding(f"{names[0]} - {names[1]}: {benchmark} {model}", values)


def teacher_findings(choices: Sequence[dict[str, Any]]) -> Iterable[Finding]:
    """Acceptance and gain in the smoke test of every candidate that was scored in each replicate."""
    for i, candidate in enumerate(choices[0]["candidates"]):
        rows = [choice["candidates"][i] for choice in choices]
        if all(row.get("gain") for row in rows):
            yield finding(f"{candidate['name']}: accepted", [row["acceptance"]["value"] for row in rows])
            yield finding(f"{candidate['name']}: its student's gain", [row["gain"]["value"] for row in rows])


def main() -> int:
    """Entry point."""
    options = parse()
    replicates = range(options.first, options.first + options.replicates)
    runs: dict[str, list[Path]] = {}
    for replicate in replicates:
        for recipe in options.recipe:
            runs.setdefault(recipe.stem, []).append(run_replicate(recipe, replicate, options))
    scores = {name: [accuracies(run) for run in folders] for name, folders in runs.items()}
    choices = [teachers(run) for run in runs[options.recipe[0].stem]]
    chosen = Counter(choice["selected"] for choice in choices)
    print(f"teacher chosen: {dict(chosen)}; mean over {len(replicates)} replicates [95 %], then each of them")
    found = [*teacher_findings(choices)]
    found += [f for name, of_recipe in scores.items() for f in scores_of(name, of_recipe)]
    if len(scores) == 2:
        found += compare(list(scores), *scores.values())
    for f in found:
        print(f.line())
    content = {"settings": options.set, "split": options.split, "chosen": dict(chosen)}
    content |= {"findings": [asdict(f) for f in found]}
    (options.workspace / f"replicates-{options.split}.json").write_text(json.dumps(content, indent=1) + "\n")
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    recipes = [ROOT / "recipes" / f"{name}.yaml" for name in ("quickstart", "quickstart_random")]
    parser.add_argument("--recipe", type=Path, nargs="+", default=recipes, help="one or two (default: DED and random)")
    parser.add_argument("--replicates", type=int, default=5)
    parser.add_argument("--first", type=int, default=1, help="number of the first replicate")
    parser.add_argument("--split", choices=list(OFFSETS), default="heldout", help="where the questions come from")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="as for `factory run`")
    parser.add_argument("--workspace", type=Path, required=True)
    options = parser.parse_args()
    options.workspace.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    sys.exit(main())
