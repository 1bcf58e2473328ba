"""Fitting the head of the network that hears single frequencies, and weighing both networks."""

from __future__ import annotations

import importlib.util
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from streamdet.features import FrontEnd, FrontEndConfig
from tests.conftest import randomise
from tests.trainer import corpus
from trainer import fuse as fusing
from trainer.cli import app
from trainer.data.errors import DataError
from trainer.data.fresh import Fresh
from trainer.data.manifest import read_manifest
from trainer.fuse import (
    EVERY,
    EXPONENT,
    FuseConfig,
    Lessons,
    Member,
    Pieces,
    chances,
    draw,
    examples,
    fit_head,
    fresh_spectral,
    hear,
    weigh,
)
from trainer.metrics import auc
from trainer.models.fused import FusedNet
from trainer.models.load import load_network
from trainer.models.resnet import CausalResNet, Timeline
from trainer.models.spectral import SpectralNet
from trainer.place import Place
from trainer.validation import Validation

MISSING = [name for name in ("distillmos", "speechmos") if importlib.util.find_spec(name) is None]
needs_weights = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
BOTH = FrontEndConfig(mels=32, bands="linear", spectrum=True, powers=True)
HEARS = ("phase", "power")
CPU = Place(torch.device("cpu"))
SMALL = FuseConfig(pieces=48, columns=4, window=2, units=12, members=2, hidden=8, steps=80, batch=32)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.make(tmp_path_factory.mktemp("fuse") / "corpus")


@pytest.fixture(scope="module")
def store(manifest: Path) -> Fresh:
    fresh = Fresh(read_manifest(manifest, "train"), None, BOTH)
    fresh.check()
    return fresh


@pytest.fixture
def both() -> FusedNet:
    torch.manual_seed(3)
    spectral = SpectralNet(SMALL.members * SMALL.hidden, HEARS, SMALL.members * SMALL.units)
    network = FusedNet(randomise(CausalResNet(0.125, mels=32)), spectral)
    for stack in network.spectral.each():
        for layer in stack.layers:
            torch.nn.init.kaiming_normal_(layer.conv.weight, a=0.1)
    return network.eval()


def lessons_of(both: FusedNet, store: Fresh, folder: Path, config: FuseConfig = SMALL) -> Lessons:
    pieces = Pieces(draw(store, config), None, BOTH, columns=config.columns, seed=config.seed)
    return hear(both, pieces, FrontEnd(BOTH), folder, place=CPU)


