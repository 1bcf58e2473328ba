"""A sound card whose clock is wrong: measured, and made up for, over an hour that takes seconds."""

from __future__ import annotations

import numpy as np
import pytest

from streamdet.audio.block import Block
from streamdet.audio.resample import Resampler
from streamdet.sources.drift import DriftMeter
from streamdet.voice import Voice

RATE = 4000


@pytest.mark.parametrize("skew", [500.0, -500.0])
def test_an_hour_with_a_clock_that_is_off_stays_on_real_time(skew: float) -> None:
    meter, chance = DriftMeter(RATE), np.random.default_rng(1)
    resampler = Resampler(RATE, RATE, variable=True)
    chunk, worst, made, samples = RATE // 10, 0.0, 0, np.zeros(RATE // 10, np.float32)
    for n in range(1, 36_000):
        recorded = n * chunk / (RATE * (1 + skew * 1e-6))
        at = recorded + 0.03 * chance.random() + (0.4 if chance.random() < 0.01 else 0.0)  # late, some very late
        meter.add(chunk, at)
        resampler.follow(meter.correction)
        made += len(resampler.push(samples))
        worst = max(worst, abs(resampler.position / RATE - recorded))
    assert meter.drift == pytest.approx(skew, abs=10)
    assert worst < 0.04  # uncorrected it is 1.8 s
    assert abs(resampler.position / RATE - recorded) < 0.01
    assert 0 <= resampler.position - made < 400  # what the filter holds


def test_a_voice_makes_up_for_the_drift_that_its_source_tells() -> None:
    voice = Voice("mic", rate=RATE, hop_samples=1280, ring_seconds=20)
    for _ in range(2000):
        voice.accept(Block("mic", np.zeros(400, np.float32), RATE, drift=500.0))
        while voice.take() is not None:
            pass
    voice.finish("end")
    assert voice.length == pytest.approx(2000 * 400 / 1.0005, abs=2)


def test_loss_that_is_counted_is_no_drift() -> None:
    meter = DriftMeter(RATE)
    for n in range(2000):
        meter.add(400 + (4000 if n == 900 else 0), n * 0.1 + (1.0 if n >= 900 else 0.0))
    assert meter.drift == pytest.approx(0, abs=1)


def test_following_a_drift_keeps_the_tone_and_the_positions() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(10 * 48_000) / 48_000).astype(np.float32)
    resampler = Resampler(48_000, 16_000, variable=True)
    parts = []
    for n, begin in enumerate(range(0, len(tone), 960)):
        resampler.follow(400.0 if n >= 250 else 0.0)
        parts.append(resampler.push(tone[begin : begin + 960]))
    parts.append(resampler.finish())
    expected = 5 * 16_000 + 5 * 16_000 / 1.0004
    assert resampler.position == int(expected)
    heard = np.concatenate(parts)
    assert abs(len(heard) - expected) < 100
    steps = np.abs(np.diff(heard[1000:-1000]))
    assert steps.max() < 2 * np.pi * 440 / 16_000 * 1.01  # no click where the ratio changed
