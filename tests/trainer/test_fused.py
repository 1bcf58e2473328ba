"""The network that hears single frequencies, and both networks in one: in torch, and as exported graphs."""

from __future__ import annotations

import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from streamdet.engine.base import Slots
from streamdet.engine.modelfile import ModelInfo
from streamdet.engine.onnx import OnnxEngine
from streamdet.engine.pooled import pooled_network
from streamdet.errors import ModelError
from streamdet.features import FrontEndConfig
from streamdet.features.logmel import FloatArray
from tests.conftest import features_of_noise, randomise
from trainer.export import ExportReport, export_model, reference_columns, streamed_columns, whole_hops
from trainer.models.fused import FusedNet
from trainer.models.load import load_network
from trainer.models.resnet import CausalResNet, Timeline
from trainer.models.spectral import LEAST, MEMORY, SpectralNet

BOTH = FrontEndConfig(mels=32, bands="linear", spectrum=True, powers=True)
HEARS = ("phase", "power")


@pytest.fixture(scope="module")
def fused() -> FusedNet:
    torch.manual_seed(9)
    network = FusedNet(randomise(CausalResNet(0.125, mels=32)), SpectralNet(8, HEARS, 6))
    for stack in network.spectral.each():  # so that activations neither die nor explode
        for layer in stack.layers:
            torch.nn.init.kaiming_normal_(layer.conv.weight, a=0.1)
    clip = torch.from_numpy(features_of_noise(BOTH)[0][None, :224, 32:])
    with torch.no_grad():
        columns = network.spectral.columns(clip, Timeline(None))
        network.spectral.centre.copy_(network.spectral.moments_of(columns.mean(dim=(0, 1))))
        network.spectral.spread.copy_(network.spectral.centre.abs() * 0.3 + 0.1)
    torch.nn.init.normal_(network.spectral.head.weight, std=3.0)
    network.shares.copy_(torch.tensor([0.7, 1.2, -0.3]))
    return network.eval()


@pytest.fixture(scope="module")
def noises() -> list[FloatArray]:
    return [whole_hops(clip) for clip in features_of_noise(BOTH)]


