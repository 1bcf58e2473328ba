"""The replay socket, asked by real sockets: in order, bounded, and honest about what is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from structlog.testing import capture_logs

from streamdet.errors import SinkError, StoreError
from streamdet.events import to_json
from streamdet.follow import ReplayClient
from streamdet.store.reader import Held
from streamdet.store.replay import Replay
from streamdet.store.upkeep import Limits, Upkeep
from streamdet.store.wire import MOST_EVENTS, EventsRequest, LatestRequest
from streamdet.store.writer import Writer

from .make import BEGIN, alert, fill, health, items, score, state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "events.db"
    fill(
        path,
        [state(1), *(score(seq) for seq in range(2, 31)), alert(31), score(32), score(1, stream="door"), health(1)],
    )
    return path


@pytest.fixture
def replay(path: Path) -> Iterator[Replay]:
    replay = Replay("tcp://127.0.0.1:*", path)
    replay.start(None)  # type: ignore[arg-type]  it looks at nothing inside
    yield replay
    replay.close()


@pytest.fixture
def client(replay: Replay) -> Iterator[ReplayClient]:
    client = ReplayClient(replay.endpoint)
    yield client
    client.close()


def seqs(payloads: tuple[bytes, ...]) -> list[tuple[str, int]]:
    return [(event["stream"], event["seq"]) for event in map(json.loads, payloads)]


def ask(client: ReplayClient, **options: Any) -> Any:
    reply = client.ask(EventsRequest(v=1, op="events", **options), 10.0)
    assert reply is not None
    return reply


def test_everything_after_a_number_as_it_was_published(client: ReplayClient) -> None:
    reply = ask(client, since={"hall": 29})
    assert reply.events == tuple(to_json(event) for event in (score(30), alert(31), score(32)))
    assert (reply.end.count, reply.end.more) == (3, False)
    assert reply.end.streams == {"hall": Held(1, 1, 32)}


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"since": {"hall": 3}, "upto": {"hall": 5}}, [("hall", 4), ("hall", 5)]),
        ({"since": {"hall": 32}}, []),
        ({"since": {"hall": 99}}, []),
        ({"since": {"nobody": 0}}, []),
        ({"since": {"hall": 31}, "others": True}, [("door", 1), ("*", 1), ("hall", 32)]),
        ({}, []),
    ],
)
def test_requests(client: ReplayClient, options: dict[str, Any], wanted: list[tuple[str, int]]) -> None:
    assert sorted(seqs(ask(client, **options).events)) == sorted(wanted)


def test_the_last_of_each_stream(client: ReplayClient) -> None:
    reply = client.ask(LatestRequest(v=1, op="latest"), 10.0)
    assert reply is not None
    assert seqs(reply.events) == [("*", 1), ("door", 1), ("hall", 1), ("hall", 31), ("hall", 32)]
    reply = client.ask(LatestRequest(v=1, op="latest", streams=("door", "nobody")), 10.0)
    assert reply is not None
    assert seqs(reply.events) == [("door", 1)]
    assert (
        reply.end.streams == {"door": Held(1, 1, 1), "nobody": Held(0, 1, 0)} or reply.end.streams["nobody"].last == 0
    )


def test_much_comes_in_bounded_answers(client: ReplayClient, path: Path) -> None:
    writer = Writer(path)
    writer.append(items([score(seq, stream="busy") for seq in range(1, 2 * MOST_EVENTS + 11)]))
    writer.close()
    got: list[tuple[str, int]] = []
    answers = 0
    more = True
    while more:
        reply = ask(client, since={"busy": len(got)})
        assert len(reply.events) <= MOST_EVENTS
        got += seqs(reply.events)
        more = reply.end.more
        answers += 1
    assert answers == 3
    assert got == [("busy", seq) for seq in range(1, 2 * MOST_EVENTS + 11)]


def test_what_is_thinned_or_pruned_is_said(client: ReplayClient, path: Path) -> None:
    writer = Writer(path)
    writer.append(items([score(seq, at=7000.0) for seq in range(33, 40)]))
    upkeep = Upkeep(writer.db, Limits(), lambda: BEGIN + 7200.0)
    while upkeep.step():
        pass
    reply = ask(client, since={"hall": 0})
    assert [seq for _, seq in seqs(reply.events)] == [1, 31, *range(33, 40)]
    assert reply.end.streams == {"hall": Held(oldest=1, full_from=33, last=39)}
    upkeep = Upkeep(writer.db, Limits(keep_seconds=3600.0), lambda: BEGIN + 7200.0)
    while upkeep.step():
        pass
    writer.close()
    assert ask(client, since={"hall": 0}).end.streams == {"hall": Held(oldest=33, full_from=33, last=39)}


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"{}"],
        [b"not json"],
        [b'{"v":2,"op":"events"}'],
        [b'{"v":1,"op":"events","since":{"hall":-1}}'],
        [b'{"v":1,"op":"events","since":{"hall":"x"}}'],
        [b'{"v":1,"op":"drop table"}'],
        [b'{"v":1,"op":"events","unheard":1}'],
        [b'{"v":1,"op":"latest"}', b"and more"],
        [b"\xff\xfe"],
        [b'{"v":1,"op":"events","id":"' + b"x" * 65 + b'"}'],
        [b'{"v":1,"op":"events","since":{"hall":99999999999999999999999}}'],
    ],
)
def test_a_malformed_request_is_counted_and_gets_one_clear_error(replay: Replay, frames: list[bytes]) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket, capture_logs() as logs:
        socket.linger = 0
        socket.connect(replay.endpoint)
        socket.send_multipart(frames)
        assert socket.poll(10_000)
        kind, name, body = socket.recv_multipart()
        assert (kind, name) == (b"error", b"")
        assert "\n" not in json.loads(body)["error"]
        socket.send(b'{"v":1,"op":"latest","id":"still there"}')
        assert socket.poll(10_000)
        assert socket.recv_multipart()[:2] == [b"events", b"still there"]
    assert replay.malformed == 1
    assert [entry["event"] for entry in logs] == ["replay_malformed"]


def test_a_req_socket_may_ask_too(replay: Replay) -> None:
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(replay.endpoint)
        socket.send(b'{"v":1,"op":"events","since":{"nobody":0}}')
        assert socket.poll(10_000)
        kind, _, body = socket.recv_multipart()
        assert (kind, json.loads(body)["count"]) == (b"end", 0)


def test_a_store_that_cannot_be_read_is_said_and_then_read_again(tmp_path: Path) -> None:
    path = tmp_path / "later.db"
    replay = Replay("tcp://127.0.0.1:*", path)
    replay.start(None)  # type: ignore[arg-type]
    client = ReplayClient(replay.endpoint)
    with pytest.raises(StoreError, match="there is no event store"):
        ask(client, since={"hall": 0})
    fill(path, [score(1)])
    assert seqs(ask(client, since={"hall": 0}).events) == [("hall", 1)]
    client.close()
    replay.close()


def test_an_asker_that_vanishes_or_reads_nothing_harms_nobody(replay: Replay, client: ReplayClient) -> None:
    with zmq.Context() as context:
        for _ in range(20):
            socket = context.socket(zmq.DEALER)
            socket.connect(replay.endpoint)
            socket.send(b'{"v":1,"op":"events","since":{"hall":0}}')
            socket.close(linger=100)
    assert len(ask(client, since={"hall": 0}).events) == 32


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://127.0.0.1:99999", "taken"])
def test_an_endpoint_that_cannot_be_bound_is_one_clear_error(replay: Replay, path: Path, endpoint: str) -> None:
    with pytest.raises(SinkError, match=r"cannot replay on .* give another --replay"):
        Replay(replay.endpoint if endpoint == "taken" else endpoint, path)
