"""Subscribing without losing anything: live events, and from the replay socket whatever was missed, each exactly once.

Live events of a stream carry consecutive numbers. Where one is missing, it is asked for before what came after it is
handed on; after each connection, and now and then, everything since the last number is asked for, since the end of a
stream shows no gap. What the store no longer has is counted in ``missed``.
"""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Self

import structlog
import zmq

from streamdet.endpoint import HIGHEST_PORT, has_impossible_port
from streamdet.errors import ConfigError, FormatError, StoreError
from streamdet.events import Event, from_json
from streamdet.keys import Curve
from streamdet.store.reader import Held
from streamdet.store.wire import END, ERROR, Answer, EventsRequest, LatestRequest, Request, decode_answer
from streamdet.subscribe import Message, Subscriber

log = structlog.get_logger(__name__)
ASK_SECONDS: Final = 2.0  # for an answer to one request
PATIENCE: Final = 30.0  # how long a gap is held open while the replay socket does not answer
CHECK_SECONDS: Final = 5.0  # between two looks whether the last events of a stream were missed
RETRY_SECONDS: Final = 0.5
TURN: Final = 0.2  # longest wait of an iterator before it looks around
MOST_KNOWN: Final = 50_000  # replayed events of a stream that may still come live

After = Mapping[str, int] | Literal["now", "oldest"]


@dataclass(frozen=True, slots=True)
class Reply:
    """All that came in answer to one request."""

    events: tuple[bytes, ...]
    end: Answer


class ReplayClient:
    """Asks a replay socket, one request at a time.

    Raises:
        ConfigError: the endpoint is none.
    """

    def __init__(self, endpoint: str, curve: Curve | None = None) -> None:
        if has_impossible_port(endpoint):
            raise ConfigError(f"cannot replay from {endpoint}: ports end at {HIGHEST_PORT}")
        self.endpoint = endpoint
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.IMMEDIATE, 1)  # nothing waits for a server that is not there: it would be answered twice
        self._count = 0
        if curve is not None:
            curve.apply(self._socket)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise ConfigError(f"cannot replay from {endpoint}: {error.strerror}; try tcp://HOST:PORT") from error

    def ask(self, request: Request, timeout: float) -> Reply | None:
        """Send a request and collect its answer.

        Returns:
            The answer, or None where nobody is connected within ``timeout`` seconds, or does not answer within two.

        Raises:
            StoreError: the other side says why it cannot answer.
            FormatError: what came is no answer.
        """
        self._count += 1
        request = request.model_copy(update={"id": str(self._count)})
        if not self._socket.poll(int(1000 * timeout), zmq.POLLOUT):
            return None
        try:
            self._socket.send(request.model_dump_json().encode(), zmq.NOBLOCK)
        except zmq.Again:
            return None
        events: list[bytes] = []
        until = time.monotonic() + ASK_SECONDS
        while self._socket.poll(max(0, int(1000 * (until - time.monotonic())))):
            answer = decode_answer(self._socket.recv_multipart())
            if answer.id != request.id:
                continue  # a late answer to a question given up
            if answer.kind == ERROR:
                raise StoreError(f"{self.endpoint}: {answer.error}")
            if answer.kind == END:
                return Reply(tuple(events), answer)
            events += answer.events
        return None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
        self._context.term()


@dataclass(slots=True)
class _Gap:
    """A live event that waits until what was before it has come."""

    message: Message
    until: float  # when to stop hoping


@dataclass(slots=True)
class _Track:
    """Where one stream stands."""

    last: int = 0
    time: str = ""  # of the newest event handed on
    connection: int = 0  # the one over which the last live event came
    replayed: dict[int, int] = field(default_factory=dict)  # checksums of what may come live as well


