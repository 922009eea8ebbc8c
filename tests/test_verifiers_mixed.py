"""Ten thousand rows of all sorts, hostile ones among them, from four threads at once: every row gets its verdict."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

from verifiers import MathConfig, Outcome, Verdict, VerifierPool, VerifyTask

NUM_ROWS, NUM_THREADS = 10_000, 4
HOSTILE = (
    r"\boxed{9^{9^{9^{9}}}}",
    r"\boxed{99999999!}",
    r"\boxed{" + "{" * 5_000 + "}" * 5_000 + "}",
    r"\boxed{" * 3_000,
    "\\boxed{1\0}",
    r"\boxed{\input{/etc/passwd}}",
    r"\boxed{__import__('os').system('id')}",
    r"\boxed{" + "+".join(f"x_{{{i}}}^{{99}}" for i in range(300)) + "}",
    "7 " * 20_000,
    "<think>" * 2_000,
    "\ud800\udfff\u202e" * 50,
)


ENDLESS = (r"\boxed{\sum_{k=1}^{n} ((9^{9999})^{9999})^{9999}}", r"\boxed{\int_0^1 \sum_{k=1}^{10^{9}} x^k dx}")
"""What costs a worker its whole second, and then its life."""
FORMS = (r"\boxed{%d}", r"so \boxed{\frac{%d}{1}}", "The answer is %d.", "#### %d")


def rows(rng: random.Random) -> list[tuple[VerifyTask, bool | None]]:
    """Tasks with what is expected of them; None: a verdict that is not ``correct``."""
    made: list[tuple[VerifyTask, bool | None]] = []
    for number in range(NUM_ROWS):
        name, value = f"row {number}", rng.randrange(1000)
        if number % 1000 == 10:
            made.append((VerifyTask(name, ENDLESS[number // 1000 % 2], "12345"), None))
        elif number % 20 == 0:
            made.append((VerifyTask(name, HOSTILE[number // 20 % len(HOSTILE)], "12345"), None))
        elif number % 500 == 1:  # left to a worker
            made.append((VerifyTask(name, r"\boxed{\sum_{k=1}^{9} k}", "45"), True))
        else:
            right = rng.random() < 0.5
            response = rng.choice(FORMS) % (value if right else value + 1)
            made.append((VerifyTask(name, response, str(value)), right))
    return made


def workers() -> list[int]:
    """Processes of this process's pools."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == os.getpid() and b"verifiers.worker" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (OSError, IndexError):
            continue
    return found


def test_every_one_of_ten_thousand_rows_gets_its_verdict_whatever_happens_to_the_workers() -> None:
    expected = rows(random.Random(7))
    got: dict[str, Verdict] = {}
    num_killed = 0
    with VerifierPool(MathConfig(num_workers=2, time_limit_s=1)) as pool:

        def work(part: int) -> None:
            for task, verdict in pool.verify_all(task for task, _ in expected[part::NUM_THREADS]):
                got[task.id] = verdict

        threads = [threading.Thread(target=work, args=(part,)) for part in range(NUM_THREADS)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 400
        while any(thread.is_alive() for thread in threads) and time.monotonic() < end:
            alive = workers()
            if alive and num_killed < 3 and len(got) > 1000 * (num_killed + 1):
                os.kill(alive[0], signal.SIGKILL)
                num_killed += 1
            time.sleep(0.05)
        assert not any(thread.is_alive() for thread in threads), f"hung with {len(got)} verdicts"
    assert len(got) == NUM_ROWS
    wrong = []
    for task, right in expected:
        outcome = got[task.id].outcome
        if right is None:
            wrong += [task.id] if outcome is Outcome.CORRECT else []
        elif (outcome is Outcome.CORRECT) != right or outcome not in (Outcome.CORRECT, Outcome.INCORRECT):
            wrong.append(task.id)
    assert not wrong, [(name, got[name]) for name in wrong[:5]]
    assert num_killed > 0, Counter(v.reason for v in got.values())
    assert not workers()
