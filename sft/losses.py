"""Token-level distillation loss on sparse teacher targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TAIL_FLOOR = 1e-6
"""Smallest tail mass: the logarithm of a tail of exactly zero has no useful gradient."""
_TINY = 1e-30


def forward_kl_with_tail(student_logits: Tensor, target_ids: Tensor, target_logp: Tensor) -> Tensor:
    """KL(teacher || student) per position over k kept tokens and one tail bucket; shape [positions], natural log.

    Args:
        student_logits: [positions, vocabulary].
        target_ids: [positions, k] token ids.
        target_logp: [positions, k] teacher log-probs under its full softmax (they sum to at most one). An id that the
            student's vocabulary does not hold is left out, so that its mass falls into the tail.

    The bucketing can only lower the divergence (data-processing inequality), and with k = vocabulary it is the exact
    KL. Same K+1 construction as TRL's server distillation and DistillKit's ``symmetric_uniform``.
    """
    import torch

    ids, p_log = target_ids.long(), target_logp.float()
    known = (ids < student_logits.shape[-1]) & torch.isfinite(p_log)
    ids, p = ids.masked_fill(~known, 0), torch.where(known, p_log.exp(), 0.0)
    p = p / p.sum(-1, keepdim=True).clamp_min(1.0)  # stored in half precision, they may sum to a little more than one
    q_log = torch.log_softmax(student_logits.float(), dim=-1).gather(-1, ids)
    p_tail = 1 - p.sum(-1)
    q_tail = (1 - torch.where(known, q_log.exp(), 0.0).sum(-1)).clamp_min(TAIL_FLOOR)
    kept = torch.where(known, p * (p.clamp_min(_TINY).log() - q_log), 0.0).sum(-1)
    tail = torch.where(p_tail > TAIL_FLOOR, p_tail * (p_tail.clamp_min(TAIL_FLOOR).log() - q_tail.log()), 0.0)
    return (kept + tail).clamp_min(0.0)
