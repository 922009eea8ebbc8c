"""``factory rollouts``, and traces that exist already as a recipe's teacher."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flow import ROOT, call_factory, ledgers, num_completions, run_dir, run_factory, small_disk, stage_dir, tiny_recipe

from factory.engines.base import Completion, Request, SamplingParams
from factory.engines.imported import ImportedEngine
from factory.engines.imported_config import ImportedEngineConfig, TraceColumns
from factory.engines.trace_rows import Trace, read_traces
from factory.errors import DataError
from factory.rollout_store import RolloutStore
from factory.sources.arithmetic import ArithmeticSource
from factory.sources.load import load_problems


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def traces_of(path: Path, **columns: str) -> list[Trace]:
    rows = list(read_traces(path, TraceColumns(**columns)))
    assert not [row.problem for row in rows if row.problem]
    return [trace for row in rows for trace in row.traces]


# What files look like


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "1+1=", "response": "<think>\none\n</think>\n\n2", "gold": "2"},
        {"question": "1+1=", "deepseek_thinking_trajectory": "one", "deepseek_attempt": "2", "solution": "2"},
        {
            "system": "Think.",
            "conversations": [
                {"from": "human", "value": "1+1="},
                {
                    "from": "gpt",
                    "value": "<|begin_of_thought|>\n\none\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n2\n\n"
                    "<|end_of_solution|>",
                },
            ],
            "gold": "2",
        },
        {
            "messages": [
                {"role": "system", "content": "Think."},
                {"role": "user", "content": "1+1="},
                {"role": "assistant", "content": "2", "reasoning_content": "one"},
            ],
            "answer": 2,
        },
        {"problem": "1+1=", "generations": ["<think>\none\n</think>\n\n2"], "answer": "\\boxed{2}"},
        {"problem": "1+1=", "reasoning_content": "<think>one</think>", "content": "2", "expected_answer": 2.0},
    ],
    ids=["plain", "s1k", "openthoughts", "chat", "several", "reasoning apart"],
)
def test_published_shapes_give_one_and_the_same_trace(tmp_path: Path, row: dict[str, Any]) -> None:
    [trace] = traces_of(write_rows(tmp_path / "in.jsonl", [row]))
    assert (trace.prompt, trace.gold, trace.finish_reason) == ("1+1=", "2", "stop")
    assert trace.response == "<think>\none\n</think>\n\n2"
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "in.parquet")
    assert traces_of(tmp_path / "in.parquet") == [trace]


def test_a_list_of_responses_is_as_many_traces_each_with_its_count(tmp_path: Path) -> None:
    row = {"prompt": "1+1=", "responses": ["2", "3", "four"], "num_tokens": [5, 6, None]}
    found = traces_of(write_rows(tmp_path / "in.jsonl", [row]))
    assert [(t.response, t.num_tokens, t.counted) for t in found] == [
        ("2", 5, True),
        ("3", 6, True),
        ("four", 1, False),
    ]


def test_tokens_that_the_file_does_not_count_are_never_none(tmp_path: Path) -> None:
    long = {"prompt": "x" * 41, "response": "é" * 1000}
    for count in (None, 0, -3, "many", True, float("nan")):
        [trace] = traces_of(write_rows(tmp_path / "in.jsonl", [{**long, "num_tokens": count}]))
        assert (trace.num_prompt_tokens, trace.num_tokens, trace.counted) == (11, 500, False)


def test_a_csv_is_a_trace_file_too(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('prompt,thinking,response,answer,num_tokens\n1+1=,one,2,2,7\n"1+2=",,3,3,\n')
    first, second = traces_of(tmp_path / "in.csv")
    assert (first.response, first.num_tokens, first.counted) == ("<think>\none\n</think>\n\n2", 7, True)
    assert (second.response, second.gold, second.counted) == ("3", "3", False)


def test_reasoning_that_never_ends_was_cut_off(tmp_path: Path) -> None:
    rows = [{"prompt": "1", "response": text} for text in ("<think> and then", "<think>so</think> 2", "no tags")]
    found = traces_of(write_rows(tmp_path / "in.jsonl", rows))
    assert [t.finish_reason for t in found] == ["length", "stop", "stop"]


def test_columns_that_cannot_be_told_are_asked_for(tmp_path: Path) -> None:
    # A `solution` is mostly the reference: taken for a response, it would be verified against itself.
    path = write_rows(tmp_path / "in.jsonl", [{"question": "1+1=", "solution": "It is 2.", "answer": "2"}])
    with pytest.raises(DataError, match=r"holds the response; name it with columns.response\n  columns: question"):
        traces_of(path)
    [trace] = traces_of(path, response="solution")
    assert (trace.response, trace.gold) == ("It is 2.", "2")
    with pytest.raises(DataError, match=r"columns.response: there is no column 'text'"):
        traces_of(path, response="text")


# The engine


def asked(engine: ImportedEngine, prompt: str, num: int) -> list[Request]:
    messages = (("system", "Think."), ("user", prompt))
    params = SamplingParams(max_tokens=2)
    return [Request(messages, engine.render(messages), params, i, i, engine.identity) for i in range(num)]


def drawn(engine: ImportedEngine, requests: list[Request]) -> dict[tuple[str, int], Completion]:
    found = [c for group in engine.generate(requests) for c in group]
    assert len(found) == len(requests)
    return {(c.request.messages[-1][1], c.request.sample): c for c in found}


def engine_over(path: Path, template: str = "{problem}", **settings: Any) -> ImportedEngine:
    config = ImportedEngineConfig(path=str(path), **settings)
    return ImportedEngine(config, "imported:x", lambda: read_traces(path, config.columns), template)


def test_sample_i_is_the_ith_trace_and_beyond_is_a_permanent_failure(tmp_path: Path) -> None:
    rows = [{"prompt": p, "response": r} for p, r in [("a", "a0"), ("b", "b0"), ("a", "a1"), ("c", "c0"), ("a ", "a2")]]
    engine = engine_over(write_rows(tmp_path / "in.jsonl", rows))
    requests = [r for prompt in ("b", "a", "d") for r in asked(engine, prompt, 2)]
    found = drawn(engine, requests)
    assert [found["a", 0].text, found["a", 1].text, found["b", 0].text] == ["a0", "a1", "b0"]
    assert drawn(engine, asked(engine, "a", 3)[2:])["a", 2].text == "a2", "one asked alone is the same one"
    failed = [found["b", 1], found["d", 0], found["d", 1]]
    assert all(c.finish_reason == "error" and c.permanent for c in failed)
    assert "fewer of this prompt than num_samples" in str(failed[0].error) and "has none" in str(failed[1].error)


def test_prompts_are_found_behind_the_recipes_template(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "in.jsonl", [{"prompt": "What is\n 1+1?", "response": "2"}])
    template = "(Q) {problem}\nAgain: {problem}\nAnswer:"
    engine = engine_over(path, template)
    prompt = template.replace("{problem}", "What is 1+1?")
    assert drawn(engine, asked(engine, prompt, 1))[prompt, 0].text == "2"
    assert drawn(engine_over(path), asked(engine, prompt, 1))[prompt, 0].finish_reason == "error"


def test_one_teachers_traces_can_be_taken_from_a_file_of_several(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "response": f"{t}{i}", "teacher": t} for i in range(2) for t in ("r1", "qwq")]
    engine = engine_over(write_rows(tmp_path / "in.jsonl", rows), teacher="qwq")
    assert [c.text for c in drawn(engine, asked(engine, "a", 2)).values()] == ["qwq0", "qwq1"]


# From traces to a student


def graded_traces(folder: Path) -> Path:
    """30 problems, of each a right trace, a wrong one, and for every third one more right one."""
    loaded = load_problems(ArithmeticSource(kind="arithmetic", num=30, seed=7, max_steps=2, story_share=0.0))
    rows = []
    for at, problem in enumerate(loaded.problems):
        start, *steps = re.findall(r"[+-]?\d+", problem.prompt)
        value, lines = int(start), []
        for step in steps:
            lines.append(f"{value}{step}={value + int(step)}")
            value += int(step)
        right = {"thinking": "\n".join(lines), "response": f"\\boxed{{{problem.gold}}}", "num_tokens": 40}
        wrong = {"thinking": lines[0], "response": f"\\boxed{{{int(problem.gold) + 1}}}", "num_tokens": 30}
        again = {"thinking": "0+0=0\n" + right["thinking"], "response": right["response"], "num_tokens": None}
        own = [right, wrong] + [again] * (at % 3 == 0)
        rows += [{"question": problem.prompt, "answer": problem.gold, **trace} for trace in own]
    return write_rows(folder / "traces.jsonl", rows)


def imported_recipe(folder: Path, engine: dict[str, Any]) -> Path:
    return tiny_recipe(
        folder,
        problems={"kind": "file", "path": "traces.jsonl", "columns": {"prompt": "question", "gold": "answer"}},
        teachers={"select": "first", "candidates": [{"name": "r1", "engine": engine}]},
        rollouts={"num_samples": 3},
        train={"methods": ["sft"]},
    )


def test_existing_traces_are_verified_curated_learned_from_and_reported(tmp_path: Path) -> None:
    graded_traces(tmp_path)
    recipe = imported_recipe(tmp_path, {"kind": "imported", "path": "traces.jsonl"})
    done = run_factory("run", recipe, "--workspace", "ws", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "counted roughly (UTF-8 bytes / 4)" in done.stderr
    workspace = tmp_path / "ws"
    traces = pq.read_table(stage_dir(workspace, "rollouts") / "traces.parquet").to_pylist()
    rollouts = ledgers(workspace)["rollouts"]
    by_sample = {s: Counter(t["outcome"] for t in traces if t["sample"] == s) for s in range(3)}
    num = len(traces) // 3
    third = by_sample[2]["correct"]
    assert by_sample == {
        0: Counter(correct=num),
        1: Counter(incorrect=num),
        2: Counter(correct=third, error=num - third),
    }
    assert 0 < third < num
    assert rollouts["kept"] == num + third
    assert rollouts["notes"]["outcomes"]["engine_error"] == num - third
    [(text, count)] = rollouts["notes"]["errors"].items()
    assert "no such trace: traces.jsonl has fewer" in text and count == num - third
    assert all(t["num_tokens"] > 0 and t["num_prompt_tokens"] > 0 for t in traces if t["finish_reason"] == "stop")
    kept = [json.loads(line) for line in (run_dir(workspace) / "dataset" / "train.jsonl").read_text().splitlines()]
    assert kept and all(row["model"].startswith("imported:") for row in kept)
    report = (run_dir(workspace) / "report.html").read_text()
    assert "traces.jsonl (imported; tokens as its file counts them, else UTF-8 bytes / 4)" in report
    (tmp_path / "traces.jsonl").rename(tmp_path / "other.jsonl")  # by content: neither place nor name counts
    text = recipe.read_text().replace("traces.jsonl", "other.jsonl")
    recipe.write_text(text)
    again = call_factory("run", recipe, "--workspace", workspace, "--until", "rollouts")
    # Only the table that names the file is written again.
    assert again.code == 0 and "did teachers\n" in again.out, again.out + again.err


def test_an_import_serves_a_recipe_as_its_file_does(tmp_path: Path) -> None:
    path = graded_traces(tmp_path)
    ended = call_factory("rollouts", "import", path, "--name", "set-1", "--workspace", tmp_path / "ws")
    assert ended.code == 0, ended.err
    assert "70 traces of 70 rows" in ended.out and "those of 10 traces are counted roughly" in ended.out
    results = []
    for name, engine in [("ws", {"name": "set-1"}), ("ws2", {"path": "traces.jsonl"})]:
        recipe = imported_recipe(tmp_path, {"kind": "imported", **engine})
        ended = call_factory("run", recipe, "--workspace", tmp_path / name, "--until", "rollouts", "--quiet")
        assert ended.code == 0, ended.err
        traces = pq.read_table(stage_dir(tmp_path / name, "rollouts") / "traces.parquet")
        results.append(traces.to_pylist())
    assert results[0] == results[1]


def test_an_import_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    path = graded_traces(tmp_path)
    assert call_factory("rollouts", "import", path, "--name", "set-1", "--workspace", tmp_path / "ws").code == 0
    recipe = imported_recipe(tmp_path, {"kind": "imported", "name": "set-2"})
    ended = call_factory("run", recipe, "--workspace", tmp_path / "ws", "--until", "rollouts")
    assert ended.code == 1
    assert "'set-2' is not there" in ended.err and "imports in this workspace: set-1" in ended.err


def test_traces_of_other_prompts_are_told_as_such(tmp_path: Path) -> None:
    graded_traces(tmp_path)
    write_rows(tmp_path / "other.jsonl", [{"prompt": "another question", "response": "1"}])
    recipe = imported_recipe(tmp_path, {"kind": "imported", "path": "other.jsonl"})
    ended = call_factory("run", recipe, "--workspace", tmp_path / "ws", "--until", "rollouts")
    assert ended.code == 1
    assert re.search(r"none of 72 traces .*'engine_error': 72.*72x no such trace: other.jsonl has none", ended.err)


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"path": "nowhere.jsonl"}, "there is no file 'nowhere.jsonl'"),
        ({"path": "traces.jsonl", "columns": {"response": "text"}}, "there is no column 'text'"),
        ({"path": "traces.jsonl", "name": "set-1"}, "needs either path .* or name"),
        ({}, "needs either path .* or name"),
        ({"path": "traces.jsonl", "columns": {"prompt": "num_tokens"}}, "hold no trace"),
    ],
)
def test_check_says_what_is_wrong_with_the_traces(tmp_path: Path, engine: dict[str, Any], said: str) -> None:
    graded_traces(tmp_path)
    ended = call_factory("check", imported_recipe(tmp_path, {"kind": "imported", **engine}))
    assert ended.code == 1
    assert re.search(said, ended.out + ended.err), ended.out + ended.err


# The commands


def stored(workspace: Path, num: int = 3) -> list[Completion]:
    """A store of a server's completions, the last one cut off."""
    rows = []
    for i in range(num):
        prompt = json.dumps([{"content": f"{i}+1=", "role": "user"}])
        asked = Request((("user", f"{i}+1="),), prompt, SamplingParams(max_tokens=8), 0, i, "openai:m@host")
        last = i == num - 1
        rows.append(Completion(asked, f"it is {i + 1}", "length" if last else "stop", 4, 8 if last else 5, 0.5))
    workspace.mkdir()
    with RolloutStore(workspace / "rollouts.sqlite") as store:
        store.put(rows)
    return rows


