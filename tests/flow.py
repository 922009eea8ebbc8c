"""A whole factory run in small: a recipe of seconds on the shipped models, ways to start it, and ways to look at it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "recipes" / "quickstart" / "models"
NAME = "tiny"
LONG_S = 180.0
"""Far beyond what anything here takes, even on a loaded machine."""

RECIPE: dict[str, Any] = {
    "name": NAME,
    "description": "Arithmetic of one and two steps, for tests.",
    "seed": 3,
    "problems": {"kind": "arithmetic", "num": 36, "seed": 5, "min_steps": 1, "max_steps": 2, "story_share": 0.2},
    "teachers": {
        "select": "smoke",
        "smoke": {"num_problems": 12, "num_questions": 10, "train_tokens": 800, "eval_samples": 1},
        "candidates": [
            {"name": name, "engine": {"kind": "transformers", "model": f"models/{name}", "batch_size": 16}}
            for name in ("terse", "steady")
        ],
    },
    "rollouts": {"num_samples": 2, "temperature": 0.8, "max_tokens": 96},
    "difficulty": {"num_samples": 2, "temperature": 0.8, "max_tokens": 64},
    "curate": {
        "size": 16,
        "max_tokens": 96,
        "selector": {"kind": "ded", "max_pass_rate": 0.75, "traces_per_problem": 2},
    },
    "train": {
        "student": "models/base",
        "methods": ["sft", "kd"],
        "epochs": 1,
        "batch_size": 4,
        "learning_rate": 1.0e-3,
        "kd": {"top_k": 8},
    },
    "eval": {
        "max_tokens": 64,
        "batch_size": 16,
        "intervals": {"num_resamples": 200},
        "benchmarks": [
            {
                "name": "two-steps",
                "num_samples": 1,
                "problems": {"kind": "arithmetic", "split": "heldout", "num": 14, "min_steps": 2, "max_steps": 2},
            },
            {"name": "pool", "num_samples": 2, "problems": {"kind": "pool", "num": 6}},
        ],
    },
}


def tiny_recipe(folder: Path, **changes: Any) -> Path:
    """Write ``folder/tiny.yaml``; ``changes`` are merged into ``RECIPE``, lists and other kinds being replaced.

    The shipped models are reached through a link beside the recipe, so that it holds relative paths only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "models").exists():
        (folder / "models").symlink_to(MODELS)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(_merged(RECIPE, changes), sort_keys=False))
    return path


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    if over.get("kind", base.get("kind")) != base.get("kind"):
        return over
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merged(out[key], value) if both else value
    return out


def _environment(env: dict[str, str] | None) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb", **(env or {})}


def run_factory(
    *args: str | Path, cwd: Path, env: dict[str, str] | None = None, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """The factory command in a process of its own; ``options`` are the interpreter's."""
    return subprocess.run(
        [sys.executable, *options, "-m", "factory", *map(str, args)],
        cwd=cwd,
        env=_environment(env),
        capture_output=True,
        text=True,
        timeout=LONG_S,
    )


@contextmanager
def started(*args: str | Path, cwd: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The factory command running in a process group of its own, its output in ``log``; killed in the end."""
    with open(log, "wb") as handle:
        process = subprocess.Popen(
            [sys.executable, "-m", "factory", *map(str, args)],
            cwd=cwd,
            env=_environment(None),
            stdout=handle,
            stderr=handle,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(claim: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    """Poll until ``claim`` holds; fails when the process ends first."""
    end = time.monotonic() + LONG_S
    while not claim():
        assert process.poll() is None, f"the process ended (code {process.poll()}) before {what}"
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.01)


class Ended(NamedTuple):
    """How a command ended that was called in this process."""

    code: int
    out: str
    err: str


def call_factory(*args: str | Path) -> Ended:
    """The factory command in this process: a twentieth of a second instead of one, for what needs no model."""
    from factory.cli import main

    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with (
        patch.object(sys, "argv", ["factory", *map(str, args)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return Ended(code or 0, out.getvalue(), err.getvalue())


def run_dir(workspace: Path, name: str = NAME) -> Path:
    """What a run shows."""
    return workspace / "runs" / name


def manifest(workspace: Path, name: str = NAME) -> dict[str, Any]:
    """The run's manifest."""
    data: dict[str, Any] = json.loads((run_dir(workspace, name) / "manifest.json").read_text())
    return data


def ledgers(workspace: Path, name: str = NAME) -> dict[str, dict[str, Any]]:
    """Stage key -> ledger, in the order of the flow."""
    return {key: stage["ledger"] for key, stage in manifest(workspace, name)["stages"].items()}


def stage_dir(workspace: Path, key: str, name: str = NAME) -> Path:
    """Folder of a stage of the run."""
    return workspace / str(manifest(workspace, name)["stages"][key]["dir"])


def stage_ids(workspace: Path, name: str = NAME) -> dict[str, str]:
    """Stage key -> name of its folder."""
    return {key: Path(stage["dir"]).name for key, stage in manifest(workspace, name)["stages"].items()}


def events(workspace: Path, name: str = NAME) -> list[tuple[str, str]]:
    """(event, stage) of every whole line so far."""
    path = run_dir(workspace, name) / "events.jsonl"
    if not path.is_file():
        return []
    *whole, _ = path.read_text().split("\n")
    return [(row["event"], row["stage"]) for row in map(json.loads, whole)]


def num_completions(workspace: Path) -> int:
    """Rows of the rollout store."""
    with closing(sqlite3.connect(workspace / "rollouts.sqlite")) as db:
        return int(db.execute("SELECT COUNT(*) FROM completions").fetchone()[0])


def digests(folder: Path, *names: str) -> dict[str, str]:
    """Relative path -> digest of every file below ``folder``, or below those of its entries that are named."""
    tops = [folder / name for name in names] or [folder]
    files = [path for top in tops for path in ([top] if top.is_file() else sorted(top.rglob("*"))) if path.is_file()]
    assert files, f"no files in {folder}"
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def results(workspace: Path) -> dict[str, str]:
    """Digests of what two runs of a recipe must share to the byte: the data set, the students' weights, the scores."""
    folder = run_dir(workspace)
    students = [path.name for path in folder.glob("student*")]
    found = digests(folder, "dataset", "scores.json", *students)
    return {path: digest for path, digest in found.items() if not path.startswith("student") or "safetensors" in path}


def assert_chosen_by_the_rule(table: dict[str, Any]) -> None:
    """The best student's teacher, or the cheapest of those whose students cannot be told from it."""
    rows = table["candidates"]
    best = max(rows, key=lambda row: row["student_score"]["value"])
    assert best["behind_best"] is None
    tied = [row for row in rows if row["behind_best"] is None or row["behind_best"]["high"] >= 0]
    cost = {row["name"]: (row["money_per_accepted"], row["tokens_per_accepted"]) for row in tied}
    assert table["selected"] == min(cost, key=lambda name: cost[name])
    assert table["selected"] in table["reason"]


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own of so many bytes (``512k``); skips where this user may not mount one."""
    folder.mkdir()
    made = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True, text=True, check=False
        )
        if shutil.which("mount")
        else None
    )
    if made is None or made.returncode:
        pytest.skip(f"no small file system can be mounted here: {made.stderr.strip() if made else 'no mount command'}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def make_read_only(disk: Path) -> None:
    """Remount a ``small_disk`` read-only: modes do not stop root, this does."""
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
