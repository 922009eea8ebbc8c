"""Settings of a model that vLLM computes: in this process, or in a server that is started and stopped with the run."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_OWN_FLAGS = {
    "served_model_name": "it is the factory's to choose",
    "host": "the server listens on 127.0.0.1 only",
    "port": "a free port is taken",
    "api_key": "keys are never written into a recipe, and the server is on this machine",
    "hf_token": "keys are never written into a recipe; log in with `hf auth login`",
    "trust_remote_code": "code that comes with a model is never run",
    "generation_config": "the recipe's sampling settings count, not those that come with the model",
    "enable_lora": "set engine.lora to the adapter's folder",
    "lora_modules": "set engine.lora to the adapter's folder",
    "skip_tokenizer_init": "it is the factory's to choose",
}


class VllmEngineConfig(BaseModel):
    """A local model or hub id behind vLLM, which plans its batches itself (see docs/engines.md to install it)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["vllm"] = "vllm"
    """Selects this engine."""
    model: str = Field(min_length=1)
    """A local directory with safetensors, ``package:NAME`` (such a directory inside a package), or a hub id."""
    mode: Literal["offline", "server"] = "offline"
    """``offline``: vLLM in this process. ``server``: a server of our own, watched, restarted when it dies, and stopped
    at the end; vLLM may then live in another environment (``python``)."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Weights and activations; ``auto`` takes what the model was saved in (bfloat16 for one saved in float32)."""
    tensor_parallel_size: int = Field(1, ge=1, le=1024)
    """GPUs that share one copy of the weights."""
    data_parallel_size: int = Field(1, ge=1, le=1024)
    """Copies of the weights that share the requests (``mode: server``)."""
    max_model_len: int | None = Field(None, ge=2)
    """Longest prompt and completion together, in tokens. Default: the model's own, which may not fit into memory."""
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    """Share of each GPU's memory that vLLM takes for weights and key/value cache."""
    quantization: str | None = Field(None, min_length=1)
    """vLLM's name of the quantisation, such as ``fp8`` or ``awq``. Default: what the model's own files say."""
    lora: str | None = Field(None, min_length=1)
    """Folder of a LoRA adapter as PEFT saves it, laid over ``model``."""
    extra_args: dict[str, Any] = Field(default_factory=dict)
    """Further engine arguments of vLLM under their Python names, such as ``{enforce_eager: true, max_num_seqs: 64}``.
    They count as part of the model's identity (other arguments, other completions), except those that only say how much
    is computed at once."""
    python: str | None = Field(None, min_length=1)
    """``mode: server``: the interpreter that has vLLM. Default: the one that runs the factory."""
    max_in_flight: int = Field(256, ge=1, le=1000)
    """``mode: server``: requests open at once."""
    timeout_s: float = Field(3600.0, gt=0, allow_inf_nan=False)
    """``mode: server``: seconds that one request may take."""
    start_timeout_s: float = Field(1800.0, gt=0, allow_inf_nan=False)
    """``mode: server``: seconds until the server must be ready; loading a large model takes minutes."""
    max_restarts: int = Field(3, ge=0, le=100)
    """``mode: server``: how often a server that died is started again before the run stops (resumably)."""

    @field_validator("extra_args")
    @classmethod
    def _only_further_arguments(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            plain = name.replace("-", "_")
            if plain in _OWN_FLAGS:
                raise ValueError(f"{name!r} cannot be set here: {_OWN_FLAGS[plain]}")
            if plain in cls.model_fields:
                raise ValueError(f"{name!r} is a setting of its own: write engine.{plain}")
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"{name!r} is no argument's Python name: small letters, digits and _ (max_num_seqs)")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"values must be plain numbers, texts, lists or mappings: {error}") from error
        return value

    @model_validator(mode="after")
    def _settings_of_the_mode(self) -> VllmEngineConfig:
        given = [n for n, default in (("data_parallel_size", 1), ("python", None)) if getattr(self, n) != default]
        if self.mode == "offline" and given:
            raise ValueError(f"{' and '.join(given)}: only with mode: server")
        return self