def test_ls_counts_by_model_and_finish_reason(tmp_path: Path) -> None:
    stored(tmp_path / "ws")
    ended = call_factory("rollouts", "ls", "--workspace", tmp_path / "ws")
    lines = [line.split() for line in ended.out.splitlines()]
    assert lines[1:] == [
        ["openai:m@host", "length", "1", "4", "8"],
        ["openai:m@host", "stop", "2", "8", "10"],
        ["total", "3", "12", "18"],
    ]
    shown = json.loads(call_factory("rollouts", "ls", "--json", "--workspace", tmp_path / "ws").out)
    assert [(g["finish_reason"], g["num"], g["num_tokens"]) for g in shown["rollouts"]] == [
        ("length", 1, 8),
        ("stop", 2, 10),
    ]


def test_show_prints_a_completion_by_the_beginning_of_its_key(tmp_path: Path) -> None:
    first, *_ = stored(tmp_path / "ws")
    ended = call_factory("rollouts", "show", first.request.key[:16], "--workspace", tmp_path / "ws")
    assert ended.code == 0 and "[user] 0+1=" in ended.out and "it is 1" in ended.out
    assert f"key: {first.request.key}" in ended.out and "seed" not in ended.out
    for key, said in (("zz", "no rollout's key begins with 'zz'"), ("%", "no rollout's key")):
        ended = call_factory("rollouts", "show", key, "--workspace", tmp_path / "ws")
        assert ended.code == 1 and said in ended.err


