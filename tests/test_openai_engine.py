"""The engine against a real server on 127.0.0.1: what arrives, what a fault costs, and what ends the stream."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback_server import Call, LoopbackServer, Reply, chat_reply, error_reply
from pydantic import ValidationError

from factory.engines import openai_engine
from factory.engines.base import Completion, Request, SamplingParams
from factory.engines.config import OpenAIEngineConfig
from factory.engines.openai_engine import OpenAIEngine, check_server, openai_identity
from factory.errors import EngineError

KEY = "sk-test-4f1d9c22e07b4a55"
LONG_S = 30.0
"""Far beyond what anything here takes, even on a loaded machine."""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between attempts start at 10 ms instead of half a second."""
    monkeypatch.setattr(openai_engine, "_FIRST_WAIT_S", 0.01)


def settings(base_url: str, **fields: Any) -> OpenAIEngineConfig:
    return OpenAIEngineConfig(model="tiny", base_url=base_url, api_key_env="TEST_KEY", **fields)


def asks(prompts: list[str]) -> list[Request]:
    params = SamplingParams(temperature=0.7, top_p=0.9, max_tokens=64)
    return [Request((("user", p),), p, params, sample=0, seed=11, model="m") for p in prompts]


def run(server: LoopbackServer, prompts: list[str], **fields: Any) -> dict[str, Completion]:
    """Every completion by its prompt; fails when a request came twice or not at all."""
    engine = OpenAIEngine(settings(server.url, **fields))
    arrived = [c for group in engine.generate(asks(prompts)) for c in group]
    assert sorted(c.request.prompt for c in arrived) == sorted(prompts)
    return {c.request.prompt: c for c in arrived}


def echo(call: Call) -> Reply:
    return Reply(chat_reply(f"echo {call.prompt}"))


def engine_threads() -> set[threading.Thread]:
    """Threads of this process that the loopback server did not start."""
    return {t for t in threading.enumerate() if "process_request" not in t.name and t.name != "loopback"}


def assert_threads_end(before: set[threading.Thread]) -> None:
    end = time.monotonic() + LONG_S
    while engine_threads() - before and time.monotonic() < end:
        time.sleep(0.02)
    assert not engine_threads() - before


# --- what arrives


def test_fifty_requests_are_open_at_once_and_each_is_answered_once() -> None:
    all_open = threading.Barrier(50)

    def meet(call: Call) -> Reply:
        all_open.wait(LONG_S)
        return echo(call)

    with LoopbackServer(meet) as server:
        got = run(server, [f"q{i}" for i in range(50)], max_in_flight=50)
    assert all(c.text == f"echo {p}" and c.finish_reason == "stop" for p, c in got.items())
    assert {(c.num_prompt_tokens, c.num_tokens) for c in got.values()} == {(7, 5)}
    assert all(0 < c.seconds < LONG_S for c in got.values())


def test_no_more_than_max_in_flight_are_open() -> None:
    open_now, peak, lock = 0, 0, threading.Lock()

    def count(call: Call) -> Reply:
        nonlocal open_now, peak
        with lock:
            open_now += 1
            peak = max(peak, open_now)
        time.sleep(0.02)
        with lock:
            open_now -= 1
        return echo(call)

    with LoopbackServer(count) as server:
        run(server, [f"q{i}" for i in range(12)], max_in_flight=3)
    assert 1 <= peak <= 3


def test_the_request_says_what_the_recipe_says() -> None:
    with LoopbackServer(echo) as server:
        engine = OpenAIEngine(settings(server.url))
        request = Request((("system", "be brief"), ("user", "q")), "p", SamplingParams(0.5, 0.9, 64), 0, 11, "m")
        list(engine.generate([request]))
    call = server.calls[0]
    assert call.path == "/v1/chat/completions"
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.body == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "q"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 64,
        "seed": 11,
    }


