"""How right and how fast the code verifier is, on public problems, solutions and graders' test suites.

    python -m benchmarks.code_verdicts --data DIR [--only cases,false_negatives,graded,references,speed]

``DIR`` holds ``04_code`` and ``08_code_checker``. Every disagreement is printed as one JSON line; docs/code_verdicts.md
explains them. ``speed`` runs the same rows through the verifier and through one fresh interpreter per solution without
a sandbox, which runs all of the solution's tests in its own process, as LiveCodeBench's grader does.
"""

from __future__ import annotations

import argparse
import ast
import base64
import gzip
import io
import json
import pickle
import statistics
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from verifiers import Outcome, Verdict, VerifyTask
from verifiers.code import CodeVerifier
from verifiers.config import CodeConfig

DATA = Path(__file__).parents[2] / "shared" / "data"
"""Public benchmark data; not part of the repository."""

_SECTIONS = ("cases", "false_negatives", "graded", "references", "speed")
_SPEED_ROWS = 200
_SPEED_ROUNDS = 3
_SCRIPT_OUTPUTS = {"test_python_print": "123", "PY_CODE_0": "hello", "test_timeout_error": "done"}
_REASON_OF = {
    "pass": ("passed",),
    "wrong_answer": ("wrong_output",),
    "runtime_error": ("runtime_error", "syntax_error", "memory_limit"),
    "timeout": ("time_limit",),
    "no_code": ("no_code",),
}


class Row(NamedTuple):
    """One program with tests and the label that it comes with."""

    id: str
    code: str | None
    gold: dict[str, Any]
    right: bool
    label: str = ""
    time_limit_s: float = 6.0
    note: str = ""


def read(path: Path) -> list[dict[str, Any]]:
    """JSON lines, gzipped or not."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return [json.loads(line) for line in file]


def task(row: Row) -> VerifyTask:
    """The row as a response with one fenced block."""
    response = "I do not know." if row.code is None else f"```python\n{row.code}\n```"
    return VerifyTask(row.id, response, json.dumps(row.gold))


class Bench:
    """Verifiers by time limit, and what they said."""

    def __init__(self) -> None:
        self._verifiers: dict[float, CodeVerifier] = {}

    def verdict(self, row: Row) -> Verdict:
        """Of one row."""
        if row.time_limit_s not in self._verifiers:
            self._verifiers[row.time_limit_s] = CodeVerifier(CodeConfig(time_limit_s=row.time_limit_s))
        return self._verifiers[row.time_limit_s].verify(task(row))

    def agreement(self, name: str, rows: Iterable[Row]) -> None:
        """Print the counts of a data set and each disagreement."""
        counts: Counter[str] = Counter()
        for row in rows:
            verdict = self.verdict(row)
            agrees = verdict.outcome is (Outcome.CORRECT if row.right else Outcome.INCORRECT)
            counts["agree" if agrees else "disagree"] += 1
            counts[f"label {'right' if row.right else 'wrong'}"] += 1
            counts[f"verdict {verdict.outcome.value}"] += 1
            if not agrees:
                kind = "false_accept" if verdict.outcome is Outcome.CORRECT else "false_reject"
                kind = kind if verdict.outcome in (Outcome.CORRECT, Outcome.INCORRECT) else verdict.outcome.value
                about = {"disagreement": name, "id": row.id, "kind": kind, "label": row.label, "reason": verdict.reason}
                print(json.dumps({**about, "note": row.note, "detail": (verdict.detail or "")[:400]}), flush=True)
            elif row.label in _REASON_OF and verdict.reason not in _REASON_OF[row.label]:
                about = {"other_reason": name, "id": row.id, "label": row.label, "reason": verdict.reason}
                print(json.dumps({**about, "note": row.note}), flush=True)
        print(json.dumps({"section": name, **counts}), flush=True)

    def close(self) -> None:
        """End the sandboxes."""
        for verifier in self._verifiers.values():
            verifier.close()


class _PlainUnpickler(pickle.Unpickler):
    """LiveCodeBench packs its tests with pickle; a table of texts needs no class."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name}")


