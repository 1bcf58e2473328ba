from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

from streamdet.engine.modelfile import ModelInfo, read_model
from streamdet.engine.runtime import session_options
from streamdet.errors import ModelError
from streamdet.features.logmel import FloatArray
from trainer.drift import by_layer
from trainer.export import (
    Drift,
    ExportReport,
    export_model,
    measure_drift,
    reference_columns,
    streamed_columns,
    whole_hops,
)
from trainer.graph import WEIGHT_LIMIT, IntegerGraph, Scale, fold, integer_weights, walk
from trainer.models.resnet import CausalResNet, ConvNorm
from trainer.quantize import (
    CALIBRATORS,
    Corrector,
    choose_scales,
    compensated,
    correct_biases,
    inputs_of,
    observe,
    roundtrip,
    scale_of,
)

FINITE = st.floats(-1e3, 1e3, width=32)


@torch.no_grad()
def test_folding_changes_nothing(network: CausalResNet) -> None:
    x = torch.rand(2, 96, 64) * 4
    torch.testing.assert_close(fold(network)(x)[0], network(x)[0], rtol=1e-4, atol=1e-4)
    assert isinstance(network.stem.norm, torch.nn.BatchNorm2d), "the original must stay as it was"


def test_fp32_hop_by_hop_equals_torch_as_a_whole(
    network: CausalResNet, exported: dict[str, ExportReport], clips: list[FloatArray]
) -> None:
    cut = [whole_hops(clip) for clip in clips]
    for columns, clip in zip(streamed_columns(exported["fp32"].path, cut), cut, strict=True):
        np.testing.assert_allclose(columns, reference_columns(network, clip), rtol=1e-4, atol=1e-4)


def test_int8_stays_close(network: CausalResNet, exported: dict[str, ExportReport], clips: list[FloatArray]) -> None:
    unseen = [whole_hops(clip) for clip in clips]
    got = np.concatenate(streamed_columns(exported["int8"].path, unseen))
    wanted = np.concatenate([reference_columns(network, clip) for clip in unseen])
    # A random network has nothing that averages errors out; trained ones come an order of magnitude closer.
    assert np.corrcoef(got[:, 0], wanted[:, 0])[0, 1] > 0.98
    assert np.abs(got - wanted).max() < 0.3 * np.ptp(wanted[:, 0])


def test_report_and_file_say_what_was_measured(exported: dict[str, ExportReport]) -> None:
    report = exported["int8"]
    assert set(report.drift) == {name + how for name in CALIBRATORS for how in ("", ", compensated")}
    assert report.drift[report.calibrator].column == min(drift.column for drift in report.drift.values())
    assert report.size == report.path.stat().st_size
    _, info = read_model(report.path)
    assert info == report.info
    assert info.precision == "int8"
    assert info.width == 0.25
    assert info.figures["export"]["drift_percent"]["column"] == report.drift[report.calibrator].column
    assert exported["fp32"].drift["none"].column < 0.01


def test_int8_file_is_a_quarter_of_the_size(exported: dict[str, ExportReport]) -> None:
    assert exported["int8"].size < exported["fp32"].size / 3.5


def test_weights_keep_to_seven_bits(exported: dict[str, ExportReport]) -> None:
    graph = onnx.load(exported["int8"].path).graph
    weights = [numpy_helper.to_array(t) for t in graph.initializer if t.data_type == onnx.TensorProto.INT8]
    kernels = [weight for weight in weights if weight.ndim == 4]
    assert len(kernels) == 20
    for kernel in kernels:
        peaks = np.abs(kernel.astype(int)).max(axis=(1, 2, 3))
        assert peaks.max() == WEIGHT_LIMIT
        assert peaks.min() > 0.7 * WEIGHT_LIMIT


def test_integer_network_has_integer_states_only(exported: dict[str, ExportReport]) -> None:
    graph = onnx.load(exported["int8"].path).graph
    states = [entry.type.tensor_type for entry in graph.input[1:]]
    assert {state.elem_type for state in states} == {onnx.TensorProto.UINT8}
    floats = {"QuantizeLinear", "DequantizeLinear", "Flatten", "Gemm", "Max", "Min"}
    assert {node.op_type for node in graph.node} - floats == {
        "Concat", "Slice", "Unsqueeze", "QLinearConv", "QLinearAdd", "NhwcMaxPool",
    }  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_same_checkpoint_gives_the_same_file(
    exported: dict[str, ExportReport], checkpoint: Path, clips: list[FloatArray], tmp_path: Path, precision: str
) -> None:
    meta = ModelInfo("random", exported[precision].info.created, 9.0, "", operating_points={})
    report = export_model(checkpoint, tmp_path / "again.onnx", precision, clips, meta)
    assert report.drift == exported[precision].drift
    assert [path.name for path in tmp_path.iterdir()] == ["again.onnx"], "candidates must not be left behind"


