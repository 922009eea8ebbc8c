"""Teacher targets for offline distillation: top-k log-probs per supervised token, plus the mass outside them.

The top k are never renormalised: the remaining mass is one explicit tail bucket, so the target stays a distribution
over k + 1 outcomes (renormalised top-k makes students over-confident, arXiv 2503.16870).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sft.chat import IGNORE, Encoded, num_supervised
from sft.errors import TrainingDataError
from sft.logits import logit_slices
from sft.models import saving

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Targets:
    """Flat arrays over all supervised positions of all examples.

    Shapes: ``ids`` and ``logp`` [positions, k]; ``offsets`` [examples + 1] into the positions.
    """

    ids: np.ndarray
    logp: np.ndarray
    offsets: np.ndarray
    digests: list[str]
    tokenizer: str

    def of(self, index: int, encoded: Encoded) -> tuple[np.ndarray, np.ndarray]:
        """Targets of one example, [supervised positions, k].

        Raises:
            TrainingDataError: when the example is not, token for token, the one that was captured.
        """
        if self.digests[index] != encoded.digest():
            raise TrainingDataError(
                f"teacher targets of example {index} were captured for other tokens; capture them again"
            )
        part = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return self.ids[part], self.logp[part]


def capture(
    model: Any,
    examples: Sequence[Encoded],
    *,
    top_k: int,
    tokenizer: str,
    pad_id: int,
    max_batch_tokens: int = 4096,
    on_progress: Callable[[int], None] | None = None,
) -> Targets:
    """Run the teacher over finished examples and keep its distribution at every supervised token.

    Args:
        max_batch_tokens: tokens of one forward pass, padding included (a longer example has a pass of its own).
        on_progress: called with the number of examples that were finished since the last call.
    """
    import torch

    device = next(model.parameters()).device
    k = min(top_k, int(model.config.get_text_config().vocab_size))
    ids: list[np.ndarray] = []
    logp: list[np.ndarray] = []
    for batch in _batches(examples, max_batch_tokens):
        tokens, mask, labels = (part.to(device) for part in pad_batch(batch, pad_id))
        with torch.inference_mode():
            for logits in logit_slices(model, tokens, mask, predicts_supervised(labels)):
                top = torch.log_softmax(logits.float(), dim=-1).topk(k, dim=-1)
                ids.append(top.indices.to(torch.int32).cpu().numpy())
                logp.append(top.values.cpu().numpy().astype(np.float16))
        if on_progress:
            on_progress(len(batch))
    counts = [num_supervised(e) for e in examples]
    return Targets(
        ids=np.concatenate(ids) if ids else np.zeros((0, k), np.int32),
        logp=np.concatenate(logp) if logp else np.zeros((0, k), np.float16),
        offsets=np.cumsum([0, *counts]).astype(np.int64),
        digests=[e.digest() for e in examples],
        tokenizer=tokenizer,
    )


def _batches(examples: Sequence[Encoded], max_tokens: int) -> Iterator[list[Encoded]]:
    """Consecutive examples that, padded to the longest of them, have at most ``max_tokens`` tokens."""
    batch: list[Encoded] = []
    width = 0
    for example in examples:
        wider = max(width, len(example.input_ids))
        if batch and wider * (len(batch) + 1) > max_tokens:
            yield batch
            batch, wider = [], len(example.input_ids)
        batch.append(example)
        width = wider
    if batch:
        yield batch


def predicts_supervised(labels: Any) -> Any:
    """Where the next token is supervised: the logits at t predict the token at t + 1. Booleans of ``labels``' shape."""
    import torch

    return torch.nn.functional.pad(labels[:, 1:] != IGNORE, (0, 1))


def pad_batch(batch: Sequence[Encoded], pad_id: int) -> tuple[Any, Any, Any]:
    """Right-padded ``(input_ids, attention_mask, labels)``, each an int64 tensor of shape [batch, longest]."""
    import torch

    width = max(len(e.input_ids) for e in batch)
    tokens = torch.full((len(batch), width), pad_id)
    labels = torch.full((len(batch), width), IGNORE)
    mask = torch.zeros((len(batch), width), dtype=torch.long)
    for i, example in enumerate(batch):
        n = len(example.input_ids)
        tokens[i, :n] = torch.tensor(example.input_ids)
        labels[i, :n] = torch.tensor(example.labels)
        mask[i, :n] = 1
    return tokens, mask, labels


def save_targets(targets: Targets, folder: Path) -> None:
    """Write ``targets.safetensors`` and ``targets.json``."""
    from safetensors.numpy import save_file

    arrays = {"ids": targets.ids, "logp": targets.logp, "offsets": targets.offsets}
    with saving(folder):
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, folder / "targets.safetensors")
    index = {"format": FORMAT_VERSION, "tokenizer": targets.tokenizer, "digests": targets.digests}
    (folder / "targets.json").write_text(json.dumps(index))


def load_targets(folder: Path) -> Targets:
    """Read what ``save_targets`` wrote."""
    from safetensors.numpy import load_file

    index = json.loads((folder / "targets.json").read_text())
    arrays = load_file(folder / "targets.safetensors")
    return Targets(arrays["ids"], arrays["logp"], arrays["offsets"], index["digests"], index["tokenizer"])
