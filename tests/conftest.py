from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from streamdet.bundled import VARIABLE
from streamdet.engine.modelfile import ModelInfo
from streamdet.features import FrontEnd, FrontEndConfig
from streamdet.features.logmel import FloatArray
from trainer.export import ExportReport, Precision, export_model
from trainer.models.resnet import CausalResNet

# Tests are about what surrounds the model, some with dozens of streams, so they run the light one, and so do the
# processes that they start; tests/test_shipped_model.py takes both.
os.environ[VARIABLE] = "edge"


def randomise(network: CausalResNet) -> CausalResNet:
    """Give normalisation and head values as training leaves them, so that nothing cancels or passes through."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, std=0.2)
            torch.nn.init.normal_(layer.running_mean, std=0.2)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2.0)
    torch.nn.init.normal_(network.head.weight[0], std=0.2)
    torch.nn.init.normal_(network.head.weight[1], std=0.02)
    return network.eval()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Keep torch to one thread: networks this small only wait for each other's threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def network() -> CausalResNet:
    torch.manual_seed(7)
    return randomise(CausalResNet(0.25))


@pytest.fixture(scope="session")
def clips() -> list[FloatArray]:
    return features_of_noise(FrontEndConfig())


def features_of_noise(config: FrontEndConfig) -> list[FloatArray]:
    """Features of twelve seconds-long clips of noise with the slow swell and tilt of speech."""
    rng = np.random.default_rng(7)
    front_end = FrontEnd(config)
    time = np.arange(40_000) / 16_000
    tilt = np.exp(-np.arange(24) / 4)
    clips = []
    for rate in np.linspace(2.0, 6.0, 12):
        swell = np.maximum(0.0, np.sin(2 * np.pi * rate * time)) + 0.01
        noise = np.convolve(rng.standard_normal(len(time)), rng.standard_normal(24) * tilt, "same")
        clips.append(front_end.whole((0.05 * swell * noise).astype(np.float32)))
    return clips


@pytest.fixture(scope="session")
def checkpoint(network: CausalResNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "random.pt"
    torch.save(network.checkpoint(), path)
    return path


@pytest.fixture(scope="session")
def exported(
    checkpoint: Path, clips: list[FloatArray], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ExportReport]:
    """Model files of the random network by precision."""
    folder = tmp_path_factory.mktemp("models")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    meta = ModelInfo("random", now, 1.0, "", operating_points={"default": {"raise": 0.9, "clear": 0.5}})
    return {
        "fp32": export_model(checkpoint, folder / "fp32.onnx", "fp32", clips, meta),
        "int8": export_model(checkpoint, folder / "int8.onnx", "int8", clips, meta),
    }


LINEAR = FrontEndConfig(mels=96, bands="linear")


@pytest.fixture(scope="session")
def linear_network() -> CausalResNet:
    torch.manual_seed(8)
    return randomise(CausalResNet(0.125, mels=LINEAR.mels))


@pytest.fixture(scope="session")
def linear_models(
    linear_network: CausalResNet, tmp_path_factory: pytest.TempPathFactory
) -> dict[Precision, ExportReport]:
    """Model files, by precision, of a random network made for another front end than the bundled one."""
    folder = tmp_path_factory.mktemp("linear-models")
    checkpoint = folder / "random.pt"
    torch.save(linear_network.checkpoint(), checkpoint)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    points = {"default": {"raise": 0.9, "clear": 0.5}}
    meta = ModelInfo("linear", now, 1.0, "", LINEAR, operating_points=points)
    clips = features_of_noise(LINEAR)
    return {p: export_model(checkpoint, folder / f"{p}.onnx", p, clips, meta) for p in get_args(Precision)}
