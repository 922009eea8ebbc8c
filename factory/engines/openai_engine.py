"""Completions from any OpenAI-compatible server, through the official client.

One event loop in a thread of its own keeps ``max_in_flight`` requests open; completions leave through a queue the
moment they arrive. Retries are decided here and not by the client (its ``max_retries`` is 0), because the client's
attempts cannot be seen from outside, its time-out does not bound a server that sends a byte now and then, and it gives
up on a ``Retry-After`` of more than two minutes (older versions: one). What holds here:

- An attempt ends after ``timeout_s`` at the latest, from connecting to the last byte. Waiting between attempts is not
  part of it.
- The n-th wait is 0.5 s * 2^n, at most 60 s, and never less than a ``Retry-After``; up to a quarter is added at random.
  A server that asks for more than 15 minutes ends the stream with an ``EngineError`` that names the time.
- A 429 costs none of the ``max_retries`` while other requests of the same stream are being answered.
- A time-out is repeated once only, and only if ``max_retries`` allows: the server mostly needs as long again, and
  every attempt may be billed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import time
from collections.abc import Callable, Generator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NoReturn

from factory.engines.background import Background
from factory.engines.base import Completion, Request
from factory.engines.config import OpenAIEngineConfig
from factory.engines.openai_client import Secret, failure_of, make_client, place, where
from factory.engines.openai_reply import AttemptError, FailureKind, Reply, clip, one_line, read_reply
from factory.errors import EngineError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

logger = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_LONGEST_RETRY_AFTER_S = 900.0
_PROBE_S = 5.0
_MAX_UNREACHED = 20
"""Requests lost in a row without any reply, after which the server counts as gone."""
_MAX_UNSERVED = 100
"""Requests lost in a row to overload, time-outs and server errors, after which the server counts as broken."""


def openai_identity(config: OpenAIEngineConfig) -> str:
    """``openai:<model>@<host>[:port][/path]``, without scheme, default port and a final ``/v1``.

    A remote model has no content that could be hashed, so this takes the server's word: equal identities give equal
    completions as long as that address serves the same weights under that name. Prefer dated model names. After other
    weights were put behind the same name and address (a local server restarted with another checkpoint), use a fresh
    workspace or another served name.
    """
    return f"openai:{config.model}@{place(config)}"


class OpenAIEngine:
    """Engine over an OpenAI-compatible endpoint; schedules by itself. The key is read when the first request is sent.

    Sent are model, messages, ``temperature``, ``top_p``, the token limit and ``seed``; everything else is left to the
    server's defaults. The limit goes as ``max_tokens`` until the server asks for ``max_completion_tokens``; the seed is
    left out once the server says that it knows none (samples then cannot be repeated, which is logged).
    """

    batch_size: int | None = None

    def __init__(self, config: OpenAIEngineConfig) -> None:
        self.config = config
        self.identity = openai_identity(config)
        self._streams: set[Background[Completion]] = set()
        self._limit_field = "max_tokens"
        self._sends_seed = True
        self._heard = False
        self._warned_usage = False
        self._num_served = 0
        self._unreached = self._unserved = 0

    def render(self, messages: Sequence[tuple[str, str]]) -> str:
        """The chat as canonical JSON; the server applies a template that is not known here."""
        turns = _turns(messages)
        return json.dumps(turns, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    def generate(self, requests: Sequence[Request]) -> Generator[list[Completion], None, None]:
        """Yield completions as they arrive. Closing the iterator cancels what is still open.

        ``seconds`` of a completion is the time of the attempt that brought it (of the last one for a failure).

        Raises:
            EngineError: no key; key, model or URL refused; no credit left; server gone, or failing request after
                request. What had arrived was yielded before.
        """
        if not requests:
            return
        secret = Secret.of(self.config)
        self._unreached = self._unserved = 0
        stream = Background[Completion](lambda put: self._serve(secret, requests, put))
        self._streams.add(stream)
        try:
            yield from stream
        finally:
            stream.stop()
            self._streams.discard(stream)

    def close(self) -> None:
        """Cancel open requests and close their connections. Safe to call twice."""
        for stream in list(self._streams):
            stream.stop()

    async def _serve(self, secret: Secret, requests: Sequence[Request], put: Callable[[Completion], None]) -> None:
        waiting = iter(requests)
        async with make_client(self.config, secret) as client:

            async def work() -> None:
                for request in waiting:
                    put(await self._complete(client, secret, request))

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self.config.max_in_flight, len(requests))):
                        group.create_task(work())
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None

    async def _complete(self, client: AsyncOpenAI, secret: Secret, request: Request) -> Completion:
        """The completion of one request, or its failure as a completion."""
        num_waits = num_charged = 0
        while True:
            num_served, started = self._num_served, time.monotonic()
            sent = (self._limit_field, self._sends_seed)
            try:
                reply = await self._attempt(client, request)
            # The boundary of a worker: whatever goes wrong with one request must not cost the others.
            except Exception as error:
                failure = failure_of(error, secret, self.config.timeout_s)
            else:
                return self._served(request, reply, time.monotonic() - started)
            seconds = time.monotonic() - started
            self._heard |= failure.heard
            if self._adapt(failure, sent):
                continue
            self._raise_if_hopeless(failure)
            if failure.kind is not FailureKind.BUSY or self._num_served == num_served:
                num_charged += 1
            if num_charged > self._allowed(failure):
                return self._lost(request, failure, seconds, num_waits + 1)
            await self._wait(failure, num_waits)
            num_waits += 1

    async def _attempt(self, client: AsyncOpenAI, request: Request) -> Reply:
        params = request.params
        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": _turns(request.messages),
            "temperature": params.temperature,
            "top_p": params.top_p,
            self._limit_field: params.max_tokens,
        }
        if self._sends_seed:
            body["seed"] = request.seed
        async with asyncio.timeout(self.config.timeout_s):
            raw = await client.chat.completions.with_raw_response.create(**body)
        self._heard = True
        return read_reply(raw.http_response.content, params.max_tokens)

    def _served(self, request: Request, reply: Reply, seconds: float) -> Completion:
        self._num_served += 1
        self._unreached = self._unserved = 0
        if not reply.has_usage and not self._warned_usage:
            self._warned_usage = True
            logger.warning(
                "%s sends no token counts: tokens and cost of this model are counted as 0", where(self.config)
            )
        return Completion(
            request, reply.text, reply.finish_reason, reply.num_prompt_tokens, reply.num_tokens, round(seconds, 6)
        )

    def _lost(self, request: Request, failure: AttemptError, seconds: float, num_attempts: int) -> Completion:
        """The failed completion; raises when it was one too many in a row."""
        text = failure.text if num_attempts == 1 else f"{failure.text}, after retries as well"
        if failure.kind is FailureKind.REJECTED:
            self._unreached = self._unserved = 0
        else:
            self._unserved += 1
            if failure.heard:
                self._unreached = 0
            elif failure.kind is not FailureKind.TIMEOUT:
                self._unreached += 1
        # No connection before any reply needs no second witness.
        never_there = failure.kind is FailureKind.UNREACHABLE and not self._heard
        if never_there or self._unreached >= _MAX_UNREACHED:
            self._fail(f"no server answers ({text})", "start the server or correct engine.base_url")
        if self._unserved >= _MAX_UNSERVED:
            self._fail(
                f"{self._unserved} requests in a row failed, the last with: {text}",
                "look at the server's log; a lower engine.max_in_flight or a higher engine.timeout_s may help",
            )
        return Completion(request, "", "error", 0, 0, round(seconds, 6), error=text)

    def _allowed(self, failure: AttemptError) -> int:
        """Attempts beyond the first that this kind of failure may cost."""
        if failure.kind in (FailureKind.PASSING, FailureKind.BUSY, FailureKind.UNREACHABLE):
            return self.config.max_retries
        return min(1, self.config.max_retries) if failure.kind is FailureKind.TIMEOUT else 0

    async def _wait(self, failure: AttemptError, num_waits: int) -> None:
        seconds = max(failure.retry_after_s or 0.0, min(_FIRST_WAIT_S * 2.0 ** min(num_waits, 30), _LONGEST_WAIT_S))
        seconds *= random.uniform(1.0, 1.25)
        logger.info("%s: %s; asking again in %.1f s", where(self.config), failure.text, seconds)
        await asyncio.sleep(seconds)

    def _adapt(self, failure: AttemptError, sent: tuple[str, bool]) -> bool:
        """Whether the server asked for another spelling of the request, so that it should be sent again at once."""
        if failure.kind is not FailureKind.REJECTED:
            return False
        said = failure.text.lower()
        limit_field, with_seed = sent
        # "'max_tokens' or 'max_completion_tokens' is too large" is no such wish.
        if limit_field == "max_tokens" and re.search(
            r"use \W?max_completion_tokens|unsupported.*max_completion_tokens", said
        ):
            self._limit_field = "max_completion_tokens"
            return True
        if (
            with_seed
            and re.search(r"[\"'`.]seed\b", said)
            and re.search("unsupported|unrecogni|not (supported|permitted)", said)
        ):
            if self._sends_seed:
                logger.warning("%s takes no seed: its samples cannot be repeated", where(self.config))
            self._sends_seed = False
            return True
        return False

    def _raise_if_hopeless(self, failure: AttemptError) -> None:
        variable = self.config.api_key_env
        if failure.kind is FailureKind.BAD_KEY or (failure.kind is FailureKind.FORBIDDEN and not self._num_served):
            given = "the key was refused" if os.environ.get(variable) else f"no key was sent, {variable} is not set"
            self._fail(f"{given} ({failure.text})", f"put a valid key into the environment variable {variable}")
        if failure.kind is FailureKind.NO_CREDIT:
            self._fail(f"the account cannot pay ({failure.text})", "add credit or raise its limit")
        if failure.kind is FailureKind.NOT_FOUND:
            self._fail(
                f"no such model or URL ({failure.text})",
                "correct engine.model or engine.base_url (most end in /v1)",
            )
        if (failure.retry_after_s or 0.0) > _LONGEST_RETRY_AFTER_S:
            self._fail(f"the server asks to wait {failure.retry_after_s:.0f} s ({failure.text})", "wait that long")

    def _fail(self, what: str, next_step: str) -> NoReturn:
        raise EngineError(f"{where(self.config)}: {what}; {next_step} and run again: completions that arrived are kept")


def check_server(config: OpenAIEngineConfig) -> str | None:
    """What is wrong with the endpoint as far as ``GET /models`` tells within 5 s, or None.

    No generation is paid for. A server without ``/models``, or one that does not show it to this key, is not a problem.
    """
    try:
        secret = Secret.of(config)
    except EngineError as error:
        return str(error)
    import openai  # noqa: F401  # its import must not eat into the 5 s

    probe = Background[str | None](lambda put: _probe(config, secret, put))
    try:
        return next(iter(probe))[0]
    finally:
        probe.stop(wait_s=1.0)


async def _probe(config: OpenAIEngineConfig, secret: Secret, put: Callable[[str | None], None]) -> None:
    try:
        async with asyncio.timeout(_PROBE_S), make_client(config, secret) as client:
            body = await client.get("/models", cast_to=object)
    # The boundary of the check: any failure is its result.
    except Exception as error:
        put(_probe_failure(config, failure_of(error, secret, _PROBE_S)))
    else:
        put(_model_problem(config, body))


def _probe_failure(config: OpenAIEngineConfig, failure: AttemptError) -> str | None:
    if failure.kind is FailureKind.BAD_KEY:
        return f"{where(config)}: the key in {config.api_key_env} was refused ({failure.text})"
    if failure.kind in (FailureKind.PASSING, FailureKind.TIMEOUT, FailureKind.UNREACHABLE):
        return f"{where(config)}: {failure.text}; is the server running, and engine.base_url right?"
    return None


def _model_problem(config: OpenAIEngineConfig, body: object) -> str | None:
    if isinstance(body, str) and body.lstrip().startswith("<"):
        return f"{where(config)}: answers with a web page; is engine.base_url right (most end in /v1)?"
    rows = body.get("data") if isinstance(body, dict) else None
    names = [str(r["id"]) for r in rows if isinstance(r, dict) and "id" in r] if isinstance(rows, list) else []
    if not names or any(_same_model(config.model, name) for name in names):
        return None
    shown = ", ".join(clip(one_line(n)) for n in sorted(names)[:10]) + (", ..." if len(names) > 10 else "")
    return f"{where(config)}: the server does not list this model; it has {len(names)}: {shown}"


def _same_model(wanted: str, listed: str) -> bool:
    """Listings leave out default tags and routing variants, add a ``models/`` prefix, or hold patterns."""
    listed = listed.removeprefix("models/")
    plain = wanted.removeprefix("models/")
    return listed in (plain, plain.partition(":")[0]) or listed == f"{plain}:latest" or fnmatchcase(plain, listed)


def _turns(messages: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in messages]
