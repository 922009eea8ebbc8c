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
- With several servers, a request that one of them fails goes to another at once, which costs no retry; it waits when
  all that work have failed it. ``balance`` says who is left out, and for how long.
- A time-out is repeated once only, and only if ``max_retries`` allows: the server mostly needs as long again, and
  every attempt may be billed. It goes to another server where there is one.
- Requests and tokens per minute are waited for before each attempt (``limits``), and so is the spend cap (``spend``).
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
from contextlib import AsyncExitStack
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from factory.engines.background import Background
from factory.engines.balance import Balance, Endpoint
from factory.engines.base import Completion, Request
from factory.engines.config import OpenAIEngineConfig
from factory.engines.limits import Limits
from factory.engines.openai_client import Secret, addresses, failure_of, httpx_module, make_client, place, where
from factory.engines.openai_reply import AttemptError, FailureKind, Reply, clip, one_line, read_reply
from factory.engines.spend import Estimate, Spend, estimate, price
from factory.errors import EngineError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

logger = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_LONGEST_RETRY_AFTER_S = 900.0
_PROBE_S = 5.0
_STAGGER_S = 0.0005
_MAX_UNREACHED = 20
"""Requests lost in a row without any reply, after which the server counts as gone."""
_MAX_UNSERVED = 100
"""Requests lost in a row to overload, time-outs and server errors, after which the server counts as broken."""
_SERVER_FAULTS = (FailureKind.PASSING, FailureKind.BUSY, FailureKind.UNREACHABLE)
"""Failures after which another server may do better."""


def openai_identity(config: OpenAIEngineConfig) -> str:
    """``openai:<model>@<host>[:port][/path]``, without scheme, default port and a final ``/v1``.

    ``served_as`` stands in the address's place where it is given, and ``replicas`` where there are several servers:
    which of them answers, how many there are and in which order they are written changes nothing about the model.

    A remote model has no content that could be hashed, so this takes the server's word: equal identities give equal
    completions as long as that address serves the same weights under that name. Prefer dated model names. After other
    weights were put behind the same name and address (a local server restarted with another checkpoint), use a fresh
    workspace or another served name.
    """
    served_as = config.served_as or ("replicas" if config.base_urls else place(config, addresses(config)[0]))
    return f"openai:{config.model}@{served_as}"


class _Line:
    """What the workers of one stream share."""

    def __init__(self, secret: Secret, clients: dict[Endpoint, AsyncOpenAI]) -> None:
        self.secret = secret
        self.clients = clients
        self.turn, self.cashier = asyncio.Lock(), asyncio.Lock()
        """Held by the worker that waits for the rate limits, and for the spend cap."""
        self.open: set[asyncio.Task[Any]] | None = set()
        """Workers that wait for a server; None once the stream is ending."""


