"""What is in the files, in each mode; and what is made of a recording that was cut short."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from streamdet.decide.alarm import AlarmConfig
from streamdet.decide.calibrate import log_odds, probability
from streamdet.decide.judge import JudgeConfig
from streamdet.evidence.chain import Chain
from streamdet.evidence.recording import Recording
from streamdet.evidence.recovery import recover
from streamdet.evidence.verify import verify
from streamdet.features import FrontEndConfig

from .make import HOP, RATE, about, around, finish, over, pieces, raised, record


def sidecar(folder: Path) -> dict:
    return json.loads(next(folder.glob("*.json")).read_bytes()) if not (folder / "head.json").exists() else json.loads(
        next(path for path in folder.glob("*.json") if path.name != "head.json").read_bytes()
    )  # fmt: skip


def test_the_sound_is_what_was_heard(tmp_path: Path) -> None:
    _, path = record(tmp_path, hops=12)
    assert path.suffix == ".flac"
    samples, rate = soundfile.read(path, dtype="int16")
    heard = np.concatenate([piece.samples for piece in pieces(12)])
    assert rate == RATE
    assert soundfile.info(path).subtype == "PCM_16"
    np.testing.assert_array_equal(samples, (heard * 32_767).astype(np.int16))


def test_the_sidecar_says_what_the_alert_was_and_what_heard_it(tmp_path: Path) -> None:
    record(tmp_path, hops=12)
    said = sidecar(tmp_path)
    assert [event["phase"] for event in said["events"]] == ["raised", "cleared"]
    assert said["samples"] == {"start": 0, "stop": 12 * HOP, "onset": 16_000, "raised": 40_960, "cleared": 61_440}
    assert (said["status"], said["lost_share"], said["not_recorded_seconds"]) == ("complete", 0.0, 0.0)
    assert {"model", "configuration", "engine", "version", "stream", "files", "chain"} <= set(said)
    assert len(said["scores"]) == 12


def test_scores_alone_leave_neither_sound_nor_features(tmp_path: Path) -> None:
    record(tmp_path, mode="scores")
    assert {path.suffix for path in tmp_path.iterdir() if path.stat().st_size} == {".json", ".jsonl"}


def test_features_leave_no_sound(tmp_path: Path) -> None:
    _, path = record(tmp_path, mode="features", hops=12)
    assert {p.suffix for p in tmp_path.iterdir() if p.stat().st_size} == {".json", ".jsonl", ".npz", ".png"}
    with np.load(path) as kept:
        assert kept["log_mel"].shape == (12 * 32, 64)
        assert np.isfinite(kept["log_mel"]).all()
        assert FrontEndConfig(**json.loads(str(kept["front_end"]))) == FrontEndConfig()


def test_a_long_alert_is_cut_and_the_rest_is_told(tmp_path: Path) -> None:
    Chain(tmp_path).prepare()
    first, *rest = pieces(40)
    recording = Recording(around(tmp_path, seconds=10.0), about(), raised(), first)
    for piece in rest:
        recording.take(piece)
    _, path = finish(recording, Chain(tmp_path), over(raised(), 12.8), "2026-11-21T09:00:00Z")
    assert soundfile.info(path).frames == 160_000
    said = sidecar(tmp_path)
    assert said["not_recorded_seconds"] == pytest.approx(2.8)
    assert len(said["scores"]) == 40


def test_thresholds_that_a_reload_changed_in_the_middle_of_an_alert_are_told_and_drawn(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    chain.prepare()
    first, *rest = pieces(30)
    stricter = JudgeConfig(alarm=AlarmConfig(raise_at=log_odds(0.97), clear_at=log_odds(0.6)))
    recording = Recording(around(tmp_path), about(), raised(), first)
    for number, piece in enumerate(rest, 1):
        recording.take(piece if number < 15 else replace(piece, judged=stricter))
    finish(recording, chain, over(raised(), 9.6), "2026-11-21T09:00:00Z")
    said = sidecar(tmp_path)
    (change,) = said["thresholds_changed"]
    assert (change["at"], change["raise"], change["clear"]) == (4.8, 0.97, 0.6)
    assert said["thresholds"]["raise"] == round(probability(AlarmConfig().raise_at), 4)
    with Image.open(io.BytesIO(next(tmp_path.glob("*.png")).read_bytes())) as picture:
        red = np.abs(np.asarray(picture.convert("RGB")).astype(int) - (192, 32, 38)).sum(axis=2) < 24
    left, right = red[372:532, 84:630].sum(axis=1), red[372:532, 640:1080].sum(axis=1)
    assert left.argmax() != right.argmax()  # a step in the dashed line


def test_sound_that_never_came_is_silence_and_the_recording_is_not_called_complete(tmp_path: Path) -> None:
    Chain(tmp_path).prepare()
    first, _, third = pieces(3)
    recording = Recording(around(tmp_path), about(), raised(), first)
    recording.take(third)
    _, path = finish(recording, Chain(tmp_path), over(raised()), "2026-11-21T09:00:00Z")
    samples, _ = soundfile.read(path, dtype="int16")
    assert len(samples) == 3 * HOP
    assert not samples[HOP : 2 * HOP].any()
    assert sidecar(tmp_path)["status"] == "incomplete"


def test_the_picture_is_one(tmp_path: Path) -> None:
    record(tmp_path, hops=30)
    with Image.open(io.BytesIO(next(tmp_path.glob("*.png")).read_bytes())) as picture:
        assert picture.size == (1200, 580)
        pixels = np.asarray(picture.convert("RGB"))
    assert len(np.unique(pixels[64:344, 84:1180].reshape(-1, 3), axis=0)) > 30  # a spectrogram is colourful
    assert (pixels == (255, 255, 255)).all(axis=2).mean() > 0.2  # its margins are not


@pytest.mark.parametrize("hops", [1, 20])
def test_what_a_crash_leaves_is_closed_as_incomplete(tmp_path: Path, hops: int) -> None:
    chain = Chain(tmp_path)
    chain.prepare()
    first, *rest = pieces(hops)
    recording = Recording(around(tmp_path), about(), raised(), first)
    for piece in rest:
        recording.take(piece)
    on_disk = {path.name: path.read_bytes() for path in tmp_path.iterdir()}  # as kill -9 leaves it
    recording.abandon()
    for name, data in on_disk.items():
        (tmp_path / name).write_bytes(data)
    (entry,) = recover(tmp_path, chain)
    assert (entry["alert"], entry["status"]) == (raised().id, "incomplete")
    assert verify(tmp_path).intact
    assert verify(tmp_path).incomplete == 1
    if hops > 1:  # one hop fits into what the encoder still held
        samples, _ = soundfile.read(next(tmp_path.glob("*.flac")), dtype="int16")
        heard = (np.concatenate([piece.samples for piece in pieces(hops)]) * 32_767).astype(np.int16)
        assert len(samples) > 0.9 * len(heard)
        assert np.abs(samples.astype(int) - heard[: len(samples)]).max() <= 1
    assert list(recover(tmp_path, chain)) == []


def test_a_crash_after_the_chain_was_written_leaves_one_entry(tmp_path: Path) -> None:
    _, path = record(tmp_path)
    (tmp_path / (path.stem + ".open")).write_bytes(b'{"events":[{"id":"%s"}]}' % raised().id.encode())
    assert list(recover(tmp_path, Chain(tmp_path))) == []
    assert verify(tmp_path).intact
    assert not list(tmp_path.glob("*.open"))


def test_a_line_cut_short_by_a_crash_is_cut_off(tmp_path: Path) -> None:
    record(tmp_path, 1)
    with (tmp_path / "chain.jsonl").open("ab") as file:
        file.write(b'{"alert":"x')
    os.truncate(tmp_path / "lock", 0)
    assert not verify(tmp_path).intact
    Chain(tmp_path).prepare()
    record(tmp_path, 2)
    assert verify(tmp_path).intact
