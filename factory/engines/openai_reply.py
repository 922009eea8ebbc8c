"""What the replies of OpenAI-compatible servers mean: a completion, or a failure of a known kind.

Servers differ in the fields they fill, so replies are read as plain JSON and nothing is taken for granted.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from email.utils import mktime_tz, parsedate_tz
from enum import StrEnum
from typing import Any, NamedTuple

from factory.engines.base import FinishReason

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
}
_MAX_COUNT = 2**31 - 1
_MAX_READ, _MAX_MESSAGE = 20_000, 240


class FailureKind(StrEnum):
    """What a failed attempt says about further ones."""

    REJECTED = "rejected"
    """This request will fail again; others need not."""
    PASSING = "passing"
    """Broken connection, 5xx, unreadable reply."""
    BUSY = "busy"
    """Rate limit."""
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    """No connection came about."""
    FORBIDDEN = "forbidden"
    """403: the key lacks a right, or a gateway dislikes this one request."""
    BAD_KEY = "bad_key"
    NO_CREDIT = "no_credit"
    NOT_FOUND = "not_found"
    """No such model, or no such URL."""


class AttemptError(Exception):
    """One attempt brought no completion. The text holds what the server said, and never a header."""

    def __init__(
        self,
        kind: FailureKind,
        text: str,
        *,
        retry_after_s: float | None = None,
        heard: bool = True,
        maybe_billed: bool = True,
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.retry_after_s = retry_after_s
        """Seconds the server asks to wait, if it does."""
        self.heard = heard
        """Whether an HTTP reply arrived at all."""
        self.maybe_billed = maybe_billed
        """Whether the server may have generated, and charge for it. Refusals by status code cost nothing."""


class Reply(NamedTuple):
    """A completion as the server sent it."""

    text: str
    finish_reason: FinishReason
    num_prompt_tokens: int
    num_tokens: int
    has_usage: bool
    """False when the server counted no tokens; both counts are then 0."""
    model: str = ""
    """The model that the server says has answered; empty when it does not say."""


def read_reply(content: bytes, max_tokens: int) -> Reply:
    """A reply body with status 200. Of several choices the one with index 0 counts.

    ``content_filter`` is a failure (REJECTED): the text is not what the model would have said, and neither is it an
    infrastructure fault that would pass. So is a tool call, as no tool was offered. A missing ``finish_reason`` is
    derived from the token counts, and without those the reply is a fault of the server: it might be cut off.

    Raises:
        AttemptError: when there is no completion in it.
    """
    body = _load(content)
    if not isinstance(body, dict):
        shown = server_message(content) or "it is empty"
        raise AttemptError(FailureKind.PASSING, f"the reply is not a JSON object: {shown}")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise _error_in_body(body, content)
    choice = next((c for c in choices if isinstance(c, dict) and c.get("index", 0) == 0), choices[0])
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise AttemptError(FailureKind.PASSING, "the reply holds a choice without a message")
    prompt_tokens, tokens, has_usage = _usage(body.get("usage"))
    finish = _finish_reason(choice, tokens if has_usage else None, max_tokens)
    model = body.get("model")
    named = model if isinstance(model, str) else ""
    return Reply(join_surrogates(_text(message, finish)), finish, prompt_tokens, tokens, has_usage, named)


def read_refusal(status: int, headers: Mapping[str, str], content: bytes) -> AttemptError:
    """The failure behind an HTTP status other than 200."""
    said = server_message(content)
    text = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    kind = _kind(status, _error_code(content), said.lower())
    # Behind a gateway's time-out the server may have worked for nothing.
    return AttemptError(kind, text, retry_after_s=retry_after(headers), maybe_billed=kind is FailureKind.TIMEOUT)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of ``retry-after-ms`` or ``Retry-After`` (a number or an HTTP date), None when absent or senseless."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * scale
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    date = parsedate_tz(headers.get("retry-after", ""))
    try:
        return max(0.0, mktime_tz(date) - time.time()) if date else None
    except (ValueError, OverflowError):
        return None


def server_message(content: bytes) -> str:
    """What an error body says, in one line."""
    body = _load(content)
    if isinstance(body, dict):
        error = body.get("error") or body.get("message") or body.get("detail") or body
        if isinstance(error, dict):
            error = error.get("message") or error
        return one_line(error if isinstance(error, str) else json.dumps(error, ensure_ascii=False, default=str))
    text = content[:_MAX_READ].decode("utf-8", "replace")
    if text.lstrip()[:1] == "<":
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        return one_line(f"a web page ({title[1]})" if title else "a web page")
    return one_line(text)


def one_line(text: str) -> str:
    """Text without line breaks, control or broken characters; of megabytes only the beginning."""
    return re.sub(
        r"[\x00-\x20\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]+", " ", join_surrogates(text[:_MAX_READ])
    ).strip()


def clip(line: str) -> str:
    """A line cut to a length that fits a message."""
    return line if len(line) <= _MAX_MESSAGE else line[: _MAX_MESSAGE - 1] + "…"


def join_surrogates(text: str) -> str:
    """Text that can be encoded: surrogate pairs become their character, lone ones U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _load(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _error_in_body(body: dict[str, Any], content: bytes) -> AttemptError:
    """Gateways put failures of the server behind them into a reply with status 200."""
    error = body.get("error")
    if not error:
        return AttemptError(FailureKind.PASSING, "the reply holds no choices")
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and 400 <= code <= 599:
        return read_refusal(code, {}, content)
    return AttemptError(FailureKind.PASSING, f"the reply holds an error: {server_message(content)}")


def _kind(status: int, code: str, said: str) -> FailureKind:
    if status == 401:
        return FailureKind.BAD_KEY
    if status == 402 or code == "insufficient_quota":
        return FailureKind.NO_CREDIT
    if status in (404, 405) or code == "model_not_found":
        return FailureKind.NOT_FOUND
    if status == 403:
        moderated = "flagged" in said or "moderation" in said
        return FailureKind.REJECTED if moderated else FailureKind.FORBIDDEN
    if status in (408, 504, 524):
        return FailureKind.TIMEOUT
    if status == 429:
        return FailureKind.BUSY
    return FailureKind.PASSING if status in (409, 425) or status >= 500 or status < 400 else FailureKind.REJECTED


def _error_code(content: bytes) -> str:
    body = _load(content)
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("code") or "") if isinstance(error, dict) else ""


