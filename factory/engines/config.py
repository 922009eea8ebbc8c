"""The ``engine`` of a teacher: which model, behind which engine."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from factory.engines.imported_config import ImportedEngineConfig
from factory.engines.vllm_config import VllmEngineConfig


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TransformersEngineConfig(_Config):
    """A model in this process, on CPU or one GPU (needs the ``train`` extra)."""

    kind: Literal["transformers"] = "transformers"
    """Selects this engine."""
    model: str = Field(min_length=1)
    """A local directory, a ``.gguf`` file, ``package:NAME`` (weights inside an installed package), or a hub id."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Weights and activations. On CPU float32 gives the most repeatable text."""
    batch_size: int = Field(64, ge=1, le=4096)
    """Sequences generated together."""


class OpenAIEngineConfig(_Config):
    """Any OpenAI-compatible endpoint through the official client."""

    kind: Literal["openai"] = "openai"
    """Selects this engine."""
    model: str = Field(min_length=1)
    """Model name as the server knows it."""
    base_url: str | None = Field(None, pattern=r"^https?://")
    """Server address, mostly ending in ``/v1``. Default: the client's own (``OPENAI_BASE_URL``, else OpenAI)."""
    base_urls: tuple[str, ...] = ()
    """Instead of ``base_url``: several servers of the same weights under the same name. Each request goes to the one
    with the fewest open; one that fails is left out and tried again after a while."""
    served_as: str | None = Field(None, pattern=r"^[A-Za-z0-9._:/@-]{1,200}$")
    """What stands for the place in the identity of completions, so that servers may be added, removed and moved without
    asking again. Default: the address of ``base_url``; ``replicas`` for ``base_urls``. Give other weights under the
    same model name another one."""
    api_key_env: str = Field("OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the key. The key is never read from a file or written to one."""
    max_in_flight: int = Field(32, ge=1, le=1000)
    """Requests open at once, over all servers."""
    timeout_s: float = Field(600.0, gt=0, allow_inf_nan=False)
    """Seconds one attempt may take, from connecting to the last byte of the reply."""
    max_retries: int = Field(5, ge=0, le=50)
    """Retries of a request that failed for a passing reason (429, 5xx, broken connection); one of them at most after
    a time-out."""
    price_per_1m_prompt_tokens: float = Field(0.0, ge=0)
    """Money per million prompt tokens, for the cost tables."""
    price_per_1m_completion_tokens: float = Field(0.0, ge=0)
    """Money per million completion tokens."""
    max_requests_per_minute: int | None = Field(None, ge=1)
    """Requests sent in a minute, retries included, over all servers. Default: no limit but the server's own."""
    max_tokens_per_minute: int | None = Field(None, ge=1)
    """Tokens in a minute, over all servers: a request counts with its prompt (estimated) and ``max_tokens`` until its
    reply says how many it were."""
    max_spend: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Most money that one run may spend on this engine in one stage, in the unit of the prices. A request is sent only
    if the cap holds even when everything that is open costs the most it can. What is in the store costs nothing."""

    @field_validator("base_url")
    @classmethod
    def _one_address(cls, value: str | None) -> str | None:
        return None if value is None else cls._plain_address(value)

    @field_validator("base_urls")
    @classmethod
    def _plain_addresses(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        plain = [cls._plain_address(v).rstrip("/") for v in values]
        twice = sorted({v for v in plain if plain.count(v) > 1})
        if twice:
            raise ValueError(f"names a server twice: {', '.join(twice)}")
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.base_url and self.base_urls:
            raise ValueError("has both base_url and base_urls; put every server into base_urls")
        if self.max_spend is not None and not (self.price_per_1m_prompt_tokens or self.price_per_1m_completion_tokens):
            raise ValueError(
                "has max_spend but no price: set price_per_1m_prompt_tokens and price_per_1m_completion_tokens"
            )
        return self

    @staticmethod
    def _plain_address(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https"):
            raise ValueError("must begin with http:// or https://")
        if not parts.hostname or parts.port == 0 or parts.username is not None or parts.query or parts.fragment:
            raise ValueError(
                "must be http(s)://host[:port]/path without user name, password, query or fragment;"
                " a key belongs into the environment variable named by api_key_env"
            )
        return value


EngineConfig = Annotated[
    TransformersEngineConfig | OpenAIEngineConfig | VllmEngineConfig | ImportedEngineConfig,
    Field(discriminator="kind"),
]
