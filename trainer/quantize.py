"""Chooses the scale of every activation of the integer network from activations on real speech.

Weights and biases follow from the network alone (see :class:`trainer.graph.IntegerGraph`); activations need data. As
chunked evaluation equals evaluation as a whole, activations of whole clips show what the states will hold as well.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from streamdet.features.logmel import FloatArray
from trainer.graph import LEVELS, WEIGHT_LIMIT, Array, Rounded, Scale, integer_weights, walk
from trainer.models.resnet import CausalResNet, ConvNorm, Timeline

SAMPLES = 40_000  # values kept of each activation, spread evenly over the clips
CORRECTION_FRAMES = 32 * 600  # three minutes, give or take; enough for means
COLUMNS = 128  # of a weight matrix that are rounded before the rest hears of their errors, all at once
CLIPPING = np.linspace(1.0, 0.2, 81)  # shares of the full range that are tried


def percentile(values: FloatArray) -> float:
    """Give up the largest 0.01 % of the values."""
    return float(np.quantile(np.abs(values), 0.9999) / np.abs(values).max(initial=1e-12))


def least_squares(values: FloatArray) -> float:
    """Balance rounding and clipping for the least mean squared error."""
    low, high = bounds(values)
    errors = [np.square(roundtrip(values, scale_of(low * share, high * share)) - values).mean() for share in CLIPPING]
    return float(CLIPPING[int(np.argmin(errors))])


Calibrator = Callable[[FloatArray], float]
CALIBRATORS: dict[str, Calibrator] = {"minmax": lambda _: 1.0, "percentile": percentile, "least_squares": least_squares}


def bounds(values: FloatArray) -> tuple[float, float]:
    """Smallest and largest value, 0 included."""
    return float(values.min(initial=0.0)), float(values.max(initial=0.0))


def scale_of(low: float, high: float) -> Scale:
    """Map ``low`` … ``high`` (0 within) to 0 … 255 such that 0 is met exactly."""
    step = max(high - low, 1e-6) / LEVELS
    return Scale(step, round(-low / step))


def roundtrip(values: FloatArray, scale: Scale) -> FloatArray:
    """Return what is left of ``values`` after quantization."""
    integers = np.clip(np.rint(values / np.float32(scale.step)) + scale.zero, 0, LEVELS)
    result: FloatArray = ((integers - scale.zero) * scale.step).astype(np.float32)
    return result


class Observer:
    """Evaluates the network in torch and keeps a sample of each activation by the name its scale will have."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self.samples: dict[str, list[FloatArray]] = {}

    def record(self, name: str, x: Tensor) -> Tensor:
        """Keep evenly spread values of ``x``, and its extremes, then pass it on."""
        flat = x.detach().flatten()
        spread = flat[:: max(1, len(flat) // self._keep)]
        extremes = torch.stack((flat.min(), flat.max()))
        self.samples.setdefault(name, []).append(torch.cat((spread, extremes)).numpy())
        return x

    def conv(self, name: str, layer: ConvNorm, x: Tensor, *, relu: bool) -> Tensor:
        """See :class:`trainer.graph.Operations`."""
        y: Tensor = layer(x, Timeline(None))
        return self.record(name, functional.relu(y) if relu else y)

    def max_pool(self, x: Tensor) -> Tensor:
        """See :class:`trainer.graph.Operations`."""
        return functional.max_pool2d(Timeline(None).extend(x, 1), 3, 2, padding=(0, 1))

    def add_relu(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        """See :class:`trainer.graph.Operations`."""
        return self.record(name, functional.relu(a + b))


@torch.inference_mode()
def observe(network: CausalResNet, clips: Sequence[FloatArray]) -> dict[str, FloatArray]:
    """Sample the activations of a folded network on ``clips`` (features ``[frames, mels]``)."""
    observer = Observer(max(1, SAMPLES // len(clips)))
    for clip in clips:
        features = torch.from_numpy(clip)[None, None]
        walk(network, observer, observer.record("features", features))
    return {name: np.concatenate(parts) for name, parts in observer.samples.items()}


def choose_scales(samples: dict[str, FloatArray], calibrator: Calibrator) -> dict[str, Scale]:
    """Give each activation its scale."""
    scales = {}
    for name, values in samples.items():
        low, high = bounds(values)
        share = calibrator(values)
        scales[name] = scale_of(low * share, high * share)
    return scales


Pair = tuple[Tensor, Tensor]


class Corrector:
    """Evaluates the network exactly and quantized side by side and moves each bias by the mean difference.

    Rounding weights and clipping activations shifts the mean of a channel; the layers after it add the shifts up.
    Empirical bias correction of M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
    Correction" (ICCV 2019, section 4.2). Changes the biases of the layers it meets.

    ``rounded`` gives the weights of layers that are not simply rounded to the nearest step.
    """

    def __init__(self, scales: dict[str, Scale], rounded: Rounded | None = None) -> None:
        self._scales = scales
        self._rounded = rounded or {}

    def quantized(self, name: str, x: Tensor) -> Tensor:
        """Round and clip ``x`` as the integer network would."""
        scale = self._scales[name]
        return (torch.clamp(torch.round(x / scale.step) + scale.zero, 0, LEVELS) - scale.zero) * scale.step

    def conv(self, name: str, layer: ConvNorm, x: Pair, *, relu: bool) -> Pair:
        """See :class:`trainer.graph.Operations`."""
        conv = layer.conv
        assert conv.bias is not None
        integers, steps = self._rounded.get(name) or integer_weights(conv.weight.numpy())
        weight = torch.from_numpy((integers * steps[:, None, None, None]).astype(np.float32))
        exact, rounded = (Timeline(None).extend(part, layer.past) for part in x)
        wanted = conv(exact)
        got = functional.conv2d(rounded, weight, conv.bias, conv.stride, conv.padding)
        shift = (wanted - got).mean(dim=(0, 2, 3))
        conv.bias += shift
        got += shift[:, None, None]
        return functional.relu(wanted) if relu else wanted, self.quantized(name, got)

    def max_pool(self, x: Pair) -> Pair:
        """See :class:`trainer.graph.Operations`."""
        exact, rounded = (functional.max_pool2d(Timeline(None).extend(part, 1), 3, 2, padding=(0, 1)) for part in x)
        return exact, rounded

    def add_relu(self, name: str, a: Pair, b: Pair) -> Pair:
        """See :class:`trainer.graph.Operations`."""
        return functional.relu(a[0] + b[0]), self.quantized(name, a[1] + b[1])


class Compensator:
    """Evaluates the network exactly and rounds the weights of each layer by what it sees; see :func:`compensated`."""

    def __init__(self) -> None:
        self.rounded: Rounded = {}

    def conv(self, name: str, layer: ConvNorm, x: Tensor, *, relu: bool) -> Tensor:
        """See :class:`trainer.graph.Operations`."""
        conv, weight = layer.conv, layer.conv.weight.numpy()
        extended = Timeline(None).extend(x, layer.past)
        steps = integer_weights(weight)[1]
        band = conv.kernel_size[1] // 2
        seen = inputs_of(functional.pad(extended, (band, band, 0, 0)), conv)
        self.rounded[name] = compensated(weight, steps, seen), steps
        y: Tensor = conv(extended)
        return functional.relu(y) if relu else y

    def max_pool(self, x: Tensor) -> Tensor:
        """See :class:`trainer.graph.Operations`."""
        return functional.max_pool2d(Timeline(None).extend(x, 1), 3, 2, padding=(0, 1))

    def add_relu(self, name: str, a: Tensor, b: Tensor) -> Tensor:  # noqa: ARG002
        """See :class:`trainer.graph.Operations`."""
        return functional.relu(a + b)


def inputs_of(x: Tensor, conv: nn.Conv2d, most: int = 8_192) -> Array:
    """Give what kernels see of ``x`` (padded), ``[places, in * time * band]``, at random places, ``most`` at most."""
    patches = functional.unfold(x, conv.kernel_size, stride=conv.stride)[0]
    chosen = np.random.default_rng(0).permutation(patches.shape[1])[:most]
    return patches[:, torch.from_numpy(chosen)].T.numpy()


def compensated(weight: Array, steps: Array, inputs: Array, damping: float = 0.02) -> Array:
    """Round weights ``[out, in, time, band]`` one input at a time, those still to come making up for the error.

    What stays of the error is what ``inputs`` (see :func:`inputs_of`) rarely excite: E. Frantar et al., "GPTQ: Accurate
    Post-Training Quantization for Generative Pre-trained Transformers" (ICLR 2023), here with the steps of
    :func:`trainer.graph.integer_weights`.

    Returns:
        Integral weights of the same shape.
    """
    left = weight.reshape(len(weight), -1).astype(np.float64)
    moments = (inputs.T @ inputs / len(inputs)).astype(np.float64)
    moments[np.diag_indices_from(moments)] += damping * np.diag(moments).mean() + 1e-12
    factor = np.linalg.cholesky(np.linalg.inv(moments)).T
    integers, errors = np.empty_like(left), np.empty_like(left)
    for begin in range(0, left.shape[1], COLUMNS):
        end = min(begin + COLUMNS, left.shape[1])
        for at in range(begin, end):
            integers[:, at] = np.clip(np.rint(left[:, at] / steps), -WEIGHT_LIMIT, WEIGHT_LIMIT)
            errors[:, at] = (left[:, at] - integers[:, at] * steps) / factor[at, at]
            left[:, at + 1 : end] -= errors[:, at, None] * factor[at, None, at + 1 : end]
        left[:, end:] -= errors[:, begin:end] @ factor[begin:end, end:]
    return integers.reshape(weight.shape)


@torch.no_grad()
def compensate(network: CausalResNet, clips: Sequence[FloatArray]) -> Rounded:
    """Round the weights of a folded network such that what it puts out on ``clips`` changes least."""
    compensator = Compensator()
    walk(network, compensator, _stream(clips))
    return compensator.rounded


@torch.no_grad()
def correct_biases(
    network: CausalResNet, scales: dict[str, Scale], clips: Sequence[FloatArray], rounded: Rounded | None = None
) -> CausalResNet:
    """Copy a folded network with biases that make up for the quantization by ``scales``, as seen on ``clips``."""
    corrected = copy.deepcopy(network)
    corrector, stream = Corrector(scales, rounded), _stream(clips)
    walk(corrected, corrector, (stream, corrector.quantized("features", stream)))
    return corrected


def _stream(clips: Sequence[FloatArray]) -> Tensor:
    spread = clips[:: max(1, sum(map(len, clips)) // CORRECTION_FRAMES)]
    return torch.from_numpy(np.concatenate(spread))[None, None]
