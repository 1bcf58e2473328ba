"""The network as it is trained: with a head more, which guesses what a teacher says of the same clip."""

from __future__ import annotations

from torch import Tensor, nn

from trainer.models.resnet import CausalResNet


class Pupil(nn.Module):
    """A network and the head ``guess``, which only training has: from the mean embedding to ``size`` numbers."""

    def __init__(self, network: CausalResNet, size: int) -> None:
        super().__init__()
        self.network = network
        self.guess: nn.Module = nn.Linear(network.embedding_size, size) if size else nn.Identity()

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Columns and embedding as :meth:`CausalResNet.forward` gives them, and ``[N, size]``, the guess."""
        columns, embedding = self.network(features)
        weights = mask.to(embedding.dtype).unsqueeze(2)
        return columns, embedding, self.guess((embedding * weights).sum(1) / weights.sum(1))
