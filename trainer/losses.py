"""Losses on windows and columns."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainer.models.resnet import pool


def window_loss(columns: Tensor, mask: Tensor, labels: Tensor, *, smoothing: float, column_share: float) -> Tensor:
    """Binary cross-entropy of the pooled log-odds, plus ``column_share`` times that of the single columns.

    The second term makes each hop an estimate of its own, which short windows and quick alarms need.
    """
    target = labels * (1.0 - smoothing) + 0.5 * smoothing
    loss = functional.binary_cross_entropy_with_logits(pool(columns, mask), target)
    if column_share > 0.0:
        logits = columns[..., 0]
        each = functional.binary_cross_entropy_with_logits(logits, target[:, None].expand_as(logits), reduction="none")
        loss = loss + column_share * (each * mask).sum() / mask.sum()
    return loss


def contrastive_loss(embedding: Tensor, mask: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss on mean embeddings (P. Khosla et al., NeurIPS 2020)."""
    weights = mask.to(embedding.dtype).unsqueeze(2)
    mean = functional.normalize((embedding * weights).sum(1) / weights.sum(1), dim=1)
    likeness = mean @ mean.T / temperature
    self_mask = torch.eye(len(mean), dtype=torch.bool)
    log_share = likeness - torch.logsumexp(likeness.masked_fill(self_mask, float("-inf")), dim=1, keepdim=True)
    same = (labels[:, None] == labels[None, :]) & ~self_mask
    return -(log_share * same).sum() / same.sum().clamp(min=1)
