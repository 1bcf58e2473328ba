"""CURVE keys: files nobody else can read, and nobody in without one; real sockets throughout."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from structlog.testing import capture_logs

from streamdet.assembly import exposed
from streamdet.config import validated
from streamdet.errors import ConfigError
from streamdet.events import to_json
from streamdet.follow import Follower, ReplayClient
from streamdet.keys import Curve, KeyRing, curve_from, load_pair, make_keys
from streamdet.sinks.zeromq import ZeroMQSink
from streamdet.store.replay import Replay
from streamdet.store.wire import LatestRequest
from streamdet.subscribe import Subscriber

from .conftest import Run
from .store.make import fill, score


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys", "desk")
    return tmp_path / "keys"


@pytest.fixture
def sink(keys: Path) -> Iterator[ZeroMQSink]:
    sink = ZeroMQSink("tcp://127.0.0.1:*", ring=KeyRing(keys))
    yield sink
    sink.close()


def curve(keys: Path, name: str = "desk") -> Curve:
    return Curve.load(keys / f"{name}.key_secret", keys / "server.key")


def hears(sink: ZeroMQSink, curve: Curve | None, seconds: float) -> bool:
    """Whether a subscriber hears anything within ``seconds``."""
    subscriber = Subscriber(sink.endpoint, curve=curve)
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            sink.emit(score(1), to_json(score(1)))
            if subscriber.receive(0.02) is not None:
                return True
        return False
    finally:
        subscriber.close()


def test_the_files_are_for_their_owner_only(keys: Path) -> None:
    old = os.umask(0)
    try:
        make_keys(keys, "other")
    finally:
        os.umask(old)
    assert keys.stat().st_mode & 0o777 == 0o700
    for secret in keys.glob("*.key_secret"):
        assert secret.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in (keys / "clients").iterdir()) == ["desk.key", "other.key"]
    assert len({path.read_text() for path in keys.rglob("*.key*")}) == 6
    assert b"secret" not in (keys / "server.key").read_bytes().split(b"curve")[1]
    assert "secret" not in repr(load_pair(keys / "desk.key_secret")).replace("KeyPair", "")


@pytest.mark.parametrize("name", ["server", "", "../up", ".hidden", "a b", "x" * 65])
def test_a_name_that_is_none_is_one_clear_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a key"):
        make_keys(tmp_path / "keys", name)


def test_keys_are_never_overwritten(keys: Path) -> None:
    before = (keys / "desk.key_secret").read_bytes()
    with pytest.raises(ConfigError, match=r"desk\.key_secret exists: delete it"):
        make_keys(keys, "desk")
    assert (keys / "desk.key_secret").read_bytes() == before


@pytest.mark.parametrize("what", ["", "server.key_secret"])
def test_keys_that_others_can_read_are_refused(keys: Path, what: str) -> None:
    (keys / what).chmod(0o755)
    with pytest.raises(ConfigError, match=r"can be read by others: chmod [67]00"):
        KeyRing(keys)


def test_what_is_no_key_is_one_clear_error(keys: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no key directory"):
        KeyRing(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="cannot read the key"):
        Curve.load(tmp_path / "nothing", keys / "server.key")
    (keys / "server.key").chmod(0o600)
    with pytest.raises(ConfigError, match="has no secret key"):
        load_pair(keys / "server.key")
    with pytest.raises(ConfigError, match="come in twos"):
        curve_from(keys / "desk.key_secret", None)


def test_who_has_a_key_hears_and_who_has_none_or_a_wrong_one_does_not(
    sink: ZeroMQSink, keys: Path, tmp_path: Path
) -> None:
    assert hears(sink, curve(keys), 20.0)
    assert sink.refused == 0
    make_keys(tmp_path / "elsewhere", "desk")
    own, foreign = curve(keys), curve(tmp_path / "elsewhere")
    with capture_logs() as logs:
        for wrong in (None, Curve(foreign.own, own.server), Curve(own.own, foreign.server)):
            before = sink.refused
            assert not hears(sink, wrong, 1.0)
            assert sink.refused > before
    told = [entry for entry in logs if entry["event"] == "connection_refused"]
    assert {entry["why"] for entry in told} <= {"unknown key", "no CURVE, or the key of another server"}
    assert 1 <= len(told) <= sink.refused
    assert hears(sink, own, 20.0)


def test_a_key_counts_from_when_it_is_made_to_when_its_file_is_deleted(sink: ZeroMQSink, keys: Path) -> None:
    make_keys(keys, "guest")
    guest = curve(keys, "guest")
    assert hears(sink, guest, 20.0)
    (keys / "clients" / "guest.key").unlink()
    assert not hears(sink, guest, 1.0)
    assert hears(sink, curve(keys), 20.0)


def test_when_the_keys_cannot_be_read_nobody_comes_in(sink: ZeroMQSink, keys: Path) -> None:
    (keys / "clients" / "broken.key").write_text("this is no key")
    assert not hears(sink, curve(keys), 1.0)
    (keys / "clients" / "broken.key").unlink()
    assert hears(sink, curve(keys), 20.0)


def test_replay_asks_for_keys_too(keys: Path, tmp_path: Path) -> None:
    fill(tmp_path / "events.db", [score(1)])
    replay = Replay("tcp://127.0.0.1:*", tmp_path / "events.db", KeyRing(keys))
    replay.start(None)  # type: ignore[arg-type]
    request = LatestRequest(v=1, op="latest")
    for key, wanted in ((curve(keys), 1), (None, None)):
        client = ReplayClient(replay.endpoint, key)
        reply = client.ask(request, 20.0 if wanted else 1.0)
        assert (None if reply is None else len(reply.events)) == wanted
        client.close()
    replay.close()


def test_a_follower_uses_its_keys_for_both(sink: ZeroMQSink, keys: Path, tmp_path: Path) -> None:
    fill(tmp_path / "events.db", [score(seq) for seq in range(1, 4)])
    replay = Replay("tcp://127.0.0.1:*", tmp_path / "events.db", KeyRing(keys))
    replay.start(None)  # type: ignore[arg-type]
    with Follower(sink.endpoint, replay.endpoint, after="oldest", curve=curve(keys)) as follower:
        until = time.monotonic() + 20.0
        got = []
        while len(got) < 3 and time.monotonic() < until:
            message = follower.receive(0.1)
            got += [message.event.seq] if message is not None else []
    replay.close()
    assert got == [1, 2, 3]


def test_secrets_are_of_the_curve_mechanism(sink: ZeroMQSink) -> None:
    assert sink._socket.get(zmq.MECHANISM) == zmq.CURVE


@pytest.mark.parametrize(
    ("values", "open_to_all"),
    [
        ({}, []),
        ({"publish": "tcp://0.0.0.0:5560"}, ["tcp://0.0.0.0:5560"]),
        ({"publish": "tcp://*:5560", "replay": "tcp://[::]:5561"}, ["tcp://*:5560", "tcp://[::]:5561"]),
        ({"publish": "tcp://127.0.0.2:5560", "replay": "tcp://[::1]:1"}, []),
        ({"publish": "ipc:///run/streamdet/events"}, []),
        ({"publish": "tcp://0.0.0.0:5560", "security": {"insecure": True}}, []),
        ({"publish": "tcp://0.0.0.0:5560", "security": {"keys": "keys"}}, []),
    ],
)
def test_what_the_whole_network_can_read_is_known(values: dict, open_to_all: list[str]) -> None:
    assert exposed(validated(values, "test")) == open_to_all


def test_from_the_command_line(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    done = run("keys", "make", "desk", "--dir", folder)
    assert done.returncode == 0
    assert str(folder / "desk.key_secret") in done.stdout
    listed = json.loads(run("keys", "list", "--dir", folder, "--json").stdout)
    assert list(listed["clients"]) == ["desk"]
    assert len(listed["server"]) == 40
    assert run("keys", "list", "--dir", tmp_path / "none").returncode == 2
