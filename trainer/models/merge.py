"""Joins trained networks side by side into one wide network.

Networks of one shape that were trained apart err differently, and the mean of their evidence is better than each
(L. Hansen and P. Salamon, "Neural Network Ensembles", 1990). Put side by side, with zeros where one would read the
other's channels, they *are* one network of the same kind: two of width 0.5 make one of width 1.0, with which the engine
needs no ensemble of its own, and which can be trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from streamdet.errors import ModelError
from trainer.models.resnet import CausalResNet, channels_of


@torch.no_grad()
def merge(networks: Sequence[CausalResNet]) -> CausalResNet:
    """Give one network whose columns are the means of those of ``networks``, in evaluation mode.

    Logits and log attention weights are averaged before the bound on the latter, so columns agree exactly as long as no
    network's own weight meets the bound.

    Raises:
        ModelError: the networks differ in their settings, there are fewer than two, or no width has as many channels.
    """
    if len(networks) < 2:
        raise ModelError("two networks or more are needed to join them")
    first = networks[0].settings
    for other in networks[1:]:
        if other.settings != first:
            raise ModelError(f"networks must be alike to be joined, but {first} and {other.settings} differ")
    width = first["width"] * len(networks)
    if channels_of(width) != [channels * len(networks) for channels in channels_of(first["width"])]:
        raise ModelError(
            f"networks of width {first['width']:g} cannot be joined: channels are rounded to multiples of 8 and do not "
            f"add up to those of width {width:g}; join networks whose width is a multiple of 0.125"
        )
    joined = CausalResNet(**{**first, "width": width})
    states = [network.state_dict() for network in networks]
    joined.load_state_dict({name: _join(name, like, states) for name, like in joined.state_dict().items()})
    return joined.eval()


def _join(name: str, like: Tensor, states: Sequence[dict[str, Tensor]]) -> Tensor:
    """One parameter of the joined network, of the shape of ``like``."""
    parts = [state[name] for state in states]
    if like.ndim == 0:  # how many batches the normalisation has seen
        return parts[0]
    if name == "head.weight":
        return torch.cat(parts, dim=1) / len(parts)
    if name == "head.bias":
        return torch.stack(parts).mean(dim=0)
    if like.ndim == 1 or like.shape[1] == parts[0].shape[1]:  # normalisation; the stem, which reads the one input
        return torch.cat(parts, dim=0)
    result = torch.zeros_like(like)
    row = column = 0
    for part in parts:
        result[row : row + part.shape[0], column : column + part.shape[1]] = part
        row, column = row + part.shape[0], column + part.shape[1]
    return result