def _finish_reason(choice: dict[str, Any], tokens: int | None, max_tokens: int) -> FinishReason:
    reason = choice.get("finish_reason")
    if reason is None and tokens is not None:
        return "length" if tokens >= max_tokens else "stop"
    if isinstance(reason, str) and reason.lower() in _FINISH:
        return _FINISH[reason.lower()]
    if reason == "content_filter":
        raise AttemptError(FailureKind.REJECTED, "the server's content filter stopped the completion")
    if reason in ("tool_calls", "function_call"):
        raise AttemptError(FailureKind.REJECTED, "the model called a tool, and none was offered")
    if reason in ("error", "abort"):
        said = server_message(json.dumps({"error": choice.get("error") or "no reason given"}).encode())
        raise AttemptError(FailureKind.PASSING, f"the server broke the completion off: {said}")
    if reason is None:
        raise AttemptError(FailureKind.PASSING, "the reply says neither why the completion ended nor how long it is")
    raise AttemptError(FailureKind.REJECTED, f"unknown finish_reason {one_line(str(reason))!r}")


def _usage(usage: Any) -> tuple[int, int, bool]:
    counts = [usage.get(n) if isinstance(usage, dict) else None for n in ("prompt_tokens", "completion_tokens")]
    known = [c if type(c) is int and 0 <= c <= _MAX_COUNT else None for c in counts]
    return known[0] or 0, known[1] or 0, known[1] is not None


def _text(message: dict[str, Any], finish: FinishReason) -> str:
    """Reasoning and answer as one text, the reasoning between think tags.

    Reasoning that was cut off before the answer began keeps its tag open, as the model left it.
    """
    content, reasoning = _parts(message.get("content"))
    for name in ("reasoning_content", "reasoning"):
        if not reasoning and isinstance(message.get(name), str):
            reasoning = message[name]
    if not content and not reasoning and isinstance(message.get("refusal"), str):
        content = message["refusal"]
    if not reasoning.strip() or content.lstrip().startswith("<think>") or "</think>" in content:
        return content
    reasoning = reasoning.strip("\n")
    if not content and finish == "length":
        return f"<think>\n{reasoning}"
    stripped = content.lstrip("\n")
    return f"<think>\n{reasoning}\n</think>\n\n{stripped}"


def _parts(content: Any) -> tuple[str, str]:
    """Answer and reasoning of a ``content``: a string, null, or a list of typed parts."""
    if content is None or isinstance(content, str):
        return content or "", ""
    if not isinstance(content, list) or not all(isinstance(p, dict) for p in content):
        raise AttemptError(FailureKind.PASSING, "the reply's content is neither text nor a list of parts")
    answer = "".join(p["text"] for p in content if isinstance(p.get("text"), str))
    thinking = [p.get("thinking") for p in content]
    return answer, "".join(t if isinstance(t, str) else _parts(t)[0] for t in thinking if t)
