from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import fftconvolve
from typer.testing import CliRunner

from streamdet.features import FrontEndConfig, LogMel
from streamdet.features.logmel import FloatArray
from tests.trainer.corpus import voice
from trainer import augment, cli, shape
from trainer.augment import CODECS, RATE, Bank, Codec, WaveAugment, add_at, codec_available, room, round_trip
from trainer.data.errors import DataError
from trainer.pictures import demo_clip, draw, examples
from trainer.shape import FrameAugment

AVAILABLE = [c for c in CODECS if codec_available(c)]


@pytest.fixture(scope="module")
def speech() -> FloatArray:
    return voice(1, fake=False, seconds=3.0)


def logmel(samples: FloatArray) -> FloatArray:
    front_end = LogMel(FrontEndConfig())
    return front_end(samples[None, :], front_end.start())[0]


def test_the_codecs_every_build_has_are_there() -> None:
    assert {"pcm_mulaw", "pcm_alaw", "g722", "aac"} <= {c.encoder for c in AVAILABLE}


@pytest.mark.parametrize("codec", AVAILABLE, ids=lambda c: c.encoder)
def test_codec_round_trip_keeps_the_speech_and_its_length(codec: Codec, speech: FloatArray) -> None:
    for rate in codec.rates:
        decoded = round_trip(speech, codec, codec.bit_rates[-1], rate)
        assert decoded.shape == speech.shape
        likeness = fftconvolve(decoded, speech[::-1]).max() / np.sqrt(np.sum(decoded**2) * np.sum(speech**2))
        assert likeness > 0.5  # the lowest rates redraw the wave and keep its envelope
        assert not np.array_equal(decoded, speech)


def test_narrow_band_codecs_lose_everything_above_4_khz(speech: FloatArray) -> None:
    mulaw = next(c for c in CODECS if c.encoder == "pcm_mulaw")
    spectrum = np.abs(np.fft.rfft(round_trip(speech, mulaw, 0, 8_000))) ** 2
    cut = len(spectrum) * 45 // 80
    assert spectrum[cut:].sum() < 1e-4 * spectrum[:cut].sum()


def test_lost_packets_leave_silence(speech: FloatArray) -> None:
    mulaw = next(c for c in CODECS if c.encoder == "pcm_mulaw")
    whole = round_trip(speech, mulaw, 0, 8_000)
    torn = round_trip(speech, mulaw, 0, 8_000, lose=[False, True])
    packet = 320
    energy = [np.sum(x[: 100 * packet].reshape(50, 2, packet)[:, :, 80:-80] ** 2, axis=(0, 2)) for x in (whole, torn)]
    assert energy[1][1] < 0.01 * energy[0][1]
    assert energy[1][0] == pytest.approx(energy[0][0], rel=0.05)


