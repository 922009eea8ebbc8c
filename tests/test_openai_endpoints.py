"""Several servers of one model: who is asked, who is left out, and what that changes about the completions: nothing."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest
from loopback_server import Call, LoopbackServer, Reply, chat_reply, error_reply
from pydantic import ValidationError

from factory.engines import balance, openai_engine
from factory.engines.balance import Balance, Endpoint
from factory.engines.base import Completion, Request, SamplingParams
from factory.engines.config import OpenAIEngineConfig
from factory.engines.openai_engine import OpenAIEngine, check_server, openai_identity
from factory.engines.openai_reply import AttemptError, FailureKind
from factory.errors import EngineError

A, B, C = (f"http://10.0.0.{i}:8000/v1" for i in (1, 2, 3))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_engine, "_FIRST_WAIT_S", 0.01)


def settings(*urls: str, **fields: Any) -> OpenAIEngineConfig:
    return OpenAIEngineConfig(model="tiny", base_urls=urls, api_key_env="NO_SUCH_KEY", **fields)


def run(engine: OpenAIEngine, num: int) -> dict[str, Completion]:
    params = SamplingParams(max_tokens=64)
    requests = [Request((("user", f"q{i}"),), f"q{i}", params, 0, i, "m") for i in range(num)]
    arrived = [c for group in engine.generate(requests) for c in group]
    assert sorted(c.request.prompt for c in arrived) == sorted(r.prompt for r in requests)
    return {c.request.prompt: c for c in arrived}


def echo(call: Call) -> Reply:
    return Reply(chat_reply(f"echo {call.prompt}"))


def dead_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


# --- which completions are the same


def test_identity_does_not_depend_on_order_number_or_place_of_the_servers() -> None:
    same = [settings(A, B), settings(B, A), settings(A, B, C), settings(C)]
    assert {openai_identity(c) for c in same} == {"openai:tiny@replicas"}


def test_servers_of_other_weights_under_the_same_name_are_told_apart_by_served_as() -> None:
    assert openai_identity(settings(A, B, served_as="step-500")) == "openai:tiny@step-500"
    # A server that gets company keeps its completions.
    alone = OpenAIEngineConfig(model="tiny", base_url=A)
    assert openai_identity(alone) == openai_identity(settings(A, B, served_as="10.0.0.1:8000"))
    moved = [OpenAIEngineConfig(model="tiny", base_url=url, served_as="ours") for url in (A, B)]
    assert {openai_identity(c) for c in moved} == {"openai:tiny@ours"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"base_urls": (A, B), "base_url": C}, "both base_url and base_urls"),
        ({"base_urls": (A, B, A + "/")}, "twice"),
        ({"base_urls": ("http://user:pw@host/v1",)}, "api_key_env"),
        ({"base_urls": ("10.0.0.1:8000",)}, "http://"),
    ],
)
def test_a_list_of_servers_that_cannot_be_meant_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        OpenAIEngineConfig(model="tiny", **fields)


# --- who is asked


def test_a_slow_server_gets_fewer_requests_than_a_fast_one() -> None:
    with LoopbackServer(echo) as fast, LoopbackServer(lambda c: Reply(chat_reply("x"), delay_s=0.3)) as slow:
        run(OpenAIEngine(settings(slow.url, fast.url, max_in_flight=8)), 100)
    assert len(fast.calls) + len(slow.calls) == 100
    assert 4 <= len(slow.calls) < 30


def test_equal_servers_share_evenly() -> None:
    gates = threading.Barrier(12)

    def meet(call: Call) -> Reply:
        gates.wait(30)
        return echo(call)

    with LoopbackServer(meet) as a, LoopbackServer(meet) as b, LoopbackServer(meet) as c:
        run(OpenAIEngine(settings(a.url, b.url, c.url, max_in_flight=12)), 12)
    assert [len(s.calls) for s in (a, b, c)] == [4, 4, 4]


def test_a_server_that_is_not_there_costs_neither_retries_nor_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_engine, "_FIRST_WAIT_S", 20.0)
    started = time.monotonic()
    with LoopbackServer(echo) as alive:
        got = run(OpenAIEngine(settings(dead_url(), alive.url, max_retries=0, max_in_flight=8)), 60)
    assert all(c.finish_reason == "stop" for c in got.values())
    assert time.monotonic() - started < 15.0


def test_a_server_that_dies_midway_hands_its_requests_to_the_others() -> None:
    def mortal(call: Call) -> Reply:
        if call.index < 10:
            return echo(call)
        threading.Thread(target=mortal_server.die).start()
        return Reply(reset=True)

    mortal_server = LoopbackServer(mortal)
    with mortal_server, LoopbackServer(echo) as other:
        got = run(OpenAIEngine(settings(mortal_server.url, other.url, max_retries=0, max_in_flight=8)), 200)
    assert {p: c.text for p, c in got.items()} == {p: f"echo {p}" for p in got}


def test_a_server_that_comes_back_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "_FIRST_OUT_S", 0.05)
    monkeypatch.setattr(balance, "_LONGEST_OUT_S", 0.1)

    def ill(call: Call) -> Reply:
        return Reply(drop=True) if call.index < 8 else echo(call)

    with LoopbackServer(ill) as flaky, LoopbackServer(lambda c: Reply(chat_reply("x"), delay_s=0.02)) as steady:
        got = run(OpenAIEngine(settings(flaky.url, steady.url, max_in_flight=4, max_retries=0)), 300)
    assert all(c.finish_reason == "stop" for c in got.values())
    assert len(flaky.calls) > 30


def test_a_rate_limit_of_one_server_is_no_wait_while_another_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_engine, "_FIRST_WAIT_S", 20.0)
    started = time.monotonic()
    with (
        LoopbackServer(lambda call: error_reply(429, "slow down", headers={"Retry-After": "1000"})) as busy,
        LoopbackServer(echo) as free,
    ):
        got = run(OpenAIEngine(settings(busy.url, free.url, max_in_flight=4, max_retries=0)), 40)
    assert all(c.finish_reason == "stop" for c in got.values())
    assert time.monotonic() - started < 15.0
    assert len(busy.calls) <= 4  # those that were open when it said so


def test_a_time_out_is_repeated_at_another_server() -> None:
    with LoopbackServer(lambda call: Reply(delay_s=60.0)) as hung, LoopbackServer(echo) as other:
        got = run(OpenAIEngine(settings(hung.url, other.url, max_in_flight=2, timeout_s=1.0)), 10)
    assert all(c.finish_reason == "stop" for c in got.values())


def test_a_row_that_no_server_can_answer_is_lost_alone() -> None:
    def poisoned(call: Call) -> Reply:
        return error_reply(500, "CUDA error") if call.prompt == "q3" else echo(call)

    with LoopbackServer(poisoned) as a, LoopbackServer(poisoned) as b:
        got = run(OpenAIEngine(settings(a.url, b.url, max_in_flight=4, max_retries=1)), 30)
        asked = [c.prompt for s in (a, b) for c in s.calls].count("q3")
    assert "CUDA error, after retries as well" in (got.pop("q3").error or "")
    assert asked == 4  # both of them, and both again
    assert all(c.finish_reason == "stop" for c in got.values())


def test_a_key_that_one_server_refuses_is_an_error_that_names_the_server() -> None:
    with (
        LoopbackServer(echo) as good,
        LoopbackServer(lambda call: error_reply(401, "who?")) as strict,
        pytest.raises(EngineError, match="NO_SUCH_KEY") as stop,
    ):
        run(OpenAIEngine(settings(good.url, strict.url, max_in_flight=2)), 20)
    assert f"({strict.url.removeprefix('http://').removesuffix('/v1')}: HTTP 401: who?)" in str(stop.value)


# --- the rules, one by one


def failure(kind: FailureKind, **fields: Any) -> AttemptError:
    return AttemptError(kind, "fault", **fields)


def test_a_server_is_left_out_for_longer_each_time_and_tried_by_one_request() -> None:
    now = 0.0
    a, b = Endpoint("a", "a"), Endpoint("b", "b")
    servers = Balance([a, b], clock=lambda: now)
    outs = []
    for _ in range(8):
        assert servers.take({b}) is a
        servers.failed(a, failure(FailureKind.UNREACHABLE, heard=False))
        servers.give_back(a)
        assert servers.take() is b
        servers.give_back(b)
        outs.append(a.out_until - now)
        now = a.out_until
    assert outs == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [servers.take(), servers.take(), servers.take()] == [a, b, b]
    servers.answered(a)
    assert servers.take() is a


def test_the_only_server_is_asked_whatever_it_does() -> None:
    only = Endpoint("a", "a")
    servers = Balance([only])
    for kind in (FailureKind.UNREACHABLE, FailureKind.PASSING, FailureKind.TIMEOUT, FailureKind.BUSY) * 5:
        assert servers.take() is only
        servers.failed(only, failure(kind, heard=False, retry_after_s=1000.0))
        servers.give_back(only)
    assert not servers.has_other({only})


# --- before a run


def test_a_check_of_several_servers_minds_a_silent_one_only_if_all_are_silent() -> None:
    def models(call: Call) -> Reply:
        return Reply({"data": [{"id": "tiny"}]})

    with LoopbackServer(models) as good, LoopbackServer(lambda call: Reply({"data": [{"id": "huge"}]})) as other:
        assert check_server(settings(dead_url(), good.url)) is None
        problem = check_server(settings(good.url, other.url)) or ""
    place = other.url.removeprefix("http://").removesuffix("/v1")
    assert f"{place}: the server does not list this model; it has 1: huge" in problem
    assert "no connection" in (check_server(settings(dead_url(), dead_url())) or "")
