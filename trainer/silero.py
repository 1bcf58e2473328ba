"""Rearranges Silero's voice activity network so that many streams share one call: same weights, same results.

The network as published judges one stream a call, its convolutions run over four frames each, and it transforms five
frames to throw one away. Here streams and chunks are rows of a few large matrix products, and as the basis of the
spectrum is even or odd in time, each frame is folded first, which halves that product.
``python -m trainer.silero ORIGINAL OUT`` writes ``streamdet/models/silero-vad-streams.onnx``.

Interface, streams and chunks dynamic: inputs ``even`` ``[chunks, streams, 4, 128]`` and ``odd`` ``[chunks, streams, 4,
127]``, float32 (see :func:`streamdet.audio.vad.folded_frames`), ``h`` and ``c`` ``[1, streams, 128]``; outputs
``speech`` ``[chunks, streams]``, ``hn`` and ``cn``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

FRAMES, HALF, BINS, UNITS = 4, 128, 129, 128
STRIDES = (1, 2, 2, 1)  # of the encoder's convolutions over the frames of a chunk; kernel 3, padding 1
OPSET, IR_VERSION = 17, 8

Array = npt.NDArray[np.float32]


def unrolled(kernel: Array, frames: int, stride: int) -> Array:
    """Write a convolution over few frames as one matrix.

    Args:
        kernel: ``[out, in, 3]``, padding 1.
        frames: number of frames that come in.
        stride: step between frames.

    Returns:
        ``[frames * in, frames / stride * out]``, frames rounded up.
    """
    channels_out, channels_in, taps = kernel.shape
    count = -(-frames // stride)
    matrix = np.zeros((frames, channels_in, count, channels_out), np.float32)
    for after in range(count):
        for tap in range(taps):
            before = after * stride + tap - 1
            if 0 <= before < frames:
                matrix[before, :, after] = kernel[:, :, tap].T
    return matrix.reshape(frames * channels_in, count * channels_out)


class StreamsGraph:
    """Builds the rearranged network from the weights of the published one."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def build(self) -> onnx.ModelProto:
        """Assemble and check the whole network."""
        self._recur(self._encode(self._magnitudes()))
        parts = [_value(name, "chunks", "streams", FRAMES, size) for name, size in (("even", HALF), ("odd", HALF - 1))]
        inputs = [*parts, *_states("h", "c")]
        outputs = [_value("speech", "chunks", "streams"), *_states("hn", "cn")]
        graph = helper.make_graph(self._nodes, "silero-vad-streams", inputs, outputs, initializer=self._constants)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="streamdet")
        onnx.checker.check_model(model)
        return model

    def _magnitudes(self) -> str:
        basis = self._weights["stft.forward_basis_buffer"][:, 0]
        real, imaginary = basis[:BINS], basis[BINS:]
        assert not basis[:, 0].any()
        assert np.array_equal(real[:, 1:], real[:, :0:-1])
        assert np.array_equal(imaginary[:, 1:], -imaginary[:, :0:-1])
        squares = [
            self._square(name, self._constant(f"{name}.basis", part[:, 1 : size + 1].T))
            for name, part, size in (("even", real, HALF), ("odd", imaginary, HALF - 1))
        ]
        magnitudes = self._node("Sqrt", "magnitudes", self._node("Add", "power", *squares))
        return self._node("Reshape", "encoder.input", magnitudes, self._integers("rows", 0, 0, -1))

    def _square(self, name: str, basis: str) -> str:
        spectrum = self._node("MatMul", f"{name}.spectrum", name, basis)
        return self._node("Mul", f"{name}.squares", spectrum, spectrum)

    def _encode(self, x: str) -> str:
        frames = FRAMES
        for layer, stride in enumerate(STRIDES):
            name = f"encoder.{layer}"
            matrix = unrolled(self._weights[f"{name}.weight"], frames, stride)
            frames = -(-frames // stride)
            bias = self._constant(f"{name}.bias", np.tile(self._weights[f"{name}.bias"], frames))
            product = self._halves(x, matrix) if layer == 0 else self._product(name, x, matrix)
            x = self._node("Relu", name, self._node("Add", f"{name}.sum", product, bias))
        return x

    def _product(self, name: str, x: str, matrix: Array) -> str:
        return self._node("MatMul", f"{name}.product", x, self._constant(f"{name}.matrix", matrix))

    def _halves(self, x: str, matrix: Array) -> str:
        """Multiply without the corners: the first two frames do not see the last one, nor the last two the first."""
        inputs, outputs = matrix.shape[0] // FRAMES, matrix.shape[1] // 2
        axis = self._integers("channels", 2)
        products = []
        for name, begin, columns in (("early", 0, slice(outputs)), ("late", 1, slice(outputs, None))):
            rows = slice(begin * inputs, (begin + FRAMES - 1) * inputs)
            bounds = (self._integers(f"{name}.{edge}", getattr(rows, edge)) for edge in ("start", "stop"))
            products.append(self._product(name, self._node("Slice", name, x, *bounds, axis), matrix[rows, columns]))
        self._nodes.append(
            helper.make_node("Concat", products, ["encoder.0.product"], name="encoder.0.product", axis=2)
        )
        return "encoder.0.product"

    def _recur(self, x: str) -> None:
        names = ("onnx::LSTM_209", "onnx::LSTM_210", "onnx::LSTM_211")
        weights = [self._constant(f"lstm.{n}", self._weights[name]) for n, name in enumerate(names)]
        node = helper.make_node(
            "LSTM", [x, *weights, "", "h", "c"], ["hidden", "hn", "cn"], name="lstm", hidden_size=UNITS
        )
        self._nodes.append(node)
        flat = self._node("Squeeze", "hidden.flat", "hidden", self._integers("directions", 1))
        heard = self._node("Relu", "heard", flat)
        column = self._constant("output.matrix", self._weights["output.weight"][0])
        logit = self._node("MatMul", "logit", heard, column)
        shifted = self._node("Add", "logit.sum", logit, self._constant("output.bias", self._weights["output.bias"]))
        self._node("Squeeze", "speech", self._node("Sigmoid", "probability", shifted), self._integers("last", 2))

    def _node(self, operator: str, name: str, *inputs: str) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name))
        return name

    def _integers(self, name: str, *values: int) -> str:
        return self._constant(name, np.array(values, np.int64))

    def _constant(self, name: str, value: npt.NDArray[Any]) -> str:
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def _value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _states(*names: str) -> list[onnx.ValueInfoProto]:
    return [_value(name, 1, "streams", UNITS) for name in names]


def rearrange(original: Path, out: Path) -> None:
    """Read the published network (the variant for 16 kHz that takes ``[chunks, 576]``) and write ours."""
    model = onnx.load(original)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    onnx.save(StreamsGraph(weights).build(), out)


if __name__ == "__main__":
    rearrange(*map(Path, sys.argv[1:]))
