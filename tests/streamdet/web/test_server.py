"""What the page asks for, asked without a browser."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamdet.config import Config, WindowSection
from streamdet.store.gate import Gate
from streamdet.store.upkeep import Limits
from streamdet.web import app
from streamdet.web.desk import as_int16, wav
from streamdet.web.ranges import UnsatisfiableError, parse_range
from trainer.export import ExportReport

from .conftest import RATE, SYNTHETIC, Rig, request, wait_for


class Events:
    """Server-sent events as they come."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.connection.request("GET", "/api/events")
        self.response = self.connection.getresponse()
        assert self.response.status == 200
        assert self.response.headers["content-type"].startswith("text/event-stream")

    def __iter__(self) -> Iterator[tuple[str, dict]]:
        kind = ""
        for raw in self.response:
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                yield kind, json.loads(line[6:])

    def until(self, wanted: str) -> dict:
        return next(data for kind, data in self if kind == wanted)

    def close(self) -> None:
        self.response.close()
        self.connection.close()


@pytest.fixture
def events(rig: Rig) -> Iterator[Events]:
    opened = Events(rig.port)
    yield opened
    opened.close()


def finished(rig: Rig, answer: dict) -> dict:
    """Wait for a file to be scored."""

    def over() -> dict | None:
        state = request(rig.port, "GET", f"/api/scans/{answer['id']}").json
        return state if state["phase"] in ("done", "failed", "cancelled") else None

    return wait_for(over, 60)


def test_a_page_gets_everything_and_then_what_changes(
    rig: Rig, events: Events, alerted: str, speech: np.ndarray
) -> None:
    hello = events.until("hello")
    assert hello["model"]["digest"] == rig.model.digest
    assert [alert["id"] for alert in hello["alerts"]].count(alerted) == 1
    rig.play("fresh", speech[: 4 * RATE])
    row = next(row for _, data in events if "rows" in data for row in data["rows"] if row["stream"] == "fresh")
    assert row["verdict"] in ("bona_fide", "undecided", "no_speech", "spoof")
    assert -90 <= row["rms"] <= row["peak"] <= 0
    rig.say("fresh", "recovering", "cable pulled")
    moved = next(row for kind, data in events if kind == "streams" for row in data["rows"] if "reason" in row)
    assert moved["reason"] == "cable pulled"
    rig.end("fresh")


