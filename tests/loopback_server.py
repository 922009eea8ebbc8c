"""A small real HTTP server on 127.0.0.1 that stands in for an OpenAI-compatible endpoint, with programmable faults."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Call:
    """One request as it arrived."""

    index: int
    """Number of calls before this one."""
    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: Any
    """The parsed JSON body; None when there is none."""

    @property
    def prompt(self) -> str:
        """Text of the last chat turn."""
        return str(self.body["messages"][-1]["content"])


@dataclass(frozen=True)
class Reply:
    """What the server does with a call."""

    body: Any = b""
    """Bytes and text go out as they are, anything else as JSON."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    """Seconds until the first byte; cut short when the server stops."""
    drip_s: float = 0.0
    """Seconds between single bytes of the body; 0 sends it at once."""
    drop: bool = False
    """Close the connection without a reply."""
    twice: bool = False
    """Send the whole reply two times."""
    cut: bool = False
    """Send half of the body, then close the connection."""
    reset: bool = False
    """Break the connection off without a reply, as a crashed process does."""
    raw: tuple[bytes, ...] = ()
    """Send these bytes instead of a reply, with ``drip_s`` between the parts."""
    close: bool = False
    """Close the connection after ``raw``."""


def chat_reply(
    text: str | None, *, finish: str | None = "stop", num_prompt_tokens: int = 7, num_tokens: int = 5, **message: Any
) -> dict[str, Any]:
    """Body of a chat completion; ``message`` adds fields beside ``content``."""
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
        ],
        "usage": {
            "prompt_tokens": num_prompt_tokens,
            "completion_tokens": num_tokens,
            "total_tokens": num_prompt_tokens + num_tokens,
        },
    }


def error_reply(status: int, message: str, *, headers: dict[str, str] | None = None, **fields: Any) -> Reply:
    """An error as OpenAI spells it."""
    return Reply({"error": {"message": message, **fields}}, status=status, headers=headers or {})


class LoopbackServer:
    """Runs while used as a context manager; ``behaviour`` is called in one thread per connection."""

    def __init__(self, behaviour: Callable[[Call], Reply]) -> None:
        self.behaviour = behaviour
        self.calls: list[Call] = []
        self.num_connections = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._connections: set[socket.socket] = set()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), name="loopback", daemon=True)

    @property
    def url(self) -> str:
        """Base URL for a client."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.die()

    def die(self) -> None:
        """Stop listening and cut every connection, as a killed process would. Safe to call twice."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._http.shutdown()
        self._http.server_close()
        with self._lock:
            open_now = list(self._connections)
        for connection in open_now:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # its other end was faster

    def pause(self, seconds: float) -> None:
        """Sleep, but no longer than the server lives."""
        self._stopped.wait(seconds)

    def note(self, method: str, path: str, headers: dict[str, str], body: Any) -> Call:
        """Record a call."""
        with self._lock:
            call = Call(len(self.calls), method, path, headers, body)
            self.calls.append(call)
        return call

    def connected(self, connection: socket.socket, opened: bool) -> None:
        """Keep track of a connection."""
        with self._lock:
            self.num_connections += opened
            (self._connections.add if opened else self._connections.discard)(connection)


class _Http(ThreadingHTTPServer):
    owner: LoopbackServer
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One segment per reply: headers and body apart cost 40 ms each with delayed acknowledgements.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Http

    def setup(self) -> None:
        super().setup()
        self.server.owner.connected(self.connection, True)

    def finish(self) -> None:
        self.server.owner.connected(self.connection, False)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Silent."""

    def do_GET(self) -> None:  # noqa: N802
        self._answer(None)

    def do_POST(self) -> None:  # noqa: N802
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer(json.loads(content))

    def _answer(self, body: Any) -> None:
        owner = self.server.owner
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = owner.behaviour(owner.note(self.command, self.path, headers, body))
        if reply.delay_s:
            owner.pause(reply.delay_s)
        if reply.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if reply.drop or reply.reset:
            self.close_connection = True
            return
        if reply.raw:
            self._send_raw(reply)
            return
        for _ in range(2 if reply.twice else 1):
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        content = reply.body if isinstance(reply.body, str | bytes) else json.dumps(reply.body)
        data = content.encode() if isinstance(content, str) else content
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if reply.cut:
            data, self.close_connection = data[: len(data) // 2], True
        if not reply.drip_s:
            self.wfile.write(data)
            self.wfile.flush()
            return
        for byte in data:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            self.server.owner.pause(reply.drip_s)

    def _send_raw(self, reply: Reply) -> None:
        for part in reply.raw:
            self.wfile.write(part)
            self.wfile.flush()
            self.server.owner.pause(reply.drip_s)
        self.close_connection |= reply.close
