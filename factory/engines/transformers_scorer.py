"""Log-probabilities of responses from a model in this process, in memory that does not grow with their length.

Sequences are read in chunks over a key/value cache: logits exist for one chunk at a time, and only where a response
token is predicted. Sequences of similar length are read side by side, padded on the right, which a causal model does
not see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from factory import runtime
from factory.engines.config import TransformersEngineConfig
from factory.engines.scoring import EncodedPair, ResponseScore
from factory.engines.transformers_engine import transformers_identity
from factory.errors import EngineError, ModelError
from sft.errors import ModelLoadError
from sft.models import fingerprint, load_model, load_tokenizer, release_memory

_WINDOW = 256
"""Pairs sorted by length together."""
_NARROWEST = 16
"""A chunk is at least so wide where it can be: narrower ones read the cache too often."""


class TransformersScorer:
    """Scores under a model of ``transformers``; weights are loaded with the first pair.

    Args:
        chunk_tokens: token positions (of all sequences read side by side) whose logits exist at one time: memory is
            about three times ``chunk_tokens`` x vocabulary x 4 bytes, and the key/value cache.

    Raises:
        ModelError: when the model cannot be found.
    """

    def __init__(
        self, config: TransformersEngineConfig, identity: str | None = None, *, chunk_tokens: int = 512
    ) -> None:
        if chunk_tokens < 1:
            raise ValueError(f"chunk_tokens must be at least 1, got {chunk_tokens}")
        self.config = config
        self._chunk_tokens = chunk_tokens
        try:
            self.identity = identity or transformers_identity(config, fingerprint(config.model))
        except ModelLoadError as error:
            raise ModelError(str(error)) from error
        self._tokenizer: Any = None
        self._model: Any = None

    def score(self, pairs: Sequence[tuple[str, str]]) -> Iterator[ResponseScore]:
        """See ``Scorer``."""
        self._load()
        context = getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or 2**31
        rows = max(1, min(self.config.batch_size, self._chunk_tokens // _NARROWEST))
        for start in range(0, len(pairs), _WINDOW):
            encoded = [EncodedPair(self._tokenizer, *pair) for pair in pairs[start : start + _WINDOW]]
            problems = [pair.problem(context) for pair in encoded]
            order = sorted((i for i, p in enumerate(problems) if p is None), key=lambda i: (len(encoded[i].ids), i))
            found: dict[int, list[float]] = {}
            for at in range(0, len(order), rows):
                part = order[at : at + rows]
                found |= zip(part, self._score_batch([encoded[i] for i in part]), strict=True)
            for i, (pair, problem) in enumerate(zip(encoded, problems, strict=True)):
                yield pair.failed(problem) if problem else pair.scored(found[i])

    def close(self) -> None:
        """Drop the weights, and free the GPU's memory that held them."""
        if self._model is not None:
            self._model = None
            release_memory()
        self._tokenizer = None

    def _load(self) -> None:
        if self._model is not None:
            return
        runtime.prepare()
        try:
            self._tokenizer = load_tokenizer(self.config.model)
            self._model = load_model(self.config.model, self.config.dtype)
        except ModelLoadError as error:
            raise ModelError(str(error)) from error

    def _score_batch(self, pairs: list[EncodedPair]) -> list[list[float]]:
        import torch

        try:
            with torch.inference_mode():
                return response_logprobs(
                    self._model,
                    [(pair.prompt_ids, pair.response_ids) for pair in pairs],
                    max(1, self._chunk_tokens // len(pairs)),
                )
        except torch.OutOfMemoryError as error:
            raise EngineError(
                f"model {self.config.model!r}: out of memory while scoring {len(pairs)} responses of up to"
                f" {max(len(p.ids) for p in pairs)} tokens; lower engine.batch_size"
            ) from error


def response_logprobs(model: Any, rows: Sequence[tuple[list[int], list[int]]], width: int) -> list[list[float]]:
    """Log-probability of each response token, per ``(prompt ids, response ids)``; ``width`` positions are read at once.

    Neither part of a row may be empty. Call it in inference mode.
    """
    import torch
    from transformers import DynamicCache

    device = next(model.parameters()).device
    sequences = [prompt + response for prompt, response in rows]
    length = max(map(len, sequences))
    ids = torch.tensor([s + [s[-1]] * (length - len(s)) for s in sequences], device=device)
    first = min(len(prompt) for prompt, _ in rows) - 1  # no position before this one predicts a response token
    cache = DynamicCache(config=model.config)
    out: list[list[float]] = [[] for _ in rows]
    for start in range(0, length - 1, width):  # the last position predicts nothing that is asked
        end = min(start + width, length - 1)
        wanted = end - max(start, first)
        logits = model(
            input_ids=ids[:, start:end],
            position_ids=torch.arange(start, end, device=device).unsqueeze(0).expand(len(rows), -1),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=max(wanted, 1),
        ).logits
        if wanted <= 0:
            continue
        logprobs = _chosen(logits, ids[:, end - wanted + 1 : end + 1]).tolist()
        del logits  # before the next chunk's are made
        for row, (prompt, response) in enumerate(rows):
            low = max(len(prompt) - 1, end - wanted)  # positions that predict a token of this row's response
            high = min(len(prompt) + len(response) - 1, end)
            out[row] += logprobs[row][low - (end - wanted) : max(high - (end - wanted), 0)] if low < high else []
    return out


def _chosen(logits: Any, tokens: Any) -> Any:
    """Log-softmax in float32 at ``tokens``; shapes [rows, positions, vocabulary] and [rows, positions]."""
    wide = logits.float()
    return wide.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - wide.logsumexp(-1)
