"""A benchmark with a verifier of its own: judged by it, checked against it, and no reason to train again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from flow import call_factory, ledgers, run_dir, run_factory, stage_dir, tiny_recipe
from loopback_server import LoopbackServer
from test_run_server import solve

from factory.recipe_io import load_recipe
from verifiers.choice import ChoiceVerifier
from verifiers.code import CodeVerifier

NO_SERVER = "http://127.0.0.1:9/v1"
PROGRAMS = [
    {"question": f"Read an integer and print {n} times it.", "tests": {"inputs": ["1"], "outputs": [str(n)]}}
    for n in (2, 3, 4)
]
PICKS = [
    {"question": f"Which is {n}?\nA. {n}\nB. {n + 1}\nC. {n + 2}\nD. {n + 3}", "answer": "A"} for n in (11, 21, 31)
]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def programs(**verifier: Any) -> dict[str, Any]:
    source = {"kind": "file", "path": "programs.jsonl", "gold_format": "json", "columns": {"gold": "tests"}}
    return {
        "name": "programs",
        "problems": source,
        "num_samples": 1,
        "verifier": {"kind": "code", "time_limit_s": 3} | verifier,
    }


def picks(**more: Any) -> dict[str, Any]:
    source = {"kind": "file", "path": "picks.jsonl"}
    return {"name": "picks", "problems": source, "num_samples": 1, "verifier": {"kind": "choice"}} | more


def with_benchmarks(folder: Path, *benchmarks: dict[str, Any], url: str = NO_SERVER, **changes: Any) -> Path:
    """A recipe of sums from a server, with these benchmarks."""
    write_rows(folder / "programs.jsonl", PROGRAMS)
    write_rows(folder / "picks.jsonl", PICKS)
    teacher = {"name": "far", "engine": {"kind": "openai", "model": "m", "base_url": url}}
    return tiny_recipe(
        folder,
        **({"problems": {"num": 12, "story_share": 0}} | changes),
        teachers={"select": "first", "candidates": [teacher]},
        train={"methods": ["sft"]},
        eval={"benchmarks": list(benchmarks)},
    )


def test_every_benchmark_is_judged_by_its_own_verifier(tmp_path: Path) -> None:
    sums = {"name": "sums", "problems": {"kind": "pool", "num": 2}, "num_samples": 1}
    with LoopbackServer(solve) as server:
        recipe = with_benchmarks(tmp_path, sums, programs(), picks(), url=server.url)
        ran = run_factory("run", recipe, "--workspace", "ws", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    workspace = tmp_path / "ws"
    answers = stage_dir(workspace, "answers/sft")
    told = {name: pq.read_table(answers / f"{name}.parquet")["reason"].to_pylist() for name in ("programs", "picks")}
    # The tiny student writes arithmetic whatever it is asked: no program, no option.
    assert len(told["programs"]) == len(told["picks"]) == 3
    assert set(told["programs"]) <= {"no_code", "truncated"} < set(CodeVerifier.REASONS)
    assert set(told["picks"]) <= set(ChoiceVerifier.REASONS) - {"error"}
    table = json.loads((run_dir(workspace) / "scores.json").read_text())
    assert [b["verifier"] for b in table["benchmarks"]] == ["math", "code", "choice"]
    assert "checked by code" in (run_dir(workspace) / "report.html").read_text()
    assert "WARNING" not in ran.stderr


def test_check_puts_a_benchmark_s_references_to_its_own_verifier(tmp_path: Path) -> None:
    recipe = with_benchmarks(tmp_path, programs(), picks())
    assert call_factory("check", recipe, "--no-servers").code == 0
    write_rows(tmp_path / "picks.jsonl", [row | {"answer": "Z"} for row in PICKS])
    ended = call_factory("check", recipe, "--no-servers")
    assert ended.code == 1
    assert "eval.benchmarks (picks): verifier: 3 of the first 3 references cannot be used" in ended.err
    assert "'choice'" in ended.err and "gold_no_option" in ended.err and "programs" not in ended.err


def test_a_benchmark_that_the_recipe_s_verifier_does_not_fit_is_told_that_it_may_have_its_own(tmp_path: Path) -> None:
    recipe = with_benchmarks(tmp_path, picks(verifier=None))
    ended = call_factory("check", recipe, "--no-servers", "--set", "verify={kind: choice, num_options: 2}")
    assert ended.code == 0
    write_rows(tmp_path / "picks.jsonl", [row | {"answer": "Z"} for row in PICKS])
    ended = call_factory("check", recipe, "--no-servers", "--set", "verify.kind=choice")
    assert "verify: 3 of the first 3 references cannot be used" in ended.err
    assert "takes a `verifier` of its own" in ended.err
    recipe = with_benchmarks(tmp_path, programs() | {"verifier": None})
    ended = call_factory("check", recipe, "--no-servers")
    assert "a JSON object, as verifiers of programs read it; 'math' reads text" in ended.err
    sums = {"name": "sums", "problems": {"kind": "arithmetic", "num": 3}}  # of which only a run can tell
    recipe = with_benchmarks(tmp_path, sums, problems=programs()["problems"], verify={"kind": "code"})
    assert call_factory("check", recipe, "--no-servers").code == 0
    ended = call_factory("run", recipe, "--workspace", tmp_path / "ws", "--until", "questions")
    assert "accepts none of 3 references" in ended.err and "takes a `verifier` of its own" in ended.err


def test_questions_that_the_benchmark_s_verifier_cannot_judge_are_left_out_and_counted(tmp_path: Path) -> None:
    recipe = with_benchmarks(tmp_path, picks(), programs())
    write_rows(tmp_path / "picks.jsonl", [*PICKS[:2], PICKS[2] | {"answer": "Z"}])
    assert call_factory("run", recipe, "--workspace", tmp_path / "ws", "--until", "questions", "--quiet").code == 0
    ledger = ledgers(tmp_path / "ws")["questions"]
    assert (ledger["rows_in"], ledger["kept"], ledger["drops"]) == (6, 5, {"gold_refused": 1})
    [dropped] = (stage_dir(tmp_path / "ws", "questions") / "dropped.jsonl").read_text().splitlines()
    assert json.loads(dropped)["benchmark"] == "picks" and "gold_no_option" in dropped


def test_a_benchmark_without_isolation_is_warned_of_by_its_name(tmp_path: Path) -> None:
    recipe = with_benchmarks(tmp_path, programs(sandbox="none"))
    ended = call_factory("run", recipe, "--workspace", tmp_path / "ws", "--until", "questions")
    assert ended.code == 0
    assert "WARNING: eval.benchmarks (programs): verifier.sandbox: none" in ended.err


def test_tests_of_programs_need_their_gold_format_in_a_benchmark_too(tmp_path: Path) -> None:
    recipe = with_benchmarks(tmp_path, programs())
    recipe.write_text(recipe.read_text().replace("gold_format: json", "gold_format: auto"))
    ended = call_factory("check", recipe, "--no-servers")
    assert ended.code == 1
    assert "eval.benchmarks (programs)" in ended.err and "gold_format: json" in ended.err


@pytest.mark.parametrize("where", ["verify", "eval.benchmarks.0.verifier"])
def test_files_and_models_of_a_verifier_are_found_beside_the_recipe(tmp_path: Path, where: str) -> None:
    for name in ("mine.py", "referee"):
        (tmp_path / name).mkdir()
    recipe = with_benchmarks(tmp_path, picks())
    judge = "{kind: judge, engine: {kind: transformers, model: referee}}"
    loaded = load_recipe(recipe, [f"{where}={judge}"])
    both = "{kind: any_of, members: [{kind: exact}, {kind: plugin, check: './mine.py:Check'}]}"
    for setting, found in ((judge, "referee"), (both, "mine.py")):
        recipe.write_text(_with(recipe, where, setting))
        loaded = load_recipe(recipe)
        assert str(tmp_path) not in loaded.recipe.model_dump_json()
        assert str(tmp_path / found) in loaded.located().model_dump_json()


def _with(recipe: Path, where: str, setting: str) -> str:
    import yaml

    tree = yaml.safe_load(recipe.read_text())
    section = tree if where == "verify" else tree["eval"]["benchmarks"][0]
    section[where.rpartition(".")[2]] = yaml.safe_load(setting)
    return yaml.safe_dump(tree)


def test_a_changed_check_inside_of_several_is_another_verifier(tmp_path: Path) -> None:
    own = (
        "from verifiers import Outcome, TextVerifier, Verdict\n"
        "class Check(TextVerifier):\n"
        "    name, version, REASONS = 'own', 1, ('fine', 'bad')\n"
        "    def verify(self, task):\n"
        "        good = task.gold in task.response\n"
        "        return Verdict(Outcome.CORRECT if good else Outcome.INCORRECT, 'fine' if good else 'bad')\n"
    )
    (tmp_path / "own.py").write_text(own)
    both = {"kind": "first_decided", "members": [{"kind": "plugin", "check": "./own.py:Check", "num_workers": 1}]}
    recipe = with_benchmarks(tmp_path, picks(verifier=both))
    call = ("run", recipe, "--workspace", tmp_path / "ws", "--until", "questions", "--quiet")
    assert "did problems, questions" in call_factory(*call).out
    assert "nothing to do" in call_factory(*call, "--set", "eval.benchmarks.0.verifier.members.0.num_workers=2").out
    (tmp_path / "own.py").write_text(own + "# another\n")
    assert "did questions" in call_factory(*call).out


def test_a_judge_without_an_engine_is_refused_with_its_line(tmp_path: Path) -> None:
    recipe = with_benchmarks(tmp_path, picks() | {"verifier": {"kind": "judge"}})
    ended = call_factory("check", recipe)
    assert ended.code == 1
    assert "eval.benchmarks.0.verifier.engine: missing" in ended.err and f"{recipe.name}:" in ended.err
