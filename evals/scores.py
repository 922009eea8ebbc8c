"""The score table of a run: every model on every benchmark, and what the differences between models are worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from evals.answers import Judged, judged_samples
from evals.config import IntervalConfig
from evals.equivalence import same_answers
from evals.intervals import difference_interval, mean_interval, minimum_detectable_gain, paired_differences, rounded
from evals.metrics import Same, accuracy_by_question, majority_by_question, pass_at_k_by_question


@dataclass(frozen=True)
class BenchmarkAnswers:
    """One benchmark with every model's judged answers."""

    name: str
    role: str
    """``in_domain``, ``out_of_domain`` or ``retention``."""
    settings: Mapping[str, Any]
    """Copied into the table: ``num_samples``, the k of all metrics; ``temperature``, ``verifier`` and the like."""
    answers: Mapping[str, pa.Table]
    """Model -> table in ``ANSWER_SCHEMA``; the first model is the base."""
    same: Same | None = None
    """Which answers vote together, where that is not what ``score_table`` is told for all benchmarks."""


def score_table(
    benchmarks: Sequence[BenchmarkAnswers], config: IntervalConfig, *, seed: int, same: Same | None = None
) -> dict[str, Any]:
    """``{"level", "models", "benchmarks"}``, ready for JSON and equal for equal inputs.

    Every model is compared with the first one, and from the third on also with the one before it. Numbers are rounded
    to 6 digits; what no judged sample supports is None. ``same`` decides which answers vote together (default: by the
    exact part of the math verifier, see ``evals.equivalence``).
    """
    same = same or same_answers()
    models = list(dict.fromkeys(model for benchmark in benchmarks for model in benchmark.answers))
    return {
        "level": config.level,
        "models": models,
        "benchmarks": [_benchmark(benchmark, config, seed, benchmark.same or same) for benchmark in benchmarks],
    }


def _benchmark(benchmark: BenchmarkAnswers, config: IntervalConfig, seed: int, same: Same) -> dict[str, Any]:
    judged = {model: judged_samples(table) for model, table in benchmark.answers.items()}
    k = int(benchmark.settings["num_samples"])
    return {
        "name": benchmark.name,
        "role": benchmark.role,
        "num_questions": len({question for questions in judged.values() for question in questions}),
        **benchmark.settings,
        "models": {
            model: _model(benchmark.answers[model], questions.values(), k, config, seed, same)
            for model, questions in judged.items()
        },
        **_comparisons(judged, config, seed),
    }


def _model(
    answers: pa.Table, judged: Iterable[Sequence[Judged]], k: int, config: IntervalConfig, seed: int, same: Same
) -> dict[str, Any]:
    """Metrics of one model. Shares are of its judged samples, tokens of all its completed ones."""
    questions = list(judged)
    correct = [[j.correct for j in samples] for samples in questions]
    answered = [[j.answer for j in samples] for samples in questions]
    scores = {
        "avg_at_k": accuracy_by_question(correct),
        "pass_at_k": pass_at_k_by_question(correct, k),
        "maj_at_k": majority_by_question(correct, answered, same),
    }
    samples = [j for question in questions for j in question]
    row: dict[str, Any] = {name: mean_interval(v, config, seed=seed).as_dict() for name, v in scores.items()}
    row["truncated"] = _mean([j.truncated for j in samples])
    row["no_answer"] = _mean([j.answer is None and not j.truncated for j in samples])
    row["judged"] = len(samples)
    return row | _counts(answers, len(samples))


def _counts(answers: pa.Table, num_judged: int) -> dict[str, Any]:
    finish_reasons, outcomes = answers["finish_reason"].to_pylist(), answers["outcome"].to_pylist()
    unverifiable = sum(o == "unverifiable" and f != "error" for o, f in zip(outcomes, finish_reasons, strict=True))
    tokens = [
        count or 0 for count, f in zip(answers["num_tokens"].to_pylist(), finish_reasons, strict=True) if f != "error"
    ]
    return {
        "unverifiable": unverifiable,
        "error": answers.num_rows - num_judged - unverifiable,
        "mean_tokens": _mean(tokens),
    }


def _mean(values: Sequence[float]) -> float | None:
    return rounded(float(np.mean(values)) if len(values) else math.nan)


def _comparisons(
    judged: Mapping[str, Mapping[str, Sequence[Judged]]], config: IntervalConfig, seed: int
) -> dict[str, Any]:
    """Paired differences, and the smallest gain over the base that the least precise comparison would find."""
    correct = {model: {q: [j.correct for j in s] for q, s in questions.items()} for model, questions in judged.items()}
    models = list(correct)
    rows, gains = [], []
    for index, model in enumerate(models[1:], start=1):
        for against in dict.fromkeys((models[0], models[index - 1])):
            differences = paired_differences(correct[model], correct[against])
            difference = difference_interval(differences, config, seed=seed)
            rows.append({"model": model, "against": against, **difference.as_dict()})
            if against == models[0]:
                gains.append(minimum_detectable_gain(differences, config.level))
    known = [gain for gain in gains if not math.isnan(gain)]
    return {"differences": rows, "minimum_detectable_gain": rounded(max(known, default=math.nan))}
