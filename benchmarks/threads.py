"""Milliseconds per SFT step of the quickstart's student, by how torch's threads wait, with and without a busy machine.

    python benchmarks/threads.py --steps 40

Each setting is a process of its own. "busy" runs one other process per core that computes without a pause, as a second
run on the same machine would. "default" is OpenMP's (threads spin while they wait), "passive" what ``factory.runtime``
sets; the factory itself takes one thread for a model of this size.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
STUDENT = ROOT / "recipes" / "quickstart" / "models" / "base"
BATCH = 16


def measure(threads: int, steps: int) -> float:
    """Median milliseconds per step in this process."""
    from factory import runtime

    runtime.prepare()
    if os.environ["OMP_WAIT_POLICY"] == "default":
        del os.environ["OMP_WAIT_POLICY"]  # torch is not loaded yet
    import torch

    from factory.sources.arithmetic import ArithmeticSource, generate
    from sft import models
    from sft.chat import encode_example
    from sft.config import TrainConfig
    from sft.models import load_tokenizer
    from sft.train import train

    models._fit_threads = lambda _: torch.set_num_threads(threads)  # what is compared here
    tokenizer = load_tokenizer(str(STUDENT))
    examples = []
    for chain, question in generate(ArithmeticSource(num=BATCH * steps, min_steps=2, max_steps=5)):
        trace = f"<think>{'; '.join(map(str, chain.results()))}</think>\\boxed{{{chain.results()[-1]}}}"
        examples.append(encode_example(tokenizer, (("user", question),), trace))
    stamps: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(student=str(STUDENT), epochs=1, batch_size=BATCH, learning_rate=1e-3)
        train(config, examples, Path(folder), seed=0, progress=lambda *_: stamps.append(time.monotonic()))
    return 1000 * statistics.median(b - a for a, b in zip(stamps, stamps[1:]))


@contextmanager
def busy(num: int) -> Iterator[None]:
    """``num`` processes that compute without a pause."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(num)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def in_process(policy: str, threads: int, steps: int) -> float:
    """``measure`` in a process with this OpenMP policy, or the ``default`` one."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    env |= {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": policy}
    command = [sys.executable, __file__, "--measure", str(threads), "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--measure", type=int, metavar="THREADS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measure(options.measure, options.steps))
        return
    cores = len(os.sched_getaffinity(0))
    for label, num in (("idle", 0), ("busy", cores)):
        for policy, threads in (("default", cores), ("passive", cores), ("passive", 1)):
            with busy(num):
                ms = in_process(policy, threads, options.steps)
            row = {"machine": label, "threads": threads, "waiting": policy, "ms_per_step": round(ms, 1)}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
