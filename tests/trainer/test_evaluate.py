from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from streamdet.decide.alarm import AlarmConfig
from streamdet.decide.calibrate import Platt, log_odds
from streamdet.decide.judge import Judge, JudgeConfig
from streamdet.engine.modelfile import Calibration, read_model
from streamdet.errors import ModelError
from tests.trainer import corpus
from trainer import cli
from trainer.augment import Bank, WaveAugment
from trainer.calibrate import augmented, calibrate, carried, operating_point, platt, raised, stream_figures
from trainer.data.errors import DataError
from trainer.data.manifest import Clip, read_manifest
from trainer.evaluate import evaluate, worst
from trainer.export import ExportReport
from trainer.metrics import cllr
from trainer.models.resnet import CausalResNet
from trainer.report import card
from trainer.scoring import ClipScore, pooled, score_clips, windows
from trainer.stamp import restamp
from trainer.twin import Twin

HOP = 0.32
RUNNER = CliRunner()


def score(name: str, label: int, logit: float, *, hops: int = 32, source: str = "s") -> ClipScore:
    """A clip all of whose hops say ``logit`` and are speech."""
    track = np.tile([logit, 0.0, 1.0], (hops, 1))
    clip = Clip(name, Path(name), label, family=f"f{source}" if label else "", source=source, era="2020")
    return ClipScore(clip, logit, speech=True, seconds=hops * HOP, track=track)


def draw(count: int = 60, shift: float = 0.0) -> list[ClipScore]:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    logits = rng.standard_normal(count) * 1.5 + np.where(labels > 0, 2.0, -2.0) + shift
    return [
        score(f"c{i}", int(y), float(x), source=str(i % 6)) for i, (y, x) in enumerate(zip(labels, logits, strict=True))
    ]


def test_platt_finds_the_scale_and_offset_that_made_the_scores() -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(60_000) % 2).astype(np.float64)
    llr = 2.0 * (rng.standard_normal(len(labels)) + labels * 2.0 - 1.0)
    found = platt((llr - 0.7) / 0.4, labels, np.ones_like(labels))
    assert found.scale == pytest.approx(0.4, rel=0.03)
    assert found.offset == pytest.approx(0.7, abs=0.03)


def test_platt_stays_finite_on_perfect_scores_and_refuses_swapped_labels() -> None:
    labels, raw = np.array([0.0, 0.0, 1.0, 1.0]), np.array([-2.0, -1.0, 1.0, 2.0])
    assert 0.0 < platt(raw, labels, np.ones(4)).scale < 100.0
    with pytest.raises(DataError, match="swapped"):
        platt(-raw * 5, labels, np.ones(4))
    with pytest.raises(DataError, match="human and synthetic"):
        platt(raw, np.ones(4), np.ones(4))


def test_calibration_mends_shifted_scores() -> None:
    scores = draw(400, shift=3.0)
    found = calibrate(scores, HOP)
    labels = np.array([s.clip.label for s in scores], float)
    before = np.array([s.llr for s in scores])
    assert cllr(found.scale * before + found.offset, labels) < 0.6 * cllr(before, labels)


def test_every_distorted_copy_has_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    clips = [Clip(name, tmp_path / f"{row}.wav", row % 2) for row, name in enumerate(("a/0", "a_0", "x" * 300))]
    for row, clip in enumerate(clips):
        soundfile.write(clip.path, corpus.voice(row, fake=bool(row % 2)), 16_000)
    skipped: dict[str, str] = {}
    copies = list(augmented(clips, tmp_path / "copies", WaveAugment(Bank()), skipped))
    assert not skipped
    assert [(c.id, c.label) for c in copies] == [(c.id, c.label) for c in clips]
    assert len({c.path.read_bytes() for c in copies}) == 3


