"""Model files of random weights for ``streamdet bench``: the cost of a network does not depend on what it learnt."""

from __future__ import annotations

import datetime
import tempfile
from importlib import resources
from pathlib import Path

import soundfile
import torch

from streamdet.engine.modelfile import ModelInfo
from streamdet.features import FrontEnd, FrontEndConfig
from streamdet.features.logmel import FloatArray
from trainer.export import Precision, export_model
from trainer.models.resnet import CausalResNet

PIECE_SECONDS = 6
MEASURED: tuple[Precision, ...] = ("fp32", "int8")


def random_network(width: float, mels: int = 64, seed: int = 0) -> CausalResNet:
    """Network with normalisation and head as training leaves them, so that no channel cancels or only passes through.

    Args:
        width: factor on all channel counts; 1.0 is ResNet-18.
        mels: bands of the features.
        seed: the same seed gives the same weights.
    """
    torch.manual_seed(seed)
    network = CausalResNet(width, mels)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, std=0.2)
    torch.nn.init.normal_(network.head.weight, std=0.02)
    return network.eval()


def demo_features(config: FrontEndConfig) -> list[FloatArray]:
    """Features ``[frames, mels]`` of the bundled conversation in pieces of a few seconds, to choose integer scales."""
    samples, rate = soundfile.read(str(resources.files("streamdet") / "demo" / "demo.flac"), dtype="float32")
    step = PIECE_SECONDS * rate
    front_end = FrontEnd(config)
    return [front_end.whole(samples[at : at + step]) for at in range(0, len(samples), step)]


def write_models(folder: Path, width: float, config: FrontEndConfig) -> list[Path]:
    """Write one random network of ``width`` to ``folder`` as fp32 and int8 model files; returns their paths.

    Names of networks on other features than the usual ones say so: ``random-1-96linear-int8``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    features = demo_features(config)
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    written = []
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "random.pt"
        torch.save(random_network(width, config.mels).checkpoint(), checkpoint)
        for precision in MEASURED:
            bands = "" if config == FrontEndConfig() else f"-{config.mels}{config.bands}"
            name = f"random-{width:g}{bands}-{precision}"
            path = folder / f"{name}.onnx"
            export_model(checkpoint, path, precision, features, ModelInfo(name, created, width, precision, config))
            written.append(path)
    return written
