"""Token-level distillation loss on sparse teacher targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TAIL_FLOOR = 1e-6
"""Smallest tail mass: the logarithm of a tail of exactly zero has no useful gradient."""


def forward_kl_with_tail(student_logits: Tensor, target_ids: Tensor, target_logp: Tensor) -> Tensor:
    """KL(teacher || student) per position over k kept tokens and one tail bucket; shape [positions], natural log.

    Args:
        student_logits: [positions, vocabulary].
        target_ids: [positions, k] token ids.
        target_logp: [positions, k] teacher log-probs under its full softmax (they sum to at most one).

    The bucketing can only lower the divergence (data-processing inequality), and with k = vocabulary it is the exact
    KL. Same K+1 construction as TRL's server distillation and DistillKit's ``symmetric_uniform``.
    """
    import torch

    q_log = torch.log_softmax(student_logits.float(), dim=-1).gather(-1, target_ids.long())
    p_log = target_logp.float()
    p_tail = (1 - p_log.exp().sum(-1)).clamp_min(0.0)
    q_tail = (1 - q_log.exp().sum(-1)).clamp_min(TAIL_FLOOR)
    kept = (p_log.exp() * (p_log - q_log)).sum(-1)
    tail = torch.where(p_tail > TAIL_FLOOR, p_tail * (p_tail.clamp_min(TAIL_FLOOR).log() - q_tail.log()), 0.0)
    return kept + tail
