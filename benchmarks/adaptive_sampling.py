"""What adaptive sampling saves against a fixed number of samples, and what it does to the measured pass rates.

    python -m benchmarks.adaptive_sampling --data DIR [--replicates 20] [--problems 1000] [--seed 0]

Problems are simulated; nothing is asked of a model. Their true pass rates and token lengths come from real graded
outputs under ``DIR/05_model_outputs``: per pool, several verdicts on each question (k right of n) are turned into a
distribution of rates by nonparametric maximum likelihood (EM over a grid from uniform weights; Laird 1978), stopped
after ``--em-steps``: run to its end, it gathers on a few rates, which three or four verdicts each do not justify.
Lengths are drawn from the pool's own right and wrong answers of the questions about as hard. The decisions are those of
``factory.adaptive``, called as ``factory run`` calls it.

``traces``: fixed draws 16 samples of every problem; a problem is complete with ``wanted`` right traces. Adaptive is
shown as it ends by itself, within 16 samples and within more, and for an equal curated set: ``max_tokens_total`` is
lowered until just as many problems are complete as with fixed 16. Time is that of an engine that writes so many
sequences at once, one token a step: what waiting for the end of every wave adds.
``rates``: the student's pass rate, at most 16 samples; quality against the true rate of every problem, beside fixed 16
and the fixed n that costs no more than adaptive did.

Every figure is a mean over replicates (new problems, new answers) with a 95 % Student t interval.
"""

from __future__ import annotations

import argparse
import gzip
import heapq
import json
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curation.diversity import units
from evals.intervals import t_quantile
from factory.adaptive import Beta, EnoughSuccesses, SettledBand, Waves

DATA = Path(__file__).parents[2] / "shared" / "data"
"""Public benchmark data; not part of the repository."""

FIXED = 16
EDGES = (0.25, 0.75)
_GRID = 101
_EM_STEPS = 50
_MOST = 32
_SLOTS = (32, 256)
_BISECTIONS = 6


class Graded(NamedTuple):
    """One real answer with its verdict."""

    right: bool
    tokens: int


class Pool(NamedTuple):
    """Questions that were answered several times."""

    name: str
    counts: list[tuple[int, int]]
    """(k, n) per question."""
    rates: np.ndarray
    """Support of the distribution of true rates, shape [grid]."""
    weights: np.ndarray
    """Its probabilities, shape [grid]."""
    lengths: dict[tuple[int, bool], np.ndarray]
    """Token counts by (third of the observed rate, right)."""


def _lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as handle:
        return [json.loads(line) for line in handle]


def _length(text: str) -> int:
    """Words, numbers and signs: near a model's tokens, and good enough for ratios."""
    return max(len(units(text)), 1)


def _sky(*files: Path) -> list[list[Graded]]:
    """Files of the Qwen2.5-Math harness on one benchmark: one answer per model and question."""
    rows: dict[int, list[Graded]] = defaultdict(list)
    for file in files:
        for row in _lines(file):
            rows[row["idx"]].append(Graded(bool(row["score"][0]), _length(row["code"][0])))
    return list(rows.values())


def _gsm8k(file: Path) -> list[list[Graded]]:
    names = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    return [[Graded(row[n]["is_correct"], _length(row[n]["solution"])) for n in names] for row in _lines(file)]


def _humaneval(file: Path) -> list[list[Graded]]:
    with gzip.open(file, "rt") as handle:
        rows = json.load(handle)
    found: dict[int, list[Graded]] = defaultdict(list)
    for row in rows:
        written = row["model_output"].removeprefix(row["prompt"])
        found[row["task_id"]].append(Graded(row["result"] == "passed", _length(written)))
    return list(found.values())


def pools(data: Path, steps: int = _EM_STEPS) -> Iterator[Pool]:
    """The pools of graded answers; what several answers of one question come from differs, and the name says it."""
    folder = data / "05_model_outputs"
    models = ("sky_qwen25_14b_instruct", "sky_qwen25_math_7b_base", "sky_t1_32b_short")
    yield _pool("HumanEval, one model x 3", _humaneval(folder / "bigcode_humaneval_k3_results.json.gz"), steps)
    yield _pool("MATH-500, 3 models", _sky(*(folder / f"{m}_math500.jsonl.gz" for m in models)), steps)
    olympiad = (*(f"{m}_olympiadbench" for m in (models[0], models[2])), "prime_Qwen2.5-Math-7B-Instruct_olympiadbench")
    yield _pool("OlympiadBench, 3 models", _sky(*(folder / f"{name}.jsonl.gz" for name in olympiad)), steps)
    yield _pool("GSM8K, 4 models", _gsm8k(folder / "gsm8k_example_model_solutions.jsonl.gz"), steps)


def _pool(name: str, questions: list[list[Graded]], steps: int) -> Pool:
    counts = [(sum(g.right for g in group), len(group)) for group in questions]
    rates, weights = rate_distribution(counts, steps)
    found: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for group, (k, n) in zip(questions, counts, strict=True):
        for graded in group:
            for third in (_third(k / n), 3):
                found[third, graded.right].append(graded.tokens)
    return Pool(name, counts, rates, weights, {key: np.array(value) for key, value in found.items()})


