"""A model in this process: batched sampling with one random stream per sample.

A sample's random numbers depend on its seed alone, so its text does not depend on the other rows of its batch, except
where float rounding does: matrix products may round differently for another batch shape, and a probability that lies
within that rounding of its draw may fall to the other side. Equal batches on one machine give equal bytes.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from factory import runtime
from factory.engines.base import Completion, FinishReason, Request, SamplingParams
from factory.engines.config import TransformersEngineConfig
from factory.errors import EngineError, ModelError
from sft.chat import THINK_OPEN, opens_thinking, render_prompt
from sft.errors import ModelLoadError, TrainingDataError
from sft.models import fingerprint, load_model, load_tokenizer, release_memory

ENGINE_VERSION = 1
"""Goes up when equal weights, prompt and seed no longer give the text they gave before."""
_UNIFORMS_PER_REFILL = 256


def transformers_identity(config: TransformersEngineConfig, model_fingerprint: str) -> str:
    """Identity of the completions of a model: its content, its arithmetic, and how this engine draws."""
    return f"{model_fingerprint}/{config.dtype}/e{ENGINE_VERSION}"


class TransformersEngine:
    """Engine over ``transformers``; weights are loaded with the first request that needs them.

    Raises:
        ModelError: when model or tokenizer cannot be loaded.
    """

    def __init__(self, config: TransformersEngineConfig, identity: str | None = None) -> None:
        self.config = config
        self.batch_size: int | None = config.batch_size
        try:
            self.identity = identity or transformers_identity(config, fingerprint(config.model))
        except ModelLoadError as error:
            raise ModelError(str(error)) from error
        self._tokenizer: Any = None
        self._model: Any = None

    def render(self, messages: Sequence[tuple[str, str]]) -> str:
        """The chat in the model's own template, ending where the model's answer begins."""
        try:
            return render_prompt(self._load_tokenizer(), messages)
        except TrainingDataError as error:
            raise ModelError(f"model {self.config.model!r}: {error}") from error

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Yield one list per batch of ``batch_size`` consecutive requests."""
        for params, run in itertools.groupby(requests, key=lambda r: r.params):
            rows = list(run)
            for start in range(0, len(rows), self.config.batch_size):
                yield self._generate_batch(rows[start : start + self.config.batch_size], params)

    def close(self) -> None:
        """Drop the weights, and free the GPU's memory that held them."""
        if self._model is not None:
            self._model = None
            release_memory()
        self._tokenizer = None

    def _load_tokenizer(self) -> Any:
        if self._tokenizer is None:
            runtime.prepare()
            try:
                self._tokenizer = load_tokenizer(self.config.model)
            except ModelLoadError as error:
                raise ModelError(str(error)) from error
        return self._tokenizer

    def _load_model(self) -> Any:
        if self._model is None:
            runtime.prepare()
            try:
                self._model = load_model(self.config.model, self.config.dtype)
            except ModelLoadError as error:
                raise ModelError(str(error)) from error
        return self._model

    def _generate_batch(self, requests: list[Request], params: SamplingParams) -> list[Completion]:
        import torch

        started = time.monotonic()
        tokenizer, model = self._load_tokenizer(), self._load_model()
        prompts = [tokenizer(r.prompt, add_special_tokens=False)["input_ids"] for r in requests]
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31
        fitting = [i for i, p in enumerate(prompts) if 0 < len(p) < context]
        try:
            with torch.inference_mode():
                tokens = _sample(
                    model,
                    [prompts[i] for i in fitting],
                    params,
                    seeds=[requests[i].seed for i in fitting],
                    stop_ids=_stop_ids(model, tokenizer),
                    pad_id=tokenizer.pad_token_id,
                    context=context,
                )
        except torch.OutOfMemoryError as error:
            raise EngineError(
                f"model {self.config.model!r}: out of memory with batch_size {self.config.batch_size};"
                " lower engine.batch_size and run again (finished batches are kept)"
            ) from error
        seconds = (time.monotonic() - started) / len(requests)
        drawn = dict(zip(fitting, tokens, strict=True))
        return [
            self._completion(request, len(prompts[i]), drawn.get(i), context, seconds)
            for i, request in enumerate(requests)
        ]

    def _completion(
        self,
        request: Request,
        num_prompt: int,
        drawn: tuple[list[int], FinishReason] | None,
        context: int,
        seconds: float,
    ) -> Completion:
        if drawn is None:
            message = f"the prompt has {num_prompt} tokens, the model takes 1 to {context - 1}"
            return Completion(request, "", "error", num_prompt, 0, seconds, error=message, permanent=True)
        ids, finish = drawn
        if finish == "error":
            message = (
                f"the model's output is not a number after {len(ids)} tokens;"
                " its weights are damaged or its dtype is too narrow"
            )
            return Completion(request, "", "error", num_prompt, len(ids), seconds, error=message)
        shown = ids[:-1] if finish == "stop" else ids
        text = self._tokenizer.decode(shown, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if opens_thinking(request.prompt):  # what reads the text wants both tags in it
            text = f"{THINK_OPEN}\n{text}"
        return Completion(request, text, finish, num_prompt, len(ids), seconds)


def _stop_ids(model: Any, tokenizer: Any) -> set[int]:
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return {int(i) for i in [*ids, tokenizer.eos_token_id] if i is not None}


def _sample(
    model: Any,
    prompts: list[list[int]],
    params: SamplingParams,
    *,
    seeds: list[int],
    stop_ids: set[int],
    pad_id: int,
    context: int,
) -> list[tuple[list[int], FinishReason]]:
    """Token ids per prompt (the stop token included) and why each ended. Finished rows leave the batch.

    Equal prompts are read once; their rows go on from copies of the cache. A row whose logits are no numbers ends with
    "error" and the tokens before.
    """
    import torch
    from transformers import DynamicCache

    if not prompts:
        return []
    device = next(model.parameters()).device
    width = max(len(p) for p in prompts)
    place = {p: i for i, p in enumerate(dict.fromkeys(map(tuple, prompts)))}
    copies: Any = torch.tensor([place[tuple(p)] for p in prompts], device=device)
    ids = torch.tensor([[pad_id] * (width - len(p)) + list(p) for p in place], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in place], device=device)
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    limits = [min(params.max_tokens, context - len(p)) for p in prompts]
    out: list[list[int]] = [[] for _ in prompts]
    finish: list[FinishReason] = ["length"] * len(prompts)
    live = list(range(len(prompts)))
    draws = _Uniforms(seeds)
    cache = DynamicCache()
    while live:
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        if copies is not None:
            cache.batch_select_indices(copies)
            logits, mask, positions, copies = logits[copies], mask[copies], positions[copies], None
        chosen = _choose(logits, params, draws.next(live))
        going = []
        for at, (row, token) in enumerate(zip(live, chosen, strict=True)):
            if token is None:
                finish[row] = "error"
                continue
            out[row].append(token)
            if token in stop_ids:
                finish[row] = "stop"
            elif len(out[row]) < limits[row]:
                going.append(at)
        if len(going) < len(live):
            if not going:
                break
            index = torch.tensor(going, device=device)
            cache.batch_select_indices(index)
            mask, positions = mask[index], positions[index]
        live = [live[at] for at in going]
        ids = torch.tensor([[chosen[at]] for at in going], device=device)
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return list(zip(out, finish, strict=True))