class OpenAIEngine:
    """Engine over OpenAI-compatible endpoints; schedules by itself. The key is read when the first request is sent.

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
        self._alias = ""
        self._knows_name = False
        self._num_served = 0
        self._unreached = self._unserved = 0
        self._balance = Balance(
            [Endpoint(url, place(config, url or addresses(config)[0])) for url in config.base_urls or (None,)]
        )
        self._limits = Limits(config.max_requests_per_minute, config.max_tokens_per_minute)
        self._spend = Spend(config)

    @property
    def spent(self) -> float:
        """Money spent since this engine was built, in the unit of the prices; what may have been billed counts."""
        return self._spend.spent

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        """What these requests will need, at most; nothing is sent."""
        return estimate(self.config, requests)

    def render(self, messages: Sequence[tuple[str, str]]) -> str:
        """The chat as canonical JSON; the server applies a template that is not known here."""
        turns = _turns(messages)
        return json.dumps(turns, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    def generate(self, requests: Sequence[Request]) -> Generator[list[Completion], None, None]:
        """Yield completions as they arrive. Closing the iterator cancels what is still open.

        ``seconds`` of a completion is the time of the attempt that brought it (of the last one for a failure).

        Raises:
            SpendLimitError: the next request could pass ``max_spend``; nothing is open any more.
            EngineError: no key; key, model or URL refused; no credit left; the last server gone, or failing request
                after request. What had arrived was yielded before.
        """
        if not requests:
            return
        secret = Secret.of(self.config)
        if self.config.price_per_1m_completion_tokens or self.config.price_per_1m_prompt_tokens:
            logger.info("%s: %s", where(self.config), self.estimate(requests))
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
        async with AsyncExitStack() as stack:
            clients = {
                endpoint: await stack.enter_async_context(make_client(self.config, secret, endpoint.url))
                for endpoint in self._balance.endpoints
            }
            line = _Line(secret, clients)

            async def work(index: int) -> None:
                # Without this, the first is sent when the last is put together, and all answers come at once.
                await asyncio.sleep(index * _STAGGER_S)
                for request in waiting:
                    put(await self._complete(line, request))
                    if line.open is None:
                        return

            workers = [asyncio.create_task(work(i)) for i in range(min(self.config.max_in_flight, len(requests)))]
            try:
                done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                error = next((e for e in (t.exception() for t in done) if e is not None), None)
                if error is not None:
                    await self._finish_open(line, workers)
                    raise error
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _finish_open(self, line: _Line, workers: Sequence[asyncio.Task[None]]) -> None:
        """Before an error ends the stream: the answers to what is open are paid for, so they are waited for.

        Not when no server ever answered, or none does any more.
        """
        is_open, line.open = line.open or set(), None
        is_gone = self._unreached >= _MAX_UNREACHED or self._unserved >= _MAX_UNSERVED
        if not is_open or is_gone or not self._num_served:
            return
        logger.warning("%s: no more is asked; waiting for %d open requests", where(self.config), len(is_open))
        for worker in workers:
            if worker not in is_open:
                worker.cancel()
        await asyncio.wait(is_open)

    async def _complete(self, line: _Line, request: Request) -> Completion:
        """The completion of one request, or its failure as a completion."""
        num_attempts = num_waits = num_charged = num_timeouts = 0
        tried: set[Endpoint] = set()
        while True:
            num_served, sent = self._num_served, (self._limit_field, self._sends_seed)
            endpoint, reply, seconds = await self._ask_one(line, request, tried)
            if isinstance(reply, Reply):
                return self._served(request, reply, seconds)
            if line.open is None:
                raise asyncio.CancelledError  # the stream is ending: nothing is sent any more
            self._heard |= reply.heard
            if self._adapt(reply, sent):
                continue
            num_attempts += 1
            tried.add(endpoint)
            if reply.kind in _SERVER_FAULTS and self._balance.has_other(tried):
                logger.info("%s: %s; asking another server", where(self.config), reply.text)
                continue
            self._raise_if_hopeless(reply)
            if reply.kind is not FailureKind.BUSY or self._num_served == num_served:
                num_charged += 1
            num_timeouts += reply.kind is FailureKind.TIMEOUT
            if num_charged > self._allowed(reply) or num_timeouts > 1:
                return self._lost(request, reply, seconds, num_attempts)
            await self._wait(reply, num_waits)
            num_waits += 1
            if reply.kind is not FailureKind.TIMEOUT:
                tried.clear()

    async def _ask_one(
        self, line: _Line, request: Request, tried: set[Endpoint]
    ) -> tuple[Endpoint, Reply | AttemptError, float]:
        """One attempt: the server that was asked, what came of it, and its seconds."""
        counted = await self._limits.wait(request, line.turn)
        reserved = await self._spend.reserve(request, line.cashier)
        worker, open_now = asyncio.current_task(), line.open
        if worker is None or open_now is None:
            raise asyncio.CancelledError
        open_now.add(worker)
        endpoint = self._balance.take(tried)
        used, cost = counted, reserved  # until it is known to be less
        started = time.monotonic()
        try:
            reply = await self._attempt(line.clients[endpoint], request)
            self._refuse_other_model(reply.model)
            self._balance.answered(endpoint)
            if reply.has_usage:
                used = reply.num_prompt_tokens + reply.num_tokens
                cost = price(self.config, reply.num_prompt_tokens, reply.num_tokens)
            return endpoint, reply, time.monotonic() - started
        # The boundary of a worker: whatever goes wrong with one request must not cost the others.
        except Exception as error:
            failure = failure_of(error, line.secret, self.config.timeout_s)
            if not failure.maybe_billed:
                used, cost = 0, 0.0
            if failure.kind is FailureKind.REJECTED and failure.heard:
                self._balance.answered(endpoint)
            elif failure.kind is not FailureKind.REJECTED:
                self._balance.failed(endpoint, failure)
            if len(line.clients) > 1:
                failure.text = f"{endpoint.place}: {failure.text}"
            return endpoint, failure, time.monotonic() - started
        finally:
            if line.open is not None:  # once the stream is ending, somebody is waiting for this very set
                open_now.discard(worker)
            self._balance.give_back(endpoint)
            self._limits.correct(counted, used)
            self._spend.settle(reserved, cost)

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
            # The typed method checks the body against its own types and the reply against a model, which costs as much
            # as everything else together; the reply is read as plain JSON anyway.
            # An absolute address saves putting it together from parts each time.
            url = f"{client.base_url}chat/completions"
            raw = await client.post(url, body=body, cast_to=httpx_module().Response)
        self._heard = True
        return read_reply(raw.content, params.max_tokens)

    def _refuse_other_model(self, named: str) -> None:
        """Raise for a reply from a model that another one answers for; gateways do that when one is overloaded.

        A name that begins like the one asked for is the same (``gpt-4o``: ``gpt-4o-2024-08-06``). Servers that know
        the model by an altogether different name are taken at their first word.
        """
        name, wanted = (n.rpartition("/")[2].lower() for n in (named, self.config.model))
        if not name:
            return
        is_wanted = name.startswith(wanted) or wanted.startswith(name)
        if self._alias not in ("", named) and is_wanted and not self._knows_name:
            logger.warning(
                "%s: its first replies were from %r, later ones are from the model that was asked for",
                where(self.config),
                clip(one_line(self._alias)),
            )
        self._knows_name |= is_wanted
        self._alias = self._alias or named
        if not is_wanted and (self._knows_name or named != self._alias):
            raise AttemptError(FailureKind.PASSING, f"another model answered: {clip(one_line(named))!r}")

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
            self._fail(f"no server answers ({text})", f"start the server or correct {self._address_field}")
        if self._unserved >= _MAX_UNSERVED:
            self._fail(
                f"{self._unserved} requests in a row failed, the last with: {text}",
                "look at the server's log; a lower engine.max_in_flight or a higher engine.timeout_s may help",
            )
        return Completion(request, "", "error", 0, 0, round(seconds, 6), error=text)

    def _allowed(self, failure: AttemptError) -> int:
        """Attempts beyond the first that may fail, this kind of failure being the last one."""
        return self.config.max_retries if failure.kind in (*_SERVER_FAULTS, FailureKind.TIMEOUT) else 0

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
                f"correct engine.model or {self._address_field} (most end in /v1)",
            )
        if (failure.retry_after_s or 0.0) > _LONGEST_RETRY_AFTER_S:
            self._fail(f"the server asks to wait {failure.retry_after_s:.0f} s ({failure.text})", "wait that long")

    @property
    def _address_field(self) -> str:
        return "engine.base_urls" if self.config.base_urls else "engine.base_url"

    def _fail(self, what: str, next_step: str) -> NoReturn:
        raise EngineError(f"{where(self.config)}: {what}; {next_step} and run again: completions that arrived are kept")


def check_server(config: OpenAIEngineConfig) -> str | None:
    """What is wrong with the endpoint as far as ``GET /models`` tells within 5 s, or None.

    No generation is paid for. A server without ``/models``, or one that does not show it to this key, is not a problem.
    Of several servers, one that does not answer is none either as long as another does.
    """
    try:
        secret = Secret.of(config)
    except EngineError as error:
        return str(error)
    import openai  # noqa: F401  # its import must not eat into the 5 s

    probe = Background[list["_Probe"]](lambda put: _probe_all(config, secret, put))
    try:
        probes = next(iter(probe))[0]
    finally:
        probe.stop(wait_s=1.0)
    wrong = next((p.problem for p in probes if p.problem and p.answers), None)
    silent = [p.problem for p in probes if not p.answers]
    return wrong or (silent[0] if len(silent) == len(probes) else None)


class _Probe(NamedTuple):
    problem: str | None
    answers: bool


async def _probe_all(config: OpenAIEngineConfig, secret: Secret, put: Callable[[list[_Probe]], None]) -> None:
    put(list(await asyncio.gather(*(_probe(config, secret, url) for url in addresses(config)))))


async def _probe(config: OpenAIEngineConfig, secret: Secret, url: str) -> _Probe:
    at = f"model {config.model!r} at {place(config, url)}"
    try:
        async with asyncio.timeout(_PROBE_S), make_client(config, secret, url) as client:
            body = await client.get("/models", cast_to=object)
    # The boundary of the check: any failure is its result.
    except Exception as error:
        failure = failure_of(error, secret, _PROBE_S)
        if failure.kind is FailureKind.BAD_KEY:
            return _Probe(f"{at}: the key in {config.api_key_env} was refused ({failure.text})", True)
        if failure.kind in (FailureKind.PASSING, FailureKind.TIMEOUT, FailureKind.UNREACHABLE):
            return _Probe(f"{at}: {failure.text}; is the server running, and engine.base_url right?", False)
        return _Probe(None, True)
    return _Probe(_model_problem(config, at, body), True)


def _model_problem(config: OpenAIEngineConfig, at: str, body: object) -> str | None:
    if isinstance(body, str) and body.lstrip().startswith("<"):
        return f"{at}: answers with a web page; is engine.base_url right (most end in /v1)?"
    rows = body.get("data") if isinstance(body, dict) else None
    names = [str(r["id"]) for r in rows if isinstance(r, dict) and "id" in r] if isinstance(rows, list) else []
    if not names or any(_same_model(config.model, name) for name in names):
        return None
    shown = ", ".join(clip(one_line(n)) for n in sorted(names)[:10]) + (", ..." if len(names) > 10 else "")
    return f"{at}: the server does not list this model; it has {len(names)}: {shown}"


def _same_model(wanted: str, listed: str) -> bool:
    """Listings leave out default tags and routing variants, add a ``models/`` prefix, or hold patterns."""
    listed = listed.removeprefix("models/")
    plain = wanted.removeprefix("models/")
    return listed in (plain, plain.partition(":")[0]) or listed == f"{plain}:latest" or fnmatchcase(plain, listed)


def _turns(messages: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in messages]
