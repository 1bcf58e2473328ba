"""Subscribing to a streamdet: the events of an endpoint, and which of them got lost on the way."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import zmq

from streamdet.endpoint import HIGHEST_PORT, has_impossible_port
from streamdet.errors import ConfigError, FormatError
from streamdet.events import DAEMON, Event, from_json
from streamdet.keys import Curve

KINDS = ("score", "alert", "state")
HIGH_WATER = 10_000  # events kept for a reader that is busy; beyond that some are lost, and counted


@dataclass(frozen=True, slots=True)
class Message:
    """One event as it came.

    ``missed`` counts the stream's events that were lost right before it. A ``replayed`` one was not heard live.
    """

    event: Event
    payload: bytes
    missed: int
    replayed: bool = False


class Gaps:
    """Finds lost events by the gaps in each stream's ``seq``."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def missed(self, event: Event) -> int:
        """Count the events lost right before this one.

        The first event seen of a stream has nothing before it; a number that does not grow is a new publisher.
        """
        before = self._last.get(event.stream)
        self._last[event.stream] = event.seq
        return max(0, event.seq - before - 1) if before is not None else 0


class Subscriber:
    """Receives events from an endpoint, all of them or those of some streams; reconnects by itself.

    It hears what is published while it is connected; :class:`streamdet.follow.Follower` also gets what was before.

    Args:
        endpoint: ZeroMQ address of a streamdet's ``--publish``.
        streams: only these streams; all where empty.
        curve: keys, where the publisher asks for them.

    Raises:
        ConfigError: the endpoint is none.
    """

    def __init__(self, endpoint: str, streams: Collection[str] = (), *, curve: Curve | None = None) -> None:
        if has_impossible_port(endpoint):
            raise ConfigError(f"cannot subscribe to {endpoint}: ports end at {HIGHEST_PORT}")
        self.endpoint = endpoint
        self.connections = 0  # made so far; grows when the publisher was started anew
        self._streams = frozenset(streams)
        self._gaps = Gaps()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RCVHWM, HIGH_WATER)
        for prefix in self._prefixes():
            self._socket.subscribe(prefix)
        if curve is not None:
            curve.apply(self._socket)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise ConfigError(f"cannot subscribe to {endpoint}: {error.strerror}; try tcp://HOST:PORT") from error

    def receive(self, timeout: float) -> Message | None:
        """Wait for one event, ``timeout`` seconds at most.

        Returns:
            The event, or None where none came in time or only one of another stream.

        Raises:
            FormatError: what came is no event.
        """
        arrived = self._socket.poll(int(1000 * timeout))
        while self._monitor.poll(0):
            self._monitor.recv_multipart()
            self.connections += 1
        if not arrived:
            return None
        frames = self._socket.recv_multipart()
        if len(frames) != 2:
            raise FormatError(f"an event has two frames, topic and JSON; {len(frames)} came")
        event = from_json(frames[1])
        # A topic is matched by its beginning, so the events of "hall-2" come to whoever asked for "hall".
        if self._streams and event.stream not in (DAEMON, *self._streams):
            return None
        return Message(event, frames[1], self._gaps.missed(event))

    @property
    def waiting(self) -> bool:
        """Whether something came that was not yet received."""
        return bool(self._socket.poll(0))

    def close(self) -> None:
        """Close the connection."""
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()
        self._context.term()

    def _prefixes(self) -> list[str]:
        if not self._streams:
            return [""]
        return ["health", f"state.{DAEMON}", *(f"{kind}.{stream}" for kind in KINDS for stream in self._streams)]
