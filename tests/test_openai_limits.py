"""Rate limits and money: what may be sent, when, and what it may cost at most."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from pathlib import Path
from typing import Any

import pytest
from loopback_server import Call, LoopbackServer, Reply, chat_reply, error_reply
from pydantic import ValidationError

from factory.drawing import Drawing
from factory.engines import openai_engine
from factory.engines.base import Completion, Request, SamplingParams
from factory.engines.config import OpenAIEngineConfig
from factory.engines.limits import Bucket
from factory.engines.openai_engine import OpenAIEngine
from factory.engines.spend import SpendLimitError, estimate, worst_price
from factory.rollout_store import RolloutStore


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_engine, "_FIRST_WAIT_S", 0.01)


def settings(url: str = "http://127.0.0.1:9/v1", **fields: Any) -> OpenAIEngineConfig:
    return OpenAIEngineConfig(model="tiny", base_url=url, **fields)


def samples(num: int, max_tokens: int = 100) -> list[Request]:
    params = SamplingParams(max_tokens=max_tokens)
    return [Request((("user", f"q{i:03d}"),), f"q{i:03d}", params, 0, i, "m") for i in range(num)]


def run(engine: OpenAIEngine, requests: list[Request]) -> list[Completion]:
    return [c for group in engine.generate(requests) for c in group]


# --- per minute


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("limit", "units"), [(60, 1), (1, 1), (3, 1), (6000, 1), (60_000, 700)])
def test_in_no_minute_is_more_taken_than_the_limit(limit: int, units: int) -> None:
    clock, takings = Clock(), []
    bucket = Bucket(limit, clock)
    while clock.now < 300 and len(takings) < 9000:
        wait = bucket.take(units)
        if wait:
            clock.now += wait
        else:
            takings.append(clock.now)
    for index, start in enumerate(takings):
        # At a few takings a minute the full bucket is one of them, so that one may be too many.
        assert units * (bisect_left(takings, start + 60) - index) <= max(limit, units * 2)
    assert len(takings) * units >= 0.45 * limit * min(5, clock.now / 60)


def test_a_taking_larger_than_the_bucket_is_made_up_for_before_the_next() -> None:
    clock = Clock()
    bucket = Bucket(6000, clock)
    assert bucket.take(3000) == 0
    wait = bucket.take(100)
    assert 29 < wait < 32
    bucket.correct(2900)
    assert 0.9 < bucket.take(100) < 1.1


def test_requests_per_minute_hold_over_all_servers() -> None:
    def echo(call: Call) -> Reply:
        return Reply(chat_reply("x"))

    with LoopbackServer(echo) as a, LoopbackServer(echo) as b:
        started = time.monotonic()
        config = OpenAIEngineConfig(model="tiny", base_urls=(a.url, b.url), max_requests_per_minute=1200)
        assert len(run(OpenAIEngine(config), samples(50))) == 50
        # 20 at once, and then 20 a second less what those 20 take.
        assert time.monotonic() - started >= 1.4
    assert len(a.calls) + len(b.calls) == 50


def test_a_retry_counts_as_a_request() -> None:
    with LoopbackServer(lambda call: error_reply(500, "x") if call.index % 2 else Reply(chat_reply("x"))) as server:
        started = time.monotonic()
        run(OpenAIEngine(settings(server.url, max_requests_per_minute=1200, max_in_flight=1)), samples(25))
        assert len(server.calls) == 49
        assert time.monotonic() - started >= 1.3


def test_tokens_that_were_not_used_come_back_when_the_reply_is_there() -> None:
    """By the estimates alone this would take 40 * 1000 / 983 s."""
    with LoopbackServer(lambda call: Reply(chat_reply("x", num_prompt_tokens=7, num_tokens=5))) as server:
        started = time.monotonic()
        got = run(OpenAIEngine(settings(server.url, max_tokens_per_minute=60_000)), samples(40, max_tokens=1000))
        seconds = time.monotonic() - started
    assert [c.finish_reason for c in got] == ["stop"] * 40
    assert seconds < 20


def test_tokens_that_were_used_do_not_come_back() -> None:
    with LoopbackServer(lambda call: Reply(chat_reply("x", num_prompt_tokens=7, num_tokens=500))) as server:
        started = time.monotonic()
        run(OpenAIEngine(settings(server.url, max_tokens_per_minute=60_000)), samples(4, max_tokens=500))
        assert time.monotonic() - started >= 0.9


# --- money


PRICES = {"price_per_1m_prompt_tokens": 1000.0, "price_per_1m_completion_tokens": 10_000.0}
"""A token of a completion costs a cent."""


def test_a_cap_without_prices_is_an_error_of_the_recipe() -> None:
    with pytest.raises(ValidationError, match="price_per_1m"):
        settings(max_spend=5.0)


def test_an_estimate_says_what_requests_may_cost_at_most() -> None:
    few = estimate(settings(**PRICES), samples(3))
    assert OpenAIEngine(settings(**PRICES)).estimate(samples(3)) == few
    assert (few.requests, few.completion_tokens_at_most) == (3, 300)
    assert few.prompt_tokens == 3 * (4 + 1)
    assert few.money_at_most == pytest.approx(3 * (1.00 + (4 + 256) * 0.001))
    assert str(few) == "3 requests, about 15 prompt tokens, at most 300 completion tokens, at most 3.78 to pay"
    assert estimate(settings(), samples(3)).money_at_most == 0.0
    assert estimate(settings(**PRICES), []) == type(few)(0, 0, 0, 0.0)


class Till:
    """A server that counts what it earns; ``worst`` is what the open requests may still cost."""

    def __init__(self, num_tokens: int, delay_s: float = 0.0, fault: Reply | None = None) -> None:
        self.num_tokens, self.delay_s, self.fault = num_tokens, delay_s, fault
        self.num_open, self.peak_open, self.earned, self.highest = 0, 0, 0.0, 0.0
        self.lock = threading.Lock()

    def __call__(self, call: Call) -> Reply:
        cost = (7 * 1000 + self.num_tokens * 10_000) / 1e6
        with self.lock:
            self.num_open += 1
            self.peak_open = max(self.peak_open, self.num_open)
            self.highest = max(self.highest, self.earned + self.num_open * 1.26)
        time.sleep(self.delay_s)
        with self.lock:
            self.num_open -= 1
            if self.fault is not None and call.index % 2:
                return self.fault
            self.earned += cost
        return Reply(chat_reply("x", num_prompt_tokens=7, num_tokens=self.num_tokens))


def test_spent_and_open_together_never_pass_the_cap_and_what_was_open_is_kept() -> None:
    till = Till(num_tokens=50, delay_s=0.05)
    arrived: list[Completion] = []
    with LoopbackServer(till) as server:
        engine = OpenAIEngine(settings(server.url, max_spend=10.0, **PRICES))
        assert worst_price(engine.config, samples(1)[0]) == pytest.approx(1.26)
        with pytest.raises(SpendLimitError) as stop:
            for group in engine.generate(samples(100)):
                arrived += group
    assert till.highest <= 10.0
    assert 1 < till.peak_open <= 7  # 8 * 1.26 would pass it
    # Sent as long as the worst case fits: 10 - 1.26 is passed by the 18th.
    assert len(arrived) == len(server.calls) == 18
    assert till.earned == pytest.approx(18 * 0.507)
    assert engine.spent == pytest.approx(till.earned)
    assert all(w in str(stop.value) for w in ("9.126", "max_spend = 10", "1.26", "raise engine.max_spend", "kept"))


def test_a_raised_cap_goes_on_where_the_lower_one_stopped(tmp_path: Path) -> None:
    till = Till(num_tokens=100)
    requests = samples(20)
    with LoopbackServer(till) as server, RolloutStore(tmp_path / "rollouts.sqlite") as store:
        for cap, expected in ((5.0, 4), (5.0, 8), (100.0, 20)):
            engine = OpenAIEngine(settings(server.url, max_spend=cap, max_in_flight=3, **PRICES))
            drawing = Drawing(engine, store, lambda num, text: None)
            try:
                list(drawing.completions(requests))
            except SpendLimitError:
                pass
            assert sum(c is not None for c in store.get(requests)) == expected
    assert len(server.calls) == 20


def test_the_cap_counts_over_several_calls_of_one_engine() -> None:
    with LoopbackServer(Till(num_tokens=100)) as server:
        engine = OpenAIEngine(settings(server.url, max_spend=4.0, **PRICES))
        assert len(run(engine, samples(2))) == 2
        with pytest.raises(SpendLimitError):
            run(engine, samples(2))
    assert len(server.calls) == 3


def test_a_refusal_costs_nothing_and_a_broken_reply_the_worst() -> None:
    for fault, expected in ((error_reply(429, "slow down"), 3 * 0.507), (Reply(drop=True), 3 * 0.507 + 2 * 1.26)):
        with LoopbackServer(Till(num_tokens=50, fault=fault)) as server:
            engine = OpenAIEngine(settings(server.url, max_spend=100.0, max_in_flight=1, **PRICES))
            assert len(run(engine, samples(3))) == 3
        assert len(server.calls) == 5
        assert engine.spent == pytest.approx(expected)


def test_a_reply_without_token_counts_costs_the_worst() -> None:
    body = {**chat_reply("x"), "usage": None}
    with LoopbackServer(lambda call: Reply(body)) as server:
        engine = OpenAIEngine(settings(server.url, max_spend=3.0, **PRICES))
        with pytest.raises(SpendLimitError):
            run(engine, samples(50))
    assert len(server.calls) == 2
