"""The streaming network for GPUs: in half precision, and with the symmetric integers that TensorRT wants.

Both are the :class:`trainer.graph.FloatGraph` with other numbers, so that any runtime of ONNX can check them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from trainer.graph import LEVELS, FloatGraph, Graph, Layer, Scale, folded_weights, geometry
from trainer.models.load import Network

LARGEST = 127  # of a signed byte, used symmetrically


class HalfGraph(FloatGraph):
    """Weights, activations and states in float16; features, head and columns stay float32."""

    def __init__(self, network: Network) -> None:
        Graph.__init__(self, network, time=2, state_type=TensorProto.FLOAT16)

    def first(self, x: str) -> str:
        """Turn an image of features into half precision."""
        return self.node("Cast", f"{x}.half", x, to=TensorProto.FLOAT16)

    def last(self, x: str) -> str:
        """Turn the last activations into float32."""
        return self.node("Cast", f"{x}.float", x, to=TensorProto.FLOAT)

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """Add a constant tensor, the layers' weights and biases in half precision."""
        dense = name.startswith(("head.", "hidden.", "opinion."))
        of_layer = dtype is np.float32 and name.endswith((".weight", ".bias")) and not dense
        return super().constant(name, value, np.float16 if of_layer else dtype)


class QdqGraph(FloatGraph):
    """int8 weights by channel and int8 activations, both symmetric, as pairs of QuantizeLinear and DequantizeLinear.

    What a convolution reads is quantized right before it, the remembered past included, and so is the branch that a
    block adds; states stay float32, as rounding what was rounded changes nothing.
    """

    def __init__(self, network: Network, scales: dict[str, Scale]) -> None:
        super().__init__(network)
        self._scales = scales
        self._scale_of: dict[str, str] = {"input": "features", "spectrum.image": "spectrum"}  # scale name by tensor

    def conv(self, name: str, layer: Layer, x: str, *, slope: float) -> str:
        """See :class:`trainer.graph.Operations`."""
        joined = self.remember(x, layer.past) if layer.past else x
        source = self._rounded(f"{name}.read", joined, self._scale_of[x])
        bias = self.constant(f"{name}.bias", folded_weights(layer)[1], np.float32)
        y = self.node("Conv", f"{name}.conv", source, self._weight(name, layer), bias, **geometry(layer.conv))
        return self._scaled(name, self.rectified(name, y, slope))

    def max_pool(self, x: str) -> str:
        """See :class:`trainer.graph.Operations`."""
        return self._scaled(self._scale_of[x], super().max_pool(x))

    def add_relu(self, name: str, a: str, b: str) -> str:
        """See :class:`trainer.graph.Operations`."""
        return self._scaled(name, super().add_relu(name, a, self._rounded(f"{name}.branch", b, self._scale_of[b])))

    def _weight(self, name: str, layer: Layer) -> str:
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
