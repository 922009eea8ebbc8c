r"""Errors and speed of the maths verifier against math-verify alone, on the same rows, on the same cores, in one run.

    python -m benchmarks.math_verdicts --data DIR [--rows N] [--workers N] [--rounds N] [--show]

``DIR`` holds ``07_math_equiv`` and ``05_model_outputs``. What each side is given:

* a labelled pair of two answers: we get the reference and ``\boxed{prediction}``; math-verify gets both as its README
  asks for them, bare LaTeX between dollar signs;
* a labelled pair with a text as prediction, and a whole response: both get the text as it is.

An error of the checker (time-out, exception, gold that does not parse) counts as "not accepted" for both.

Speed: both sides have ``--workers`` processes, and both are bound to that many cores. math-verify is called in a loop
in each of its processes, on rows dealt out one by one; imports are done before the clock starts. Our processes are
those of a ``VerifierPool``, started before the clock starts; what needs none is settled in the calling process, on
the same cores. The two take turns, ``--rounds`` times; the ratio is that of the median times. (Our caches of parsed
texts are warm after the first round; math-verify has none. ``first_ratio`` is that of the first round.)
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import multiprocessing
import os
import re
import statistics
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from verifiers import MathConfig, Outcome, Verdict, VerifierPool, VerifyTask

DATA = Path(__file__).parents[2] / "shared" / "data"
"""Public benchmark data; not part of the repository."""

GSM8K_MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
GRADED = ("sky_*.jsonl.gz", "prime_*.jsonl.gz", "qwen25math_*.jsonl.gz")
_IS_MARKED = re.compile(r"\$|\\boxed|\\\(|\\\[")
_IS_LATEX = re.compile(r"\\[A-Za-z{|]|[\^_]|[A-Za-z]\s*=|^[([{].*[)\]}]$")
_HAS_PROSE = re.compile(r"(?<![\\{A-Za-z])[A-Za-z]{3,}\s+[a-z]{2,}\s+[a-z]{2,}")


_JUDGEMENT = re.compile(r"Equivalence Judgement\s*\**\s*(TRUE|FALSE)")


class Row(NamedTuple):
    """One row as both sides get it."""

    group: str
    gold: str
    response: str
    """For us."""
    latex_gold: str
    """For math-verify."""
    latex_response: str
    """For math-verify."""
    label: bool | None


class Errors(NamedTuple):
    """Errors of one side on the rows of one group."""

    false_accepts: int
    false_rejects: int

    @property
    def total(self) -> int:
        """Both kinds."""
        return sum(self)


def in_dollars(text: str) -> str:
    """Bare LaTeX between dollar signs, as math-verify's README asks for; prose and plain numbers as they are."""
    if _IS_MARKED.search(text) or not _IS_LATEX.search(text) or _HAS_PROSE.search(text):
        return text
    return f"${text}$"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def labelled_pairs(folder: Path) -> Iterator[Row]:
    """The pairs whose equality is labelled, disputed labels as a group of their own."""
    for row in _lines(folder / "math_equivalence_cases.jsonl"):
        group = "disputed" if row["controversial"] else "undisputed"
        gold, prediction = row["gold"], row["prediction"]
        response = f"\\boxed{{{prediction}}}" if row["kind"] == "answer" else prediction
        yield Row(group, gold, response, in_dollars(gold), in_dollars(prediction), bool(row["expected"]))
    for row in _lines(folder / "real_pairs_adjudicated.jsonl"):
        if row["truth"] is not None:
            gold, prediction = row["gold"], row["prediction"]
            response = f"\\boxed{{{prediction}}}"
            yield Row("adjudicated", gold, response, in_dollars(gold), in_dollars(prediction), bool(row["truth"]))


def gsm8k_outputs(folder: Path) -> Iterator[Row]:
    """Responses of four models, labelled by the benchmark's authors."""
    for row in _lines(folder / "gsm8k_example_model_solutions.jsonl.gz"):
        gold = row["ground_truth"].rsplit("A:", 1)[1].strip()
        for model in GSM8K_MODELS:
            text = row[model]["solution"]
            yield Row("gsm8k_outputs", gold, text, in_dollars(gold), text, bool(row[model]["is_correct"]))


def graded_outputs(folder: Path) -> Iterator[Row]:
    """Whole responses to competition problems with the stored verdict of another grader, which is often wrong."""
    for path in sorted(p for pattern in GRADED for p in folder.glob(pattern)):
        for row in _lines(path):
            gold = str(row.get("answer") or row["gt"])
            for text, score in zip(row["code"], row["score"], strict=True):
                yield Row("other_grader", gold, text, in_dollars(gold), text, bool(score))


