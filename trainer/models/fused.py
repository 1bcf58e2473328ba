"""Two networks in one: the ResNet on log-mel frames and one that hears single frequencies, their evidence added.

They err differently: one was trained on labels, the other hardly at all. The ResNet's attention also says which columns
count, as the other has no opinion on that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainer.models.resnet import CausalResNet, Timeline
from trainer.models.spectral import SpectralNet


class FusedNet(nn.Module):
    """Scores features that are log-mel bands and what follows them; has the interface of :class:`CausalResNet`.

    ``shares`` are the factors of both log-odds, and what is added to their sum.
    """

    causal = True

    def __init__(self, resnet: CausalResNet, spectral: SpectralNet) -> None:
        super().__init__()
        self.resnet, self.spectral = resnet, spectral
        self.register_buffer("shares", torch.tensor([0.5, 0.5, 0.0]))
        self.shares: Tensor
        self.mels = resnet.mels
        self.values = resnet.mels + spectral.values

    @property
    def settings(self) -> dict[str, Any]:
        """Constructor arguments of both parts, those of the ResNet on the first level."""
        return {**self.resnet.settings, "spectral": dict(self.spectral.settings)}

    def checkpoint(self) -> dict[str, Any]:
        """Give settings and weights, for ``torch.save``; other keys may be added beside them."""
        return {"network": self.settings, "weights": self.state_dict()}

    def with_resnet(self, resnet: CausalResNet) -> FusedNet:
        """Give the same network with another ResNet; weights are shared."""
        other = FusedNet(resnet, self.spectral)
        other.shares.copy_(self.shares)
        return other.eval()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Score whole clips, each as a stream that begins with silence: see :meth:`CausalResNet.forward`.

        Args:
            features: ``[N, T, values]``, ``T`` a multiple of 32.
        """
        return self._run(features, Timeline(None))

    def stream(self, features: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Score the next ``32 k`` frames; ``states`` come from :meth:`initial_states` or the call before."""
        time = Timeline(states)
        columns, _ = self._run(features, time)
        return columns, time.next_states

    def _run(self, features: Tensor, time: Timeline) -> tuple[Tensor, Tensor]:
        columns, embedding = self.resnet.run(features[:, :, : self.mels], time)
        other = self.spectral(features[:, :, self.mels :], time)
        first, second, offset = self.shares
        logit = first * columns[:, :, 0] + second * other + offset
        return torch.stack((logit, columns[:, :, 1]), dim=2), embedding

    def initial_states(self, streams: int) -> list[Tensor]:
        """States of ``streams`` streams that just begin: zeros, on the device and in the type of the weights."""
        return [self.shares.new_zeros(streams, *shape) for shape in self.state_shapes()]

    def state_shapes(self) -> list[tuple[int, int, int]]:
        """``(channels, frames, bands)`` that each layer remembers, in order of evaluation."""
        return self.resnet.state_shapes() + self.spectral.state_shapes()