def test_export_needs_two_clips(checkpoint: Path, clips: list[FloatArray], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="two or more clips"):
        export_model(checkpoint, tmp_path / "m.onnx", "int8", [clips[0], clips[1][:31]], ModelInfo("m", "", 1.0, ""))


def test_network_that_looks_ahead_is_not_exported(clips: list[FloatArray], tmp_path: Path) -> None:
    torch.save(CausalResNet(0.125, causal=False).checkpoint(), tmp_path / "symmetric.pt")
    with pytest.raises(ModelError, match="only a causal network can stream"):
        export_model(tmp_path / "symmetric.pt", tmp_path / "m.onnx", "fp32", clips, ModelInfo("m", "", 1.0, ""))


@given(st.tuples(FINITE, FINITE), st.lists(FINITE, min_size=1, max_size=50))
def test_scales_meet_zero_and_round_by_half_a_step(ends: tuple[float, float], numbers: list[float]) -> None:
    low, high = min(0.0, *ends), max(0.0, *ends)
    scale = scale_of(low, high)
    values = np.array([0.0, *numbers], np.float32)
    back = roundtrip(values, scale)
    assert back[0] == 0.0
    inside = (values >= low) & (values <= high)
    assert np.all(np.abs(back - values)[inside] <= scale.step * 1.001 + 1e-4 * np.abs(values[inside]))
    assert np.all((back >= low - scale.step - 1e-6) & (back <= high + scale.step + 1e-6))


def test_calibrators_clip_outliers_as_they_say() -> None:
    values = np.append(np.linspace(0, 1, 100_000, dtype=np.float32), np.float32(1000.0))
    assert CALIBRATORS["minmax"](values) == 1.0
    assert CALIBRATORS["percentile"](values) == pytest.approx(0.001, rel=0.01)


def test_least_squares_beats_the_other_calibrators_on_a_heavy_tail() -> None:
    values = np.random.default_rng(0).exponential(size=200_000).astype(np.float32)
    errors = {}
    for name, calibrator in CALIBRATORS.items():
        scale = scale_of(0.0, calibrator(values) * float(values.max()))
        errors[name] = np.square(roundtrip(values, scale) - values).mean()
    assert errors["least_squares"] < min(errors["minmax"], errors["percentile"])


def test_states_share_the_scale_of_what_they_join(network: CausalResNet, clips: list[FloatArray]) -> None:
    scales = choose_scales(observe(fold(network), [whole_hops(clip) for clip in clips[:2]]), CALIBRATORS["minmax"])
    signed = {name for name, scale in scales.items() if scale.zero != 0}
    assert signed == {name for name in scales if name.endswith(("second", "shortcut"))}
    model = IntegerGraph(fold(network), scales).build()
    assert sum(node.op_type == "Concat" for node in model.graph.node) == len(model.graph.input) - 1 == 18


