"""Says where the integer network differs from the exact one: which layer's rounding costs how much of the score.

The integer network is simulated in torch with rounding switched on for a part of it only, all else exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from streamdet.features.logmel import FloatArray
from trainer.graph import LEVELS, Scale, integer_weights, walk
from trainer.models.resnet import CausalResNet, ConvNorm, Timeline

Chosen = Callable[[str], bool]


class Simulation:
    """Operations of the integer network in torch; ``activations`` and ``weights`` choose by name what is rounded."""

    def __init__(self, scales: dict[str, Scale], activations: Chosen, weights: Chosen) -> None:
        self._scales = scales
        self._activations, self._weights = activations, weights

    def rounded(self, name: str, x: Tensor) -> Tensor:
        """Round and clip ``x`` as its scale says, if it is chosen."""
        if not self._activations(name):
            return x
        scale = self._scales[name]
        return (torch.clamp(torch.round(x / scale.step) + scale.zero, 0, LEVELS) - scale.zero) * scale.step

    def conv(self, name: str, layer: ConvNorm, x: Tensor, *, relu: bool) -> Tensor:
        """See :class:`trainer.graph.Operations`."""
        conv, weight = layer.conv, layer.conv.weight
        if self._weights(name):
            integers, steps = integer_weights(weight.detach().numpy())
            weight = torch.from_numpy((integers * steps[:, None, None, None]).astype(np.float32))
        extended = Timeline(None).extend(x, layer.past) if layer.past else x
        y = functional.conv2d(extended, weight, conv.bias, conv.stride, conv.padding)
        return self.rounded(name, functional.relu(y) if relu else y)

    def max_pool(self, x: Tensor) -> Tensor:
        """See :class:`trainer.graph.Operations`."""
        return functional.max_pool2d(Timeline(None).extend(x, 1), 3, 2, padding=(0, 1))

    def add_relu(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        """See :class:`trainer.graph.Operations`."""
        return self.rounded(name, functional.relu(a + b))


@torch.no_grad()
def logits(network: CausalResNet, operations: Simulation, clips: Sequence[FloatArray]) -> FloatArray:
    """Logits of all columns of ``clips`` (features ``[frames, mels]``) by a folded network under ``operations``."""
    parts = []
    for clip in clips:
        x = walk(network, operations, operations.rounded("features", torch.from_numpy(clip)[None, None]))
        parts.append(network.head(x.mean(dim=3).transpose(1, 2))[0, :, 0])
    return np.asarray(torch.cat(parts).numpy())


@dataclass(frozen=True, slots=True)
class LayerDrift:
    """Drift of the columns' logits, in percent of their standard deviation, when only this is rounded."""

    name: str
    part: str
    percent: float


def by_layer(network: CausalResNet, scales: dict[str, Scale], clips: Sequence[FloatArray]) -> list[LayerDrift]:
    """Drift that each layer's activations and weights alone cause, largest first; ``all`` is everything together.

    ``network`` is folded (:func:`trainer.graph.fold`).
    """

    def none(_: str) -> bool:
        return False

    def every(_: str) -> bool:
        return True

    def drift(name: str, part: str, activations: Chosen, weights: Chosen) -> LayerDrift:
        got = logits(network, Simulation(scales, activations, weights), clips)
        return LayerDrift(name, part, 100.0 * float(np.sqrt(np.mean((got - exact) ** 2)) / exact.std()))

    exact = logits(network, Simulation(scales, none, none), clips)
    layers = [name for name in scales if name != "features" and not _is_sum(name)]
    found = [drift(name, "activations", name.__eq__, none) for name in scales]
    found += [drift(name, "weights", none, name.__eq__) for name in layers]
    totals = [
        drift("all", "activations", every, none),
        drift("all", "weights", none, every),
        drift("all", "both", every, every),
    ]
    return totals + sorted(found, key=lambda one: -one.percent)


def _is_sum(name: str) -> bool:
    return name.startswith("block_") and "." not in name
