"""``factory audit`` and ``factory verify --kind judge``: second opinions, by rule and by model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from flow import call_factory
from loopback_server import Call, LoopbackServer, Reply, chat_reply, error_reply


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_audit_finds_a_wrong_reference_and_changes_nothing(tmp_path: Path) -> None:
    rows = [
        {"id": f"p{p}-{s}", "problem_id": f"p{p}", "question": f"{p}+{p}?", "response": rf"\boxed{{{2 * p}}}",
         "gold": "99" if p == 3 else str(2 * p)}
        for p in range(1, 6) for s in range(4)
    ]  # fmt: skip
    source = write_rows(tmp_path / "in.jsonl", rows)
    assert call_factory("verify", source, "--out", tmp_path / "v.jsonl").code == 0
    before = (tmp_path / "v.jsonl").read_bytes()
    refused = call_factory("audit", tmp_path / "v.jsonl", "--second", "none")
    assert refused.code == 1 and "give the file that was verified with --inputs" in refused.err
    ended = call_factory("audit", tmp_path / "v.jsonl", "--inputs", source, "--out", tmp_path / "audit.json")
    assert ended.code == 0, ended.err
    assert "p3: 4 of 4 samples say '6', the reference says '99'" in ended.out
    assert "correct            16 verdicts, 16 sampled, 0 of 16 disagree" in ended.out
    report = json.loads((tmp_path / "audit.json").read_text())
    assert [s["problem_id"] for s in report["suspect_golds"]] == ["p3"]
    assert {r["outcome"]: r["num_rows"] for r in report["rates"]} == {"correct": 16, "incorrect": 4}
    assert (tmp_path / "v.jsonl").read_bytes() == before


def test_an_audit_needs_the_file_that_was_verified(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", [{"id": n, "response": "1", "gold": "1"} for n in range(3)])
    call_factory("verify", source, "--out", tmp_path / "v.jsonl")
    other = write_rows(tmp_path / "other.jsonl", [{"id": 0, "response": "1", "gold": "1"}])
    ended = call_factory("audit", tmp_path / "v.jsonl", "--inputs", other, "--second", "none")
    assert ended.code == 1 and "has no row 2 in its place" in ended.err


def judge(call: Call) -> Reply:
    """Compares what stands in the blocks, as a careful judge would; fails on one question."""
    user = call.prompt
    if "refuse me" in user:
        return error_reply(400, "content refused", code="content_filter")
    block = {
        name: re.search(rf"BEGIN {name} \S+\n(.*?)\nEND {name}", user, re.DOTALL) for name in ("REFERENCE", "RESPONSE")
    }
    reference, response = (str(found[1]).strip() for found in block.values() if found)
    nonce = re.search(r'"nonce": "([^"]+)"', user)
    verdict = "correct" if reference.casefold() in response.casefold() else "incorrect"
    answer = {"nonce": nonce[1] if nonce else "", "answer": response, "verdict": verdict}
    return Reply(chat_reply(f"They were compared.\n{json.dumps(answer)}"))


def test_a_judge_behind_an_endpoint_decides_and_its_failures_are_no_verdicts(tmp_path: Path) -> None:
    rows = [
        {"id": "same", "response": r"\boxed{the Danube}", "gold": "The Danube", "question": "Which river?"},
        {"id": "other", "response": r"\boxed{the Rhine}", "gold": "The Danube", "question": "Which river?"},
        {"id": "failed", "response": r"\boxed{the Rhine}", "gold": "The Danube", "question": "refuse me"},
        {"id": "cut", "response": "<think>the Danube", "gold": "The Danube", "question": "Which river?"},
        {"id": "bad", "response": 3, "gold": "x"},
    ]
    source, out = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    call = ("verify", source, "--kind", "judge", "--out", out)
    assert "name the model with --model" in call_factory(*call).err
    with LoopbackServer(judge) as server:
        ended = call_factory(*call, "--model", "judge-1", "--base-url", server.url)
    assert ended.code == 0, ended.err
    found = {row["id"]: (row["outcome"], row["reason"]) for row in map(json.loads, out.open())}
    assert found == {
        "same": ("correct", "judged_correct"),
        "other": ("incorrect", "judged_incorrect"),
        "failed": ("error", "judge_failed"),
        "cut": ("incorrect", "truncated"),
        "bad": ("error", "bad_row"),
    }
