"""Kill a run again and again, let it finish, and see whether it made the same as a run that nobody disturbed.

    python benchmarks/kill_resume.py --kills 20 --recipe recipes/quickstart.yaml --workspace /tmp/kill_resume

The recipe is run once in ``WORKSPACE/undisturbed``, which also tells how long its stages take. In ``WORKSPACE/killed``
it is then started over and over, and SIGKILL goes to its whole process group at random moments: seeded points on the
undisturbed run's time line (start-up included), in their order, so that the kills are spread over all stages and the
run gets on between them. In the end it may finish, and the data set, the students' weights and the scores of the two
are compared byte for byte. Prints JSON; exit code 1 when anything differs or a run fails by itself.
"""

from __future__ import annotations

import argparse
import bisect
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
START_UP = "start-up"
_POLL_S = 0.01


class Point(NamedTuple):
    """A moment of the undisturbed run."""

    stage: str
    seconds: float
    """Since the stage began; for ``START_UP``, since the process began."""


@dataclass
class Kill:
    """What one kill hit."""

    stage: str
    """The stage that was being built; ``START_UP`` before the first one, ``between stages`` elsewhere."""
    aimed_at: str
    seconds_to_resume: float | None
    """From the start of this process to the first stage that it began; None: it was killed before."""
    completions_seen: int
    """Stored just before the kill."""
    completions_after: int
    """Stored just after it."""

    @property
    def lost(self) -> int:
        return max(0, self.completions_seen - self.completions_after)


class Run:
    """One process of the recipe in a workspace."""

    def __init__(self, arguments: Sequence[str], workspace: Path) -> None:
        self.workspace = workspace
        self._events_before = len(event_lines(workspace))
        self.started = time.monotonic()
        self.first_stage_s: float | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "factory", "run", *arguments, "--workspace", str(workspace)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def new_events(self) -> list[tuple[str, str]]:
        """(event, stage) of this process so far."""
        rows = [json.loads(line) for line in event_lines(self.workspace)[self._events_before :]]
        if rows and self.first_stage_s is None:
            self.first_stage_s = time.monotonic() - self.started
        return [(row["event"], row["stage"]) for row in rows]

    def wait(self) -> float:
        """Let it finish; seconds it took. Ends the program when it fails."""
        while self.process.poll() is None:
            self.new_events()
            time.sleep(_POLL_S)
        if self.process.returncode:
            raise SystemExit(f"the run failed by itself (exit code {self.process.returncode}):\n{self.output()}")
        return time.monotonic() - self.started

    def kill(self) -> None:
        """SIGKILL to the process and its children."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def output(self) -> str:
        """The end of what it printed."""
        self._log.seek(0)
        return self._log.read()[-4000:].decode(errors="replace")


def event_lines(workspace: Path) -> list[str]:
    """Whole lines of the run's events; the workspace holds one run."""
    [*paths] = workspace.glob("runs/*/events.jsonl")
    return paths[0].read_text().split("\n")[:-1] if paths else []


def seconds_by_stage(workspace: Path) -> dict[str, float]:
    """Stage key -> how long it took, in the order of the flow."""
    [path] = workspace.glob("runs/*/manifest.json")
    return {key: stage["ledger"]["seconds"] for key, stage in json.loads(path.read_text())["stages"].items()}


def choose_points(workspace: Path, start_up_s: float, num: int, rng: random.Random) -> list[Point]:
    """``num`` random moments of the finished run in ``workspace``, in order."""
    spans = [(START_UP, start_up_s)]
    spans += [(key, max(seconds, 0.01)) for key, seconds in seconds_by_stage(workspace).items()]
    ends = list(itertools.accumulate(seconds for _, seconds in spans))
    points = []
    for moment in sorted(rng.uniform(0, ends[-1]) for _ in range(num)):
        at = min(bisect.bisect_right(ends, moment), len(spans) - 1)
        points.append(Point(spans[at][0], moment - (ends[at] - spans[at][1])))
    return points


def kill_at(run: Run, point: Point) -> Kill | None:
    """Wait for the moment and kill; None when the run was over before."""
    began = run.started if point.stage == START_UP else None
    while run.process.poll() is None:
        events = run.new_events()
        begun, done = ("started", point.stage) in events, ("finished", point.stage) in events
        if began is None and (begun or passed(run.workspace, point.stage)):
            began = time.monotonic()
        # A stage that goes on from stored completions may end before its moment comes: kill behind it, then.
        if done or (began is not None and time.monotonic() - began >= point.seconds):
            break
        time.sleep(_POLL_S)
    if run.process.poll() is not None:
        return None
    seen = count_live(run.workspace)
    run.kill()
    events = run.new_events()
    resumed = None if run.first_stage_s is None else round(run.first_stage_s, 2)
    return Kill(open_stage(events), point.stage, resumed, seen, count_dead(run.workspace))


