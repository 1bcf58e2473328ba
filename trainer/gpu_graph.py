"""The streaming network for GPUs: in half precision, and with the symmetric integers that TensorRT wants.

Both are the :class:`trainer.graph.FloatGraph` with other numbers, so that any runtime of ONNX can check them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from trainer.graph import LEVELS, FloatGraph, Graph, Scale, folded_weights, geometry, head_matrix, walk
from trainer.models.load import Network
from trainer.models.resnet import ConvNorm
from trainer.opinion import opinion

LARGEST = 127  # of a signed byte, used symmetrically


class HalfGraph(FloatGraph):
    """Weights, activations and states in float16; features, head and columns stay float32."""

    def __init__(self, network: Network) -> None:
        Graph.__init__(self, network, time=2, state_type=TensorProto.FLOAT16)

    def build(self) -> onnx.ModelProto:
        """Assemble the whole graph of the folded network."""
        image = self.node("Unsqueeze", "input.float", self.bands(), self.constant("channel", [1], np.int64))
        x = walk(self._network, self, self.node("Cast", "input", image, to=TensorProto.FLOAT16))
        weight, bias = head_matrix(self._network)
        self.head(self.node("Cast", "last", x, to=TensorProto.FLOAT), weight.transpose(0, 2, 1), bias, self.other())
        return self.finish()

    def other(self) -> str | None:
        """See :class:`Graph`; the convolutions are in half precision as well."""
        return None if self._fused is None else opinion(self, self._fused, TensorProto.FLOAT16)

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """Add a constant tensor, the layers' weights and biases in half precision."""
        exact = name.startswith(("head.", "hidden.", "opinion.")) or ".units." in name
        of_layer = dtype is np.float32 and name.endswith((".weight", ".bias")) and not exact
        return super().constant(name, value, np.float16 if of_layer else dtype)


class QdqGraph(FloatGraph):
    """int8 weights by channel and int8 activations, both symmetric, as pairs of QuantizeLinear and DequantizeLinear.

    What a convolution reads is quantized right before it, the remembered past included, and so is the branch that a
    block adds; states stay float32, as rounding what was rounded changes nothing.
    """

    def __init__(self, network: Network, scales: dict[str, Scale]) -> None:
        super().__init__(network)
        self._scales = scales
        self._scale_of: dict[str, str] = {"input": "features"}  # scale name by tensor

    def conv(self, name: str, layer: ConvNorm, x: str, *, relu: bool) -> str:
        """See :class:`trainer.graph.Operations`."""
        joined = self.remember(x, layer.past) if layer.past else x
        source = self._rounded(f"{name}.read", joined, self._scale_of[x])
        bias = self.constant(f"{name}.bias", folded_weights(layer)[1], np.float32)
        y = self.node("Conv", f"{name}.conv", source, self._weight(name, layer), bias, **geometry(layer.conv))
        return self._scaled(name, self.node("Relu", f"{name}.relu", y) if relu else y)

    def max_pool(self, x: str) -> str:
        """See :class:`trainer.graph.Operations`."""
        return self._scaled(self._scale_of[x], super().max_pool(x))

    def add_relu(self, name: str, a: str, b: str) -> str:
        """See :class:`trainer.graph.Operations`."""
        return self._scaled(name, super().add_relu(name, a, self._rounded(f"{name}.branch", b, self._scale_of[b])))

    def _weight(self, name: str, layer: ConvNorm) -> str:
        weight, _ = folded_weights(layer)
        steps = np.maximum(np.abs(weight).reshape(len(weight), -1).max(axis=1), 1e-12) / LARGEST
        integers = self.constant(f"{name}.weight", np.rint(weight / steps[:, None, None, None]), np.int8)
        step = self.constant(f"{name}.weight.step", steps, np.float32)
        zero = self.constant(f"{name}.weight.zero", np.zeros(len(steps)), np.int8)
        return self.node("DequantizeLinear", f"{name}.weight.float", integers, step, zero, axis=0)

    def _rounded(self, name: str, x: str, scale: str) -> str:
        step = self.constant(f"{scale}.step", symmetric_step(self._scales[scale]), np.float32)
        zero = self.constant("zero", 0, np.int8)
        return self.node(
            "DequantizeLinear", name, self.node("QuantizeLinear", f"{name}.int8", x, step, zero), step, zero
        )

    def _scaled(self, name: str, tensor: str) -> str:
        self._scale_of[tensor] = name
        return tensor


def symmetric_step(scale: Scale) -> float:
    """Step of signed bytes around 0 that reach as far as ``scale`` does."""
    return max(scale.zero, LEVELS - scale.zero) * scale.step / LARGEST
