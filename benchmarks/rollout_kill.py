"""Kill a run with SIGKILL at random moments of its rollouts, resume it, and count what that costs.

    python benchmarks/rollout_kill.py --kills 30 --workspace /tmp/rollout_kill

A server on this machine answers after a delay that depends on the sample alone (50 ms and an exponential tail, at most
0.6 s) and counts every sample that it is asked for. The same recipe is run three times up to its rollouts, each in a
workspace of its own: undisturbed; killed ``--kills`` times at random moments; and killed once in the middle, which
leaves a resumed part long enough to measure its throughput, from its first request to its last reply, tail included.
Prints JSON. Exit code 1 when the final rows differ from the undisturbed run's, when more samples were asked again than
were in flight when the kills came, or when the resumed part is more than 10 % slower.

In flight at a kill are the requests that the server had not answered, and those answered in the 20 ms before: their
answers were on the way through sockets and queues to the store.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
_IN_FLIGHT = 32
_ON_THE_WAY_S = 0.02
_POLL_S = 0.002
_LONGEST_S = 600.0


@dataclass
class Server:
    """An OpenAI-compatible server that knows sums. Use it as a context manager; it has a thread of its own."""

    asked: Counter[str] = field(default_factory=Counter)
    """Sample -> how often it was asked for."""
    open_now: int = 0
    asked_at: list[float] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Server:
        ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._main(ready)), daemon=True).start()
        ready.wait()
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)

    async def _main(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b""
                reply = await self._completion(json.loads(body), reader) if body else b'{"data": []}'
                if reply is None:
                    return
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(reply), reply))
                await writer.drain()
                if "connection: close" in head.lower():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client was killed
        finally:
            writer.close()

    async def _completion(self, body: dict[str, Any], reader: asyncio.StreamReader) -> bytes | None:
        """The reply, or None when the client went away meanwhile."""
        question = body["messages"][-1]["content"]
        sample = f"{body['seed']} {question}"
        self.asked[sample] += 1
        self.asked_at.append(time.monotonic())
        self.open_now += 1
        try:
            await asyncio.sleep(min(0.6, 0.05 + random.Random(sample).expovariate(10)))
        finally:
            self.open_now -= 1
        if reader.at_eof():
            return None
        self.answered_at.append(time.monotonic())
        text = f"<think>{body['seed']}</think>\\boxed{{{sum(map(int, re.findall(r'[+-]?[0-9]+', question)))}}}"
        message = {"role": "assistant", "content": text}
        return json.dumps(
            {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": "sums",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21},
            }
        ).encode()

    def in_flight(self) -> int:
        """Unanswered requests, and those answered a moment ago."""
        before = time.monotonic() - _ON_THE_WAY_S
        return self.open_now + sum(1 for at in self.answered_at[-1000:] if at > before)


def write_recipe(folder: Path, port: int, num_samples: int) -> Path:
    """A recipe that asks the server for ``num_samples`` completions."""
    engine = {"kind": "openai", "model": "sums", "base_url": f"http://127.0.0.1:{port}/v1", "max_in_flight": _IN_FLIGHT}
    recipe = {
        "name": "kill",
        "problems": {"kind": "arithmetic", "num": num_samples // 4 + 5, "seed": 3, "max_steps": 4, "story_share": 0},
        "teachers": {"select": "first", "candidates": [{"name": "sums", "engine": engine}]},
        "rollouts": {"num_samples": 4, "max_tokens": 64},
        "train": {"student": str(ROOT / "recipes" / "quickstart" / "models" / "base"), "methods": ["sft"]},
        "eval": {"benchmarks": [{"name": "held-out", "problems": {"kind": "pool", "num": 5}}]},
    }
    path = folder / "kill.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


class Run:
    """One process of the recipe."""

    def __init__(self, recipe: Path, workspace: Path, server: Server) -> None:
        self.server = server
        self.asked_before, self.answered_before = len(server.asked_at), len(server.answered_at)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        command = [sys.executable, "-m", "factory", "run", recipe, "--workspace", workspace, "--until", "rollouts"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            list(map(str, command)), env=environment, stdout=self._log, stderr=self._log, start_new_session=True
        )

    def answered(self) -> int:
        """Replies to this process so far."""
        return len(self.server.answered_at) - self.answered_before

    def wait(self) -> None:
        """Let it finish. Ends the program when it fails."""
        if self.process.wait(_LONGEST_S):
            self._log.seek(0)
            raise SystemExit(f"the run failed by itself:\n{self._log.read()[-4000:].decode(errors='replace')}")

    def rate(self) -> float:
        """Replies per second from its first request to the last reply."""
        seconds = self.server.answered_at[-1] - self.server.asked_at[self.asked_before]
        return self.answered() / seconds

    def kill_at(self, answered: int, pause_s: float) -> tuple[int, int] | None:
        """SIGKILL so long after the so-manieth reply of all processes; replies to this one, and requests in flight.

        None when it was over before.
        """
        while self.process.poll() is None:
            if self.answered() and len(self.server.answered_at) >= answered:
                time.sleep(pause_s)
                if self.process.poll() is not None:
                    return None
                in_flight = self.server.in_flight()
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                got = self.answered()
                while self.server.open_now:  # so that the next process does not meet them
                    time.sleep(_POLL_S)
                return got, in_flight
            time.sleep(_POLL_S)
        return None


def digest(workspace: Path) -> str:
    """Of the final rows."""
    [path] = (workspace / "store").glob("rollouts-*/traces.parquet")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def undisturbed(recipe: Path, workspace: Path, server: Server) -> float:
    """Run it; its replies per second."""
    run = Run(recipe, workspace, server)
    run.wait()
    return run.rate()


def killed(recipe: Path, workspace: Path, server: Server, moments: list[tuple[float, float]]) -> dict[str, Any]:
    """Run it with a kill at each moment (so many replies, so many seconds after that), and let it finish."""
    server.asked.clear()
    start, kills = len(server.answered_at), []
    for num_replies, pause_s in moments:
        run = Run(recipe, workspace, server)
        kill = run.kill_at(start + int(num_replies), pause_s)
        if kill is None:
            run.wait()
            break
        kills.append(kill)
    last = Run(recipe, workspace, server)
    last.wait()
    return {
        "kills": len(kills),
        "asked": sum(server.asked.values()),
        "distinct": len(server.asked),
        "asked_again": sum(server.asked.values()) - len(server.asked),
        "in_flight_at_kills": sum(in_flight for _, in_flight in kills),
        "replies_before_each_kill": [got for got, _ in kills],
        "resumed_replies": last.answered(),
        "resumed_per_second": round(last.rate(), 1) if last.answered() else None,
        "rows": digest(workspace),
    }


def main() -> int:
    """Entry point."""
    options = parse()
    if options.workspace.exists():
        raise SystemExit(f"{options.workspace} is there already; give a fresh --workspace")
    options.workspace.mkdir(parents=True)
    rng = random.Random(options.seed)
    num = options.samples
    with Server() as server:
        recipe = write_recipe(options.workspace, server.port, num)
        rate = undisturbed(recipe, options.workspace / "undisturbed", server)
        moments = sorted((rng.uniform(0, num), rng.uniform(0, 0.2)) for _ in range(options.kills))
        often = killed(recipe, options.workspace / "often", server, moments)
        once = killed(recipe, options.workspace / "once", server, [(num / 2, 0.0)])
    rows = digest(options.workspace / "undisturbed")
    findings = {
        "samples": num,
        "max_in_flight": _IN_FLIGHT,
        "undisturbed_per_second": round(rate, 1),
        "resumed_to_undisturbed": round(once["resumed_per_second"] / rate, 3),
        "killed_often": often,
        "killed_once": once,
        "same_rows": often["rows"] == once["rows"] == rows,
    }
    print(json.dumps(findings, indent=1))
    few = all(run["asked_again"] <= run["in_flight_at_kills"] for run in (often, once))
    return 0 if findings["same_rows"] and few and findings["resumed_to_undisturbed"] >= 0.9 else 1


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="how often (default 30)")
    parser.add_argument("--samples", type=int, default=4000, help="completions of the recipe (default 4000)")
    parser.add_argument("--workspace", type=Path, required=True, help="a fresh folder")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