def case_rows(data: Path) -> Iterator[Row]:
    """The test suites of other graders; a list of asserts with a label each becomes a row each."""
    for number, case in enumerate(read(data / "08_code_checker" / "code_checker_cases.jsonl")):
        name, limit = f"{number}:{case['test']}", float(case.get("timeout") or 6.0)
        note = f"{case['source'].split(':')[0]}; {case['note']}"
        tests, code, expected = case["tests"], case["program"], case["expected"]
        label = expected if isinstance(expected, str) else ""
        if case["mode"] == "asserts" and "assert" in tests[0]:
            for i, test in enumerate(tests):
                yield Row(f"{name}[{i}]", code, {"test_code": test["assert"]}, test["expected"], "", limit, note)
            continue
        if case["mode"] == "asserts":
            gold: dict[str, Any] = {"test_code": tests[0]["check"]}
        elif case["mode"] == "lcb-row":
            packed = zlib.decompress(base64.b64decode(tests[0]["raw_row"]))
            gold = _PlainUnpickler(io.BytesIO(packed)).load()
        elif case["mode"] == "script" and case["test"].startswith("PY_CODE_") and label == "fail":
            gold = {"test_list": ["assert answer() == 42"]}
        elif case["mode"] == "script":
            gold = {"inputs": [""], "outputs": [_SCRIPT_OUTPUTS.get(case["test"], "")]}
        else:
            columns = {"inputs": [t["input"] for t in tests], "outputs": [t["output"] for t in tests]}
            gold = {**columns, "fn_name": case["func_name"]}
        yield Row(name, code, gold, label == "pass", label, limit, note)


def false_negative_rows(data: Path) -> Iterator[Row]:
    """Programs that LiveCodeBench's grader rejects; the label is what real subprocesses said of all tests."""
    for number, case in enumerate(read(data / "08_code_checker" / "lcb_grader_false_negatives.jsonl")):
        columns = {"inputs": [t["input"] for t in case["tests"]], "outputs": [t["output"] for t in case["tests"]]}
        right = all(verdict == "AC" for verdict in case["subprocess_verdicts"])
        gold = {**columns, "fn_name": case["func_name"]}
        yield Row(f"{number}:{case['question_id']}", case["program"], gold, right, "", 6.0, case["cause"])


def graded_rows(data: Path) -> Iterator[Row]:
    """Graded programs: right ones on the statement's examples, wrong ones on the test that the grader logged."""
    problems = {p["question_id"]: p for p in read(data / "04_code" / "lcb_problems_public_tests.jsonl.gz")}
    for case in read(data / "08_code_checker" / "lcb_graded_solutions.jsonl.gz"):
        problem = problems[case["question_id"]]
        if case["passed"]:
            tests = [(t["input"], t["output"]) for t in problem["public_tests"] if t.get("ref_check") == "AC"]
        elif case["failing_input"] is None or "(truncated)" in f"{case['failing_input']}{case['failing_expected']}":
            continue
        elif problem.get("func_name"):  # logged as Python's repr of the list of arguments and of the value
            wanted = json.dumps(_value(case["failing_expected"]))
            tests = [(_value(case["failing_input"]), wanted)]
        else:
            tests = [(case["failing_input"], case["failing_expected"])]
        if tests:
            columns = {"inputs": [t[0] for t in tests], "outputs": [t[1] for t in tests]}
            gold = {**columns, "fn_name": problem.get("func_name")}
            name, note = f"{case['question_id']}/{case['model']}", str(case["error_message"])
            yield Row(name, case["code"], gold, case["passed"], "", 6.0, note)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text.replace("inf", "1e999"))
    except (ValueError, SyntaxError):
        return text


def reference_rows(data: Path) -> Iterator[Row]:
    """HumanEval and MBPP with their own solutions."""
    for case in read(data / "04_code" / "HumanEval.jsonl.gz"):
        gold = {key: case[key] for key in ("test", "entry_point", "prompt")}
        yield Row(case["task_id"], case["prompt"] + case["canonical_solution"], gold, True)
    for case in read(data / "04_code" / "mbpp_974.jsonl"):
        gold = {key: case[key] for key in ("test_list", "test_setup_code")}
        yield Row(f"MBPP/{case['task_id']}", case["code"], gold, True)


_BREAK = """

def _broken(function):
    def other(*args, **kwargs):
        value = function(*args, **kwargs)
        if isinstance(value, bool):
            return not value
        if isinstance(value, (int, float, complex)):
            return value + 1
        if isinstance(value, str):
            return value + "?"
        if isinstance(value, list):
            return value + [None]
        if isinstance(value, tuple):
            return value + (None,)
        if isinstance(value, (set, frozenset)):
            return value | {"?"}
        if isinstance(value, dict):
            return {**value, "?": None}
        return 0 if value is None else None
    return other

"""


def mutated(row: Row) -> Row:
    """The reference with a last change: what its function returns is a little off."""
    entry = row.gold.get("entry_point") or _called(row.gold["test_list"][0], row.code or "")
    code = f"{row.code}{_BREAK}{entry} = _broken({entry})\n"
    return Row(f"{row.id}/broken", code, row.gold, False)


