"""How a request reaches an OpenAI-compatible server, and what its exceptions mean: address, key, client."""

from __future__ import annotations

import functools
import importlib
import ipaddress
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from factory.engines.config import OpenAIEngineConfig
from factory.engines.openai_reply import AttemptError, FailureKind, clip, one_line, read_refusal
from factory.engines.openai_transport import KeepAliveTransport
from factory.errors import EngineError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_CONNECT_S = 15.0
_MAX_IDLE = 250
_PLACEHOLDER_KEY = "no-key"


class Secret:
    """The key, in a box that does not show it in tracebacks with local variables."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "<key>"

    @classmethod
    def of(cls, config: OpenAIEngineConfig) -> Secret:
        """The key in ``api_key_env``; servers on this machine or a private network get along without.

        Raises:
            EngineError: when the variable is not set, or holds what cannot be a key. Its value is not shown.
        """
        variable = config.api_key_env
        secret = cls(os.environ.get(variable, "").strip())
        if not secret._key:
            if not all(_is_private(_parts(config, url).hostname or "") for url in addresses(config)):
                raise EngineError(
                    f"{where(config)}: the environment variable {variable} is not set; put the key there (it is read"
                    " from nowhere else), or name another variable in engine.api_key_env"
                )
            secret = cls(_PLACEHOLDER_KEY)
        # A header with such characters would fail with a message that quotes it.
        if not secret._key.isascii() or not secret._key.isprintable() or " " in secret._key:
            raise EngineError(
                f"{where(config)}: the environment variable {variable} does not hold a key: it has spaces, line breaks"
                " or characters outside ASCII in it; set it anew"
            )
        return secret

    def reveal(self) -> str:
        return self._key

    def mask(self, text: str) -> str:
        """Text without the key; servers quote it in their error messages."""
        return text.replace(self._key, "<key>") if len(self._key) >= 4 else text


def make_client(config: OpenAIEngineConfig, secret: Secret, url: str | None = None) -> AsyncOpenAI:
    """The official client without retries and, but for connecting, without time-outs: its caller sets both.

    Args:
        url: one of ``addresses(config)``; default: the first.
    """
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

    url = url or addresses(config)[0]
    parts = _parts(config, url)
    limit = Timeout(None, connect=min(_CONNECT_S, config.timeout_s))
    headers = {}
    if _is_proxied(parts):
        # The client's own transport knows proxies. On a connection that it uses again, bytes that were sent too many
        # are read as the answer to the next question, so each request gets a connection of its own.
        http, headers = DefaultAsyncHttpxClient(), {"Connection": "close"}
    else:
        max_idle = min(max(config.max_in_flight // 2, 16), _MAX_IDLE)
        transport = KeepAliveTransport(httpx_module(), max_idle=max_idle)
        http = DefaultAsyncHttpxClient(transport=transport, trust_env=False)
    return AsyncOpenAI(
        api_key=secret.reveal(),
        base_url=url,
        timeout=limit,
        max_retries=0,
        default_headers=headers,
        http_client=http,
    )


@functools.cache
def httpx_module() -> Any:
    """The library that the installed client speaks HTTP with: ``httpx``, or ``httpx2`` since 2026."""
    from openai import DefaultAsyncHttpxClient

    return importlib.import_module(DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])


def failure_of(error: Exception, secret: Secret, timeout_s: float) -> AttemptError:
    """What an exception of the client means, in few words that do not hold the key."""
    failure = _classify(error, timeout_s)
    # Masked before it is cut: half a key would not be recognised.
    text = clip(secret.mask(failure.text))
    return AttemptError(
        failure.kind,
        text,
        retry_after_s=failure.retry_after_s,
        heard=failure.heard,
        maybe_billed=failure.maybe_billed,
    )


def _classify(error: Exception, timeout_s: float) -> AttemptError:
    import openai

    if isinstance(error, AttemptError):
        return error
    if isinstance(error, openai.APIStatusError):
        return read_refusal(error.status_code, error.response.headers, error.response.content)
    if isinstance(error, UnicodeEncodeError):
        text = "the prompt holds a lone surrogate (half a character), which cannot be sent; correct the source row"
        return AttemptError(FailureKind.REJECTED, text, heard=False, maybe_billed=False)
    chain = _causes(error)
    # By name: the client changed the library that defines these, and keeps them to itself.
    if any(type(e).__name__ in ("ConnectError", "ConnectTimeout") for e in chain):
        said = f"no connection: {_deepest_text(chain)}"
        return AttemptError(FailureKind.UNREACHABLE, said, heard=False, maybe_billed=False)
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return AttemptError(FailureKind.TIMEOUT, f"no complete reply within {timeout_s:g} s", heard=False)
    if isinstance(error, openai.APIConnectionError):
        return AttemptError(FailureKind.PASSING, f"the connection broke: {_deepest_text(chain)}", heard=False)
    return AttemptError(FailureKind.PASSING, f"{type(error).__name__}: {one_line(str(error))}")


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    return chain


def _deepest_text(chain: list[BaseException]) -> str:
    return next((one_line(str(e)) for e in reversed(chain) if str(e)), type(chain[-1]).__name__)


def where(config: OpenAIEngineConfig) -> str:
    """The start of every message: which model, at which server."""
    places = [place(config, url) for url in addresses(config)]
    if len(places) == 1:
        return f"model {config.model!r} at {places[0]}"
    shown = ", ".join(places[:3]) + (", ..." if len(places) > 3 else "")
    return f"model {config.model!r} at {len(places)} servers ({shown})"


def place(config: OpenAIEngineConfig, url: str) -> str:
    """``host[:port][/path]`` of a server, without default port and final ``/v1``; never a user name or a query."""
    parts = _parts(config, url)
    host = parts.hostname or ""
    port = "" if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme)) else f":{parts.port}"
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"[{host}]{port}{path}" if ":" in host else f"{host}{port}{path}"


def addresses(config: OpenAIEngineConfig) -> tuple[str, ...]:
    """The servers in use; as in the client itself, ``OPENAI_BASE_URL`` counts where the recipe names none."""
    if config.base_urls:
        return config.base_urls
    return (config.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1",)


def _parts(config: OpenAIEngineConfig, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise EngineError(
            f"model {config.model!r}: OPENAI_BASE_URL is not a server's address; it must look like"
            " http(s)://host[:port]/v1"
        )
    return parts


def _is_proxied(parts: SplitResult) -> bool:
    """Whether the environment names a proxy for this address; none can reach this machine's own servers."""
    host = parts.hostname or ""
    named = {parts.scheme, "all"} & getproxies().keys()
    return bool(named) and not _is_loopback(host) and not proxy_bypass(host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_private(host: str) -> bool:
    """Whether the host can only be on this machine or in a private network."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _is_loopback(host) or "." not in host or host.endswith((".local", ".internal", ".lan"))
    return address.is_private or address.is_loopback or address.is_link_local