def test_a_fast_answer_arrives_before_a_slow_one_is_finished() -> None:
    release = threading.Event()

    def hold(call: Call) -> Reply:
        if call.prompt == "slow":
            release.wait(LONG_S)
        return echo(call)

    with LoopbackServer(hold) as server:
        stream = OpenAIEngine(settings(server.url)).generate(asks(["slow", "fast"]))
        first = next(stream)
        release.set()
        rest = [c for group in stream for c in group]
    assert [c.request.prompt for c in first] == ["fast"]
    assert [c.request.prompt for c in rest] == ["slow"]


def test_no_requests_need_neither_key_nor_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY")
    assert list(OpenAIEngine(settings("https://api.example.com/v1")).generate([])) == []


def test_a_reply_sent_twice_is_not_taken_for_the_answer_to_the_next_request() -> None:
    with LoopbackServer(lambda call: Reply(chat_reply(f"echo {call.prompt}"), twice=True)) as server:
        got = run(server, [f"q{i}" for i in range(8)], max_in_flight=1)
    assert {p: c.text for p, c in got.items()} == {p: f"echo {p}" for p in got}


def test_half_a_character_in_a_reply_is_replaced_and_in_a_prompt_costs_that_row_only() -> None:
    with LoopbackServer(lambda call: Reply(json.dumps(chat_reply("a\ud83d b\ud83d\ude00")))) as server:
        got = run(server, ["good", "bad \ud800"])
    assert got["good"].text == "a\ufffd b\U0001f600"
    assert got["bad \ud800"].finish_reason == "error"
    assert "surrogate" in (got["bad \ud800"].error or "")


def test_missing_token_counts_are_zero_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    body = chat_reply("hello")
    del body["usage"]
    with LoopbackServer(lambda call: Reply(body)) as server:
        got = run(server, ["a", "b", "c"])
    assert {(c.text, c.num_prompt_tokens, c.num_tokens) for c in got.values()} == {("hello", 0, 0)}
    assert [r.levelname for r in caplog.records if "no token counts" in r.getMessage()] == ["WARNING"]


# --- what passes


def test_a_429_is_asked_again_no_earlier_than_the_server_wants() -> None:
    times: list[float] = []

    def busy_once(call: Call) -> Reply:
        times.append(time.monotonic())
        return echo(call) if call.index else error_reply(429, "slow down", headers={"Retry-After": "1"})

    with LoopbackServer(busy_once) as server:
        got = run(server, ["q"])
    assert got["q"].text == "echo q"
    assert times[1] - times[0] >= 1.0


def test_a_retry_after_of_two_minutes_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="factory")

    def busy(call: Call) -> Reply:
        return echo(call) if call.prompt == "good" else error_reply(429, "slow down", headers={"Retry-After": "120"})

    with LoopbackServer(busy) as server:
        stream = OpenAIEngine(settings(server.url)).generate(asks(["busy", "good"]))
        assert [c.request.prompt for c in next(stream)] == ["good"]
        end = time.monotonic() + LONG_S
        while "asking again" not in caplog.text and time.monotonic() < end:
            time.sleep(0.02)
        stream.close()
    waits = [
        float(r.getMessage().split("again in ")[1].split()[0]) for r in caplog.records if "asking" in r.getMessage()
    ]
    assert len(waits) == 1
    assert 120.0 <= waits[0] <= 150.0


def test_a_429_costs_no_retry_while_others_are_answered(quick: None) -> None:
    refused: list[int] = []

    def busy_thrice(call: Call) -> Reply:
        if call.prompt == "unlucky" and len(refused) < 3:
            refused.append(call.index)
            end = time.monotonic() + LONG_S
            while len(server.calls) < call.index + 4 and time.monotonic() < end:
                time.sleep(0.01)
            return error_reply(429, "slow down")
        return Reply(chat_reply(f"echo {call.prompt}"), delay_s=0.01)

    with LoopbackServer(busy_thrice) as server:
        got = run(server, ["unlucky", *(f"q{i}" for i in range(60))], max_in_flight=2, max_retries=0)
    assert len(refused) == 3
    assert got["unlucky"].text == "echo unlucky"


