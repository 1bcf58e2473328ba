"""The end of the network that hears the phase, as ONNX nodes in float32: moments of its outputs, and its head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto
from torch import nn

from trainer.models.fused import FusedNet
from trainer.models.spectral import FRAMES, LIMIT, MEMORY

if TYPE_CHECKING:
    from trainer.graph import Graph


def opinion(graph: Graph, network: FusedNet, x: str) -> str:
    """Add what :meth:`trainer.models.spectral.SpectralNet.moments` and ``decide`` do to one column of outputs.

    Args:
        graph: what the nodes and the state, the sums of the columns before and their number, are added to.
        network: has the head and the shares of both log-odds.
        x: the outputs, float32 ``[batch, channel, time, band]``.

    Returns:
        Name of a tensor ``[batch, 2]`` to be added to the ResNet's column: its log-odds' share, and zeros.
    """
    node, constant, span = graph.node, graph.constant, graph.span
    spectral, width = network.spectral, 2 * network.spectral.outputs
    part = [FRAMES, 1]
    pair = x, node("Mul", "outputs.square", x, x)
    means = [node("AveragePool", f"{y}.mean", y, kernel_shape=part, strides=part) for y in pair]
    both = node("Concat", "column.means", *means, axis=1)
    flat = node("Reshape", "column.flat", both, constant("row", [0, 1, 1, -1], np.int64))
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
    hidden = node("Relu", "hidden", _dense(graph, "hidden.linear", away, spectral.hidden))
    _, share, offset = network.shares.tolist()
    weight, bias = spectral.head.weight.detach().numpy(), spectral.head.bias.detach().numpy()
    matrix = constant("opinion.weight", np.concatenate((share * weight, 0 * weight)), np.float32)
    shift = constant("opinion.bias", [share * bias[0] + offset, 0.0], np.float32)
    return node("Gemm", "opinion", hidden, matrix, shift, transB=1)


def _dense(graph: Graph, name: str, x: str, layer: nn.Linear) -> str:
    weight = graph.constant(f"{name}.weight", layer.weight.detach().numpy(), np.float32)
    bias = graph.constant(f"{name}.bias", layer.bias.detach().numpy(), np.float32)
    return graph.node("Gemm", name, x, weight, bias, transB=1)
