from __future__ import annotations

import numpy as np
import pytest

from streamdet.decide.onset import Onset

HOP = 0.32


def feed(onset: Onset, llrs: list[float], start: float = 0.0, speech: float = 1.0) -> float:
    for llr in llrs:
        onset.update(llr, start, speech)
        start += HOP
    return start


def test_a_clean_change_is_found_to_the_hop() -> None:
    onset = Onset()
    change = feed(onset, [-2.0] * 50)
    end = feed(onset, [2.0] * 8, change)
    assert onset.since(0.0, end) == pytest.approx(change)


def test_a_stream_that_begins_synthetic_has_its_onset_at_the_start() -> None:
    onset = Onset()
    end = feed(onset, [1.0] * 8)
    assert onset.since(0.0, end) == 0.0


def test_a_noisy_change_is_found_within_a_second_for_nearly_all_seeds() -> None:
    errors = []
    for seed in range(200):
        noise = np.random.default_rng(seed)
        onset = Onset()
        change = feed(onset, list(noise.normal(-1.5, 1.5, 60)))
        end = feed(onset, list(noise.normal(1.5, 1.5, 15)), change)
        errors.append(abs(onset.since(0.0, end) - change))
    assert np.quantile(errors, 0.9) <= 1.0


def test_one_wild_hop_does_not_move_the_onset() -> None:
    onset = Onset(clip=2.0)
    start = feed(onset, [100.0, *[-2.0] * 3])
    end = feed(onset, [2.0] * 4, start)
    assert onset.since(0.0, end) == pytest.approx(start)


def test_a_long_synthetic_turn_is_forgotten_within_seconds() -> None:
    onset = Onset(clip=2.0, cap=10.0)
    start = feed(onset, [2.0] * 500)
    start = feed(onset, [-2.0] * 6, start)
    end = feed(onset, [2.0] * 3, start)
    assert onset.since(0.0, end) == pytest.approx(start)


def test_silence_counts_neither_way() -> None:
    onset = Onset()
    change = feed(onset, [-2.0] * 5)
    start = feed(onset, [2.0] * 3, change)
    end = feed(onset, [-2.0] * 50, start, speech=0.0)
    assert onset.since(0.0, end) == pytest.approx(change)


def test_the_answer_is_kept_within_bounds_and_latest_where_nothing_leans() -> None:
    onset = Onset()
    assert onset.since(3.0, 7.0) == 7.0
    feed(onset, [1.0] * 8)
    assert onset.since(1.5, 7.0) == 1.5
    onset.reset()
    assert onset.since(1.5, 7.0) == 7.0
