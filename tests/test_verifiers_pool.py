"""The pool: limits per row, death of workers, threads, cancelling. Real processes, real hanging sympy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path

import pytest

from verifiers import ExactConfig, MathConfig, Outcome, VerifierError, VerifierPool, VerifyTask

HANGS = r"\boxed{\sum_{k=1}^{n} ((9^{9999})^{9999})^{9999}}"
SYMBOLIC = r"\boxed{\sum_{k=1}^{9} k}"  # sums are left to sympy, in a worker
GOLD = "45"


def task(name: str, response: str = SYMBOLIC, gold: str = GOLD) -> VerifyTask:
    return VerifyTask(name, response, gold)


def children() -> set[int]:
    """Verifier processes of this process."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent == os.getpid() and b"verifiers.worker" in (entry / "cmdline").read_bytes():
                    found.add(int(entry.name))
            except (OSError, IndexError):
                continue
    return found


def is_in_its_row(pid: int) -> bool:
    """Whether a worker has used more processor time than starting takes."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") > 2


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    wait_for(lambda: not children(), 20)


def test_a_row_that_hangs_is_a_timeout_and_the_others_get_their_verdicts() -> None:
    rows = [task("a"), task("hangs", HANGS), task("b"), task("hangs too", HANGS), task("c")]
    with VerifierPool(MathConfig(time_limit_s=1, num_workers=1)) as pool:
        got = [(t.id, v.outcome, v.reason) for t, v in pool.verify_all(rows)]
    assert got == [
        ("a", Outcome.CORRECT, "symbolic"),
        ("hangs", Outcome.ERROR, "timeout"),
        ("b", Outcome.CORRECT, "symbolic"),
        ("hangs too", Outcome.ERROR, "timeout"),
        ("c", Outcome.CORRECT, "symbolic"),
    ]


def test_a_killed_worker_costs_no_verdict() -> None:
    with VerifierPool(MathConfig(num_workers=1)) as pool:
        assert pool.submit(task("first")).result(60).outcome is Outcome.CORRECT
        (worker,) = children()
        os.kill(worker, signal.SIGKILL)
        assert pool.submit(task("second")).result(60).outcome is Outcome.CORRECT


def test_a_row_that_kills_every_worker_is_an_error_of_its_own() -> None:
    with VerifierPool(MathConfig(time_limit_s=100, num_workers=1)) as pool:
        future = pool.submit(task("deadly", HANGS))
        killed: set[int] = set()
        while not future.done():
            for worker in children() - killed:
                wait_for(partial(is_in_its_row, worker))
                os.kill(worker, signal.SIGKILL)
                killed.add(worker)
            time.sleep(0.02)
        verdict = future.result(60)
        assert len(killed) == 2
        assert (verdict.outcome, verdict.reason) == (Outcome.ERROR, "worker_died")
        assert pool.submit(task("next")).result(60).outcome is Outcome.CORRECT


def test_it_works_outside_the_main_thread_and_from_several_threads_at_once() -> None:
    got: dict[str, Outcome] = {}
    with VerifierPool(MathConfig(num_workers=2)) as pool:

        def work(name: str) -> None:
            rows = [task(f"{name}{i}", rf"\boxed{{\sum_{{k=1}}^{{{8 + i}}} k}}") for i in range(3)]
            for t, verdict in pool.verify_all(rows):
                got[t.id] = verdict.outcome

        threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert {k: str(v) for k, v in got.items()} == {
        f"{name}{i}": "correct" if i == 1 else "incorrect" for name in "ab" for i in range(3)
    }


def test_verdicts_come_in_the_order_of_the_tasks() -> None:
    rows = [task(str(i), SYMBOLIC if i % 7 == 0 else rf"\boxed{{{i}}}", GOLD if i % 7 == 0 else "3") for i in range(60)]
    with VerifierPool(MathConfig(num_workers=2)) as pool:
        assert [t.id for t, _ in pool.verify_all(rows)] == [str(i) for i in range(60)]


def test_rows_settled_exactly_start_no_process() -> None:
    with VerifierPool(MathConfig()) as pool:
        verdicts = [v for _, v in pool.verify_all(task(str(i), rf"\boxed{{{i}}}", "7") for i in range(100))]
        assert not children()
    assert sum(v.outcome is Outcome.CORRECT for v in verdicts) == 1


def test_only_a_bounded_number_of_tasks_is_read_ahead() -> None:
    read = 0

    def tasks() -> Iterator[VerifyTask]:
        nonlocal read
        for i in range(10_000):
            read += 1
            yield task(str(i), HANGS)

    with VerifierPool(MathConfig(time_limit_s=1, num_workers=1)) as pool:
        results = pool.verify_all(tasks())
        next(results)
        results.close()  # type: ignore[attr-defined]
        pool.close(cancel=True)
    assert read < 100


def test_cancelling_ends_at_once_and_makes_up_no_verdict(caplog: pytest.LogCaptureFixture) -> None:
    pool = VerifierPool(MathConfig(time_limit_s=300, num_workers=1))
    running, waiting = pool.submit(task("running", HANGS)), pool.submit(task("waiting"))
    wait_for(children)
    time.sleep(0.5)
    start = time.monotonic()
    pool.close(cancel=True)
    assert time.monotonic() - start < 20
    for future in (running, waiting):
        with pytest.raises(CancelledError):
            future.result(5)
    assert not caplog.records  # nothing died that we did not end ourselves


def test_an_exception_in_the_with_block_cancels() -> None:
    with pytest.raises(KeyError), VerifierPool(MathConfig(time_limit_s=300, num_workers=1)) as pool:
        pool.submit(task("running", HANGS))
        raise KeyError


def test_leaving_the_with_block_finishes_what_was_submitted() -> None:
    with VerifierPool(MathConfig(num_workers=1)) as pool:
        future = pool.submit(task("a"))
    assert future.done() and future.result().outcome is Outcome.CORRECT


def test_a_closed_pool_refuses_work() -> None:
    pool = VerifierPool(MathConfig())
    pool.close()
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(task("late"))


def test_a_worker_that_cannot_start_is_an_error_of_the_machine_not_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with VerifierPool(MathConfig(num_workers=1)) as pool, pytest.raises(VerifierError, match="could be started"):
        list(pool.verify_all([task("a"), task("b")]))


def test_a_script_without_a_main_guard_gets_its_verdicts(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from verifiers import MathConfig, VerifierPool, VerifyTask\n"
        "print('main')\n"
        "with VerifierPool(MathConfig(num_workers=1)) as pool:\n"
        f"    rows = [VerifyTask('a', {SYMBOLIC!r}, {GOLD!r})]\n"
        "    print([str(v.outcome) for _, v in pool.verify_all(rows)])\n"
    )
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.stderr) == ("main\n['correct']\n", "")


def test_workers_do_not_outlive_a_killed_parent_by_more_than_their_row(tmp_path: Path) -> None:
    code = (
        "from verifiers import MathConfig, VerifierPool, VerifyTask\n"
        "pool = VerifierPool(MathConfig(time_limit_s=4, num_workers=1))\n"
        f"pool.submit(VerifyTask('a', {HANGS!r}, {GOLD!r}))\n"
        "import time; time.sleep(600)\n"
    )
    root = str(Path(__file__).parents[1])
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=root)
    found: list[int] = []

    def worker() -> bool:
        found[:] = [int(p) for p in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
        return bool(found)

    try:
        # Children are listed under the thread that started them.
        wait_for(lambda: worker() or _children_of_all_threads(parent.pid, found))
        wait_for(lambda: is_in_its_row(found[0]))
    finally:
        parent.kill()
        parent.wait()
    assert found
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found), 30)


def _children_of_all_threads(pid: int, found: list[int]) -> bool:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        found += [int(p) for p in (thread / "children").read_text().split()]
    return bool(found)


def test_a_megabyte_of_response_gets_its_verdict() -> None:
    with VerifierPool(MathConfig(num_workers=1)) as pool:
        long = "step by step " * 80_000
        assert pool.submit(task("a", long + r"\boxed{5}", "5")).result(120).outcome is Outcome.CORRECT
        assert pool.submit(task("b", long, "5")).result(120).reason == "no_answer"


def test_exact_verifier_runs_in_the_same_pool() -> None:
    with VerifierPool(ExactConfig(num_workers=1)) as pool:
        long = "ab " * 70_000  # too long to be settled in the caller
        got = [v.outcome for _, v in pool.verify_all([task("a", "Paris", "paris"), task("b", long, long)])]
    assert got == [Outcome.CORRECT, Outcome.CORRECT]
