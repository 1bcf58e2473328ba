"""What is said on the replay socket, by both sides.

A request is one frame of JSON, to a ROUTER socket from a DEALER (or, after an empty frame, from a REQ):

``{"v":1,"op":"events","id":"7","since":{"hall":17},"upto":{"hall":40}}``
    all events of the stream with 17 < seq <= 40; ``upto`` may be absent. ``"others":true`` adds all other streams from
    their beginning.
``{"v":1,"op":"latest","id":"8","streams":["hall"]}``
    the last state, the last alert and the last event of each stream; of all streams where ``streams`` is absent.

Each reply has the frames kind, id, and what the kind says:

``events``
    any number of frames, each an event as it was published, in order of ``seq`` within a stream; may come many times.
``end``
    JSON: ``count`` of events sent, ``more`` (ask again from where this ends), ``store`` (the store's name: another name
    is another history), and under ``streams`` what is there of each: events before ``oldest`` are gone, scores before
    ``full_from`` are gone too, ``last`` is the highest number ever stored.
``error``
    JSON with ``error``, one line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from streamdet.errors import FormatError
from streamdet.store.reader import Held

EVENTS: Final = b"events"
END: Final = b"end"
ERROR: Final = b"error"
LARGEST_REQUEST: Final = 1 << 20  # bytes
MOST_EVENTS: Final = 2000  # in answer to one request
CHUNK: Final = 100  # events in one message

Name = Annotated[str, Field(min_length=1, max_length=256)]
Number = Annotated[int, Field(ge=0, lt=1 << 62)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1]
    id: str = Field("", max_length=64)


class EventsRequest(_Request):
    """Asks for all events after a number."""

    op: Literal["events"]
    since: dict[Name, Number] = {}
    upto: dict[Name, Number] = {}
    others: bool = False


class LatestRequest(_Request):
    """Asks for the last of each stream."""

    op: Literal["latest"]
    streams: tuple[Name, ...] | None = None


Request = EventsRequest | LatestRequest
_requests: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="op")])


def decode_request(frames: list[bytes]) -> Request:
    """Read a request.

    Raises:
        FormatError: it is none.
    """
    if len(frames) != 1:
        raise FormatError(f"a request is one frame of JSON; {len(frames)} came")
    try:
        return _requests.validate_json(frames[0])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "request"
        raise FormatError(f"not a request: {where}: {first['msg']}") from error


@dataclass(frozen=True, slots=True)
class Answer:
    """One message from the replay socket."""

    kind: bytes
    id: str
    events: tuple[bytes, ...] = ()
    count: int = 0
    more: bool = False
    store: str = ""
    streams: Mapping[str, Held] | None = None
    error: str = ""


def encode_end(count: int, *, more: bool, store: str, streams: Mapping[str, Held]) -> bytes:
    """Write what ends a replay."""
    held = {name: {"oldest": h.oldest, "full_from": h.full_from, "last": h.last} for name, h in streams.items()}
    return json.dumps({"v": 1, "count": count, "more": more, "store": store, "streams": held}).encode()


def decode_answer(frames: list[bytes]) -> Answer:
    """Read a reply.

    Raises:
        FormatError: it is none.
    """
    if len(frames) < 2:
        raise FormatError(f"a reply has at least two frames; {len(frames)} came")
    kind, name, *rest = frames
    if kind == EVENTS:
        return Answer(kind, name.decode(errors="replace"), events=tuple(rest))
    try:
        return _decode_last(kind, name.decode(), json.loads(rest[0]))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise FormatError(f"not a reply: {type(error).__name__}: {error}") from error


def _decode_last(kind: bytes, name: str, body: dict[str, Any]) -> Answer:
    if kind == ERROR:
        return Answer(kind, name, error=str(body["error"]))
    if kind != END:
        raise ValueError(f"unknown kind {kind!r}")
    streams = {stream: Held(h["oldest"], h["full_from"], h["last"]) for stream, h in body["streams"].items()}
    return Answer(kind, name, count=body["count"], more=body["more"], store=body["store"], streams=streams)