def _called(test: str, code: str) -> str:
    """The name that an assert calls and the solution defines."""
    defined = {n.name for n in ast.walk(ast.parse(code)) if isinstance(n, ast.FunctionDef)}
    called = [n.func.id for n in ast.walk(ast.parse(test)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    return next(name for name in called if name in defined)


_BASELINE = """
import io, json, sys
{stars}
sys.setrecursionlimit(50000)
row = json.load(sys.stdin)
code, gold = compile(row["code"], "<solution>", "exec"), row["gold"]
preamble = dict(globals())
def run():
    if "inputs" not in gold:
        scope = dict(preamble)
        exec(code, scope)
        for test in gold.get("test_list") or [gold["test"] + "\\ncheck(" + gold["entry_point"] + ")"]:
            exec(gold.get("test_setup_code", "") + "\\n" + test, scope)
        return True
    for given, wanted in zip(gold["inputs"], gold["outputs"]):
        scope = dict(preamble, __name__="__main__")
        if gold["fn_name"]:
            exec(code, scope)
            owner = scope["Solution"]() if "Solution" in scope else None
            function = getattr(owner, gold["fn_name"]) if owner else scope[gold["fn_name"]]
            got = function(*map(json.loads, given.split("\\n")))
            if got != json.loads(wanted): return False
        else:
            sys.stdin, sys.stdout = io.TextIOWrapper(io.BytesIO(given.encode())), io.StringIO()
            try: exec(code, scope)
            except SystemExit: pass
            got, sys.stdout = sys.stdout.getvalue(), sys.__stdout__
            if got.split() != wanted.split(): return False
    return True
try: right = run()
except BaseException: right = False
sys.__stdout__.write(str(right))
"""
_STARS = """string re datetime collections heapq bisect copy math random statistics itertools functools operator json
typing builtins"""


def baseline(row: Row, with_preamble: bool) -> bool:
    """One fresh interpreter for the solution and all its tests, no sandbox."""
    stars = "\n".join(f"from {name} import *" for name in _STARS.split()) if with_preamble else ""
    program = _BASELINE.replace("{stars}", stars + "\nimport io, json, sys")
    text = json.dumps({"code": row.code, "gold": row.gold})
    done = subprocess.run([sys.executable, "-c", program], input=text, capture_output=True, text=True, check=False)
    return done.stdout.endswith("True")


def speed(data: Path) -> None:
    """Solutions per second, the two in turns on the same rows, by kind of tests."""
    every = {
        "humaneval": [row for row in reference_rows(data) if row.id.startswith("HumanEval")],
        "mbpp": [row for row in reference_rows(data) if row.id.startswith("MBPP")],
        "livecodebench": [row for row in graded_rows(data) if row.right],
    }
    verifier = CodeVerifier(CodeConfig())
    for name, rows in every.items():
        rows = rows[:: max(1, len(rows) // _SPEED_ROWS)][:_SPEED_ROWS]
        verifier.verify(task(rows[0]))
        ours, theirs, agree = [], [], 0
        for _ in range(_SPEED_ROUNDS):
            start = time.perf_counter()
            said = [verifier.verify(task(row)).outcome is Outcome.CORRECT for row in rows]
            ours.append(len(rows) / (time.perf_counter() - start))
            start = time.perf_counter()
            plain = [baseline(row, with_preamble=name == "livecodebench") for row in rows]
            theirs.append(len(rows) / (time.perf_counter() - start))
            agree = sum(a == b for a, b in zip(said, plain))
        ratio = statistics.median(a / b for a, b in zip(ours, theirs))
        figures = {"solutions_per_s": round(statistics.median(ours), 1), "fresh": round(statistics.median(theirs), 1)}
        print(
            json.dumps(
                {"section": f"speed {name}", "rows": len(rows), **figures, "ratio": round(ratio, 2), "same": agree}
            )
        )
    verifier.close()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="its folder (default: %(default)s)")
    parser.add_argument("--only", default=",".join(_SECTIONS), help="sections, with commas between them")
    options = parser.parse_args()
    wanted = options.only.split(",")
    bench = Bench()
    if "cases" in wanted:
        bench.agreement("cases", case_rows(options.data))
    if "false_negatives" in wanted:
        bench.agreement("false_negatives", false_negative_rows(options.data))
    if "references" in wanted:
        bench.agreement("references", reference_rows(options.data))
        bench.agreement("broken references", map(mutated, reference_rows(options.data)))
    if "graded" in wanted:
        bench.agreement("graded", graded_rows(options.data))
    bench.close()
    if "speed" in wanted:
        speed(options.data)


if __name__ == "__main__":
    main()