def test_draws_are_of_all_clips_in_turn_and_repeatable(store: Fresh) -> None:
    clips = draw(store, SMALL)
    assert len(clips) == SMALL.pieces
    number = len({entry.clip for entry in store.entries})
    times = Counter(clip.id for clip in clips)
    assert set(times.values()) <= {SMALL.pieces // number, -(-SMALL.pieces // number)}
    assert [c.id for c in clips] == [c.id for c in draw(store, SMALL)]
    assert [c.id for c in clips] != [c.id for c in draw(store, replace(SMALL, seed=1))]


def test_pieces_of_one_class_alone_are_an_error(store: Fresh) -> None:
    with pytest.raises(DataError, match="give more --pieces"):
        draw(store, replace(SMALL, pieces=1))


def test_both_classes_are_learnt_from_alike_and_large_sources_less_than_their_size(store: Fresh) -> None:
    (few, *_), many = ([c for c in store.clips.values() if c.label == label] for label in (0, 1))
    clips = [*[few] * 3, *[replace(many[0], family="large")] * 90, *[replace(many[0], family="small")] * 10]
    share = chances(clips)
    assert share[:3].sum() == pytest.approx(0.5)
    assert share[93:].sum() / share[3:93].sum() == pytest.approx((10 / 90) ** EXPONENT)


def test_one_class_is_not_enough(manifest: Path) -> None:
    human = Fresh([c for c in read_manifest(manifest, "train") if c.label == 0], None, BOTH)
    with pytest.raises(DataError, match="human and synthetic"):
        draw(human, SMALL)


def test_what_is_heard_is_what_the_network_makes_of_the_pieces(both: FusedNet, store: Fresh, tmp_path: Path) -> None:
    pieces = Pieces(draw(store, SMALL), None, BOTH, columns=SMALL.columns, seed=0)
    heard = hear(both, pieces, FrontEnd(BOTH), tmp_path, place=CPU)
    np.testing.assert_array_equal(heard.labels, [clip.label for clip in pieces.clips])
    samples, count = pieces[5]
    assert heard.counts[5] == count
    features = torch.from_numpy(FrontEnd(BOTH).whole(samples)[None, :, BOTH.mels :])
    with torch.no_grad():
        wanted = both.spectral.outputs(features, Timeline(None))
    for outputs, want in zip(heard.outputs, wanted, strict=True):
        assert len(outputs) == SMALL.pieces
        np.testing.assert_allclose(outputs[5], want[0, :, ::EVERY].numpy(), rtol=2e-3, atol=2e-3)


def test_a_worker_makes_the_same_pieces(both: FusedNet, store: Fresh, tmp_path: Path) -> None:
    pieces = Pieces(draw(store, SMALL)[:20], None, BOTH, columns=SMALL.columns, seed=0)
    folders = [tmp_path / str(number) for number in (0, 1)]
    for folder in folders:
        folder.mkdir()
    alone, beside = (hear(both, pieces, FrontEnd(BOTH), folders[n], place=CPU, workers=n) for n in (0, 1))
    for one, other in zip(alone.outputs, beside.outputs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_examples_are_of_columns_that_are_sound(both: FusedNet, store: Fresh, tmp_path: Path) -> None:
    heard = lessons_of(both, store, tmp_path)
    heard.counts[0] = 2
    parts, sound = examples(heard, np.zeros(20, np.intp), 3, np.random.default_rng(0))
    frames = heard.outputs[0].shape[2]
    for part, outputs in zip(parts, heard.outputs, strict=True):
        want = torch.from_numpy(np.array(outputs[0, :2])).flatten(0, 1).float()
        torch.testing.assert_close(part[:, : 2 * frames], want.expand(20, -1, -1))
    assert sound[:, : 2 * frames].all()
    assert not sound[:, 2 * frames :].any()


def test_what_does_not_fit_on_the_disk_is_said_before(both: FusedNet, store: Fresh, tmp_path: Path) -> None:
    pieces = Pieces(draw(store, SMALL) * 10_000_000, None, BOTH, columns=SMALL.columns, seed=0)
    with pytest.raises(DataError, match="fewer --pieces"):
        hear(both, pieces, FrontEnd(BOTH), tmp_path, place=CPU)


@torch.no_grad()
def scores_of(both: FusedNet, heard: Lessons) -> Tensor:
    """Log-odds by the joined network, of the frames that members hear."""
    means = []
    for stack, outputs in zip(both.spectral.each(), heard.outputs, strict=True):
        said = torch.relu(stack.units(torch.from_numpy(np.array(outputs)).flatten(1, 2).float()))
        means += [said.mean(1), said.square().mean(1)]
    return both.spectral.decide(both.spectral.normalised(both.spectral.moments_of(torch.cat(means, dim=1))))


def test_units_and_head_learn_what_can_be_told_and_the_same_again(both: FusedNet, store: Fresh, tmp_path: Path) -> None:
    heard = lessons_of(both, store, tmp_path)
    heard.counts[:] = SMALL.columns
    before = both.spectral.each()[0].layers[0].conv.weight.clone()
    fit_head(both.spectral, heard, SMALL, CPU)
    assert auc(scores_of(both, heard).double().numpy(), heard.labels.astype(np.float64)) > 0.9
    torch.testing.assert_close(both.spectral.each()[0].layers[0].conv.weight, before)
    once = both.spectral.head.weight.clone()
    fit_head(both.spectral, heard, SMALL, CPU)
    torch.testing.assert_close(both.spectral.head.weight, once)


@torch.no_grad()
def test_the_joined_network_is_the_mean_of_its_members(both: FusedNet, store: Fresh, tmp_path: Path) -> None:
    heard = lessons_of(both, store, tmp_path)
    torch.manual_seed(5)
    members = []
    for outputs in heard.outputs:
        flat = torch.from_numpy(np.array(outputs)).flatten(0, 2).float()
        members.append([Member((flat.mean(0), flat.std(0) + 0.1), SMALL) for _ in range(SMALL.members)])
    for member in (one for ours in members for one in ours):
        member.normalise.running_mean.uniform_(0, 1)
        member.normalise.running_var.uniform_(0.5, 2)
        member.eval()
    fusing.join(both.spectral, members)
    sound = torch.ones(len(heard.labels), heard.outputs[0][0, :, :, 0].size)
    said = [
        member(member.moments(torch.from_numpy(np.array(outputs)).flatten(1, 2).float(), sound, CPU))
        for ours, outputs in zip(members, heard.outputs, strict=True)
        for member in ours
    ]
    torch.testing.assert_close(scores_of(both, heard), torch.stack(said).mean(0), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_shares_bring_both_to_one_deviation(both: FusedNet, manifest: Path) -> None:
    val = Validation(read_manifest(manifest, "val"), BOTH)
    figures = weigh(both, val, 0.25, CPU)
    fused = val.scores(both)
    assert fused.mean() == pytest.approx(0.0, abs=1e-4)
    assert figures.fused == pytest.approx(val.judged(fused))
    both.shares.copy_(torch.tensor([both.shares[0], 0.0, 0.0]))
    assert val.scores(both).std() == pytest.approx(0.75, rel=1e-3)


@needs_weights
def test_the_command_writes_a_checkpoint_that_export_takes(manifest: Path, tmp_path: Path) -> None:
    resnet, out = tmp_path / "resnet.pt", tmp_path / "fused.pt"
    front_end = replace(BOTH, spectrum=False, powers=False)
    torch.manual_seed(4)
    torch.save({**randomise(CausalResNet(0.125, mels=32)).checkpoint(), "front_end": front_end.to_dict()}, resnet)
    options = ["--pieces", "64", "--steps", "20", "--members", "2", "--hidden", "4", "--workers", "0", "--amp", "off"]
    options += ["--units", "8"]
    result = CliRunner().invoke(app, ["fuse", str(resnet), str(manifest), *options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "fused" in result.output
    network = load_network(out)
    assert isinstance(network, FusedNet)
    assert network.shares[0] > 0
    model = tmp_path / "model.onnx"
    result = CliRunner().invoke(app, ["export", str(out), str(manifest), "--clips", "8", "--out", str(model)])
    assert result.exit_code == 0, result.output
    card = model.with_suffix(".md").read_text(encoding="utf-8")
    assert "Distill-MOS" in card
    assert "PLCMOS" in card  # .with_suffix(".md").read_text(encoding="utf-8")


@needs_weights
@pytest.mark.parametrize(("name", "layers"), [("phase", 6), ("power", 3)])
def test_one_of_both_can_be_heard_alone(name: str, layers: int) -> None:
    network = fresh_spectral((name,), SMALL)
    (stack,) = network.each()
    assert len(stack.layers) == layers
    assert network.head.in_features == SMALL.members * SMALL.hidden
    fresh = SpectralNet(4, (name,)).each()[0]
    for layer, other in zip(stack.layers, fresh.layers, strict=True):
        assert not torch.allclose(layer.conv.weight, other.conv.weight)


@needs_weights
def test_without_clips_to_weigh_by_it_says_so_before_it_listens(
    manifest: Path, checkpoint: Path, tmp_path: Path
) -> None:
    alone = manifest.with_name("train-only.csv")
    alone.write_text(manifest.read_text(encoding="utf-8").replace(",val,", ",train,"), encoding="utf-8")
    result = CliRunner().invoke(app, ["fuse", str(checkpoint), str(alone), "--out", str(tmp_path / "f.pt")])
    assert isinstance(result.exception, DataError)
    assert "split val weigh" in str(result.exception)
    assert "hearing" not in result.output


@pytest.mark.parametrize(("hear", "package"), [("phase", "distillmos"), ("power", "speechmos")])
def test_without_the_weights_it_says_how_to_get_them(
    hear: str, package: str, manifest: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    options = ["--hear", hear, "--out", str(tmp_path / "f.pt")]
    result = CliRunner().invoke(app, ["fuse", str(checkpoint), str(manifest), *options])
    assert result.exit_code != 0
    assert f"{package} is not installed" in f"{result.output}{result.exception}"