@pytest.mark.parametrize(
    "fault",
    [
        Reply({"error": {"message": "boom"}}, status=500),
        Reply("<html><title>502 Bad Gateway</title></html>", status=502, headers={"Content-Type": "text/html"}),
        Reply('{"choices": [{"mess'),
        Reply("<html>login</html>", headers={"Content-Type": "text/html"}),
        Reply({"choices": []}),
        Reply(drop=True),
    ],
    ids=["500", "502 page", "half a JSON", "page with 200", "no choices", "dropped connection"],
)
def test_a_passing_fault_is_asked_again(quick: None, fault: Reply) -> None:
    with LoopbackServer(lambda call: fault if call.index < 2 else echo(call)) as server:
        assert run(server, ["q"])["q"].text == "echo q"
    assert len(server.calls) == 3


def test_a_fault_that_does_not_pass_costs_its_own_row_only(quick: None) -> None:
    def fragile(call: Call) -> Reply:
        return error_reply(500, "CUDA error") if call.prompt == "poison" else echo(call)

    with LoopbackServer(fragile) as server:
        got = run(server, [*(f"q{i}" for i in range(9)), "poison"], max_retries=2)
    poison = got.pop("poison")
    assert (poison.finish_reason, poison.text) == ("error", "")
    assert poison.error == "HTTP 500: CUDA error, after retries as well"
    assert all(c.finish_reason == "stop" for c in got.values())
    assert sum(c.prompt == "poison" for c in server.calls) == 3


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (error_reply(400, "the prompt is too long"), "HTTP 400: the prompt is too long"),
        (error_reply(403, "Your input was flagged"), "HTTP 403: Your input was flagged"),
        (Reply(chat_reply("x", finish="content_filter")), "content filter"),
        (Reply({"detail": [{"loc": ["body"], "msg": "bad role"}]}, status=422), "bad role"),
    ],
    ids=["400", "403 moderation", "content filter", "422"],
)
def test_a_rejected_row_is_asked_once_and_the_others_are_answered(reply: Reply, words: str) -> None:
    with LoopbackServer(lambda call: reply if call.prompt == "poison" else echo(call)) as server:
        got = run(server, ["poison", "a", "b", "c"], max_in_flight=1)
    assert words in (got["poison"].error or "")
    assert [got[p].text for p in "abc"] == ["echo a", "echo b", "echo c"]
    assert len(server.calls) == 4


def test_a_time_out_bounds_the_whole_reply_and_is_repeated_once(quick: None) -> None:
    slow = {"stalled": Reply(delay_s=LONG_S * 2), "a byte now and then": Reply(chat_reply("x" * 2000), drip_s=0.05)}
    with LoopbackServer(lambda call: slow.get(call.prompt) or echo(call)) as server:
        started = time.monotonic()
        got = run(server, [*slow, "a"], timeout_s=1.0)
        seconds = time.monotonic() - started
    assert {got[p].error for p in slow} == {"no complete reply within 1 s, after retries as well"}
    assert got["a"].text == "echo a"
    assert [sum(c.prompt == p for c in server.calls) for p in slow] == [2, 2]
    assert 2.0 <= seconds < LONG_S


def test_max_completion_tokens_is_used_once_the_server_asks_for_it() -> None:
    def modern(call: Call) -> Reply:
        if "max_tokens" in call.body:
            text = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
            return error_reply(400, f"Unsupported parameter: {text}", code="unsupported_parameter")
        return echo(call)

    with LoopbackServer(modern) as server:
        got = run(server, ["a", "b", "c"], max_in_flight=1)
    assert all(c.finish_reason == "stop" for c in got.values())
    assert ["max_tokens" in c.body for c in server.calls] == [True, False, False, False]
    assert all(c.body["max_completion_tokens"] == 64 for c in server.calls[1:])


