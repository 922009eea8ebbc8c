"""The whole factory on a tiny recipe: what a run leaves, what running again costs, and what a killed run loses."""

from __future__ import annotations

import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from flow import (
    LONG_S,
    NAME,
    RECIPE,
    ROOT,
    assert_chosen_by_the_rule,
    call_factory,
    digests,
    events,
    ledgers,
    num_completions,
    results,
    run_dir,
    run_factory,
    stage_dir,
    stage_ids,
    started,
    tiny_recipe,
    wait_for,
)

from curation.examples import EXAMPLE_SCHEMA
from factory.sources.split import normalise_prompt
from factory.stages.problems import load_questions
from factory.tables import read_problems
from factory.workspace import Artifact, read_ledger

STAGES = [
    "problems",
    "questions",
    "smoke/base",
    "smoke/terse",
    "smoke/steady",
    "teachers",
    "rollouts",
    "difficulty",
    "curate",
    "targets",
    "train/sft",
    "train/kd",
    "answers/base",
    "answers/sft",
    "answers/kd",
    "scores",
]
HEAVY = re.compile(r"\| +(torch|transformers|trl|datasets|peft|sympy|matplotlib)$", re.MULTILINE)
"""In the interpreter's list of imports."""


class Finished(NamedTuple):
    """A run that went through."""

    recipe: Path
    workspace: Path
    output: str
    seconds: float


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One undisturbed run, shared; tests that change the workspace take ``copy_of`` it."""
    folder = tmp_path_factory.mktemp("run")
    recipe = tiny_recipe(folder)
    began = time.monotonic()
    done = run_factory("run", recipe, "--workspace", folder / "ws", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    return Finished(recipe, folder / "ws", done.stdout, time.monotonic() - began)


def copy_of(finished: Finished, folder: Path) -> Path:
    """A copy of the finished workspace."""
    return Path(shutil.copytree(finished.workspace, folder / "copy"))


def scores_of(workspace: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((run_dir(workspace) / "scores.json").read_text())
    return table


def rows_of(workspace: Path, key: str, name: str) -> list[dict[str, Any]]:
    """A stage's table."""
    rows: list[dict[str, Any]] = pq.read_table(stage_dir(workspace, key) / name).to_pylist()
    return rows


# What a run leaves


def test_everything_stands_at_its_place(finished: Finished) -> None:
    folder = run_dir(finished.workspace)
    assert sorted(p.name for p in folder.iterdir()) == [
        "dataset",
        "events.jsonl",
        "manifest.json",
        "recipe.json",
        "report.html",
        "scores.json",
        "student",
        "student-kd",
    ]
    assert sorted(p.name for p in (folder / "dataset").iterdir()) == ["README.md", "train.jsonl", "train.parquet"]
    assert sorted(p.name for p in finished.workspace.iterdir()) == ["lock", "rollouts.sqlite", "runs", "store"]
    for place in ("dataset", "student", "scores.json", "report.html"):
        assert str(folder / place) in finished.output


def test_the_run_says_what_it_did_and_how_good_the_students_are(finished: Finished) -> None:
    assert f"tiny: did {', '.join(STAGES)}\n" in finished.output
    assert re.search(
        r"two-steps \(14 questions x 1\): base [\d.]+% \[.*\]  sft [\d.]+% \[.*\]  kd [\d.]+% \[.*\]", finished.output
    )
    assert [stage for event, stage in events(finished.workspace) if event == "finished"] == STAGES


def test_the_ledgers_add_up_along_the_chain(finished: Finished) -> None:
    found = ledgers(finished.workspace)
    assert list(found) == STAGES
    for key, ledger in found.items():
        assert ledger["rows_in"] == ledger["kept"] + sum(ledger["drops"].values()), key
        assert ledger["seconds"] > 0, key
    num_problems, num_samples = found["problems"]["kept"], RECIPE["rollouts"]["num_samples"]
    assert (found["problems"]["rows_in"], num_problems) == (36, 30)
    assert found["smoke/base"]["rows_in"] == 10
    assert found["smoke/terse"]["rows_in"] == found["smoke/steady"]["rows_in"] == 12
    assert (found["teachers"]["rows_in"], found["teachers"]["kept"]) == (2, 1)
    assert found["rollouts"]["rows_in"] == num_problems * num_samples
    assert found["difficulty"]["rows_in"] == num_problems
    assert found["curate"]["rows_in"] == found["rollouts"]["rows_in"]
    for key in ("targets", "train/sft", "train/kd"):
        assert found[key]["rows_in"] == found["curate"]["kept"]
    answers = [found[f"answers/{model}"]["rows_in"] for model in ("base", "sft", "kd")]
    assert answers == [14 + 6 * 2] * 3
    assert found["scores"]["rows_in"] == sum(answers)


