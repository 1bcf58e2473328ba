"""Builds the streaming network as an ONNX graph, in floating point or in integers.

The order of the layers is written once, in :func:`walk`; what a layer *is* differs: torch operations while the
ranges of the activations are observed (:mod:`trainer.quantize`), ONNX nodes in a :class:`FloatGraph`, integer nodes
in an :class:`IntegerGraph`. Graphs are assembled node by node instead of traced, as the integer one cannot be traced
and two ways of export would have to be kept equal.

Interface of both graphs, batch dynamic: inputs ``features`` float32 ``[batch, 32, values]`` and ``state_00`` …, outputs
``column`` float32 ``[batch, 2]`` and ``next_00`` … in the same order. All states start as zeros.

Of a :class:`trainer.models.fused.FusedNet` only the ResNet differs from graph to graph; the network that hears single
frequencies is appended in floating point (:mod:`trainer.opinion`).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from trainer.models.fused import FusedNet
from trainer.models.load import Network
from trainer.models.resnet import MAX_LOG_WEIGHT, STRIDE, BasicBlock, CausalResNet, ConvNorm
from trainer.opinion import opinion

OPSET = 17
IR_VERSION = 8  # of opset 17: any ONNX Runtime that streamdet allows reads it
MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators
LEVELS = 255  # of an activation
# Weights keep to 7 bits: on AVX2 without VNNI pairs of products are summed in saturating 16 bits, 2 * 255 * 64 fits.
WEIGHT_LIMIT = 64

Value = TypeVar("Value")
Kind = TypeVar("Kind", bound=nn.Module)
Array = npt.NDArray[Any]
Rounded = dict[str, tuple[Array, Array]]  # by layer: integral weights, and the step of each output channel


class Operations(Protocol[Value]):
    """What a walk needs of the layers; values are tensors or names of tensors."""

    def conv(self, name: str, layer: ConvNorm, x: Value, *, relu: bool) -> Value:
        """Convolve with the past joined on the left, then rectify where ``relu``."""
        ...

    def max_pool(self, x: Value) -> Value:
        """Pool 3x3 with stride 2, the past joined on the left."""
        ...

    def add_relu(self, name: str, a: Value, b: Value) -> Value:
        """Add and rectify."""
        ...


def walk(network: CausalResNet, operations: Operations[Value], x: Value) -> Value:
    """Apply all layers up to the head to ``x``, the features as one channel."""
    x = operations.max_pool(operations.conv("stem", network.stem, x, relu=True))
    for index, block in enumerate(network.blocks):
        assert isinstance(block, BasicBlock)
        name = f"block_{index}"
        y = operations.conv(f"{name}.first", block.first, x, relu=True)
        y = operations.conv(f"{name}.second", block.second, y, relu=False)
        if block.shortcut is not None:
            x = operations.conv(f"{name}.shortcut", block.shortcut, x, relu=False)
        x = operations.add_relu(name, y, x)
    return x


def resnet_of(network: Network) -> CausalResNet:
    """Give the network itself, or the ResNet among the two that it is of."""
    return network.resnet if isinstance(network, FusedNet) else network


def fold(network: Kind) -> Kind:
    """Copy ``network`` for inference with each batch normalisation folded into its convolution."""
    folded = copy.deepcopy(network).cpu().float().eval()
    for layer in folded.modules():
        if isinstance(layer, ConvNorm):
            assert isinstance(layer.norm, nn.BatchNorm2d)
            layer.conv = fuse_conv_bn_eval(layer.conv, layer.norm)
            layer.norm = nn.Identity()
    return folded


def head_matrix(network: CausalResNet) -> tuple[Array, Array]:
    """Weights ``[2, bands, channels]`` and bias ``[2]`` of mean over the bands and head, which are one linear map."""
    bands = network.mels // STRIDE
    weight = network.head.weight.detach().numpy()
    return np.repeat(weight[:, None] / bands, bands, axis=1), network.head.bias.detach().numpy()


class Graph:
    """Collects nodes, constants and states; ``time`` is the axis of time, ``state_type`` that of the states."""

    def __init__(self, network: Network, time: int, state_type: int) -> None:
        self._network = resnet_of(network)
        self._fused = network if isinstance(network, FusedNet) else None
        self._time = time
        self._state_type = state_type
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        values = network.values if isinstance(network, FusedNet) else network.mels
        self._declare(self._inputs, "features", TensorProto.FLOAT, STRIDE, values)
        self._declare(self._outputs, "column", TensorProto.FLOAT, 2)

    def node(self, operator: str, name: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node whose only output is ``name``, and return that."""
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """Add a constant tensor; the same name means the same tensor."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(value, dtype), name)
        return name

    def remember(self, x: str, frames: int) -> str:
        """Join the next state to the left of ``x`` and output its last ``frames`` for the call after."""
        channels, past, bands = self._network.state_shapes()[len(self._inputs) - 1]
        shape = (channels, past, bands) if self._time == 2 else (past, bands, channels)
        return self.join(x, frames, self._time, self._state_type, shape)

    def join(self, x: str, frames: int, axis: int, dtype: int, shape: tuple[int, ...]) -> str:
        """Do what :meth:`remember` does, along any axis, with a state of any type and shape."""
        index = len(self._inputs) - 1
        state, following = f"state_{index:02d}", f"next_{index:02d}"
        self._declare(self._inputs, state, dtype, *shape)
        self._declare(self._outputs, following, dtype, *shape)
        joined = self.node("Concat", f"joined_{index:02d}", state, x, axis=axis)
        self.node("Slice", following, joined, *self.span(-frames, None, axis))
        return joined

    def span(self, begin: int, end: int | None, axis: int) -> tuple[str, str, str]:
        """Arguments of a slice from ``begin`` to before ``end``."""
        last = np.iinfo(np.int64).max if end is None else end
        edges = [self.constant(f"at_{edge}", [edge], np.int64) for edge in (begin, last)]
        return edges[0], edges[1], self.constant(f"axis_{axis}", [axis], np.int64)

    def bands(self) -> str:
        """Name of the ResNet's part of the features."""
        if self._fused is None:
            return "features"
        return self.node("Slice", "features.bands", "features", *self.span(0, self._network.mels, 2))

    def other(self) -> str | None:
        """Name of what the second network adds to columns, ``[batch, 2]``; None where there is none."""
        return None if self._fused is None else opinion(self, self._fused, TensorProto.FLOAT)

    @staticmethod
    def _declare(where: list[onnx.ValueInfoProto], name: str, dtype: int, *shape: int) -> None:
        where.append(helper.make_tensor_value_info(name, dtype, ["batch", *shape]))

    def head(self, x: str, weight: Array, bias: Array, other: str | None) -> None:
        """Map the last activations, any layout, to ``column``; ``weight`` is ``[2, …]`` in the same layout.

        ``other`` ``[batch, 2]``, if there is one, is added.
        """
        weight = weight.reshape(2, -1)
        if self._fused is not None:
            shares = np.array([self._fused.shares[0].item(), 1.0])
            weight, bias = weight * shares[:, None], bias * shares
        flat = self.node("Flatten", "flat", x)
        matrix = self.constant("head.weight", weight, np.float32)
        offset = self.constant("head.bias", bias, np.float32)
        raw = self.node("Gemm", "raw", flat, matrix, offset, transB=1)
        if other is not None:
            raw = self.node("Add", "fused", raw, other)
        limits = np.array([np.finfo(np.float32).max, MAX_LOG_WEIGHT], np.float32)
        above = self.node("Max", "above", raw, self.constant("lowest", -limits, np.float32))
        self.node("Min", "column", above, self.constant("highest", limits, np.float32))

    def finish(self) -> onnx.ModelProto:
        """Return the checked model."""
        graph = helper.make_graph(
            self._nodes, "streamdet", self._inputs, self._outputs, initializer=list(self._constants.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="streamdet")
        onnx.checker.check_model(model)
        return model


class FloatGraph(Graph):
    """Standard operators in float32, layout ``[batch, channel, time, band]``."""

    def __init__(self, network: Network) -> None:
        super().__init__(network, time=2, state_type=TensorProto.FLOAT)

    def build(self) -> onnx.ModelProto:
        """Assemble the whole graph of the folded network."""
        channel = self.constant("channel", [1], np.int64)
        x = walk(self._network, self, self.node("Unsqueeze", "input", self.bands(), channel))
        weight, bias = head_matrix(self._network)
        self.head(x, weight.transpose(0, 2, 1), bias, self.other())
        return self.finish()

    def conv(self, name: str, layer: ConvNorm, x: str, *, relu: bool) -> str:
        """See :class:`Operations`."""
        joined = self.remember(x, layer.past) if layer.past else x
        weight, bias = folded_weights(layer)
        constants = self.constant(f"{name}.weight", weight, np.float32), self.constant(f"{name}.bias", bias, np.float32)
        y = self.node("Conv", f"{name}.conv", joined, *constants, **geometry(layer.conv))
        return self.node("Relu", f"{name}.relu", y) if relu else y

    def max_pool(self, x: str) -> str:
        """See :class:`Operations`."""
        return self.node("MaxPool", "pool", self.remember(x, 1), kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 0, 1])

    def add_relu(self, name: str, a: str, b: str) -> str:
        """See :class:`Operations`."""
        return self.node("Relu", name, self.node("Add", f"{name}.sum", a, b))


