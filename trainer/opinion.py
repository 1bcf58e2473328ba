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
    """Means of outputs ``[batch, channels, frames, bands]``, of squares and of products, each ``[batch, 1, 1, …]``."""
    node, constant = graph.node, graph.constant
    parts = []
    for y in (x, node("Mul", f"{name}.square", x, x)):
        mean = node("AveragePool", f"{y}.mean", y, **_rows(stack.frames))
        parts.append(node("Reshape", f"{y}.flat", mean, constant("row", [0, 1, 1, -1], np.int64)))
    if stack.components:
        rows = node("Transpose", f"{name}.rows", x, perm=[0, 2, 1, 3])
        rows = node("Reshape", f"{name}.row", rows, constant("rows", [0, 0, -1], np.int64))
        z = _components(graph, name, stack, rows, "frame")
        products = node("MatMul", f"{name}.products", node("Transpose", f"{z}.turned", z, perm=[0, 2, 1]), z)
        divisor = constant(f"{name}.frames.count", stack.frames, np.float32)
        parts.append(_pairs(graph, name, stack, node("Div", f"{name}.products.mean", products, divisor), [0, 1, 1, -1]))
    return parts


def _components(graph: Graph, name: str, stack: Stack, outputs: str, of: str) -> str:
    """Principal components of ``outputs`` ``[…, outputs]``."""
    middle = graph.constant(f"{name}.middle", stack.middle.numpy(), np.float32)
    away = graph.node("Sub", f"{name}.{of}.away", outputs, middle)
    if of == "frame":
        return graph.node(
            "MatMul", f"{name}.{of}", away, graph.constant(f"{name}.axes", stack.axes.numpy(), np.float32)
        )
    # Not MatMul: ONNX Runtime adds in another order when there is but one stream.
    turned = graph.constant(f"{name}.axes.turned", stack.axes.T.numpy(), np.float32)
    return graph.node("Gemm", f"{name}.{of}", away, turned, transB=1)


def _pairs(graph: Graph, name: str, stack: Stack, products: str, shape: list[int]) -> str:
    """Of ``products`` ``[batch, components, components]`` each once, in ``shape``."""
    first, second = stack.pairs().numpy()
    flat = graph.node("Reshape", f"{products}.all", products, graph.constant("all.in.a.row", [0, -1], np.int64))
    pairs = graph.constant(f"{name}.pairs", first * stack.components + second, np.int64)
    once = graph.node("Gather", f"{products}.once", flat, pairs, axis=1)
    return (
        once
        if len(shape) == 2
        else graph.node("Reshape", f"{products}.flat", once, graph.constant("row", shape, np.int64))
    )


def _moments(graph: Graph, name: str, stack: Stack, means: str) -> str:
    """Do what :meth:`Stack.moments` does to ``means`` ``[batch, numbers]``."""
    node, constant, span, width = graph.node, graph.constant, graph.span, stack.outputs
    mean = node("Slice", f"{name}.mean", means, *span(0, width, 1))
    square = node("Slice", f"{name}.mean.of.squares", means, *span(width, 2 * width, 1))
    variance = node("Sub", f"{name}.variance", square, node("Mul", f"{name}.square.of.mean", mean, mean))
    some = node("Max", f"{name}.variance.some", variance, constant("some", 1e-6, np.float32))
    parts = [mean, node("Sqrt", f"{name}.deviation", some)]
    if stack.components:
        z = _components(graph, name, stack, mean, "mean.component")
        column = node("Unsqueeze", f"{z}.column", z, constant("as.column", [2], np.int64))
        row = node("Unsqueeze", f"{z}.row", z, constant("as.row", [1], np.int64))
        usual = _pairs(graph, name, stack, node("Mul", f"{z}.products", column, row), [0, -1])
        product = node("Slice", f"{name}.mean.of.products", means, *span(2 * width, stack.numbers, 1))
        parts.append(node("Sub", f"{name}.covariance", product, usual))
    return node("Concat", f"{name}.moments", *parts, axis=1)


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
