"""Turns joined into one stream: levels, splices, spans."""

from __future__ import annotations

import numpy as np
import pytest

from streamdet.features.logmel import FloatArray
from trainer.demo.join import FADE, RATE, frame_levels, join, prepare, room, speech_level, to_rate, trim


def tone(seconds: float, amplitude: float, frequency: float = 220.0, rate: int = RATE) -> FloatArray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def silence(seconds: float) -> FloatArray:
    return np.zeros(round(seconds * RATE), np.float32)


@pytest.mark.parametrize("amplitude", [0.003, 0.1, 0.9])
def test_prepared_turns_share_one_level(amplitude: float) -> None:
    turn = prepare(np.concatenate([tone(1, amplitude), silence(0.5), tone(1, amplitude)]), level=-26.0)
    assert speech_level(turn) == pytest.approx(-26.0, abs=0.2)


def test_quiet_ends_are_cut_but_not_inner_pauses() -> None:
    turn = trim(np.concatenate([silence(1), tone(1, 0.1), silence(0.5), tone(1, 0.1), silence(2)]))
    assert len(turn) / RATE == pytest.approx(2.5, abs=0.15)


def test_a_turn_begins_and_ends_at_zero() -> None:
    turn = prepare(tone(1, 0.5, frequency=1234.0), level=-20.0)
    assert abs(turn[0]) < 1e-6
    assert abs(turn[-1]) < 1e-4
    assert np.abs(np.diff(turn[:FADE])).max() < np.abs(np.diff(turn)).max()


def test_room_has_its_level_everywhere_and_is_reproducible() -> None:
    noise = room(10 * RATE, level=-60.0, seed=3)
    assert np.median(frame_levels(noise)) == pytest.approx(-60.0, abs=1.5)
    np.testing.assert_array_equal(noise, room(10 * RATE, level=-60.0, seed=3))


def test_spans_hold_the_turns_and_pauses_hold_only_the_room() -> None:
    turns = [tone(1.0, 0.1), tone(2.0, 0.1)]
    samples, spans = join(turns, pauses=[0.5], noise=-60.0, seed=1)
    assert spans == [(RATE // 2, RATE * 3 // 2), (RATE * 2, RATE * 4)]
    assert len(samples) == RATE * 4 + RATE // 2
    for (begin, end), turn in zip(spans, turns, strict=True):
        np.testing.assert_allclose(samples[begin:end], turn, atol=0.02)
    assert frame_levels(samples[RATE * 3 // 2 : RATE * 2]).max() < -50


def test_stereo_at_another_rate_becomes_mono_16k() -> None:
    left, right = tone(1, 0.5, rate=44100), np.zeros(44100, np.float32)
    mono = to_rate(np.stack([left, right], axis=1), 44100)
    assert len(mono) == RATE
    assert speech_level(mono) == pytest.approx(20 * np.log10(0.25 / np.sqrt(2)), abs=0.1)