@dataclass(frozen=True, slots=True)
class Scale:
    """An activation is ``step * (q - zero)``, ``q`` in 0 … 255; ``zero`` is 0 for everything rectified."""

    step: float
    zero: int = 0


class IntegerGraph(Graph):
    """uint8 activations and states, int8 weights by channel, layout ``[batch, time, band, channel]``.

    Built from ONNX Runtime's own integer operators: rectification costs nothing, as it is saturation at a zero point
    of 0, joining the past is one copy a stream, and states are a quarter of the size. Features, block inputs and all
    else that is remembered is rectified, so every state starts as zeros. ``rounded`` gives the
    weights of layers that are not simply rounded to the nearest step.
    """

    def __init__(self, network: Network, scales: dict[str, Scale], rounded: Rounded | None = None) -> None:
        super().__init__(network, time=1, state_type=TensorProto.UINT8)
        self._scales = scales
        self._rounded = rounded or {}
        self._scale_of: dict[str, str] = {}  # scale name by tensor, as pooling and joining keep the scale

    def build(self) -> onnx.ModelProto:
        """Assemble the whole graph of the folded network."""
        flat = self.node("QuantizeLinear", "input.flat", self.bands(), *self._q("features"))
        image = self.node("Unsqueeze", "input", flat, self.constant("channel", [3], np.int64))
        x = walk(self._network, self, self._scaled("features", image))
        weight, bias = head_matrix(self._network)
        self.head(self.node("DequantizeLinear", "last", x, *self._q_of(x)), weight, bias, self.other())
        return self.finish()

    def conv(self, name: str, layer: ConvNorm, x: str, *, relu: bool) -> str:
        """See :class:`Operations`; ``relu`` shows in the scale's zero point."""
        assert not relu or self._scales[name].zero == 0
        joined = self._like(x, self.remember(x, layer.past)) if layer.past else x
        weight, bias = folded_weights(layer)
        integers, steps = self._rounded.get(name) or integer_weights(weight)
        offsets = np.rint(bias / (steps * self._scales[self._scale_of[joined]].step))
        y = self.node(
            "QLinearConv",
            f"{name}.conv",
            joined,
            *self._q_of(joined),
            self.constant(f"{name}.weight", integers, np.int8),
            self.constant(f"{name}.weight.step", steps, np.float32),
            self.constant(f"{name}.weight.zero", np.zeros(len(steps)), np.int8),
            *self._q(name),
            self.constant(f"{name}.bias", offsets, np.int32),
            domain=MICROSOFT,
            channels_last=1,
            **geometry(layer.conv),
        )
        return self._scaled(name, y)

    def max_pool(self, x: str) -> str:
        """See :class:`Operations`."""
        shape = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 1, 0, 1]}
        return self._like(x, self.node("NhwcMaxPool", "pool", self.remember(x, 1), domain=MICROSOFT, **shape))

    def add_relu(self, name: str, a: str, b: str) -> str:
        """See :class:`Operations`."""
        inputs = a, *self._q_of(a), b, *self._q_of(b), *self._q(name)
        return self._scaled(name, self.node("QLinearAdd", name, *inputs, domain=MICROSOFT))

    def _q(self, name: str) -> tuple[str, str]:
        scale = self._scales[name]
        step = self.constant(f"{name}.step", scale.step, np.float32)
        return step, self.constant(f"{name}.zero", scale.zero, np.uint8)

    def _q_of(self, tensor: str) -> tuple[str, str]:
        return self._q(self._scale_of[tensor])

    def _scaled(self, name: str, tensor: str) -> str:
        self._scale_of[tensor] = name
        return tensor

    def _like(self, source: str, tensor: str) -> str:
        return self._scaled(self._scale_of[source], tensor)


def folded_weights(layer: ConvNorm) -> tuple[Array, Array]:
    """Weights ``[out, in, time, band]`` and bias ``[out]`` of a layer after :func:`fold`."""
    assert layer.conv.bias is not None
    return layer.conv.weight.detach().numpy(), layer.conv.bias.detach().numpy()


def integer_weights(weight: Array) -> tuple[Array, Array]:
    """Quantize ``[out, …]`` to 7 bits: integral values of the same shape and the step ``[out]`` of each channel."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    steps = np.maximum(largest, 1e-12) / WEIGHT_LIMIT
    return np.rint(weight / steps[:, None, None, None]), steps


def geometry(conv: nn.Conv2d) -> dict[str, Any]:
    """ONNX attributes of a convolution whose past has been joined: frequency alone is padded."""
    band = conv.kernel_size[1] // 2
    return {"kernel_shape": list(conv.kernel_size), "strides": list(conv.stride), "pads": [0, band, 0, band]}
