"""Whole runs over one store: what was drawn is never drawn again, killed or not, whatever changes behind it."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from flow import call_factory, kill_group, num_completions, stage_dir, started, tiny_recipe, wait_for
from loopback_server import Call, LoopbackServer, Reply, chat_reply

IN_FLIGHT = 4


def solve(call: Call) -> Reply:
    """The right answer after a delay of the sample's own; an answer of four tokens and a little more per step."""
    numbers = [int(text) for text in re.findall(r"[+-]?\d+", call.prompt)]
    own = random.Random(f"{call.body['seed']} {call.prompt}")
    needed = 10 * len(numbers)
    limit = call.body.get("max_tokens") or call.body["max_completion_tokens"]
    text = f"<think>{own.random()}</think>\\boxed{{{sum(numbers)}}}"
    cut = limit < needed
    reply = chat_reply(text[:9] if cut else text, finish="length" if cut else "stop", num_tokens=min(limit, needed))
    return Reply(reply, delay_s=own.uniform(0.01, 0.05))


def recipe_of(folder: Path, server: LoopbackServer, **changes: Any) -> Path:
    engine = {"kind": "openai", "model": "sums", "base_url": server.url, "max_in_flight": IN_FLIGHT}
    fixed = {
        "problems": {"num": 56, "min_steps": 1, "max_steps": 3, "story_share": 0},
        "teachers": {"select": "first", "candidates": [{"name": "sums", "engine": engine}]},
        "rollouts": {"num_samples": 3, "max_tokens": 96},
        "train": {"methods": ["sft"]},
        "eval": {"benchmarks": [{"name": "held-out", "problems": {"kind": "pool", "num": 6}}]},
    }
    return tiny_recipe(folder, **(fixed | changes))


def sample_of(call: Call) -> tuple[str, int]:
    return call.prompt, call.body["seed"]


def rows_of(workspace: Path) -> bytes:
    return (stage_dir(workspace, "rollouts") / "traces.parquet").read_bytes()


def asked(server: LoopbackServer) -> list[Call]:
    return [call for call in server.calls if call.method == "POST"]


def test_killed_runs_end_with_the_rows_of_an_undisturbed_one_and_ask_again_only_what_was_in_flight(
    tmp_path: Path,
) -> None:
    rng = random.Random(5)
    with LoopbackServer(solve) as server:
        recipe = recipe_of(tmp_path, server)
        call = ("run", recipe, "--until", "rollouts", "--workspace")
        assert call_factory(*call, tmp_path / "undisturbed").code == 0
        num = len(asked(server))
        assert num == 50 * 3
        server.calls.clear()
        kills = 0
        for share in (0.05, 0.3, 0.55, 0.8):
            with started(*call, "killed", cwd=tmp_path, log=tmp_path / "log") as process:
                moment = max(round(share * num), len(asked(server)) + 1)
                wait_for(lambda at=moment: len(asked(server)) >= at, process, f"{moment} requests")  # type: ignore[misc]
                time.sleep(rng.uniform(0, 0.06))
                kill_group(process)
                kills += 1
        ended = call_factory(*call, tmp_path / "killed")
        assert ended.code == 0, ended.err
        counts = Counter(map(sample_of, asked(server)))
    assert len(counts) == num
    again = counts.total() - num
    # At most IN_FLIGHT requests are open, and as many answers on their way to the store.
    assert 0 < again <= kills * 2 * IN_FLIGHT
    assert num_completions(tmp_path / "killed") == num
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "undisturbed")


def test_a_higher_limit_asks_again_only_for_what_was_cut_and_later_stages_ask_for_nothing(tmp_path: Path) -> None:
    with LoopbackServer(solve) as server:

        def run(until: str = "rollouts", **changes: Any) -> list[Call]:
            """The calls that it makes."""
            before = len(server.calls)
            ended = call_factory("run", recipe_of(tmp_path, server, **changes), "--until", until, "--workspace", ws)
            assert ended.code == 0, ended.err
            return [call for call in server.calls[before:] if call.method == "POST"]

        ws = tmp_path / "ws"
        low, high = {"num_samples": 3, "max_tokens": 25}, {"num_samples": 3, "max_tokens": 500}
        first = run(rollouts=low)
        rows = pq.read_table(stage_dir(ws, "rollouts") / "traces.parquet").to_pylist()
        cut = {(row["prompt"], row["seed"]) for row in rows if row["finish_reason"] == "length"}
        assert len(first) == 150 and 0 < len(cut) < 150
        second = run(rollouts=high)
        assert Counter(map(sample_of, second)) == Counter(cut)
        rows = pq.read_table(stage_dir(ws, "rollouts") / "traces.parquet").to_pylist()
        assert {row["finish_reason"] for row in rows} == {"stop"}
        # Back again, another verifier, another curation: the store has it all.
        assert run(rollouts=low) == []
        assert run(rollouts=high, verify={"kind": "exact"}) == []
        assert run(rollouts=high, verify={"kind": "math", "time_limit_s": 3}) == []
        assert run(rollouts=high, curate={"size": 5, "require_think_tags": False}) == []
        assert run(rollouts={**high, "num_samples": 2}) == [], "fewer samples are the first of more"
        more = run(rollouts={**high, "num_samples": 4})
        assert len(more) == 50 and not set(map(sample_of, more)) & set(map(sample_of, first))


def test_two_processes_fill_one_store_with_a_run_and_an_import_at_once(tmp_path: Path) -> None:
    rows = "".join(f'{{"prompt": "p{i % 50}", "response": "r{i} {"x" * 300}", "num_tokens": 9}}\n' for i in range(2000))
    (tmp_path / "in.jsonl").write_text(rows)
    with LoopbackServer(solve) as server:
        recipe = recipe_of(tmp_path, server)
        (tmp_path / "ws").mkdir()
        with started(
            "run", recipe, "--until", "rollouts", "--workspace", "ws", cwd=tmp_path, log=tmp_path / "log"
        ) as run:
            wait_for(lambda: len(asked(server)) > 5, run, "the first requests")
            place = ("--name", "n", "--workspace", tmp_path / "ws")
            ended = call_factory("rollouts", "import", tmp_path / "in.jsonl", *place)
            assert ended.code == 0, ended.err
            assert run.wait(60) == 0, (tmp_path / "log").read_text()
        assert len(asked(server)) == 150
    assert num_completions(tmp_path / "ws") == 150 + 2000
