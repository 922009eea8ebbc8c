"""A server as teacher, from the smoke test to the scores: compared, paid for once, learned from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from flow import assert_chosen_by_the_rule, ledgers, manifest, run_dir, run_factory, stage_dir, tiny_recipe
from loopback_server import Call, LoopbackServer, Reply, chat_reply

from factory.report.data import RunFolder, costs


def solve(call: Call) -> Reply:
    """What a good teacher would write; every sample in its own words."""
    start, *steps = re.findall(r"[+-]?\d+", call.prompt)
    value, lines = int(start), []
    for step in steps:
        lines.append(f"{value}{step}={value + int(step)}")
        value += int(step)
    greeting = "" if call.body["seed"] % 2 else "0+0=0\n"
    text = f"<think>{greeting}{chr(10).join(lines)}</think>\\boxed{{{value}}}"
    return Reply(chat_reply(text, num_prompt_tokens=40, num_tokens=60))


def test_servers_as_teachers_are_compared_paid_for_once_and_learned_from(tmp_path: Path) -> None:
    prices = {"dear": (10.0, 40.0), "cheap": (1.0, 4.0)}
    with LoopbackServer(solve) as server:
        engines = [
            {
                "kind": "openai",
                "model": f"{name}-2026-01-01",
                "base_url": server.url,
                "price_per_1m_prompt_tokens": prompt,
                "price_per_1m_completion_tokens": completion,
            }
            for name, (prompt, completion) in prices.items()
        ]
        candidates = [{"name": name, "engine": engine} for name, engine in zip(prices, engines, strict=True)]
        recipe = tiny_recipe(
            tmp_path,
            problems={"story_share": 0},
            teachers={"candidates": candidates},
            train={"methods": ["sft"]},
        )
        done = run_factory("run", recipe, "--workspace", "ws", cwd=tmp_path)
        num_calls = len(server.calls)
    assert done.returncode == 0, done.stderr
    workspace = tmp_path / "ws"
    assert "targets" not in ledgers(workspace)
    table = json.loads((stage_dir(workspace, "teachers") / "teachers.json").read_text())
    for row in table["candidates"]:
        prompt, completion = prices[row["name"]]
        assert row["accepted"] == row["asked"] == 12
        assert row["money"] == pytest.approx(12 * (40 * prompt + 60 * completion) / 1e6)
        assert row["money_per_accepted"] == pytest.approx(row["money"] / 12)
    assert_chosen_by_the_rule(table)
    prompt, completion = prices[table["selected"]]
    rollouts = ledgers(workspace)["rollouts"]
    assert (rollouts["rows_in"], rollouts["kept"]) == (60, 60)
    spent = 60 * (40 * prompt + 60 * completion) / 1e6
    shown = {cost.stage: cost.money for cost in costs(RunFolder.open(run_dir(workspace)))}
    assert shown["rollouts"] == pytest.approx(spent)
    assert num_calls == 12 + 60  # the chosen one's traces of the smoke test are not asked again
    rows = [json.loads(line) for line in (run_dir(workspace) / "dataset" / "train.jsonl").read_text().splitlines()]
    address = server.url.removeprefix("http://").removesuffix("/v1")
    assert {row["model"] for row in rows} == {f"openai:{table['selected']}-2026-01-01@{address}"}
    assert manifest(workspace)["versions"]["openai"]
    again = run_factory("run", recipe, "--workspace", "ws", cwd=tmp_path)  # and no server any more
    assert "nothing to do" in again.stdout


def program(call: Call) -> Reply:
    """A teacher that writes programs: right ones for doubling, wrong ones for tripling, none for the rest."""
    if "double" in call.prompt:
        text = "<think>Twice.</think>```python\nprint(2 * int(input()))\n```"
    elif "triple" in call.prompt:
        text = "<think>Thrice.</think>```python\nprint(2 * int(input()))\n```"
    else:
        text = "<think>Hm.</think>I do not know."
    return Reply(chat_reply(text, num_prompt_tokens=9, num_tokens=20))


def programs(folder: Path, server: LoopbackServer, asked: dict[str, str], verify: dict[str, Any]) -> Path:
    """A recipe that asks for a program per verb; ``asked`` says what it has to print for 1. The benchmark is maths."""
    rows = [
        {"question": f"Read an integer and {verb} it.", "tests": {"inputs": ["1"], "outputs": [answer]}}
        for verb, answer in asked.items()
    ]
    (folder / "programs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine = {"kind": "openai", "model": "coder", "base_url": server.url}
    sums = {"name": "some", "problems": {"kind": "arithmetic", "num": 3}, "verifier": {"kind": "math"}}
    return tiny_recipe(
        folder,
        problems={"kind": "file", "path": "programs.jsonl", "gold_format": "json", "columns": {"gold": "tests"}},
        teachers={"select": "first", "candidates": [{"name": "coder", "engine": engine}]},
        verify=verify,
        train={"methods": ["sft"]},
        eval={"benchmarks": [sums]},
    )


def test_programs_of_a_teacher_are_judged_by_their_tests_in_the_sandbox(tmp_path: Path) -> None:
    with LoopbackServer(program) as server:
        asked = {"double": "2", "triple": "3", "halve": "0.5"}
        recipe = programs(tmp_path, server, asked, {"kind": "code", "time_limit_s": 5})
        done = run_factory("run", recipe, "--workspace", "ws", "--until", "rollouts", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    traces = pq.read_table(stage_dir(tmp_path / "ws", "rollouts") / "traces.parquet").to_pylist()
    found = {(row["prompt"].split()[4], row["outcome"], row["reason"]) for row in traces}
    assert found == {
        ("double", "correct", "passed"),
        ("triple", "incorrect", "wrong_output"),
        ("halve", "incorrect", "no_code"),
    }
    assert "WARNING" not in done.stderr


def test_a_run_without_isolation_says_so_loudly_and_keeps_it(tmp_path: Path) -> None:
    unconfined = {"kind": "any_of", "members": [{"kind": "code", "sandbox": "none"}]}
    with LoopbackServer(program) as server:
        recipe = programs(tmp_path, server, {"double": "2"}, unconfined)
        done = run_factory("run", recipe, "--workspace", "ws", "--until", "rollouts", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "WARNING: verify.sandbox: none" in done.stderr
    kept = [json.loads(line) for line in (run_dir(tmp_path / "ws") / "events.jsonl").read_text().splitlines()]
    assert any(event["event"] == "warning" and "sandbox: none" in event["text"] for event in kept)
