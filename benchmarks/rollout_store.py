"""How fast the rollout store is, and whether its memory stays where it is, with a million completions.

    python benchmarks/rollout_store.py --rows 1000000 --folder /tmp/rollout_store

Writes ``--rows`` completions of about ``--chars`` characters in transactions of ``--group`` (a server's arrive in small
groups), then reads all of them as a resumed run does, counts them by model (`rollouts ls`), exports them to Parquet,
imports a trace file of as many rows, and opens the store in two processes that write at once. Prints JSON: rows per
second, and the highest resident memory of this process within each step, in MiB: in its first tenth where that can be
told, and in all of it.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from factory.engines.base import Completion, Request, SamplingParams  # noqa: E402
from factory.engines.imported_config import TraceColumns  # noqa: E402
from factory.rollout_files import export_rollouts, import_traces  # noqa: E402
from factory.rollout_store import RolloutStore  # noqa: E402
from sft.models import sha256_file  # noqa: E402

_LOOKUP = 512
_ALPHABET = "0123456789 abcdefghijklmnopqrstuvwxyz+-=\n"


def peak_mib() -> float:
    """Highest resident memory of this process since ``forget_peak``."""
    [line] = [text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("VmHWM")]
    return round(int(line.split()[1]) / 1024, 1)


def forget_peak() -> None:
    """Begin anew with the memory that is held now."""
    Path("/proc/self/clear_refs").write_text("5")


class Rows:
    """Completions whose texts are cut out of one long random text."""

    def __init__(self, num: int, chars: int, model: str = "m") -> None:
        self._num, self._chars, self._model = num, chars, model
        rng = random.Random(0)
        self._text = "".join(rng.choices(_ALPHABET, k=4 * chars + 100_000))

    def request(self, at: int) -> Request:
        """The request of the row."""
        prompt = f'[{{"content":"question {at // 4}: what is {at // 4} + {at // 8}?","role":"user"}}]'
        return Request((("user", prompt),), prompt, SamplingParams(max_tokens=4096), at % 4, at, self._model)

    def completion(self, at: int) -> Completion:
        """The row; one of ten was cut off."""
        start = at * 7919 % 100_000
        text = self._text[start : start + self._chars // 2 + at * 31 % self._chars]
        cut = at % 10 == 0
        return Completion(self.request(at), text, "length" if cut else "stop", 20, 4096 if cut else len(text) // 4, 1.0)

    def groups(self, size: int) -> Iterator[range]:
        """Row numbers."""
        for start in range(0, self._num, size):
            yield range(start, min(start + size, self._num))


def measured(num: int, work: Iterator[int]) -> dict[str, Any]:
    """Rows per second of ``work``, which says now and then how many rows are done, and memory on the way."""
    forget_peak()
    began, early = time.monotonic(), None
    for done in work:
        if early is None and num // 10 <= done:
            early = peak_mib()
    seconds = time.monotonic() - began
    peak = {"peak_mib_of_first_tenth": early, "peak_mib": peak_mib()}
    return {"rows_per_second": round(num / seconds), "seconds": round(seconds, 1), **peak}


def put(store: RolloutStore, rows: Rows, group: int) -> Iterator[int]:
    for part in rows.groups(group):
        store.put([rows.completion(at) for at in part])
        yield part.stop


def get(store: RolloutStore, rows: Rows) -> Iterator[int]:
    for part in rows.groups(_LOOKUP):
        found = store.get([rows.request(at) for at in part])
        if None in found:
            raise SystemExit("a row is missing")
        yield part.stop


def at_once(work: Callable[[], object]) -> Iterator[int]:
    work()
    yield from ()


def write_traces(path: Path, rows: Rows, num: int) -> None:
    with open(path, "w", encoding="utf-8") as handle:
        for at in range(num):
            row = rows.completion(at)
            line = {"prompt": f"question {at // 4}", "response": row.text, "answer": at, "num_tokens": row.num_tokens}
            handle.write(json.dumps(line) + "\n")


def two_writers(folder: Path, num: int, group: int, chars: int) -> dict[str, Any]:
    """Rows per second of two processes on one store together."""
    path = folder / "two.sqlite"
    command = [sys.executable, __file__, "--folder", str(folder), "--chars", str(chars), "--group", str(group)]
    began = time.monotonic()
    writers = [
        subprocess.Popen([*command, "--rows", str(num // 2), "--writer", str(path), "--model", name])
        for name in ("first", "second")
    ]
    codes = [writer.wait() for writer in writers]
    if any(codes):
        raise SystemExit("a writer failed")
    seconds = time.monotonic() - began
    with RolloutStore(path) as store:
        count = store.count()
    return {"rows": count, "rows_per_second": round(count / seconds), "all_there": count == num // 2 * 2}


def main() -> int:
    """Entry point."""
    options = parse()
    rows = Rows(options.rows, options.chars, options.model)
    if options.writer:
        with RolloutStore(options.writer) as store:
            for _ in put(store, rows, options.group):
                pass
        return 0
    options.folder.mkdir(parents=True)
    num = options.rows
    found: dict[str, Any] = {"rows": num, "chars": options.chars, "group": options.group, "mib_at_start": peak_mib()}
    with RolloutStore(options.folder / "rollouts.sqlite") as store:
        found["put"] = measured(num, put(store, rows, options.group))
        found["get"] = measured(num, get(store, rows))
        found["ls"] = measured(num, at_once(store.groups))
        found["export"] = measured(num, at_once(lambda: export_rollouts(store, options.folder / "out.parquet")))
        found["gib"] = round((options.folder / "rollouts.sqlite").stat().st_size / 2**30, 2)
        write_traces(options.folder / "traces.jsonl", rows, num)
        source = options.folder / "traces.jsonl"
        found["import"] = measured(num, at_once(lambda: import_traces(store, source, "n", TraceColumns(), sha256_file)))
        if store.count() != 2 * num:
            raise SystemExit("rows are missing")
    found["two_writers"] = two_writers(options.folder, min(num, 200_000), options.group, options.chars)
    print(json.dumps(found, indent=1))
    return 0 if found["two_writers"]["all_there"] else 1


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="completions (default 1000000)")
    parser.add_argument("--chars", type=int, default=2000, help="characters of a completion, on average")
    parser.add_argument("--group", type=int, default=16, help="completions per transaction (default 16)")
    parser.add_argument("--folder", type=Path, required=True, help="a fresh folder")
    parser.add_argument("--writer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--model", default="m", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