class _Uniforms:
    """Uniform numbers in [0, 1): one counter-based stream per sample, drawn in blocks."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._streams = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]
        self._block = np.empty((len(seeds), 0))
        self._at = 0

    def next(self, rows: Sequence[int]) -> np.ndarray:
        if self._at == self._block.shape[1]:
            self._block = np.stack([s.random(_UNIFORMS_PER_REFILL) for s in self._streams])
            self._at = 0
        self._at += 1
        return np.asarray(self._block[list(rows), self._at - 1])


def _choose(logits: Any, params: SamplingParams, uniforms: np.ndarray) -> list[int | None]:
    """One token id per row, or None where no distribution is left (NaN, infinity)."""
    import torch

    sound = torch.isfinite(logits.amax(-1)).tolist()
    if not all(sound):
        logits = torch.where(torch.tensor(sound, device=logits.device).unsqueeze(1), logits, 0.0)
    ids = _draw(logits, params, uniforms)
    return [token if fine else None for token, fine in zip(ids, sound, strict=True)]


def _draw(logits: Any, params: SamplingParams, uniforms: np.ndarray) -> list[int]:
    """One token id per row: greedy at temperature 0, else the inverse of the (nucleus) distribution function."""
    import torch

    if params.temperature == 0:
        return list(logits.argmax(-1).tolist())
    probs = torch.softmax(logits.double() / params.temperature, dim=-1)
    draw = torch.as_tensor(uniforms, device=logits.device).unsqueeze(1)
    if params.top_p >= 1:
        return list(_invert(probs.cumsum(-1), draw).squeeze(1).tolist())
    # Stable: equal probabilities keep the order of their ids, so that ties cannot differ between runs.
    ordered, order = probs.sort(dim=-1, descending=True, stable=True)
    total = ordered.cumsum(-1)
    kept = torch.where(total - ordered < params.top_p, ordered, 0.0)
    return list(order.gather(1, _invert(kept.cumsum(-1), draw)).squeeze(1).tolist())


def _invert(cumulative: Any, draw: Any) -> Any:
    """Index of the first entry whose cumulative mass exceeds ``draw`` times the whole; shape [rows, 1]."""
    import torch

    index = torch.searchsorted(cumulative, draw * cumulative[:, -1:], right=True)
    return index.clamp_max(cumulative.shape[1] - 1)
