"""The ``engine`` of a teacher: which model, behind which engine."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator


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
    api_key_env: str = Field("OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the key. The key is never read from a file or written to one."""
    max_in_flight: int = Field(32, ge=1, le=1000)
    """Requests open at once (the client opens at most 1000 connections)."""
    timeout_s: float = Field(600.0, gt=0, allow_inf_nan=False)
    """Seconds one attempt may take, from connecting to the last byte of the reply."""
    max_retries: int = Field(5, ge=0, le=50)
    """Retries of a request that failed for a passing reason (429, 5xx, broken connection); one of them at most after
    a time-out."""
    price_per_1m_prompt_tokens: float = Field(0.0, ge=0)
    """Money per million prompt tokens, for the cost tables."""
    price_per_1m_completion_tokens: float = Field(0.0, ge=0)
    """Money per million completion tokens."""

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if not parts.hostname or parts.port == 0 or parts.username is not None or parts.query or parts.fragment:
            raise ValueError(
                "must be http(s)://host[:port]/path without user name, password, query or fragment;"
                " a key belongs into the environment variable named by api_key_env"
            )
        return value


EngineConfig = Annotated[TransformersEngineConfig | OpenAIEngineConfig, Field(discriminator="kind")]
