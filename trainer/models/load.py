"""Reads a checkpoint of either kind of network."""

from __future__ import annotations

from pathlib import Path

from streamdet.errors import ModelError
from trainer.models.fused import FusedNet
from trainer.models.resnet import CausalResNet, read_checkpoint
from trainer.models.spectral import SpectralNet

Network = CausalResNet | FusedNet


def load_network(path: Path) -> Network:
    """Rebuild the network of a checkpoint in evaluation mode.

    Raises:
        ModelError: the file cannot be read or holds something else.
    """
    stored = read_checkpoint(path)
    try:
        settings = dict(stored["network"])
        spectral = settings.pop("spectral", None)
        resnet = CausalResNet(**settings)
        network: Network = resnet if spectral is None else FusedNet(resnet, SpectralNet(**spectral))
        network.load_state_dict(stored["weights"])
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"cannot read the checkpoint {path}: {error}") from error
    return network.eval()