def test_a_picture_comes_for_the_stream_that_is_followed(rig: Rig, events: Events, speech: np.ndarray) -> None:
    client = events.until("hello")["client"]
    rig.play("seen", speech[:RATE])
    follow = json.dumps({"client": client, "stream": "seen"})
    assert request(rig.port, "POST", "/api/follow", follow).status == 204
    whole = events.until("picture")
    assert whole["whole"] is True
    rig.play("seen", speech[RATE : 3 * RATE])
    picture = events.until("picture")
    assert picture["stream"] == "seen"
    hops = len(picture["end"])
    assert hops >= 1
    assert len(picture["p"]) == len(picture["windows"]) == len(picture["verdict"]) == hops
    assert len(picture["pixels"]) == -(-hops * 8 * rig.engine.info.front_end.mels // 3) * 4
    assert request(rig.port, "POST", "/api/follow", json.dumps({"client": "no", "stream": "seen"})).status == 404
    assert request(rig.port, "POST", "/api/follow", b"[]").status == 400
    assert request(rig.port, "POST", "/api/follow", b"{" * 5000).status == 413
    rig.end("seen")


def test_a_picture_begins_anew_where_a_model_of_other_bands_takes_over(
    make_rig: Callable[..., Rig], speech: np.ndarray, exported: dict[str, ExportReport]
) -> None:
    rig = make_rig()
    view = rig.part._view
    assert view is not None

    def drawn(mels: int, scale: str, hops: int) -> bool:
        picture = view.picture("seen") or {"end": []}
        if len(picture["end"]) != hops:
            return False
        size = len(base64.b64decode(picture["pixels"]))
        return (picture["mels"], picture["bands"]["scale"], size) == (mels, scale, hops * 8 * mels)

    rig.play("seen", speech[:RATE])
    wait_for(lambda: drawn(96, "linear", 3))
    rig.swap(exported["int8"].path)
    rig.play("seen", speech[RATE : 3 * RATE])
    wait_for(lambda: drawn(64, "mel", 6))


def test_health_comes_by_itself(events: Events) -> None:
    assert events.until("health")["pages"] >= 1


def test_an_alert_can_be_played_whole_and_in_parts(rig: Rig, alerted: str, speech: np.ndarray) -> None:
    path = f"/api/alerts/{alerted}/sound"
    whole = request(rig.port, "GET", path)
    assert whole.status == 200
    assert whole.headers["content-type"] == "audio/wav"
    assert whole.headers["accept-ranges"] == "bytes"
    samples, rate = soundfile.read(io.BytesIO(whole.body), dtype="int16")
    assert rate == RATE
    assert len(samples) > 10 * RATE
    alert = next(a for a in request(rig.port, "GET", "/api/alerts").json["alerts"] if a["id"] == alerted)
    start = round(max(0.0, alert["onset"] - 5.0) * RATE)
    np.testing.assert_array_equal(samples[: 5 * RATE], as_int16(speech[start : start + 5 * RATE]))
    part = request(rig.port, "GET", path, headers={"Range": "bytes=44-143"})
    assert part.status == 206
    assert part.body == whole.body[44:144]
    assert part.headers["content-range"] == f"bytes 44-143/{len(whole.body)}"
    assert request(rig.port, "GET", path, headers={"Range": "bytes=-10"}).body == whole.body[-10:]
    assert request(rig.port, "GET", path, headers={"Range": f"bytes={len(whole.body)}-"}).status == 416
    assert request(rig.port, "GET", path, headers={"Range": "lines=1-2"}).status == 200
    other = {"Range": "bytes=0-9", "If-Range": '"other"'}
    assert request(rig.port, "GET", path, headers=other).status == 200
    same = {"Range": "bytes=0-9", "If-Range": whole.headers["etag"]}
    assert request(rig.port, "GET", path, headers=same).status == 206


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-200", (90, 100)),
        ("bytes=-5", (95, 100)),
        ("bytes=-500", (0, 100)),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=1-2,5-6", None),
        ("bytes=a-b", None),
        ("bytes=٣-٤", None),
    ],
)
def test_ranges(header: str, found: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == found


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=-0", "bytes=500-600"])
def test_ranges_outside(header: str) -> None:
    with pytest.raises(UnsatisfiableError):
        parse_range(header, 100)


def test_a_recording_in_memory_is_not_called_proven(rig: Rig, alerted: str) -> None:
    proof = request(rig.port, "POST", f"/api/alerts/{alerted}/verify").json
    assert proof["state"] == "unsealed"
    assert len(proof["sha256"]) == 64


def test_the_first_acknowledgement_stands_and_all_pages_hear_of_it(rig: Rig, events: Events, alerted: str) -> None:
    events.until("hello")
    path = f"/api/alerts/{alerted}/acknowledge"
    for words in (
        b"{}",
        b'{"by": "  "}',
        json.dumps({"by": "x" * 81}).encode(),
        b'{"by": "a\\u0007"}',
        b"no json",
        b"3",
    ):
        assert request(rig.port, "POST", path, words).status == 400
    assert request(rig.port, "POST", path, b'{"by": "Ada"}').json["acknowledged"]["by"] == "Ada"
    told = events.until("alert")
    assert told["acknowledged"]["by"] == "Ada"
    assert request(rig.port, "POST", path, b'{"by": "Eve"}').json["acknowledged"]["by"] == "Ada"
    assert request(rig.port, "POST", "/api/alerts/none/acknowledge", b'{"by": "Ada"}').status == 404


def test_what_is_not_there(rig: Rig) -> None:
    for path in ("/api/alerts/none/sound", "/api/scans/none", "/static/../part.py", "/static/%2e%2e/part.py", "/x"):
        assert request(rig.port, "GET", path).status == 404, path
    assert request(rig.port, "DELETE", "/api/scans/none").status == 404
    assert request(rig.port, "PUT", "/api/scans").status == 405
    assert request(rig.port, "POST", "/api/alerts/none/verify").status == 404


def test_a_file_is_scored_as_scan_would(rig: Rig, speech: np.ndarray) -> None:
    data = wav(as_int16(speech[SYNTHETIC]), RATE)
    answer = request(rig.port, "POST", "/api/scans?name=turn.wav", data)
    assert answer.status == 202
    state = finished(rig, answer.json)
    assert state["phase"] == "done"
    result = state["result"]
    assert result["verdict"] == "spoof"
    assert result["seconds"] == pytest.approx(13.2, abs=0.01)
    assert len(result["track"]) == 42
    assert result["path"] != "turn.wav"  # what a stranger calls a file is never a path here
    assert result["picture"]["columns"] == 8
    assert len(result["picture"]["pixels"]) == -(-42 * 8 * rig.engine.info.front_end.mels // 3) * 4


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"not a sound file at all", "no sound file that can be read"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt ", "no sound file that can be read"),
        (wav(np.zeros(0, np.int16), RATE), "holds no samples"),
        (wav(np.zeros(125 * 100, np.int16), 100), "rate"),
        (wav(np.zeros(150 * 8000, np.int16), 8000), "too long: 150 s, and 120 s are taken at most"),
    ],
)
def test_a_malformed_file_gets_one_clear_line(rig: Rig, body: bytes, says: str) -> None:
    state = finished(rig, request(rig.port, "POST", "/api/scans", body).json)
    assert state["phase"] == "failed"
    assert says in state["error"]
    assert "/tmp" not in state["error"]


