"""Whatever is wrong with what a user gives: a message that names the place and the next step, and never a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from flow import (
    MODELS,
    Ended,
    call_factory,
    ledgers,
    make_read_only,
    run_dir,
    small_disk,
    stage_dir,
    stage_ids,
    tiny_recipe,
)
from loopback_server import Call, LoopbackServer, Reply, chat_reply, error_reply

ROWS = [{"question": f"What is {n}+{n + 1}?", "answer": str(2 * n + 1)} for n in range(40)]


def refused(ended: Ended, *words: str) -> None:
    """It ended with a message that holds all of ``words``."""
    assert ended.code == 1, ended
    message = ended.err[ended.err.rindex("factory: ") :]
    assert "Traceback" not in ended.err
    for word in words:
        assert word in message, message


def write_jsonl(path: Path, rows: list[Any]) -> None:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def from_file(folder: Path, **problems: Any) -> Path:
    """A recipe whose problems come from ``rows.jsonl`` beside it."""
    return tiny_recipe(folder, problems={"kind": "file", "path": "rows.jsonl"} | problems, teachers={"select": "first"})


def run_until(stage: str, recipe: Path, *args: str | Path) -> Ended:
    return call_factory("run", recipe, "--workspace", recipe.parent / "ws", "--until", stage, "--quiet", *args)


# The recipe


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("rollouts.num_sample=3", ("rollouts.num_sample", 'did you mean "num_samples"')),
        ("rollouts.num_samples=many", ("rollouts.num_samples", "allowed", '"many"')),
        ("rollouts.num_samples=0", ("rollouts.num_samples", "1")),
        ("train.methods=[sft,dpo]", ("train.methods", "dpo", "kd")),
        ("teachers.candidates.7.name=x", ("teachers.candidates", "0 to 1")),
        ("curate.selector.kind=best", ("curate.selector.kind", "ded")),
        ("train.epochs", ("section.key=value",)),
        ("prompt_template=Solve it.", ("prompt_template", "{problem}")),
        ("eval.benchmarks=[]", ("eval.benchmarks",)),
        ("name=../up", ("name",)),
    ],
)
def test_a_wrong_setting_is_refused_by_name(tmp_path: Path, setting: str, words: tuple[str, ...]) -> None:
    recipe = tiny_recipe(tmp_path)
    refused(run_until("problems", recipe, "--set", setting), "--set", *words)
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ("no such file", 'did you mean "tiny.yaml"')),
        ("", ("tiny2.yaml",)),
        ("- a\n- b\n", ("tiny2.yaml:1", "key: value")),
        ("name: [x\n", ("tiny2.yaml:",)),
        ("name: x\n", ("tiny2.yaml", "problems", "missing")),
        ("name: x\nname: y\n", ("tiny2.yaml:2", "name")),
        ("\x00\x01\x02", ("tiny2.yaml",)),
    ],
    ids=["no file", "empty", "list", "not YAML", "lacks sections", "key twice", "binary"],
)
def test_a_recipe_that_is_none_is_refused(tmp_path: Path, text: str | None, words: tuple[str, ...]) -> None:
    tiny_recipe(tmp_path)
    recipe = tmp_path / "tiny2.yaml"
    if text is not None:
        recipe.write_text(text)
    refused(run_until("problems", recipe), *words)


def test_a_key_in_a_recipe_is_refused_and_not_shown(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, description="sk-proj-abcdefghijklmnop1234")
    ended = run_until("problems", recipe)
    refused(ended, "tiny.yaml:2", "api_key_env")
    assert "abcdefgh" not in ended.err


# Data


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (None, ("problems:", "rows.jsonl", "looked at", "path")),
        ([], ("problems:", "rows.jsonl", "is empty")),
        (['{"question": ', *ROWS[:5]], ("1 of 6 rows", "line 1", "max_bad_rows")),
        ([{"question": "1+1?"}, *ROWS[:5]], ("1 of 6 rows", "columns.gold")),
        ([{"text": "1+1?", "label": "2"}], ("question", "columns.prompt")),
        ([{"id": "a", **row} for row in ROWS], ("duplicate_id", "columns.id")),
        ([{"question": "How many?", "answer": str(n)} for n in range(20)], ("gold_conflict", "columns.prompt")),
        (["3", "null", "[1, 2]"], ("3 of 3 rows", "line 1", "max_bad_rows")),
        (ROWS[:6], ("nothing",)),
    ],
    ids=["no file", "empty", "malformed", "no gold", "columns", "equal ids", "contradictions", "no objects", "few"],
)
def test_data_that_cannot_be_used_is_refused(tmp_path: Path, rows: list[Any] | None, words: tuple[str, ...]) -> None:
    if rows is not None:
        write_jsonl(tmp_path / "rows.jsonl", rows)
    refused(run_until("problems", from_file(tmp_path)), *words)
    assert list((tmp_path / "ws" / "store").iterdir()) == []


def test_a_few_bad_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    twice = [dict(ROWS[0]), {"id": "x", **ROWS[1]}, {"id": "x", **ROWS[2]}]
    write_jsonl(tmp_path / "rows.jsonl", [*ROWS[3:], *twice, ROWS[5], '{"question": ', {"question": "2+2?"}])
    recipe = from_file(tmp_path, max_bad_rows=0.1)
    assert run_until("problems", recipe).code == 0
    ledger = ledgers(tmp_path / "ws")["problems"]
    bad = {"malformed_row": 1, "missing_gold": 1, "duplicate_id": 1, "duplicate_problem": 1}
    assert ledger["drops"] == bad | {"held_out_for_benchmark": 6}
    assert ledger["rows_in"] == len(ROWS) + 3 == ledger["kept"] + sum(ledger["drops"].values())
    folder = stage_dir(tmp_path / "ws", "problems")
    assert pq.read_table(folder / "problems.parquet").num_rows == ledger["kept"]
    told = [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]
    assert {row["reason"]: row["row"] for row in told} == {
        "duplicate_id": 40,
        "duplicate_problem": 41,
        "malformed_row": 42,
        "missing_gold": 43,
    }


def test_a_changed_file_is_noticed_whatever_its_name(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    recipe = from_file(tmp_path)
    assert run_until("problems", recipe).code == 0
    first = stage_ids(tmp_path / "ws")
    shutil.copy(tmp_path / "rows.jsonl", tmp_path / "copy.jsonl")
    assert run_until("problems", recipe, "--set", f"problems.path={tmp_path / 'copy.jsonl'}").code == 0
    assert stage_ids(tmp_path / "ws") == first
    write_jsonl(tmp_path / "rows.jsonl", ROWS[:-1])
    assert run_until("problems", recipe).code == 0
    assert stage_ids(tmp_path / "ws") != first


# Servers


def says(text: str) -> Reply:
    """The server's answer to a question."""
    return Reply(chat_reply(text))


