"""Look at a workspace and tidy it: status, ls, clean."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory.errors import WorkspaceError
from factory.workspace import DONE, Workspace


def _runs(root: Path) -> dict[str, dict[str, Any]]:
    """Run name -> manifest. A run whose manifest cannot be read must not lose its stages, so it is an error."""
    runs = {}
    for path in sorted((root / "runs").glob("*/manifest.json")):
        try:
            runs[path.parent.name] = json.loads(path.read_text())
        except ValueError as error:
            raise WorkspaceError(
                f"{path}: not readable as JSON ({error}); delete that run's folder, or run it again"
            ) from error
    return runs


def _require(root: Path) -> None:
    if not (root / "store").is_dir():
        raise WorkspaceError(
            f"{root}: no workspace there; give one with --workspace, or make one with `factory run RECIPE`"
        )


def status_lines(root: Path) -> Iterator[str]:
    """One block per run."""
    _require(root)
    holder = _lock_holder(root)
    yield f"{root}: process {holder} is running here" if holder else f"{root}: nothing is running"
    for name, manifest in _runs(root).items():
        stages = manifest.get("stages", {})
        yield f"{name}: {len(stages)} stages done" + (", scored" if "scores" in stages else f", last {_last(stages)}")
        for key, stage in stages.items():
            ledger = stage["ledger"]
            yield f"  {key:<18} in={ledger['rows_in']} kept={ledger['kept']} {ledger['seconds']:.1f}s"
        report = root / "runs" / name / "report.html"
        if report.is_file():
            yield f"  report: {report}"


def _last(stages: dict[str, Any]) -> str:
    return next(reversed(stages), "none")


def _lock_holder(root: Path) -> str | None:
    """Process that holds the lock, found without taking it for longer than a moment."""
    try:
        handle = os.open(root / "lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.read(handle, 100).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(handle)
    return None


def list_lines(root: Path) -> Iterator[str]:
    """Every stage folder with its size and users."""
    _require(root)
    users = _users(root)
    total = 0
    for folder in sorted((root / "store").iterdir()):
        size = _size(folder)
        total += size
        used = ", ".join(users.get(folder.name, [])) or "no run"
        yield f"{size / 2**20:9.2f} MiB  {folder.name:<36} used by {used}"
    rollouts = root / "rollouts.sqlite"
    if rollouts.is_file():
        yield f"{rollouts.stat().st_size / 2**20:9.2f} MiB  rollouts.sqlite"
    yield f"{total / 2**20:9.2f} MiB  in all stages"


def _users(root: Path) -> dict[str, list[str]]:
    users: dict[str, list[str]] = {}
    for name, manifest in _runs(root).items():
        folders = [stage["dir"] for stage in manifest.get("stages", {}).values()]
        for folder in [*folders, *manifest.get("superseded", [])]:
            users.setdefault(Path(folder).name, []).append(name)
    return users


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def clean(root: Path, *, delete: bool) -> Iterator[str]:
    """Stage folders that no run's manifest names; with ``delete`` they go."""
    _require(root)
    with Workspace(root):  # the lock: a running process may be about to use what no manifest names yet
        users = _users(root)
        unused = [p for p in sorted((root / "store").iterdir()) if p.name not in users and (p / DONE).is_file()]
        freed = 0
        for folder in unused:
            size = _size(folder)
            freed += size
            yield f"{'deleted' if delete else 'would delete'} {folder.name} ({size / 2**20:.2f} MiB)"
            if delete:
                (folder / DONE).unlink()  # first, so that a killed clean leaves nothing that looks finished
                shutil.rmtree(folder)
    hint = "" if delete or not unused else "; add --yes to delete"
    yield f"{len(unused)} unused stages, {freed / 2**20:.2f} MiB{hint}. Completions in rollouts.sqlite are kept."