def test_a_file_cut_off_is_scored_as_far_as_it_goes(rig: Rig, speech: np.ndarray) -> None:
    data = wav(as_int16(speech[SYNTHETIC]), RATE)[: 44 + 2 * 8 * RATE]
    state = finished(rig, request(rig.port, "POST", "/api/scans", data).json)
    assert state["phase"] == "done"
    assert "cut off" in state["result"]["error"]
    assert state["result"]["seconds"] == pytest.approx(8.0, abs=0.01)


def test_too_large_or_empty_is_refused(rig: Rig) -> None:
    assert request(rig.port, "POST", "/api/scans", b"").status == 400
    connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=20)
    connection.putrequest("POST", "/api/scans")
    connection.putheader("X-Streamdet", "1")
    connection.putheader("Content-Length", "8000001")
    connection.endheaders()
    answer = connection.getresponse()  # refused before a byte was sent
    assert answer.status == 413
    assert "8 MB" in json.loads(answer.read())["error"]
    connection.close()


def test_too_large_is_refused_where_nobody_said_how_large(rig: Rig) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(9):
            yield bytes(1_000_000)

    answer = request(rig.port, "POST", "/api/scans", endless())  # goes in chunks
    assert answer.status == 413


def test_who_sends_all_before_listening_learns_why_a_file_is_refused(rig: Rig) -> None:
    for _ in range(5):  # more than socket buffers hold, so that it fails where the rest is not read
        assert request(rig.port, "POST", "/api/scans", bytes(30_000_000)).status == 413


def test_a_refused_sender_that_never_ends_is_cut_off(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "LINGER_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", rig.port), timeout=20) as raw:
        host = f"Host: 127.0.0.1:{rig.port}\r\nX-Streamdet: 1\r\n"
        raw.sendall(f"POST /api/scans HTTP/1.1\r\n{host}Content-Length: 99999999999\r\n\r\n".encode())
        assert raw.recv(12).endswith(b"413")
        until = time.monotonic() + 8
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_zeros(raw, until)


def send_zeros(to: socket.socket, until: float) -> None:
    """Send until this time of the monotonic clock, or until it is not taken any more."""
    while time.monotonic() < until:
        to.sendall(bytes(100_000))