def _third(rate: float) -> int:
    return min(int(rate * 3), 2)


def rate_distribution(counts: Sequence[tuple[int, int]], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Grid of rates and the weights under which the counts are most likely."""
    rates = np.linspace(0, 1, _GRID)
    kinds = sorted(set(counts))
    times = np.array([counts.count(kind) for kind in kinds], float)
    likely = np.array([math.comb(n, k) * rates**k * (1 - rates) ** (n - k) for k, n in kinds])
    weights = np.full(_GRID, 1 / _GRID)
    for _ in range(steps):
        share = likely * weights
        share /= share.sum(axis=1, keepdims=True)
        weights = (times[:, None] * share).sum(axis=0) / times.sum()
    return rates, weights


class World:
    """Simulated problems: a sample's verdict and length depend on problem and index only, whoever asks."""

    def __init__(self, pool: Pool, num_problems: int, num_samples: int, rng: np.random.Generator) -> None:
        self.rates = rng.choice(pool.rates, num_problems, p=pool.weights)
        shape = (num_problems, num_samples)
        self.right = rng.random(shape) < self.rates[:, None]
        self.tokens = np.empty(shape, int)
        for i, rate in enumerate(self.rates):
            for right in (False, True):
                lengths = pool.lengths.get((_third(rate), right), pool.lengths.get((3, right), np.array([1])))
                here = self.right[i] == right
                self.tokens[i, here] = rng.choice(lengths, here.sum())

    def play(
        self,
        policy: EnoughSuccesses | SettledBand,
        prior: Beta | None,
        *,
        first_wave: int = 2,
        budget: int | None = None,
    ) -> Played:
        """Adaptive sampling to its end."""
        ids = [f"{i:06}" for i in range(len(self.rates))]
        waves = Waves(
            ids, policy, first_wave=first_wave, growth=2, prior=prior, budget=budget, max_tokens=int(self.tokens.max())
        )
        parts = []
        while plan := waves.plan():
            parts.append([(i, s) for i, samples in plan for s in samples])
            for i, s in parts[-1]:
                waves.add(i, success=bool(self.right[i, s]), num_tokens=int(self.tokens[i, s]))
        return Played(waves, [[int(self.tokens[place]) for place in part] for part in parts])


class Played(NamedTuple):
    """What adaptive sampling did."""

    waves: Waves
    lengths: list[list[int]]
    """Tokens of every sample, by wave."""

    @property
    def asked(self) -> np.ndarray:
        return np.array([t.asked for t in self.waves.tallies])

    @property
    def successes(self) -> np.ndarray:
        return np.array([t.successes for t in self.waves.tallies])

    @property
    def tokens(self) -> int:
        return sum(sum(part) for part in self.lengths)


def makespan(lengths: Sequence[int], slots: int) -> int:
    """Steps until all are written where ``slots`` are written at once, one token a step, the next as one ends."""
    ends = [0] * slots
    for length in lengths:
        heapq.heappush(ends, heapq.heappop(ends) + length)
    return max(ends)


def traces(world: World, wanted: int, min_chance: float, max_samples: int, first_wave: int) -> dict[str, float]:
    """Figures of one replicate."""
    policy = EnoughSuccesses(wanted, max_samples, min_chance)
    played = world.play(policy, None, first_wave=first_wave)
    cost = int(world.tokens[:, :FIXED].sum())
    target = int((world.right[:, :FIXED].sum(axis=1) >= wanted).sum())
    complete = int((played.successes >= wanted).sum())
    out = {
        "problems completed, share of fixed 16's": complete / target,
        "tokens, share of fixed 16": played.tokens / cost,
        "tokens per completed problem, share of fixed 16's": played.tokens / complete / (cost / target),
        "samples, share of fixed 16": played.asked.sum() / (FIXED * len(world.rates)),
        "waves": len(played.lengths),
    }
    every = [length for part in played.lengths for length in part]
    for slots in _SLOTS:
        together = sum(makespan(part, slots) for part in played.lengths)
        fixed = makespan(world.tokens[:, :FIXED].ravel().tolist(), slots)
        out[f"time, share of fixed 16's, {slots} at once"] = together / fixed
        out[f"time that the ends of waves add, {slots} at once"] = together / makespan(every, slots) - 1
    if max_samples > FIXED:
        out["EQUAL SET: tokens, share of fixed 16"] = least_tokens(world, policy, target, played, first_wave) / cost
    return out


def least_tokens(world: World, policy: EnoughSuccesses, target: int, whole: Played, first_wave: int) -> float:
    """Tokens spent under the smallest budget with which ``target`` problems are complete; nan where none does it."""
    if (whole.successes >= policy.wanted).sum() < target:
        return math.nan
    low, high, best = 0, whole.tokens, whole.tokens
    for _ in range(_BISECTIONS):
        budget = (low + high) // 2
        played = world.play(policy, None, first_wave=first_wave, budget=budget)
        if (played.successes >= policy.wanted).sum() >= target:
            high, best = budget, min(best, played.tokens)
        else:
            low = budget
    return float(best)


def _band(rate: np.ndarray) -> np.ndarray:
    return np.searchsorted(EDGES, rate, side="left")


def rates(world: World, confidence: float, prior: Beta | None) -> dict[str, float]:
    """Figures of one replicate: adaptive against fixed 16, and against the fixed n that costs as much."""
    played = world.play(SettledBand(EDGES, FIXED, confidence), prior)
    cost = np.cumsum(world.tokens[:, :FIXED], axis=1).sum(axis=0)
    same = max(int(np.searchsorted(cost, played.tokens, side="right")), 1)
    fixed, few = world.right[:, :FIXED].sum(axis=1), world.right[:, :same].sum(axis=1)
    out = {
        "tokens, share of fixed 16": played.tokens / cost[-1],
        "samples, share of fixed 16": played.asked.sum() / (FIXED * len(world.rates)),
        "fixed n that costs no more": same,
        "waves": len(played.lengths),
    }
    for name, k, n in (
        ("adaptive", played.successes, played.asked),
        ("fixed 16", fixed, np.full_like(fixed, FIXED)),
        ("fixed, same tokens", few, np.full_like(few, same)),
    ):
        mean = (k + played.waves.prior.a) / (n + sum(played.waves.prior))
        out |= {
            f"RMSE of k/n, {name}": float(np.sqrt(np.mean((k / n - world.rates) ** 2))),
            f"RMSE of the posterior mean, {name}": float(np.sqrt(np.mean((mean - world.rates) ** 2))),
            f"k/n in the true rate's band, {name}": float(np.mean(_band(k / n) == _band(world.rates))),
        }
        out[f"0/n that is 0/16, {name}"] = float(np.mean(fixed[k == 0] == 0)) if (k == 0).any() else math.nan
    return out


def summary(rows: Sequence[dict[str, float]]) -> dict[str, tuple[float, float, float]]:
    """Mean and 95 % t interval of every figure."""
    out = {}
    for key in rows[0]:
        values = [row[key] for row in rows if not math.isnan(row[key])]
        mean = statistics.fmean(values) if values else math.nan
        half = math.inf
        if len(values) > 1:
            half = t_quantile(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        out[key] = (mean, mean - half, mean + half)
    return out


def _show(title: str, pool: Pool, settings: dict[str, Any], rows: Sequence[dict[str, float]]) -> None:
    found = summary(rows)
    print(f"\n{title} | {pool.name} | {settings}")
    for key, (mean, low, high) in found.items():
        missing = sum(math.isnan(row[key]) for row in rows)
        note = f"  (in {missing} of {len(rows)} replicates there is none)" if missing else ""
        print(f"  {key:58} {mean:7.3f} [{low:7.3f}, {high:7.3f}]{note}")
    figures = {key: [round(v, 4) for v in value] for key, value in found.items()}
    print(json.dumps({"what": title, "pool": pool.name, **settings, "figures": figures}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--em-steps", type=int, default=_EM_STEPS)
    options = parser.parse_args()
    started = time.monotonic()
    for number, pool in enumerate(pools(options.data, options.em_steps)):
        shape = np.histogram(pool.rates, bins=[0, 0.005, 0.25, 0.75, 0.995, 1.0], weights=pool.weights)[0]
        mean = float((pool.rates * pool.weights).sum())
        print(
            f"\n== {pool.name}: {len(pool.counts)} questions, mean rate {mean:.2f}; share of problems with rate 0,"
            f" to 0.25, to 0.75, below 1, 1: {np.round(shape, 3).tolist()}"
        )
        worlds = [
            World(pool, options.problems, _MOST, np.random.default_rng([options.seed, number, r]))
            for r in range(options.replicates)
        ]
        _of_pool(pool, worlds)
    print(f"\n{time.monotonic() - started:.0f} s")


def _of_pool(pool: Pool, worlds: Sequence[World]) -> None:
    for wanted, min_chance, most, first in (
        (4, 0.05, FIXED, 2),
        (4, 0.0, FIXED, 2),
        (4, 0.1, _MOST, 2),
        (4, 0.1, _MOST, 4),
        (1, 0.1, _MOST, 1),
        (8, 0.1, _MOST, 8),
    ):
        rows = [traces(world, wanted, min_chance, most, first) for world in worlds]
        settings: dict[str, Any] = {"wanted": wanted, "min_chance": min_chance}
        settings |= {"max_samples": most, "first_wave": first}
        _show("traces", pool, settings, rows)
    for confidence, prior in ((0.9, None), (0.8, None), (0.9, Beta(1, 1))):
        settings = {"confidence": confidence, "prior": list(prior) if prior else "fitted"}
        _show("rates", pool, settings, [rates(world, confidence, prior) for world in worlds])


if __name__ == "__main__":
    main()
