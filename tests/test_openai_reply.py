"""What a reply means: its text, why it ended, or which kind of failure it is."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import pytest
from loopback_server import chat_reply

from factory.engines.openai_reply import AttemptError, FailureKind, read_reply, retry_after

THINK = "<think>\nhm\n</think>\n\n42"


@pytest.mark.parametrize(
    ("content", "fields", "finish", "text"),
    [
        ("42", {"reasoning_content": "hm"}, "stop", THINK),
        ("\n\n42", {"reasoning_content": "\nhm\n"}, "stop", THINK),
        ("42", {"reasoning": "hm"}, "stop", THINK),
        ("42", {"reasoning": "hm", "reasoning_content": "hm"}, "stop", THINK),
        ("42", {"reasoning_content": None, "reasoning": ""}, "stop", "42"),
        ("42", {"reasoning": {"effort": "high"}}, "stop", "42"),
        ("<think>a</think>42", {"reasoning_content": "hm"}, "stop", "<think>a</think>42"),
        ("a</think>42", {"reasoning_content": "hm"}, "stop", "a</think>42"),
        (None, {"reasoning_content": "hm"}, "length", "<think>\nhm"),
        ("", {"reasoning_content": "hm"}, "stop", "<think>\nhm\n</think>\n\n"),
        ("", {}, "length", ""),
        (None, {}, "length", ""),
        (None, {}, "stop", ""),
        (None, {"refusal": "I will not"}, "stop", "I will not"),
        ([{"type": "text", "text": "4"}, {"type": "text", "text": "2"}], {}, "stop", "42"),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "42"}],
            {},
            "stop",
            THINK,
        ),
    ],
)
def test_reasoning_and_answer_become_one_text(content: Any, fields: dict[str, Any], finish: str, text: str) -> None:
    reply = read_reply(json.dumps(chat_reply(content, finish=finish, **fields)).encode(), max_tokens=64)
    assert (reply.text, reply.finish_reason) == (text, finish)


@pytest.mark.parametrize(
    ("finish", "num_tokens", "expected"),
    [("stop", 5, "stop"), ("eos_token", 5, "stop"), ("length", 64, "length"), (None, 5, "stop"), (None, 64, "length")],
)
def test_finish_reasons_are_stop_or_length(finish: str | None, num_tokens: int, expected: str) -> None:
    body = json.dumps(chat_reply("x", finish=finish, num_tokens=num_tokens)).encode()
    assert read_reply(body, max_tokens=64).finish_reason == expected


NO_USAGE = {**chat_reply("x", finish=None), "usage": None}


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", FailureKind.PASSING, "not a JSON object"),
        (b'{"choices": [{"mess', FailureKind.PASSING, "not a JSON object"),
        (b"\xff\xfe\x00", FailureKind.PASSING, "not a JSON object"),
        (b"[" * 100_000, FailureKind.PASSING, "not a JSON object"),
        (b"null", FailureKind.PASSING, "not a JSON object"),
        (b"<html><title>Bad\ngateway</title></html>", FailureKind.PASSING, "a web page (Bad gateway)"),
        (b"{}", FailureKind.PASSING, "no choices"),
        (b'{"choices": []}', FailureKind.PASSING, "no choices"),
        (b'{"choices": [null]}', FailureKind.PASSING, "without a message"),
        (b'{"choices": [{"message": null}]}', FailureKind.PASSING, "without a message"),
        (json.dumps(chat_reply(7)).encode(), FailureKind.PASSING, "neither text"),  # type: ignore[arg-type]
        (b'{"error": {"message": "upstream", "code": 429}}', FailureKind.BUSY, "upstream"),
        (b'{"error": {"message": "no model", "code": "model_not_found"}}', FailureKind.PASSING, "no model"),
        (json.dumps(chat_reply("x", finish="content_filter")).encode(), FailureKind.REJECTED, "content filter"),
        (json.dumps(chat_reply(None, finish="tool_calls")).encode(), FailureKind.REJECTED, "called a tool"),
        (json.dumps(chat_reply("x", finish="abort")).encode(), FailureKind.PASSING, "broke the completion off"),
        (json.dumps(chat_reply("x", finish="whim")).encode(), FailureKind.REJECTED, "'whim'"),
        (json.dumps(NO_USAGE).encode(), FailureKind.PASSING, "neither why"),
    ],
)
def test_a_reply_without_a_completion_is_a_failure_of_a_known_kind(content: bytes, kind: str, words: str) -> None:
    with pytest.raises(AttemptError) as caught:
        read_reply(content, max_tokens=64)
    assert caught.value.kind == kind
    assert words in caught.value.text


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry-after": "120"}, 120, 120),
        ({"retry-after": "0.25"}, 0.25, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5, 1.5),
        ({"retry-after": formatdate(time.time() + 3600, usegmt=True)}, 3000, 3600),
        ({"retry-after": formatdate(0, usegmt=True)}, 0, 0),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(headers: dict[str, str], low: float, high: float) -> None:
    seconds = retry_after(headers)
    assert seconds is not None
    assert low <= seconds <= high


@pytest.mark.parametrize("value", ["", "soon", "nan", "inf", "-5", "Mon, 99 Foo 2020"])
def test_a_senseless_retry_after_is_ignored(value: str) -> None:
    assert retry_after({"retry-after": value}) is None