def test_too_large_a_limit_does_not_change_how_the_limit_is_spelled() -> None:
    text = "'max_tokens' or 'max_completion_tokens' is too large: 64. The model's maximum context length is 32 tokens."
    with LoopbackServer(lambda call: error_reply(400, text)) as server:
        got = run(server, ["a"])
    assert "too large" in (got["a"].error or "")
    assert len(server.calls) == 1


def test_the_seed_is_left_out_for_a_server_that_knows_none(caplog: pytest.LogCaptureFixture) -> None:
    def seedless(call: Call) -> Reply:
        wrong = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}
        return Reply({"detail": [wrong]}, status=422) if "seed" in call.body else echo(call)

    with LoopbackServer(seedless) as server:
        got = run(server, ["a", "b"], max_in_flight=1)
    assert all(c.finish_reason == "stop" for c in got.values())
    assert len(server.calls) == 3
    assert caplog.text.count("takes no seed") == 1


# --- what ends the stream


def until_error(engine: OpenAIEngine, requests: list[Request]) -> tuple[list[Completion], str]:
    """What arrived before the EngineError, and its text."""
    arrived: list[Completion] = []
    with pytest.raises(EngineError) as caught:
        for group in engine.generate(requests):
            arrived += group
    assert caught.value.__cause__ is None
    return arrived, str(caught.value)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (error_reply(401, "Incorrect API key"), ["key was refused", "TEST_KEY", "Incorrect API key"]),
        (error_reply(403, "no access to this model"), ["key was refused", "TEST_KEY", "no access"]),
        (error_reply(402, "Insufficient Balance"), ["cannot pay", "Insufficient Balance"]),
        (error_reply(429, "You exceeded your quota", code="insufficient_quota"), ["cannot pay", "exceeded"]),
        (error_reply(404, "The model `tiny` does not exist"), ["no such model", "engine.model", "does not exist"]),
        (Reply("<html><title>Not Found</title></html>", status=404), ["engine.base_url", "/v1", "Not Found"]),
        (error_reply(429, "daily limit", headers={"Retry-After": "7200"}), ["wait 7200 s", "daily limit"]),
    ],
    ids=["401", "403", "402", "quota", "404 model", "404 page", "long Retry-After"],
)
def test_what_no_request_can_survive_ends_the_stream(reply: Reply, words: list[str]) -> None:
    with LoopbackServer(lambda call: reply) as server:
        arrived, text = until_error(
            OpenAIEngine(settings(server.url, max_in_flight=4)), asks([f"q{i}" for i in range(50)])
        )
    assert arrived == []
    assert len(server.calls) <= 4
    assert all(w in text for w in ["'tiny'", "127.0.0.1:", *words]), text


def test_what_arrived_before_the_key_was_refused_is_yielded() -> None:
    def revoked(call: Call) -> Reply:
        return echo(call) if call.index < 3 else error_reply(401, "revoked")

    with LoopbackServer(revoked) as server:
        engine = OpenAIEngine(settings(server.url, max_in_flight=1))
        arrived, text = until_error(engine, asks([f"q{i}" for i in range(9)]))
    assert [c.text for c in arrived] == ["echo q0", "echo q1", "echo q2"]
    assert "revoked" in text


def test_a_dead_port_is_an_error_that_says_where_and_what_to_do(quick: None) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    arrived, text = until_error(OpenAIEngine(settings(url, max_retries=2)), asks([f"q{i}" for i in range(500)]))
    assert arrived == []
    assert "no server answers" in text
    assert url.removeprefix("http://").removesuffix("/v1") in text
    assert "engine.base_url" in text


