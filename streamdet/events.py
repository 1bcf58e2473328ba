"""What streamdet tells the world: four kinds of event, defined here and nowhere else.

Events are plain frozen dataclasses, since one is made per hop and stream; pydantic reads their annotations to print the
JSON Schema and to check what a subscriber receives. A field may be added within one schema version, so a reader ignores
what it does not know; a field that changes its meaning or leaves raises :data:`VERSION`.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from streamdet.errors import FormatError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

VERSION: Final = 1
REMEMBERED: Final = 50_000  # counts kept of streams that ended long ago
DAEMON = "*"  # the stream name of events about the process as a whole; no source may carry it

Verdict = Literal["bona_fide", "spoof", "undecided", "no_speech"]
AlertPhase = Literal["raised", "updated", "cleared"]
AlertReason = Literal["evidence", "silence", "gap", "limit", "ended"]
StatePhase = Literal["connecting", "live", "degraded", "recovering", "failed", "ended"]

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Time = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$",
        json_schema_extra={"format": "date-time"},
        description="UTC, RFC 3339: when the end of the audio that was judged arrived",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The fields that every event has."""

    __pydantic_config__: ClassVar = ConfigDict(json_schema_serialization_defaults_required=True)

    v: Annotated[Literal[1], Field(description="Schema version")] = VERSION
    type: str
    stream: Annotated[str, Field(min_length=1, description="Name of the stream; `*` is the daemon itself")]
    seq: Annotated[int, Field(ge=1, description="Counts all events of this stream from 1; a gap is a lost event")]
    time: Time
    media_time: Annotated[Seconds, Field(description="Seconds of audio since the stream began")]
    model: Annotated[str, Field(description="SHA-256 of the model file")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score(Envelope):
    """One hop of one stream was judged."""

    type: Annotated[Literal["score"], Field(description="Kind of event")] = "score"
    p_fake: Annotated[
        float | None,
        Field(ge=0, le=1, description="Calibrated, smoothed; 1 = synthetic; null where nothing deserves trust"),
    ]
    windows: Annotated[
        dict[str, Share | None],
        Field(description="p_fake of each window alone, not smoothed, by its length in seconds"),
    ]
    speech: Annotated[Share, Field(description="Share of speech in the window that decides (the shortest)")]
    lost: Annotated[Share, Field(description="Share of that window's audio that never arrived")]
    verdict: Annotated[
        Verdict,
        Field(description="undecided: too little speech, too much lost, or a probability between the thresholds"),
    ]
    latency_ms: Annotated[float, Field(description="From the arrival of the hop's last sample to this event")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A stored recording of an alert."""

    __pydantic_config__: ClassVar = Envelope.__pydantic_config__

    path: Annotated[str, Field(description="File on the machine that listens")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of that file")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert(Envelope):
    """An alert began, goes on, or is over; the events of one alert share their id."""

    type: Annotated[Literal["alert"], Field(description="Kind of event")] = "alert"
    id: Annotated[str, Field(min_length=1, description="UUID of the alert")]
    phase: Annotated[AlertPhase, Field(description="raised once, updated while it lasts, cleared once")]
    reason: Annotated[
        AlertReason,
        Field(description="Why the phase came: the evidence itself, long silence, a gap, the time limit, stream end"),
    ]
    onset: Annotated[Seconds, Field(description="Media time at which the synthetic voice most likely began")]
    peak: Annotated[Share, Field(description="Highest p_fake since the onset")]
    duration: Annotated[Seconds, Field(description="Seconds of audio from the onset to media_time")]
    evidence: Annotated[Evidence | None, Field(description="Stored recording; null where none is kept")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Envelope):
    """A stream's source moved in its life cycle."""

    type: Annotated[Literal["state"], Field(description="Kind of event")] = "state"
    phase: Annotated[StatePhase, Field(description="ended is final; every other phase may change")]
    reason: Annotated[str, Field(description="One line for a person")]
    detail: Annotated[
        dict[str, float | int | str],
        Field(description="Counters of the source, such as overruns or lost packets"),
    ] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Envelope):
    """How the daemon fares; its media_time is the audio judged over all streams."""

    type: Annotated[Literal["health"], Field(description="Kind of event")] = "health"
    stream: Annotated[Literal["*"], Field(description="Always `*`, the daemon itself")] = "*"
    uptime: Annotated[Seconds, Field(description="Seconds since the model was loaded")]
    streams: Annotated[Count, Field(description="Streams open now")]
    alerts: Annotated[Count, Field(description="Alerts active now")]
    hops: Annotated[Count, Field(description="Hops scored since the start")]
    lag_ms: Annotated[float, Field(ge=0, description="Age of the oldest hop that waits to be scored")]
    dropped: Annotated[dict[str, Count], Field(description="Events that each sink had no room for, by sink")]
    engine: Annotated[str, Field(description="What runs the network")]
    workers: Annotated[int, Field(ge=1, description="Scoring threads")] = 1
    overloaded: Annotated[bool, Field(description="Whether more sound comes in than can be scored")] = False
    skipped: Annotated[Count, Field(description="Hops left out under overload since the start")] = 0
    overrun: Annotated[Count, Field(description="Samples overwritten before they were scored, since the start")] = 0
    max_streams: Annotated[
        int | None, Field(description="Streams this machine was found to hold; null where nobody measured")
    ] = None


Event = Score | Alert | State | Health


def utc(timestamp: float) -> str:
    """Write seconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def topic(event: Event) -> str:
    """ZeroMQ topic of an event: ``score.NAME``, ``alert.NAME``, ``state.NAME`` or ``health``."""
    return "health" if event.type == "health" else f"{event.type}.{event.stream}"


def _fields(kind: type[DataclassInstance]) -> tuple[tuple[str, ...], Callable[[object], tuple[object, ...]]]:
    names = tuple(field.name for field in dataclasses.fields(kind))
    return names, attrgetter(*names)


_FIELDS: Final[dict[type, tuple[tuple[str, ...], Callable[[object], tuple[object, ...]]]]] = {
    kind: _fields(kind) for kind in (Score, Alert, State, Health, Evidence)
}


def _as_object(value: object) -> dict[str, object]:
    if type(value) not in _FIELDS:
        raise TypeError(f"{type(value).__name__} has no place in an event")
    names, read = _FIELDS[type(value)]
    return dict(zip(names, read(value), strict=True))


_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_as_object)


def to_json(event: Event) -> bytes:
    """Encode an event as one line of UTF-8 JSON without the newline.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot say.
    """
    return _encoder.encode(event).encode(errors="replace")  # a file name may hold bytes that are no text


@cache
def _adapter() -> TypeAdapter[Event]:
    return TypeAdapter(Annotated[Event, Field(discriminator="type")])


def from_json(payload: bytes | str) -> Event:
    """Read and check an event.

    Raises:
        FormatError: the payload is no event of this schema version.
    """
    try:
        return _adapter().validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "payload"
        raise FormatError(f"not an event of schema version {VERSION}: {where}: {first['msg']}") from error


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of any one event, told apart by ``type``."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "streamdet event"}
    return head | _adapter().json_schema(mode="serialization")


class Sequencer:
    """Hands out ``seq``: one gapless count per stream over all its events. One thread numbers a stream's events.

    ``last`` has the numbers handed out last in an earlier life of the process, by stream: the count goes on from there.
    """

    def __init__(self, last: Mapping[str, int] | None = None) -> None:
        self._last: dict[str, int] = dict(last or {})
        self._past: OrderedDict[str, int] = OrderedDict()  # of streams that ended long ago
        self._lock = threading.Lock()

    def next(self, stream: str) -> int:
        """Count one more event of the stream and return its number, 1 for the first."""
        number = self._last.get(stream)
        if number is None:
            number = self._past.pop(stream, 0)
        self._last[stream] = number + 1
        return number + 1

    def forget(self, stream: str) -> None:
        """Note that a stream ended long ago: when too many have, its count is dropped, and it would begin at 1."""
        with self._lock:
            self._past[stream] = self._last.pop(stream, 0)
            while len(self._past) > REMEMBERED:
                self._past.popitem(last=False)

    def last(self, stream: str) -> int:
        """Return the number handed out last, 0 where there was none."""
        return self._last.get(stream) or self._past.get(stream, 0)
