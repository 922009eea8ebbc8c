"""A stand-in for an interpreter that has vLLM: same command line and pages, invented tokens, and it dies on demand."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

_SERVER = r"""
import http.server, json, os, subprocess, sys, threading, time

folder = FOLDER
flags = dict(zip(sys.argv, sys.argv[1:]))
plan = json.load(open(folder + "/plan.json"))
lock = threading.Lock()
with open(folder + "/starts.jsonl", "a+") as book:
    book.seek(0)
    start = len(book.readlines())
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])  # as vLLM's engine process
    keys = [name for name in os.environ if name.endswith("_API_KEY")]
    book.write(json.dumps({"argv": sys.argv, "pids": [os.getpid(), worker.pid], "keys": keys}) + "\n")
here = plan[min(start, len(plan) - 1)]
print("loading weights", flush=True)
if here.get("exit") is not None:
    print("ValueError: no such quantization", flush=True)
    os._exit(here["exit"])
time.sleep(here.get("load_s", 0))
served = 0


class Pages(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def send(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/health":
            return self.send(200, {})
        return self.send(200, {"data": [{"id": flags["--served-model-name"], "max_model_len": 96}]})

    def do_POST(self):
        global served
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with lock:
            served += 1
            if here.get("die_after") is not None and served > here["die_after"]:
                print("torch.OutOfMemoryError: out of memory", flush=True)
                os._exit(1)
            with open(folder + "/calls.jsonl", "a") as book:
                book.write(json.dumps([self.path, body]) + "\n")
        time.sleep(here.get("answer_s", 0))
        ids = body["prompt"]
        reply = {"usage": {"prompt_tokens": len(ids), "completion_tokens": 5}}
        choice = {"index": 0, "text": "?", "finish_reason": "length"}
        if body.get("return_token_ids"):
            fill = [5 + (body["seed"] * 7 + i) % 11 for i in range(5)]
            choice["token_ids"] = fill[: body["max_tokens"]]
            if body["max_tokens"] >= 5:
                choice |= {"token_ids": fill[:4] + [EOS], "finish_reason": "stop"}
        if body.get("prompt_logprobs") is not None:
            choice["prompt_logprobs"] = [None] + [{str(t): {"logprob": -t / 8}} for t in ids[1:]]
        self.send(200, reply | {"choices": [choice]})


http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer(("127.0.0.1", int(flags["--port"])), Pages).serve_forever()
"""


class FakeVllm:
    """What ``engine.python`` is set to, and what its servers did.

    Args:
        plan: per start of a server what it does: ``die_after`` so many completions, ``exit`` at once with this status,
            ``load_s`` seconds until it answers, ``answer_s`` per completion. The last entry goes for all that follow.
        distribution: the package that seems to provide vLLM.
    """

    def __init__(self, folder: Path, *plan: dict[str, Any], eos: int = 2, distribution: str = "vllm") -> None:
        self.folder = folder
        packages = folder / "packages"
        (packages / "vllm" / "entrypoints" / "openai").mkdir(parents=True)
        (packages / "vllm" / "entrypoints" / "cli").mkdir()
        source = _SERVER.replace("FOLDER", repr(str(folder))).replace("EOS", str(eos))
        for name in ("openai/api_server.py", "cli/main.py"):
            (packages / "vllm" / "entrypoints" / name).write_text(source)
        info = packages / f"{distribution.replace('-', '_')}-9.9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 9.9\n")
        (info / "top_level.txt").write_text("vllm\n")
        (folder / "plan.json").write_text(json.dumps(plan or [{}]))
        self.python = folder / "python"
        self.python.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" "$@"\n')
        self.python.chmod(0o755)

    @property
    def starts(self) -> list[dict[str, Any]]:
        """Per start: ``argv``, ``pids`` of server and worker, ``keys``: names of keys in its environment."""
        return _rows(self.folder / "starts.jsonl")

    @property
    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        """Path and body of each request that was answered."""
        return [(path, body) for path, body in _rows(self.folder / "calls.jsonl")]

    def running(self) -> list[int]:
        """Processes of its servers that are still there."""
        return [pid for start in self.starts for pid in start["pids"] if is_running(pid)]


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
