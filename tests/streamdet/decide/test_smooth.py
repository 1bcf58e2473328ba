from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdet.decide.smooth import Cusum, CusumConfig, Evidence, Smoother

shares = st.one_of(st.just(0.0), st.floats(1e-9, 1))
levels = st.lists(st.tuples(st.floats(-20, 20), shares), min_size=1, max_size=20)


@given(levels, st.integers(1, 8), st.floats(0.05, 10))
def test_smoothing_does_not_depend_on_the_hop(steps: list[tuple[float, float]], parts: int, seconds: float) -> None:
    coarse, fine = Smoother(seconds), Smoother(seconds)
    for llr, speech in steps:
        value = coarse.update(llr, 0.64, speech)
        for _ in range(parts):
            last = fine.update(llr, 0.64 / parts, speech)
        assert last == pytest.approx(value, abs=1e-6)


def test_one_time_constant_closes_the_gap_to_one_over_e() -> None:
    smoother = Smoother(2.0)
    for _ in range(10_000):
        smoother.update(0.0, 0.32, 1.0)
    for _ in range(10):
        value = smoother.update(1.0, 0.2, 1.0)
    assert value == pytest.approx(1 - math.exp(-1), abs=1e-9)


def test_silence_holds_the_value_however_long() -> None:
    smoother = Smoother(1.0)
    smoother.update(3.0, 0.32, 1.0)
    for _ in range(1000):
        assert smoother.update(-9.0, 0.32, 0.0) == 3.0


@pytest.mark.parametrize("speech", [1.0, 0.1, 1e-9])
def test_the_first_speech_counts_in_full(speech: float) -> None:
    smoother = Smoother(5.0)
    assert smoother.value is None
    assert smoother.update(2.5, 0.32, 0.0) == 0.0
    assert smoother.update(2.5, 0.32, speech) == pytest.approx(2.5)


def test_no_seconds_means_no_smoothing() -> None:
    smoother = Smoother(0.0)
    assert [smoother.update(llr, 0.32, 1.0) for llr in (1.0, -2.0, 5.0)] == [1.0, -2.0, 5.0]


def test_without_smoothing_silence_still_holds_the_value() -> None:
    smoother = Smoother(0.0)
    smoother.update(3.0, 0.32, 1.0)
    assert smoother.update(-9.0, 0.32, 0.0) == 3.0


def test_a_hop_counts_by_the_speech_in_it() -> None:
    half, short = Smoother(1.0), Smoother(1.0)
    for llr in (3.0, -1.0, 2.0):
        partly = half.update(llr, 0.32, 0.5)
        wholly = short.update(llr, 0.16, 1.0)
    assert partly == pytest.approx(wholly, abs=1e-12)


@given(levels)
def test_the_average_stays_within_what_it_averages(steps: list[tuple[float, float]]) -> None:
    smoother = Smoother(1.0)
    heard = [llr for llr, speech in steps if speech > 0]
    for llr, speech in steps:
        value = smoother.update(llr, 0.32, speech)
    if smoother.value is not None:
        assert min(heard) - 1e-9 <= value <= max(heard) + 1e-9


@given(levels, st.integers(1, 8))
def test_cusum_of_a_steady_voice_does_not_depend_on_the_hop(steps: list[tuple[float, float]], parts: int) -> None:
    coarse, fine = Cusum(), Cusum()
    for llr, speech in steps:
        coarse.update(llr, 0.64, speech)
        for _ in range(parts):
            fine.update(llr, 0.64 / parts, speech)
        assert fine.value == pytest.approx(coarse.value, abs=1e-9)


@given(levels)
def test_cusum_stays_between_nothing_and_its_cap(steps: list[tuple[float, float]]) -> None:
    cusum = Cusum(CusumConfig(cap=3.0))
    for llr, speech in steps:
        assert 0.0 <= cusum.update(llr, 0.32, speech) <= 3.0


def test_cusum_counts_each_second_of_audio_once() -> None:
    cusum = Cusum(CusumConfig(window_seconds=3.0, cap=100.0))
    for _ in range(300):
        cusum.update(2.0, 0.1, 1.0)
    assert cusum.value == pytest.approx(10 * 2.0)  # thirty seconds are ten windows that do not overlap


def test_cusum_clips_and_takes_off_the_drift() -> None:
    cusum = Cusum(CusumConfig(window_seconds=1.0, clip=4.0, drift=1.0, cap=100.0))
    assert cusum.update(3.0, 1.0, 1.0) == pytest.approx(2.0)
    assert cusum.update(1e6, 1.0, 1.0) == pytest.approx(6.0)
    assert cusum.update(-1e6, 1.0, 1.0) == pytest.approx(2.0)


def test_cusum_forgets_human_speech_at_once_and_holds_in_silence() -> None:
    cusum = Cusum(CusumConfig(window_seconds=1.0))
    for _ in range(1000):
        cusum.update(-4.0, 1.0, 1.0)
    assert cusum.update(2.0, 1.0, 1.0) == 2.0
    assert cusum.update(-9.0, 1.0, 0.0) == 2.0


@pytest.mark.parametrize("evidence", [Smoother(1.0), Cusum()], ids=["smoother", "cusum"])
def test_nothing_is_left_after_a_reset(evidence: Evidence) -> None:
    evidence.update(3.0, 0.32, 1.0)
    evidence.reset()
    assert evidence.update(3.0, 0.32, 0.0) == 0.0
