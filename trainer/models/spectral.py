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

Both weights are under the MIT licence. Made causal, the stacks pad time on the left alone. Rectified units hear each
frame of their outputs; mean and standard deviation of what those say over the last ``MEMORY`` columns (statistics
pooling, D. Snyder et al., "X-vectors: Robust DNN Embeddings for Speaker Recognition", ICASSP 2018) go through a hidden
layer to the log-odds of spoof. Each stack has units and a hidden layer of its own: such that hear one stack each err
more differently than such that hear both.
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
LEAST = 1e-4  # spread of an output, variance of a unit
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
    before each rectifier. ``units`` hear the ``outputs`` of each frame. A column is ``numbers`` numbers: means of what
    the units say, and of the squares.
    """

    values: int
    frames: int
    skip = 1
    pool = 1

    def __init__(self, layers: Sequence[FrozenConv], bands: int, units: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self._shapes: list[tuple[int, int, int]] = []
        for layer in layers:
            conv = layer.conv
            self._shapes.append((conv.in_channels, layer.past, bands))
            bands = ((bands + 2 * int(conv.padding[1]) - 3) // conv.stride[1] + 1) // self.pool
        self.outputs = layers[-1].conv.out_channels * bands
        self.numbers = 2 * units
        self.units = nn.Linear(self.outputs, units)

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

    def hear(self, features: Tensor, time: Timeline) -> Tensor:
        """``[N, T, values]`` to outputs ``[N, T / 32, frames, outputs]``, float32."""
        x = self.image(features)
        for layer in self.layers:
            x = layer(x, time)
            x = functional.max_pool2d(x, (1, self.pool)) if self.pool > 1 else x
            x = functional.leaky_relu(x, SLOPE)
        outputs = x.transpose(1, 2).flatten(2)
        outputs = outputs if outputs.dtype == torch.float64 else outputs.float()
        return outputs.reshape(len(outputs), -1, self.frames, self.outputs)

    def forward(self, features: Tensor, time: Timeline) -> Tensor:
        """``[N, T, values]`` to columns ``[N, T / 32, numbers]``."""
        outputs = self.hear(features, time)
        with torch.autocast(outputs.device.type, enabled=False):  # small differences of large numbers follow
            said = functional.relu(self.units(outputs))
        return torch.cat((said.mean(2), said.square().mean(2)), dim=2)


class PhaseStack(Stack):
    """Six layers on real and imaginary parts; all but the first halve the frequencies, the last halves time."""

    values = 2 * SPECTRUM_BINS
    frames = STRIDE // 2

    def __init__(self, units: int = 1) -> None:
        channels = (2, 64, 64, 128, 256, 256, 256)
        strides = [(2 if number == 5 else 1, 1 if number == 0 else 2) for number in range(6)]
        pairs = zip(pairwise(channels), strides, strict=True)
        layers = [FrozenConv(a, b, stride=stride) for (a, b), stride in pairs]
        super().__init__(layers, SPECTRUM_BINS, units)

    def image(self, features: Tensor) -> Tensor:
        """See :class:`Stack`."""
        return torch.stack(features.chunk(2, dim=2), dim=1)


class PowerStack(Stack):
    """Three layers that look at every other frame of a past of 0.24 s; each keeps the largest of four bands."""

    values = BINS
    frames = STRIDE // 2
    skip = 2
    pool = 4

    def __init__(self, units: int = 1) -> None:
        channels = (1, 32, 64, 128)
        super().__init__([FrozenConv(a, b, dilation=2, band=1) for a, b in pairwise(channels)], BINS, units)

    def image(self, features: Tensor) -> Tensor:
        """See :class:`Stack`."""
        return features[:, self.skip - 1 :: self.skip].unsqueeze(1)


STACKS: dict[str, Callable[[int], Stack]] = {"phase": PhaseStack, "power": PowerStack}


def moments(mean: Tensor, square: Tensor) -> Tensor:
    """Mean and standard deviation ``[…, 2 n]`` of what has the mean, and mean square, ``[…, n]``."""
    return torch.cat((mean, (square - mean.square()).clamp(min=LEAST).sqrt()), dim=-1)


class SpectralNet(nn.Module):
    """Scores single frequencies column by column; see the module's text.

    Args:
        hidden: units of each hidden layer.
        hears: names of the stacks, in the order of the features.
        units: of each stack, that hear each frame.
    """

    def __init__(self, hidden: int = 64, hears: Sequence[str] = ("phase",), units: int = 256) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"hidden": hidden, "hears": list(hears), "units": units}
        self.stacks = nn.ModuleList([STACKS[name](units) for name in hears])
        self.numbers = sum(stack.numbers for stack in self.each())
        self.values = sum(stack.values for stack in self.each())
        self.register_buffer("centre", torch.zeros(self.numbers))
        self.register_buffer("spread", torch.ones(self.numbers))
        self.centre: Tensor
        self.spread: Tensor
        self.hidden = nn.ModuleList([nn.Linear(stack.numbers, hidden) for stack in self.each()])
        self.head = nn.Linear(hidden * len(self.hidden), 1)

    def each(self) -> list[Stack]:
        """Give the stacks in order."""
        return [stack for stack in self.stacks if isinstance(stack, Stack)]

    def state_shapes(self) -> list[tuple[int, int, int]]:
        """Shapes of what each layer remembers, in order, and of the columns that moments are over at last."""
        shapes = [shape for stack in self.each() for shape in stack.state_shapes()]
        return [*shapes, (1, MEMORY - 1, self.numbers + 1)]

    def forward(self, features: Tensor, time: Timeline) -> Tensor:
        """``[N, T, values]``, what the front end gives behind the bands, to log-odds ``[N, T / 32]``."""
        return self.decide(self.normalised(self.moments(self.columns(features, time), time)))

    def outputs(self, features: Tensor, time: Timeline) -> list[Tensor]:
        """``[N, T, values]`` to what each stack makes of each frame: see :meth:`Stack.hear`."""
        return [stack.hear(part, time) for stack, part in self._heard(features)]

    def columns(self, features: Tensor, time: Timeline) -> Tensor:
        """``[N, T, values]`` to the columns of all stacks, ``[N, T / 32, numbers]``."""
        return torch.cat([stack(part, time) for stack, part in self._heard(features)], dim=2)

    def _heard(self, features: Tensor) -> list[tuple[Stack, Tensor]]:
        """Each stack with its part of the features."""
        parts = torch.split(features, [stack.values for stack in self.each()], dim=2)
        return list(zip(self.each(), parts, strict=True))

    def moments(self, columns: Tensor, time: Timeline) -> Tensor:
        """Moments ``[N, columns, numbers]`` over the last ``MEMORY`` of :meth:`columns`."""
        counted = torch.cat((columns, torch.ones_like(columns[:, :, :1])), dim=2).unsqueeze(1)
        sums = time.extend(counted, MEMORY - 1).squeeze(1).unfold(1, MEMORY, 1).sum(3)
        return self.moments_of(sums[:, :, :-1] / sums[:, :, -1:])

    def moments_of(self, means: Tensor) -> Tensor:
        """Means of columns ``[…, numbers]`` to means and standard deviations ``[…, numbers]``."""
        return torch.cat([moments(*part.chunk(2, dim=-1)) for part in self.parts(means)], dim=-1)

    def normalised(self, moments: Tensor) -> Tensor:
        """Moments ``[…, numbers]`` in deviations from what is usual, within ±6."""
        return ((moments - self.centre) / self.spread).clamp(-LIMIT, LIMIT)

    def decide(self, moments: Tensor) -> Tensor:
        """Normalised moments ``[…, numbers]`` to log-odds ``[…]``."""
        units = [layer(part) for layer, part in zip(self.hidden, self.parts(moments), strict=True)]
        result: Tensor = self.head(functional.relu(torch.cat(units, dim=-1))).squeeze(-1)
        return result

    def parts(self, numbers: Tensor) -> list[Tensor]:
        """``[…, numbers]`` to those of each stack."""
        return list(torch.split(numbers, [stack.numbers for stack in self.each()], dim=-1))
