"""The command line itself: help, version, schema, check, and what it says about a wrong call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flow import ROOT, call_factory, run_factory, tiny_recipe

from factory import __version__

COMMANDS = ("run", "check", "verify", "audit", "report", "rollouts", "status", "ls", "clean", "schema")
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def test_help_names_every_command() -> None:
    ended = call_factory("--help")
    assert ended.code == 0
    listed = ended.out.split("Commands:")[1]
    assert {line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "} == {*COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_its_options(command: str) -> None:
    ended = call_factory(command, "--help")
    assert ended.code == 0
    assert f"factory {command}" in ended.out
    lines = ended.out.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(("  --", "  -q")) and "--help" not in line:
            explained = len(line.split("  ")) > 2 or lines[number + 1].startswith(" " * 10)
            assert explained, line


def test_version_is_the_package_s(tmp_path: Path) -> None:
    ended = call_factory("--version")
    assert (ended.code, ended.out) == (0, f"factory {__version__}\n")
    done = run_factory("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, ended.out, "")


def test_schema_is_json_and_knows_the_sections() -> None:
    ended = call_factory("schema")
    assert ended.code == 0
    schema = json.loads(ended.out)
    assert {"name", "problems", "teachers", "rollouts", "curate", "train", "eval"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_shipped_recipes_have_no_mistake(recipe: Path) -> None:
    ended = call_factory("check", recipe, "--no-servers")
    beyond_us = ("problems: ", "package:")  # data and model packages that are not shipped
    faults = [line for line in ended.err.splitlines() if line.startswith(str(recipe))]
    assert all(any(word in line for word in beyond_us) for line in faults), ended.err
    assert "Traceback" not in ended.err


def test_check_finds_nothing_wrong_with_a_good_recipe_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tiny_recipe(tmp_path / "r")
    before = sorted(tmp_path.rglob("*"))
    ended = call_factory("check", recipe)
    assert (ended.code, ended.out, ended.err) == (0, f"{recipe}: fine\n", "")
    assert sorted(tmp_path.rglob("*")) == before


def test_check_lists_everything_that_would_fail_later(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    recipe = tiny_recipe(
        tmp_path,
        problems={"kind": "file", "path": "empty.jsonl"},
        teachers={
            "select": "first",
            "candidates": [
                {"name": "gone", "engine": {"kind": "transformers", "model": "some/models/gone"}},
                {"name": "far", "engine": {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}},
            ],
        },
        train={"methods": ["sft"], "student": "models"},
        eval={"max_tokens": 5000},
    )
    ended = call_factory("check", recipe)
    assert ended.code == 1
    assert ended.out == ""
    lines = [line.removeprefix(f"{recipe}: ") for line in ended.err.splitlines()]
    assert [line.split(":")[0] for line in lines] == [
        "problems",
        "train.student",
        "teachers.candidates (gone)",
        "teachers.candidates (far)",
    ]
    for line, word in zip(lines, ("empty.jsonl is empty", "config.json", "no such folder", "127.0.0.1:9"), strict=True):
        assert word in line
    assert "Traceback" not in ended.err
    assert len(call_factory("check", recipe, "--no-servers").err.splitlines()) == 3


def test_check_compares_limits_with_the_student_s_context(tmp_path: Path) -> None:
    ended = call_factory("check", tiny_recipe(tmp_path, eval={"max_tokens": 5000}))
    assert ended.code == 1
    assert "eval.max_tokens: 5000 is more than the student's context of 512 tokens" in ended.err


def test_check_on_a_wrong_recipe_tells_all_mistakes_with_their_lines(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, rollouts={"num_sample": 4, "temperature": "hot"})
    ended = call_factory("check", recipe)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("factory: ")
    lines = recipe.read_text().splitlines()
    for key in ("num_sample:", "temperature: hot"):
        line = next(number for number, text in enumerate(lines, 1) if key in text)
        assert f"{recipe}:{line}" in ended.err
    assert 'did you mean "num_samples"' in ended.err


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("rum",), "rum"),
        (("run",), "recipe"),
        (("run", "x.yaml", "--limit", "0"), "--limit"),
        (("run", "x.yaml", "--workspace"), "--workspace"),
        (("run", "x.yaml", "--epochs", "3"), "--epochs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_wrong_call_is_a_usage_message(args: tuple[str, ...], word: str) -> None:
    ended = call_factory(*args)
    assert ended.code == 2
    assert word in ended.err
    assert "Traceback" not in ended.err


def test_an_unknown_stage_is_an_error_with_a_proposal(tmp_path: Path) -> None:
    ended = call_factory("run", tiny_recipe(tmp_path), "--workspace", tmp_path / "ws", "--until", "curated")
    assert ended.code == 1
    assert ended.err.startswith('factory: --until: unknown stage "curated" - did you mean "curate"?')
    assert "problems, questions, teachers" in ended.err
    assert not (tmp_path / "ws").exists()


def test_a_report_of_no_run_is_an_error_that_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "manifest.json").write_text("{}")
    ended = call_factory("report", "main", "--workspace", tmp_path)
    assert ended.code == 1
    assert ended.err.startswith("factory: main: no run there")
    assert f"known runs in {tmp_path}: mine" in ended.err


@pytest.mark.parametrize("command", ["status", "ls", "clean"])
def test_looking_at_no_workspace_is_an_error_and_makes_none(command: str, tmp_path: Path) -> None:
    ended = call_factory(command, "--workspace", tmp_path / "ws")
    assert ended.code == 1
    assert ended.err.startswith(f"factory: {tmp_path / 'ws'}: no workspace there")
    assert not (tmp_path / "ws").exists()


def test_a_candidate_cannot_take_the_untrained_students_name(tmp_path: Path) -> None:
    ended = call_factory("check", tiny_recipe(tmp_path), "--set", "teachers.candidates.0.name=base")
    assert ended.code == 1
    assert 'cannot be called "base"' in ended.err
