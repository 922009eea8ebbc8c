"""A vLLM server of our own: started with the first request, watched, restarted when it dies, stopped at the end.

Requests go through the OpenAI engine's code (retries, time-outs, stream) to ``/v1/completions`` with the prompt as
token ids, rendered here: the server applies no template and adds no token. It sends the completion's token ids back,
and the text is decoded here as for a model in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.engines.background import Background
from factory.engines.base import Completion, Request
from factory.engines.config import OpenAIEngineConfig
from factory.engines.guarded import GuardedProcess
from factory.engines.openai_client import Secret, httpx_module, make_client
from factory.engines.openai_engine import OpenAIEngine
from factory.engines.openai_reply import AttemptError, FailureKind, Reply, read_reply
from factory.engines.vllm_config import VllmEngineConfig
from factory.engines.vllm_setup import ModelTokens, engine_arguments, find_vllm, misfit, vllm_identity
from factory.errors import EngineError, ModelError
from sft.errors import ModelLoadError
from sft.models import fingerprint

if TYPE_CHECKING:
    from openai import AsyncOpenAI

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_NAME, _LORA_NAME = "factory", "factory-lora"
_PROBE_EVERY_S, _PROBE_S = 0.5, 2.0
_SAY_EVERY_S = 30.0
_NUM_LOG_LINES, _LOG_BYTES = 15, 32_768
_MAX_RETRIES = 5
_NO_KEY = "FACTORY_VLLM_SERVER_KEY"  # never set: the server is on this machine and asks for none


class VllmServer:
    """The server's process and what is known about it. Safe to use from several threads.

    Args:
        on_wait: told, every half minute of a start, what is going on.
    """

    def __init__(self, config: VllmEngineConfig, on_wait: Callable[[str], None] | None = None) -> None:
        self.config = config
        self.num_starts = 0
        self.given_up: str | None = None
        """Why it will not be started again."""
        self._on_wait = on_wait or logger.warning
        self._lock = threading.Lock()
        self._process: GuardedProcess | None = None
        self._port = 0
        self._ready = self._ever_ready = self._closed = False
        self._started = self._probed = self._said = 0.0
        self._log: Path | None = None

    @property
    def base_url(self) -> str:
        """Address of the server that runs now; another one after a restart."""
        return f"http://{_HOST}:{self._port}/v1"

    @property
    def pid(self) -> int | None:
        """Process group of the running server."""
        return self._process.pid if self._process else None

    @property
    def is_down(self) -> bool:
        """Whether the process has ended."""
        return self._process is None or self._process.status() is not None

    def ready(self) -> bool:
        """Whether requests can be sent now; starts the server, or starts it again. Returns within about 2 s.

        Raises:
            EngineError: when the server cannot be had: it died too often, or was not ready in time.
        """
        with self._lock:
            if self._closed:
                raise EngineError(f"{self._where()}: the engine was closed")
            if self.given_up:
                raise EngineError(self.given_up)
            if self._process is None:
                self._start()
            code = self._process.status() if self._process else None
            if code is not None:
                self._restart(code)
            if not self._ready:
                self._look()
            return self._ready

    def wait(self) -> None:
        """Return when the server is ready.

        Raises:
            EngineError: as ``ready``.
        """
        while not self.ready():
            time.sleep(_PROBE_EVERY_S / 2)

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON body (None where there is none) of a page; raises ``OSError`` where nobody answers."""
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=_PROBE_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            reply = connection.getresponse()
            body = reply.read()
        try:
            return reply.status, json.loads(body)
        except ValueError:
            return reply.status, None

    def stop(self) -> None:
        """End the server and everything it started. Safe to call twice."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.stop()
            self._process = None
            if self._log is not None and not self.given_up:
                self._log.unlink(missing_ok=True)

    def log_tail(self) -> str:
        """The log's last lines."""
        if self._log is None:
            return ""
        with contextlib.suppress(OSError), open(self._log, "rb") as handle:
            handle.seek(max(0, self._log.stat().st_size - _LOG_BYTES))
            lines = handle.read().decode("utf-8", "replace").splitlines()
            return "\n".join([line.rstrip()[:300] for line in lines if line.strip()][-_NUM_LOG_LINES:])
        return ""

    def _where(self) -> str:
        return f"model {self.config.model!r}: the vLLM server"

    def _start(self) -> None:
        if self._log is None:
            handle, name = tempfile.mkstemp(prefix="factory-vllm-", suffix=".log")
            os.close(handle)
            self._log = Path(name)
        self._port = _free_port()
        self._process = GuardedProcess(command(self.config, self._port), self._log, _environment())
        self.num_starts += 1
        self._ready = False
        self._started = self._said = time.monotonic()
        logger.info("%s is started; its log: %s", self._where(), self._log)

    def _restart(self, code: int) -> None:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        if not self._ever_ready:
            self._give_up(f"{how} before it was ready")
        if self.num_starts > self.config.max_restarts:
            self._give_up(f"{how}; it was started {self.num_starts} times")
        logger.warning(
            "%s %s; it is started again (%d of %d). Its last lines:\n%s",
            *(self._where(), how, self.num_starts, self.config.max_restarts, _indented(self.log_tail())),
        )
        self._start()

    def _give_up(self, what: str) -> None:
        if self._process is not None:
            self._process.stop()
        self.given_up = (
            f"{self._where()} {what}. Its log ({self._log}) ends with:\n{_indented(self.log_tail())}\n"
            "  correct the engine's settings (engine.extra_args goes to vLLM as it is) and run again: completions that"
            " arrived are kept"
        )
        raise EngineError(self.given_up)

    def _look(self) -> None:
        """Ask a server that is not ready whether it is, not too often."""
        now = time.monotonic()
        if now - self._probed < _PROBE_EVERY_S:
            return
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._ready = self.get("/health")[0] == 200
        self._probed = now = time.monotonic()
        self._ever_ready |= self._ready
        waited = now - self._started
        if self._ready:
            logger.info("%s is ready after %.0f s", self._where(), waited)
        elif waited > self.config.start_timeout_s:
            self._give_up(f"was not ready after {waited:.0f} s (engine.start_timeout_s)")
        elif now - self._said >= _SAY_EVERY_S:
            self._said = now
            last = self.log_tail().rpartition("\n")[2]
            self._on_wait(f"{self._where()} is starting, {waited:.0f} s so far; its log: {last[:160]}")


