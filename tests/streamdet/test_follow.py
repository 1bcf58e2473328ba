"""Following a publisher: every event once and in order, whatever gets lost on the way."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from streamdet.client import subscribe
from streamdet.errors import ConfigError
from streamdet.events import Event, to_json
from streamdet.follow import Follower
from streamdet.sinks.zeromq import ZeroMQSink
from streamdet.store.replay import Replay
from streamdet.store.writer import Writer
from streamdet.subscribe import Message

from .store.make import alert, health, items, score, state


class Server:
    """Publisher, store and replay, without what makes events; ``lose`` stores without publishing."""

    def __init__(self, folder: Path, *, store: str = "events.db") -> None:
        self.folder, self.path = folder, folder / store
        self.publish, self.replay = f"ipc://{folder}/events", f"ipc://{folder}/replay"
        self.start()

    def start(self) -> None:
        self.writer = Writer(self.path)
        self.sink = ZeroMQSink(self.publish, linger_seconds=0.0)
        self.part = Replay(self.replay, self.path)
        self.part.start(None)  # type: ignore[arg-type]

    def lose(self, *events: Event) -> None:
        self.writer.append(items(events))

    def send(self, *events: Event) -> None:
        self.lose(*events)
        self.forget(*events)

    def forget(self, *events: Event) -> None:
        """Publish without storing."""
        for event in events:
            self.sink.emit(event, to_json(event))

    def stop(self) -> None:
        self.sink.close()
        self.part.close()
        self.writer.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def follow(server: Server) -> Iterator[Callable[..., Follower]]:
    made: list[Follower] = []

    def make(**options: object) -> Follower:
        made.append(Follower(server.publish, server.replay, **options))
        return made[-1]

    yield make
    for follower in made:
        follower.close()


def take(follower: Follower, count: int, seconds: float = 30.0) -> list[Message]:
    got: list[Message] = []
    until = time.monotonic() + seconds
    while len(got) < count:
        assert time.monotonic() < until, got
        message = follower.receive(0.1)
        if message is not None and message.event.stream != "probe":
            got.append(message)
    return got


def nothing(follower: Follower, seconds: float = 0.7) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        message = follower.receive(0.1)
        if message is not None and message.event.stream != "probe":
            return False
    return True


def connect(server: Server, follower: Follower, numbers: Iterator[int]) -> None:
    """Send probes until one comes live."""
    until = time.monotonic() + 30.0
    while True:
        assert time.monotonic() < until
        server.forget(state(next(numbers), stream="probe"))
        message = follower.receive(0.05)
        if message is not None and message.event.stream == "probe" and not message.replayed:
            return


def seqs(messages: Sequence[Message]) -> list[int]:
    return [message.event.seq for message in messages]


def test_a_gap_is_filled_before_what_comes_after_it(server: Server, follow: Callable[..., Follower]) -> None:
    follower = follow(after="oldest")
    connect(server, follower, itertools.count(1))
    server.send(score(1))
    server.lose(score(2), alert(3))
    server.send(score(4), score(5))
    got = take(follower, 5)
    assert seqs(got) == [1, 2, 3, 4, 5]
    assert [message.missed for message in got] == [0] * 5
    assert got[2].payload == to_json(alert(3))
    assert nothing(follower)


def test_the_end_of_a_stream_is_found_without_a_gap(server: Server, follow: Callable[..., Follower]) -> None:
    follower = follow(after="oldest")
    connect(server, follower, itertools.count(1))
    server.send(score(1))
    take(follower, 1)
    server.lose(score(2), alert(3))  # and nothing more comes of this stream
    assert seqs(take(follower, 2)) == [2, 3]


def test_now_begins_with_the_last_of_each_stream_and_loses_nothing_after_it(
    server: Server, follow: Callable[..., Follower]
) -> None:
    server.lose(state(1), *map(score, range(2, 50)), alert(50), *map(score, range(51, 60)), score(7, stream="door"))
    follower = follow()
    first = take(follower, 4)
    assert sorted((m.event.stream, m.event.seq) for m in first) == [
        ("door", 7),
        ("hall", 1),
        ("hall", 50),
        ("hall", 59),
    ]
    assert all(message.replayed and not message.missed for message in first)
    server.lose(score(60))
    server.send(score(61), score(1, stream="new"))
    got = take(follower, 3)
    assert [(m.event.stream, m.event.seq) for m in got if m.event.stream == "hall"] == [("hall", 60), ("hall", 61)]
    assert follower.missed == 0


def test_an_event_that_comes_before_the_first_answer_hides_nothing_older(
    server: Server, follow: Callable[..., Follower]
) -> None:
    server.part.close()  # so that the live event is first
    server.lose(*map(score, range(1, 6)))
    follower = follow(after="oldest")
    until = time.monotonic() + 30.0
    while not follower._tracks:
        assert time.monotonic() < until
        server.forget(score(6))
        follower.receive(0.05)
    server.lose(score(6))
    server.part = Replay(server.replay, server.path)
    server.part.start(None)  # type: ignore[arg-type]
    assert seqs(take(follower, 6)) == [1, 2, 3, 4, 5, 6]


def test_going_on_where_another_follower_ended(server: Server, follow: Callable[..., Follower]) -> None:
    server.lose(*map(score, range(1, 11)), score(1, stream="door"))
    first = follow(after="oldest")
    take(first, 11)
    positions = first.positions
    assert positions == {"hall": 10, "door": 1}
    server.lose(*map(score, range(11, 21)), alert(2, stream="door"))
    second = follow(after=positions)
    got = take(second, 11)
    assert seqs([m for m in got if m.event.stream == "hall"]) == list(range(11, 21))
    assert nothing(second)


def test_positions_leave_out_what_was_not_handed_on_yet(server: Server, follow: Callable[..., Follower]) -> None:
    server.lose(*map(score, range(1, 11)))
    follower = follow(after="oldest")
    take(follower, 3)
    assert follower.positions == {"hall": 3}


def test_a_restart_with_the_same_store_loses_and_repeats_nothing(
    server: Server, follow: Callable[..., Follower]
) -> None:
    follower = follow(after="oldest")
    connect(server, follower, itertools.count(1))
    server.send(*map(score, range(1, 6)))
    take(follower, 5)
    server.stop()
    server.start()
    server.lose(score(6), alert(7))
    time.sleep(0.2)
    server.send(score(8))
    assert seqs(take(follower, 3)) == [6, 7, 8]
    assert nothing(follower)


def test_a_restart_with_another_store_begins_anew(server: Server, follow: Callable[..., Follower]) -> None:
    follower = follow(after="oldest")
    server.lose(*map(score, range(1, 6)))
    take(follower, 5)
    server.stop()
    server.path = server.folder / "another.db"
    server.start()
    server.lose(score(1, at=60.0), score(2, at=61.0))
    assert seqs(take(follower, 2)) == [1, 2]
    assert nothing(follower)


def test_what_the_store_never_had_is_counted(server: Server, follow: Callable[..., Follower]) -> None:
    follower = follow(after="oldest")
    connect(server, follower, itertools.count(1))
    server.send(score(1))
    server.lose(score(3))
    server.send(score(5))
    got = take(follower, 3)
    assert [(message.event.seq, message.missed) for message in got] == [(1, 0), (3, 1), (5, 1)]


def test_without_replay_gaps_are_counted_and_a_publisher_started_anew_is_heard(server: Server) -> None:
    with Follower(server.publish) as follower:
        connect(server, follower, itertools.count(1))
        server.forget(score(7), score(9))
        assert [(m.event.seq, m.missed) for m in take(follower, 2)] == [(7, 0), (9, 1)]
        server.stop()
        server.start()
        connect(server, follower, itertools.count(1000))
        server.forget(score(1, at=60.0), score(2, at=60.0))
        assert [(m.event.seq, m.missed) for m in take(follower, 2)] == [(1, 0), (2, 0)]


def test_a_replay_socket_that_is_not_there_costs_patience_and_no_event(server: Server) -> None:
    with Follower(server.publish, f"ipc://{server.folder}/nobody", patience=1.0) as follower:
        connect(server, follower, itertools.count(1))
        server.forget(score(1))
        take(follower, 1)
        began = time.monotonic()
        server.forget(score(3), score(4))
        got = take(follower, 2)
        assert time.monotonic() - began > 0.9
        assert [(message.event.seq, message.missed) for message in got] == [(3, 1), (4, 0)]


def test_only_some_streams(server: Server, follow: Callable[..., Follower]) -> None:
    server.lose(score(1), score(1, stream="hall-2"), score(1, stream="door"))
    follower = follow(streams=["hall"], after="oldest")
    take(follower, 1)
    server.send(score(2, stream="door"), score(2, stream="hall-2"))
    server.lose(score(2))
    server.send(score(3), health(1))
    got = take(follower, 3)
    assert [(m.event.stream, m.event.seq) for m in got if m.event.stream != "*"] == [("hall", 2), ("hall", 3)]


def test_iterating_yields_the_kinds_that_are_wanted(server: Server) -> None:
    server.lose(score(1), alert(2), score(3), alert(4, "cleared"))
    with subscribe(server.publish, server.replay, kinds=["alert"], after="oldest") as events:
        assert [event.seq for event in itertools.islice(events, 2)] == [2, 4]


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://127.0.0.1:65536"])
def test_an_endpoint_that_is_none_is_one_clear_error(server: Server, endpoint: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot replay from {endpoint}"):
        Follower(server.publish, endpoint)
