"""Log-mel against an independent implementation, and chunked against whole."""

import os
import subprocess
import sys
from typing import Literal

import kaldi_native_fbank
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdet.features import FrontEnd, FrontEndConfig, LogMel
from streamdet.features.logmel import POWER_FLOOR, mel_filters


def speechlike(seconds: float, seed: int = 0) -> np.ndarray:
    """Harmonics that glide, bursts of noise and silence: every regime the front end meets."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * 16_000)) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.7 * t)) / 16_000
    voiced = sum(np.sin(k * phase) / k for k in range(1, 20))
    envelope = np.clip(np.sin(2 * np.pi * 1.3 * t), 0, 1)
    return (0.1 * envelope * voiced + 0.001 * rng.standard_normal(len(t))).astype(np.float32)


def kaldi(samples: np.ndarray, config: FrontEndConfig) -> np.ndarray:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.preemph_coeff = 0
    options.frame_opts.window_type = "hanning"
    options.frame_opts.samp_freq = config.rate
    options.mel_opts.num_bins = config.mels
    options.mel_opts.low_freq = config.low
    options.mel_opts.high_freq = config.high
    bank = kaldi_native_fbank.OnlineFbank(options)
    bank.accept_waveform(config.rate, np.concatenate((np.zeros(240, np.float32), samples)).tolist())
    return np.array([bank.get_frame(i) for i in range(bank.num_frames_ready)])


@pytest.mark.parametrize("mels", [64, 96])
def test_equals_kaldi(mels: int) -> None:
    config = FrontEndConfig(mels=mels)
    samples = speechlike(3.0)
    logmel = LogMel(config)
    ours, _ = logmel(samples[None], logmel.start(1))
    theirs = kaldi(samples, config)
    assert ours.shape[1:] == theirs.shape
    # kaldi stops at a power of 1.2e-7, which silence of these clips never reaches with noise at -60 dBFS
    np.testing.assert_allclose(ours[0], theirs, atol=2e-3)
    assert np.abs(ours[0] - theirs).mean() < 1e-5


def test_linear_bands_are_equally_wide_and_hear_a_tone_where_it_is() -> None:
    config = FrontEndConfig(mels=96, bands="linear")
    spacing = (config.high - config.low) / 97
    time = np.arange(16_000) / 16_000
    for tone in (500.0, 3_000.0, 7_500.0):
        logmel = LogMel(config)
        frames, _ = logmel(np.sin(2 * np.pi * tone * time).astype(np.float32)[None], logmel.start())
        centre = config.low + (int(frames[0, 50].argmax()) + 1) * spacing
        assert abs(centre - tone) <= spacing


def test_mel_bands_are_not_named_so_that_older_files_describe_the_same() -> None:
    assert "bands" not in FrontEndConfig().to_dict()
    linear = FrontEndConfig(bands="linear")
    assert FrontEndConfig(**linear.to_dict()) == linear


@pytest.mark.parametrize(("mels", "bands"), [(64, "mel"), (96, "linear"), (128, "linear")])
def test_bands_are_those_of_one_product_with_all_filters(mels: int, bands: Literal["mel", "linear"]) -> None:
    config = FrontEndConfig(mels=mels, bands=bands)
    logmel, samples = LogMel(config), np.stack([speechlike(1.1, seed) for seed in range(5)])
    frames, _ = logmel(samples, logmel.start(5))
    joined = np.concatenate((logmel.start(5), samples), axis=1).astype(np.float64)
    cut = np.lib.stride_tricks.sliding_window_view(joined, config.window, axis=1)[:, :: config.hop]
    spectrum = np.fft.rfft((cut - cut.mean(axis=2, keepdims=True)) * np.hanning(config.window), config.fft, axis=2)
    wanted = np.log(np.maximum(np.square(np.abs(spectrum)) @ mel_filters(config), POWER_FLOOR))
    np.testing.assert_allclose(frames, wanted, atol=1e-4)


@pytest.mark.parametrize("kernel", ["SkylakeX", "Haswell"])
def test_no_thread_but_the_callers_works(kernel: str) -> None:
    """OpenBLAS would share larger products out, and its threads would spin; its variables choose that it could."""
    code = (
        "import time, numpy as np\nfrom streamdet.features import FrontEnd, FrontEndConfig\n"
        "front_end = FrontEnd(FrontEndConfig(mels=128, bands='linear'))\n"
        "samples, state = np.ones((32, 5120), np.float32), front_end.start(32)\n"
        "np.ones((400, 400)) @ np.ones((400, 400))\n"
        "time.sleep(1)\nbegin = time.process_time() - time.thread_time()\n"
        "for _ in range(20): _, state = front_end(samples, state)\n"
        "print(time.process_time() - time.thread_time() - begin)"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OPENBLAS_CORETYPE": kernel}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert float(done.stdout) < 0.01


@given(chunks=st.lists(st.integers(0, 9_000), min_size=1, max_size=30), seed=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_chunked_equals_whole(chunks: list[int], seed: int) -> None:
    front_end = FrontEnd()
    samples = speechlike(4.0, seed)[: sum(chunks)]
    state, parts, at = front_end.start(1), [], 0
    for size in chunks:
        features, state = front_end(samples[None, at : at + size], state)
        parts.append(features[0])
        at += size
    whole = front_end.whole(samples)
    assert len(whole) == len(samples) // 160
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


def test_each_stream_of_a_batch_equals_its_single_run() -> None:
    front_end = FrontEnd()
    batch = np.stack([speechlike(1.28, seed) for seed in range(5)])
    together, _ = front_end(batch, front_end.start(5))
    for row, samples in zip(together, batch, strict=True):
        np.testing.assert_array_equal(row, front_end.whole(samples))


@pytest.mark.parametrize("decibels", [-30, -12, -3])
def test_gain_does_not_move_the_features(decibels: float) -> None:
    front_end = FrontEnd()
    samples = speechlike(4.0)
    quiet = (samples * 10 ** (decibels / 20)).astype(np.float32)
    np.testing.assert_allclose(front_end.whole(quiet), front_end.whole(samples), atol=1e-4)


def test_digital_silence_is_zero_and_lasting_silence_does_not_grow_loud() -> None:
    front_end = FrontEnd()
    assert not front_end.whole(np.zeros(16_000, np.float32)).any()
    faded = np.concatenate((speechlike(2.0), np.zeros(16_000 * 60, np.float32)))
    assert not front_end.whole(faded)[-100:].any()


def test_no_frame_looks_ahead() -> None:
    front_end = FrontEnd()
    samples = speechlike(2.0)
    changed = samples.copy()
    changed[16_000:] = 0.3
    np.testing.assert_array_equal(front_end.whole(samples)[:100], front_end.whole(changed)[:100])
    assert np.abs(front_end.whole(samples)[100] - front_end.whole(changed)[100]).max() > 0.1
