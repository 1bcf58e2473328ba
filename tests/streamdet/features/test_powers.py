"""Log-powers of single frequencies, against numpy's transform."""

from __future__ import annotations

import numpy as np
import pytest

from streamdet.features import FrontEnd, FrontEndConfig, Powers
from streamdet.features.powers import FLOOR, SCALE

from .test_spectrum import speech_like

CONFIG = FrontEndConfig(mels=32, bands="linear", powers=True)
BINS = 257
USUAL = Powers(CONFIG).usual


def powers_of(samples: np.ndarray) -> np.ndarray:
    return FrontEnd(CONFIG).whole(samples)[:, CONFIG.mels :]


def test_they_are_those_of_numpy_less_one_level_a_frame() -> None:
    samples = speech_like()
    got = powers_of(samples)
    padded = np.concatenate((np.zeros(352), samples.astype(np.float64)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 512)[::160]
    oracle = np.log(np.abs(np.fft.rfft(frames * np.hamming(513)[:-1])) ** 2 + 1e-14)
    assert got.shape == oracle.shape == (400, BINS)
    above = got > (USUAL - FLOOR) / SCALE + 1e-3
    level = np.where(above, oracle - got * SCALE, np.nan)
    loud = above.sum(axis=1) > 50
    assert loud.sum() > 200
    assert np.nanstd(level[loud], axis=1).max() < 1e-2


def test_they_stand_behind_all_else_which_stays_as_it_is() -> None:
    samples = speech_like(1.0)
    every = FrontEnd(FrontEndConfig(mels=32, bands="linear", spectrum=True, powers=True)).whole(samples)
    spectrum = FrontEnd(FrontEndConfig(mels=32, bands="linear", spectrum=True)).whole(samples)
    assert every.shape[1] == 32 + 322 + BINS
    assert every.dtype == np.float32
    np.testing.assert_array_equal(every[:, : 32 + 322], spectrum)
    np.testing.assert_array_equal(every[:, 32 + 322 :], powers_of(samples))


def test_a_gain_cancels() -> None:
    samples = speech_like()
    reference = powers_of(samples)
    for decibels in (-30, -12, 6):
        quieter = powers_of(samples * np.float32(10 ** (decibels / 20)))
        np.testing.assert_allclose(quieter, reference, atol=2e-3)


def test_white_noise_has_the_usual_level_in_every_bin() -> None:
    rng = np.random.default_rng(3)
    got = powers_of(rng.standard_normal(160_000).astype(np.float32) * 0.1)[300:, 5:-5]
    assert np.log(np.exp(SCALE * got.astype(np.float64)).mean()) == pytest.approx(USUAL, abs=0.05)


def test_noise_far_below_speech_and_silence_after_it_are_all_the_same() -> None:
    speech, rng = speech_like(), np.random.default_rng(1)
    for rest in (0.0, 1e-6):
        speech[40_000:] = rest * rng.standard_normal(len(speech) - 40_000)
        assert (powers_of(speech)[255:] == np.float32((USUAL - FLOOR) / SCALE)).all()


def test_the_description_leaves_them_out_where_there_are_none() -> None:
    assert "powers" not in FrontEndConfig().to_dict()
    assert FrontEndConfig(**CONFIG.to_dict()) == CONFIG
