"""What a run left on disk, read for the report: leniently, because a report on half a run must still be written.

Nothing here raises for an absent or unreadable stage file: the reader answers ``None`` and remembers the fault, and the
section that needed it says so. Big tables are read column by column, and long texts only for the few rows shown.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from factory.errors import WorkspaceError

EXAMPLES_PER_REASON = 2
KEPT_EXAMPLES = 4
MAX_REASONS = 12
_BATCH_ROWS = 256
_MAX_CURVE_POINTS = 300
_ROW_NUMBER = re.compile(r"(?:\s*[:#]|,?\s*\b(?:line|row))\s*\d+$")


class Step(NamedTuple):
    """One row of the funnel; ``rows_in == kept + sum of drops`` when the run's ledgers add up."""

    name: str
    unit: str
    """``problems`` or ``traces``."""
    rows_in: int
    kept: int
    drops: tuple[tuple[str, int], ...]
    """``(reason, rows)``, most frequent first."""
    note: str = ""

    @property
    def adds_up(self) -> bool:
        return self.rows_in == self.kept + sum(n for _, n in self.drops)


class Group(NamedTuple):
    """A few examples that met the same fate."""

    reason: str
    total: int
    rows: list[dict[str, Any]]


class Cost(NamedTuple):
    """What making one stage took; None where the run did not record it."""

    stage: str
    seconds: float | None
    prompt_tokens: float | None
    completion_tokens: float | None
    trained_tokens: float | None
    money: float | None


class Curve(NamedTuple):
    """A training curve, averaged over neighbouring steps when it is longer than a picture can show."""

    tokens: list[float]
    """Tokens seen so far; steps where the log has no tokens."""
    loss: list[float]
    steps_per_point: int
    not_finite: int
    """Logged steps whose loss was NaN or infinite; not drawn."""