class Follower:
    """Receives every event of an endpoint once, in order within each stream; iterate over it, or call :meth:`receive`.

    Args:
        endpoint: ZeroMQ address of a streamdet's ``--publish``.
        replay: address of its ``--replay``; without one, what was missed can only be counted.
        streams: only these streams; all where empty.
        kinds: what iterating yields: ``score``, ``alert``, ``state``, ``health``; all where empty.
        after: where to begin. ``now``: with the last state, alert and event of each stream; ``oldest``: with all that
            is stored; or the last ``seq`` by stream that was dealt with, as :attr:`positions` had it.
        curve: keys, where the publisher asks for them.
        patience: seconds for which a gap is held open while the replay socket does not answer.

    Raises:
        ConfigError: an endpoint is none.
    """

    def __init__(
        self,
        endpoint: str,
        replay: str | None = None,
        *,
        streams: Collection[str] = (),
        kinds: Collection[str] = (),
        after: After = "now",
        curve: Curve | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.missed = 0
        self.replayed = 0
        self._streams = frozenset(streams)
        self._kinds = frozenset(kinds)
        self._after = after
        self._patience = patience
        self._tracks = {} if isinstance(after, str) else {name: _Track(seq) for name, seq in after.items()}
        self._ready: deque[Message] = deque()
        self._gap: _Gap | None = None
        self._synced = False
        self._store = ""
        self._connection = 0
        self._look_at = float("inf")
        self._live = Subscriber(endpoint, streams, curve=curve)
        try:
            self._asker = None if replay is None else ReplayClient(replay, curve)
        except ConfigError:
            self._live.close()
            raise

    @property
    def positions(self) -> dict[str, int]:
        """Last ``seq`` of each stream that was handed on or is about to be; keep it to go on later with ``after``."""
        waiting = {message.event.stream: message.event.seq - 1 for message in reversed(self._ready)}
        return {name: track.last for name, track in self._tracks.items()} | waiting

    def receive(self, timeout: float) -> Message | None:
        """Wait for one event, ``timeout`` seconds at most, or two longer while the replay socket answers.

        Raises:
            FormatError: what came is no event.
        """
        if self._ready:
            return self._ready.popleft()
        if self._gap is not None:
            self._fill(self._gap, timeout)
        elif time.monotonic() >= self._look_at:
            self._look()
        if not self._ready and self._gap is None:
            self._listen(timeout)
        return self._ready.popleft() if self._ready else None

    def __iter__(self) -> Iterator[Event]:
        """Yield events for ever; what is no event is logged and left out."""
        while True:
            try:
                message = self.receive(TURN)
            except FormatError as error:
                log.warning("unreadable_event", endpoint=self._live.endpoint, reason=str(error))
                continue
            if message is not None and (not self._kinds or message.event.type in self._kinds):
                yield message.event

    def close(self) -> None:
        """Close the connections."""
        self._live.close()
        if self._asker is not None:
            self._asker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self, timeout: float) -> None:
        message = self._live.receive(timeout)
        if self._live.connections != self._connection:
            self._connection = self._live.connections
            self._look_at = 0.0  # what was published between two connections came to nobody
        if message is not None:
            self._take(message)

    # ---- live ----

    def _take(self, message: Message) -> None:
        event = message.event
        track = self._tracks.get(event.stream)
        if track is None:
            # Who begins now takes what comes; to all others, and after the first look, an unknown stream begins at 1.
            anywhere = self._asker is None or (self._after == "now" and not self._synced)
            track = self._tracks[event.stream] = _Track(event.seq - 1 if anywhere else 0)
        if event.seq <= track.last:
            if not self._is_anew(track, message):
                return
            track.last, track.time, track.replayed = event.seq - 1, "", {}
        if event.seq > track.last + 1 and self._asker is not None:
            self._gap = _Gap(message, time.monotonic() + self._patience)
        else:
            self._hand_on_live(track, message)

    def _is_anew(self, track: _Track, message: Message) -> bool:
        """Whether a number that does not grow is of a publisher that counts anew, and not an event known already."""
        if self._asker is None:
            return True  # nothing is replayed, so nothing comes twice
        known = track.replayed.get(message.event.seq) == zlib.crc32(message.payload)
        return not known and self._connection > track.connection and message.event.time > track.time

    def _hand_on_live(self, track: _Track, message: Message) -> None:
        self._hand_on(track, message, replayed=False)
        track.connection = self._connection
        track.replayed.clear()  # older ones cannot come live any more

    def _hand_on(self, track: _Track, message: Message, *, replayed: bool) -> None:
        event = message.event
        missed = event.seq - track.last - 1
        self.missed += missed
        self.replayed += replayed
        track.last, track.time = event.seq, max(track.time, event.time)
        self._ready.append(Message(event, message.payload, missed, replayed))

    # ---- replay ----

    def _fill(self, gap: _Gap, timeout: float) -> None:
        """Get some of what is missing before an event; hand it on once there is nothing more to get."""
        event = gap.message.event
        track = self._tracks[event.stream]
        before, upto = track.last, event.seq - 1
        request = EventsRequest(v=1, op="events", since={event.stream: before}, upto={event.stream: upto})
        reply = self._ask(request, timeout)
        if reply is not None:
            self._replay(reply)
            if before < track.last < upto and reply.end.more:
                return
        elif time.monotonic() < gap.until or not self._live.waiting:
            return  # where nothing comes live either, the whole process is down, and will have it all when it is back
        else:
            log.warning("gap_not_filled", stream=event.stream, after=track.last, upto=upto)
        self._gap = None
        self._hand_on_live(track, gap.message)

    def _look(self) -> None:
        """Ask for everything since the last number of every stream, or for the last of each at the very beginning."""
        self._look_at = float("inf")
        if self._asker is None:
            return
        first = not self._synced and self._after == "now"
        reply = self._ask(self._latest() if first else self._all_since(), TURN)
        if reply is None:
            self._look_at = time.monotonic() + RETRY_SECONDS
            return
        if first:
            self._begin(reply)
        else:
            self._replay(reply)
        self._synced = self._synced or not reply.end.more
        self._look_at = 0.0 if first or reply.end.more else time.monotonic() + CHECK_SECONDS

    def _latest(self) -> LatestRequest:
        return LatestRequest(v=1, op="latest", streams=tuple(sorted(self._streams)) or None)

    def _all_since(self) -> EventsRequest:
        since = {name: track.last for name, track in self._tracks.items()}
        if self._streams:
            since = {name: since.get(name, 0) for name in (*self._streams, *since)}
        return EventsRequest(v=1, op="events", since=since, others=not self._streams)

    def _begin(self, reply: Reply) -> None:
        """Start each stream at its last events, unless live ones came already."""
        fresh = {name: _Track(held.last) for name, held in _there(reply) if name not in self._tracks}
        for payload in reply.events:
            event = from_json(payload)
            if event.stream in fresh:
                fresh[event.stream].time = max(fresh[event.stream].time, event.time)
                self._ready.append(Message(event, payload, 0, replayed=True))
        self._tracks |= fresh

    def _replay(self, reply: Reply) -> None:
        for payload in reply.events:
            event = from_json(payload)
            track = self._tracks.setdefault(event.stream, _Track())
            if event.seq > track.last:
                self._hand_on(track, Message(event, payload, 0), replayed=True)
                track.replayed[event.seq] = zlib.crc32(payload)
            while len(track.replayed) > MOST_KNOWN:
                del track.replayed[next(iter(track.replayed))]

    def _ask(self, request: Request, timeout: float) -> Reply | None:
        assert self._asker is not None
        try:
            reply = self._asker.ask(request, timeout)
        except (StoreError, FormatError) as error:
            log.warning("replay_failed", reason=str(error))
            time.sleep(timeout)  # it will be asked again, and is not to be stormed
            return None
        if reply is not None and reply.end.store != self._store:
            if self._store:
                # Another store is another history: nothing of it was ever seen.
                log.warning("store_changed", replay=self._asker.endpoint)
                for track in self._tracks.values():
                    track.last, track.time, track.replayed = 0, "", {}
                self._store = reply.end.store
                return None
            self._store = reply.end.store
        return reply


def _there(reply: Reply) -> list[tuple[str, Held]]:
    return [(name, held) for name, held in (reply.end.streams or {}).items() if held.last]
