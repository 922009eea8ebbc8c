"""A server that fails three times in ten, in every way there is: every sample arrives once, and is paid for once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from loopback_server import Call, LoopbackServer, Reply, chat_reply, error_reply

from factory.drawing import Drawing
from factory.engines import openai_engine
from factory.engines.base import Request, SamplingParams
from factory.engines.config import OpenAIEngineConfig
from factory.engines.openai_engine import OpenAIEngine
from factory.errors import EngineError
from factory.rollout_store import RolloutStore

HANG_S = 60.0
FAULTS: dict[str, Reply] = {
    "429 with Retry-After": error_reply(429, "slow down", headers={"Retry-After": "0.05"}),
    "429": error_reply(429, "slow down"),
    "500": error_reply(500, "CUDA error"),
    "503": Reply("<html><title>503</title></html>", status=503, headers={"Content-Type": "text/html"}),
    "hang": Reply(delay_s=HANG_S),
    "slow drip": Reply(chat_reply("WRONG" * 300), drip_s=0.02),
    "cut body": Reply(chat_reply("WRONG" * 300), cut=True),
    "invalid JSON": Reply('{"choices": [{"message": {"content": "WRONG'),
    "empty choices": Reply({"choices": []}),
    "wrong model": Reply({**chat_reply("WRONG"), "model": "another-model"}),
    "no finish_reason, no usage": Reply({**chat_reply("WRONG", finish=None), "usage": None}),
    "reset": Reply(reset=True),
}


class FaultyServer(LoopbackServer):
    """Whether a call fails depends on its prompt and on how often that was asked, not on the order of arrival."""

    def __init__(self, share: float) -> None:
        super().__init__(self.decide)
        self.share = share
        self.answered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._decisions = threading.Lock()

    def decide(self, call: Call) -> Reply:
        with self._decisions:
            self._asked[call.prompt] += 1
            dice = random.Random(f"{call.prompt}/{self._asked[call.prompt]}")
            # What the first reply says about the model is believed.
            if call.index == 0 or dice.random() >= self.share:
                self.answered[call.prompt] += 1
                return Reply(chat_reply(f"echo {call.prompt}", finish=dice.choice(["stop", None])))
            fault = dice.choice(list(FAULTS))
            self.faults[fault] += 1
            return FAULTS[fault]


def engine_for(*urls: str, **fields: Any) -> OpenAIEngine:
    places = {"base_url": urls[0]} if len(urls) == 1 else {"base_urls": urls}
    return OpenAIEngine(OpenAIEngineConfig(model="tiny", api_key_env="FAULTS_KEY", **places, **fields))


def samples(num: int) -> list[Request]:
    params = SamplingParams(max_tokens=64)
    return [Request((("user", f"q{i}"),), f"q{i}", params, 0, i, "m") for i in range(num)]


def draw(engine: OpenAIEngine, store: RolloutStore, requests: list[Request]) -> tuple[Counter[str], Drawing]:
    drawing = Drawing(engine, store, lambda num, text: None)
    texts: Counter[str] = Counter()
    for completion in drawing.completions(requests):
        assert completion.text == f"echo {completion.request.prompt}"
        texts[completion.request.prompt] += 1
    return texts, drawing


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_engine, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("FAULTS_KEY", "sk-faults-0123456789")


@pytest.mark.parametrize("num", [600, pytest.param(5000, marks=pytest.mark.slow)])
def test_at_30_percent_faults_every_sample_arrives_once_and_is_generated_once(tmp_path: Path, num: int) -> None:
    requests = samples(num)
    with FaultyServer(0.3) as server, RolloutStore(tmp_path / "rollouts.sqlite") as store:
        engine = engine_for(server.url, timeout_s=2.5, max_in_flight=48)
        texts, drawing = draw(engine, store, requests)
        stored = store.get(requests)
        num_calls = len(server.calls)
        again, _ = draw(engine_for(server.url), store, requests)
    assert drawing.failures == {}
    assert texts == Counter(r.prompt for r in requests)
    assert [c.text if c else None for c in stored] == [f"echo {r.prompt}" for r in requests]
    # A sample that was answered is never asked for again: not in this run, not in the next.
    assert server.answered == texts
    assert again == texts
    assert len(server.calls) == num_calls
    assert set(server.faults) == set(FAULTS)
    assert 0.2 < server.faults.total() / num_calls < 0.4


def test_a_key_that_is_refused_among_other_faults_stops_in_seconds_and_names_its_variable(tmp_path: Path) -> None:
    def refuse(call: Call) -> Reply:
        return error_reply(401, "no such key") if call.index % 3 else Reply(delay_s=HANG_S)

    with LoopbackServer(refuse) as server, RolloutStore(tmp_path / "rollouts.sqlite") as store:
        started = time.monotonic()
        with pytest.raises(EngineError, match="environment variable FAULTS_KEY"):
            draw(engine_for(server.url), store, samples(500))
        assert time.monotonic() - started < 10.0
    assert len(server.calls) <= 64


def test_answers_that_are_being_generated_when_the_account_runs_dry_are_waited_for_and_kept(tmp_path: Path) -> None:
    """They are paid for."""

    def poor(call: Call) -> Reply:
        if call.index < 4:
            return Reply(chat_reply(f"echo {call.prompt}"), delay_s=0.0 if call.index == 0 else 1.0)
        return error_reply(402, "no credit left")

    with LoopbackServer(poor) as server, RolloutStore(tmp_path / "rollouts.sqlite") as store:
        with pytest.raises(EngineError, match="cannot pay"):
            draw(engine_for(server.url, max_in_flight=4), store, samples(50))
        assert sum(c is not None for c in store.get(samples(50))) == 4
    assert len(server.calls) == 5


def test_when_the_last_server_dies_the_run_stops_and_the_next_one_asks_only_for_the_rest(tmp_path: Path) -> None:
    answered: list[str] = []

    def until(server: LoopbackServer, last: int) -> Any:
        def mortal(call: Call) -> Reply:
            if call.index >= last:
                threading.Thread(target=server.die).start()
                return Reply(reset=True)
            answered.append(call.prompt)
            return Reply(chat_reply(f"echo {call.prompt}"))

        return mortal

    first, second = (LoopbackServer(lambda call: Reply()) for _ in range(2))
    first.behaviour, second.behaviour = until(first, 20), until(second, 60)
    requests = samples(300)
    with RolloutStore(tmp_path / "rollouts.sqlite") as store:
        with first, second, pytest.raises(EngineError) as stop:
            draw(engine_for(first.url, second.url, max_in_flight=8, max_retries=2), store, requests)
        kept = [r.prompt for r, c in zip(requests, store.get(requests), strict=True) if c is not None]
        with LoopbackServer(lambda call: Reply(chat_reply(f"echo {call.prompt}"))) as third:
            texts, _ = draw(engine_for(third.url), store, requests)
    assert all(word in str(stop.value) for word in ("no server answers", "engine.base_urls", "run again", "kept"))
    assert texts == Counter(r.prompt for r in requests)
    assert len(answered) == 80
    assert 80 - 8 <= len(kept) <= 80  # what was answered, but for replies cut off by the death
    assert {c.prompt for c in third.calls} == {r.prompt for r in requests} - set(kept)


def test_a_reply_from_another_model_than_before_is_not_taken() -> None:
    def fallback(call: Call) -> Reply:
        others = {1: "cheap-model", 2: "org/tiny-2026-01-01"}
        return Reply({**chat_reply(f"{call.index}"), "model": others.get(call.index, "tiny")})

    with LoopbackServer(fallback) as server:
        engine = engine_for(server.url, max_in_flight=1)
        got = {c.request.prompt: c.text for group in engine.generate(samples(3)) for c in group}
    assert got == {"q0": "0", "q1": "2", "q2": "3"}


def test_a_server_that_knows_the_model_by_another_name_is_believed() -> None:
    with LoopbackServer(lambda call: Reply({**chat_reply("x"), "model": "/models/weights.gguf"})) as server:
        got = [c for group in engine_for(server.url).generate(samples(5)) for c in group]
    assert [c.finish_reason for c in got] == ["stop"] * 5
    assert len(server.calls) == 5
