"""Requests and tokens per minute: one token bucket each, shared by all servers of an engine."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from factory.engines.base import Request

_LOOK_S = 0.05


class Bucket:
    """At most ``per_minute`` units in a minute, refilled evenly; a second's worth may be taken at once.

    A single taking may be larger than that (one long completion at a low limit): it waits for a full bucket and leaves
    it in debt, so the limit is passed by one request at most, and made up for before the next. Safe from any thread.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        # In any minute: a full bucket and what a minute refills, together the limit.
        self._most = max(per_minute / 60.0, 1.0)
        self._per_second = max(per_minute - self._most, per_minute / 2) / 60.0
        self._level = self._most
        self._clock = clock
        self._at = clock()
        self._lock = threading.Lock()

    def take(self, units: float) -> float:
        """Take them and return 0, or take nothing and return the seconds until it is worth asking again."""
        with self._lock:
            now = self._clock()
            self._level = min(self._most, self._level + (now - self._at) * self._per_second)
            self._at = now
            lacking = min(units, self._most) - self._level
            if lacking > 1e-9:
                return lacking / self._per_second
            self._level -= units
            return 0.0

    def correct(self, units: float) -> None:
        """Give back units that were not used (negative: more were)."""
        with self._lock:
            self._level = min(self._most, self._level + units)


class Limits:
    """The limits of one engine."""

    def __init__(self, max_requests_per_minute: int | None, max_tokens_per_minute: int | None) -> None:
        self._requests = Bucket(max_requests_per_minute) if max_requests_per_minute else None
        self._tokens = Bucket(max_tokens_per_minute) if max_tokens_per_minute else None

    async def wait(self, request: Request, turn: asyncio.Lock) -> int:
        """Wait until the request may be sent; returns the tokens that it was counted with.

        Args:
            turn: held while waiting, so that requests go in the order they came.
        """
        if self._requests is None and self._tokens is None:
            return 0
        async with turn:
            if self._requests is not None:
                await _until_taken(self._requests, 1)
            if self._tokens is None:
                return 0
            tokens = prompt_tokens(request) + request.params.max_tokens
            await _until_taken(self._tokens, tokens)
            return tokens

    def correct(self, counted: int, used: int) -> None:
        """What a request used in the end: 0 when it was refused."""
        if self._tokens is not None:
            self._tokens.correct(counted - used)


def prompt_tokens(request: Request) -> int:
    """A guess at the tokens of the chat: a third of its bytes (English text has about four per token, code three)."""
    return sum(4 + len(text.encode("utf-8", "replace")) // 3 for _, text in request.messages)


async def _until_taken(bucket: Bucket, units: float) -> None:
    # In short steps: what others did not use comes back meanwhile.
    while (seconds := bucket.take(units)) > 0:
        await asyncio.sleep(min(seconds, _LOOK_S))