def test_pooling_weighs_by_attention_and_speech() -> None:
    track = np.array([[1.0, 0.0, 1.0], [4.0, np.log(2.0), 1.0], [100.0, 6.0, 0.0]])
    assert pooled(track) == pytest.approx(3.0)
    assert pooled(track[2:]) is None
    assert windows(np.tile(track[:1], (7, 1)), 3) == [1.0, 1.0]


def test_evaluation_gives_every_figure_and_breaks_them_down() -> None:
    figures = evaluate(draw(), Calibration(), HOP, draws=50)
    assert figures["clips"] == {"human": 30, "synthetic": 30}
    assert figures["interval_95"]["eer"][0] <= figures["figures"]["eer"] <= figures["interval_95"]["eer"][1]
    assert set(figures["durations"]) == {"1", "2", "3", "4", "10"}
    assert figures["by"]["era"]["2020"]["human"] == 30
    json.dumps(figures, allow_nan=False)


def test_worst_clips_come_first() -> None:
    scores = [score("good", 1, 3.0), score("bad", 0, 5.0), score("so-so", 1, -1.0)]
    assert [row["id"] for row in worst(scores)] == ["bad", "so-so", "good"]


def test_evaluation_of_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="human and synthetic"):
        evaluate([score("a", 1, 0.0)], Calibration(), HOP)


def test_alarm_is_raised_once_on_a_long_fake_and_never_on_quiet_evidence() -> None:
    config = JudgeConfig(hop_seconds=HOP)
    times = raised(Judge(config), score("a", 1, 6.0).track)
    assert len(times) == 1
    assert 1.5 <= times[0] <= 4.0
    assert raised(Judge(config), score("a", 1, -6.0).track) == []


def test_stream_figures_count_false_alarms_per_hour_of_human_speech() -> None:
    scores = [
        score("h1", 0, 6.0, source="a"),
        score("h2", 0, -6.0, source="b"),
        score("f", 1, 6.0),
        score("short", 1, 6.0, hops=5),
    ]
    figures = stream_figures(scores, lambda: Judge(JudgeConfig(hop_seconds=HOP)))
    assert (figures.false_alarms, figures.synthetic, figures.caught) == (1, 1, 1.0)
    assert figures.per_hour == pytest.approx(3600.0 / (64 * HOP))


def test_operating_point_is_as_low_as_the_false_alarms_allow() -> None:
    scores = [score(f"h{i}", 0, -4.0 + i * 0.05, source=str(i), hops=400) for i in range(60)]
    scores += [score(f"hot{i}", 0, 2.1, source=f"hot{i}", hops=400) for i in range(4)]
    scores += [score(f"f{i}", 1, 3.0) for i in range(5)]
    point, figures = operating_point(scores, Calibration(), HOP, per_hour=1.0)
    assert np.log(point["raise"] / (1 - point["raise"])) == pytest.approx(2.25)
    assert point["clear"] < point["raise"]
    assert (figures.false_alarms, figures.caught) == (0, 1.0)