def test_an_export_is_a_trace_file_with_the_same_bytes_whatever_the_order_of_arrival(tmp_path: Path) -> None:
    rows = stored(tmp_path / "a", 600)
    (tmp_path / "b").mkdir()
    with RolloutStore(tmp_path / "b" / "rollouts.sqlite") as store:
        for row in reversed(rows):
            store.put([row])
    for suffix in ("jsonl", "parquet"):
        for name in "ab":
            out = tmp_path / f"{name}.{suffix}"
            ended = call_factory("rollouts", "export", out, "--workspace", tmp_path / name)
            assert ended.code == 0 and "600 rollouts" in ended.out
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert traces_of(tmp_path / "a.jsonl") == traces_of(tmp_path / "a.parquet")
    found = {(t.prompt, t.response, t.num_tokens, t.finish_reason) for t in traces_of(tmp_path / "a.parquet")}
    assert found == {(r.request.messages[0][1], r.text, r.num_tokens, r.finish_reason) for r in rows}


def test_an_export_of_one_model_and_of_none(tmp_path: Path) -> None:
    stored(tmp_path / "ws")
    path = write_rows(tmp_path / "in.jsonl", [{"prompt": "a", "response": "b", "answer": "b", "teacher": "r1"}])
    assert call_factory("rollouts", "import", path, "--name", "n", "--workspace", tmp_path / "ws").code == 0
    out = tmp_path / "out.jsonl"
    ended = call_factory("rollouts", "export", out, "--model", "imported:*", "--workspace", tmp_path / "ws")
    assert ended.code == 0
    [row] = map(json.loads, out.read_text().splitlines())
    assert (row["model"], row["teacher"], row["gold"], row["response"]) == ("imported:n/r1", "r1", "b", "b")
    before = out.read_bytes()
    ended = call_factory("rollouts", "export", out, "--model", "openai:?", "--workspace", tmp_path / "ws")
    assert ended.code == 1 and "openai:m@host" in ended.err
    assert out.read_bytes() == before and not list(tmp_path.glob("*.partial"))


