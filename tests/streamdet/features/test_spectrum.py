"""The compressed complex spectrum, against scipy's short-time transform."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from streamdet.features import FrontEnd, FrontEndConfig
from streamdet.features.spectrum import USUAL_POWER

CONFIG = FrontEndConfig(mels=32, bands="linear", spectrum=True)
BINS = 161


def speech_like(seconds: float = 4.0, seed: int = 0) -> np.ndarray:
    """Noise that swells four times a second, with a tilt, float32 at 16 kHz."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16_000)) / 16_000
    noise = np.convolve(rng.standard_normal(len(time)), np.exp(-np.arange(24) / 4), "same")
    return (0.05 * (np.maximum(0.0, np.sin(8 * np.pi * time)) + 0.02) * noise).astype(np.float32)


def spectrum_of(features: np.ndarray) -> np.ndarray:
    parts = features[:, CONFIG.mels :]
    return parts[:, :BINS] + 1j * parts[:, BINS:]


def test_phase_and_compressed_magnitude_are_those_of_scipy() -> None:
    samples = speech_like()
    got = spectrum_of(FrontEnd(CONFIG).whole(samples))
    padded = np.concatenate((np.zeros(160, np.float32), samples))
    _, _, oracle = scipy.signal.stft(padded, window="hann", nperseg=320, noverlap=160, boundary=None, padded=False)
    oracle = oracle.T[: len(got)]
    loud = np.abs(oracle) > 1e-6
    np.testing.assert_allclose(np.angle(got[loud] / oracle[loud]), 0.0, atol=1e-2)
    ratio = np.abs(got[200:]) / np.abs(oracle[200:]) ** 0.3
    spread = ratio.std(axis=1) / ratio.mean(axis=1)  # one factor a frame, that of the level
    assert spread.max() < 1e-3


def test_it_has_322_numbers_behind_the_bands_which_stay_as_they_are() -> None:
    samples = speech_like(1.0)
    with_it, without = FrontEnd(CONFIG), FrontEnd(FrontEndConfig(mels=32, bands="linear"))
    features = with_it.whole(samples)
    assert features.shape == (100, CONFIG.values) == (100, 32 + 2 * BINS)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features[:, :32], without.whole(samples))


def test_a_gain_cancels() -> None:
    samples, front_end = speech_like(), FrontEnd(CONFIG)
    reference = front_end.whole(samples)
    for decibels in (-30, -12, 6):
        quieter = front_end.whole(samples * np.float32(10 ** (decibels / 20)))
        np.testing.assert_allclose(quieter[:, 32:], reference[:, 32:], rtol=2e-3, atol=2e-3)


def test_its_level_is_that_of_speech_with_a_peak_of_full_scale() -> None:
    rng = np.random.default_rng(3)
    got = spectrum_of(FrontEnd(CONFIG).whole(rng.standard_normal(160_000).astype(np.float32) * 0.1))
    # White noise has its level in every bin, on average; the mean over an exponential distribution of x**0.3 is 0.897.
    assert (np.abs(got[300:, 5:-5]) ** 2).mean() == pytest.approx(0.897 * USUAL_POWER**0.3, rel=0.03)


HEARD = [CONFIG, FrontEndConfig(mels=32, bands="linear", powers=True)]


@pytest.mark.parametrize("config", HEARD, ids=["spectrum", "powers"])
@pytest.mark.parametrize("cuts", [[1], [5_120], [100, 7_000, 160], [399, 400, 401, 30_000]])
def test_piece_by_piece_equals_all_at_once(cuts: list[int], config: FrontEndConfig) -> None:
    samples, front_end = speech_like(), FrontEnd(config)
    state, parts, at = front_end.start(1), [], 0
    for length in [*cuts, len(samples)]:
        features, state = front_end(samples[None, at : at + length], state)
        parts.append(features[0])
        at += length
    np.testing.assert_allclose(np.concatenate(parts), front_end.whole(samples), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", HEARD, ids=["spectrum", "powers"])
def test_streams_side_by_side_do_not_mix(config: FrontEndConfig) -> None:
    front_end = FrontEnd(config)
    streams = np.stack([speech_like(1.0, seed) for seed in range(5)])
    together, _ = front_end(streams, front_end.start(5))
    for row, samples in enumerate(streams):
        np.testing.assert_array_equal(together[row], front_end.whole(samples))


def test_digital_silence_is_zero() -> None:
    assert not FrontEnd(CONFIG).whole(np.zeros(16_000, np.float32)).any()


def test_the_description_leaves_it_out_where_there_is_none() -> None:
    assert "spectrum" not in FrontEndConfig().to_dict()
    assert FrontEndConfig(**CONFIG.to_dict()) == CONFIG