@pytest.fixture(scope="module")
def saved(fused: FusedNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fused") / "fused.pt"
    torch.save({**fused.checkpoint(), "front_end": BOTH.to_dict()}, path)
    return path


@pytest.fixture(scope="module")
def models(saved: Path, noises: list[FloatArray]) -> dict[str, ExportReport]:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    points = {"default": {"raise": 0.9, "clear": 0.5}}
    meta = ModelInfo("fused", now, 1.0, "", front_end=BOTH, operating_points=points)
    names = ("fp32", "int8", "fp16", "qdq")
    return {name: export_model(saved, saved.with_name(f"{name}.onnx"), name, noises, meta) for name in names}


@pytest.mark.parametrize("cuts", [[32] * 7, [64, 96, 64], [192, 32]])
def test_chunked_equals_whole(fused: FusedNet, noises: list[FloatArray], cuts: list[int]) -> None:
    exact = fused.double()
    features = torch.from_numpy(noises[0][None, :224]).double()
    states, parts = exact.initial_states(1), []
    for begin, end in pairwise(np.cumsum([0, *cuts]).tolist()):
        columns, states = exact.stream(features[:, begin:end], states)
        parts.append(columns)
    torch.testing.assert_close(torch.cat(parts, dim=1), exact(features)[0], rtol=1e-4, atol=1e-5)
    fused.float()


@torch.no_grad()
def test_the_future_does_not_change_the_past(fused: FusedNet, noises: list[FloatArray]) -> None:
    features = torch.from_numpy(noises[1][None, :160])
    changed = features.clone()
    changed[:, 96:] = torch.randn_like(changed[:, 96:])
    before, after = fused(features)[0], fused(changed)[0]
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert not torch.allclose(after[:, 3:], before[:, 3:])


@torch.no_grad()
def test_columns_are_the_sum_of_both_with_the_attention_of_one(fused: FusedNet, noises: list[FloatArray]) -> None:
    features = torch.from_numpy(noises[2][None])
    one, _ = fused.resnet(features[:, :, :32])
    other = fused.spectral(features[:, :, 32:], Timeline(None))
    columns, _ = fused(features)
    torch.testing.assert_close(columns[:, :, 0], 0.7 * one[:, :, 0] + 1.2 * other - 0.3)
    torch.testing.assert_close(columns[:, :, 1], one[:, :, 1])


@torch.no_grad()
def test_moments_are_over_the_last_columns_and_no_more_than_there_were() -> None:
    network = SpectralNet(4, HEARS, 3)
    columns = torch.rand(1, MEMORY + 3, network.numbers)
    got = network.moments(columns, Timeline(None))[0]
    for number in range(MEMORY + 3):
        wanted = network.moments_of(columns[0, max(0, number - MEMORY + 1) : number + 1].mean(dim=0))
        torch.testing.assert_close(got[number], wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", HEARS)
def test_moments_are_those_of_the_frames(name: str) -> None:
    torch.manual_seed(6)
    network = SpectralNet(4, (name,), 7)
    (stack,) = network.each()
    features = torch.randn(1, 96, stack.values)
    said = torch.relu(stack.units(stack.hear(features, Timeline(None)).flatten(0, 2))).double()
    got = network.moments_of(network.columns(features, Timeline(None))[0].mean(dim=0)).double()
    wanted = torch.cat((said.mean(0), said.var(0, correction=0).clamp(min=LEAST).sqrt()))
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_the_whole_network_hears_a_turned_phase() -> None:
    torch.manual_seed(1)
    network = SpectralNet(4, ("phase",))
    x = torch.randn(1, 64, 322)
    turned = torch.cat((-x[:, :, 161:], x[:, :, :161]), dim=2)  # by 90 degrees: the same magnitudes
    same = network.columns(x, Timeline(None)), network.columns(turned, Timeline(None))
    assert not torch.allclose(*same, rtol=1e-2)


@torch.no_grad()
def test_each_stack_hears_its_part_of_the_features_alone() -> None:
    torch.manual_seed(2)
    network = SpectralNet(4, HEARS)
    x = torch.randn(1, 64, 322 + 257)
    phase, _ = (stack.numbers for stack in network.each())
    before = network.columns(x, Timeline(None))[0]
    for changed, same, other in (
        (np.s_[:322], np.s_[phase:], np.s_[:phase]),
        (np.s_[322:], np.s_[:phase], np.s_[phase:]),
    ):
        turned = x.clone()
        turned[:, :, changed] = torch.randn_like(turned[:, :, changed])
        after = network.columns(turned, Timeline(None))[0]
        torch.testing.assert_close(after[:, same], before[:, same])
        assert (after[:, other] - before[:, other]).abs().mean() > 0.01 * before[:, other].abs().mean()


@torch.no_grad()
def test_powers_are_convolved_as_written_down() -> None:
    torch.manual_seed(5)
    (stack,) = SpectralNet(4, ("power",)).each()
    features = torch.randn(1, 96, 257)
    x = features[:, 1::2].unsqueeze(1)
    for layer in stack.layers:
        conv = layer.conv
        x = torch.nn.functional.pad(x, (1, 1, 4, 0))
        x = torch.nn.functional.conv2d(x, conv.weight, conv.bias, dilation=(2, 1))
        x = torch.nn.functional.max_pool2d(torch.nn.functional.leaky_relu(x, 0.1), (1, 4))
    outputs = x[0].permute(1, 0, 2).reshape(3, 16, 128 * 4)
    got = stack.hear(features, Timeline(None))[0]
    torch.testing.assert_close(got, outputs, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_gives_the_same_network(fused: FusedNet, saved: Path, noises: list[FloatArray]) -> None:
    again = load_network(saved)
    assert isinstance(again, FusedNet)
    assert again.settings == fused.settings
    np.testing.assert_array_equal(reference_columns(again, noises[0]), reference_columns(fused, noises[0]))


def test_a_checkpoint_of_one_network_stays_one(checkpoint: Path) -> None:
    assert isinstance(load_network(checkpoint), CausalResNet)


def test_a_checkpoint_that_lacks_a_part_is_refused(saved: Path, tmp_path: Path) -> None:
    stored = torch.load(saved, weights_only=True)
    del stored["weights"]["spectral.head.bias"]
    torch.save(stored, tmp_path / "part.pt")
    with pytest.raises(ModelError, match="cannot read the checkpoint"):
        load_network(tmp_path / "part.pt")


@pytest.mark.parametrize(("precision", "percent", "tolerance"), [("fp32", 0.01, 1e-3), ("fp16", 1.0, 0.05)])
def test_exact_graphs_equal_torch(
    fused: FusedNet,
    models: dict[str, ExportReport],
    noises: list[FloatArray],
    precision: str,
    percent: float,
    tolerance: float,
) -> None:
    assert models[precision].drift["none"].column < percent
    for columns, clip in zip(streamed_columns(models[precision].path, noises[:3]), noises[:3], strict=True):
        np.testing.assert_allclose(columns, reference_columns(fused, clip), rtol=tolerance, atol=tolerance)


def test_integers_stay_close_from_the_first_column_on(
    fused: FusedNet, models: dict[str, ExportReport], noises: list[FloatArray]
) -> None:
    got = streamed_columns(models["int8"].path, noises)
    wanted = [reference_columns(fused, clip) for clip in noises]
    for part in (np.s_[:1], np.s_[1:]):  # the first column is heard with what stands for no past
        ours, theirs = (np.concatenate([columns[part, 0] for columns in side]) for side in (got, wanted))
        assert np.corrcoef(ours, theirs)[0, 1] > 0.98
        assert np.abs(ours - theirs).mean() < 0.15 * theirs.std()


def test_a_batch_gives_each_stream_what_it_gets_alone(
    models: dict[str, ExportReport], noises: list[FloatArray]
) -> None:
    together = streamed_columns(models["int8"].path, noises)
    for clip, columns in zip(noises, together, strict=True):
        (alone,) = streamed_columns(models["int8"].path, [clip])
        np.testing.assert_array_equal(alone, columns)


@pytest.mark.parametrize(("most", "calls"), [(32, [8, 8, 3]), (5, [5, 5, 5, 4])])
def test_no_call_takes_more_streams_than_is_fast(
    models: dict[str, ExportReport],
    noises: list[FloatArray],
    most: int,
    calls: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = OnnxEngine(models["int8"].path, max_batch=most)
    step, seen = engine._step, []

    def counted(slots: Slots, features: FloatArray) -> FloatArray:
        seen.append(len(slots))
        return step(slots, features)

    monkeypatch.setattr(engine, "_step", counted)
    slots = np.array([engine.allocate() for _ in range(19)], np.intp)
    engine.step(slots, np.repeat(noises[0][None, :32], 19, axis=0))
    assert seen == calls


def test_a_slot_that_is_reset_begins_anew(models: dict[str, ExportReport], noises: list[FloatArray]) -> None:
    engine = OnnxEngine(models["int8"].path)
    slot = np.array([engine.allocate()], np.intp)
    first = [engine.step(slot, noises[0][None, at : at + 32]) for at in range(0, 128, 32)]
    engine.reset(0)
    again = [engine.step(slot, noises[0][None, at : at + 32]) for at in range(0, 128, 32)]
    np.testing.assert_array_equal(first, again)


def test_the_graph_for_tensorrt_keeps_its_states_in_pools(models: dict[str, ExportReport]) -> None:
    graph = onnx.load_from_string(pooled_network(models["fp16"].path.read_bytes())).graph
    pools = [entry.name for entry in graph.input if entry.name.startswith("pool_")]
    assert len(pools) == len(load_network(models["fp16"].path.with_name("fused.pt")).state_shapes())


def test_a_model_file_of_it_says_which_features_it_hears(models: dict[str, ExportReport]) -> None:
    assert models["int8"].info.front_end == BOTH


def test_features_are_made_for_both(noises: list[FloatArray]) -> None:
    clip: Tensor = torch.from_numpy(noises[0])
    assert clip.shape[1] == BOTH.values == 32 + 2 * 161 + 257
