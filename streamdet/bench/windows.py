"""The window network of a streaming model: the same weights and results, but all of a window at every hop."""

from __future__ import annotations

import importlib
from typing import Any

from streamdet.errors import DependencyError, ModelError

POOLS = ("MaxPool", "NhwcMaxPool")


def window_network(content: bytes, frames: int) -> bytes:
    """Turn a streaming network into one that scores a whole window.

    What a layer remembers becomes zero padding on its left, exactly what a fresh stream has.

    Args:
        content: the model file.
        frames: length of the window, a multiple of the hop's 32 frames.

    Returns:
        Serialized ONNX: ``features`` float32 ``[batch, frames, mels]`` to ``column`` ``[batch * frames / 32, 2]``.

    Raises:
        DependencyError: the ``onnx`` package is not installed.
        ModelError: the network is not built as streamdet builds it.
    """
    try:
        onnx = importlib.import_module("onnx")
    except ImportError as error:
        raise DependencyError("window peers need the onnx package: pip install onnx") from error
    model = onnx.load_from_string(content)
    try:
        _unroll(onnx, model.graph, frames)
        onnx.checker.check_model(model)
    except (StopIteration, KeyError, IndexError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"cannot make a window network of this model: {error!r}") from error
    serialized: bytes = model.SerializeToString()
    return serialized


def _unroll(onnx: Any, graph: Any, frames: int) -> None:
    axis = _forget_states(onnx, graph)
    graph.input[0].type.tensor_type.shape.dim[1].dim_value = frames
    del graph.input[1:], graph.output[1:]
    graph.output[0].type.tensor_type.shape.dim[0].dim_param = "columns"
    _score_each_column(onnx, graph, axis)


def _forget_states(onnx: Any, graph: Any) -> int:
    """Replace each ``Concat(state, x)`` by padding in the layer that reads it; returns the axis of time."""
    past = {state.name: state.type.tensor_type.shape for state in graph.input[1:]}
    following = {state.name for state in graph.output[1:]}
    joins = {node.output[0]: node for node in graph.node if node.op_type == "Concat" and node.input[0] in past}
    axes = {join.attribute[0].i for join in joins.values()}
    if len(axes) != 1 or len(joins) != len(past):
        raise ValueError("states and joins do not match")
    axis: int = axes.pop()
    kept = []
    for node in graph.node:
        if node.output[0] in joins or node.output[0] in following:
            continue
        join = joins.get(node.input[0])
        if join is not None:
            node.input[0] = join.input[1]
            pads = next(attribute for attribute in node.attribute if attribute.name == "pads")
            pads.ints[0] = past[join.input[0]].dim[axis].dim_value
        kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(kept)
    return axis


def _score_each_column(onnx: Any, graph: Any, axis: int) -> None:
    """Apply the head to every column of the window rather than to the only one of a hop."""
    index, flatten = next((at, node) for at, node in enumerate(graph.node) if node.op_type == "Flatten")
    gemm = next(node for node in graph.node if node.op_type == "Gemm")
    inputs = next(t for t in graph.initializer if t.name == gemm.input[1]).dims[1]
    graph.initializer.append(onnx.helper.make_tensor("column.shape", onnx.TensorProto.INT64, [2], [-1, inputs]))
    source, name = flatten.input[0], flatten.output[0]
    added = [onnx.helper.make_node("Reshape", ["by.time" if axis == 2 else source, "column.shape"], [name])]
    if axis == 2:  # [batch, channel, time, band]
        added.insert(0, onnx.helper.make_node("Transpose", [source], ["by.time"], perm=[0, 2, 1, 3]))
    del graph.node[index]
    for offset, node in enumerate(added):
        graph.node.insert(index + offset, node)
