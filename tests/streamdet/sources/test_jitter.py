"""The jitter buffer and the time line, on a clock that the test holds."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdet.sources.jitter import JitterBuffer, Released
from streamdet.sources.rtp_packet import RtpPacket
from streamdet.sources.timeline import Timeline

FRAME = 160
STEP = 0.02


def packet(number: int, *, timestamp: int | None = None) -> RtpPacket:
    return RtpPacket(0, number & 0xFFFF, (number * FRAME if timestamp is None else timestamp) & 0xFFFFFFFF, 7, b"")


def feed(buffer: JitterBuffer, arrivals: list[tuple[float, int]]) -> list[Released]:
    """Let packets arrive at their times, looking in between when the buffer asks for it; then drain it."""
    out: list[Released] = []
    for at, number in arrivals:
        while (due := buffer.deadline(at)) is not None and due < at:
            taken = buffer.take(due + 1e-9)
            if not taken:
                break
            out += taken
        buffer.put(packet(number), at)
        out += buffer.take(at)
    return out + buffer.take(arrivals[-1][0] + 10)


def regular(count: int, first: int = 65_500) -> list[tuple[float, int]]:
    return [(i * STEP, first + i) for i in range(count)]


def numbers(released: list[Released]) -> list[int]:
    return [item.packet.sequence for item in released]


def test_in_order_packets_pass_at_once_over_the_wrap() -> None:
    buffer = JitterBuffer(clock=8000)
    out = feed(buffer, regular(100)[:3])
    for at, number in regular(100)[3:]:
        buffer.put(packet(number), at)
        now = buffer.take(at)
        assert numbers(now) == [number & 0xFFFF]
        out += now
    assert numbers(out) == [(65_500 + i) & 0xFFFF for i in range(100)]
    assert (buffer.counters.received, buffer.counters.lost) == (100, 0)
    assert buffer.jitter.seconds == pytest.approx(0, abs=1e-9)


def test_a_single_datagram_is_no_stream() -> None:
    buffer = JitterBuffer(clock=8000)
    buffer.put(packet(5), 0.0)
    assert not buffer.trusted
    assert buffer.take(100.0) == []
    assert buffer.deadline(100.0) is None
    buffer.put(packet(6), 100.0)
    assert buffer.trusted
    assert numbers(buffer.take(100.1)) == [5, 6]


def test_a_gap_is_waited_for_by_time() -> None:
    buffer = JitterBuffer(clock=8000, shortest=0.04, longest=0.4)
    feed(buffer, regular(50, first=0))
    buffer.put(packet(51), 51 * STEP)  # 50 is missing
    assert buffer.take(51 * STEP) == []
    due = buffer.deadline(51 * STEP)
    assert due == pytest.approx(51 * STEP + 0.04, abs=1e-3)
    assert buffer.take(due - 1e-3) == []
    (item,) = buffer.take(due)
    assert (item.packet.sequence, item.missing) == (51, 1)
    buffer.put(packet(50), due + 0.01)
    assert buffer.take(due + 0.01) == []
    assert (buffer.counters.late, buffer.counters.lost) == (1, 0)
    assert buffer.hold(due + 0.02) == pytest.approx(1.25 * 0.05, abs=1e-3)  # it learns to wait longer
    assert buffer.hold(due + 60) == pytest.approx(0.04, abs=5e-3)  # and forgets


def test_reordered_and_duplicate_packets() -> None:
    order = [0, 1, 2, 4, 3, 5, 5, 6, 8, 9, 7, 7, 10, 2]
    buffer = JitterBuffer(clock=8000)
    out = feed(buffer, [(i * STEP / 4, number) for i, number in enumerate(order)])
    assert numbers(out) == list(range(11))
    counters = buffer.counters
    assert (counters.received, counters.reordered, counters.duplicate, counters.lost) == (11, 2, 3, 0)


def test_the_first_packets_may_come_out_of_order() -> None:
    buffer = JitterBuffer(clock=8000)
    out = feed(buffer, [(0.0, 11), (0.005, 12), (0.01, 10), (0.02, 13)])
    assert numbers(out) == [10, 11, 12, 13]


def test_a_sender_that_begins_anew_is_believed_at_the_second_packet() -> None:
    buffer = JitterBuffer(clock=8000)
    out = feed(buffer, [*regular(10, first=0), (1.0, 40_000), (1.02, 40_001), (1.04, 40_002)])
    assert numbers(out) == [*range(10), 40_001, 40_002]
    assert [item.restarted for item in out[-2:]] == [True, False]
    assert [item.missing for item in out[-2:]] == [0, 0]
    assert (buffer.counters.stray, buffer.counters.lost) == (1, 0)


def test_one_stray_sequence_number_changes_nothing() -> None:
    buffer = JitterBuffer(clock=8000)
    out = feed(
        buffer, [*regular(10, first=0), (0.2, 30_000), *((at + 0.2, 10 + i) for i, (at, _) in enumerate(regular(5)))]
    )
    assert numbers(out) == list(range(15))
    assert buffer.counters.stray == 1


def test_held_packets_are_bounded() -> None:
    buffer = JitterBuffer(clock=8000, longest=100.0, shortest=100.0, capacity=50)
    for i in [0, 1, *range(3, 200)]:
        buffer.put(packet(i), 0.0)
        buffer.take(0.0)
    assert len(buffer._held) <= 51


@given(
    seed=st.integers(0, 10_000),
    loss=st.floats(0, 0.5),
    duplicates=st.floats(0, 0.3),
    jitter=st.floats(0, 0.3),
    first=st.integers(0, 0xFFFF),
)
def test_every_packet_is_counted_once(seed: int, loss: float, duplicates: float, jitter: float, first: int) -> None:
    chance = random.Random(seed)
    count = 300
    arrivals = []
    for i in range(count):
        if i > 1 and i < count - 1 and chance.random() < loss:
            continue
        for _ in range(1 + (chance.random() < duplicates)):
            delay = 0.0 if i < 2 else jitter * chance.random()
            arrivals.append((i * STEP + delay, first + i))
    arrivals.sort()
    buffer = JitterBuffer(clock=8000)
    out = feed(buffer, arrivals)
    counters = buffer.counters
    sent = Counter(number for _, number in arrivals)
    assert counters.stray == 0
    assert counters.received + counters.late + counters.duplicate == len(arrivals)
    assert counters.received + counters.late == len(sent)
    assert len(out) == counters.received
    order = [item.sequence for item in out]
    assert order == sorted(set(order))
    # From the first packet played to the last, each is played, late or lost; nothing is counted as lost outside.
    inside = [n for n in range(count) if (first + n) & 0xFFFF in {item.packet.sequence for item in out}]
    came = {number - first for number in sent}
    never = sum(n not in came for n in range(inside[0], inside[-1]))
    assert counters.lost == never
    assert sum(item.missing for item in out) == inside[-1] - inside[0] + 1 - len(out)


def place(line: Timeline, timestamp: int, at: float, *, missing: int = 0, restarted: bool = False) -> tuple[int, int]:
    released = Released(0, at, packet(0, timestamp=timestamp), missing, restarted)
    return line.place(released, FRAME, 8000)


def test_time_stamps_tell_loss_from_silence() -> None:
    line = Timeline()
    assert place(line, 0xFFFFFF60, 0.0) == (0, 0)  # about to wrap
    assert place(line, 0, 0.02) == (0, 0)
    assert place(line, 3 * FRAME, 0.06, missing=2) == (2 * FRAME, 0)
    assert place(line, 8000, 1.0) == (0, 8000 - 4 * FRAME)
    line.skip(Released(0, 1.05, packet(0), 3))  # an event, and three packets missing before it
    assert place(line, 8000 + 5 * FRAME, 1.1) == (3 * FRAME, FRAME)
    line.carry(Released(0, 1.15, packet(0), 1), broken=True)  # one that is damaged, and one missing before it
    assert place(line, 8000 + 8 * FRAME, 1.2) == (2 * FRAME, 0)
    assert line.resets == 0


def test_time_stamps_that_no_clock_supports_are_not_believed() -> None:
    line = Timeline()
    place(line, 0, 0.0)
    assert place(line, 0x40000000, 0.02) == (0, 0)
    assert place(line, 0x40000000 + FRAME, 0.04) == (0, 0)
    assert place(line, 0, 0.06, missing=2) == (2 * FRAME, 0)
    assert line.resets == 2


def test_a_new_start_counts_the_time_that_passed_as_lost() -> None:
    line = Timeline()
    place(line, 0, 0.0)
    assert place(line, 123_456, 1.5, restarted=True) == (12_000 - FRAME, 0)


def test_small_errors_of_time_stamps_add_up_instead_of_tearing_the_sound() -> None:
    line = Timeline()
    placed = [place(line, i * (FRAME + 1), i * STEP) for i in range(200)]
    assert sum(lost for lost, _ in placed) == 0
    assert 0 < sum(silent for _, silent in placed) <= 200
    assert sum(silent > 0 for _, silent in placed) < 5


def test_what_is_lost_is_bounded_by_the_clock_on_the_wall() -> None:
    line = Timeline()
    place(line, 0, 10.0)
    # Found by fuzzing: 3000 numbers missing, time stamps that cannot be; and a packet that waited long for its turn.
    assert place(line, 0x40000000, 10.1, missing=3000) == (pytest.approx(2.1 * 8000, abs=1), 0)
    assert place(line, 0, 7.9, missing=3000) == (2 * 8000, 0)


def test_a_lost_packet_of_ten_milliseconds_is_seen() -> None:
    line = Timeline()
    released = [Released(0, 0.01 * n, packet(0, timestamp=80 * n), int(n == 5)) for n in (0, 1, 2, 3, 5, 6)]
    assert sum(line.place(one, 80, 8000)[0] for one in released) == 80
