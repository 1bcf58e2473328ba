"""The network with the states of all streams inside: it picks the rows of a batch itself and puts them back."""

from __future__ import annotations

import importlib
from typing import Any

from streamdet.errors import DependencyError, ModelError


def pooled_network(content: bytes) -> bytes:
    """Give a streaming network pools of states instead of the states of one batch.

    Args:
        content: a model file with float states.

    Returns:
        Serialized ONNX with inputs ``features`` ``[batch, 32, values]``, ``slots`` int32 ``[batch]`` and ``pool_00`` …
        ``[capacity, ...]``; outputs ``column`` and ``kept_00`` …, the pools with the rows ``slots`` replaced.

    Raises:
        DependencyError: the ``onnx`` package is not installed.
        ModelError: the network is not built as streamdet builds it.
    """
    try:
        onnx = importlib.import_module("onnx")
    except ImportError as error:
        raise DependencyError("a plan needs the onnx package: pip install 'streamdet[gpu]'") from error
    model = onnx.load_from_string(content)
    graph = model.graph
    if [i.name for i in graph.input][:1] != ["features"] or len(graph.input) != len(graph.output):
        raise ModelError("the network's inputs and outputs are not those of streamdet")
    del model.metadata_props[:]  # they describe the model file, which this is not
    _add_pools(onnx, graph)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


def _add_pools(onnx: Any, graph: Any) -> None:
    make, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    inputs = [graph.input[0], make("slots", onnx.TensorProto.INT32, ["batch"])]
    outputs = [graph.output[0]]
    before = [
        node("Unsqueeze", ["slots", "slots.axis"], ["slots.column"]),
        node("Cast", ["slots.column"], ["slots.rows"], to=onnx.TensorProto.INT64),
    ]
    after = []
    for state in list(graph.input)[1:]:
        number, tensor = state.name.removeprefix("state_"), state.type.tensor_type
        pool, kept, shape = f"pool_{number}", f"kept_{number}", [dim.dim_value for dim in tensor.shape.dim[1:]]
        inputs.append(make(pool, tensor.elem_type, ["capacity", *shape]))
        outputs.append(make(kept, tensor.elem_type, ["capacity", *shape]))
        before.append(node("Gather", [pool, "slots"], [state.name], axis=0))
        after.append(node("ScatterND", [pool, "slots.rows", f"next_{number}"], [kept]))
    graph.initializer.append(onnx.helper.make_tensor("slots.axis", onnx.TensorProto.INT64, [1], [1]))
    nodes = [*before, *list(graph.node), *after]
    for field, values in ((graph.input, inputs), (graph.output, outputs), (graph.node, nodes)):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)
