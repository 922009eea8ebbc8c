"""Stage folders appear whole or not at all, one process owns a workspace, and a disk's refusal is a message."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flow import ROOT, kill_group, make_read_only, small_disk, wait_for

from factory.errors import StageError, WorkspaceError
from factory.housekeeping import clean, list_lines, status_lines
from factory.workspace import Artifact, Ledger, Workspace, disk_errors, publish, write_json, write_text

KEY = "curate"


def fill(folder: Path) -> Ledger:
    """A small honest stage."""
    (folder / "part").mkdir()
    (folder / "part" / "rows.txt").write_text("1\n2\n3\n")
    return Ledger(KEY, 3, 2, {"too_long": 1}, {"tokens": 7})


def build(workspace: Workspace, with_: Callable[[Path], Ledger] = fill, **inputs: object) -> Artifact:
    return workspace.build(KEY, workspace.locate(KEY, 1, dict(inputs)), with_)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


HOLDER = """
import sys, time
from pathlib import Path
from factory.workspace import Ledger, Workspace
def fill(folder):
    (folder / "half.txt").write_text("half")
    print("filling", flush=True)
    time.sleep(600)
with Workspace(Path(sys.argv[1])) as workspace:
    if sys.argv[2:]:
        workspace.build("curate", workspace.locate("curate", 1, {}), fill)
    print("open", flush=True)
    time.sleep(600)