def passed(workspace: Path, stage: str) -> bool:
    """Whether an earlier process finished the stage: then its moment cannot come any more."""
    return any(json.loads(line)["stage"] == stage and "finished" in line for line in event_lines(workspace))


def open_stage(events: Sequence[tuple[str, str]]) -> str:
    """The stage that was begun and not finished."""
    if not events:
        return START_UP
    event, stage = events[-1]
    return stage if event == "started" else "between stages"


def count_live(workspace: Path) -> int:
    """Completions in the store of a running process, 0 where there is none yet."""
    try:
        with closing(sqlite3.connect(f"file:{workspace / 'rollouts.sqlite'}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT COUNT(*) FROM completions").fetchone()[0])
    except sqlite3.Error:
        return 0


def count_dead(workspace: Path) -> int:
    """The same of a killed one, on a copy: opening the store itself would already repair it."""
    with tempfile.TemporaryDirectory() as folder:
        for path in workspace.glob("rollouts.sqlite*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, folder)
        return count_live(Path(folder))


def digests(workspace: Path) -> dict[str, str]:
    """Relative path -> digest of what must be equal."""
    [folder] = workspace.glob("runs/*")
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and (name == "scores.json" or name.startswith("dataset/") or path.suffix == ".safetensors"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def undisturbed(arguments: Sequence[str], workspace: Path) -> dict[str, float]:
    """Run it once; how long it took as a whole and until its first stage began."""
    run = Run(arguments, workspace)
    seconds = run.wait()
    return {"seconds": round(seconds, 2), "start_up_seconds": round(run.first_stage_s or 0.0, 2)}


def main() -> int:
    """Entry point."""
    options = parse()
    arguments = [str(options.recipe), *(["--limit", str(options.limit)] if options.limit else [])]
    arguments += [word for setting in options.set for word in ("--set", setting)]
    killed = options.workspace / "killed"
    if killed.exists():
        raise SystemExit(f"{killed} is there already; give a fresh --workspace")
    if options.baseline:
        baseline, times = options.baseline, {"seconds": 0.0, "start_up_seconds": 2.0}
    else:
        baseline = options.workspace / "undisturbed"
        times = undisturbed(arguments, baseline)
    points = choose_points(baseline, times["start_up_seconds"], options.kills, random.Random(options.seed))
    kills: list[Kill] = []
    began = time.monotonic()
    for point in points:
        run = Run(arguments, killed)
        kill = kill_at(run, point)
        if kill is None:
            run.wait()  # says so when it failed; else the run is over, and there is nothing left to kill
            break
        kills.append(kill)
    last = Run(arguments, killed)
    last_s = last.wait()
    return report(options, times, kills, last, last_s, time.monotonic() - began, baseline)


def report(
    options: argparse.Namespace,
    times: dict[str, float],
    kills: list[Kill],
    last: Run,
    last_s: float,
    all_s: float,
    baseline: Path,
) -> int:
    """Print what was found; the exit code."""
    expected, got = digests(baseline), digests(last.workspace)
    resumes = [k.seconds_to_resume for k in kills[1:] if k.seconds_to_resume is not None]
    differing = sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
    findings = {
        "recipe": str(options.recipe),
        "seed": options.seed,
        "kills": len(kills),
        "kills_asked": options.kills,
        "kills_by_stage": dict(Counter(k.stage for k in kills)),
        "completions_lost": sum(k.lost for k in kills),
        "completions": count_live(last.workspace),
        "completions_undisturbed": count_live(baseline),
        "seconds_to_resume_median": round(statistics.median(resumes), 2) if resumes else None,
        "seconds_to_resume_max": round(max(resumes), 2) if resumes else None,
        "undisturbed": None if options.baseline else times,
        "seconds_with_kills": round(all_s, 2),
        "seconds_of_last_process": round(last_s, 2),
        "files_compared": len(expected),
        "files_differing": differing,
        "equal": bool(expected) and not differing,
        "each_kill": [asdict(k) for k in kills],
    }
    print(json.dumps(findings, indent=1))
    return 0 if findings["equal"] and not findings["completions_lost"] else 1


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how often (default 20)")
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "quickstart.yaml")
    parser.add_argument("--workspace", type=Path, required=True, help="a fresh folder for both runs")
    parser.add_argument("--baseline", type=Path, help="workspace of a finished undisturbed run, instead of running it")
    parser.add_argument("--limit", type=int, help="as for `factory run`")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="as for `factory run`")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
