"""From blocks to hops: nothing shifts, nothing is invented, what is missing is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdet.audio.block import Block
from streamdet.voice import Hop, Voice

HOP = 100


def make_voice() -> Voice:
    return Voice("test", rate=16_000, hop_samples=HOP, ring_seconds=1.0)


def take_all(voice: Voice) -> list[Hop]:
    hops = []
    while (hop := voice.take()) is not None:
        hops.append(hop)
    return hops


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 250)), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_hops_are_the_tape_with_silence_where_it_was_lost(blocks: list[tuple[int, int]]) -> None:
    voice, tape, missing, hops, arrived = make_voice(), [], [], [], []
    for number, (lost, count) in enumerate(blocks):
        values = np.arange(len(tape) + 1, len(tape) + 1 + count, dtype=np.float32)
        tape += [0.0] * lost + values.tolist()
        missing += [True] * lost + [False] * count
        arrived += [float(number)] * (lost + count)
        voice.accept(Block("test", values, 16_000, lost=lost, arrived=float(number)))
        hops += take_all(voice)
    assert len(hops) == len(tape) // HOP
    for number, hop in enumerate(hops):
        part = slice(number * HOP, (number + 1) * HOP)
        assert hop.samples.tolist() == tape[part]
        assert hop.lost == sum(missing[part])
        assert hop.end == part.stop
        assert hop.arrived == arrived[part][-1]


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_a_gap_keeps_its_length_at_any_rate(rate: int) -> None:
    voice = Voice("test", rate=16_000, hop_samples=160, ring_seconds=10.0)
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)
    voice.accept(Block("test", tone, rate))
    voice.accept(Block("test", tone, rate, lost=rate // 2))
    voice.finish("end")
    hops = take_all(voice)
    assert sum(hop.lost for hop in hops) == pytest.approx(8_000, abs=2)
    assert voice.ring.written == pytest.approx(40_000, abs=400)
    quiet = [number for number, hop in enumerate(hops) if np.abs(hop.samples).max() < 0.01]
    assert quiet == list(range(quiet[0], quiet[0] + len(quiet)))
    assert 16_000 // 160 - 2 <= quiet[0] <= 16_000 // 160 + 2
    assert 47 <= len(quiet) <= 51


def test_a_long_gap_is_jumped_and_marked() -> None:
    voice = Voice("test", rate=16_000, hop_samples=1_600, ring_seconds=30.0)
    voice.accept(Block("test", np.ones(16_000, np.float32), 16_000))
    voice.accept(Block("test", np.ones(16_000, np.float32), 16_000, lost=5 * 16_000))
    hops = take_all(voice)
    assert [hop.lost for hop in hops] == [0] * 10 + [1_600] * 50 + [0] * 10


def test_the_end_fills_up_the_last_hop_but_not_the_clock() -> None:
    voice = Voice("test", rate=16_000, hop_samples=5_120, ring_seconds=10.0)
    voice.accept(Block("test", np.ones(7_000, np.float32), 16_000))
    voice.finish("end of file")
    hops = take_all(voice)
    assert [hop.end for hop in hops] == [5_120, 7_000]
    assert hops[1].samples.sum() == 1_880


def test_concealed_samples_count_as_lost() -> None:
    voice = make_voice()
    voice.accept(Block("test", np.ones(50, np.float32), 16_000))
    voice.accept(Block("test", np.ones(50, np.float32), 16_000, concealed=True))
    (hop,) = take_all(voice)
    assert hop.lost == 50


def test_it_says_how_much_sound_the_next_hop_wants() -> None:
    voice = make_voice()
    assert voice.wanting == HOP / 16_000
    voice.accept(Block("test", np.ones(30, np.float32), 16_000))
    assert voice.wanting == 70 / 16_000
    voice.accept(Block("test", np.ones(69, np.float32), 16_000))
    assert not voice.ready
    voice.accept(Block("test", np.ones(6, np.float32), 16_000))
    assert voice.ready
    assert voice.wanting == 95 / 16_000
    take_all(voice)
    assert voice.wanting == 95 / 16_000
