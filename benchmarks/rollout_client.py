"""What our client costs beside a bare asyncio client: rows/s, CPU seconds per 1k rows, memory, at 512 in flight.

    python -m benchmarks.rollout_client [--in-flight 512] [--delays 1.0 0.02] [--rows N] [--rounds N] [--curator PYTHON]

The server is a process of its own on 127.0.0.1 with as many slots as requests may be in flight. It answers each
request ``delay`` seconds after it has read it, so its capacity is ``slots / delay`` rows/s at most: 512 for the first
delay, where a client that is good enough is not the limit; 25,600 for the second, which no client in Python reaches,
so that the clients themselves are measured.

Every client is a process of its own, too, and they take turns. The clock starts when its imports are done and stops
with the last answer; CPU is the client's, user and system, over the same time; memory is its peak resident set.

* ``bare``: 512 coroutines, each with a connection that it keeps, that write a prepared request and read until the
  answer's ``Content-Length`` is there. It parses no JSON, checks nothing, and cannot retry: an upper bound.
* ``ours``: ``OpenAIEngine``, answers as completions.
* ``curator``: ``bespokelabs-curator`` through its own OpenAI client, with ``--curator`` naming a Python that has it.

At the start all requests go out at once, and their answers come at once; until these are spread over the delay, the
server waits for the client. So the share of the bare client's rate grows with the number of rows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TEXT = "Let us think step by step. " * 80
"""An answer of 2 kB; the server sends the same to everyone."""
CURATOR = """
import json, os, resource, sys, time
url, rows, in_flight = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.environ.update(OPENAI_API_KEY="sk-none", TELEMETRY_ENABLED="0", CURATOR_VIEWER="0", HOSTED_CURATOR_VIEWER="0")
import tiktoken
try:
    tiktoken.get_encoding("cl100k_base")
except Exception:  # its table is downloaded at first use; without a network, bytes are counted, which costs less
    table = type("Bytes", (), {"encode": lambda self, text, **_: list(text.encode())})()
    tiktoken.get_encoding = tiktoken.encoding_for_model = lambda *_: table
from bespokelabs import curator
model = curator.LLM(model_name="tiny", backend="openai", backend_params={
    "base_url": url, "max_concurrent_requests": in_flight, "max_requests_per_minute": 10_000_000,
    "max_tokens_per_minute": 10_000_000_000, "require_all_responses": True})
def usage():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
cpu, started = usage(), time.monotonic()
out = model([f"question {i}" for i in range(rows)])
seconds, cpu = time.monotonic() - started, usage() - cpu
out = getattr(out, "dataset", out)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print("RESULT " + json.dumps({"rows": len(out), "seconds": seconds, "cpu_s": cpu, "peak_mb": peak / 1024}))
"""


class Result(NamedTuple):
    """One client's run."""

    rows: int
    seconds: float
    cpu_s: float
    peak_mb: float


# --- the server


class _Answer(asyncio.Protocol):
    """Reads whole requests, answers each after a delay. Slots are counted over all connections."""

    def __init__(self, slots: asyncio.Semaphore, delay_s: float, reply: bytes) -> None:
        self._slots, self._delay_s, self._reply = slots, delay_s, reply
        self._buffer = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, mark, body = self._buffer.partition(b"\r\n\r\n")
        if not mark or len(body) < _content_length(head):
            return
        self._buffer = b""
        close = b"connection: close" in head.lower()
        task = asyncio.get_running_loop().create_task(self._serve(close))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, close: bool) -> None:
        async with self._slots:
            await asyncio.sleep(self._delay_s)
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(self._reply)
        if close:
            self._transport.close()


