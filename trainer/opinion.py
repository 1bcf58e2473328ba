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
from trainer.models.spectral import LIMIT, MEMORY, SLOPE, FrozenConv, PhaseStack, Stack

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
    spectral, width = network.spectral, 2 * network.spectral.outputs
    means: list[str] = []
    squares: list[str] = []
    begin = network.mels
    for name, stack in zip(spectral.settings["hears"], spectral.each(), strict=True):
        part = node("Slice", f"features.{name}", "features", *span(begin, begin + stack.values, 2))
        begin += stack.values
        x = _stack(graph, name, stack, part, dtype)
        for y, parts in ((x, means), (node("Mul", f"{x}.square", x, x), squares)):
            shape = [stack.frames, 1]
            mean = node("AveragePool", f"{y}.mean", y, kernel_shape=shape, strides=shape)
            parts.append(node("Reshape", f"{y}.flat", mean, constant("row", [0, 1, 1, -1], np.int64)))
    flat = node("Concat", "column.flat", *means, *squares, axis=3)
    edges, one = constant("one.more", [0, 0, 0, 0, 0, 0, 0, 1], np.int64), constant("one", 1.0, np.float32)
    counted = node("Pad", "column.counted", flat, edges, one)
    columns = graph.join(counted, MEMORY - 1, 2, TensorProto.FLOAT, (1, MEMORY - 1, width + 1))
    # Not ReduceSum: ONNX Runtime adds in another order when there is but one stream.
    sums = node("Flatten", "sums", node("AveragePool", "sums.row", columns, kernel_shape=[MEMORY, 1]))
    each = node("Div", "each", sums, node("Slice", "count", sums, *span(width, None, 1)))
    mean = node("Slice", "mean", each, *span(0, width // 2, 1))
    square = node("Slice", "mean.of.squares", each, *span(width // 2, width, 1))
    variance = node("Sub", "variance", square, node("Mul", "square.of.mean", mean, mean))
    deviation = node("Sqrt", "deviation", node("Max", "variance.some", variance, constant("some", 1e-6, np.float32)))
    moments = node("Concat", "moments", mean, deviation, axis=1)
    away = node("Sub", "moments.shifted", moments, constant("centre", spectral.centre.numpy(), np.float32))
    away = node("Div", "moments.scaled", away, constant("spread", spectral.spread.numpy(), np.float32))
    away = node("Max", "moments.least", away, constant("limit.low", -LIMIT, np.float32))
    away = node("Min", "moments.most", away, constant("limit.high", LIMIT, np.float32))
    units, begin = [], 0
    for name, stack, layer in zip(spectral.settings["hears"], spectral.each(), spectral.hidden, strict=True):
        assert isinstance(layer, nn.Linear)
        halves = [
            node("Slice", f"{name}.{kind}", away, *span(at, at + stack.outputs, 1))
            for kind, at in (("means", begin), ("deviations", width // 2 + begin))
        ]
        begin += stack.outputs
        both = node("Concat", f"{name}.moments", *halves, axis=1)
        units.append(node("Gemm", f"{name}.linear", both, *_weights(graph, f"hidden.{name}", layer), transB=1))
    hidden = node("Relu", "hidden", node("Concat", "hidden.linear", *units, axis=1))
    _, share, offset = network.shares.tolist()
    weight, bias = spectral.head.weight.detach().numpy(), spectral.head.bias.detach().numpy()
    matrix = constant("opinion.weight", np.concatenate((share * weight, 0 * weight)), np.float32)
    shift = constant("opinion.bias", [share * bias[0] + offset, 0.0], np.float32)
    return node("Gemm", "opinion", hidden, matrix, shift, transB=1)


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