def test_every_trace_that_went_has_a_reason(finished: Finished) -> None:
    traces = rows_of(finished.workspace, "rollouts", "traces.parquet")
    fates = rows_of(finished.workspace, "curate", "rows.parquet")
    drops = ledgers(finished.workspace)["curate"]["drops"]
    assert sorted(t["trace_id"] for t in traces) == sorted(f["trace_id"] for f in fates)
    for fate in fates:
        assert fate["kept"] == (fate["drop_reason"] is None) == (fate["keep_reason"] is not None)
    counted = {reason: sum(f["drop_reason"] == reason for f in fates) for reason in drops}
    assert counted == drops
    funnel = json.loads((stage_dir(finished.workspace, "curate") / "funnel.json").read_text())
    for earlier, later in zip(funnel, funnel[1:], strict=False):
        assert later["rows_in"] == earlier["kept"]
    assert funnel[0]["rows_in"] == len(traces)
    assert funnel[-1]["kept"] == ledgers(finished.workspace)["curate"]["kept"]


def test_the_data_set_holds_correct_traces_only_and_says_where_each_came_from(finished: Finished) -> None:
    folder = run_dir(finished.workspace) / "dataset"
    table = pq.read_table(folder / "train.parquet")
    rows = table.to_pylist()
    assert table.schema.names == EXAMPLE_SCHEMA.names
    assert 0 < len(rows) == ledgers(finished.workspace)["curate"]["kept"] <= RECIPE["curate"]["size"]
    assert rows == [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert {row["outcome"] for row in rows} == {"correct"}
    assert all(value not in (None, "") for row in rows for value in row.values())
    traces = {t["trace_id"]: t for t in rows_of(finished.workspace, "rollouts", "traces.parquet")}
    problems = {p["id"]: p for p in rows_of(finished.workspace, "problems", "problems.parquet")}
    for row in rows:
        assert row["response"] == traces[row["trace_id"]]["response"]
        assert row["messages"] == [
            {"role": "user", "content": problems[row["problem_id"]]["prompt"]},
            {"role": "assistant", "content": row["response"]},
        ]
        assert row["extracted"] == row["gold"] == problems[row["problem_id"]]["gold"]
        assert row["pass_k"] / row["pass_n"] <= 0.75
        assert row["licence"] == "Apache-2.0"
        assert row["model"].startswith("sha256:")
    assert len({row["trace_id"] for row in rows}) == len(rows)
    assert [row["position"] for row in rows] == list(range(len(rows)))


def test_the_data_set_s_card_can_be_read_by_a_hub(finished: Finished) -> None:
    import yaml

    _, head, body = (run_dir(finished.workspace) / "dataset" / "README.md").read_text().split("---\n", 2)
    header = yaml.safe_load(head)
    assert header["license"] == "apache-2.0"
    assert header["configs"][0]["data_files"] == [{"split": "train", "path": "train.parquet"}]
    assert f"{ledgers(finished.workspace)['curate']['kept']} examples" in body


def test_the_teacher_is_chosen_by_its_student_and_the_figures_are_kept(finished: Finished) -> None:
    table = json.loads((stage_dir(finished.workspace, "teachers") / "teachers.json").read_text())
    rows = {row["name"]: row for row in table["candidates"]}
    assert list(rows) == ["terse", "steady"]
    for row in rows.values():
        for estimate in (row["acceptance"], row["student_score"], table["student_base"]):
            assert 0 <= estimate["low"] <= estimate["value"] <= estimate["high"] <= 1
            assert estimate["low"] < estimate["high"]
        assert row["gain"]["low"] <= row["gain"]["value"] <= row["gain"]["high"]
        assert row["acceptance"]["value"] == pytest.approx(row["accepted"] / row["asked"])
        assert row["model"] == f"models/{row['name']}"
        assert row["tokens_per_accepted"] == pytest.approx(row["tokens"] / row["accepted"])
        assert row["money"] == 0
    assert_chosen_by_the_rule(table)
    traces = rows_of(finished.workspace, "rollouts", "traces.parquet")
    assert {trace["teacher"] for trace in traces} == {table["selected"]}


def test_both_candidates_students_get_the_same_number_of_training_tokens(finished: Finished) -> None:
    table = json.loads((stage_dir(finished.workspace, "teachers") / "teachers.json").read_text())
    budget = RECIPE["teachers"]["smoke"]["train_tokens"]
    for row in table["candidates"]:
        metrics = (stage_dir(finished.workspace, f"smoke/{row['name']}") / "metrics.jsonl").read_text().splitlines()
        per_step = row["train_tokens"] / len(metrics)
        assert (
            abs(row["train_tokens"] - budget) <= per_step
        )  # tokens of the traces; those of the questions do not count


def test_no_benchmark_question_is_trained_on(finished: Finished) -> None:
    pool = read_problems(stage_dir(finished.workspace, "problems") / "problems.parquet")
    questions = stage_dir(finished.workspace, "questions")
    artifact = Artifact("questions", questions, read_ledger(questions))
    asked = {name: load_questions(artifact, name) for name in ("two-steps", "pool")}
    assert {name: len(questions) for name, questions in asked.items()} == {"two-steps": 14, "pool": 6}
    prompts = {normalise_prompt(problem.prompt) for problem in pool}
    trained = {normalise_prompt(row["prompt"]) for row in rows_of(finished.workspace, "rollouts", "traces.parquet")}
    for own in asked.values():
        assert not {normalise_prompt(question.prompt) for question in own} & (prompts | trained)


def test_the_students_load_and_hold_no_pickle(finished: Finished) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = (ROOT / "recipes" / "quickstart" / "models" / "base" / "model.safetensors").read_bytes()
    weights = {base}
    for name in ("student", "student-kd"):
        folder = run_dir(finished.workspace) / name
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": "1+1=?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        answer = model.generate(**chat, max_new_tokens=8, do_sample=False)
        assert answer.shape[1] > chat["input_ids"].shape[1]
        assert {path.suffix for path in folder.rglob("*")} <= {".json", ".jinja", ".safetensors"}
        weights.add((folder / "model.safetensors").read_bytes())
    assert len(weights) == 3  # the base and two different students


def test_scores_are_complete_and_agree_with_the_answers(finished: Finished) -> None:
    table = scores_of(finished.workspace)
    assert {key: table[key] for key in ("format", "recipe", "level", "models")} == {
        "format": 1,
        "recipe": "tiny",
        "level": 0.95,
        "models": ["base", "sft", "kd"],
    }
    assert [(b["name"], b["role"], b["num_questions"], b["num_samples"]) for b in table["benchmarks"]] == [
        ("two-steps", "in_domain", 14, 1),
        ("pool", "in_domain", 6, 2),
    ]
    for benchmark in table["benchmarks"]:
        assert (benchmark["temperature"], benchmark["top_p"], benchmark["max_tokens"]) == (0.6, 0.95, 64)
        assert benchmark["minimum_detectable_gain"] > 0
        against = [(d["model"], d["against"]) for d in benchmark["differences"]]
        assert against == [("sft", "base"), ("kd", "base"), ("kd", "sft")]
        for difference in benchmark["differences"]:
            assert difference["low"] <= difference["value"] <= difference["high"]
            assert 0 < difference["p_value"] <= 1
        for model, figures in benchmark["models"].items():
            assert {"truncated", "no_answer", "unverifiable", "error", "mean_tokens"} < set(figures)
            for name in ("avg_at_k", "pass_at_k", "maj_at_k"):
                assert 0 <= figures[name]["low"] <= figures[name]["value"] <= figures[name]["high"] <= 1
            answers = rows_of(finished.workspace, f"answers/{model}", f"{benchmark['name']}.parquet")
            share = sum(answer["outcome"] == "correct" for answer in answers) / len(answers)
            assert figures["avg_at_k"]["value"] == pytest.approx(share, abs=1e-6)


def test_the_report_shows_the_scores_and_loads_nothing(finished: Finished) -> None:
    page = (run_dir(finished.workspace) / "report.html").read_text()
    for word in ("tiny", "terse", "steady", "two-steps", "kd"):
        assert word in page
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!#|data:)', page)


def test_nothing_shown_holds_a_place_on_this_machine(finished: Finished) -> None:
    folder = run_dir(finished.workspace)
    places = [str(finished.workspace.parent), str(ROOT), str(Path.home()), sys.prefix]
    texts = {name: (folder / name).read_text() for name in ("scores.json", "recipe.json", "dataset/README.md")}
    texts["train.jsonl"] = (folder / "dataset" / "train.jsonl").read_text()
    texts["train.parquet"] = json.dumps(pq.read_table(folder / "dataset" / "train.parquet").to_pylist())
    texts["parquet's own"] = str(pq.read_schema(folder / "dataset" / "train.parquet").metadata)
    for student in ("student", "student-kd"):
        for path in (folder / student).glob("*.json"):
            texts[f"{student}/{path.name}"] = path.read_text()
    texts["teachers.json"] = (stage_dir(finished.workspace, "teachers") / "teachers.json").read_text()
    found = [(name, place) for name, text in texts.items() for place in places if len(place) > 1 and place in text]
    assert not found


# Running again


def processor_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_a_second_run_does_nothing_loads_no_model_library_and_changes_no_byte(finished: Finished) -> None:
    folder = run_dir(finished.workspace)
    before, written = digests(folder), (folder / "report.html").stat().st_mtime_ns
    store = digests(finished.workspace / "store")
    used = processor_seconds_of_children()
    again = run_factory(
        "run", finished.recipe, "--workspace", finished.workspace, cwd=folder, options=("-X", "importtime")
    )
    assert processor_seconds_of_children() - used < 3  # the promise, whatever else the machine is doing
    assert again.returncode == 0
    assert "tiny: nothing to do, everything was there" in again.stdout
    assert "factory.run" in again.stderr  # the list of imports is there
    assert not HEAVY.findall(again.stderr)
    assert digests(folder) == before
    assert (folder / "report.html").stat().st_mtime_ns == written
    assert digests(finished.workspace / "store") == store


def test_another_curation_draws_nothing_again(finished: Finished, tmp_path: Path) -> None:
    workspace = copy_of(finished, tmp_path)
    completions, before = num_completions(workspace), stage_ids(workspace)
    changed = ("--set", "curate.size=6", "--set", "curate.selector={kind: random}")
    ended = call_factory("run", finished.recipe, "--workspace", workspace, "--until", "curate", *changed)
    assert ended.code == 0, ended.err
    assert "tiny: did curate\n" in ended.out
    assert num_completions(workspace) == completions
    after = stage_ids(workspace)
    assert after.pop("curate") != before["curate"]
    assert after == {key: before[key] for key in after}
    assert len((run_dir(workspace) / "dataset" / "train.jsonl").read_text().splitlines()) == 6
    back = call_factory("run", finished.recipe, "--workspace", workspace, "--quiet")
    assert "nothing to do" in back.out
    assert results(workspace) == results(finished.workspace)


def test_another_place_for_the_same_models_is_no_change(finished: Finished, tmp_path: Path) -> None:
    workspace = copy_of(finished, tmp_path)
    shutil.copytree(ROOT / "recipes" / "quickstart" / "models" / "base", tmp_path / "renamed")
    student = ("--set", f"train.student={tmp_path / 'renamed'}")
    ended = call_factory("run", finished.recipe, "--workspace", workspace, *student)
    assert "nothing to do" in ended.out


def test_a_dry_run_lists_what_is_done_and_what_would_be_and_changes_nothing(finished: Finished, tmp_path: Path) -> None:
    workspace = copy_of(finished, tmp_path)
    before = digests(workspace, "rollouts.sqlite", "runs", "store")
    plain = call_factory("run", finished.recipe, "--workspace", workspace, "--dry-run")
    done = [f"done   {key:<18} store/{name}" for key, name in stage_ids(workspace).items()]
    assert (plain.code, plain.out.splitlines()) == (0, [*done, "nothing to do"])
    changed = ("--set", "curate.size=6")
    ended = call_factory("run", finished.recipe, "--workspace", workspace, "--dry-run", *changed)
    listed = ["next   curate", "then   targets", "then   train", "then   answers", "then   scores"]
    assert (ended.code, ended.out.splitlines()) == (0, [*done[:8], *listed])
    ended = call_factory("run", finished.recipe, "--workspace", workspace, "--dry-run", "--until", "train", *changed)
    assert ended.out.splitlines() == [*done[:8], *listed[:3]]
    assert digests(workspace, "rollouts.sqlite", "runs", "store") == before


@pytest.mark.parametrize("until", ["problems", "teachers", "curate", "targets", "train", "answers", "scores"])
def test_a_dry_run_of_a_part_that_is_done_has_nothing_to_do(finished: Finished, tmp_path: Path, until: str) -> None:
    workspace = copy_of(finished, tmp_path)
    ended = call_factory("run", finished.recipe, "--workspace", workspace, "--dry-run", "--until", until)
    assert ended.out.splitlines()[-1] == "nothing to do"
    assert "next" not in ended.out


def test_a_dry_run_makes_no_workspace(tmp_path: Path) -> None:
    ended = call_factory("run", tiny_recipe(tmp_path / "r"), "--workspace", tmp_path / "ws", "--dry-run")
    assert ended.code == 0
    assert ended.out.splitlines()[0] == "next   problems"
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize(
    ("until", "last"), [("curate", "curate"), ("targets", "curate"), ("train", "train/sft"), ("answers", "answers/sft")]
)
def test_until_ends_behind_its_stage(finished: Finished, tmp_path: Path, until: str, last: str) -> None:
    workspace = copy_of(finished, tmp_path)
    ended = call_factory(
        "run", finished.recipe, "--workspace", workspace, "--until", until, "--set", "train.methods=[sft]"
    )
    assert ended.code == 0
    assert list(ledgers(workspace))[-1] == last
    assert f"stopped behind {until}" in ended.out


def test_a_finished_run_is_not_taken_apart_by_an_earlier_end(finished: Finished, tmp_path: Path) -> None:
    """``clean`` after ``--until`` must not cost the students of the same settings."""
    workspace = copy_of(finished, tmp_path)
    assert call_factory("run", finished.recipe, "--workspace", workspace, "--until", "curate", "--quiet").code == 0
    call_factory("clean", "--workspace", workspace, "--yes")
    ended = call_factory("run", finished.recipe, "--workspace", workspace, "--dry-run")
    assert ended.out.splitlines()[-1] == "nothing to do"


# The same bytes


def test_a_run_in_two_parts_elsewhere_makes_the_same_bytes(finished: Finished, tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path / "other folder")
    first = run_factory("run", recipe, "--workspace", "ws", "--until", "curate", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "stopped behind curate, as asked" in first.stdout
    assert (run_dir(tmp_path / "ws") / "dataset" / "train.parquet").is_file()
    assert (run_dir(tmp_path / "ws") / "report.html").is_file()
    assert not (run_dir(tmp_path / "ws") / "student").exists()
    second = run_factory("run", recipe, "--workspace", "ws", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert f"tiny: did {', '.join(STAGES[STAGES.index('targets') :])}\n" in second.stdout
    assert stage_ids(tmp_path / "ws") == stage_ids(finished.workspace)
    assert results(tmp_path / "ws") == results(finished.workspace)


def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(finished: Finished, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "benchmarks" / "kill_resume.py",
            *("--kills", "3", "--seed", "1", "--recipe", finished.recipe),
            *("--workspace", tmp_path, "--baseline", finished.workspace),
        ],
        capture_output=True,
        text=True,
        timeout=LONG_S,
    )
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["kills"] == 3
    assert (found["equal"], found["files_differing"], found["completions_lost"]) == (True, [], 0)
    assert found["files_compared"] == 6
    assert found["completions"] == num_completions(finished.workspace)
    assert done.returncode == 0
    assert results(tmp_path / "killed") == results(finished.workspace)


def test_an_interrupted_run_says_how_to_go_on_and_does(finished: Finished, tmp_path: Path) -> None:
    workspace = copy_of(finished, tmp_path)
    for key in STAGES[STAGES.index("train/sft") :]:
        shutil.rmtree(stage_dir(workspace, key))
    args = ("run", finished.recipe, "--workspace", workspace)
    with started(*args, cwd=tmp_path, log=tmp_path / "log") as process:
        known = len(events(workspace))
        wait_for(lambda: ("started", "train/sft") in events(workspace)[known:], process, "the training began")
        process.send_signal(signal.SIGINT)
        code = process.wait(LONG_S)
    text = (tmp_path / "log").read_text()
    assert code in (130, -signal.SIGINT), text  # to a shell both are 130; Python chooses by what was interrupted
    assert "stopped; everything finished is kept. To go on: factory run" in text
    assert str(workspace) in text
    assert "Traceback" not in text
    again = run_factory(*args, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "train/sft, train/kd" in again.stdout
    assert results(workspace) == results(finished.workspace)


def test_a_training_that_diverges_is_a_message_and_keeps_the_rest(finished: Finished, tmp_path: Path) -> None:
    workspace = copy_of(finished, tmp_path)
    ended = run_factory(
        *("run", finished.recipe, "--workspace", workspace, "--until", "train"),
        *("--set", "train.learning_rate=1.0e+30", "--set", "teachers.select=first"),
        cwd=tmp_path,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert re.search(r"factory: .*loss.*learning_rate", ended.stderr)
    assert "nothing to do" in call_factory("run", finished.recipe, "--workspace", workspace, "--quiet").out
    assert results(workspace) == results(finished.workspace)


# Looking at a workspace


def test_status_and_ls_tell_what_is_there(finished: Finished) -> None:
    status = call_factory("status", "--workspace", finished.workspace)
    assert status.code == 0
    assert "nothing is running" in status.out
    assert "tiny: 16 stages done, scored" in status.out
    assert re.search(r"^  rollouts +in=60 kept=\d+ [\d.]+s$", status.out, re.MULTILINE)
    assert str(run_dir(finished.workspace) / "report.html") in status.out
    listed = call_factory("ls", "--workspace", finished.workspace)
    assert listed.code == 0
    for name in stage_ids(finished.workspace).values():
        assert re.search(rf"MiB  {name} +used by tiny$", listed.out, re.MULTILINE)
    assert re.search(r"MiB  rollouts\.sqlite$", listed.out, re.MULTILINE)


def test_clean_takes_nothing_that_a_run_uses(finished: Finished, tmp_path: Path) -> None:
    workspace = copy_of(finished, tmp_path)
    other = ("--set", "name=other", "--set", "curate.size=6")
    assert call_factory("run", finished.recipe, "--workspace", workspace, "--until", "curate", *other).code == 0
    ids = set(stage_ids(workspace, "other").values()) | set(stage_ids(workspace).values())
    assert len(ids) == len(STAGES) + 1
    ended = call_factory("clean", "--workspace", workspace, "--yes")
    assert ended.out == "0 unused stages, 0.00 MiB. Completions in rollouts.sqlite are kept.\n"
    own = stage_ids(workspace, "other")["curate"]
    shutil.rmtree(run_dir(workspace, "other"))
    assert f"would delete {own} " in call_factory("clean", "--workspace", workspace).out
    assert f"deleted {own} " in call_factory("clean", "--workspace", workspace, "--yes").out
    assert {path.name for path in (workspace / "store").iterdir()} == set(stage_ids(workspace).values())
    assert "nothing to do" in call_factory("run", finished.recipe, "--workspace", workspace).out


def test_the_report_can_be_written_again(finished: Finished, tmp_path: Path) -> None:
    workspace = copy_of(finished, tmp_path)
    page = run_dir(workspace) / "report.html"
    before = page.read_bytes()
    page.unlink()
    ended = call_factory("report", NAME, "--workspace", workspace)
    assert (ended.code, ended.out) == (0, f"report: {page}\n")
    assert page.read_bytes() == before
