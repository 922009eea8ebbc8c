"""HTTP/1.1 for the official client: connections are used again, but never one on which a stray byte arrived.

The client takes any transport; this one is here for two reasons. Its default reads bytes that a faulty server or proxy
sent beyond an answer (a wrong ``Content-Length``, an answer sent twice) as the answer to the next question, so that
connections could not be kept; and its pool looks at every connection twice per request, which at 512 in flight costs
more than everything else. What is done here about stray bytes:

- Bytes after the end of an answer, in the same packet or while the connection is idle, close the connection.
- A connection rests for a quarter of a second before it is used again, so that such bytes have time to arrive;
  meanwhile another one is used, or a new one opened. Not covered: bytes that arrive later than that.

Parsing is h11's, which is part of the client. Answers are read whole; time-outs other than for connecting are the
caller's.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import ssl

    import h11

_REST_S = 0.25
_KEEP_S = 2.0
"""Idle connections older than this are not used: servers close theirs after 5 s and more, and must not do so midway."""


class _Answer(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class _Place(NamedTuple):
    scheme: str
    host: str
    port: int


class KeepAliveTransport:
    """A transport for ``httpx.AsyncClient`` (any version of that library: ``httpx`` is the module).

    Args:
        max_idle: connections kept open beyond those in use.
    """

    def __init__(self, httpx: Any, *, max_idle: int) -> None:
        self._httpx = httpx
        self._max_idle = max_idle
        self._tls: ssl.SSLContext | None = None
        self._idle: defaultdict[_Place, deque[tuple[_Connection, float]]] = defaultdict(deque)

    async def __aenter__(self) -> KeepAliveTransport:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what is idle. Connections in use are closed by whoever waits for them."""
        for waiting in self._idle.values():
            for connection, _ in waiting:
                connection.close()
        self._idle.clear()

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request, read the whole answer. Raises httpx's own exceptions, as the client expects."""
        url = request.url
        place = _Place(url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        content = b"".join([part async for part in request.stream])
        connection = self._rested(place) or await self._connect(place, request)
        try:
            answer = await connection.ask(request.method, url.raw_path, request.headers.raw, content)
        except _BrokenError as error:
            connection.close()
            raise self._httpx.RemoteProtocolError(str(error), request=request) from error
        except BaseException:
            connection.close()
            raise
        self._keep(place, connection)
        return self._httpx.Response(answer.status, headers=answer.headers, content=answer.body, request=request)

    def _rested(self, place: _Place) -> _Connection | None:
        waiting, now = self._idle[place], time.monotonic()
        while waiting and waiting[0][1] <= now - _REST_S:
            connection, since = waiting.popleft()
            if connection.is_clean and since > now - _KEEP_S:
                return connection
            connection.close()
        return None

    def _keep(self, place: _Place, connection: _Connection) -> None:
        if connection.is_clean and len(self._idle[place]) < self._max_idle:
            self._idle[place].append((connection, time.monotonic()))
        else:
            connection.close()

    async def _connect(self, place: _Place, request: Any) -> _Connection:
        loop = asyncio.get_running_loop()
        tls = self._tls_context() if place.scheme == "https" else None
        try:
            async with asyncio.timeout(request.extensions.get("timeout", {}).get("connect")):
                _, connection = await loop.create_connection(
                    _Connection, place.host, place.port, ssl=tls, happy_eyeballs_delay=0.25
                )
        except TimeoutError as error:
            raise self._httpx.ConnectTimeout("no connection in time", request=request) from error
        except OSError as error:
            raise self._httpx.ConnectError(str(error), request=request) from error
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = self._httpx.create_ssl_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


class _BrokenError(Exception):
    """The connection ended, or what came over it was no HTTP."""


class _Connection(asyncio.Protocol):
    """One connection; one question at a time."""

    def __init__(self) -> None:
        import h11

        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=100 * 1024)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[_Answer] | None = None
        self._head: h11.Response | None = None
        self._body: list[bytes] = []
        self.is_clean = True
        """Whether another question may be sent: the last answer is complete, and nothing came after it."""

    def close(self) -> None:
        """At once; safe to call twice."""
        self.is_clean = False
        if self._transport is not None:
            self._transport.abort()

    async def ask(self, method: str, target: bytes, headers: list[tuple[bytes, bytes]], content: bytes) -> _Answer:
        """Raises ``_BrokenError`` when no whole answer arrives."""
        import h11

        if self._transport is None or not self.is_clean:
            raise _BrokenError("the server closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._head, self._body = None, []
        question = h11.Request(method=method, target=target, headers=headers)
        body = [h11.Data(data=content)] if content else []
        parts = [self._h11.send(event) for event in (question, *body, h11.EndOfMessage())]
        self._transport.write(b"".join(p for p in parts if p))
        try:
            return await self._answer
        finally:
            self._answer = None

    # --- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer; at any other time they are stray."""
        if self._answer is None or self._answer.done():
            self.close()
        else:
            self._receive(data)

    def eof_received(self) -> None:
        """The server is done; an answer without a length is complete now."""
        self._end("the server closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._end(str(exc) if exc else "the server closed the connection")

    def _end(self, why: str) -> None:
        self.is_clean = False
        if self._answer is not None and not self._answer.done():
            self._receive(b"")
            if not self._answer.done():
                self._answer.set_exception(_BrokenError(why))

    def _receive(self, data: bytes) -> None:
        import h11

        assert self._answer is not None
        try:
            self._h11.receive_data(data)
            while True:
                event = self._h11.next_event()
                if isinstance(event, h11.Response):
                    self._head = event
                elif isinstance(event, h11.Data):
                    self._body.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    return self._finish()
                elif not isinstance(event, h11.InformationalResponse):
                    return None  # more data needed, or no more to come
        except h11.RemoteProtocolError as error:
            self.is_clean = False
            self._answer.set_exception(_BrokenError(str(error)))

    def _finish(self) -> None:
        import h11

        assert self._answer is not None
        assert self._head is not None
        both_done = self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE
        if both_done and not self._h11.trailing_data[0]:
            self._h11.start_next_cycle()
        else:
            self.is_clean = False
        self._answer.set_result(_Answer(self._head.status_code, list(self._head.headers), b"".join(self._body)))
