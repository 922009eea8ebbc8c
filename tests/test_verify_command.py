"""``factory verify``: verdicts on the rows of a file, whatever state rows, disk and processes are in."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flow import LONG_S, call_factory, kill_group, make_read_only, small_disk, started, wait_for

from factory.verdict_file import VerdictFile
from factory.verifying import _call
from verifiers import MathConfig

GOOD = {"id": "good", "response": r"so \boxed{\frac{1}{2}}", "gold": "0.5"}
WRONG = {"id": "wrong", "response": r"\boxed{7}", "gold": 8}
COUNTED = """
import os, time
from verifiers import Outcome, TextVerifier, Verdict, VerifyTask

class Check(TextVerifier):
    name, version, REASONS = "counted", 3, ("equal", "other")

    def verify(self, task: VerifyTask) -> Verdict:
        time.sleep(0.02)
        with open({log!r}, "a") as log:
            log.write(task.id + "\\n")
        equal = task.response == task.gold
        return Verdict(Outcome.CORRECT if equal else Outcome.INCORRECT, "equal" if equal else "other")
"""


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_verdicts(path: Path) -> list[dict[str, Any]]:
    """Without what differs from run to run."""
    rows = pq.read_table(path).to_pylist() if path.suffix == ".parquet" else map(json.loads, path.open())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_every_row_gets_a_verdict_in_its_place_and_a_bad_row_says_its_line(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    lines = [
        json.dumps(GOOD),
        "{not json",
        json.dumps({"id": "no response", "gold": "1"}),
        json.dumps({"id": "no gold", "response": "1"}),
        json.dumps(WRONG),
        '{"id": "surrogate", "response": "\\\\boxed{1} \\ud800", "gold": "1"}',
        "[1]",
        json.dumps({"response": "no id <think>", "gold": "1"}),
    ]
    source.write_text("\n".join(lines) + "\n")
    ended = call_factory("verify", source, "--kind", "math", "--out", tmp_path / "out.jsonl")
    assert ended.code == 0, ended.err
    rows = read_verdicts(tmp_path / "out.jsonl")
    assert [(r["id"], r["row"], r["outcome"], r["reason"]) for r in rows] == [
        ("good", 1, "correct", "exact"),
        ("2", 2, "error", "bad_row"),
        ("no response", 3, "error", "bad_row"),
        ("no gold", 4, "error", "bad_row"),
        ("wrong", 5, "incorrect", "mismatch"),
        ("surrogate", 6, "correct", "exact"),
        ("7", 7, "error", "bad_row"),
        ("8", 8, "incorrect", "truncated"),
    ]
    assert "line 2: not JSON" in rows[1]["detail"] and "`gold`" in rows[3]["detail"]
    assert "8 rows" in ended.out and "bad_row 4" in ended.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_parquet_and_gzip_give_the_verdicts_of_plain_lines(tmp_path: Path) -> None:
    rows = [{**GOOD, "gold": "1/2"}, {**WRONG, "gold": "8"}] * 3
    plain = write_rows(tmp_path / "a.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    for source, out in ((plain, "a.parquet"), (tmp_path / "b.parquet", "b.out.parquet"), ("c.jsonl.gz", "c.out.jsonl")):
        assert call_factory("verify", tmp_path / source, "--out", tmp_path / out, "--workers", 1).code == 0
    expected = read_verdicts(tmp_path / "a.parquet")
    assert len(expected) == 6
    assert read_verdicts(tmp_path / "b.out.parquet") == read_verdicts(tmp_path / "c.out.jsonl") == expected


def test_a_killed_call_goes_on_where_it_was_and_asks_no_row_twice(tmp_path: Path) -> None:
    log = tmp_path / "asked.log"
    (tmp_path / "check.py").write_text(COUNTED.format(log=str(log)))
    rows = [{"id": f"r{n}", "response": str(n), "gold": str(n - n % 3)} for n in range(300)]
    source, out = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    call = ("verify", source, "--kind", f"{tmp_path}/check.py:Check", "--out", out, "--workers", "2")
    partial = tmp_path / "out.jsonl.partial"
    with started(*call, cwd=tmp_path, log=tmp_path / "log") as process:
        wait_for(lambda: partial.is_file() and partial.read_bytes().count(b"\n") >= 40, process, "40 verdicts")
        kill_group(process)
    kept = partial.read_bytes().count(b"\n")
    with open(partial, "a") as handle:
        handle.write('{"id": "r4')  # a line that was cut in the middle
    assert not out.exists()
    ended = call_factory(*call)
    assert ended.code == 0 and f"300 rows ({kept} of them were there)" in ended.out
    verdicts = read_verdicts(out)
    assert [v["id"] for v in verdicts] == [row["id"] for row in rows]
    assert {v["verifier"] for v in verdicts} == {"counted@3"}
    assert [v["outcome"] == "correct" for v in verdicts] == [n % 3 == 0 for n in range(300)]
    asked = log.read_text().split()
    assert len(asked) <= 300 + 2 * 32 * 2, "only what was in flight may be asked again"
    assert not partial.exists()


def test_other_settings_begin_anew(tmp_path: Path) -> None:
    source, out = write_rows(tmp_path / "in.jsonl", [GOOD, WRONG]), tmp_path / "out.jsonl"
    (tmp_path / "out.jsonl.partial").write_text('{"id": "of another call", "outcome": "correct", "reason": "exact"}\n')
    (tmp_path / "out.jsonl.partial.json").write_text('{"input": "another"}')
    assert call_factory("verify", source, "--out", out).code == 0
    assert [row["id"] for row in read_verdicts(out)] == ["good", "wrong"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--kind", "mth"), "'mth'.*'math'"),
        (("--set", "foo=1"), "foo: Extra inputs"),
        (("--set", "foo"), "expected NAME=VALUE"),
        (("--set", "time_limit_s=["), "not YAML"),
        (("--time-limit", "-1"), "time_limit_s: .*greater than 0"),
        (("--kind", "./nowhere.py:Check"), "no verifier file .*nowhere.py"),
        (("--kind", "json:loads"), "no class with a method `verify"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    import re

    source = write_rows(tmp_path / "in.jsonl", [GOOD])
    ended = call_factory("verify", source, "--out", tmp_path / "out.jsonl", *arguments)
    assert ended.code == 1 and re.search(said, ended.err), ended.err
    assert "Traceback" not in ended.err and not (tmp_path / "out.jsonl").exists()


def test_places_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", [GOOD])
    for out, said in ((source, "is the input"), (tmp_path / "out.txt", "unknown ending"), (tmp_path / "x.jsonl", "")):
        ended = call_factory("verify", source if said else tmp_path / "gone.jsonl", "--out", out)
        assert ended.code == 1 and (said or "there is no file") in ended.err
    (tmp_path / "empty.jsonl").write_text("")
    assert "is empty" in call_factory("verify", tmp_path / "empty.jsonl", "--out", tmp_path / "y.jsonl").err
    assert source.read_text() == json.dumps(GOOD) + "\n"


def test_a_full_or_read_only_disk_is_said_and_keeps_what_was_written(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", [{**GOOD, "id": "x" * 200} for _ in range(3000)])
    with small_disk(tmp_path / "disk", "64k") as disk:
        ended = call_factory("verify", source, "--out", disk / "out.jsonl", "--workers", 1)
        assert ended.code == 1 and "No space left" in ended.err and "run the same command again" in ended.err
        kept = (disk / "out.jsonl.partial").read_bytes()
        assert kept.count(b"\n") > 10
        make_read_only(disk)
        assert "Read-only file system" in call_factory("verify", source, "--out", disk / "out.jsonl").err
    # The disk is unmounted: nothing of it is left to look at.


def test_two_calls_at_once_into_one_file_do_not_mix(tmp_path: Path) -> None:
    log = tmp_path / "asked.log"
    (tmp_path / "check.py").write_text(COUNTED.format(log=str(log)))
    rows = [{"id": f"r{n}", "response": "1", "gold": "1"} for n in range(200)]
    source, out = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    call = ("verify", source, "--kind", f"{tmp_path}/check.py:Check", "--out", out, "--workers", "1")
    with started(*call, cwd=tmp_path, log=tmp_path / "log") as process:
        partial = tmp_path / "out.jsonl.partial"
        wait_for(lambda: partial.is_file() and partial.stat().st_size > 0, process, "a verdict")
        second = call_factory(*call)
        assert second.code == 1 and "another call is writing it" in second.err
        assert process.wait(LONG_S) == 0
    assert [v["id"] for v in read_verdicts(out)] == [row["id"] for row in rows]


def test_a_spoilt_line_is_verified_again_and_more_workers_change_nothing(tmp_path: Path) -> None:
    rows = [{"id": n, "response": str(n), "gold": "3"} for n in range(6)]
    source, out = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    call = ("verify", source, "--out", out)
    assert call_factory(*call).code == 0
    good, partial = out.read_text().splitlines(keepends=True), tmp_path / "out.jsonl.partial"
    with VerdictFile(out, _call(source, MathConfig(), None)) as verdicts:
        assert verdicts.num_rows == 0
    partial.write_text("".join(good[:2]) + "{spoilt}\n" + good[3])
    ended = call_factory(*call, "--workers", 1)
    assert ended.code == 0 and "6 rows (2 of them were there)" in ended.out, ended.err
    assert [row["id"] for row in read_verdicts(out)] == [str(n) for n in range(6)]


def test_neither_the_input_nor_a_file_beside_it_is_overwritten(tmp_path: Path) -> None:
    for name in ("x.jsonl", "x.jsonl.partial", "x.jsonl.partial.json"):
        source = write_rows(tmp_path / name, [GOOD])
        ended = call_factory("verify", source, "--out", tmp_path / "x.jsonl")
        assert ended.code == 1 and "is the input" in ended.err, name
        assert source.read_text() == json.dumps(GOOD) + "\n"
        source.unlink()


def test_what_a_program_says_in_surrogates_is_written(tmp_path: Path) -> None:
    program = "def f(x):\n    raise ValueError('\\ud800')"
    tests = {"inputs": ["1"], "outputs": ["2"], "fn_name": "f"}
    rows = [{"id": n, "response": f"```python\n{program}\n```", "tests": tests} for n in range(2)]
    source, out = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    assert call_factory("verify", source, "--kind", "code", "--out", out, "--workers", 1).code == 0
    assert [row["reason"] for row in read_verdicts(out)] == ["runtime_error"] * 2


def test_columns_beside_the_tests_belong_to_them(tmp_path: Path) -> None:
    test_code = "def check(candidate):\n    assert twice(candidate(2)) == 8\n"
    row = {
        "id": "forged helper",
        "response": "```python\ndef f(x):\n    return 0\ndef twice(x):\n    return 8\n```",
        "tests": json.dumps({"test": test_code}),
        "entry_point": "f",
        "prompt": "def twice(x):\n    return 2 * x\n\ndef f(x):\n    pass\n",
    }
    source, out = write_rows(tmp_path / "in.jsonl", [row]), tmp_path / "out.jsonl"
    assert call_factory("verify", source, "--kind", "code", "--out", out, "--workers", 1).code == 0
    assert read_verdicts(out)[0]["outcome"] == "incorrect"


def test_a_plugin_that_raises_or_answers_nonsense_is_an_error_of_that_row(tmp_path: Path) -> None:
    (tmp_path / "check.py").write_text(
        "from pydantic import BaseModel\n"
        "from verifiers import Outcome, TextVerifier, Verdict\n"
        "class Check(TextVerifier):\n"
        "    name, version, REASONS = 'mine', 1, ('fine',)\n"
        "    class Config(BaseModel):\n"
        "        word: str\n"
        "    def __init__(self, config):\n"
        "        super().__init__()\n"
        "        self.word = config.word\n"
        "    def verify(self, task):\n"
        "        if task.response == 'raise':\n"
        "            raise RuntimeError('no')\n"
        "        if task.response == 'nonsense':\n"
        "            return True\n"
        "        outcome = Outcome.CORRECT if self.word in task.response else Outcome.INCORRECT\n"
        "        return Verdict(outcome, 'fine' if task.response != 'unlisted' else 'never heard of')\n"
    )
    responses = ["raise", "nonsense", "unlisted", "has blue", "has red"]
    source = write_rows(tmp_path / "in.jsonl", [{"response": r, "gold": "g"} for r in responses])
    call = ("verify", source, "--kind", f"{tmp_path}/check.py:Check", "--out", tmp_path / "out.jsonl")
    assert "verify.options" in call_factory(*call).err  # `word` is missing
    assert call_factory(*call, "--set", "options={word: blue}").code == 0
    found = [(row["outcome"], row["reason"]) for row in read_verdicts(tmp_path / "out.jsonl")]
    assert found == [("error", "checker_failed")] * 3 + [("correct", "fine"), ("incorrect", "fine")]
