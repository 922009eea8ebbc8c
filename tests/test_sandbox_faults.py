"""What befalls the sandbox itself (killed parts, interrupts, forks, odd descriptors) is no verdict on a program."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_attack import RIGHT, SQUARE, descendants, judge, needs_bubblewrap, output

from verifiers.code import CodeVerifier
from verifiers.config import CodeConfig
from verifiers.verdict import Outcome, Verdict

pytestmark = needs_bubblewrap

SLOW = "import time\ndef f(x):\n    time.sleep(0.25)\n    return x"
PLANNED = {"test_list": [f"assert f({i}) == {i}" for i in range(2)]}
TESTED = {"test_list": [f"x = f({i})\nassert sorted([x]) == [{i}]" for i in range(2)]}
BUSY = """
import time
def f(x):
    end = time.process_time() + {seconds}
    while time.process_time() < end: pass
    return x
"""


@pytest.fixture
def verifier() -> Iterator[CodeVerifier]:
    made = CodeVerifier(CodeConfig(time_limit_s=3.0, memory_mb=192, total_time_limit_s=60))
    yield made
    made.close()


def _depth(pid: int) -> int:
    """1: bubblewrap, 2: the warm parent, 3: a cell or a tester, 4: a program."""
    depth = 0
    while pid != os.getpid():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        depth += 1
    return depth


def _judge_while_killing(verifier: CodeVerifier, gold: dict[str, Any], depth: int, last: bool) -> Verdict:
    def kill() -> None:
        time.sleep(0.3)
        pids = sorted(pid for pid in descendants() if _depth(pid) == depth)
        os.kill(pids[-1 if last else 0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    verdict = judge(verifier, SLOW, gold)
    killer.join()
    return verdict


@pytest.mark.parametrize("gold", [PLANNED, TESTED], ids=["planned", "tested"])
@pytest.mark.parametrize("part", ["bubblewrap", "parent", "cell", "last"])
def test_a_part_that_is_killed_costs_a_retry_and_never_the_program(
    verifier: CodeVerifier, gold: dict[str, Any], part: str
) -> None:
    assert judge(verifier, SLOW, gold).reason == "passed"
    depth = {"bubblewrap": 1, "parent": 2, "cell": 3, "last": 3}[part]
    verdict = _judge_while_killing(verifier, gold, depth, part == "last")
    assert verdict.reason == "passed" or verdict.outcome is Outcome.ERROR, verdict
    assert judge(verifier, SQUARE, RIGHT).reason == "passed"


def test_an_interrupted_verdict_does_not_spoil_the_next(verifier: CodeVerifier) -> None:
    def ring(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, ring)
    try:
        for i in range(6):
            signal.setitimer(signal.ITIMER_REAL, 0.15 + 0.01 * i)
            with pytest.raises(KeyboardInterrupt):
                judge(verifier, "import time\ntime.sleep(0.5)\nprint(input())", {"inputs": ["4"], "outputs": ["4"]})
            assert judge(verifier, SQUARE, RIGHT).reason == "passed"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_a_forked_process_has_a_sandbox_of_its_own(verifier: CodeVerifier) -> None:
    assert judge(verifier, SQUARE, RIGHT).reason == "passed"
    child = os.fork()
    mine = "3" if child else "7"
    gold = {"inputs": [mine] * 10, "outputs": [str(int(mine) ** 2)] * 10}
    right = all(judge(verifier, SQUARE, gold).reason == "passed" for _ in range(4))
    if child == 0:
        verifier.close()
        os._exit(0 if right else 1)
    assert right and os.waitpid(child, 0)[1] == 0
    assert judge(verifier, SQUARE, RIGHT).reason == "passed"


def test_nothing_is_left_when_a_forked_process_outlives_the_owner_s_close(verifier: CodeVerifier) -> None:
    assert judge(verifier, SQUARE, RIGHT).reason == "passed"
    parts = descendants()
    child = os.fork()
    if child == 0:
        time.sleep(3)
        os._exit(0)
    verifier.close()
    end = time.monotonic() + 2
    while time.monotonic() < end and any(Path(f"/proc/{pid}").exists() for pid in parts):
        time.sleep(0.02)
    assert not any(Path(f"/proc/{pid}").exists() for pid in parts)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_descriptors_beyond_1024_are_no_obstacle(verifier: CodeVerifier) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("this process may not open so many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1200)]
    try:
        flood = "import fcntl, os\nfcntl.fcntl(1, 1031, 1 << 20)\nos.write(1, b'9' + b' ' * ((1 << 20) - 1))"
        assert judge(verifier, flood, {"inputs": [""], "outputs": ["9"]}).reason == "passed"
        assert judge(verifier, SLOW, TESTED).reason == "passed"
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_time_limit_is_for_each_call_and_not_for_all(verifier: CodeVerifier) -> None:
    quick = CodeVerifier(CodeConfig(time_limit_s=1.0))
    try:
        for form in ("assert f({0}) == {0}", "x = f({0})\nassert sorted([x]) == [{0}]"):
            gold = {"test_list": [form.format(i) for i in range(8)]}
            assert judge(quick, BUSY.format(seconds=0.55), gold).reason == "passed"
            assert judge(quick, BUSY.format(seconds=1.6), gold).reason == "time_limit"
    finally:
        quick.close()


def test_the_limit_on_output_grows_with_the_asserts(verifier: CodeVerifier) -> None:
    gold = {"test_list": [f"assert f({3000 + i}) == {[7] * (3000 + i)}" for i in range(300)]}
    assert judge(verifier, "def f(n): return [7] * n", gold).reason == "passed"
    endless = "import os\ndef f(n):\n    while True: os.write(3, b' ' * 65536)"
    assert judge(verifier, endless, PLANNED).reason == "output_limit"


def test_a_program_cannot_slow_those_after_it(verifier: CodeVerifier) -> None:
    code = """
        import ctypes
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
        for path in ('autogroup', 'oom_score_adj', 'timerslack_ns', 'coredump_filter', 'comm'):
            try:
                open(f'/proc/self/{path}', 'w').write('9')
                print(path)
            except OSError:
                pass
        print('nothing else')
    """
    assert output(verifier, code) == "nothing else"
    tell = "print(len({*map(os.getsid, (0, os.getppid()))}))"
    assert output(verifier, f"import os\n{tell}") == "2"


def test_a_program_gets_no_more_time_by_waiting_behind_its_own_child(verifier: CodeVerifier) -> None:
    code = """
        import os, time
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        work = os.fork()
        if work == 0:
            while time.process_time() < 4: pass
            print(9, flush=True)
            os._exit(0)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        while os.waitpid(work, os.WNOHANG) == (0, 0): pass
        os._exit(0)
    """
    assert judge(verifier, code, {"inputs": [""], "outputs": ["9"]}).reason == "time_limit"


def test_shared_memory_counts_once_and_all_of_the_rest_counts(verifier: CodeVerifier) -> None:
    code = """
        import os, time
        held = bytearray(b'x') * ({shared} << 20)
        for _ in range({num}):
            if os.fork() == 0:
                own = bytearray(b'x') * ({own} << 20)
                time.sleep(0.4)
                os._exit(0)
        for _ in range({num}): os.wait()
        print(9)
    """
    gold = {"inputs": [""], "outputs": ["9"]}
    assert judge(verifier, code.format(shared=100, own=1, num=12), gold).reason == "passed"
    assert judge(verifier, code.format(shared=1, own=12, num=24), gold).reason == "memory_limit"


@pytest.mark.parametrize(
    "code",
    [
        "open('/dev/stdout', 'w').write('9')",
        "import os\nos.system('echo 9 > /dev/stdout')",
        "import sys\nsys.stdout = open('/proc/self/fd/1', 'w')\nprint(9)",
        "import threading\nall = [threading.Thread(target=lambda: 0) for _ in range(16)]\n"
        "for one in all: one.start()\nprint(9)",
        "from concurrent.futures import ThreadPoolExecutor\nimport time\n"
        "with ThreadPoolExecutor(16) as pool: list(pool.map(time.sleep, [0.02] * 64))\nprint(9)",
    ],
)
def test_what_ordinary_programs_do_works_with_the_default_limits(code: str) -> None:
    default = CodeVerifier(CodeConfig())
    try:
        verdict = judge(default, code, {"inputs": [""], "outputs": ["9"]})
        assert verdict.reason == "passed", json.loads(verdict.detail or "")
    finally:
        default.close()