def test_a_server_that_dies_midway_ends_the_stream_soon(quick: None) -> None:
    def mortal(call: Call) -> Reply:
        if call.index < 10:
            return echo(call)
        server.die()
        return Reply(drop=True)

    with LoopbackServer(mortal) as server:
        engine = OpenAIEngine(settings(server.url, max_in_flight=4, max_retries=2))
        arrived, text = until_error(engine, asks([f"q{i}" for i in range(1000)]))
    answered = [c for c in arrived if c.finish_reason == "stop"]
    failed = [c for c in arrived if c.finish_reason == "error"]
    assert 6 <= len(answered) <= 10
    assert len(failed) < 40
    assert "no server answers" in text


def test_a_server_that_fails_every_request_ends_the_stream() -> None:
    with LoopbackServer(lambda call: error_reply(500, "engine is dead")) as server:
        engine = OpenAIEngine(settings(server.url, max_retries=0))
        arrived, text = until_error(engine, asks([f"q{i}" for i in range(1000)]))
    assert len(arrived) <= 100
    assert "in a row" in text
    assert "engine is dead" in text


# --- the key


def test_the_key_is_in_no_message_and_no_log_even_if_the_server_quotes_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with LoopbackServer(lambda call: error_reply(401, f"Incorrect API key {KEY}")) as server:
        engine = OpenAIEngine(settings(server.url))
        _, text = until_error(engine, asks(["q"]))
        problem = check_server(engine.config) or ""
        # The cut of a long message must not leave the key's beginning behind.
        server.behaviour = lambda call: error_reply(400, "x" * 215 + KEY)
        cut = run(server, ["q"])["q"].error or ""
    assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"
    assert "<key>" in text
    assert "refused" in problem
    assert cut.startswith("HTTP 400: xxx")
    for shown in (text, problem, cut, repr(engine), repr(vars(engine)), caplog.text):
        assert KEY[:8] not in shown


def test_a_public_host_needs_a_key_and_the_error_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    config = settings("https://api.example.com/v1")
    _, text = until_error(OpenAIEngine(config), asks(["q"]))
    assert "TEST_KEY" in text
    assert check_server(config) == text


def test_a_server_on_this_machine_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with LoopbackServer(echo) as server:
        run(server, ["q"])
    assert KEY not in server.calls[0].headers["authorization"]