def _content_length(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next((int(value) for name, _, value in lines if name == b"content-length"), 0)


async def serve(slots: int, delay_s: float) -> None:
    """Serve until killed; the first line printed is the port."""
    body = json.dumps(
        {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "created": 0,
            "model": "tiny",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 500, "total_tokens": 509},
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    gate = asyncio.Semaphore(slots)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Answer(gate, delay_s, head.encode() + body), "127.0.0.1", 0, backlog=2048
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# --- the clients


async def bare(port: int, rows: int, in_flight: int) -> int:
    """The upper bound: prepared bytes out, bytes in."""
    body = json.dumps(
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": "question 0"}],
            "temperature": 1.0,
            "top_p": 1.0,
            "max_tokens": 1024,
            "seed": 0,
        }
    )
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()
    waiting = iter(range(rows))
    num_done = 0

    async def work() -> None:
        nonlocal num_done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in waiting:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(_content_length(answer))
            num_done += 1
        writer.close()

    await asyncio.gather(*(work() for _ in range(min(in_flight, rows))))
    return num_done


def ours(port: int, rows: int, in_flight: int) -> int:
    """The engine, as a stage uses it."""
    from factory.engines.base import Request, SamplingParams
    from factory.engines.config import OpenAIEngineConfig
    from factory.engines.openai_engine import OpenAIEngine

    engine = OpenAIEngine(
        OpenAIEngineConfig(model="tiny", base_url=f"http://127.0.0.1:{port}/v1", max_in_flight=in_flight)
    )
    params = SamplingParams()
    requests = [Request((("user", f"question {i}"),), f"question {i}", params, 0, i, "m") for i in range(rows)]
    num_done = 0
    for group in engine.generate(requests):
        num_done += sum(c.finish_reason == "stop" and c.text == TEXT for c in group)
    return num_done


def _measured(client: str, port: int, rows: int, in_flight: int) -> Result:
    import openai  # noqa: F401  # imports are not part of what is measured

    cpu, started = _cpu_s(), time.monotonic()
    if client == "bare":
        num_done = asyncio.run(bare(port, rows, in_flight))
    else:
        num_done = ours(port, rows, in_flight)
    seconds, cpu = time.monotonic() - started, _cpu_s() - cpu
    return Result(num_done, seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# --- the comparison


def run_client(client: str, port: int, rows: int, in_flight: int, curator: str | None) -> Result | None:
    """One client in a process of its own; None when it ended without a result."""
    if client == "curator":
        command = [curator or "", "-c", CURATOR, f"http://127.0.0.1:{port}/v1", str(rows), str(in_flight)]
    else:
        shape = ["--client", client, "--port", str(port), "--rows", str(rows), "--in-flight", str(in_flight)]
        command = [sys.executable, "-m", "benchmarks.rollout_client", *shape]
    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, "CURATOR_CACHE_DIR": cache}
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=900)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return Result(**json.loads(line.removeprefix("RESULT ")))
    print(f"{client}: no result\n{done.stderr[-1500:]}", file=sys.stderr)
    return None


def compare(clients: list[str], delay_s: float, rows: int, in_flight: int, rounds: int, curator: str | None) -> None:
    """Print one table."""
    command = [sys.executable, "-m", "benchmarks.rollout_client", "--serve", str(in_flight), str(delay_s)]
    found: dict[str, list[Result]] = {c: [] for c in clients}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            for _ in range(rounds):
                for client in clients:
                    result = run_client(client, port, rows, in_flight, curator)
                    found[client] += [result] if result else []
        finally:
            server.kill()
    print(f"\n{in_flight} in flight, {delay_s:g} s per answer, {rows} rows, median of {rounds}")
    print(f"{'client':8} {'rows':>6} {'rows/s':>8} {'of bare':>8} {'CPU s/1k':>9} {'peak MB':>8}")
    speeds = {c: statistics.median(r.rows / r.seconds for r in rs) for c, rs in found.items() if rs}
    for client, speed in speeds.items():
        rs = found[client]
        cpu = statistics.median(1000 * r.cpu_s / r.rows for r in rs)
        peak = statistics.median(r.peak_mb for r in rs)
        share = speed / speeds["bare"] if "bare" in speeds else float("nan")
        print(f"{client:8} {min(r.rows for r in rs):6d} {speed:8.1f} {share:8.1%} {cpu:9.3f} {peak:8.0f}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-flight", type=int, default=512)
    parser.add_argument("--delays", type=float, nargs="+", default=[1.0, 0.02])
    parser.add_argument("--rows", type=int, default=6144)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--curator", help="a Python with bespokelabs-curator; left out otherwise")
    parser.add_argument("--serve", nargs=2, metavar=("SLOTS", "DELAY"), help=argparse.SUPPRESS)
    parser.add_argument("--client", choices=["bare", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve(int(args.serve[0]), float(args.serve[1])))
    elif args.client:
        print("RESULT " + json.dumps(_measured(args.client, args.port, args.rows, args.in_flight)._asdict()))
    else:
        clients = ["bare", "ours", *(["curator"] if args.curator else [])]
        for delay_s in args.delays:
            compare(clients, delay_s, args.rows, args.in_flight, args.rounds, args.curator)


if __name__ == "__main__":
    main()
