"""A language model as a run's verifier: stored and paid for once, stopped and gone on, named and counted."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from flow import call_factory, ledgers, run_dir, run_factory, stage_dir, stage_ids, tiny_recipe
from loopback_server import Call, LoopbackServer, Reply, chat_reply, error_reply
from test_run_server import solve
from test_verifiers_judge import block, honest, line

from factory.report.data import RunFolder, costs

KEY = "judge-key-5f2d90c1aa37"
Judge = Callable[[Call], Reply]


def fair(call: Call) -> Reply:
    """Compares the texts; its calls have a price."""
    return Reply(chat_reply(honest(call.prompt), num_prompt_tokens=100, num_tokens=10))


def wordy(call: Call) -> Reply:
    """A good teacher that never says the same twice."""
    said = solve(call).body["choices"][0]["message"]["content"]
    return Reply(chat_reply(said.replace("<think>", f"<think>Attempt {call.body['seed']}. ")))


def world(judge: Judge, teacher: Judge = solve) -> Judge:
    """A server with two models: a teacher and a judge."""
    return lambda call: judge(call) if call.method == "GET" or call.body["model"] == "referee" else teacher(call)


def judged_recipe(folder: Path, url: str, *, judge_url: str | None = None, **changes: Any) -> Path:
    """Twelve sums, two traces each, all judged by a model."""
    teacher = {"kind": "openai", "model": "far", "base_url": url}
    referee = {"kind": "openai", "model": "referee", "base_url": judge_url or url, "max_retries": 0}
    referee |= {"api_key_env": "REFEREE_KEY", "max_in_flight": 2}
    referee |= {"price_per_1m_prompt_tokens": 2.0, "price_per_1m_completion_tokens": 8.0}
    settings: dict[str, Any] = {
        "problems": {"num": 12, "story_share": 0},
        "teachers": {"select": "first", "candidates": [{"name": "far", "engine": teacher}]},
        "verify": {"kind": "judge", "engine": referee},
        "train": {"methods": ["sft"]},
        "eval": {"benchmarks": [{"name": "sums", "problems": {"kind": "arithmetic", "num": 4, "split": "heldout"}}]},
    }
    return tiny_recipe(folder, **(settings | changes))


def asked_of_judge(server: LoopbackServer) -> list[str]:
    return [call.prompt for call in server.calls if call.method == "POST" and call.body["model"] == "referee"]


def traces(workspace: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(stage_dir(workspace, "rollouts") / "traces.parquet").to_pylist()
    return rows


def run_until(stage: str, recipe: Path, workspace: Path, *more: str) -> Any:
    return call_factory("run", recipe, "--workspace", workspace, "--until", stage, "--quiet", *more)


def test_a_judge_decides_from_the_traces_to_the_scores_and_its_price_is_counted(tmp_path: Path) -> None:
    with LoopbackServer(world(fair)) as server:
        rules = {
            "name": "rules",
            "problems": {"kind": "arithmetic", "num": 5, "split": "heldout"},
            "verifier": {"kind": "math"},
            "num_samples": 1,
        }
        mine = {"name": "mine", "problems": {"kind": "pool", "num": 2}, "num_samples": 1}
        recipe = judged_recipe(tmp_path, server.url, eval={"benchmarks": [rules, mine]})
        ran = run_factory("run", recipe, "--workspace", "ws", cwd=tmp_path, env={"REFEREE_KEY": KEY})
        assert ran.returncode == 0, ran.stderr
        asked = asked_of_judge(server)
        keys = {c.headers["authorization"] for c in server.calls if c.body["model"] == "referee"}
    workspace = tmp_path / "ws"
    assert {(row["outcome"], row["verifier"]) for row in traces(workspace)} == {("correct", "judge@2")}
    assert len(set(asked)) == len(asked), "a question was paid for twice"
    assert keys == {f"Bearer {KEY}"}
    stored = [path for path in workspace.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in path.read_bytes() for path in stored)

    notes = {stage: ledger["notes"].get("judges") for stage, ledger in ledgers(workspace).items()}
    told = [notes[stage]["verify"] for stage in ("rollouts", "difficulty", "answers/base", "answers/sft")]
    calls = 2 * len({(row["prompt"], row["response"]) for row in traces(workspace)})  # two votes; equal texts once
    counted = {name: told[0][name] for name in ("calls", "prompt_tokens", "completion_tokens")}
    assert counted == {"calls": calls, "prompt_tokens": 100 * calls, "completion_tokens": 10 * calls}
    shown = {cost.stage: cost.money for cost in costs(RunFolder.open(run_dir(workspace)))}
    assert shown["rollouts: judge referee"] == pytest.approx(calls * (100 * 2 + 10 * 8) / 1e6)
    table = json.loads((run_dir(workspace) / "scores.json").read_text())
    assert [b["verifier"] for b in table["benchmarks"]] == ["math", "judge (referee, openai)"]
    assert "judge (referee, openai)" in (run_dir(workspace) / "dataset" / "README.md").read_text()
    report = " ".join(re.sub("<[^>]+>", " ", (run_dir(workspace) / "report.html").read_text()).split())
    for words in ("rollouts: judge referee", "checked by math", "judge: model referee (openai), 2 votes"):
        assert words in report

    trained = stage_ids(workspace)["train/sft"]
    other = ("--set", "eval.benchmarks.0.verifier.kind=exact")
    again = call_factory("run", recipe, "--workspace", workspace, *other)  # and no server any more
    assert "did questions, answers/base, answers/sft, scores" in again.out, again.err
    assert stage_ids(workspace)["train/sft"] == trained


def test_a_judge_whose_server_dies_stops_the_run_and_only_the_rest_is_asked_again(tmp_path: Path) -> None:
    workspace, answered, alive = tmp_path / "ws", Counter[str](), 9

    def dies(call: Call) -> Reply:
        if answered.total() >= alive:
            return Reply(drop=True)
        answered[call.prompt] += 1
        return fair(call)

    with LoopbackServer(world(dies)) as server:
        recipe = judged_recipe(tmp_path, server.url)
        ended = run_until("rollouts", recipe, workspace)
        assert ended.code == 1
        for words in ("rollouts far: the judge of verify", "'referee'", "completions that arrived are kept"):
            assert words in ended.err
        assert "Traceback" not in ended.err and list(ledgers(workspace))[-1] == "teachers"
        drawn = [call for call in server.calls if call.body["model"] == "far"]
        alive = 10**6
        assert run_until("rollouts", recipe, workspace).code == 0
        assert len([call for call in server.calls if call.body["model"] == "far"]) == len(drawn)
    assert answered.total() > 9 and max(answered.values()) == 1, "a verdict was paid for twice"
    assert {row["outcome"] for row in traces(workspace)} == {"correct"}


def test_what_a_judge_cannot_say_is_unverifiable_and_what_it_did_not_answer_is_an_error(tmp_path: Path) -> None:
    """One failed call of about ninety is kept as an error; more than 2 % stop the run, and the next asks them again."""
    workspace, failing = tmp_path / "ws", 3
    failed: set[str] = set()

    def moody(call: Call) -> Reply:
        if call.prompt in failed or (len(failed) < failing and "BEGIN REFERENCE" in call.prompt):
            failed.add(call.prompt)
            return error_reply(500, "out of sorts")
        if int(block(call.prompt, "REFERENCE")) % 2:
            return Reply(chat_reply("I would say that it is right."))
        return fair(call)

    with LoopbackServer(world(moody, wordy)) as server:
        recipe = judged_recipe(tmp_path, server.url, rollouts={"num_samples": 4})
        ended = run_until("rollouts", recipe, workspace)
        assert ended.code == 1 and "requests failed (3x" in ended.err and "out of sorts" in ended.err
        num_calls = len(server.calls)
        failing = 1
        failed.intersection_update(list(failed)[:1])
        assert run_until("rollouts", recipe, workspace).code == 0
        assert len(server.calls) - num_calls == 4  # the three, and the one that failed again
    found = {(int(row["gold"]) % 2, row["outcome"], row["reason"]) for row in traces(workspace)}
    assert found <= {
        (0, "correct", "judged_correct"),
        (1, "unverifiable", "judge_undecided"),
        (0, "error", "judge_failed"),
        (1, "error", "judge_failed"),
    }
    assert {outcome for _, outcome, _ in found} == {"correct", "unverifiable", "error"}


def test_another_judge_judges_again_and_asks_no_teacher_again(tmp_path: Path) -> None:
    workspace = tmp_path / "ws"

    def strict(call: Call) -> Reply:
        return Reply(chat_reply(line(call.prompt, "incorrect")))

    models = {"far": solve, "referee": fair, "strict": strict}
    with LoopbackServer(lambda call: models[call.body["model"]](call)) as server:
        recipe = judged_recipe(tmp_path, server.url)
        assert run_until("rollouts", recipe, workspace).code == 0
        num_drawn = sum(call.body["model"] == "far" for call in server.calls)
        ended = run_until("rollouts", recipe, workspace, "--set", "verify.engine.model=strict")
        assert "was judged correct ({'incorrect': " in ended.err
        assert sum(call.body["model"] == "far" for call in server.calls) == num_drawn
        num_calls = len(server.calls)
        cheaper = ("--set", "verify.engine.price_per_1m_prompt_tokens=1", "--set", "verify.time_limit_s=9")
        assert "nothing to do" in run_until("rollouts", recipe, workspace, *cheaper).out
        assert len(server.calls) == num_calls


def test_check_asks_for_the_judge_s_server_and_pays_for_nothing(tmp_path: Path) -> None:
    models = Reply({"data": [{"id": "far"}, {"id": "other"}]})
    with LoopbackServer(lambda call: models) as server:
        recipe = judged_recipe(tmp_path, server.url)
        ended = call_factory("check", recipe)
        assert "verify.engine: " in ended.err and "does not list this model" in ended.err
        ended = call_factory("check", recipe, "--set", "verify.engine.model=other")
        assert (ended.code, {call.method for call in server.calls}) == (0, {"GET"})
    assert "verify: the judge (other) was not asked whether it accepts the references" in ended.out


def test_a_local_model_can_be_the_judge_and_one_that_cannot_read_the_task_says_so(tmp_path: Path) -> None:
    local = {"kind": "judge", "engine": {"kind": "transformers", "model": "models/terse"}}
    with LoopbackServer(solve) as server:
        recipe = judged_recipe(tmp_path, server.url, verify=local, problems={"num": 6, "story_share": 0})
        ended = run_until("rollouts", recipe, tmp_path / "ws")
    assert ended.code == 1 and "'judge_failed'" in ended.err
    assert "look at verify.engine (it says: the prompt has" in ended.err
