"""Processes that must not outlive the one that started them, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_vllm import is_running

from factory.engines.guarded import GuardedProcess

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")

FAMILY = """
import os, subprocess, sys, time
below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), below.pid, flush=True)
time.sleep(600)
"""
WATCHED = f"""
import subprocess, sys, time
sys.path.insert(0, {str(ROOT)!r})
from factory.engines.guarded import Watch
if __name__ == "__main__":
    def start():
        return subprocess.Popen([sys.executable, "-c", {FAMILY!r}], start_new_session=True, stdout=subprocess.PIPE)
    first = start().stdout.readline().split()
    watch = Watch()
    second = start().stdout.readline().split()
    watch.collected()
    time.sleep(0.5)
    third = start().stdout.readline().split()
    if sys.argv[1] != "killed":
        watch.stop(kill=sys.argv[1] == "stopped and killed")
    print(*(int(pid) for pid in first + second + third), flush=True)
    time.sleep(600)
"""


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    give_up = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < give_up:
        time.sleep(0.05)
    return not any(map(is_running, pids))


def family(log: Path) -> list[int]:
    give_up = time.monotonic() + 20
    while len(log.read_text().split()) < 2 and time.monotonic() < give_up:
        time.sleep(0.05)
    return [int(pid) for pid in log.read_text().split()]


def test_stop_ends_the_whole_family(tmp_path: Path) -> None:
    process = GuardedProcess([sys.executable, "-c", FAMILY], tmp_path / "log")
    pids = family(tmp_path / "log")
    assert process.status() is None and all(map(is_running, pids))
    process.stop(grace_s=5)
    process.stop()
    assert process.status() == -signal.SIGTERM
    assert gone([*pids, process.pid])


def test_a_command_that_does_not_want_to_end_is_killed(tmp_path: Path) -> None:
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{FAMILY}"
    process = GuardedProcess([sys.executable, "-c", stubborn], tmp_path / "log")
    pids = family(tmp_path / "log")
    process.stop(grace_s=0.3)
    assert process.status() is not None and gone([*pids, process.pid])


def test_children_of_a_command_that_died_die_and_its_status_is_known(tmp_path: Path) -> None:
    process = GuardedProcess([sys.executable, "-c", FAMILY], tmp_path / "log")
    pids = family(tmp_path / "log")
    os.kill(pids[0], signal.SIGKILL)
    assert gone(pids)
    give_up = time.monotonic() + 5
    while process.status() is None and time.monotonic() < give_up:
        time.sleep(0.05)
    assert process.status() == -signal.SIGKILL


def test_a_killed_guard_takes_the_family_along(tmp_path: Path) -> None:
    process = GuardedProcess([sys.executable, "-c", FAMILY], tmp_path / "log")
    pids = family(tmp_path / "log")
    os.kill(process.pid, signal.SIGKILL)
    give_up = time.monotonic() + 5
    while process.status() is None and time.monotonic() < give_up:
        time.sleep(0.05)
    assert process.status() is not None and gone(pids)


SHARED = """
import os, time
from multiprocessing.shared_memory import SharedMemory
block = SharedMemory(create=True, size=1000)
print(os.getpid(), block.name, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_shared_memory_of_a_killed_command_is_removed(tmp_path: Path, how: str) -> None:
    process = GuardedProcess([sys.executable, "-c", SHARED], tmp_path / "log")
    give_up = time.monotonic() + 20
    while len((tmp_path / "log").read_text().split()) < 2 and time.monotonic() < give_up:
        time.sleep(0.05)
    pid, name = (tmp_path / "log").read_text().split()
    block = Path("/dev/shm") / name
    assert block.exists()
    if how == "killed":
        os.kill(int(pid), signal.SIGKILL)
    process.stop()
    while block.exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not block.exists()


def test_a_command_that_is_none_is_said_in_the_log(tmp_path: Path) -> None:
    process = GuardedProcess([str(tmp_path / "nothing")], tmp_path / "log")
    give_up = time.monotonic() + 10
    while process.status() is None and time.monotonic() < give_up:
        time.sleep(0.05)
    assert process.status() == 127 and "No such file" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("how", ["killed", "stopped", "stopped and killed"])
def test_a_watch_ends_what_began_while_it_was_collecting(tmp_path: Path, how: str) -> None:
    victim = subprocess.Popen([sys.executable, "-c", WATCHED, how], stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    first, _, second, below, third, _ = pids = [int(pid) for pid in victim.stdout.readline().split()]
    try:
        victim.kill()
        victim.wait()
        if "killed" in how:
            assert gone([second, below])
        else:
            time.sleep(1)
            assert is_running(second) and is_running(below)
        assert is_running(first) and is_running(third)
    finally:
        victim.stdout.close()
        for pid in pids:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
