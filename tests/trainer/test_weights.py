"""Weights of the convolutions beside the ResNet, out of the packages that bring them."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from streamdet.errors import DependencyError
from trainer import weights

INSTALLED = importlib.util.find_spec("speechmos") is not None


def package(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a package be found that has this file of weights."""
    (folder / "plcmos_models").mkdir()
    (folder / "plcmos_models" / "plcmos_v2.onnx").write_bytes(content)
    spec = ModuleSpec("speechmos", None, origin=str(folder / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def graph_of(shapes: list[tuple[int, ...]]) -> bytes:
    """An ONNX file with convolutions of these weights, one after the other."""
    nodes, constants, x = [], [], "x"
    for number, shape in enumerate(shapes):
        for name, value in ((f"w{number}", np.ones(shape)), (f"b{number}", np.ones(shape[0]))):
            constants.append(numpy_helper.from_array(value.astype(np.float32), name))
        nodes.append(helper.make_node("Conv", [x, f"w{number}", f"b{number}"], [f"y{number}"]))
        x = f"y{number}"
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, None)] for name in ("x", x)]
    graph = helper.make_graph(nodes, "g", ends[0], ends[1], constants)
    return bytes(helper.make_model(graph).SerializeToString())


@pytest.mark.skipif(not INSTALLED, reason="speechmos is not installed")
def test_the_first_layer_gives_what_the_network_itself_gives() -> None:
    found = importlib.util.find_spec("speechmos")
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin).parent / "plcmos_models" / "plcmos_v2.onnx"
    model = onnx.load(path)
    pooled = next(node.output[0] for node in model.graph.node if node.op_type == "MaxPool")
    model.graph.output.append(helper.make_empty_tensor_value_info(pooled))
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((1, 1, 40, 257)).astype(np.float32)
    (wanted,) = session.run([pooled], {"degraded_audio": x, "rater_embed": np.zeros((1, 64), np.float32)})
    weight, bias = weights.power()[0]
    y = torch.nn.functional.conv2d(torch.from_numpy(x), weight, bias, padding=1, dilation=(2, 1))
    y = torch.nn.functional.max_pool2d(torch.nn.functional.leaky_relu(y, 0.1), (1, 4))
    np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_convolutions_of_the_known_shapes_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, graph_of([(32, 1, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3), (9, 128, 1, 1)]), monkeypatch)
    assert [tuple(weight.shape) for weight, _ in weights.power()] == [(32, 1, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3)]


@pytest.mark.parametrize("content", [b"no network", graph_of([(32, 1, 3, 3), (64, 32, 5, 5), (128, 64, 3, 3)]), None])
def test_other_weights_are_refused(content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, content or b"", monkeypatch)
    if content is None:
        (tmp_path / "plcmos_models" / "plcmos_v2.onnx").unlink()
    with pytest.raises(DependencyError, match="not the weights that are known"):
        weights.power()