def judged_outputs(folder: Path) -> Iterator[Row]:
    """Whole responses to olympiad problems, judged by a language model that saw the reference."""
    for path in sorted(folder.glob("omni_math_gpt_eval_*.jsonl.gz")):
        for row in _lines(path):
            told = _JUDGEMENT.search(row["gen"])
            problem = json.loads(row["original_json"])
            if told and "model_generation" in problem:
                gold, text = str(problem["answer"]), problem["model_generation"]
                yield Row("judged_outputs", gold, text, in_dollars(gold), text, told[1] == "TRUE")


def math_verify_accepts(row: Row) -> bool:
    """math-verify alone, as its README recommends."""
    from math_verify import parse, verify

    try:
        return bool(verify(parse(row.latex_gold), parse(row.latex_response)))
    except Exception:
        return False


def _serve_math_verify(connection: Connection) -> None:
    logging.disable(logging.CRITICAL)
    import math_verify  # noqa: F401 - before the clock starts

    math_verify_accepts(Row("", "$x^2$", "", "$x^2$", "$x\\cdot x$", None))
    connection.send(True)
    while (rows := connection.recv()) is not None:
        connection.send([math_verify_accepts(row) for row in rows])


class MathVerifyLoops:
    """math-verify in processes of its own: each calls it in a loop on its share of the rows."""

    def __init__(self, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes = []
        for _ in range(workers):
            ours, theirs = context.Pipe()
            context.Process(target=_serve_math_verify, args=(theirs,), daemon=True).start()
            self._pipes.append(ours)
        for pipe in self._pipes:
            pipe.recv()

    def accepts(self, rows: list[Row]) -> list[bool]:
        """The verdicts in the order of the rows."""
        step = len(self._pipes)
        for start, pipe in enumerate(self._pipes):
            pipe.send(rows[start::step])
        verdicts = [False] * len(rows)
        for start, pipe in enumerate(self._pipes):
            verdicts[start::step] = pipe.recv()
        return verdicts

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(None)


def our_verdicts(pool: VerifierPool, rows: list[Row]) -> list[Verdict]:
    """The verdicts in the order of the rows."""
    tasks = [VerifyTask(str(number), row.response, row.gold) for number, row in enumerate(rows)]
    return [verdict for _, verdict in pool.verify_all(tasks)]


def _start(pool: VerifierPool, workers: int) -> None:
    """Make every worker run once; these rows need one."""
    rows = [Row("", f"\\int_0^{n} x dx", f"\\boxed{{\\int_0^1 {n} y dy}}", "", "", None) for n in range(2 * workers)]
    our_verdicts(pool, rows)


def count_errors(rows: list[Row], accepted: list[bool]) -> Errors:
    """Errors against the labels."""
    return Errors(
        sum(got and not row.label for row, got in zip(rows, accepted, strict=True)),
        sum(bool(row.label) and not got for row, got in zip(rows, accepted, strict=True)),
    )


class Timing(NamedTuple):
    """Verdicts and times of both sides on one list of rows."""

    ours: list[Verdict]
    theirs: list[bool]
    our_seconds: list[float]
    their_seconds: list[float]


def measure(rows: list[Row], pool: VerifierPool, loops: MathVerifyLoops, rounds: int) -> Timing:
    """Both sides in turn."""
    ours: list[Verdict] = []
    theirs: list[bool] = []
    our_seconds, their_seconds = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        ours = our_verdicts(pool, rows)
        middle = time.perf_counter()
        theirs = loops.accepts(rows)
        our_seconds.append(middle - start)
        their_seconds.append(time.perf_counter() - middle)
    return Timing(ours, theirs, our_seconds, their_seconds)


def report_speed(rows: list[Row], timing: Timing) -> dict[str, Any]:
    """Verdicts per second of both sides."""
    ours, theirs = statistics.median(timing.our_seconds), statistics.median(timing.their_seconds)
    rules = [verdict.reason for verdict in timing.ours]
    return {
        "rows": len(rows),
        "ours_per_s": round(len(rows) / ours, 1),
        "math_verify_per_s": round(len(rows) / theirs, 1),
        "ratio": round(theirs / ours, 2),
        "first_ratio": round(timing.their_seconds[0] / timing.our_seconds[0], 2),
        "our_errors_of_the_checker": sum(v.outcome is Outcome.ERROR for v in timing.ours),
        "our_reasons": {reason: rules.count(reason) for reason in sorted(set(rules))},
    }


def settled_share(rows: list[Row]) -> float:
    """The share of rows that need no worker."""
    from verifiers.math import MathVerifier

    verifier = MathVerifier()
    tasks = (VerifyTask("", row.response, row.gold) for row in rows)
    return sum(verifier.settle(task) is not None for task in tasks) / max(len(rows), 1)


def report_errors(rows: list[Row], timing: Timing) -> dict[str, Any]:
    """Errors of both sides by group of rows."""
    found: dict[str, Any] = {}
    accepted = [v.outcome is Outcome.CORRECT for v in timing.ours]
    groups = list(dict.fromkeys(row.group for row in rows))
    for group in groups:
        chosen = [i for i, row in enumerate(rows) if row.group == group]
        part = [rows[i] for i in chosen]
        ours = count_errors(part, [accepted[i] for i in chosen])
        theirs = count_errors(part, [timing.theirs[i] for i in chosen])
        found[group] = {
            "rows": len(part),
            "labelled_equal": sum(bool(row.label) for row in part),
            "ours": ours._asdict(),
            "math_verify": theirs._asdict(),
            "ours_over_math_verify": round(ours.total / theirs.total, 3) if theirs.total else None,
        }
    return found


def show(rows: list[Row], timing: Timing) -> None:
    """Print our errors, one a line; the other grader's labels are too often wrong for that."""
    for row, verdict, theirs in zip(rows, timing.ours, timing.theirs, strict=True):
        accepted = verdict.outcome is Outcome.CORRECT
        if row.group != "other_grader" and accepted != row.label:
            kind = "ACCEPT" if accepted else "REJECT"
            shown = row.response if len(row.response) < 300 else "…" + row.response[-120:]
            print(f"{row.group} {kind} math-verify={theirs} {verdict.reason} gold={row.gold!r} {shown!r}"
                  f" -> {verdict.extracted!r}", file=sys.stderr)  # fmt: skip


def print_table(errors: dict[str, Any], speed: dict[str, Any]) -> None:
    """The figures for people."""
    print(f"\n{'rows':<28}{'n':>6}  {'false accepts':>20}  {'false rejects':>20}  ratio")
    for group, row in errors.items():
        ours, theirs = row["ours"], row["math_verify"]
        cells = [f"{ours[k]} / {theirs[k]}" for k in ("false_accepts", "false_rejects")]
        print(f"{group:<28}{row['rows']:>6}  {cells[0]:>20}  {cells[1]:>20}  {row['ours_over_math_verify']}")
    print(f"\n{'verdicts per second':<28}{'n':>6}  {'ours':>12}{'math-verify':>14}{'ratio':>8}{'settled':>10}")
    for name, row in speed.items():
        print(f"{name:<28}{row['rows']:>6}  {row['ours_per_s']:>12}{row['math_verify_per_s']:>14}{row['ratio']:>8}"
              f"{row['settled_without_worker']:>10.1%}")  # fmt: skip


def _spread(rows: list[Row], number: int | None) -> list[Row]:
    """``number`` rows, evenly spread."""
    if number is None or number >= len(rows):
        return rows
    return [rows[i * len(rows) // number] for i in range(number)]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="its folder (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=None, help="at most so many model outputs of each kind")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--show", action="store_true", help="print our errors on the labelled rows")
    parser.add_argument("--out", type=Path, default=None, help="write the JSON here, too")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.workers])
    pairs = list(labelled_pairs(options.data / "07_math_equiv"))
    outputs = options.data / "05_model_outputs"
    responses = {
        "gsm8k_outputs": _spread(list(gsm8k_outputs(outputs)), options.rows),
        "judged_outputs": list(judged_outputs(outputs)),
        "competition_outputs": _spread(list(graded_outputs(outputs)), options.rows),
    }
    errors: dict[str, Any] = {}
    speed: dict[str, Any] = {}
    loops = MathVerifyLoops(options.workers)
    with VerifierPool(MathConfig(num_workers=options.workers)) as pool:
        _start(pool, options.workers)
        for name, rows in {"labelled_pairs": pairs, **responses}.items():
            timing = measure(rows, pool, loops, options.rounds)
            errors |= report_errors(rows, timing)
            speed[name] = report_speed(rows, timing) | {"settled_without_worker": round(settled_share(rows), 4)}
            if options.show:
                show(rows, timing)
    loops.close()
    result = {"workers": options.workers, "rounds": options.rounds, "errors": errors, "speed": speed}
    print(json.dumps(result, indent=1))
    print_table(errors, speed)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