def with_server(folder: Path, url: str, **engine: Any) -> Path:
    """A recipe whose only teacher is a server."""
    settings = {"kind": "openai", "model": "m", "base_url": url, "max_retries": 0, "timeout_s": 5.0} | engine
    teachers = {"select": "first", "candidates": [{"name": "far", "engine": settings}]}
    return tiny_recipe(folder, teachers=teachers, train={"methods": ["sft"]})


def test_an_unreachable_server_is_named_and_the_problems_stay(tmp_path: Path) -> None:
    with LoopbackServer(lambda call: says("")) as server:
        url = server.url  # free again below
    recipe = with_server(tmp_path, url)
    address = url.removeprefix("http://").removesuffix("/v1")
    refused(run_until("rollouts", recipe), "'m'", address, "run again")
    assert list(ledgers(tmp_path / "ws")) == ["problems", "questions", "teachers"]


def test_a_refused_key_is_named_by_its_variable_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-test-93b1c0ffee11d00d"
    monkeypatch.setenv("FAR_KEY", key)
    with LoopbackServer(lambda call: error_reply(401, f"Incorrect API key provided: {key}.")) as server:
        ended = run_until("rollouts", with_server(tmp_path, server.url, api_key_env="FAR_KEY"))
    refused(ended, "FAR_KEY", "key")
    assert key not in ended.err + ended.out
    assert not any(key.encode() in path.read_bytes() for path in (tmp_path / "ws").rglob("*") if path.is_file())


def test_a_missing_key_is_named_by_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAR_KEY", raising=False)
    recipe = with_server(tmp_path, "https://far.example.com/v1", api_key_env="FAR_KEY")
    refused(run_until("rollouts", recipe), "FAR_KEY is not set", "far.example.com")


def test_a_server_that_is_always_wrong_ends_before_anything_is_trained(tmp_path: Path) -> None:
    with LoopbackServer(lambda call: says(r"<think>no</think>\boxed{-1}")) as server:
        refused(run_until("rollouts", with_server(tmp_path, server.url)), "rollouts: none of 60", "'far'", "choose")


def test_failed_requests_are_no_verdict_and_are_asked_again(tmp_path: Path) -> None:
    failing = True

    def behaviour(call: Call) -> Reply:
        if failing and call.index % 3 == 0:
            return error_reply(400, "the prompt is too long")
        return says(r"<think>no</think>\boxed{-1}")

    with LoopbackServer(behaviour) as server:
        recipe = with_server(tmp_path, server.url)
        refused(run_until("rollouts", recipe), "20 of 60 requests failed", "too long", "run again")
        assert len(server.calls) == 60
        failing = False
        refused(run_until("rollouts", recipe), "none of 60")
        assert len(server.calls) == 80


# Models


def damaged(folder: Path, damage: Callable[[Path], None]) -> str:
    """A copy of the shipped base student with some damage; its path."""
    model = folder / "damaged"
    shutil.copytree(MODELS / "base", model)
    damage(model)
    return str(model)