@pytest.mark.parametrize("key", ["sk-one\nsk-two", "sk-one sk-two", "sk-schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("TEST_KEY", key)
    _, text = until_error(OpenAIEngine(settings("http://127.0.0.1:9/v1")), asks(["q"]))
    assert "TEST_KEY" in text
    assert "sk-" not in text


@pytest.mark.parametrize("url", ["http://user:pass@host/v1", "http://host/v1?key=1", "http://host:99999/v1", "http://"])
def test_an_address_with_credentials_or_without_a_host_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        settings(url)


# --- stopping


HalfAnswered = tuple[OpenAIEngine, Generator[list[Completion], None, None], set[threading.Thread]]


@pytest.fixture
def half_answered() -> Iterator[HalfAnswered]:
    """A stream of which one answer has arrived and thirty requests hang, and the threads from before."""
    before = engine_threads()
    with LoopbackServer(lambda call: echo(call) if call.prompt == "fast" else Reply(delay_s=LONG_S * 2)) as server:
        engine = OpenAIEngine(settings(server.url))
        stream = engine.generate(asks(["fast", *(f"slow{i}" for i in range(30))]))
        assert [c.request.prompt for c in next(stream)] == ["fast"]
        yield engine, stream, before


def test_a_stream_closed_early_leaves_no_thread(half_answered: HalfAnswered) -> None:
    _, stream, before = half_answered
    started = time.monotonic()
    stream.close()
    assert_threads_end(before)
    assert time.monotonic() - started < LONG_S


def test_a_closed_engine_leaves_no_thread_and_its_stream_says_so(half_answered: HalfAnswered) -> None:
    engine, stream, before = half_answered
    engine.close()
    engine.close()
    assert_threads_end(before)
    with pytest.raises(EngineError, match="closed"):
        next(stream)


@pytest.mark.skipif(os.name == "nt", reason="signals of this kind exist on POSIX only")
def test_an_interrupt_while_waiting_ends_the_stream(half_answered: HalfAnswered) -> None:
    _, stream, before = half_answered
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    timer.join()
    assert_threads_end(before)


# --- before a run


def test_the_client_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys; from factory.engines.config import OpenAIEngineConfig as C;"
        " from factory.engines.openai_engine import OpenAIEngine as E; E(C(model='m')).render([('user', 'q')]);"
        " assert not {'openai', 'httpx', 'httpx2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1], timeout=120)


@pytest.mark.parametrize(
    ("url", "identity"),
    [
        ("https://API.example.com/v1", "openai:tiny@api.example.com"),
        ("https://api.example.com:443/v1/", "openai:tiny@api.example.com"),
        ("http://localhost:8000/v1", "openai:tiny@localhost:8000"),
        ("https://gateway.example.com/team-a/v1", "openai:tiny@gateway.example.com/team-a"),
        ("http://[::1]:8000/v1", "openai:tiny@[::1]:8000"),
    ],
)
def test_identity_is_model_and_place(url: str, identity: str) -> None:
    assert openai_identity(settings(url)) == identity
    assert OpenAIEngine(settings(url)).identity == identity


def test_identity_follows_the_client_s_own_default(monkeypatch: pytest.MonkeyPatch) -> None:
    config = OpenAIEngineConfig.model_validate({"model": "tiny"})
    assert openai_identity(config) == "openai:tiny@api.openai.com"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://10.0.0.7:8000/v1")
    assert openai_identity(config) == "openai:tiny@10.0.0.7:8000"
    monkeypatch.setenv("OPENAI_BASE_URL", "10.0.0.7:8000")
    with pytest.raises(EngineError, match="OPENAI_BASE_URL"):
        openai_identity(config)


def test_a_rendered_chat_is_canonical_json() -> None:
    engine = OpenAIEngine(settings("http://127.0.0.1:9/v1"))
    assert engine.render([("user", 'é "q"')]) == '[{"content":"é \\"q\\"","role":"user"}]'


def listing(*names: str) -> Reply:
    return Reply({"object": "list", "data": [{"id": n, "object": "model"} for n in names]})


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (listing("other", "tiny"), None),
        (listing("tiny:latest"), None),
        (listing("models/tiny"), None),
        (listing("ti*"), None),
        (listing(), None),
        (error_reply(404, "no such path"), None),
        (error_reply(403, "missing scope"), None),
        (error_reply(429, "slow down"), None),
        (Reply({"models": ["tiny"]}), None),
        (Reply("tiny is running", headers={"Content-Type": "text/plain"}), None),
        (listing("big", "huge"), "does not list this model; it has 2: big, huge"),
        (error_reply(401, "bad key"), "TEST_KEY was refused"),
        (error_reply(503, "loading"), "HTTP 503: loading"),
        (Reply("<html></html>", headers={"Content-Type": "text/html"}), "web page"),
        (Reply("{"), "JSON"),
        (Reply(drop=True), "connection broke"),
        (Reply(delay_s=LONG_S), "no complete reply within 1 s"),
    ],
)
def test_a_check_names_what_is_wrong_with_the_server(
    monkeypatch: pytest.MonkeyPatch, reply: Reply, words: str | None
) -> None:
    monkeypatch.setattr(openai_engine, "_PROBE_S", 1.0 if reply.delay_s else LONG_S)
    with LoopbackServer(lambda call: reply) as server:
        problem = check_server(settings(server.url))
    assert [(c.method, c.path) for c in server.calls] == [("GET", "/v1/models")]
    assert problem is None if words is None else (problem is not None and words in problem)


def test_a_check_of_a_dead_port_says_so_in_time() -> None:
    before = engine_threads()
    started = time.monotonic()
    problem = check_server(settings("http://127.0.0.1:9/v1"))
    assert problem is not None
    assert "no connection" in problem
    assert time.monotonic() - started < LONG_S
    assert_threads_end(before)
