"""Several servers of one model: who gets the next request, who is left out, and when it is tried again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container
from dataclasses import dataclass, field

from factory.engines.openai_reply import AttemptError, FailureKind

logger = logging.getLogger(__name__)

_FIRST_OUT_S, _LONGEST_OUT_S = 1.0, 60.0
_SILENT_LIMIT = 3
"""Attempts in a row without any reply after which a server is left out; one is enough where nothing listens."""
_FAULT_LIMIT = 10
"""Attempts in a row that ended in any fault of the server, after which it is left out."""


@dataclass(eq=False)
class Endpoint:
    """One server."""

    url: str | None
    """None: the client's own default."""
    place: str
    """For messages."""
    num_open: int = 0
    num_given: int = 0
    """Requests given to it so far."""
    num_silent: int = 0
    num_faults: int = 0
    """In a row."""
    num_out: int = 0
    """Times it was left out since it last answered."""
    out_until: float = 0.0
    """0 for a server that works."""
    busy_until: float = 0.0
    """It asked to be left alone until then."""
    is_tried: bool = field(default=False, repr=False)
    """Left out, and one request is finding out whether it is back."""


class Balance:
    """Least outstanding requests among the servers that work.

    A server that fails is left out for 1 s, then 2, 4, ..., 60; when that is over, one request finds out whether it is
    back. A server that says 429 with ``Retry-After`` is left alone that long. With all of them out, the one that is due
    first is used: whether to give up is decided by whoever loses requests.
    """

    def __init__(self, endpoints: list[Endpoint], clock: Callable[[], float] = time.monotonic) -> None:
        self.endpoints = endpoints
        self._clock = clock

    def take(self, tried: Container[Endpoint] = ()) -> Endpoint:
        """The server for the next attempt of a request; not one of ``tried`` if there is another that works."""
        now = self._clock()
        due = [e for e in self.endpoints if e.out_until and e.out_until <= now and not e.is_tried and e not in tried]
        working = [e for e in self.endpoints if self._works(e)]
        fresh = [e for e in working if e not in tried]
        if due:
            endpoint = due[0]
            endpoint.is_tried = True
        elif fresh or working:
            endpoint = min(fresh or working, key=lambda e: (e.num_open, e.num_given))
        else:
            endpoint = min(self.endpoints, key=lambda e: (e in tried, max(e.out_until, e.busy_until), e.num_open))
        endpoint.num_open += 1
        endpoint.num_given += 1
        return endpoint

    def has_other(self, tried: Container[Endpoint]) -> bool:
        """Whether a server works that is not one of ``tried``."""
        return any(self._works(e) and e not in tried for e in self.endpoints)

    def give_back(self, endpoint: Endpoint) -> None:
        """The attempt is over, whatever came of it."""
        endpoint.num_open -= 1
        endpoint.is_tried = False

    def answered(self, endpoint: Endpoint) -> None:
        """The server answered a request, or refused it for the request's own sake."""
        if endpoint.num_out:
            logger.info("%s answers again", endpoint.place)
        endpoint.num_silent = endpoint.num_faults = endpoint.num_out = 0
        endpoint.out_until = 0.0

    def failed(self, endpoint: Endpoint, failure: AttemptError) -> None:
        """The server failed a request. Without another server, nothing is left out."""
        if failure.kind is FailureKind.BUSY:
            endpoint.busy_until = max(endpoint.busy_until, self._clock() + (failure.retry_after_s or 0.0))
            return
        endpoint.num_silent = 0 if failure.heard else endpoint.num_silent + 1
        endpoint.num_faults += 1
        is_gone = failure.kind is FailureKind.UNREACHABLE or endpoint.num_silent >= _SILENT_LIMIT
        if len(self.endpoints) == 1 or not (endpoint.is_tried or is_gone or endpoint.num_faults >= _FAULT_LIMIT):
            return
        now = self._clock()
        if endpoint.out_until > now:
            return  # others that were open when it failed
        seconds = min(_FIRST_OUT_S * 2.0 ** min(endpoint.num_out, 30), _LONGEST_OUT_S)
        endpoint.num_out += 1
        endpoint.out_until = now + seconds
        logger.warning("%s is left out for %.0f s: %s", endpoint.place, seconds, failure.text)

    def _works(self, endpoint: Endpoint) -> bool:
        return not endpoint.out_until and endpoint.busy_until <= self._clock()
