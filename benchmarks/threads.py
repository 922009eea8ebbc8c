"""Milliseconds per SFT step of the quickstart's student, by how torch's threads wait, alone and beside another run.

    python benchmarks/threads.py --steps 40

Each setting is a process of its own; "beside another" runs a second one like it at the same time. "default" is OpenMP's
waiting (threads spin for a while), "passive" what ``factory.runtime`` sets; the factory itself takes one thread for a
model of this size.
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


def start(policy: str, threads: int, steps: int) -> subprocess.Popen[str]:
    """``measure`` in a process with this OpenMP policy, or the ``default`` one."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    env |= {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": policy}
    command = [sys.executable, __file__, "--measure", str(threads), "--steps", str(steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)


def together(policy: str, threads: int, steps: int, num: int) -> float:
    """Median over ``num`` processes at once."""
    processes = [start(policy, threads, steps) for _ in range(num)]
    outputs = [process.communicate()[0] for process in processes]
    return statistics.median(float(output.strip().splitlines()[-1]) for output in outputs)


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
    for label, num in (("alone", 1), ("beside another", 2)):
        for policy, threads in (("default", cores), ("passive", cores), ("passive", 1)):
            ms = together(policy, threads, options.steps, num)
            row = {"training": label, "threads": threads, "waiting": policy, "ms_per_step": round(ms, 1)}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
