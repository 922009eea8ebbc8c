"""Connections are used again, and a byte that does not belong to an answer is never taken for one."""

from __future__ import annotations

import gzip
import json
import shutil
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from loopback_server import Call, LoopbackServer, Reply, chat_reply

from factory.engines import openai_engine, openai_transport
from factory.engines.base import Completion, Request, SamplingParams
from factory.engines.config import OpenAIEngineConfig
from factory.engines.openai_engine import OpenAIEngine
from factory.errors import EngineError


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(openai_engine, "_FIRST_WAIT_S", 0.01)


def run(server: LoopbackServer, num: int, **fields: Any) -> dict[str, Completion]:
    engine = OpenAIEngine(OpenAIEngineConfig(model="tiny", base_url=server.url, timeout_s=20.0, **fields))
    params = SamplingParams(max_tokens=64)
    requests = [Request((("user", f"q{i}"),), f"q{i}", params, 0, i, "m") for i in range(num)]
    arrived = [c for group in engine.generate(requests) for c in group]
    assert sorted(c.request.prompt for c in arrived) == sorted(r.prompt for r in requests)
    return {c.request.prompt: c for c in arrived}


def assert_all_echoed(got: dict[str, Completion]) -> None:
    assert {p: c.text for p, c in got.items()} == {p: f"echo {p}" for p in got}


def body_of(call: Call) -> bytes:
    return json.dumps(chat_reply(f"echo {call.prompt}")).encode()


def message(call: Call, *, headers: str = "", body: bytes | None = None) -> bytes:
    content = body_of(call) if body is None else body
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
    return head.encode() + content


def test_connections_are_used_again_once_they_have_rested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_transport, "_REST_S", 0.02)
    with LoopbackServer(lambda call: Reply(body_of(call), delay_s=0.01)) as server:
        assert_all_echoed(run(server, 120, max_in_flight=4))
    assert server.num_connections < 60


def test_no_more_connections_are_kept_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    peak, lock = 0, threading.Lock()

    def watch(call: Call) -> Reply:
        nonlocal peak
        with lock:
            peak = max(peak, len(server._connections))
        return Reply(body_of(call))

    monkeypatch.setattr(openai_transport, "_REST_S", 60.0)
    with LoopbackServer(watch) as server:
        assert_all_echoed(run(server, 150, max_in_flight=4))
    assert peak < 60  # 16 idle, 4 in use, and what the server has not noticed yet
    assert server.num_connections == 150


@pytest.mark.parametrize("pause_s", [0.0, 0.02], ids=["at once", "a moment later"])
def test_a_second_copy_of_an_answer_is_not_the_answer_to_the_next_question(
    monkeypatch: pytest.MonkeyPatch, pause_s: float
) -> None:
    monkeypatch.setattr(openai_transport, "_REST_S", 0.1)
    connections = []
    for copies in (1, 2):
        with LoopbackServer(
            lambda call, n=copies: Reply(raw=(message(call),) * n, drip_s=pause_s, delay_s=0.05)
        ) as server:
            assert_all_echoed(run(server, 12, max_in_flight=1))
        connections.append(server.num_connections)
    assert connections[0] < 12  # without stray bytes they are used again
    assert connections[1] == 12


def test_a_wrong_content_length_costs_that_answer_only() -> None:
    def short_once(call: Call) -> Reply:
        if call.index != 2:
            return Reply(raw=(message(call),))
        content = body_of(call)
        return Reply(raw=(message(call, body=content[:-7]) + content[-7:],))

    with LoopbackServer(short_once) as server:
        assert_all_echoed(run(server, 8, max_in_flight=1))
    assert len(server.calls) == 9


def chunked(call: Call) -> bytes:
    content = body_of(call)
    parts = [content[:20], content[20:]]
    body = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + body