"""


@contextmanager
def another_process(root: Path, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the workspace open; with ``fill``, it is amid a stage."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root), *args], stdout=subprocess.PIPE, env=env, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() in (b"open\n", b"filling\n")
        yield process
    finally:
        kill_group(process)
        assert process.stdout is not None
        process.stdout.close()


def test_a_built_stage_is_found_again_with_its_ledger(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        path = workspace.locate(KEY, 1, {})
        assert workspace.finished(KEY, path) is None
        built = build(workspace)
        found = workspace.finished(KEY, path)
    assert built == found
    assert found is not None
    assert (found.ledger.rows_in, found.ledger.kept, found.ledger.drops) == (3, 2, {"too_long": 1})
    assert left_in(path) == ["DONE", "ledger.json", "part"]
    assert json.loads((path / "ledger.json").read_text())["notes"] == {"tokens": 7}


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3)], ids=lambda e: type(e).__name__)
def test_a_stage_that_raises_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def failing(folder: Path) -> Ledger:
        fill(folder)
        raise error

    with Workspace(tmp_path) as workspace:
        with pytest.raises(type(error)):
            build(workspace, failing)
        assert left_in(workspace.store) == []
        assert build(workspace).path.is_dir()


def test_a_stage_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        path = workspace.locate(KEY, 1, {})
        seen = []

        def watching(folder: Path) -> Ledger:
            ledger = fill(folder)
            seen.append((folder.name, path.exists(), workspace.finished(KEY, path)))
            return ledger

        build(workspace, watching)
    assert seen == [(f".partial-{path.name}", False, None)]


def test_a_killed_stage_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    with another_process(tmp_path, "fill") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    [partial] = left_in(tmp_path / "store")
    assert partial.startswith(".partial-")
    with Workspace(tmp_path) as workspace:
        assert left_in(workspace.store) == []  # what the killed run left is cleared away
        assert workspace.finished(KEY, workspace.locate(KEY, 1, {})) is None
        assert left_in(build(workspace).path) == ["DONE", "ledger.json", "part"]


def test_a_folder_without_its_mark_is_built_anew(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        path = build(workspace).path
        (path / "DONE").unlink()
        (path / "stray.txt").write_text("x")
        assert workspace.finished(KEY, path) is None
        build(workspace)
    assert left_in(path) == ["DONE", "ledger.json", "part"]


@pytest.mark.parametrize(
    ("rows_in", "kept", "drops"), [(3, 2, {}), (3, 3, {"x": 1}), (2, 1, {"x": 2}), (0, 1, {})], ids=str
)
def test_a_ledger_that_does_not_add_up_is_refused(
    tmp_path: Path, rows_in: int, kept: int, drops: dict[str, int]
) -> None:
    with Workspace(tmp_path) as workspace:
        with pytest.raises(StageError, match=r"curate: the ledger does not add up"):
            build(workspace, lambda folder: Ledger(KEY, rows_in, kept, drops))
        assert left_in(workspace.store) == []


def test_a_second_process_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    with another_process(tmp_path) as process:
        with pytest.raises(WorkspaceError, match=rf"process {process.pid}\b.*--workspace"), Workspace(tmp_path):
            pass
        assert f"process {process.pid} is running here" in next(status_lines(tmp_path))
        with pytest.raises(WorkspaceError, match=f"process {process.pid}"):
            list(clean(tmp_path, delete=True))
        process.send_signal(signal.SIGKILL)
        process.wait()
        with Workspace(tmp_path):  # a killed process holds no lock
            pass
    assert "nothing is running" in next(status_lines(tmp_path))


def test_the_refused_process_disturbs_nothing(tmp_path: Path) -> None:
    with another_process(tmp_path, "fill") as process:
        for _ in range(2):
            with pytest.raises(WorkspaceError, match=f"process {process.pid}"), Workspace(tmp_path):
                pass
        [partial] = (tmp_path / "store").iterdir()
        assert left_in(partial) == ["half.txt"]


def test_a_process_may_open_it_again_after_itself(tmp_path: Path) -> None:
    for _ in range(2):
        with Workspace(tmp_path) as workspace:
            assert (workspace.root / "lock").read_text() == f"{os.getpid()}\n"


def test_a_full_disk_is_a_message_and_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "256k") as disk, Workspace(disk) as workspace:
        kept = build(workspace, number=1)

        def large(folder: Path) -> Ledger:
            (folder / "rows.bin").write_bytes(b"x" * 2**20)
            return Ledger(KEY, 0, 0)

        with pytest.raises(WorkspaceError, match=r"no space left on the disk.*make room.*run again"):
            build(workspace, large, number=2)
        assert left_in(workspace.store) == [kept.path.name]
        assert workspace.finished(KEY, kept.path) == kept
        assert build(workspace, number=2).ledger.kept == 2  # room enough for this one


def test_a_disk_that_fills_up_while_the_stage_is_sealed_is_the_same(tmp_path: Path) -> None:
    """Without a mount: /dev/full answers every write as a full disk does."""

    def sealed(folder: Path) -> Ledger:
        (folder / ".ledger.json.partial").symlink_to("/dev/full")
        return Ledger(KEY, 0, 0)

    with Workspace(tmp_path) as workspace:
        with pytest.raises(WorkspaceError, match="no space left on the disk"):
            build(workspace, sealed)
        assert left_in(workspace.store) == []


def test_a_full_disk_keeps_what_was_published(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "256k") as disk:
        for name, size in (("old", 20_000), ("new", 300_000)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "rows.bin").write_bytes(name.encode() + b"\0" * size)
        publish(tmp_path / "old", disk / "dataset")
        with pytest.raises(WorkspaceError, match="no space left"), disk_errors(disk):
            publish(tmp_path / "new", disk / "dataset")
        assert (disk / "dataset" / "rows.bin").read_bytes().startswith(b"old")
        write_text(disk / "scores.json", "old")
        with pytest.raises(WorkspaceError, match="no space left"), disk_errors(disk):
            write_text(disk / "scores.json", "n" * 300_000)
        assert (disk / "scores.json").read_text() == "old"


def test_a_read_only_workspace_is_a_message(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "256k") as disk:
        make_read_only(disk)
        with pytest.raises(WorkspaceError, match=r"cannot be used .*--workspace"), Workspace(disk / "ws"):
            pass


def test_a_file_in_the_workspace_s_place_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(WorkspaceError, match=r"file.*cannot be used .*--workspace"), Workspace(root):
            pass
    assert (tmp_path / "file").read_text() == "x"


def test_other_errors_of_the_system_pass_unchanged() -> None:
    with pytest.raises(FileNotFoundError), disk_errors(Path("x")):
        Path("no such file").read_text()


def test_a_stage_s_address_depends_on_all_its_inputs_and_on_nothing_else(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    inputs = {"a": 1, "b": {"x": [1, 2], "y": None}, "c": "text"}
    swapped = {"c": "text", "b": {"y": None, "x": [1, 2]}, "a": 1}
    base = workspace.locate(KEY, 1, inputs)
    assert workspace.locate(KEY, 1, swapped) == base
    others = [
        workspace.locate(KEY, 2, inputs),
        workspace.locate("rollouts", 1, inputs),
        workspace.locate(KEY, 1, inputs | {"a": 2}),
        workspace.locate(KEY, 1, inputs | {"a": "1"}),
        workspace.locate(KEY, 1, inputs | {"a": None}),
        workspace.locate(KEY, 1, inputs | {"d": None}),
        workspace.locate(KEY, 1, inputs | {"b": {"x": [2, 1], "y": None}}),
        workspace.locate(KEY, 1, {}),
    ]
    assert len({path.name.split("-")[-1] for path in [base, *others]}) == 1 + len(others)
    assert Workspace(tmp_path / "elsewhere").locate(KEY, 1, inputs).name == base.name
    assert workspace.locate("train/kd", 1, {}).name.startswith("train-kd-")


def test_publish_replaces_folders_and_files_whole(tmp_path: Path) -> None:
    old, new, shown = tmp_path / "old", tmp_path / "new", tmp_path / "shown"
    for source, files in ((old, ("a", "b")), (new, ("b", "c"))):
        source.mkdir()
        for name in files:
            (source / name).write_text(f"{source.name} {name}")
    shown.mkdir()
    publish(old, shown / "dataset")
    publish(new, shown / "dataset")
    assert left_in(shown) == ["dataset"]
    assert {p.name: p.read_text() for p in (shown / "dataset").iterdir()} == {"b": "new b", "c": "new c"}
    publish(new / "b", shown / "scores.json")
    publish(new / "c", shown / "scores.json")
    assert (shown / "scores.json").read_text() == "new c"
    assert left_in(shown) == ["dataset", "scores.json"]
    (shown / "scores.json").write_text("edited by hand")
    assert (new / "c").read_text() == "new c"  # what is shown is a copy


def test_a_reader_never_misses_a_published_file_nor_sees_a_part_of_it(tmp_path: Path) -> None:
    texts = {name: name * 50_000 for name in "ab"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    target = tmp_path / "scores.json"
    publish(tmp_path / "a", target)
    seen: Counter[str] = Counter()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                text = target.read_text()
            except FileNotFoundError:
                seen["missing"] += 1
            else:
                seen["whole" if text in texts.values() else f"{len(text)} characters"] += 1

    reader = threading.Thread(target=read)
    reader.start()
    turn = 0
    while seen.total() < 2000:
        turn += 1
        publish(tmp_path / "ab"[turn % 2], target)
    stop.set()
    reader.join()
    assert set(seen) == {"whole"}, seen


PUBLISHER = """
import itertools, sys
from pathlib import Path
from factory.workspace import publish
root = Path(sys.argv[1])
for turn in itertools.count():
    publish(root / "ab"[turn % 2], root / "dataset")