def test_lost_packets_are_concealed_as_the_ports_do_it(speech: FloatArray) -> None:
    mulaw = next(c for c in CODECS if c.encoder == "pcm_mulaw")
    packet = RATE // 50
    lose = [False] * 6 + [True] + [False] * 6 + [True] * 5  # 20 ms, then 100 ms, longer than is concealed
    whole, silent, concealed = (
        round_trip(speech, mulaw, 0, 8_000, lose=lost, concealed=way)
        for lost, way in (((), False), (lose, False), (lose, True))
    )
    parts = [x[: len(x) // (18 * packet) * 18 * packet].reshape(-1, 18, packet) for x in (whole, silent, concealed)]
    gap, tail = [np.sum(x[1:, 6, 80:-80] ** 2) for x in parts], [np.sum(x[1:, 17, 80:-80] ** 2) for x in parts]
    assert 0.3 * gap[0] < gap[2] < 2 * gap[0]
    assert gap[1] < 0.01 * gap[0]
    assert tail[2] < 0.01 * tail[0]
    np.testing.assert_allclose(parts[2][:, 1:5], parts[0][:, 1:5], atol=1e-3)


def test_noise_is_added_at_the_wanted_ratio(speech: FloatArray) -> None:
    noise = np.random.default_rng(0).standard_normal(5_000).astype(np.float32)
    added = add_at(speech, noise, 10.0) - speech
    assert 10 * np.log10(np.mean(speech**2) / np.mean(added**2)) == pytest.approx(10.0, abs=0.01)


def test_rooms_begin_with_the_direct_sound_and_decay() -> None:
    for seed in range(20):
        response = room(np.random.default_rng(seed))
        assert response[0] == pytest.approx(1.0, abs=1e-6)
        half = len(response) // 2
        assert np.sum(response[half:] ** 2) < 0.5 * np.sum(response[:half] ** 2)


@pytest.mark.parametrize("clean", [0.0, 1.0])
def test_chains_repeat_with_the_seed_and_stay_sound(clean: float, speech: FloatArray) -> None:
    bank = Bank(noise=[speech[:8_000]], speech=[speech])
    chain, results = WaveAugment(bank, clean=clean), []
    for seed in range(40):
        result = chain(speech, np.random.default_rng(seed))
        assert np.isfinite(result).all()
        assert 0.01 < np.abs(result).max() <= 1.0
        np.testing.assert_array_equal(result, chain(speech, np.random.default_rng(seed)))
        results.append(result.tobytes())
    assert len(set(results)) == 40


@pytest.mark.parametrize("step", WaveAugment.STEPS)
def test_every_step_changes_the_sound_and_can_be_left_out(step: str, speech: FloatArray) -> None:
    others = [s for s in WaveAugment.STEPS if s != step]
    bank = Bank(noise=[speech[::-1].copy()])
    only, none = WaveAugment(bank, clean=0.0, without=others), WaveAugment(bank, clean=0.0, without=WaveAugment.STEPS)
    changed = 0
    for seed in range(40):
        np.testing.assert_array_equal(none(speech, np.random.default_rng(seed)), speech)
        changed += not np.array_equal(only(speech, np.random.default_rng(seed)), speech)
    assert changed > 0
    once, again = (only.apply(step, speech, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_steps_of_both_chains_are_known() -> None:
    assert {name for name, _ in (*augment.CLEAN, *augment.DISTORTED)} == set(WaveAugment.STEPS)


def test_what_shortcuts_tell_apart_varies_in_every_variant(speech: FloatArray) -> None:
    chain = WaveAugment(Bank(), clean=1.0)
    offsets, lows = [], []
    rumble = (speech + 0.05 * np.sin(2 * np.pi * 40.0 * np.arange(len(speech)) / 16_000)).astype(np.float32)
    for seed in range(60):
        result = chain(rumble, np.random.default_rng(seed))
        offsets.append(abs(float(result.mean())) / float(result.std()))
        power = np.abs(np.fft.rfft(result - result.mean())) ** 2
        cut = round(80.0 * len(result) / 16_000)
        lows.append(float(power[:cut].sum() / power.sum()))
    assert np.mean(np.array(offsets) > 1e-3) > 0.1
    assert min(lows) < 0.3 * max(lows)


def test_pictures_show_every_step(tmp_path: Path) -> None:
    panels = dict(examples(demo_clip(), 0))
    before = panels.pop("before")
    names = {title.partition(",")[0] for title in panels}
    assert names == {*WaveAugment.STEPS, *FrameAugment.STEPS, "codec with packet loss"}
    for title, frames in panels.items():
        # where it sets in, in the first two frames, an offset is a click
        same = frames.shape == before.shape and np.allclose(frames[2:], before[2:], atol=1e-3)
        assert same == title.startswith(("polarity", "offset")), title  # which leave the spectrum as it is
    draw(tmp_path / "augment.png", demo_clip())
    assert 20_000 < (tmp_path / "augment.png").stat().st_size < 800_000


def test_clips_that_show_nothing_are_refused(tmp_path: Path) -> None:
    hum = (1e-2 * np.sin(np.arange(6 * 16_000) / 20.0)).astype(np.float32)
    for clip, complaint in (
        (demo_clip()[:16_000], "has 1.0 s; 5 s of speech are needed"),
        (np.zeros(6 * 16_000, np.float32), "silent"),
        (np.where(np.arange(6 * 16_000) < 4 * 16_000, demo_clip()[: 6 * 16_000], 0.0)[16_000:], "silent"),
        (hum, "too quiet"),
    ):
        soundfile.write(tmp_path / "clip.wav", clip, 16_000)
        command = ["augment-pictures", str(tmp_path / "x.png"), "--clip", str(tmp_path / "clip.wav")]
        result = CliRunner().invoke(cli.app, command)
        assert isinstance(result.exception, DataError)
        assert complaint in str(result.exception)


def test_no_augmentation_can_see_a_label() -> None:
    for module in (augment, shape):
        for _, function in inspect.getmembers(module, inspect.isfunction):
            assert "label" not in inspect.signature(function).parameters
    for method in (WaveAugment.__call__, FrameAugment.raw, FrameAugment.masks):
        assert "label" not in " ".join(inspect.signature(method).parameters)


def test_frame_noise_equals_noise_in_the_sound(speech: FloatArray) -> None:
    rng = np.random.default_rng(3)
    noise = rng.standard_normal(len(speech)).astype(np.float32) * 0.02
    mixed = np.logaddexp(logmel(speech), logmel(noise))
    error = mixed - logmel(speech + noise)
    assert abs(float(np.median(error))) < 0.1


def test_frame_augmentation_off_changes_nothing_and_on_repeats_with_the_seed(speech: FloatArray) -> None:
    crops = np.repeat(logmel(speech), 16, axis=0)
    off = FrameAugment(strength=0.0)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(off.masks(off.raw(crops.copy(), rng), rng), crops)
    full = FrameAugment([logmel(speech)[0]], strength=2.0)
    once, again = (full.raw(crops.copy(), np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert all(not np.array_equal(row, crops[0]) for row in once)
    assert np.isfinite(once).all()


def test_masks_only_silence(speech: FloatArray) -> None:
    features = np.ones((32, 128, 64), np.float32)
    masked = FrameAugment(strength=2.0).masks(features.copy(), np.random.default_rng(0))
    assert set(np.unique(masked)) == {0.0, 1.0}
    assert 0.02 < (masked == 0.0).mean() < 0.5