def test_restamp_changes_the_description_and_nothing_else(exported: dict[str, ExportReport], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(exported["int8"].path.read_bytes())
    before = read_model(path)[1]
    after = restamp(path, calibration=Calibration(0.5, -1.0))
    assert after.calibration == Calibration(0.5, -1.0)
    assert (after.name, after.width, after.figures) == (before.name, before.width, before.figures)
    assert after.digest != before.digest
    clip = Clip("a", tmp_path / "a.wav", 1)
    soundfile.write(clip.path, corpus.voice(0, fake=False, seconds=3.0), 16_000)
    one, two = (score_clips(p, [clip])[0] for p in (exported["int8"].path, path))
    np.testing.assert_array_equal(one.track, two.track)


def test_kinds_and_channels_are_judged_against_all_of_the_other_class() -> None:
    scores = draw(80)
    scores += [replace(s, clip=replace(s.clip, condition="phone")) for s in draw(40) if s.clip.label == 0]
    by = evaluate(scores, Calibration(), HOP, draws=20)["by"]
    assert set(by["channel"]) == {"phone"}
    assert by["channel"]["phone"]["human"] == 20
    assert by["channel"]["phone"]["synthetic"] == 40
    assert by["kind"]["classic TTS"]["synthetic"] == 40
    assert by["kind"]["classic TTS"]["human"] == 60


def test_intervals_hold_their_figures() -> None:
    figures = evaluate(draw(80), Calibration(), HOP, draws=100)
    for name, (low, high) in figures["interval_95"].items():
        assert low <= figures["figures"][name] <= high
    assert set(figures["interval_95"]) == {"eer", "auc", "cllr", "min_dcf"}
    assert figures["figures"]["tpr_at_01_fpr"] <= figures["figures"]["tpr_at_1_fpr"]
    assert set(figures["durations"]) == {"1", "2", "3", "4", "10"}


def test_checkpoint_of_another_network_is_refused_before_scoring(
    exported: dict[str, ExportReport], checkpoint: Path, linear_models: dict[str, ExportReport], tmp_path: Path
) -> None:
    info = exported["int8"].info
    assert Twin.of(info, checkpoint).network.settings["width"] == info.width
    torch.save(CausalResNet(0.125).checkpoint(), tmp_path / "narrow.pt")
    for model, other in ((exported["int8"].path, tmp_path / "narrow.pt"), (linear_models["fp32"].path, checkpoint)):
        result = RUNNER.invoke(cli.app, ["evaluate", str(model), "no.csv", "--checkpoint", str(other)])
        assert isinstance(result.exception, ModelError)
        assert "of another network than the model file" in str(result.exception)


def test_unreadable_clips_are_reported_and_left_out(exported: dict[str, ExportReport], tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"nothing")
    said: dict[str, str | None] = {}
    clips = [Clip("a", tmp_path / "a.wav", 1)]
    assert score_clips(exported["int8"].path, clips, lambda clip, error: said.update({clip.id: error})) == []
    assert said["a"] is not None
    assert str(tmp_path / "a.wav") in said["a"]


@pytest.mark.parametrize("command", ["evaluate", "calibrate"])
def test_equal_audio_with_contradicting_labels_is_not_judged_on(
    exported: dict[str, ExportReport], tmp_path: Path, command: str
) -> None:
    manifest, model = corpus.make(tmp_path / "corpus", 4), tmp_path / "model.onnx"
    model.write_bytes(exported["int8"].path.read_bytes())
    real, fake = (next(c for c in read_manifest(manifest, "val") if c.label == label) for label in (0, 1))
    samples, rate = soundfile.read(real.path, dtype="int16")
    soundfile.write(fake.path, samples, rate, format="WAV")
    result = RUNNER.invoke(cli.app, [command, str(model), str(manifest), "--split", "val"])
    assert isinstance(result.exception, DataError)
    assert f"{fake.id} and {real.id} are the same audio" in str(result.exception)
    assert model.read_bytes() == exported["int8"].path.read_bytes()


def test_skipped_files_are_counted_on_the_page_and_in_json_but_not_stored(
    exported: dict[str, ExportReport], tmp_path: Path
) -> None:
    manifest, model = corpus.make(tmp_path / "corpus"), tmp_path / "model.onnx"
    model.write_bytes(exported["int8"].path.read_bytes())
    (manifest.parent / "audio" / "clip03.flac").write_bytes(b"noise")
    report = tmp_path / "new" / "report.html"
    options = ["--split", "val", "--json", "--store", "--report", str(report)]
    result = RUNNER.invoke(cli.app, ["evaluate", str(model), str(manifest), *options], catch_exceptions=False)
    figures = json.loads(result.stdout)
    assert set(figures["skipped"]) == {"clip03"}
    assert sum(figures["clips"].values()) == 7
    assert "Files that could not be used: 1." in report.read_text(encoding="utf-8")
    assert result.stderr.count("skipped clip03: ") == 1
    assert "skipped" not in read_model(model)[1].figures["val"]


def test_broken_files_are_listed_once_and_stop_neither_export_nor_calibration(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "fit_platt", lambda *_: Calibration())  # random networks may call humans synthetic
    manifest, model = corpus.make(tmp_path / "corpus"), tmp_path / "model.onnx"
    for name in ("clip01", "clip03"):  # one of train, one of val
        (manifest.parent / "audio" / f"{name}.flac").write_bytes(b"noise")
    export = ["export", str(checkpoint), str(manifest), "--out", str(model), "--precision", "fp32"]
    calibration = ["calibrate", str(model), str(manifest), "--copies", "2"]
    for command, name in ((export, "clip01"), (calibration, "clip03"), ([*calibration[:-1], "0"], "clip03")):
        result = RUNNER.invoke(cli.app, command)
        assert result.exit_code == 0, result.exception
        assert result.stderr.count(f"skipped {name}: ") == 1


def test_points_are_carried_to_another_calibration_where_that_is_exact() -> None:
    before, after = Calibration(2.0, -1.0), Calibration(0.5, 0.25)
    point = {"raise": 0.9, "clear": 0.7, "spoof": 0.6, "bona_fide": 0.3, "min_seconds": 1.0, "smoothing": 2.0}
    moved = carried(point, before, after)
    assert moved is not None
    assert (moved["min_seconds"], moved["smoothing"]) == (1.0, 2.0)
    assert carried(moved, after, before) == pytest.approx(point)
    rng = np.random.default_rng(0)
    track = np.stack((rng.normal(1.0, 2.0, 400), rng.normal(0.0, 1.0, 400), np.ones(400)), axis=1)
    times = []
    for values, calibration in ((point, before), (moved, after)):
        alarm = AlarmConfig(raise_at=log_odds(values["raise"]), clear_at=log_odds(values["clear"]), min_seconds=1.0)
        config = JudgeConfig(hop_seconds=HOP, smooth_seconds=2.0, alarm=alarm)
        times.append(raised(Judge(config, Platt(calibration.scale, calibration.offset)), track))
    assert times[0] == times[1]
    assert times[0]
    assert carried({**point, "cusum_clip": 4.0}, before, after) is None
    assert carried({**point, "raise": 1.0}, before, after) is None


@pytest.fixture
def model(exported: dict[str, ExportReport], tmp_path: Path) -> Path:
    """A model file of its own, which a test may change."""
    path = tmp_path / "model.onnx"
    path.write_bytes(exported["fp32"].path.read_bytes())
    return path


def test_calibration_takes_away_what_held_for_the_former_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, found = corpus.make(tmp_path / "corpus"), Calibration(2.0, 0.5)
    monkeypatch.setattr(cli, "fit_platt", lambda *_: found)
    strict, summed = {"raise": 0.9, "clear": 0.7}, {"raise": 0.9, "clear": 0.7, "cusum_clip": 4.0}
    restamp(model, operating_points={"default": {}, "strict": strict, "summed": summed})
    for options in (["evaluate", "--split", "val", "--store"], ["calibrate"]):
        result = RUNNER.invoke(cli.app, [options[0], str(model), str(manifest), *options[1:]], catch_exceptions=False)
    info = read_model(model)[1]
    assert info.figures.keys() == {"export", "operating_point", "calibration"}
    assert info.operating_points.keys() == {"default", "strict"}
    assert info.operating_points["strict"] == pytest.approx(carried(strict, Calibration(), found))
    assert "figures dropped, as they hold for the former calibration: val; `trainer evaluate --store`" in result.stderr
    assert "former calibration: summed; `trainer stream-eval --store` chooses them anew" in result.stderr
    assert "Split `val`" not in model.with_suffix(".md").read_text(encoding="utf-8")


def test_card_says_on_what_a_model_was_calibrated(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, info = corpus.make(tmp_path / "corpus"), read_model(model)[1]
    assert "Not calibrated" in card(info, 1)
    assert "by logistic regression with both" in card(replace(info, calibration=Calibration(2.0, 0.5)), 1)
    monkeypatch.setattr(cli, "fit_platt", lambda *_: Calibration(2.0, 0.5))
    for split, text in (("train", "on clips of the split `train` with both"), ("val", "on validation clips with both")):
        words = ["calibrate", str(model), str(manifest), "--split", split, "--copies", "0"]
        result = RUNNER.invoke(cli.app, words, catch_exceptions=False)
        assert text in model.with_suffix(".md").read_text(encoding="utf-8")
        assert ("calibrate on val" in result.stderr) == (split != "val")


@pytest.mark.parametrize("rate", ["-1", "nan", "inf"])
def test_rates_of_false_alarms_that_make_no_sense_are_refused(model: Path, rate: str) -> None:
    result = RUNNER.invoke(cli.app, ["calibrate", str(model), "no.csv", "--per-hour", rate])
    assert result.exit_code == 2
    assert "--per-hour" in result.stderr


@pytest.mark.parametrize(("mels", "bands"), [("64", "mel"), ("96", "linear")])
def test_the_whole_way_from_manifest_to_calibrated_model_with_its_card(tmp_path: Path, mels: str, bands: str) -> None:
    manifest, run, model = str(corpus.make(tmp_path / "corpus")), tmp_path / "run", tmp_path / "model.onnx"

    def call(*arguments: str) -> str:
        result = RUNNER.invoke(cli.app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    text = call(
        "fit",
        manifest,
        "--out",
        str(run),
        "--steps",
        "40",
        "--width",
        "0.125",
        "--batch",
        "8",
        "--variants",
        "1",
        "--mels",
        mels,
        "--bands",
        bands,
        "--rate",
        "0.003",
    )
    assert "step 40" in text
    call("export", str(run / "average.pt"), manifest, "--out", str(model), "--clips", "8")
    call("calibrate", str(model), manifest, "--per-hour", "100")
    figures = json.loads(
        call(
            "evaluate",
            str(model),
            manifest,
            "--split",
            "val",
            "--json",
            "--store",
            "--checkpoint",
            str(run / "average.pt"),
            "--report",
            str(tmp_path / "report.html"),
        )
    )
    agreed = figures["agreement"]
    assert agreed["clips"] + figures["no_speech"] >= sum(figures["clips"].values())
    assert agreed["clip_percent"] < 10.0, "the file and the network in torch are of one opinion"
    info = read_model(model)[1]
    assert info.calibration != Calibration()
    assert (info.front_end.mels, info.front_end.bands) == (int(mels), bands)
    assert info.figures["val"]["figures"] == figures["figures"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("data:image/svg+xml") == 2
    card = (tmp_path / "model.md").read_text(encoding="utf-8")
    assert re.search(r"\| EER \| [\d.]+ \|", card)
    assert f"{mels} log-{bands} bands" in card
    assert info.digest in card
    assert str(tmp_path) not in card


def test_an_empty_split_is_named_with_those_there_are(exported: dict[str, ExportReport], tmp_path: Path) -> None:
    model, manifest = tmp_path / "model.onnx", corpus.make(tmp_path / "corpus", 2)
    model.write_bytes(exported["int8"].path.read_bytes())
    for command in ("evaluate", "calibrate", "stream-eval"):
        result = RUNNER.invoke(cli.app, [command, str(model), str(manifest), "--split", "tset"])
        assert isinstance(result.exception, DataError)
        assert str(result.exception) == "no clips in split 'tset'; the manifests have train, val"


def test_help_shows_examples() -> None:
    for command in ("cache", "fit", "export", "calibrate", "evaluate", "baselines", "augment-pictures"):
        result = RUNNER.invoke(cli.app, [command, "--help"])
        assert f"trainer {command} " in " ".join(result.stdout.split())