@dataclass
class RunFolder:
    """``runs/<name>/`` and the stage folders its manifest points to.

    Raises:
        WorkspaceError: from ``open`` when the manifest cannot be read; without it there is nothing to report on.
    """

    run_dir: Path
    manifest: Mapping[str, Any]
    recipe: Mapping[str, Any]
    faults: list[str] = field(default_factory=list)
    """Files that should be there and could not be read, in words."""

    @classmethod
    def open(cls, run_dir: Path) -> RunFolder:
        """Read ``manifest.json`` and ``recipe.json``."""
        path = run_dir / "manifest.json"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            stages = manifest["stages"]
            assert all(isinstance(entry["dir"], str) for entry in stages.values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise WorkspaceError(
                f"{path}: not the manifest of a run ({type(error).__name__}: {error});"
                " give the folder WORKSPACE/runs/<recipe name>, or run the recipe again to write it anew"
            ) from error
        folder = cls(run_dir, manifest, {})
        folder.recipe = folder._read_json(run_dir / "recipe.json") or {}
        return folder

    @property
    def stages(self) -> Mapping[str, Any]:
        """Stage key -> folder and ledger, in the order of the run."""
        return dict(self.manifest["stages"])

    def has(self, stage: str) -> bool:
        return stage in self.stages

    def ledger(self, stage: str) -> Mapping[str, Any]:
        """The stage's ledger, empty when the stage did not run."""
        return dict(self.stages.get(stage, {}).get("ledger") or {})

    def under(self, prefix: str) -> list[str]:
        """Names after ``prefix/`` among the stages, in the manifest's order."""
        return [key.split("/", 1)[1] for key in self.stages if key.startswith(prefix + "/")]

    def path(self, stage: str, name: str) -> Path | None:
        """A stage's file, None when the stage did not run; a file that is gone is noted as a fault."""
        if not self.has(stage):
            return None
        path = self.run_dir.parent.parent / self.stages[stage]["dir"] / name
        if not path.is_file():
            if not stage.startswith("smoke/"):  # not every trial has every file
                self._fault(f"{stage}: {self.stages[stage]['dir']}/{name} is not there")
            return None
        return path

    def json(self, stage: str, name: str) -> Any:
        """A JSON file of a stage, or None."""
        path = self.path(stage, name)
        return self._read_json(path) if path else None

    def jsonl(self, stage: str, name: str) -> list[dict[str, Any]] | None:
        """Rows of a JSONL file of a stage, or None."""
        path = self.path(stage, name)
        if path is None:
            return None
        try:
            with open(path, encoding="utf-8") as handle:
                return [json.loads(line) for line in handle if line.strip()]
        except (OSError, ValueError) as error:
            self._fault(f"{stage}: {name} cannot be read ({error})")
            return None

    def parquet(self, stage: str, name: str) -> pq.ParquetFile | None:
        """A Parquet file of a stage, opened but not read, or None."""
        path = self.path(stage, name)
        if path is None:
            return None
        try:
            return pq.ParquetFile(path, memory_map=True)
        except (OSError, pa.ArrowException) as error:
            self._fault(f"{stage}: {name} cannot be read ({error})")
            return None

    def _read_json(self, path: Path) -> Any:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self._fault(f"{path.name} cannot be read ({type(error).__name__})")
            return None

    def _fault(self, text: str) -> None:
        if text not in self.faults:
            self.faults.append(text)


def trace_table(run: RunFolder) -> pq.ParquetFile | None:
    """Every asked trace, with its fate where the run got as far as curation."""
    return run.parquet("curate", "rows.parquet") if run.has("curate") else run.parquet("rollouts", "traces.parquet")


def expected_stages(recipe: Mapping[str, Any]) -> list[str]:
    """Stage keys that a whole run of this recipe has, in flow order; empty when the recipe could not be read."""
    if not recipe:
        return []
    teachers, methods = recipe["teachers"], recipe["train"]["methods"]
    smoke = teachers["select"] == "smoke" and len(teachers["candidates"]) > 1
    keys = ["problems", "questions"]
    keys += [f"smoke/{t['name']}" for t in teachers["candidates"]] if smoke else []
    keys += ["teachers", "rollouts", "difficulty", "curate"]
    keys += ["targets"] if "kd" in methods else []
    keys += [f"train/{m}" for m in methods]
    return [*keys, "answers/base", *(f"answers/{m}" for m in methods), "scores"]


def funnel(run: RunFolder) -> list[Step]:
    """Problems, the traces asked for them, and every step up to the data set."""
    steps: list[Step] = []
    problems, rollouts = run.ledger("problems"), run.ledger("rollouts")
    if problems:
        steps.append(_step("problems read", "problems", problems))
    if not rollouts:
        return steps
    asked, correct = int(rollouts["rows_in"]), int(rollouts["kept"])
    note = f"for {int(problems['kept']):,} problems" if problems else ""
    steps.append(Step("teacher asked", "traces", asked, asked, (), note))
    later = run.json("curate", "funnel.json") or []
    if not later or later[0]["rows_in"] != asked:
        steps.append(_step("verified", "traces", rollouts))
    elif correct == asked and later[0]["kept"] != asked:
        steps.append(Step("verified", "traces", asked, asked, ()))
    return steps + [_step(str(row["name"]), "traces", row) for row in later]


def _step(name: str, unit: str, row: Mapping[str, Any]) -> Step:
    drops = sorted(((str(r), int(n)) for r, n in row["drops"].items() if n), key=lambda d: (-d[1], d[0]))
    return Step(name, unit, int(row["rows_in"]), int(row["kept"]), tuple(drops))


def funnel_faults(steps: Sequence[Step]) -> list[str]:
    """Where the funnel does not add up, in words."""
    faults = [
        f"{s.name}: {s.rows_in:,} in, but {s.kept:,} kept and {sum(n for _, n in s.drops):,} dropped"
        for s in steps
        if not s.adds_up
    ]
    for before, after in zip(steps, steps[1:], strict=False):
        if before.unit == after.unit and before.kept != after.rows_in:
            faults.append(f"{before.name} kept {before.kept:,}, but {after.name} got {after.rows_in:,}")
    return faults


class PassRates(NamedTuple):
    """How often the student solved each problem."""

    counts: list[tuple[str, int]]
    """``(label, problems)`` from never solved to always solved."""
    num_problems: int
    not_judged: int
    """Problems without one judged answer; not in ``counts``."""
    per_k: bool
    """Labels are ``k of n``; otherwise n differs between problems and labels are bands of ten percent, with never and
    always apart."""


def pass_rates(run: RunFolder) -> PassRates | None:
    """Histogram of k of n."""
    file = run.parquet("difficulty", "pass_rates.parquet")
    if file is None:
        return None
    table = file.read(["k", "n"])
    pairs = list(zip(table["k"].to_pylist(), table["n"].to_pylist(), strict=True))
    judged = [(k, n) for k, n in pairs if n]
    totals = {n for _, n in judged}
    if len(totals) == 1 and (n := totals.pop()) <= 16:
        by_k = Counter(k for k, _ in judged)
        counts = [(f"{k}/{n}", by_k[k]) for k in range(n + 1)]
        return PassRates(counts, len(pairs), len(pairs) - len(judged), True)
    bands = Counter(10 * k // n for k, n in judged if 0 < k < n)
    between = [(f"{10 * b}\u2013{10 * b + 10}%", bands[b]) for b in range(10)]
    never, always = sum(k == 0 for k, _ in judged), sum(k == n for k, n in judged)
    counts = [("0/n", never), *between, ("n/n", always)]
    return PassRates(counts, len(pairs), len(pairs) - len(judged), False)


class Lengths(NamedTuple):
    """Histogram of trace lengths in tokens."""

    edges: list[float]
    kept: list[int]
    dropped: list[int]
    median_kept: float | None
    median_dropped: float | None


def trace_lengths(run: RunFolder, num_bins: int = 20) -> Lengths | None:
    """Kept and dropped traces by length; before curation every trace that was not accepted counts as dropped."""
    file = trace_table(run)
    if file is None or not file.metadata.num_rows:
        return None
    kept_column = "kept" if "kept" in file.schema_arrow.names else "outcome"
    table = file.read(["num_tokens", kept_column])
    flag = table[kept_column] if kept_column == "kept" else pc.equal(table["outcome"], "correct")
    parts = [table.filter(mask)["num_tokens"].to_numpy() for mask in (pc.fill_null(flag, False), pc.invert(flag))]
    return _histogram(parts[0], parts[1], num_bins)


def _histogram(kept: Any, dropped: Any, num_bins: int) -> Lengths:
    import numpy as np

    both = np.concatenate([kept, dropped])
    low, high = float(both.min()), float(both.max())
    if low > 0 and high / low > 20:
        edges = np.unique(np.round(np.geomspace(low, high + 1, num_bins + 1)))
    else:  # whole tokens per bin: a fraction would make some bins wider than others
        width = max(1, math.ceil((high + 1 - low) / num_bins))
        edges = np.arange(low, high + 1 + width, width)
    medians = [float(np.median(part)) if len(part) else None for part in (kept, dropped)]
    counted = [np.histogram(part, edges)[0].tolist() for part in (kept, dropped)]
    return Lengths(edges.tolist(), counted[0], counted[1], medians[0], medians[1])


def examples(run: RunFolder) -> tuple[Group | None, list[Group], int]:
    """Kept examples, dropped ones by reason (most frequent first), and how many reasons are left out.

    Which rows are shown depends on their ids alone (content hashes), so nobody picked them and they never change.
    """
    file = trace_table(run)
    if file is None or not file.metadata.num_rows:
        return None, [], 0
    kept, dropped = _fates(file)
    reasons = sorted(dropped, key=lambda r: (-len(dropped[r]), r))
    shown = reasons[:MAX_REASONS]
    wanted = {"": sorted(kept)[:KEPT_EXAMPLES]} | {r: sorted(dropped[r])[:EXAMPLES_PER_REASON] for r in shown}
    rows = _rows_at(file, {index for picks in wanted.values() for _, index in picks})
    groups = [Group(r, len(dropped[r]), [rows[i] for _, i in wanted[r]]) for r in shown]
    first = Group("", len(kept), [rows[i] for _, i in wanted[""]]) if kept else None
    return first, groups, len(reasons) - len(shown)


def _fates(file: pq.ParquetFile) -> tuple[list[tuple[str, int]], dict[str, list[tuple[str, int]]]]:
    """``(trace id, row)`` of kept rows, and of dropped rows by reason."""
    curated = "kept" in file.schema_arrow.names
    table = file.read(["trace_id", "outcome", "reason"] + (["kept", "drop_reason"] if curated else []))
    ids = _values(table["trace_id"])
    kept_flags = table["kept"].to_pylist() if curated else [o == "correct" for o in _values(table["outcome"])]
    reasons = _values(table["drop_reason"] if curated else table["reason"])
    kept: list[tuple[str, int]] = []
    dropped: dict[str, list[tuple[str, int]]] = {}
    for index, (trace_id, is_kept, reason) in enumerate(zip(ids, kept_flags, reasons, strict=True)):
        if is_kept:
            kept.append((trace_id, index))
        else:
            dropped.setdefault(reason or "no reason recorded", []).append((trace_id, index))
    return kept, dropped


def _rows_at(file: pq.ParquetFile, indices: set[int]) -> dict[int, dict[str, Any]]:
    """Whole rows by position, holding one batch in memory and skipping row groups that have none of them."""
    rows: dict[int, dict[str, Any]] = {}
    start = 0
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        if any(start <= i < start + size for i in indices):
            for offset, batch in _batches(file, group):
                for i in indices:
                    if 0 <= i - start - offset < batch.num_rows:
                        rows[i] = _row(batch, i - start - offset)
        start += size
    return rows


def _row(batch: pa.RecordBatch, index: int) -> dict[str, Any]:
    return {name: _values(batch[name].slice(index, 1))[0] for name in batch.schema.names}


def _values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Python values; bytes that are not UTF-8 read as U+FFFD instead of ending the report."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return list(column.to_pylist())
    raw = column.cast(pa.large_binary()).to_pylist()
    return [value if value is None else value.decode("utf-8", "replace") for value in raw]


def _batches(file: pq.ParquetFile, group: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    offset = 0
    for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group]):
        yield offset, batch
        offset += batch.num_rows


def licences(run: RunFolder) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Kept examples by licence and by source (without the number of the row in it), most frequent first."""
    file = run.parquet("curate", "rows.parquet") if run.has("curate") else None
    if file is None:
        return [], []
    table = file.read(["licence", "source", "kept"])
    table = table.filter(pc.fill_null(table["kept"], False))
    sources = (_ROW_NUMBER.sub("", source or "") for source in _values(table["source"]))
    return _totals(_values(table["licence"])), _totals(sources)


def _totals(names: Iterable[str | None]) -> list[tuple[str, int]]:
    counted = Counter(name or "unknown" for name in names)
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))


def curve(rows: Sequence[Mapping[str, Any]]) -> Curve:
    """The loss over the tokens seen."""
    finite = [r for r in rows if r.get("loss") is not None and math.isfinite(r["loss"])]
    size = max(1, math.ceil(len(finite) / _MAX_CURVE_POINTS))
    parts = [finite[i : i + size] for i in range(0, len(finite), size)]
    across = [float(part[-1].get("tokens") or part[-1]["step"]) for part in parts]
    loss = [math.fsum(r["loss"] for r in part) / len(part) for part in parts]
    return Curve(across, loss, size, len(rows) - len(finite))


def train_log(run: RunFolder, stage: str) -> list[dict[str, Any]] | None:
    """Logged training steps of one student."""
    return run.jsonl(stage, "metrics.jsonl")


def costs(run: RunFolder) -> list[Cost]:
    """One row per stage that ran, and one per judge of it.

    The stage's notes go first; what they lack is added up from its files.
    """
    rows: list[Cost] = []
    for stage in run.stages:
        rows += [_cost(run, stage), *_judge_costs(run, stage)]
    return rows


def _cost(run: RunFolder, stage: str) -> Cost:
    ledger = run.ledger(stage)
    notes = ledger.get("notes") or {}
    prompt, completion, money = (_number(notes.get(n)) for n in ("prompt_tokens", "completion_tokens", "money"))
    trained = _number(notes.get("train_tokens"))
    kind = stage.partition("/")[0]
    if kind in ("rollouts", "smoke") and completion is None:
        prompt, completion = _column_sums(run, stage, "traces.parquet", ["num_prompt_tokens", "num_tokens"])
    if kind == "answers" and completion is None:
        completion = _sum(_column_sums(run, stage, f"{n}.parquet", ["num_tokens"])[0] for n in benchmark_names(run))
    if kind == "train" and trained is None:
        trained = _number((run.json(stage, "summary.json") or {}).get("num_tokens"))
    if money is None and kind in ("rollouts", "smoke"):
        selected = (run.json("teachers", "teachers.json") or {}).get("selected")
        teacher = stage.partition("/")[2] if kind == "smoke" else selected
        money = _price(run, teacher, prompt, completion)
    return Cost(stage, _number(ledger.get("seconds")), prompt, completion, trained, money)


def _judge_costs(run: RunFolder, stage: str) -> Iterator[Cost]:
    """The calls of the judges that decided on a stage's answers; their time is part of the stage's."""
    judges = (run.ledger(stage).get("notes") or {}).get("judges") or {}
    for where, notes in judges.items():
        prompt, completion = _number(notes.get("prompt_tokens")), _number(notes.get("completion_tokens"))
        engine, asked_on = _judge_at(run, where)
        name = f"{stage}: judge {engine.get('model', '')}".strip() + (f" on {asked_on}" if asked_on else "")
        yield Cost(name, None, prompt, completion, None, _money(engine, prompt, completion))


def _judge_at(run: RunFolder, where: str) -> tuple[Mapping[str, Any], str]:
    """The engine of the judge that a ledger knows by its place in the recipe, and the benchmark whose own it is."""
    for benchmark in run.recipe["eval"]["benchmarks"] if run.recipe else []:
        if where == f"eval.benchmarks ({benchmark['name']}): verifier":
            return (benchmark.get("verifier") or {}).get("engine") or {}, benchmark["name"]
    return (run.recipe["verify"].get("engine") or {}) if run.recipe else {}, ""


def _price(run: RunFolder, teacher: str | None, prompt: float | None, completion: float | None) -> float | None:
    """Tokens at the prices that the recipe gives for this teacher; None for one without prices."""
    candidates = run.recipe["teachers"]["candidates"] if run.recipe else []
    return _money(next((c["engine"] for c in candidates if c["name"] == teacher), {}), prompt, completion)


def _money(engine: Mapping[str, Any], prompt: float | None, completion: float | None) -> float | None:
    prices = engine.get("price_per_1m_prompt_tokens"), engine.get("price_per_1m_completion_tokens")
    if not any(prices) or prompt is None or completion is None:
        return None
    return (prompt * (prices[0] or 0.0) + completion * (prices[1] or 0.0)) / 1e6


def total_cost(costs: Sequence[Cost]) -> Cost:
    """All stages together; None where no stage recorded the figure."""
    return Cost("all", *(_sum(values) for values in list(zip(*costs, strict=True))[1:]))


def _sum(values: Iterable[Any]) -> float | None:
    known = [float(v) for v in values if v is not None]
    return math.fsum(known) if known else None


def benchmark_names(run: RunFolder) -> list[str]:
    """Names of the recipe's benchmarks, the headline first."""
    return [str(b["name"]) for b in run.recipe["eval"]["benchmarks"]] if run.recipe else []


def _column_sums(run: RunFolder, stage: str, name: str, columns: list[str]) -> list[float | None]:
    file = run.parquet(stage, name)
    if file is None:
        return [None] * len(columns)
    table = file.read(columns)
    return [_number(pc.sum(table[column]).as_py()) or 0.0 for column in columns]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
