"""Turns are fair whatever the streams do."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from streamdet.engine.scheduler import Turns


@dataclass(eq=False, slots=True)
class Stream:
    name: int
    queued: bool = False
    hops: int = 0


def test_the_longest_waiting_comes_first_and_stands_once() -> None:
    turns: Turns[Stream] = Turns()
    streams = [Stream(number) for number in range(4)]
    for stream in (streams[2], streams[0], streams[2], streams[3]):
        turns.offer(stream)
    assert turns.first is streams[2]
    assert [stream.name for stream in turns.take(2)] == [2, 0]
    turns.offer(streams[2])
    assert [stream.name for stream in turns.take(9)] == [3, 2]
    assert turns.first is None
    assert not turns


@given(st.lists(st.integers(0, 5), max_size=200), st.integers(1, 4))
def test_no_stream_has_a_turn_more_than_once_while_another_waits(arrivals: list[int], batch: int) -> None:
    """However many hops a stream brings, between two of its turns everybody who waited before has had one."""
    turns: Turns[Stream] = Turns()
    streams = [Stream(number) for number in range(6)]
    since: dict[int, Counter[int]] = {}  # by stream that waits: turns of others since it queued up
    for number in arrivals:
        streams[number].hops += 1
        if not streams[number].queued:
            since[number] = Counter()
        turns.offer(streams[number])
        if number % 2:  # arrivals outrun the turns
            continue
        for stream in turns.take(batch):
            since.pop(stream.name)
            stream.hops -= 1
            for others in since.values():
                others[stream.name] += 1
            if stream.hops:
                since[stream.name] = Counter()
                turns.offer(stream)
        assert all(count <= 1 for others in since.values() for count in others.values())
