"""The demo stream that ships: format, ground truth, and nothing but the voice to tell the turns apart."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import streamdet

FOLDER = Path(streamdet.__file__).parent / "demo"
SAMPLES, RATE = soundfile.read(FOLDER / "demo.flac", dtype="float32")
TRUTH: dict[str, Any] = json.loads((FOLDER / "demo.json").read_text())
TURNS: list[dict[str, Any]] = TRUTH["turns"]


def level(samples: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    """RMS in dBFS of the 20 ms frames within 25 dB of the loudest."""
    frames = 10 * np.log10(np.square(samples[: len(samples) // 320 * 320].reshape(-1, 320)).mean(axis=1) + 1e-12)
    return float(10 * np.log10(np.mean(10 ** (frames[frames > frames.max() - 25] / 10))))


def test_format() -> None:
    info = soundfile.info(FOLDER / "demo.flac")
    assert (info.samplerate, info.channels, info.format) == (16_000, 1, "FLAC")
    assert 60 <= info.duration <= 90
    assert TRUTH["rate"] == 16_000
    assert TRUTH["seconds"] == pytest.approx(info.duration, abs=0.001)
    assert np.abs(SAMPLES).max() < 0.99


def test_turns_are_in_order_and_long_enough_to_judge() -> None:
    assert [t["label"] for t in TURNS].count("synthetic") >= 2
    assert [t["label"] for t in TURNS].count("human") >= 3
    assert all(t["end"] - t["start"] > 8 for t in TURNS)
    assert all(0.3 <= after["start"] - before["end"] <= 1.5 for before, after in pairwise(TURNS))
    assert TURNS[-1]["end"] < TRUTH["seconds"]


def test_each_turn_says_where_it_comes_from_and_its_licence() -> None:
    assert all(t["provenance"] and t["licence"] and t["engine"] for t in TURNS)
    assert all(t["packages"] for t in TURNS if t["label"] == "human")
    assert all(t["engine"] == "recording" for t in TURNS if t["label"] == "human")


def test_level_does_not_tell_the_turns_apart() -> None:
    levels = [level(SAMPLES[round(t["start"] * RATE) : round(t["end"] * RATE)]) for t in TURNS]
    assert max(levels) - min(levels) < 1.0


def test_the_room_is_heard_in_every_pause() -> None:
    edges = [0.0, *(t["end"] for t in TURNS)]
    starts = [*(t["start"] for t in TURNS), TRUTH["seconds"]]
    pauses = [SAMPLES[round(a * RATE) : round(b * RATE)] for a, b in zip(edges, starts, strict=True)]
    levels = [10 * np.log10(np.mean(np.square(pause))) for pause in pauses]
    assert max(levels) - min(levels) < 2.0
    assert max(levels) < -55
