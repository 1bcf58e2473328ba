"""The ring buffer against a plain list of samples."""

import threading

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdet.audio.ring import Ring

CAPACITY = 50
steps = st.lists(st.tuples(st.sampled_from(["write", "skip", "read"]), st.integers(0, 70)), max_size=60)


@given(steps)
@settings(max_examples=200, deadline=None)
def test_behaves_like_an_endless_tape_seen_through_a_window(actions: list[tuple[str, int]]) -> None:
    ring = Ring(CAPACITY)
    tape: list[float] = []
    missing: set[int] = set()
    read = overrun = 0
    for action, count in actions:
        heard = len(tape) + (count if action == "write" else 0)
        if action == "write":
            values = np.arange(len(tape) + 1, len(tape) + 1 + count, dtype=np.float32)
            ring.write(values)
            tape.extend(values.tolist())
        elif action == "skip":
            ring.skip(count)
            missing.update(range(len(tape), len(tape) + count))
            tape.extend([0.0] * count)
        oldest = max(0, len(tape) - CAPACITY)
        if read < oldest:
            overrun += max(0, min(oldest, heard) - read)
            read = oldest
        if action == "read":
            span = ring.read(count)
            assert (span is None) == (len(tape) - read < count)
            if span is not None:
                assert span.samples.tolist() == tape[read : read + count]
                assert span.lost == len(missing & set(range(read, read + count)))
                read += count
        assert (ring.written, ring.position, ring.overrun) == (len(tape), read, overrun)
        assert ring.available == len(tape) - read


def test_slice_gives_what_is_still_held_and_leaves_the_reader_alone() -> None:
    ring = Ring(100)
    ring.write(np.arange(130, dtype=np.float32))
    span = ring.slice(0, 60)
    assert (span.start, span.stop) == (30, 60)
    assert span.samples.tolist() == list(range(30, 60))
    assert ring.position == 30
    assert len(ring.slice(0, 10).samples) == 0


def test_a_gap_may_be_marked_before_its_samples_are_written() -> None:
    ring = Ring(100)
    ring.mark_lost(5, 15)
    ring.write(np.ones(20, np.float32))
    first, second = ring.read(10), ring.read(10)
    assert first is not None
    assert second is not None
    assert (first.lost, second.lost) == (5, 5)


def test_one_writer_and_one_reader_lose_nothing() -> None:
    ring = Ring(1 << 20)
    total = 400_000

    def write() -> None:
        at = 0
        while at < total:
            ring.write(np.arange(at, at + 160, dtype=np.float32))
            at += 160

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while sum(map(len, seen)) < total:
        span = ring.read(320)
        if span is not None:
            seen.append(span.samples)
    writer.join()
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(total, dtype=np.float32))
    assert ring.overrun == 0


def test_after_an_overrun_the_reader_goes_on_at_the_grid() -> None:
    ring = Ring(100, grid=30)
    ring.write(np.arange(135, dtype=np.float32))
    span = ring.read(30)
    assert span is not None
    assert (span.start, ring.overrun) == (60, 60)
