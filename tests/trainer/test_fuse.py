"""Fitting the head of the network that hears single frequencies, and weighing both networks."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from streamdet.features import FrontEnd, FrontEndConfig
from tests.conftest import randomise
from tests.trainer import corpus
from trainer.cli import app
from trainer.data.errors import DataError
from trainer.data.fresh import Fresh
from trainer.data.manifest import read_manifest
from trainer.fuse import FuseConfig, Lessons, Pieces, draw, examples, find_axes, fit_head, fresh_spectral, hear, weigh
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
SMALL = FuseConfig(pieces=48, columns=4, window=2, components=5, members=2, hidden=8, steps=60, batch=32)


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
    spectral = SpectralNet(SMALL.members * SMALL.hidden, HEARS, SMALL.components)
    network = FusedNet(randomise(CausalResNet(0.125, mels=32)), spectral)
    for stack in network.spectral.each():
        for layer in stack.layers:
            torch.nn.init.kaiming_normal_(layer.conv.weight, a=0.1)
    return network.eval()


def lessons_of(both: FusedNet, store: Fresh, config: FuseConfig = SMALL) -> Lessons:
    pieces = Pieces(draw(store, config), None, BOTH, columns=config.columns, seed=config.seed)
    find_axes(both, pieces, FrontEnd(BOTH), place=CPU)
    return hear(both, pieces, FrontEnd(BOTH), place=CPU)


def test_draws_are_of_both_classes_alike_and_repeatable(store: Fresh) -> None:
    clips = draw(store, SMALL)
    assert len(clips) == SMALL.pieces
    assert sum(clip.label for clip in clips) == SMALL.pieces // 2
    assert [c.id for c in clips] == [c.id for c in draw(store, SMALL)]
    assert [c.id for c in clips] != [c.id for c in draw(store, replace(SMALL, seed=1))]


def test_one_class_is_not_enough(manifest: Path) -> None:
    human = Fresh([c for c in read_manifest(manifest, "train") if c.label == 0], None, BOTH)
    with pytest.raises(DataError, match="human and synthetic"):
        draw(human, SMALL)


def test_what_is_heard_is_what_the_network_makes_of_the_pieces(both: FusedNet, store: Fresh) -> None:
    pieces = Pieces(draw(store, SMALL), None, BOTH, columns=SMALL.columns, seed=0)
    heard = hear(both, pieces, FrontEnd(BOTH), place=CPU)
    assert heard.columns.shape == (SMALL.pieces, SMALL.columns, both.spectral.numbers)
    np.testing.assert_array_equal(heard.labels, [clip.label for clip in pieces.clips])
    samples, count = pieces[5]
    features = torch.from_numpy(FrontEnd(BOTH).whole(samples)[None, :, BOTH.mels :])
    with torch.no_grad():
        wanted = both.spectral.columns(features, Timeline(None))[0].numpy()
    assert heard.counts[5] == count
    np.testing.assert_allclose(heard.columns[5], wanted, rtol=2e-3, atol=2e-3)


def test_a_worker_makes_the_same_pieces(both: FusedNet, store: Fresh) -> None:
    pieces = Pieces(draw(store, SMALL)[:20], None, BOTH, columns=SMALL.columns, seed=0)
    alone, beside = (hear(both, pieces, FrontEnd(BOTH), place=CPU, workers=n) for n in (0, 1))
    np.testing.assert_array_equal(alone.columns, beside.columns)


def test_examples_are_moments_of_columns_that_are_sound(both: FusedNet, store: Fresh) -> None:
    heard = lessons_of(both, store)
    heard.columns[:, 2:] = np.nan
    one = Lessons(heard.columns[:1], np.array([2]), heard.labels[:1])
    got = examples(both.spectral, one, np.zeros(20, np.intp), 2, np.random.default_rng(0))
    mean = torch.from_numpy(one.columns[0, :2].astype(np.float32).mean(axis=0))
    torch.testing.assert_close(got, both.spectral.moments_of(mean).expand(20, -1))
    assert got.isfinite().all()


@torch.no_grad()
def test_components_of_what_is_heard_are_uncorrelated_and_of_deviation_one(both: FusedNet, store: Fresh) -> None:
    pieces = Pieces(draw(store, SMALL), None, BOTH, columns=SMALL.columns, seed=0)
    find_axes(both, pieces, FrontEnd(BOTH), place=CPU)
    samples = np.stack([pieces[number][0] for number in range(len(pieces))])
    features = torch.from_numpy(FrontEnd(BOTH)(samples, FrontEnd(BOTH).start(len(samples)))[0])
    for stack, frames in zip(
        both.spectral.each(), both.spectral.outputs(features[:, :, BOTH.mels :], Timeline(None)), strict=True
    ):
        z = (frames.flatten(0, 2) - stack.middle) @ stack.axes
        torch.testing.assert_close(torch.cov(z.T), torch.eye(SMALL.components), atol=0.3, rtol=0.0)


def test_more_components_than_outputs_is_an_error() -> None:
    (stack,) = SpectralNet(4, ("power",), 9).each()
    with pytest.raises(ValueError, match="9 components of 8 outputs"):
        stack.find_axes(torch.zeros(8, stack.outputs))


def test_the_head_learns_what_can_be_told_and_the_same_again(both: FusedNet, store: Fresh) -> None:
    heard = lessons_of(both, store)
    before = both.spectral.each()[0].layers[0].conv.weight.clone()
    fit_head(both.spectral, heard, SMALL)
    rows = np.arange(len(heard.counts))
    moments = both.spectral.normalised(examples(both.spectral, heard, rows, 2, np.random.default_rng(1)))
    with torch.no_grad():
        scores = both.spectral.decide(moments).double().numpy()
    assert auc(scores, heard.labels.astype(np.float64)) > 0.9
    torch.testing.assert_close(both.spectral.each()[0].layers[0].conv.weight, before)
    once = both.spectral.head.weight.clone()
    fit_head(both.spectral, heard, SMALL)
    torch.testing.assert_close(both.spectral.head.weight, once)


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
    options += ["--components", "0"]
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