def no_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def cut_weights(model: Path) -> None:
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[: len(weights) // 2])


def noise_for_weights(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"\xff" * 5000)


def pickled_weights(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def wrong_shapes(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"hidden_size": 64, "head_dim": 16}))


def no_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    (model / "tokenizer_config.json").unlink()


def no_template(model: Path) -> None:
    (model / "chat_template.jinja").unlink()


def config_of_nothing(model: Path) -> None:
    (model / "config.json").write_text("{}")


def config_cut(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": ')


DAMAGES = [
    no_weights,
    cut_weights,
    noise_for_weights,
    pickled_weights,
    wrong_shapes,
    no_tokenizer,
    no_template,
    config_of_nothing,
    config_cut,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_a_damaged_teacher_is_named(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    model = damaged(tmp_path, damage)
    recipe = tiny_recipe(tmp_path, teachers={"select": "first"})
    ended = run_until("rollouts", recipe, "--set", f"teachers.candidates.0.engine.model={model}")
    refused(ended, f"model {model!r}", "chat template" if damage is no_template else "save_pretrained")


def test_a_damaged_student_is_named_before_any_teacher_is_asked(tmp_path: Path) -> None:
    model = damaged(tmp_path, cut_weights)
    ended = run_until("teachers", tiny_recipe(tmp_path), "--set", f"train.student={model}")
    refused(ended, f"model {model!r}")
    assert list(ledgers(tmp_path / "ws")) == ["problems", "questions"]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("{tmp}/gone", ("gone", "no such folder", "org/name")),
        ("./gone", ("gone", "no such folder")),
        ("{tmp}", ("config.json", "save_pretrained")),
        ("{tmp}/gone.gguf", ("gone.gguf", "no such file")),
        ("package:no-such-model-package", ("not installed", "pip install")),
    ],
)
def test_a_model_that_is_not_there_is_named(tmp_path: Path, model: str, words: tuple[str, ...]) -> None:
    setting = f"train.student={model.format(tmp=tmp_path)}"
    recipe = tiny_recipe(tmp_path / "r")
    refused(run_until("teachers", recipe, "--set", setting), *words)


# Disks


@pytest.mark.parametrize("size", ["16k", "48k", "96k"])
def test_a_full_disk_is_a_message(tmp_path: Path, size: str) -> None:
    recipe = tiny_recipe(tmp_path / "r")
    more = ("--set", "problems.num=3000")
    with small_disk(tmp_path / "disk", size) as disk:
        ended = call_factory("run", recipe, "--workspace", disk, "--until", "problems", *more)
        refused(ended, str(disk), "make room", "run again")
        stages = list((disk / "store").iterdir()) if (disk / "store").exists() else []
        assert all((stage / "DONE").is_file() for stage in stages)


def test_a_full_disk_in_the_rollout_store_keeps_what_arrived(tmp_path: Path) -> None:
    answer = r"<think>" + "x" * 4000 + r"</think>\boxed{1}"
    with LoopbackServer(lambda call: says(answer)) as server, small_disk(tmp_path / "disk", "300k") as disk:
        recipe = with_server(tmp_path, server.url)
        ended = call_factory("run", recipe, "--workspace", disk, "--until", "rollouts", "--quiet")
        refused(ended, "rollouts.sqlite", "make room", "run again")
        assert list(ledgers(disk)) == ["problems", "questions", "teachers"]


def test_a_full_disk_while_a_student_is_saved_is_a_message(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path / "r")
    with small_disk(tmp_path / "disk", "900k") as disk:
        ended = call_factory("run", recipe, "--workspace", disk, "--until", "teachers", "--quiet")
        refused(ended, "smoke-terse", "no space left", "make room", "run again")
        assert list(ledgers(disk)) == ["problems", "questions", "smoke/base"]
        assert not [path.name for path in disk.rglob(".*")]


def test_a_read_only_workspace_is_a_message(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path / "r")
    with small_disk(tmp_path / "disk", "1m") as disk:
        assert call_factory("run", recipe, "--workspace", disk, "--until", "problems", "--quiet").code == 0
        before = (run_dir(disk) / "manifest.json").read_bytes()
        make_read_only(disk)
        for args in ((), ("--set", "seed=4"), ("--dry-run",)):
            refused(call_factory("run", recipe, "--workspace", disk, "--until", "problems", *args), str(disk))
        refused(call_factory("run", recipe, "--workspace", disk / "new"), str(disk / "new"), "--workspace")
        assert (run_dir(disk) / "manifest.json").read_bytes() == before


def test_a_file_in_the_workspace_s_place_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "ws").write_text("mine")
    refused(run_until("problems", tiny_recipe(tmp_path)), str(tmp_path / "ws"), "--workspace")
    assert (tmp_path / "ws").read_text() == "mine"


def test_a_damaged_rollout_store_is_a_message(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    assert run_until("problems", recipe).code == 0
    (tmp_path / "ws" / "rollouts.sqlite").write_bytes(b"no database at all" * 1000)
    refused(run_until("problems", recipe), "rollouts.sqlite", "Move this file away")