"""


def test_a_killed_publish_never_shows_a_mixture_and_the_next_one_repairs_it(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(20):
            (tmp_path / name / f"{number}.txt").write_text(name)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for turn in range(6):
        process = subprocess.Popen([sys.executable, "-c", PUBLISHER, str(tmp_path)], env=env, start_new_session=True)
        try:
            wait_for((tmp_path / "dataset").exists, process, "the first folder was shown")
            time.sleep(0.003 * turn)
        finally:
            kill_group(process)
        if (tmp_path / "dataset").exists():
            texts = [path.read_text() for path in (tmp_path / "dataset").iterdir()]
            assert len(texts) == 20
            assert len(set(texts)) == 1
        publish(tmp_path / "a", tmp_path / "dataset")
        assert left_in(tmp_path) == ["a", "b", "dataset"]
        assert {path.read_text() for path in (tmp_path / "dataset").iterdir()} == {"a"}


def test_clean_takes_what_no_run_uses_and_only_when_told(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        used, unused = build(workspace, number=1), build(workspace, number=2)
        (workspace.root / "runs" / "r").mkdir()
        stage = {"dir": f"store/{used.path.name}", "ledger": {"rows_in": 3, "kept": 2, "seconds": 0.1}}
        write_json(workspace.root / "runs" / "r" / "manifest.json", {"stages": {KEY: stage}})
    listed = list(list_lines(tmp_path))
    assert any(used.path.name in line and line.endswith("used by r") for line in listed)
    assert any(unused.path.name in line and line.endswith("used by no run") for line in listed)
    first, last = list(clean(tmp_path, delete=False))
    assert first.startswith(f"would delete {unused.path.name}")
    assert "1 unused" in last
    assert "--yes" in last
    assert unused.path.is_dir()
    assert list(clean(tmp_path, delete=True))[0].startswith(f"deleted {unused.path.name}")
    assert left_in(tmp_path / "store") == [used.path.name]


def test_clean_deletes_nothing_while_a_manifest_cannot_be_read(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        build(workspace)
        (workspace.root / "runs" / "r").mkdir()
        (workspace.root / "runs" / "r" / "manifest.json").write_text('{"stages": ')
    with pytest.raises(WorkspaceError, match=r"manifest\.json: not readable as JSON.*run it again"):
        list(clean(tmp_path, delete=True))
    assert len(left_in(tmp_path / "store")) == 1


def test_a_folder_that_is_no_workspace_is_a_message_and_stays_as_it_is(tmp_path: Path) -> None:
    for look in (status_lines, list_lines, lambda root: clean(root, delete=True)):
        with pytest.raises(WorkspaceError, match="no workspace there"):
            list(look(tmp_path))
    assert left_in(tmp_path) == []
