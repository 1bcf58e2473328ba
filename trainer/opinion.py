"""The network that hears single frequencies as ONNX nodes, in floating point.

Not in integers: that was tried, and moved its log-odds by 6 to 17 % of their deviation (docs/ablations.md), as the head
reads small deviations of many outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto
from torch import nn

from trainer.models.fused import FusedNet
from trainer.models.resnet import STRIDE
from trainer.models.spectral import LEAST, LIMIT, MEMORY, SLOPE, FrozenConv, PhaseStack, Stack

if TYPE_CHECKING:
    from trainer.graph import Graph


def opinion(graph: Graph, network: FusedNet, dtype: int) -> str:
    """Add all that :class:`trainer.models.spectral.SpectralNet` does to one column.

    Args:
        graph: what nodes and states are added to; the last state are sums of the columns before and their number.
        network: has the weights and the shares of both log-odds.
        dtype: ``TensorProto.FLOAT`` or ``FLOAT16``, of the convolutions; what follows is float32.

    Returns:
        Name of a tensor ``[batch, 2]`` to be added to the ResNet's column: its log-odds' share, and zeros.
    """
    node, constant, span = graph.node, graph.constant, graph.span
    spectral = network.spectral
    names, columns, begin = spectral.settings["hears"], [], network.mels
    for name, stack in zip(names, spectral.each(), strict=True):
        part = node("Slice", f"features.{name}", "features", *span(begin, begin + stack.values, 2))
        begin += stack.values
        columns += _column(graph, name, stack, _stack(graph, name, stack, part, dtype))
    flat = node("Concat", "column.flat", *columns, axis=3)
    edges, one = constant("one.more", [0, 0, 0, 0, 0, 0, 0, 1], np.int64), constant("one", 1.0, np.float32)
    counted = node("Pad", "column.counted", flat, edges, one)
    shape = (1, MEMORY - 1, spectral.numbers + 1)
    # Not ReduceSum: ONNX Runtime adds in another order when there is but one stream.
    row = node("AveragePool", "sums.row", graph.join(counted, MEMORY - 1, 2, TensorProto.FLOAT, shape), **_rows(MEMORY))
    sums = node("Flatten", "sums", row)
    each = node("Div", "each", sums, node("Slice", "count", sums, *span(spectral.numbers, None, 1)))
    units, begin = [], 0
    scales = zip(spectral.parts(spectral.centre), spectral.parts(spectral.spread), strict=True)
    for name, stack, layer, scale in zip(names, spectral.each(), spectral.hidden, scales, strict=True):
        assert isinstance(layer, nn.Linear)
        means = node("Slice", f"{name}.each", each, *span(begin, begin + stack.numbers, 1))
        begin += stack.numbers
        away = _moments(graph, name, stack, means)
        for operator, kind, value in (
            ("Sub", "shifted", scale[0].numpy()),
            ("Div", "scaled", scale[1].numpy()),
            ("Max", "least", -LIMIT),
            ("Min", "most", LIMIT),
        ):
            away = node(operator, f"{name}.{kind}", away, constant(f"{name}.{kind}.by", value, np.float32))
        units.append(node("Gemm", f"{name}.linear", away, *_weights(graph, f"hidden.{name}", layer), transB=1))
    hidden = node("Relu", "hidden", node("Concat", "hidden.linear", *units, axis=1))
    _, share, offset = network.shares.tolist()
    weight, bias = spectral.head.weight.detach().numpy(), spectral.head.bias.detach().numpy()
    matrix = constant("opinion.weight", np.concatenate((share * weight, 0 * weight)), np.float32)
    shift = constant("opinion.bias", [share * bias[0] + offset, 0.0], np.float32)
    return node("Gemm", "opinion", hidden, matrix, shift, transB=1)


def _rows(count: int) -> dict[str, Any]:
    return {"kernel_shape": [count, 1], "strides": [count, 1]}


def _column(graph: Graph, name: str, stack: Stack, x: str) -> list[str]:
    """Means of what units say of ``[batch, channels, frames, bands]``, and of its squares, ``[batch, 1, 1, …]``."""
    node = graph.node
    weight, bias = stack.units.weight.detach().numpy(), stack.units.bias.detach().numpy()
    last = stack.layers[-1]
    assert isinstance(last, FrozenConv)
    weight = weight.reshape(len(weight), last.conv.out_channels, 1, -1)
    kernel = graph.constant(f"{name}.units.weight", weight, np.float32)
    linear = node("Conv", f"{name}.units.linear", x, kernel, graph.constant(f"{name}.units.bias", bias, np.float32))
    said = node("Relu", f"{name}.units", linear)
    parts = []
    for y in (said, node("Mul", f"{name}.units.square", said, said)):
        mean = node("AveragePool", f"{y}.mean", y, **_rows(stack.frames))
        parts.append(node("Reshape", f"{y}.flat", mean, graph.constant("row", [0, 1, 1, -1], np.int64)))
    return parts


def _moments(graph: Graph, name: str, stack: Stack, means: str) -> str:
    """Do what :func:`trainer.models.spectral.moments` does to ``means`` ``[batch, numbers]``."""
    node, constant, span, width = graph.node, graph.constant, graph.span, stack.numbers // 2
    mean = node("Slice", f"{name}.mean", means, *span(0, width, 1))
    square = node("Slice", f"{name}.mean.of.squares", means, *span(width, stack.numbers, 1))
    variance = node("Sub", f"{name}.variance", square, node("Mul", f"{name}.square.of.mean", mean, mean))
    some = node("Max", f"{name}.variance.some", variance, constant("some", LEAST, np.float32))
    return node("Concat", f"{name}.moments", mean, node("Sqrt", f"{name}.deviation", some), axis=1)


def _stack(graph: Graph, name: str, stack: Stack, x: str, dtype: int) -> str:
    """Add convolutions on ``x`` ``[batch, 32, values]``; gives float32 ``[batch, channels, frames, bands]``."""
    node = graph.node
    if isinstance(stack, PhaseStack):
        x = node("Reshape", f"{name}.parts", x, graph.constant("two.parts", [0, STRIDE, 2, -1], np.int64))
        x = node("Transpose", name, x, perm=[0, 2, 1, 3])
    else:
        step = graph.constant("skip", [stack.skip], np.int64)
        x = node("Slice", f"{name}.frames", x, *graph.span(stack.skip - 1, None, 1), step)
        x = node("Unsqueeze", name, x, graph.constant("one.channel", [1], np.int64))
    x = x if dtype == TensorProto.FLOAT else node("Cast", f"{name}.half", x, to=dtype)
    for number, (layer, shape) in enumerate(zip(stack.layers, stack.state_shapes(), strict=True)):
        assert isinstance(layer, FrozenConv)
        at, conv = f"{name}_{number}", layer.conv
        joined, band = graph.join(x, layer.past, 2, dtype, shape), int(conv.padding[1])
        kind: dict[str, Any] = {
            "strides": list(conv.stride),
            "dilations": list(conv.dilation),
            "pads": [0, band, 0, band],
        }
        x = node("Conv", f"{at}.conv", joined, *_weights(graph, at, conv), **kind)
        if stack.pool > 1:
            x = node("MaxPool", f"{at}.pool", x, kernel_shape=[1, stack.pool], strides=[1, stack.pool])
        x = node("LeakyRelu", at, x, alpha=SLOPE)
    return x if dtype == TensorProto.FLOAT else node("Cast", f"{name}.outputs", x, to=TensorProto.FLOAT)


def _weights(graph: Graph, name: str, layer: nn.Linear | nn.Conv2d) -> tuple[str, str]:
    assert layer.bias is not None
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return graph.constant(f"{name}.weight", weight, np.float32), graph.constant(f"{name}.bias", bias, np.float32)