def links() -> Iterator[str]:
    """What this process has open."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them, for one
            yield str(descriptor.readlink())


def test_a_sender_that_goes_away_leaves_nothing_behind(rig: Rig) -> None:
    scans = rig.part.scans
    assert scans is not None
    wait_for(lambda: scans.open == 0, 60)
    with socket.create_connection(("127.0.0.1", rig.port)) as raw:
        head = (
            f"POST /api/scans HTTP/1.1\r\nHost: 127.0.0.1:{rig.port}\r\nX-Streamdet: 1\r\nContent-Length: 5000\r\n\r\n"
        )
        raw.sendall(head.encode() + b"half")
        wait_for(lambda: scans.open == 1)
    wait_for(lambda: scans.open == 0)
    assert not [link for link in links() if "streamdet-upload" in link]


def test_only_so_many_files_wait_and_one_can_be_given_up(rig: Rig, speech: np.ndarray) -> None:
    data = wav(as_int16(speech), RATE)
    answers = [request(rig.port, "POST", "/api/scans", data) for _ in range(4)]
    assert [answer.status for answer in answers[:3]] == [202, 202, 202]  # one runs, two wait
    assert answers[3].status == 503
    assert answers[3].headers["retry-after"]
    waiting = answers[2].json["id"]
    assert request(rig.port, "GET", f"/api/scans/{waiting}").json["ahead"] == 2
    for answer in answers[:3]:
        assert request(rig.port, "DELETE", f"/api/scans/{answer.json['id']}").status == 204
        assert finished(rig, answer.json)["phase"] == "cancelled"
    short = wav(as_int16(speech[: 3 * RATE]), RATE)
    assert finished(rig, request(rig.port, "POST", "/api/scans", short).json)["phase"] == "done"


def test_files_are_not_taken_where_that_is_switched_off(make_rig) -> None:
    rig = make_rig(uploads=False)
    answer = request(rig.port, "POST", "/api/scans", b"RIFF")
    assert answer.status == 403
    assert "uploads" in answer.json["error"]


def test_a_page_that_does_not_read_loses_scores_but_harms_nobody(make_rig, speech: np.ndarray) -> None:
    rig = make_rig(clients=2)
    with socket.create_connection(("127.0.0.1", rig.port)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{rig.port}\r\n\r\n".encode())
        other = Events(rig.port)
        other.until("hello")
        assert request(rig.port, "GET", "/api/events").status == 503  # no room for a third
        began = time.monotonic()
        for at in range(0, 3 * RATE, RATE // 2):
            rig.play("busy", speech[at : at + RATE // 2])
            assert other.until("scores")["rows"]
        assert time.monotonic() - began < 15
        other.close()


def rules(events: Events, stream: str) -> dict:
    """The next that is told of how a stream is judged."""
    rows = (row for kind, data in events if kind == "streams" for row in data["rows"])
    return next(row["rules"] for row in rows if row["stream"] == stream and "rules" in row)


def test_after_a_reload_pages_are_told_what_is_in_force(speech: np.ndarray) -> None:
    rig = Rig()
    opened = Events(rig.port)
    try:
        rig.play("hall", speech[: 4 * RATE])
        before = rules(opened, "hall")
        assert before["windows"] == [3.0, 10.0]
        assert 0 < before["bona_fide"] < before["spoof"] < 1
        rig.retune(Config(web=rig.config.web, windows=WindowSection(short=4.0, min_speech=0.5)))
        rig.play("hall", speech[4 * RATE : 8 * RATE])
        after = rules(opened, "hall")
        assert (after["windows"], after["min_speech"]) == ([4.0, 10.0], 0.5)
        late = Events(rig.port)  # a page that is opened now
        (row,) = late.until("hello")["rows"]
        assert row["rules"] == after
        late.close()
        sound = wav(as_int16(speech[SYNTHETIC]), RATE)
        answer = request(rig.port, "POST", "/api/scans?name=a.wav", sound).json
        assert finished(rig, answer)["result"]["rules"] == after
    finally:
        opened.close()
        rig.close()


def test_alerts_and_who_saw_to_them_come_back_from_the_store(tmp_path: Path, speech: np.ndarray) -> None:
    store = tmp_path / "events.db"
    rig = Rig(Gate(store, Limits()))
    rig.play("caller", speech[: SYNTHETIC.stop + 12 * RATE])
    (raised,) = [event for event in rig.events if event.type == "alert" and event.phase == "raised"]
    wait_for(lambda: request(rig.port, "GET", "/api/alerts").json["alerts"])
    told = request(rig.port, "POST", f"/api/alerts/{raised.id}/acknowledge", json.dumps({"by": "Ada"}))
    assert told.json["acknowledged"]["by"] == "Ada"
    rig.close()

    again = Rig(Gate(store, Limits()))
    try:
        (kept,) = request(again.port, "GET", "/api/alerts").json["alerts"]
        assert (kept["id"], kept["raised"], kept["phase"]) == (raised.id, raised.time, "cleared")
        assert kept["acknowledged"] == told.json["acknowledged"]
        assert kept["playable"] is False
        bob = request(again.port, "POST", f"/api/alerts/{raised.id}/acknowledge", json.dumps({"by": "Bob"}))
        assert bob.json["acknowledged"]["by"] == "Ada"  # the first one stands
        assert request(again.port, "POST", f"/api/alerts/{raised.id}/verify").json["state"] == "missing"
    finally:
        again.close()
