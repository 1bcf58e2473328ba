"""Weights of the convolutions that :mod:`trainer.models.spectral` has, out of the packages that bring them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper
from torch import Tensor

from streamdet.errors import DependencyError
from trainer.teacher import Teacher

INSTALL = "pip install --no-deps 'speechmos>=0.0.1,<0.1'"

Convolutions = list[tuple[Tensor, Tensor]]  # weights [out, in, time, frequency] and biases


def phase() -> Convolutions:
    """Those of Distill-MOS, whose axes are (frequency, time).

    Raises:
        DependencyError: they are not installed.
    """
    pairs: Convolutions = []
    for layer in Teacher().convolutions():
        assert layer.bias is not None
        pairs.append((layer.weight.detach().transpose(2, 3), layer.bias.detach()))
    return pairs


def power() -> Convolutions:
    """Those of PLCMOS, version 2. Of the package ``speechmos`` only the file of weights is read.

    Raises:
        DependencyError: they are not installed, or are others.
    """
    found = importlib.util.find_spec("speechmos")
    if found is None or found.origin is None:
        raise DependencyError(f"speechmos is not installed: {INSTALL}")
    path = Path(found.origin).parent / "plcmos_models" / "plcmos_v2.onnx"
    try:
        graph = onnx.load(path).graph
    except (OSError, DecodeError) as error:
        raise DependencyError(f"{path}: not the weights that are known: {INSTALL} ({error})") from error
    stored = {entry.name: torch.tensor(numpy_helper.to_array(entry)) for entry in graph.initializer}
    layers = [node for node in graph.node if node.op_type == "Conv"][:3]
    pairs = [(stored[layer.input[1]], stored[layer.input[2]]) for layer in layers]
    if [tuple(weight.shape) for weight, _ in pairs] != [(32, 1, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3)]:
        raise DependencyError(f"{path}: not the weights that are known: {INSTALL}")
    return pairs


WEIGHTS: Mapping[str, Callable[[], Convolutions]] = {"phase": phase, "power": power}
