from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.errors import DataError
from factory.sources.config import FileSource, HubSource
from factory.sources.load import load_problems, source_digest

ROWS = [{"question": f"What is {n} plus {n}?", "answer": str(2 * n)} for n in range(1, 41)]


def jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_without_the_datasets_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"needs the package `datasets`.*distillation-factory\[train\]"):
        load_problems(HubSource(dataset="acme/sums", revision="v1"))


def test_a_file_as_hub_data_set_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "a.jsonl").write_text(jsonl(ROWS))
    source = HubSource(dataset="./a.jsonl", revision="any")
    assert len(load_problems(source, folder=tmp_path).problems) == 40
    assert source_digest(source, tmp_path) == source_digest(FileSource(path="a.jsonl"), tmp_path)


COMMITS = {"v1": "1" * 40, "main": "2" * 40}


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of a hub as the client asks for: one data set, two commits of one file."""

    def log_message(self, *_: Any) -> None:
        pass

    def _send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:  # noqa: N802
        path = urllib.parse.urlparse(self.path).path
        match = re.match(r"(?:/api)?/datasets/acme/sums/(revision|tree|resolve|paths-info)/(\w+)/?(.*)", path)
        if not match:
            return self._send(b"{}", 404, X_Error_Code="RepoNotFound")
        what, revision, rest = match.groups()
        commit = COMMITS.get(revision, revision)
        if commit not in COMMITS.values():
            return self._send(b"{}", 404, X_Error_Code="RevisionNotFound")
        content = jsonl(
            [{"question": f"{n} in {commit[0]}?", "answer": f"sum\n#### {n},000"} for n in range(1, 4)]
        ).encode()
        if what == "resolve" and rest == "test.jsonl":
            return self._send(content, ETag=f'"{commit}"', X_Repo_Commit=commit)
        if rest:
            return self._send(b"{}", 404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        file = {"type": "file", "path": "test.jsonl", "rfilename": "test.jsonl", "size": len(content), "oid": commit}
        answer = {"id": "acme/sums", "sha": commit, "siblings": [file], "tags": []} if what == "revision" else [file]
        return self._send(json.dumps(answer).encode())

    do_HEAD = do_POST = do_GET  # noqa: N815


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def in_process(folder: Path, sources: list[HubSource], **env: str) -> list[Any]:
    """Load in a process of its own, for the hub client reads its settings once; gives first rows, or errors."""
    code = """
import json, sys
from factory.errors import DataError
from factory.sources.config import HubSource
from factory.sources.load import load_problems
for text in sys.argv[1:]:
    try:
        loaded = load_problems(HubSource.model_validate_json(text))
        print(json.dumps([loaded.problems[0].prompt, loaded.problems[0].gold, loaded.problems[0].source]))
    except DataError as error:
        print(json.dumps(str(error)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *(s.model_dump_json() for s in sources)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "HF_HOME": str(folder / "hf"), **env},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def sums(revision: str, split: str = "test") -> HubSource:
    return HubSource(dataset="acme/sums", revision=revision, split=split)


def test_a_hub_data_set_is_read_at_the_pinned_revision(hub: str, tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="needs the train extra")
    absent = HubSource(dataset="acme/none", revision="v1")
    old, unknown, no_split, none, new = in_process(
        tmp_path, [sums("v1"), sums("v9"), sums("v1", "train"), absent, sums("main")], HF_ENDPOINT=hub
    )
    assert old == ["1 in 1?", "1000", "acme/sums@v1/test:1"] and new[0] == "1 in 2?"
    assert "no such revision" in unknown and "no such data set" in none
    assert "Unknown split \"train\". Should be one of ['test']" in no_split
    cached, other = in_process(tmp_path, [sums(COMMITS["main"]), sums(COMMITS["v1"])], HF_HUB_OFFLINE="1")
    assert cached[0] == "1 in 2?"
    assert f"newest copy in the cache is revision {COMMITS['main']}" in other  # `datasets` itself would take it


def test_an_unreachable_hub_is_an_error_at_once(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="needs the train extra")
    started = time.monotonic()
    (message,) = in_process(tmp_path, [sums("v1")], HF_ENDPOINT="http://127.0.0.1:9")
    assert "the hub cannot be reached" in message and "HF_HUB_OFFLINE=1" in message and "kind: file" in message
    assert time.monotonic() - started < 20  # the client's own retries take longer


def test_folders_of_data_sets_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the train extra")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "train.jsonl").write_text(jsonl(ROWS))
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "saved")
    for name in ("plain", "saved"):
        source = HubSource(dataset=name, revision="any")
        loaded = load_problems(source, folder=tmp_path)
        assert [p.gold for p in loaded.problems] == [r["answer"] for r in ROWS]
        assert loaded.problems[2].source == f"{name}/train:3"
        assert source_digest(source, tmp_path).startswith("folder:")
        with pytest.raises(DataError, match="test"):
            load_problems(HubSource(dataset=name, revision="any", split="test"), folder=tmp_path)


def test_a_loading_script_is_never_run(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="needs the train extra")
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(DataError, match="scripts are no longer supported"):
        load_problems(HubSource(dataset="evil", revision="any"), folder=tmp_path)
    assert not (tmp_path / "ran").exists()