class LayerByLayer:
    """Computes each layer in torch from what ONNX Runtime put into it, and compares what came out."""

    def __init__(self, model: onnx.ModelProto, scales: dict[str, Scale], features: FloatArray) -> None:
        self.scales = scales
        self.compared = 0
        names = [node.output[0] for node in model.graph.node if node.op_type in {"QLinearConv", "QLinearAdd"}]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in [*names, "input"])
        session = onnxruntime.InferenceSession(model.SerializeToString(), session_options())
        feeds = {entry.name: np.zeros((1, *entry.shape[1:]), np.uint8) for entry in session.get_inputs()[1:]}
        values = session.run([*names, "input"], {"features": features[None], **feeds})
        self.outputs = {
            name.removesuffix(".conv"): value for name, value in zip([*names, "features"], values, strict=True)
        }

    def compare(self, name: str, expected: Tensor) -> Tensor:
        scale, got = self.scales[name], torch.from_numpy(self.outputs[name].astype(np.float32)).permute(0, 3, 1, 2)
        steps = torch.clamp(torch.round(expected / scale.step) + scale.zero, 0, 255)
        assert (steps - got).abs().max() <= 1, name
        assert (steps != got).float().mean() < 0.01, name  # ties, and biases in whole steps of the sum
        self.compared += 1
        return (got - scale.zero) * scale.step

    def conv(self, name: str, layer: ConvNorm, x: Tensor, *, relu: bool) -> Tensor:
        weight, bias = layer.conv.weight, layer.conv.bias
        steps = weight.abs().amax(dim=(1, 2, 3))[:, None, None, None] / WEIGHT_LIMIT
        x = functional.pad(x, (0, 0, layer.past, 0))
        rounded = torch.round(weight / steps) * steps
        return self.compare(name, functional.conv2d(x, rounded, bias, layer.conv.stride, layer.conv.padding))

    def max_pool(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(functional.pad(x, (0, 0, 1, 0)), 3, 2, padding=(0, 1))

    def add_relu(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        return self.compare(name, a + b)


@torch.no_grad()
def test_every_integer_layer_rounds_as_torch_does(network: CausalResNet, clips: list[FloatArray]) -> None:
    folded, hop = fold(network), clips[0][:32]
    scales = _scales(folded, clips)
    layers = LayerByLayer(IntegerGraph(folded, scales).build(), scales, hop)
    walk(folded, layers, layers.compare("features", torch.from_numpy(hop)[None, None]))
    assert layers.compared == len(scales) == 1 + 20 + 8


@torch.no_grad()
def test_bias_correction_removes_the_mean_error(network: CausalResNet, clips: list[FloatArray]) -> None:
    folded = fold(network)
    coarse = {name: Scale(scale.step * 4, scale.zero // 4) for name, scale in _scales(folded, clips).items()}
    corrected = correct_biases(folded, coarse, [whole_hops(clip) for clip in clips])
    name, layer = "stem", corrected.stem
    assert not torch.equal(layer.conv.bias, folded.stem.conv.bias)
    x = torch.from_numpy(np.concatenate([whole_hops(clip) for clip in clips]))[None, None]
    corrector = Corrector(coarse)
    before = layer.conv.bias.clone()
    corrector.conv(name, layer, (x, corrector.quantized("features", x)), relu=True)
    shift = (layer.conv.bias - before).abs()
    first = (before - folded.stem.conv.bias).abs()
    torch.testing.assert_close(shift, first, rtol=1e-3, atol=1e-4)


def test_compensated_weights_err_less_in_what_they_put_out() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((4_000, 6)) @ rng.standard_normal((6, 36)) + 0.1 * rng.standard_normal((4_000, 36))
    weight = rng.standard_normal((8, 4, 3, 3)).astype(np.float32)
    nearest, steps = integer_weights(weight)
    better = compensated(weight, steps, inputs)
    assert np.array_equal(better, np.rint(better))
    assert np.abs(better).max() <= WEIGHT_LIMIT
    exact = inputs @ weight.reshape(8, -1).T
    errors = [np.square(inputs @ (w.reshape(8, -1).T * steps) - exact).mean() for w in (nearest, better)]
    assert errors[1] < 0.3 * errors[0]


@torch.no_grad()
def test_kernels_see_what_is_multiplied(network: CausalResNet) -> None:
    conv = fold(network).stem.conv
    x = torch.rand(1, 1, 40, 70)
    out = functional.conv2d(x, conv.weight, stride=conv.stride)
    seen = inputs_of(x, conv)
    products = seen @ conv.weight.flatten(1).double().numpy().T
    np.testing.assert_allclose(np.sort(products[:, 0]), np.sort(out[0, 0].flatten().numpy()), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_drift_by_layer_names_the_layer_whose_scale_is_coarse(network: CausalResNet, clips: list[FloatArray]) -> None:
    folded = fold(network)
    scales = _scales(folded, clips)
    coarse = scales["block_3.first"]
    scales["block_3.first"] = Scale(coarse.step * 20, coarse.zero)
    found = by_layer(folded, scales, [whole_hops(clip) for clip in clips[:2]])
    assert [drift.name for drift in found[:3]] == ["all"] * 3
    assert (found[3].name, found[3].part) == ("block_3.first", "activations")
    assert len(found) == 3 + 29 + 20


def test_drift_is_zero_for_the_same_and_known_for_a_shift() -> None:
    columns = [np.stack((np.arange(20.0), np.zeros(20)), axis=1).astype(np.float32)]
    assert measure_drift(columns, columns) == Drift(0.0, 0.0)
    shifted = [columns[0] + np.array([1.0, 0.0], np.float32)]
    drift = measure_drift(columns, shifted)
    assert drift.column == pytest.approx(100 / np.std(np.arange(20.0)))
    assert drift.window == pytest.approx(100 / np.std(np.arange(12.0)))


def _scales(folded: CausalResNet, clips: list[FloatArray]) -> dict[str, Scale]:
    return choose_scales(observe(folded, [whole_hops(clip) for clip in clips]), CALIBRATORS["minmax"])
