"""Adaptive sampling in a run: a server as teacher, real verdicts, a ledger that adds up, and nothing paid twice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from flow import digests, ledgers, run_dir, run_factory, stage_dir, tiny_recipe
from loopback_server import Call, LoopbackServer, Reply, chat_reply, error_reply

from factory.errors import RecipeError
from factory.recipe_io import load_recipe
from factory.sampling_config import DifficultyConfig, RolloutsConfig
from factory.waves import cycled


def numbers(call: Call) -> list[int]:
    return [int(n) for n in re.findall(r"[+-]?\d+", call.prompt)]


def teacher(call: Call) -> Reply:
    """Sums up to 45 are always right, greater ones never; every third seed in equal words, odd first terms long."""
    terms, seed = numbers(call), call.body["seed"]
    total, way = sum(terms), "again" if seed % 3 == 0 else " ".join(str(seed + i) for i in range(8))
    answer = total if total <= 45 else total + 1
    return Reply(
        chat_reply(f"<think>{way}</think>\\boxed{{{answer}}}", num_prompt_tokens=9, num_tokens=20 + terms[0] % 2 * 50),
        delay_s=seed % 7 / 500,
    )


def recipe_for(folder: Path, url: str, **rollouts: Any) -> Path:
    engine = {"kind": "openai", "model": "adder", "base_url": url, "max_in_flight": 16, "max_retries": 0}
    sums = [{"question": f"{a}+{b}", "answer": a + b} for a in range(10, 40, 3) for b in (7, 28)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    return tiny_recipe(
        folder,
        problems={"kind": "file", "path": "sums.jsonl"},
        teachers={"select": "first", "candidates": [{"name": "adder", "engine": engine}]},
        rollouts={"num_samples": 12, **rollouts},
        train={"methods": ["sft"]},
    )


def asked(workspace: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(stage_dir(workspace, "rollouts") / "traces.parquet").to_pylist()
    return rows


ADAPTIVE = {"wanted": 3, "min_distance": 0.3, "temperatures": [0.6, 0.8, 1.0]}
UNTIL = ("--workspace", "ws", "--until", "rollouts")


def test_problems_stop_when_they_have_enough_or_hardly_can_and_the_ledger_says_why(tmp_path: Path) -> None:
    with LoopbackServer(teacher) as server:
        recipe = recipe_for(tmp_path, server.url, adaptive=ADAPTIVE)
        done = run_factory("run", recipe, *UNTIL, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        num_calls = len(server.calls)
    ledger = ledgers(tmp_path / "ws")["rollouts"]
    notes = ledger["notes"]["adaptive"]
    assert ledger["rows_in"] == ledger["kept"] + sum(ledger["drops"].values()) == notes["asked"] == num_calls
    assert notes["asked"] + notes["saved"] == notes["fixed"] == 12 * notes["problems"]
    assert sum(notes["stopped"].values()) == notes["problems"] and sum(notes["waves"]) == num_calls
    assert notes["saved"] > notes["fixed"] / 3
    rows = asked(tmp_path / "ws")
    by_problem: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_problem.setdefault(row["problem_id"], []).append(row)
    for group in by_problem.values():
        assert [row["sample"] for row in group] == list(range(len(group)))
        temperatures = [json.loads(row["sampling"])["temperature"] for row in group]
        assert temperatures == [(0.6, 0.8, 1.0)[i % 3] for i in range(len(group))]
        distinct = {row["response"] for row in group}
        right = {row["outcome"] for row in group} == {"correct"}
        assert len(distinct) >= 3 if right else len(group) < 12  # equal words are no second trace
    assert notes["stopped"]["enough"] == sum(len({r["outcome"] for r in g} & {"correct"}) for g in by_problem.values())


def test_a_run_that_lost_its_server_goes_on_to_the_same_bytes_without_asking_again(tmp_path: Path) -> None:
    def dying(call: Call) -> Reply:
        return error_reply(401, "no") if call.index >= limit else teacher(call)

    made, answered = {}, {}
    limit = 10**6
    with LoopbackServer(dying) as server:
        for name, limits in (("calm", [10**6]), ("cut", [20, 25, 10**6])):
            folder = tmp_path / name
            folder.mkdir()
            recipe = recipe_for(folder, server.url, adaptive={**ADAPTIVE, "max_tokens_total": 4000})
            before = len(server.calls)
            good = 0
            for more in limits:
                limit = min(len(server.calls) + more, 10**6)
                start = len(server.calls)
                done = run_factory("run", recipe, *UNTIL, cwd=folder)
                good += min(len(server.calls), limit) - start
                assert (done.returncode == 0) is (more == 10**6), done.stderr
            answered[name] = good
            made[name] = digests(stage_dir(folder / "ws", "rollouts"), "traces.parquet")
            assert len(server.calls) > before
    assert made["calm"] == made["cut"]
    # What the server had answered when it refused another is lost only where the reply was still on its way.
    assert answered["calm"] <= answered["cut"] <= answered["calm"] + 2 * 16


def test_samples_without_a_verdict_count_neither_way_and_end(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from verifiers import Outcome, TextVerifier, Verdict\n"
        "class Check(TextVerifier):\n"
        "    name, version, REASONS = 'own', 1, ('fine', 'bad', 'unknown')\n"
        "    def verify(self, task):\n"
        "        if '19+' in task.question and 'think' in task.response:\n"
        "            return Verdict(Outcome.UNVERIFIABLE, 'unknown')\n"
        "        good = '{' + task.gold + '}' in task.response\n"
        "        return Verdict(Outcome.CORRECT if good else Outcome.INCORRECT, 'fine' if good else 'bad')\n"
    )
    with LoopbackServer(teacher) as server:
        recipe = recipe_for(tmp_path, server.url, adaptive=ADAPTIVE)
        own = "verify={kind: plugin, check: './own.py:Check', num_workers: 1}"
        done = run_factory("run", recipe, *UNTIL, "--set", own, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ledger = ledgers(tmp_path / "ws")["rollouts"]
    lost = [row for row in asked(tmp_path / "ws") if "19+" in row["prompt"]]
    assert {row["outcome"] for row in lost} == {"unverifiable"} and 4 <= len(lost) <= 6
    assert ledger["notes"]["adaptive"]["stopped"]["undecided"] == 1
    assert ledger["drops"]["unverifiable"] == len(lost)


def test_variants_are_put_to_the_teacher_and_the_student_learns_its_own_prompt(tmp_path: Path) -> None:
    variants = ["Add up. {problem}", "{problem}"]
    with LoopbackServer(teacher) as server:
        recipe = recipe_for(tmp_path, server.url, adaptive={"wanted": 2, "prompt_variants": variants})
        done = run_factory("run", recipe, *UNTIL, cwd=tmp_path)
        prompts = {call.prompt.partition(" ")[0] for call in server.calls if call.prompt.startswith("Add")}
    assert done.returncode == 0, done.stderr
    assert prompts == {"Add"}
    rows = asked(tmp_path / "ws")
    assert not any("Add up" in row["prompt"] for row in rows)
    told = [json.loads(row["sampling"]).get("asked", "") for row in rows]
    assert {row["sample"] % 2 for row, text in zip(rows, told, strict=True) if text.startswith("Add up. ")} == {0}


def test_a_whole_run_with_both_sections_adaptive_reaches_its_report(tmp_path: Path) -> None:
    with LoopbackServer(teacher) as server:
        recipe = recipe_for(tmp_path, server.url, adaptive=ADAPTIVE)
        settings = ["difficulty.num_samples=6", "difficulty.adaptive.first_wave=1", "difficulty.adaptive.prior=[0.2,1]"]
        options = [word for setting in settings for word in ("--set", setting)]
        done = run_factory("run", recipe, "--workspace", "ws", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    workspace = tmp_path / "ws"
    rates = pq.read_table(stage_dir(workspace, "difficulty") / "pass_rates.parquet").to_pylist()
    notes = ledgers(workspace)["difficulty"]["notes"]
    assert sum(notes["adaptive"]["stopped"].values()) == len(rates)
    assert notes["asked"] == sum(notes["adaptive"]["waves"]) < 6 * len(rates)
    assert all(row["mean"] == pytest.approx((row["k"] + 1) / (row["n"] + 2)) for row in rates)
    page = (run_dir(workspace) / "report.html").read_text()
    assert "up to 12 per problem, until 3 are right" in page and "temperatures 0.6, 0.8, 1 in turn" in page
    assert "does not add up" not in page
    for who, stage in (("The teacher", "rollouts"), ("The student", "difficulty")):
        told = ledgers(workspace)[stage]["notes"]["adaptive"]
        assert f"{who} was asked {told['asked']} times in {len(told['waves'])} waves" in page


def test_without_the_section_nothing_of_it_is_written_or_hashed(tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe(tmp_path)).recipe
    assert recipe.rollouts.model_dump(mode="json") == {
        "num_samples": 2, "temperature": 0.8, "top_p": 1.0, "max_tokens": 96,
    }  # fmt: skip
    assert "adaptive" not in json.dumps(recipe.model_dump(mode="json"))
    assert RolloutsConfig.model_validate({"adaptive": {"wanted": 1}}).model_dump()["adaptive"]["wanted"] == 1


@pytest.mark.parametrize(
    ("section", "adaptive", "said"),
    [
        ("rollouts", {"wanted": 3}, "adaptive.wanted (3) must not exceed num_samples (2)"),
        ("rollouts", {"wanted": 9, "max_samples": 8}, "must not exceed adaptive.max_samples (8)"),
        ("rollouts", {"wanted": 1, "temperatures": []}, "rollouts.adaptive.temperatures: got"),
        ("rollouts", {"wanted": 1, "temperatures": [3]}, "rollouts.adaptive.temperatures.0: got"),
        ("rollouts", {"wanted": 2, "temperatures": [0]}, "cannot differ at temperature 0"),
        ("rollouts", {"wanted": 1, "prompt_variants": ["Hi"]}, "'Hi' must contain {problem}"),
        ("rollouts", {"wanted": 1, "first_wave": 5}, "first_wave (5) must not exceed num_samples (2)"),
        ("rollouts", {"wanted": 1, "max_tokens_total": 5}, "does not pay for one completion"),
        ("rollouts", {"wanted": 1, "confidence": 0.9}, "unknown key"),
        ("difficulty", {"edges": [0.5, 0.25]}, "each must be above the one before"),
        ("difficulty", {"prior": [0, 1]}, "prior: got [0.0, 1.0]"),
        ("difficulty", {"wanted": 2}, "unknown key"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_the_reason(
    tmp_path: Path, section: str, adaptive: dict[str, Any], said: str
) -> None:
    recipe = tiny_recipe(tmp_path, **{section: {"adaptive": adaptive}})
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    assert said in str(caught.value)


@pytest.mark.parametrize(("num_temperatures", "num_templates"), [(1, 1), (3, 1), (1, 4), (3, 2), (3, 3), (4, 6)])
def test_temperatures_and_templates_meet_in_every_pair(num_temperatures: int, num_templates: int) -> None:
    size = num_temperatures * num_templates
    pairs = [cycled(sample, num_temperatures, num_templates) for sample in range(2 * size)]
    assert len(set(pairs[:size])) == size and pairs[:size] == pairs[size:]
    assert all(pair[0] == i % num_temperatures for i, pair in enumerate(pairs))


def test_the_student_is_measured_under_its_own_prompt_only() -> None:
    fields = set(DifficultyConfig.model_fields["adaptive"].annotation.__args__[0].model_fields)  # type: ignore[union-attr]
    assert not fields & {"temperatures", "prompt_variants"}


def test_a_problem_whose_imported_traces_have_run_out_is_asked_no_more(tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path, "http://127.0.0.1:9/v1", adaptive={"wanted": 8, "min_chance": 0, "first_wave": 2})
    rows = [
        {"prompt": f"{a}+{b}", "response": f"<think>{i}</think>\\boxed{{{a + b}}}"}
        for a in range(10, 40, 3)
        for b in (7, 28)
        for i in range(3)
    ]
    (tmp_path / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = "teachers.candidates=[{name: old, engine: {kind: imported, path: traces.jsonl}}]"
    done = run_factory("run", recipe, *UNTIL, "--set", given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    notes = ledgers(tmp_path / "ws")["rollouts"]["notes"]["adaptive"]
    assert notes["stopped"] == {"refused": notes["problems"]}
    assert 4 * notes["problems"] <= notes["asked"] <= 6 * notes["problems"]
    variants = ("--set", "rollouts.adaptive.prompt_variants=['{problem}', 'Now: {problem}']")
    done = run_factory("run", recipe, *UNTIL, "--set", given, *variants, cwd=tmp_path)
    assert done.returncode != 0 and "prompt_variants" in done.stderr and "imported" in done.stderr
