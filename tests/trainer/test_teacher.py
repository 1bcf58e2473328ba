from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from streamdet.errors import DependencyError
from tests.trainer import corpus
from tests.trainer.test_fit import CONFIG, train
from trainer.cli import app
from trainer.data.batches import Cropper
from trainer.data.build import Builder
from trainer.data.cache import FeatureCache
from trainer.data.errors import DataError
from trainer.data.feed import Feed, Selection
from trainer.data.manifest import Clip, read_manifest
from trainer.fit import Task
from trainer.losses import imitation_loss, softened
from trainer.metrics import auc
from trainer.models.pupil import Pupil
from trainer.models.resnet import CausalResNet, pool
from trainer.shape import FrameAugment
from trainer.teacher import RATE, SAMPLES, Targets, Teacher, describe_clips, judged, piece

INSTALLED = importlib.util.find_spec("distillmos") is not None
needs_teacher = pytest.mark.skipif(not INSTALLED, reason="distillmos, whose weights the teacher has, is not installed")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.make(tmp_path_factory.mktemp("teacher") / "corpus")


@pytest.fixture(scope="module")
def cache(manifest: Path) -> Path:
    store = FeatureCache(manifest.parent / "cache")
    Builder(store, None).variant(read_manifest(manifest, "train"), 0)
    return store.folder


