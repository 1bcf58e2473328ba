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


def imitation_loss(guess: Tensor, targets: Tensor) -> Tensor:
    """Mean square of what is missing to a teacher's ``targets [rows, size]``; rows that are NaN do not count."""
    known = torch.isfinite(targets).all(dim=1)
    missing = (guess.float() - targets.nan_to_num()).square().mean(dim=1)
    return (missing * known).sum() / known.sum().clamp(min=1)


def softened(labels: Tensor, verdicts: Tensor, share: float) -> Tensor:
    """Labels ``[rows]`` of which ``share`` is a teacher's verdict (a probability), where that is not NaN.

    What the teacher finds hard to tell the network need not tell either: G. Hinton et al., "Distilling the Knowledge in
    a Neural Network", 2015.
    """
    known = torch.isfinite(verdicts)
    return torch.where(known, (1.0 - share) * labels + share * verdicts.nan_to_num(), labels)


def contrastive_loss(embedding: Tensor, mask: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss on mean embeddings (P. Khosla et al., NeurIPS 2020, equation 2).

    Within a batch, clips of one label attract each other, those of different labels repel; as batches hold human
    originals beside their copies, what the two share tells nothing.

    Args:
        embedding: ``[rows, columns, size]``.
        mask: bool ``[rows, columns]``, which columns count.
        labels: ``[rows]``.
        temperature: of the likeness.
    """
    weights = mask.to(embedding.dtype).unsqueeze(2)
    mean = functional.normalize((embedding * weights).sum(1) / weights.sum(1), dim=1).float()
    likeness = mean @ mean.T / temperature
    self_mask = torch.eye(len(mean), dtype=torch.bool, device=mean.device)
    log_share = likeness - torch.logsumexp(likeness.masked_fill(self_mask, float("-inf")), dim=1, keepdim=True)
    same = (labels[:, None] == labels[None, :]) & ~self_mask
    partners = same.sum(1)
    each = -(log_share * same).sum(1) / partners.clamp(min=1)
    return each.sum() / (partners > 0).sum().clamp(min=1)
