from __future__ import annotations

import csv
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainer import corpus
from trainer.data.build import Builder
from trainer.data.cache import FeatureCache
from trainer.data.errors import DataError
from trainer.data.manifest import read_manifest
from trainer.fit import FitConfig, Progress, Task, fit, schedule
from trainer.losses import contrastive_loss, window_loss
from trainer.models.resnet import CausalResNet
from trainer.validation import Validation, limited

CONFIG = FitConfig(width=0.125, batch=8, steps=30, rate=3e-3, evaluate_steps=10, shortest=64, longest=96, amp="off")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.make(tmp_path_factory.mktemp("fit") / "corpus")


@pytest.fixture(scope="module")
def cache(manifest: Path) -> Path:
    store = FeatureCache(manifest.parent / "cache")
    Builder(store, None).variant(read_manifest(manifest, "train"), 0)
    return store.folder


def train(task: Task) -> list[Progress]:
    states: list[Progress] = []
    fit(task, states.append)
    return states


def weights(path: Path) -> dict[str, torch.Tensor]:
    stored: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["weights"]
    return stored


def assert_same(one: Path, two: Path) -> None:
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(two)[name], rtol=0, atol=0)


def test_training_learns_unseen_clips_and_writes_its_files(manifest: Path, cache: Path, tmp_path: Path) -> None:
    states = train(Task(CONFIG, cache, tmp_path, read_manifest(manifest, "val")))
    assert [s.step for s in states] == [10, 20, 30]
    assert states[-1].loss < 0.95 * states[0].loss
    assert states[-1].val["auc"] > 0.9
    with (tmp_path / "log.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["auc"]) for r in rows] == [s.val["auc"] for s in states]
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["figures"]["group_eer"] == min(s.val["group_eer"] for s in states)
    assert CausalResNet.from_checkpoint(tmp_path / "average.pt").settings["width"] == 0.125


def test_seed_repeats_a_run_and_another_seed_does_not(cache: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=4, dropout=0.3)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(Task(replace(config, seed=seed), cache, tmp_path / name))
    assert_same(tmp_path / "a" / "last.pt", tmp_path / "b" / "last.pt")
    a, c = weights(tmp_path / "a" / "last.pt"), weights(tmp_path / "c" / "last.pt")
    assert not torch.equal(a["head.weight"], c["head.weight"])


class KilledError(Exception):
    """Stands for the kill of a process."""


def test_resumed_run_equals_the_uninterrupted_one(cache: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=12, evaluate_steps=6, dropout=0.3)
    train(Task(config, cache, tmp_path / "whole"))

    def kill(_: Progress) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        fit(Task(config, cache, tmp_path / "halves"), kill)
    assert [s.step for s in train(Task(config, cache, tmp_path / "halves"))] == [12]
    for name in ("last.pt", "average.pt"):
        assert_same(tmp_path / "whole" / name, tmp_path / "halves" / name)


def test_two_processes_agree_and_learn(manifest: Path, cache: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, processes=2, steps=6, evaluate_steps=3)
    fit(Task(config, cache, tmp_path, read_manifest(manifest, "val")), print)
    stored = torch.load(tmp_path / "last.pt", weights_only=True)
    assert stored["step"] == 6
    assert all(torch.isfinite(t).all() for t in stored["weights"].values())


def test_folder_of_another_network_is_refused(cache: Path, tmp_path: Path) -> None:
    train(Task(replace(CONFIG, steps=1), cache, tmp_path))
    with pytest.raises(DataError, match="another network"):
        train(Task(replace(CONFIG, steps=1, width=0.25), cache, tmp_path))


def test_cache_of_one_class_is_refused(manifest: Path, tmp_path: Path) -> None:
    store = FeatureCache(tmp_path / "cache")
    Builder(store, None).variant([c for c in read_manifest(manifest) if c.label == 0], 0)
    with pytest.raises(DataError, match="needs human and synthetic clips"):
        train(Task(CONFIG, store.folder, tmp_path))


def test_schedule_rises_then_falls_to_nearly_nothing() -> None:
    values = [schedule(share) for share in np.linspace(0.0, 1.0, 101)]
    assert max(values) == pytest.approx(1.0, abs=0.02)
    assert values.index(max(values)) <= 5
    assert values[-1] < 0.01
    assert all(b <= a for a, b in pairwise(values[5:]))


def test_window_loss_ignores_masked_columns() -> None:
    columns = torch.tensor([[[2.0, 0.0], [-50.0, 3.0]]])
    mask, labels = torch.tensor([[True, False]]), torch.tensor([1.0])
    loss = window_loss(columns, mask, labels, smoothing=0.0, column_share=0.5)
    assert float(loss) == pytest.approx(1.5 * np.log1p(np.exp(-2.0)), rel=1e-5)


def test_contrastive_loss_prefers_classes_apart() -> None:
    mask, labels = torch.ones(4, 1, dtype=torch.bool), torch.tensor([0.0, 0.0, 1.0, 1.0])
    apart = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])[:, None]
    crossed = apart[[0, 2, 1, 3]]
    assert contrastive_loss(apart, mask, labels) < contrastive_loss(crossed, mask, labels)


def test_validation_uses_few_clips_of_large_strata_and_all_of_small_ones(manifest: Path) -> None:
    clips = read_manifest(manifest)
    many = clips[:1] * 100 + clips[1:2]
    assert len(limited(many, 10)) == 11
    assert limited(clips, 100) != []
    assert {c.id for c in limited(clips, 100)} == {c.id for c in clips}


def test_validation_scores_do_not_depend_on_the_company_in_a_batch(manifest: Path) -> None:
    network = CausalResNet(0.125).eval()
    torch.nn.init.normal_(network.head.weight)
    validation = Validation(read_manifest(manifest, "val"), FeatureCache(manifest.parent / "cache").config)
    np.testing.assert_allclose(validation.scores(network, batch=2), validation.scores(network, batch=8), atol=1e-5)
