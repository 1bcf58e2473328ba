"""A causal network that hears single frequencies: convolutions that others trained, and a head on what they say.

Either or both of two stacks of convolutions, which stay as they are (docs/ablations.md says what became of training one
on):

``phase``
    that of Distill-MOS (B. Stahl and H. Gamper, "Distillation and Pruning for Scalable Self-Supervised
    Representation-Based Speech Quality Assessment", 2025), distilled from wav2vec 2.0 XLS-R, on the compressed complex
    spectrum;
``power``
    that of PLCMOS (L. Diener et al., "PLCMOS: A Data-driven Non-intrusive Metric for The Evaluation of Packet Loss
    Concealment Algorithms", Interspeech 2023) on the log-power of every bin, for a fifteenth of the work.

Both weights are under the MIT licence. Made causal, the stacks pad time on the left alone. Mean and standard deviation
of their outputs over the last ``MEMORY`` columns go through a hidden layer for each stack to the log-odds of spoof:
units that hear one stack each err more differently than such that hear both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamdet.features import FrontEndConfig
from streamdet.features.logmel import SPECTRUM_BINS
from trainer.models.resnet import STRIDE, Timeline

SLOPE = 0.1  # of what is below zero
MEMORY = 8  # columns (2.56 s) that one column's moments are over
LIMIT = 6.0  # standard deviations that a moment may be away from what is usual
BINS = FrontEndConfig().bins


class FrozenConv(nn.Module):
    """Convolution of time and frequency; time is padded by the timeline, frequency by ``band`` on either side."""

    def __init__(
        self, channels_in: int, channels_out: int, *, stride: tuple[int, int] = (1, 1), dilation: int = 1, band: int = 0
    ) -> None:
        super().__init__()
        self.past = 2 * dilation + 1 - stride[0]
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride, (0, band), (dilation, 1))

    def forward(self, x: Tensor, time: Timeline) -> Tensor:
        """``[N, C, T, F]`` to ``[N, C', T / stride, F']``, before the rectifier."""
        result: Tensor = self.conv(time.extend(x, self.past))
        return result


class Stack(nn.Module):
    """Convolutions of one kind: ``values`` of a frame are heard, ``frames`` of its outputs make a column.

    ``skip`` says that only every ``skip``-th frame is heard, and ``pool`` how many bands become one, the largest,
    before each rectifier.
    """

    values: int
    frames: int
    skip = 1
    pool = 1

    def __init__(self, layers: Sequence[FrozenConv], bands: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self._shapes: list[tuple[int, int, int]] = []
        for layer in layers:
            conv = layer.conv
            self._shapes.append((conv.in_channels, layer.past, bands))
            bands = ((bands + 2 * int(conv.padding[1]) - 3) // conv.stride[1] + 1) // self.pool
        self.outputs = layers[-1].conv.out_channels * bands

    def state_shapes(self) -> list[tuple[int, int, int]]:
        """``(channels, frames, bands)`` that each layer remembers."""
        return list(self._shapes)

    def image(self, features: Tensor) -> Tensor:
        """``[N, T, values]`` to the input ``[N, C, T', F]`` of the first layer."""
        raise NotImplementedError

    @torch.no_grad()
    def adopt(self, convolutions: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Take weights ``[out, in, time, frequency]`` and biases."""
        for layer, (weight, bias) in zip(self.layers, convolutions, strict=True):
            assert isinstance(layer, FrozenConv)
            assert layer.conv.bias is not None
            layer.conv.weight.copy_(weight)
            layer.conv.bias.copy_(bias)

    def forward(self, features: Tensor, time: Timeline) -> Tensor:
        """``[N, T, values]`` to means of outputs and of their squares in each column, ``[N, T / 32, 2, outputs]``."""
        x = self.image(features)
        for layer in self.layers:
            x = layer(x, time)
            x = functional.max_pool2d(x, (1, self.pool)) if self.pool > 1 else x
            x = functional.leaky_relu(x, SLOPE)
        outputs = x.float().transpose(1, 2).flatten(2)
        parts = outputs.reshape(len(outputs), -1, self.frames, self.outputs)
        return torch.stack((parts.mean(2), parts.square().mean(2)), dim=2)


class PhaseStack(Stack):
    """Six layers on real and imaginary parts; all but the first halve the frequencies, the last halves time."""

    values = 2 * SPECTRUM_BINS
    frames = STRIDE // 2

    def __init__(self) -> None:
        channels = (2, 64, 64, 128, 256, 256, 256)
        strides = [(2 if number == 5 else 1, 1 if number == 0 else 2) for number in range(6)]
        pairs = zip(pairwise(channels), strides, strict=True)
        super().__init__([FrozenConv(a, b, stride=stride) for (a, b), stride in pairs], SPECTRUM_BINS)

    def image(self, features: Tensor) -> Tensor:
        """See :class:`Stack`."""
        return torch.stack(features.chunk(2, dim=2), dim=1)


class PowerStack(Stack):
    """Three layers that look at every other frame of a past of 0.24 s; each keeps the largest of four bands."""

    values = BINS
    frames = STRIDE // 2
    skip = 2
    pool = 4

    def __init__(self) -> None:
        channels = (1, 32, 64, 128)
        super().__init__([FrozenConv(a, b, dilation=2, band=1) for a, b in pairwise(channels)], BINS)

    def image(self, features: Tensor) -> Tensor:
        """See :class:`Stack`."""
        return features[:, self.skip - 1 :: self.skip].unsqueeze(1)


STACKS: dict[str, Callable[[], Stack]] = {"phase": PhaseStack, "power": PowerStack}


class SpectralNet(nn.Module):
    """Scores single frequencies column by column; see the module's text.

    Args:
        hidden: units of each hidden layer.
        hears: names of the stacks, in the order of the features.
    """

    def __init__(self, hidden: int = 256, hears: Sequence[str] = ("phase",)) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"hidden": hidden, "hears": list(hears)}
        self.stacks = nn.ModuleList([STACKS[name]() for name in hears])
        self.outputs = sum(stack.outputs for stack in self.each())
        self.values = sum(stack.values for stack in self.each())
        self.register_buffer("centre", torch.zeros(2 * self.outputs))
        self.register_buffer("spread", torch.ones(2 * self.outputs))
        self.centre: Tensor
        self.spread: Tensor
        self.hidden = nn.ModuleList([nn.Linear(2 * stack.outputs, hidden) for stack in self.each()])
        self.head = nn.Linear(hidden * len(self.hidden), 1)

    def each(self) -> list[Stack]:
        """Give the stacks in order."""
        return [stack for stack in self.stacks if isinstance(stack, Stack)]

    def state_shapes(self) -> list[tuple[int, int, int]]:
        """Shapes of what each layer remembers, in order, and of the columns that moments are over at last."""
        shapes = [shape for stack in self.each() for shape in stack.state_shapes()]
        return [*shapes, (1, MEMORY - 1, 2 * self.outputs + 1)]

    def forward(self, features: Tensor, time: Timeline) -> Tensor:
        """``[N, T, values]``, what the front end gives behind the bands, to log-odds ``[N, T / 32]``."""
        return self.decide(self.moments(self.columns(features, time), time))

    def columns(self, features: Tensor, time: Timeline) -> Tensor:
        """``[N, T, values]`` to means of all outputs and of their squares a column, ``[N, T / 32, 2 outputs]``."""
        stacks = self.each()
        parts = torch.split(features, [stack.values for stack in stacks], dim=2)
        return torch.cat([stack(part, time) for stack, part in zip(stacks, parts, strict=True)], dim=3).flatten(2)

    def moments(self, columns: Tensor, time: Timeline) -> Tensor:
        """Normalised means and deviations ``[N, columns, 2 outputs]`` over the last ``MEMORY`` of :meth:`columns`."""
        counted = torch.cat((columns, torch.ones_like(columns[:, :, :1])), dim=2).unsqueeze(1)
        sums = time.extend(counted, MEMORY - 1).squeeze(1).unfold(1, MEMORY, 1).sum(3)
        mean, square = (sums[:, :, :-1] / sums[:, :, -1:]).chunk(2, dim=2)
        deviation = (square - mean.square()).clamp(min=1e-6).sqrt()
        return self.normalised(torch.cat((mean, deviation), dim=2))

    def normalised(self, moments: Tensor) -> Tensor:
        """Moments ``[…, 2 outputs]`` in deviations from what is usual, within ±6."""
        return ((moments - self.centre) / self.spread).clamp(-LIMIT, LIMIT)

    def decide(self, moments: Tensor) -> Tensor:
        """Moments ``[…, 2 outputs]`` to log-odds ``[…]``."""
        units = [layer(part) for layer, part in zip(self.hidden, self.parts(moments), strict=True)]
        result: Tensor = self.head(functional.relu(torch.cat(units, dim=-1))).squeeze(-1)
        return result

    def parts(self, moments: Tensor) -> list[Tensor]:
        """Moments ``[…, 2 outputs]`` to those of each stack."""
        sizes = [stack.outputs for stack in self.each()]
        means, deviations = (torch.split(half, sizes, dim=-1) for half in moments.chunk(2, dim=-1))
        return [torch.cat(pair, dim=-1) for pair in zip(means, deviations, strict=True)]