def command(config: VllmEngineConfig, port: int) -> list[str]:
    """The server's command line."""
    python = config.python or sys.executable
    arguments = engine_arguments(config)
    model = arguments.pop("model")
    # vLLM's own command looks its version up under this name, which a build for CPUs does not have.
    if find_vllm(config.python).distribution == "vllm":
        program = ["-m", "vllm.entrypoints.cli.main", "serve", model]
    else:
        program = ["-m", "vllm.entrypoints.openai.api_server", "--model", model]
    arguments |= {"host": _HOST, "port": port, "served_model_name": _NAME, "disable_uvicorn_access_log": True}
    if config.data_parallel_size > 1:
        arguments["data_parallel_size"] = config.data_parallel_size
    if config.lora:
        arguments["lora_modules"] = [f"{_LORA_NAME}={Path(config.lora).absolute()}"]
    flags = [text for name, value in arguments.items() for text in _flag(name, value)]
    return [shutil.which(python) or python, *program, *flags]


def _flag(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, list):
        return [flag, *(item if isinstance(item, str) else json.dumps(item) for item in value)]
    return [flag, json.dumps(value) if isinstance(value, dict) else str(value)]


def _environment() -> dict[str, str]:
    """Ours without keys of other services: the server needs none, and one of vLLM's own would lock us out."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return {"VLLM_NO_USAGE_STATS": "1", "PYTHONUNBUFFERED": "1", **kept}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines()) or "    (nothing)"


class VllmServerEngine(OpenAIEngine):
    """The OpenAI engine in front of a ``VllmServer``.

    Raises:
        ModelError: when vLLM is not installed, or the model cannot be found.
    """

    def __init__(self, config: VllmEngineConfig, identity: str | None = None) -> None:
        self.vllm = config
        self.server = VllmServer(config)
        self.tokens = ModelTokens(config.model)
        self._context: int | None = None
        super().__init__(
            OpenAIEngineConfig(
                model=config.model,
                base_url=f"http://{_HOST}:9/v1",  # until the server has a port
                api_key_env=_NO_KEY,
                max_in_flight=config.max_in_flight,
                timeout_s=config.timeout_s,
                max_retries=_MAX_RETRIES,
            )
        )
        try:
            self.identity = identity or vllm_identity(config, fingerprint(config.model))
        except ModelLoadError as error:
            raise ModelError(str(error)) from error

    def render(self, messages: Sequence[tuple[str, str]]) -> str:
        """The chat in the model's own template, ending where the model's answer begins."""
        return self.tokens.render(messages)

    def generate(self, requests: Sequence[Request]) -> Generator[list[Completion], None, None]:
        """Yield completions as they arrive. The first call starts the server.

        Raises:
            ModelError: when the model's files or tokenizer cannot be used.
            EngineError: when the server does not start, or died more than ``max_restarts`` times: with its log's last
                lines. What had arrived was yielded before.
        """
        if not requests:
            return
        context = self.context()
        lengths = [self.tokens.length(r.prompt, context) for r in requests]
        unfit = [misfit(r, n, context) for r, n in zip(requests, lengths, strict=True) if not 0 < n < context]
        if unfit:
            yield unfit
        yield from super().generate([r for r, n in zip(requests, lengths, strict=True) if 0 < n < context])

    def context(self) -> int:
        """Most tokens of prompt and completion together. Starts the server.

        Raises:
            EngineError: as ``generate``.
        """
        if self._context is None:
            self.tokens.tokenizer  # noqa: B018 - a model without a template is refused before the server is started
            self.server.wait()
            self._address()
            rows = (self.server.get("/v1/models")[1] or {}).get("data") or [{}]
            self._context = int(rows[0].get("max_model_len") or 2**31)
        return self._context

    def close(self) -> None:
        """Cancel open requests and stop the server with everything it started. Safe to call twice."""
        super().close()
        self.server.stop()

    def prompt_logprobs(self, sequences: Sequence[Sequence[int]]) -> Iterator[tuple[int, list[float]]]:
        """Per sequence its index and the log-probability of each token but the first, in any order.

        Sequences must be shorter than ``context()``.

        Raises:
            EngineError: when the server is gone for good, or refuses.
        """
        self.context()
        secret = Secret.of(self.config)
        stream = Background[tuple[int, list[float]]](lambda put: self._score_all(secret, sequences, put))
        try:
            for group in stream:
                yield from group
        finally:
            stream.stop()

    async def _attempt(self, client: AsyncOpenAI, request: Request) -> Reply:
        ids = self.tokens.encode(request.prompt)
        params = request.params
        reply = await self._ask(
            client,
            ids,
            max_tokens=min(params.max_tokens, self.context() - len(ids)),
            temperature=params.temperature,
            top_p=params.top_p,
            seed=request.seed,
            skip_special_tokens=False,
            return_token_ids=True,
        )
        self._heard = True
        return self._decoded(request, reply)

    async def _ask(self, client: AsyncOpenAI, prompt: list[int], **settings: Any) -> dict[str, Any]:
        """One completion's reply as JSON; waits for the server when it is being started again."""
        from openai import APIConnectionError

        try:
            while not self.server.ready():
                await asyncio.sleep(_PROBE_EVERY_S / 2)
        except EngineError as error:  # raised to the caller by ``_raise_if_hopeless``
            raise AttemptError(FailureKind.PASSING, str(error), heard=False) from error
        self._address()
        name = _LORA_NAME if self.vllm.lora else _NAME
        # Ids are taken as they are; the flag is for a server that would see text in them.
        body = {"model": name, "prompt": prompt, "add_special_tokens": False, **settings}
        try:
            async with asyncio.timeout(self.config.timeout_s):
                # A whole address: the client was made for the server's first one.
                url = f"{self.server.base_url}/completions"
                raw = await client.post(url, body=body, cast_to=httpx_module().Response)
        except APIConnectionError as error:
            await asyncio.sleep(0.3)  # the connection breaks before the process has ended
            if self.server.is_down:
                raise AttemptError(FailureKind.PASSING, "the vLLM server died") from error
            raise
        try:
            reply = json.loads(raw.content)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            raise AttemptError(FailureKind.PASSING, "the vLLM server's reply is not a JSON object")
        return reply

    def _decoded(self, request: Request, reply: dict[str, Any]) -> Reply:
        """The reply with the text decoded here, read as every other server's."""
        choices = reply.get("choices") or [{}]
        ids = choices[0].get("token_ids")
        if not isinstance(ids, list):
            raise AttemptError(
                FailureKind.REJECTED,
                "the reply holds no token ids: this vLLM is older than 0.10.2; install a newer one",
            )
        finish = choices[0].get("finish_reason")
        text = self.tokens.text(request, ids, stopped=finish == "stop")
        choice = {"message": {"content": text}, "finish_reason": finish}
        return read_reply(json.dumps(reply | {"choices": [choice]}).encode(), request.params.max_tokens)

    def _raise_if_hopeless(self, failure: AttemptError) -> None:
        if self.server.given_up:
            raise EngineError(self.server.given_up)
        super()._raise_if_hopeless(failure)

    def _address(self) -> None:
        """Messages name the server that runs now."""
        if self.config.base_url != self.server.base_url:
            self.config = self.config.model_copy(update={"base_url": self.server.base_url})

    async def _score_all(
        self, secret: Secret, sequences: Sequence[Sequence[int]], put: Callable[[tuple[int, list[float]]], None]
    ) -> None:
        waiting = iter(enumerate(sequences))
        async with make_client(self.config, secret) as client:

            async def work() -> None:
                for index, ids in waiting:
                    put((index, await self._score(client, list(ids))))

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self.config.max_in_flight, len(sequences))):
                        group.create_task(work())
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None

    async def _score(self, client: AsyncOpenAI, ids: list[int]) -> list[float]:
        for _ in range(_MAX_RETRIES):
            try:
                reply = await self._ask(client, ids, max_tokens=1, temperature=0.0, prompt_logprobs=0)
                rows = reply["choices"][0]["prompt_logprobs"][1:]
                return [float(row[str(token)]["logprob"]) for token, row in zip(ids[1:], rows, strict=True)]
            # The boundary of a worker: a reply that cannot be used is asked for again.
            except Exception as error:
                problem = error
                if self.server.given_up:
                    raise EngineError(self.server.given_up) from error
        raise EngineError(
            f"model {self.vllm.model!r}: the vLLM server gives no prompt_logprobs for a sequence of {len(ids)} tokens"
            f" ({type(problem).__name__}: {str(problem)[:200]}); look at its log and run again"
        ) from problem