def test_importing_twice_is_once_and_another_file_needs_another_name(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "response": "b"}] * 3
    path, other = write_rows(tmp_path / "in.jsonl", rows), write_rows(tmp_path / "other.jsonl", rows[:1])
    call = ("--name", "n", "--workspace", tmp_path / "ws")
    assert "3 traces of 3 rows" in call_factory("rollouts", "import", path, *call).out
    assert "nothing to do" in call_factory("rollouts", "import", path, *call).out
    ended = call_factory("rollouts", "import", other, *call)
    assert ended.code == 1 and "choose another name" in ended.err
    assert num_completions(tmp_path / "ws") == 3


def test_a_stopped_import_is_not_used_and_begins_anew(tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "rollouts.sqlite") as store:
        from factory.rollout_files import _imported_row

        store.begin_import("n", "in.jsonl", "digest of another file")
        trace = Trace("left over", "x", None, None, None, "stop", 1, 1, True)
        store.add_imported("n", [_imported_row("n", at, trace) for at in range(5)])
    path = write_rows(tmp_path / "in.jsonl", [{"prompt": "a", "response": "b"}] * 3)
    assert "not finished" in call_factory("rollouts", "ls", "--workspace", tmp_path).out
    assert call_factory("rollouts", "import", path, "--name", "n", "--workspace", tmp_path).code == 0
    with RolloutStore(tmp_path / "rollouts.sqlite") as store:
        assert [text.text for _, text in store.imported("n")] == ["b"] * 3
        assert store.count() == 3


