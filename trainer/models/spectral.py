"""A causal network that hears the phase: the convolutions of Distill-MOS, and a head on what they say of late.

The convolutions (B. Stahl and H. Gamper, "Distillation and Pruning for Scalable Self-Supervised Representation-Based
Speech Quality Assessment", 2025; weights under the MIT licence) were distilled from wav2vec 2.0 XLS-R on far more
speech than there is with labels, so they stay as they are; see docs/ablations.md for what became of training them on.
Made causal they pad time on the left alone. Mean and standard deviation of their 1,024 outputs over the last
``MEMORY`` columns go through one hidden layer to the log-odds of spoof.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamdet.features.logmel import SPECTRUM_BINS
from trainer.models.resnet import STRIDE, Timeline

CHANNELS = (2, 64, 64, 128, 256, 256, 256)
SLOPE = 0.1  # of what is below zero
MEMORY = 8  # columns (2.56 s) that one column's moments are over
FRAMES = STRIDE // 2  # of the last convolution in a column
LIMIT = 6.0  # standard deviations that a moment may be away from what is usual


class SpectralConv(nn.Module):
    """Convolution of frequency and time, no padding of frequency; time is padded by the timeline."""

    def __init__(self, channels_in: int, channels_out: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.past = 3 - stride[0]
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride)

    def forward(self, x: Tensor, time: Timeline) -> Tensor:
        """``[N, C, T, F]`` to ``[N, C', T / stride, (F - 3) // stride + 1]``, before the rectifier."""
        result: Tensor = self.conv(time.extend(x, self.past))
        return result


class SpectralNet(nn.Module):
    """Scores the compressed complex spectrum column by column; see the module's text."""

    def __init__(self, hidden: int = 256) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"hidden": hidden}
        self.layers = nn.ModuleList()
        for number, (before, after) in enumerate(pairwise(CHANNELS)):
            last = number == len(CHANNELS) - 2
            self.layers.append(SpectralConv(before, after, (2 if last else 1, 1 if number == 0 else 2)))
        self.outputs = CHANNELS[-1] * self.bands()[-1]
        self.register_buffer("centre", torch.zeros(2 * self.outputs))
        self.register_buffer("spread", torch.ones(2 * self.outputs))
        self.centre: Tensor
        self.spread: Tensor
        self.hidden = nn.Linear(2 * self.outputs, hidden)
        self.head = nn.Linear(hidden, 1)

    @torch.no_grad()
    def adopt(self, convolutions: Sequence[nn.Conv2d]) -> None:
        """Take the weights of convolutions over (frequency, time), the axes of which lie the other way here."""
        for layer, source in zip(self.layers, convolutions, strict=True):
            assert isinstance(layer, SpectralConv)
            assert layer.conv.bias is not None
            assert source.bias is not None
            layer.conv.weight.copy_(source.weight.transpose(2, 3))
            layer.conv.bias.copy_(source.bias)

    @staticmethod
    def bands() -> list[int]:
        """Numbers of bands before each convolution and after the last."""
        counts = [SPECTRUM_BINS]
        for number in range(len(CHANNELS) - 1):
            counts.append((counts[-1] - 3) // (1 if number == 0 else 2) + 1)
        return counts

    def state_shapes(self) -> list[tuple[int, int, int]]:
        """``(channels, frames, bands)`` that each layer remembers, and the columns that moments are over at last."""
        shapes = []
        for layer, bands in zip(self.layers, self.bands()[:-1], strict=True):
            assert isinstance(layer, SpectralConv)
            shapes.append((layer.conv.in_channels, layer.past, bands))
        return [*shapes, (1, MEMORY - 1, 2 * self.outputs + 1)]

    def forward(self, spectrum: Tensor, time: Timeline) -> Tensor:
        """``[N, T, 322]`` as :class:`streamdet.features.Spectrum` gives it to log-odds ``[N, T / 32]``."""
        return self.decide(self.moments(self.columns(spectrum, time), time))

    def columns(self, spectrum: Tensor, time: Timeline) -> Tensor:
        """``[N, T, 322]`` to the means of the outputs and of their squares in each column, ``[N, T / 32, 2048]``."""
        x = torch.stack(spectrum.chunk(2, dim=2), dim=1)
        for layer in self.layers:
            x = functional.leaky_relu(layer(x, time), SLOPE)
        outputs = x.float().transpose(1, 2).flatten(2)
        parts = outputs.reshape(len(outputs), -1, FRAMES, self.outputs)
        return torch.cat((parts.mean(2), parts.square().mean(2)), dim=2)

    def moments(self, columns: Tensor, time: Timeline) -> Tensor:
        """Normalised means and deviations ``[N, columns, 2048]`` over the last ``MEMORY`` of :meth:`columns`."""
        counted = torch.cat((columns, torch.ones_like(columns[:, :, :1])), dim=2).unsqueeze(1)
        sums = time.extend(counted, MEMORY - 1).squeeze(1).unfold(1, MEMORY, 1).sum(3)
        mean, square = (sums[:, :, :-1] / sums[:, :, -1:]).chunk(2, dim=2)
        deviation = (square - mean.square()).clamp(min=1e-6).sqrt()
        return self.normalised(torch.cat((mean, deviation), dim=2))

    def normalised(self, moments: Tensor) -> Tensor:
        """Moments ``[…, 2048]`` in deviations from what is usual, within ±6."""
        return ((moments - self.centre) / self.spread).clamp(-LIMIT, LIMIT)

    def decide(self, moments: Tensor) -> Tensor:
        """Moments ``[…, 2048]`` to log-odds ``[…]``."""
        result: Tensor = self.head(functional.relu(self.hidden(moments))).squeeze(-1)
        return result
