"""The rollout store: nothing committed is lost, nothing is paid for twice, a full or read-only disk is told."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from factory.engines.base import Completion, FinishReason, Request, SamplingParams
from factory.errors import WorkspaceError
from factory.rollout_store import RolloutStore

ROOT = Path(__file__).parents[1]


def request(sample: int = 0, max_tokens: int = 100, prompt: str = "1+1=", **params: float) -> Request:
    sampling = SamplingParams(max_tokens=max_tokens, **params)
    return Request((("user", prompt),), prompt, sampling, sample, seed=sample, model="m")


def completion(asked: Request, num_tokens: int = 5, finish: FinishReason = "stop", text: str = "2") -> Completion:
    return Completion(asked, text, finish, 4, num_tokens, 0.5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RolloutStore]:
    with RolloutStore(tmp_path / "rollouts.sqlite") as store:
        yield store


def test_a_completion_comes_back_as_it_was(store: RolloutStore) -> None:
    asked = request(prompt="naïve\x00 \u2028 ½", temperature=0.7)
    stored = completion(asked, text="two\n\x00 ∑")
    store.put([stored])
    assert store.get([asked]) == [stored]


def test_what_was_not_asked_is_missing(store: RolloutStore) -> None:
    store.put([completion(request(0))])
    others = [request(1), request(0, prompt="1+2="), request(0, temperature=0.5), replace(request(0), model="other")]
    assert store.get([request(0), *others]) == [completion(request(0)), None, None, None, None]


def test_a_finished_completion_serves_every_limit_it_fits_into(store: RolloutStore) -> None:
    store.put([completion(request(max_tokens=100), num_tokens=50)])
    for limit in (50, 51, 100, 4000):
        (found,) = store.get([request(max_tokens=limit)])
        assert found is not None and found.request.params.max_tokens == limit


def test_a_finished_completion_longer_than_the_limit_is_asked_again(store: RolloutStore) -> None:
    store.put([completion(request(max_tokens=100), num_tokens=50)])
    assert store.get([request(max_tokens=49)]) == [None]


def test_a_truncated_completion_serves_its_own_limit_only(store: RolloutStore) -> None:
    cut = completion(request(max_tokens=100), num_tokens=100, finish="length")
    store.put([cut])
    assert store.get([request(max_tokens=100), request(max_tokens=101), request(max_tokens=99)]) == [cut, None, None]


def test_both_limits_may_be_asked_for_at_once(store: RolloutStore) -> None:
    cut = completion(request(max_tokens=10), num_tokens=10, finish="length")
    whole = completion(request(max_tokens=50), num_tokens=30)
    store.put([cut, whole])
    assert store.get([cut.request, whole.request, cut.request]) == [cut, whole, cut]


def test_an_error_is_never_stored(store: RolloutStore) -> None:
    store.put([completion(request(0), finish="error"), completion(request(1))])
    assert store.count() == 1
    assert store.get([request(0)]) == [None]


def test_lone_surrogates_of_a_server_do_not_stop_the_run(store: RolloutStore) -> None:
    asked = request()
    store.put([completion(asked, text="a\ud83d b")])
    (found,) = store.get([asked])
    assert found is not None and found.text == "a? b"


def test_more_keys_than_sqlite_takes_in_one_query(store: RolloutStore) -> None:
    rows = [completion(request(i)) for i in range(1203)]
    store.put(rows)
    assert store.get([r.request for r in rows]) == rows
    assert store.get([]) == []


def test_reopening_finds_everything(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.sqlite"
    with RolloutStore(path) as store:
        store.put([completion(request(i)) for i in range(10)])
        store.close()
    with RolloutStore(path) as store:
        assert store.count() == 10


def writer(path: Path, first: int, groups: int) -> subprocess.Popen[str]:
    """A process that puts groups of 20 samples and prints each group's number after it was committed."""
    code = f"""
import sys
from pathlib import Path
from factory.engines.base import Completion, Request, SamplingParams
from factory.rollout_store import RolloutStore
with RolloutStore(Path({str(path)!r})) as store:
    for group in range({groups}):
        rows = []
        for i in range(20):
            sample = {first} + group * 20 + i
            asked = Request((("user", "1+1="),), "1+1=", SamplingParams(max_tokens=100), sample, sample, "m")
            rows.append(Completion(asked, "2" * 2000, "stop", 4, 5, 0.5))
        store.put(rows)
        print(group, flush=True)
"""
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_kill_dash_nine_loses_no_committed_group_and_leaves_no_half_one(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.sqlite"
    for attempt in range(3):
        process = writer(path, first=10**6 * attempt, groups=10**6)
        assert process.stdout is not None
        for _ in range(5 + 7 * attempt):
            committed = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        committed = max([committed, *(int(line) for line in process.stdout.read().split() if line)])
        process.wait()
        with RolloutStore(path) as store:
            first = 10**6 * attempt
            for group in range(committed + 3):
                found = store.get([request(first + group * 20 + i) for i in range(20)])
                num_there = sum(c is not None for c in found)
                assert num_there == 20 if group <= committed else num_there in (0, 20)


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.sqlite"
    processes = [writer(path, first, groups=40) for first in (0, 10**6)]
    assert [p.communicate(timeout=120)[0].split()[-1] for p in processes] == ["39", "39"]
    with RolloutStore(path) as store:
        assert store.count() == 1600


def test_processes_that_open_a_new_store_at_the_same_moment_wait_for_each_other(tmp_path: Path) -> None:
    opener = (
        "import sys, time; from pathlib import Path; from factory.rollout_store import RolloutStore\n"
        "for i in range(100):\n"
        "    time.sleep(max(0.0, float(sys.argv[2]) + 0.02 * i - time.time()))\n"
        "    RolloutStore(Path(sys.argv[1]) / f'{i}.sqlite').close()"
    )
    start = str(time.time() + 1.0)
    command = [sys.executable, "-c", opener, str(tmp_path), start]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [p.communicate(timeout=120)[1] for p in processes] == ["", "", ""]


def test_another_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
        db.execute("CREATE TABLE completions (other TEXT)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(WorkspaceError, match="format 99, this one reads 1.*--workspace"):
        RolloutStore(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_store_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.sqlite"
    path.write_text("this is a text file, long enough to be none of SQLite's" * 20)
    with pytest.raises(WorkspaceError, match="not a database"):
        RolloutStore(path)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="unable to open"):
        RolloutStore(tmp_path / "nowhere" / "rollouts.sqlite")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB (needs root, since that is what mounting needs)."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting a small disk is not possible here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_what_was_stored_stays(small_disk: Path) -> None:
    path = small_disk / "rollouts.sqlite"
    stored = 0
    with RolloutStore(path) as store:
        with pytest.raises(WorkspaceError, match=r"full.*make room"):
            for i in range(10_000):
                store.put([completion(request(i), text="2" * 5000)])
                stored += 1
        assert 0 < stored < 10_000
        assert store.count() == stored
    subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)
    with RolloutStore(path) as store:
        assert store.count() == stored
        store.put([completion(request(-1), text="2" * 5000)])


def test_a_read_only_disk_is_told(small_disk: Path) -> None:
    path = small_disk / "rollouts.sqlite"
    with RolloutStore(path) as store:
        store.put([completion(request())])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(WorkspaceError, match=r"(readonly|unable to open).*fix the rights"):
        RolloutStore(path).put([completion(request(1))])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only files")
def test_a_read_only_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.sqlite"
    with RolloutStore(path) as store:
        store.put([completion(request())])
    path.chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(WorkspaceError, match="fix the rights"):
            RolloutStore(path).put([completion(request(1))])
    finally:
        tmp_path.chmod(0o700)


def test_a_fingerprint_is_known_until_the_file_changes(store: RolloutStore, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"a")
    assert store.known_fingerprint(path) is None
    store.record_fingerprint(path, "digest")
    assert store.known_fingerprint(path) == "digest"
    path.write_bytes(b"b")
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 10**9))
    assert store.known_fingerprint(path) is None


def test_a_fingerprint_does_not_depend_on_the_working_directory(
    store: RolloutStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").write_bytes(b"a")
    monkeypatch.chdir(tmp_path)
    store.record_fingerprint(Path("weights"), "digest")
    assert store.known_fingerprint(tmp_path / "weights") == "digest"