def test_a_file_of_mostly_bad_rows_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "response": "b"}] * 9 + [{"prompt": "a", "response": None}]
    path = write_rows(tmp_path / "in.jsonl", rows)
    ended = call_factory("rollouts", "import", path, "--name", "n", "--workspace", tmp_path)
    assert ended.code == 1 and "1 of 10 rows hold no trace" in ended.err and "row 10: response" in ended.err
    with RolloutStore(tmp_path / "rollouts.sqlite") as store:
        assert store.count() == 0 and not store.imports()
    call = ("rollouts", "import", path, "--name", "n", "--workspace", tmp_path, "--max-bad-rows", "0.1")
    ended = call_factory(*call)
    assert ended.code == 0 and "9 traces of 10 rows" in ended.out and "1 rows hold no trace" in ended.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ls",), "no rollouts there"),
        (("export", "out.csv"), "no rollouts there"),
        (("import", "nowhere.jsonl", "--name", "n"), "there is no file 'nowhere.jsonl'"),
        (("import", "in.jsonl", "--name", "a/b"), "--name a/b"),
        (("import", "in.jsonl", "--name", "n", "--columns", "text"), "expected ROLE=COLUMN, got 'text'; roles: prompt"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "in.jsonl", [{"prompt": "a", "response": "b"}])
    ended = call_factory("rollouts", *arguments)
    assert ended.code == 1 and said in ended.err, ended.err