@pytest.mark.parametrize(
    "reply",
    [
        lambda call: Reply(raw=(chunked(call),)),
        lambda call: Reply(raw=(b"HTTP/1.1 200 OK\r\n\r\n" + body_of(call),), close=True),
        lambda call: Reply(raw=(b"HTTP/1.0 200 OK\r\n\r\n" + body_of(call),), close=True),
        lambda call: Reply(
            raw=(message(call, headers="Content-Encoding: gzip\r\n", body=gzip.compress(body_of(call))),)
        ),
        lambda call: Reply(raw=(b"HTTP/1.1 100 Continue\r\n\r\n" + message(call),)),
        lambda call: Reply(raw=(message(call, headers="Connection: close\r\n"),), close=True),
        lambda call: Reply(raw=tuple(message(call)[i : i + 40] for i in range(0, 600, 40)), drip_s=0.001),
    ],
    ids=["chunks", "ends with the connection", "HTTP/1.0", "gzip", "100 first", "close", "in pieces"],
)
def test_an_answer_in_any_form_of_http_is_read(reply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_transport, "_REST_S", 0.0)
    with LoopbackServer(reply) as server:
        assert_all_echoed(run(server, 6, max_in_flight=2))
    assert len(server.calls) == 6


@pytest.mark.parametrize(
    "fault",
    [
        lambda call: Reply(body_of(call), cut=True),
        lambda call: Reply(reset=True),
        lambda call: Reply(drop=True),
        lambda call: Reply(raw=(b"\x16\x03\x01 not HTTP\r\n\r\n",), close=True),
        lambda call: Reply(raw=(chunked(call)[:-9],), close=True),
        lambda call: Reply(raw=(message(call, headers="Content-Encoding: gzip\r\n", body=b"no gzip"),)),
        lambda call: Reply(raw=(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000 + b"\r\n\r\n",), close=True),
    ],
    ids=["half a body", "reset", "closed", "not HTTP", "half a chunk", "not gzip", "endless header"],
)
def test_an_answer_that_is_not_whole_is_asked_for_again(fault: Any) -> None:
    with LoopbackServer(lambda call: fault(call) if call.index in (0, 3) else Reply(body_of(call))) as server:
        assert_all_echoed(run(server, 6, max_in_flight=1))
    assert len(server.calls) == 8


def test_a_connection_that_the_server_closed_meanwhile_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_transport, "_REST_S", 0.05)
    # Answers say that the connection stays, and then it does not.
    with LoopbackServer(lambda call: Reply(raw=(message(call),), close=True, delay_s=0.03)) as server:
        assert_all_echoed(run(server, 9, max_in_flight=1))
    assert len(server.calls) == 9


def test_a_proxy_of_the_environment_is_used_with_a_connection_per_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackServer(lambda call: Reply(body_of(call))) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        engine = OpenAIEngine(OpenAIEngineConfig(model="tiny", base_url="http://model.internal:8000/v1"))
        request = Request((("user", "q"),), "q", SamplingParams(max_tokens=8), 0, 1, "m")
        got = [c for group in engine.generate([request]) for c in group]
    assert [c.text for c in got] == ["echo q"]
    assert proxy.calls[0].path == "http://model.internal:8000/v1/chat/completions"
    assert proxy.calls[0].headers["connection"] == "close"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program to make a certificate")
def test_https_is_spoken_with_a_certificate_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    make += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with LoopbackServer(lambda call: Reply(body_of(call))) as server:
        server._http.socket = context.wrap_socket(server._http.socket, server_side=True)
        url = server.url.replace("http://", "https://")
        config = OpenAIEngineConfig(model="tiny", base_url=url, max_retries=0)
        request = Request((("user", "q0"),), "q0", SamplingParams(max_tokens=64), 0, 0, "m")
        with pytest.raises(EngineError, match="(?i)certificate"):
            list(OpenAIEngine(config).generate([request]))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        got = [c for group in OpenAIEngine(config).generate([request]) for c in group]
    assert [c.text for c in got] == ["echo q0"]
