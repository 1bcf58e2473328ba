"""Events: what is written can be read back, fits the schema, and says what the contract wants."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdet import events
from streamdet.errors import FormatError
from streamdet.events import Alert, Event, Evidence, Health, Score, Sequencer, State

ENVELOPE: dict[str, Any] = {
    "stream": "hall",
    "seq": 7,
    "time": "2026-03-01T12:00:00.250Z",
    "media_time": 2.24,
    "model": "ab" * 32,
}
SCORE = Score(
    **ENVELOPE,
    p_fake=0.25,
    windows={"3": 0.5, "10": None},
    speech=0.75,
    lost=0.0,
    verdict="bona_fide",
    latency_ms=12.5,
)
ALERT = Alert(**ENVELOPE, id="one", phase="raised", reason="evidence", onset=1.28, peak=0.97, duration=0.96)
STATE = State(**ENVELOPE, phase="degraded", reason="packets are lost", detail={"lost": 3, "codec": "PCMU", "ms": 1.5})
HEALTH = Health(
    **ENVELOPE | {"stream": "*"},
    uptime=3.0,
    streams=2,
    alerts=1,
    hops=9,
    lag_ms=0.0,
    dropped={"zeromq": 0},
    engine="onnx-cpu",
)
EACH: list[Event] = [SCORE, ALERT, STATE, HEALTH]
VALIDATOR = jsonschema.Draft202012Validator(events.schema())


def kind(event: Event) -> str:
    return event.type


def test_schema_is_itself_valid_and_says_something_of_every_field() -> None:
    jsonschema.Draft202012Validator.check_schema(events.schema())
    for name, definition in events.schema()["$defs"].items():
        assert definition["description"], name
        for field, value in definition["properties"].items():
            assert value.get("description"), f"{name}.{field}"
        assert sorted(definition["required"]) == sorted(definition["properties"]), name


@pytest.mark.parametrize("event", EACH, ids=kind)
def test_event_fits_the_schema_and_reads_back_equal(event: Event) -> None:
    payload = events.to_json(event)
    VALIDATOR.validate(json.loads(payload))
    assert b"\n" not in payload
    assert events.from_json(payload) == event


@pytest.mark.parametrize("event", EACH, ids=kind)
@pytest.mark.parametrize("field", ["v", "type", "stream", "seq", "time", "media_time", "model"])
def test_schema_refuses_an_event_without_a_field_of_the_envelope(event: Event, field: str) -> None:
    fields = json.loads(events.to_json(event))
    del fields[field]
    assert not VALIDATOR.is_valid(fields)


def test_score_has_exactly_the_fields_of_the_contract() -> None:
    assert json.loads(events.to_json(SCORE)) == {
        "v": 1,
        "type": "score",
        **ENVELOPE,
        "p_fake": 0.25,
        "windows": {"3": 0.5, "10": None},
        "speech": 0.75,
        "lost": 0.0,
        "verdict": "bona_fide",
        "latency_ms": 12.5,
    }


def test_alert_carries_its_recording() -> None:
    fields = {name: getattr(ALERT, name) for name in ("id", "phase", "reason", "onset", "peak", "duration")}
    alert = Alert(**ENVELOPE, **fields, evidence=Evidence(path="a.flac", sha256="0" * 64))
    payload = json.loads(events.to_json(alert))
    VALIDATOR.validate(payload)
    assert payload["evidence"] == {"path": "a.flac", "sha256": "0" * 64}
    assert json.loads(events.to_json(ALERT))["evidence"] is None


@pytest.mark.parametrize(
    ("event", "wanted"),
    list(zip(EACH, ["score.hall", "alert.hall", "state.hall", "health"], strict=True)),
    ids=["score", "alert", "state", "health"],
)
def test_topic(event: Event, wanted: str) -> None:
    assert events.topic(event) == wanted


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"v": 2}, "v: Input should be 1"),
        ({"type": "song"}, "does not match any of the expected tags"),
        ({"p_fake": 1.5}, "p_fake"),
        ({"verdict": "maybe"}, "verdict"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-03-01T12:00:00+01:00"}, "time"),
        ({"seq": 0}, "seq"),
        ({"stream": ""}, "stream"),
    ],
)
def test_reader_and_schema_refuse_what_is_no_event(change: dict[str, object], says: str) -> None:
    fields = json.loads(events.to_json(SCORE)) | change
    assert not VALIDATOR.is_valid(fields)
    with pytest.raises(FormatError, match="not an event of schema version 1") as caught:
        events.from_json(json.dumps(fields))
    assert says in str(caught.value)


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"type":"score"}'])
def test_reader_refuses_garbage_with_one_line(payload: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        events.from_json(payload)
    assert "\n" not in str(caught.value)


def test_reader_ignores_fields_of_a_later_minor_version() -> None:
    fields = json.loads(events.to_json(SCORE)) | {"mood": "good"}
    assert events.from_json(json.dumps(fields)) == SCORE
    VALIDATOR.validate(fields)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_say_is_an_error(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        events.to_json(State(**ENVELOPE, phase="live", reason="", detail={"level": number}))


def test_a_numpy_number_is_an_error_rather_than_a_surprise() -> None:
    with pytest.raises(TypeError, match="float32 has no place in an event"):
        events.to_json(State(**ENVELOPE, phase="live", reason="", detail={"level": np.float32(1)}))  # type: ignore[dict-item]


def test_a_stream_named_after_a_file_that_is_no_text_is_still_sent() -> None:
    state = State(**ENVELOPE | {"stream": "caf\udce9"}, phase="live", reason="")
    assert json.loads(events.to_json(state))["stream"] == "caf?"


@given(
    st.floats(0, 1),
    st.one_of(st.none(), st.floats(0, 1)),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    st.integers(1, 2**53),
)
def test_any_score_survives_the_way_there_and_back(speech: float, p_fake: float | None, name: str, seq: int) -> None:
    envelope = ENVELOPE | {"stream": name, "seq": seq}
    score = Score(
        **envelope, p_fake=p_fake, windows={"3": p_fake}, speech=speech, lost=0.0, verdict="undecided", latency_ms=0.0
    )
    assert events.from_json(events.to_json(score)) == score


@pytest.mark.parametrize(
    ("timestamp", "wanted"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (951_782_400.5, "2000-02-29T00:00:00.500Z"),
        (1_767_225_599.9996, "2025-12-31T23:59:59.999Z"),
    ],
)
def test_time_is_utc_to_the_millisecond(timestamp: float, wanted: str) -> None:
    assert events.utc(timestamp) == wanted


@given(st.lists(st.sampled_from("abc"), max_size=60))
def test_every_stream_has_its_own_gapless_count(names: list[str]) -> None:
    sequencer = Sequencer()
    given_out: dict[str, list[int]] = {}
    for name in names:
        given_out.setdefault(name, []).append(sequencer.next(name))
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in given_out.values())