def test_a_full_disk_stops_an_import_and_more_room_lets_it_begin_anew(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "response": "x" * 3000} for i in range(1500)]
    path = write_rows(tmp_path / "in.jsonl", rows)
    with small_disk(tmp_path / "disk", "2m") as disk:
        call = ("rollouts", "import", path, "--name", "n", "--workspace", disk)
        ended = call_factory(*call)
        assert ended.code == 1 and "full" in ended.err and "make room" in ended.err
        subprocess.run(["mount", "-o", "remount,size=32m", disk], check=True)
        ended = call_factory(*call)
        assert ended.code == 0 and "1500 traces of 1500 rows" in ended.out, ended.err
        assert num_completions(disk) == 1500


def test_a_full_disk_stops_an_export_and_leaves_no_part_of_it(tmp_path: Path) -> None:
    stored(tmp_path / "ws", 3000)
    with small_disk(tmp_path / "disk", "64k") as disk:
        for name in ("out.jsonl", "out.parquet"):
            ended = call_factory("rollouts", "export", disk / name, "--workspace", tmp_path / "ws")
            assert ended.code == 1 and "no space left on the disk" in ended.err
            assert not list(disk.iterdir())


def test_memory_does_not_grow_with_what_is_exported_and_imported(tmp_path: Path) -> None:
    """A store of 60 MB goes out and comes back in a process that has little more than the interpreter and pyarrow."""
    script = """
import sys
from pathlib import Path
from factory.engines.base import Completion, Request, SamplingParams
from factory.engines.imported_config import TraceColumns
from factory.rollout_files import export_rollouts, import_traces
from factory.rollout_store import RolloutStore
from sft.models import sha256_file

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024

def row(at):
    asked = Request((("user", f"{at}"),), f"{at}", SamplingParams(max_tokens=9000), 0, at, "m")
    return Completion(asked, f"{at} " * 4000, "stop", 1, 5000, 1.0)

folder, num = Path(sys.argv[1]), int(sys.argv[2])
with RolloutStore(folder / "rollouts.sqlite") as store:
    for start in range(0, num, 50):
        store.put([row(at) for at in range(start, start + 50)])
    store.groups()
    export_rollouts(store, folder / "out.parquet")
    export_rollouts(store, folder / "out.jsonl")
    import_traces(store, folder / "out.jsonl", "n", TraceColumns(), sha256_file)
    assert store.count() == 2 * num
print(peak())
"""
    peaks = []
    for num in (1000, 3000):
        (tmp_path / str(num)).mkdir()
        command = [sys.executable, "-c", script, str(tmp_path / str(num)), str(num)]
        peaks.append(int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] - peaks[0] < 40, f"MiB with 20 MB and with 60 MB of texts: {peaks}"