def loud_and_label(clips: list[Clip], path: Path, size: int = 6) -> Path:
    """Targets that a network can find in the sound: the label, under several scales, and numbers it cannot find."""
    rng = np.random.default_rng(0)
    labels = np.array([[c.label] for c in clips], np.float32)
    targets = np.concatenate((labels * np.arange(1, size // 2 + 1), rng.normal(size=(len(clips), size // 2))), axis=1)
    np.savez(path, clips=np.array([c.id for c in clips]), targets=targets.astype(np.float16))
    return path


def test_targets_are_standardised_and_nan_where_nobody_was_asked(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(3.0, 5.0, (40, 7)).astype(np.float16)
    np.savez(tmp_path / "t.npz", clips=np.array([f"c{n}" for n in range(40)]), targets=values)
    targets = Targets(tmp_path / "t.npz")
    assert (len(targets), targets.size) == (40, 7)
    everyone = targets.of([f"c{n}" for n in range(40)])
    np.testing.assert_allclose(everyone.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(everyone.std(0), 1.0, atol=1e-4)
    some = targets.of(["c3", "stranger", "c1"])
    np.testing.assert_array_equal(some[[0, 2]], everyone[[3, 1]])
    assert np.isnan(some[1]).all()


@pytest.mark.parametrize("content", ["text", "empty", "uneven", "nan"])
def test_what_is_not_a_file_of_targets_is_said(tmp_path: Path, content: str) -> None:
    path = tmp_path / "t.npz"
    names, targets = np.array(["a", "b"]), np.zeros((2, 3), np.float16)
    if content == "text":
        path.write_text("clips", encoding="utf-8")
    elif content == "empty":
        np.savez(path, clips=names)
    elif content == "uneven":
        np.savez(path, clips=names, targets=targets[:1])
    else:
        np.savez(path, clips=names, targets=targets * np.nan)
    with pytest.raises(DataError, match=r"t\.npz: not the targets"):
        Targets(path)


def test_imitation_counts_known_rows_only() -> None:
    targets = torch.tensor([[1.0, -1.0], [float("nan")] * 2, [0.0, 2.0]])
    guess = torch.tensor([[1.0, 0.0], [9.0, 9.0], [0.0, 0.0]], requires_grad=True)
    loss = imitation_loss(guess, targets)
    assert float(loss.detach()) == pytest.approx((0.5 + 2.0) / 2)
    loss.backward()
    assert guess.grad is not None
    assert guess.grad[1].abs().max() == 0.0
    assert float(imitation_loss(guess, torch.full((3, 2), float("nan"))).detach()) == 0.0


def test_verdict_takes_its_share_of_a_known_label() -> None:
    labels, verdicts = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.4, 0.5, float("nan")])
    torch.testing.assert_close(softened(labels, verdicts, 0.5), torch.tensor([0.7, 0.25, 1.0]))
    torch.testing.assert_close(softened(labels, verdicts, 0.0), labels)


def described(number: int, source: str, label: int) -> Clip:
    family = f"family {source}" if label else ""
    return Clip(f"c{number}", Path(), label, family=family, source=source)


def test_verdicts_follow_from_the_targets_and_are_judged_on_other_sources() -> None:
    rng = np.random.default_rng(3)
    clips = [described(n, f"s{n % 6}", (n // 6) % 2) for n in range(240)]
    labels = np.array([c.label for c in clips], np.float32)
    telling = labels[:, None] + 0.3 * rng.normal(size=(240, 4)).astype(np.float32)
    verdicts, figure = judged(telling, clips)
    assert auc(verdicts, labels) > 0.99
    assert figure > 0.99
    assert 0.0 < verdicts.min() < verdicts.max() < 1.0
    by_source = np.array([int(c.source[1]) for c in clips])
    shifted = np.eye(6, dtype=np.float32)[by_source] * (2.0 * labels[:, None] - 1.0) * np.array([1, -1, 1, -1, 1, -1])
    learnt, on_others = judged(shifted.astype(np.float32), clips)  # each source gives itself away in a way of its own
    assert auc(learnt, labels) > 0.99
    assert on_others == pytest.approx(0.5)


def test_without_both_classes_or_enough_sources_there_is_no_verdict_or_no_figure() -> None:
    targets = np.random.default_rng(4).normal(size=(12, 3)).astype(np.float32)
    alone, figure = judged(targets, [described(n, f"s{n}", 0) for n in range(12)])
    assert np.isnan(alone).all()
    assert np.isnan(figure)
    verdicts, figure = judged(targets, [described(n, f"s{n % 3}", n % 2) for n in range(12)])
    assert np.isfinite(verdicts).all()
    assert np.isnan(figure)


def test_network_follows_verdicts_where_labels_say_the_opposite(manifest: Path, cache: Path, tmp_path: Path) -> None:
    clips = read_manifest(manifest, "train")
    path = loud_and_label(clips, tmp_path / "t.npz")
    with np.load(path) as stored:
        opposite = np.array([0.02 if c.label else 0.98 for c in clips], np.float32)
        np.savez(path, **stored, verdicts=opposite)
    store = FeatureCache(cache)
    cropper = Cropper(store.config, FrameAugment([], strength=0.0), shortest=96, longest=96)
    for share, follows in ((0.0, False), (1.0, True)):
        out = tmp_path / f"run {share}"
        train(Task(replace(CONFIG, imitation=0.0, verdict=share), cache, out, teacher=path))
        network = CausalResNet.from_checkpoint(out / "last.pt").train()
        feed = Feed(store, cropper, Selection(), size=64, seed=9, targets=Targets(path))
        feed.refresh()
        batch = feed[0]
        with torch.no_grad():
            scores = pool(network(torch.from_numpy(batch.features))[0], torch.from_numpy(batch.mask)).numpy()
        assert (auc(scores, batch.labels) < 0.5) is follows


def test_verdicts_that_are_not_there_are_asked_for(manifest: Path, cache: Path, tmp_path: Path) -> None:
    path = loud_and_label(read_manifest(manifest, "train"), tmp_path / "t.npz")  # as a teacher without verdicts writes
    for teacher, named in ((path, r"t\.npz"), (None, "no teacher")):
        with pytest.raises(DataError, match=f"{named}: holds no verdicts.*trainer data teach"):
            train(Task(replace(CONFIG, verdict=0.5), cache, tmp_path / "run", teacher=teacher))


def test_human_speech_of_one_source_alone_gives_verdicts_without_a_figure() -> None:
    targets = np.random.default_rng(5).normal(size=(60, 3)).astype(np.float32)
    verdicts, figure = judged(targets, [described(n, f"s{n % 6}", int(n % 6 > 0)) for n in range(60)])
    assert np.isfinite(verdicts).all()
    assert np.isnan(figure)


def test_network_learns_what_the_teacher_says_and_leaves_the_head_behind(
    manifest: Path, cache: Path, tmp_path: Path
) -> None:
    clips = read_manifest(manifest, "train")
    path = loud_and_label(clips, tmp_path / "t.npz")
    task = Task(replace(CONFIG, imitation=1.0), cache, tmp_path / "run", read_manifest(manifest, "val"), teacher=path)
    train(task)
    average = torch.load(tmp_path / "run" / "average.pt", weights_only=True)
    assert set(average["weights"]) == set(CausalResNet(0.125).state_dict())
    pupil = Pupil(CausalResNet.from_checkpoint(tmp_path / "run" / "last.pt"), 6)
    pupil.guess.load_state_dict(torch.load(tmp_path / "run" / "last.pt", weights_only=True)["guess"])
    store = FeatureCache(cache)
    cropper = Cropper(store.config, FrameAugment([], strength=0.0), shortest=96, longest=96)
    feed = Feed(store, cropper, Selection(), size=64, seed=9, targets=Targets(path))
    feed.refresh()
    batch = feed[0]
    with torch.no_grad():
        guess = pupil.train()(torch.from_numpy(batch.features), torch.from_numpy(batch.mask))[2]
    missing = np.square(guess.numpy() - batch.targets).mean(axis=0)
    assert missing[:3].max() < 0.6 * missing[3:].min()  # only three numbers can be learnt


def test_run_goes_on_with_its_own_teacher_only(manifest: Path, cache: Path, tmp_path: Path) -> None:
    clips, out = read_manifest(manifest, "train"), tmp_path / "run"
    one, other = loud_and_label(clips, tmp_path / "one.npz"), loud_and_label(clips, tmp_path / "other.npz", size=8)
    train(Task(replace(CONFIG, steps=2), cache, out, teacher=one))
    similar = loud_and_label(clips[1:], tmp_path / "similar.npz")
    for teacher in (other, similar, None):
        with pytest.raises(DataError, match="was trained with other targets of a teacher"):
            train(Task(replace(CONFIG, steps=4), cache, out, teacher=teacher))
    one = one.rename(tmp_path / "moved.npz")
    assert train(Task(replace(CONFIG, steps=4), cache, out, teacher=one))[-1].step == 4


def test_piece_is_the_middle_or_the_clip_again() -> None:
    long = np.arange(2 * SAMPLES, dtype=np.float32)
    np.testing.assert_array_equal(piece(long), long[SAMPLES // 2 : SAMPLES // 2 + SAMPLES])
    short = np.arange(RATE, dtype=np.float32)
    np.testing.assert_array_equal(piece(short), np.tile(short, SAMPLES // RATE))


@pytest.mark.skipif(INSTALLED, reason="distillmos is installed")
def test_missing_teacher_is_named() -> None:
    with pytest.raises(DependencyError, match="pip install --no-deps"):
        Teacher()


@needs_teacher
def test_teacher_hears_what_is_done_to_a_clip_and_lists_what_it_cannot_read(manifest: Path, tmp_path: Path) -> None:
    clips = read_manifest(manifest, "train")[:6]
    (tmp_path / "bad.flac").write_bytes(b"no sound")
    soundfile.write(tmp_path / "short.wav", np.zeros(1000), RATE)
    bad = [replace(clips[0], id=name, path=tmp_path / name) for name in ("bad.flac", "short.wav")]
    lesson = describe_clips([*clips, *bad], tmp_path / "t.npz")
    assert (lesson.described, set(lesson.skipped)) == (6, {"bad.flac", "short.wav"})
    targets = Targets(tmp_path / "t.npz")
    assert (len(targets), targets.size) == (6, 2048)
    rng = np.random.default_rng(0)
    clean = piece(soundfile.read(clips[0].path, dtype="float32")[0])
    rows = np.stack((clean, 0.1 * clean, clean + np.float32(0.05) * rng.normal(size=SAMPLES).astype(np.float32)))
    said = Teacher().describe(rows)
    gain, noise = (np.abs(said[n] - said[0]).mean() for n in (1, 2))
    assert gain < 0.2 * noise


@needs_teacher
def test_command_writes_targets_of_training_clips(manifest: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["data", "teach", str(manifest), "--out", str(tmp_path / "t.npz")])
    assert result.exit_code == 0, result.output
    assert len(Targets(tmp_path / "t.npz")) == len(read_manifest(manifest, "train"))
