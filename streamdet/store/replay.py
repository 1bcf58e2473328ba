"""The replay socket: subscribers get what they missed out of the store; :mod:`streamdet.store.wire` says how to ask."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
import zmq

from streamdet.endpoint import HIGHEST_PORT, has_impossible_port
from streamdet.errors import FormatError, SinkError, StoreError
from streamdet.keys import KeyRing
from streamdet.parts import Inside
from streamdet.sinks.base import Sink
from streamdet.store.reader import END as FOREVER
from streamdet.store.reader import Held, Reader
from streamdet.store.wire import (
    CHUNK,
    END,
    ERROR,
    EVENTS,
    LARGEST_REQUEST,
    MOST_EVENTS,
    EventsRequest,
    LatestRequest,
    Request,
    decode_request,
    encode_end,
)
from streamdet.tap import Tap
from streamdet.zap import Doorkeeper

log = structlog.get_logger(__name__)
POLL_MS: Final = 200


class Replay:
    """A part of ``listen`` that answers one bounded request at a time, in a thread of its own.

    Args:
        endpoint: where to bind, such as ``tcp://127.0.0.1:5561``.
        path: the store.
        ring: keys of the server and of who may ask; anyone may where absent.

    Raises:
        SinkError: the endpoint is in use, cannot be bound, or is none.
    """

    name = "replay"

    def __init__(self, endpoint: str, path: Path, ring: KeyRing | None = None) -> None:
        self.answered = 0
        self.malformed = 0
        self.unsent = 0  # answers that an asker was too slow to take
        self._path = path
        self._ring = ring
        self._wanted = endpoint
        self._context = zmq.Context()
        self._door = None if ring is None else Doorkeeper(self._context, ring)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)
        self._reader: Reader | None = None
        self._socket = self._context.socket(zmq.ROUTER)
        try:
            self._bind(endpoint)
        except (zmq.ZMQError, SinkError) as error:
            self.close()
            raise SinkError(f"cannot replay on {endpoint}: {error}; give another --replay") from error
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def sinks(self) -> Sequence[Sink]:
        """Hear of no events: they are read from the store."""
        return ()

    def taps(self) -> Sequence[Tap]:
        """Look at no hops."""
        return ()

    def start(self, inside: Inside) -> None:  # noqa: ARG002  as the protocol has it
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._door is not None:
            self._door.close()
        self._socket.close(linger=0)
        self._context.term()

    def _bind(self, endpoint: str) -> None:
        if has_impossible_port(endpoint):
            raise SinkError(f"ports end at {HIGHEST_PORT}")
        self._socket.set(zmq.ROUTER_MANDATORY, 1)  # who is too slow or gone is an error here, not a silence
        self._socket.set(zmq.MAXMSGSIZE, LARGEST_REQUEST)
        if self._door is not None:
            self._door.guard(self._socket)
            self._door.start()
        self._socket.bind(endpoint)

    def _run(self) -> None:
        while not self._stopped.is_set():
            if self._socket.poll(POLL_MS):
                self._take(self._socket.recv_multipart())
        if self._reader is not None:
            self._reader.close()

    def _take(self, frames: list[bytes]) -> None:
        asker, frames = frames[:1], frames[1:]
        if len(frames) > 1 and not frames[0]:  # a REQ socket
            asker, frames = [*asker, b""], frames[1:]
        request_id = b""
        try:
            request = decode_request(frames)
            request_id = request.id.encode()
            self._answer(asker, request_id, request)
            self.answered += 1
        except FormatError as error:
            self.malformed += 1
            if self.malformed & (self.malformed - 1) == 0:
                log.warning("replay_malformed", reason=str(error), malformed=self.malformed)
            self._send([*asker, ERROR, request_id, _error(str(error))])
        except StoreError as error:
            self._forget_reader()
            self._send([*asker, ERROR, request_id, _error(str(error))])

    def _answer(self, asker: list[bytes], request_id: bytes, request: Request) -> None:
        self._reader = reader = self._reader or Reader(self._path)
        with reader.snapshot():
            store = reader.id()
            answer = self._latest(reader, request) if isinstance(request, LatestRequest) else _events(reader, request)
        events, more, streams = answer
        for begin in range(0, len(events), CHUNK):
            if not self._send([*asker, EVENTS, request_id, *events[begin : begin + CHUNK]]):
                return
        self._send([*asker, END, request_id, encode_end(len(events), more=more, store=store, streams=streams)])

    @staticmethod
    def _latest(reader: Reader, request: LatestRequest) -> tuple[list[bytes], bool, dict[str, Held]]:
        names = sorted(reader.positions()) if request.streams is None else request.streams
        events: list[bytes] = []
        for name in names[:MOST_EVENTS]:
            events += reader.latest(name)
        return events, False, {name: reader.held(name) for name in names}

    def _send(self, frames: list[bytes]) -> bool:
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.ZMQError:  # gone, or so slow that its queue is full; it will ask again
            self.unsent += 1
            return False
        return True

    def _forget_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None


def _events(reader: Reader, request: EventsRequest) -> tuple[list[bytes], bool, dict[str, Held]]:
    since = dict(request.since)
    if request.others:
        since = dict.fromkeys(reader.positions(), 0) | since
    events: list[bytes] = []
    for name, begin in since.items():
        # One more than there is room for tells whether there is more.
        events += reader.after(name, begin, request.upto.get(name, FOREVER), MOST_EVENTS + 1 - len(events))
        if len(events) > MOST_EVENTS:
            break
    return events[:MOST_EVENTS], len(events) > MOST_EVENTS, {name: reader.held(name) for name in since}


def _error(text: str) -> bytes:
    return json.dumps({"v": 1, "error": text}).encode()
