"""Logits of the supervised positions alone.

A vocabulary has up to 250 thousand entries: the logits of all positions of a batch, prompts and padding included, are
by far the largest array of a training step. The model's own forward runs here, with one change: its output layer is
given the selected positions only. What a model does to its logits afterwards (scaling, soft-capping) is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

POSITIONS_PER_SLICE = 1024
"""Positions whose logits are worked on at once."""


def selected_logits(model: Any, tokens: Tensor, mask: Tensor, selected: Tensor) -> Tensor:
    """Logits at the ``selected`` positions, row by row, with their gradient; shape [selected, vocabulary].

    Args:
        tokens, mask, selected: [batch, length]; ``selected`` is boolean.
    """
    with _output_layer_sees(model, selected, lambda hidden: hidden[selected]):
        logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    return logits[selected] if logits.shape[:2] == selected.shape else logits[0]


def logit_slices(model: Any, tokens: Tensor, mask: Tensor, selected: Tensor) -> Iterator[Tensor]:
    """The same in slices of ``POSITIONS_PER_SLICE``, of which one exists at a time where the model allows it.

    It does where its logits are its output layer's product and nothing else; that is tried at one position. For use
    without gradients.
    """
    import torch

    if not bool(selected.any()):
        return
    hidden: list[Tensor] = []

    def first(inputs: Tensor) -> Tensor:
        hidden.append(inputs[selected])
        return hidden[0][:1]

    with _output_layer_sees(model, selected, first):
        probe = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    if hidden and torch.equal(_output_layer(model)(hidden[0][:1][None]).float(), probe.float()):
        for part in hidden[0].split(POSITIONS_PER_SLICE):
            yield _output_layer(model)(part)
    else:
        yield from selected_logits(model, tokens, mask, selected).split(POSITIONS_PER_SLICE)


def _output_layer(model: Any) -> Any:
    """The layer from hidden states to logits, or None for a model that names none."""
    return getattr(model, "module", model).get_output_embeddings()


@contextlib.contextmanager
def _output_layer_sees(model: Any, selected: Tensor, pick: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within, the output layer is given ``pick(hidden states)``, [positions, width], as a batch of one row.

    A model whose output layer is not called with [batch, length, width] goes on as it is.
    """

    def narrow(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not inputs or inputs[0].dim() != 3 or inputs[0].shape[:2] != selected.shape:
            return None
        return (pick(inputs[0])[None], *inputs[1:])

    layer = _output_layer(model)
    hook = layer.register_forward_pre_hook(narrow) if layer is not None else None
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()
