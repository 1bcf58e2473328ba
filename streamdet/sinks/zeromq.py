"""Events on a ZeroMQ PUB socket: multipart ``[topic, json]``."""

from __future__ import annotations

import zmq

from streamdet.endpoint import HIGHEST_PORT, has_impossible_port
from streamdet.errors import SinkError
from streamdet.events import Event, topic
from streamdet.keys import KeyRing
from streamdet.zap import Doorkeeper

HIGH_WATER = 10_000  # messages kept for one slow subscriber; beyond that it loses some, which its ``seq`` shows


def _why(error: zmq.ZMQError, endpoint: str) -> str:
    if error.errno == zmq.EADDRINUSE:
        return f"{endpoint} is in use, perhaps by another streamdet; choose another endpoint with --publish"
    return f"cannot publish on {endpoint}: {error.strerror}; an endpoint looks like tcp://127.0.0.1:5560"


class ZeroMQSink:
    """Publishes events; subscribers come and go as they like.

    PUB never waits: who subscribes late misses what was before, and who is slow loses events; the replay socket has
    both. With a ``ring`` only its clients can connect.

    Raises:
        SinkError: the endpoint is in use, cannot be bound, or is none.
    """

    name = "zeromq"

    def __init__(
        self, endpoint: str, *, high_water: int = HIGH_WATER, linger_seconds: float = 1.0, ring: KeyRing | None = None
    ) -> None:
        if has_impossible_port(endpoint):
            raise SinkError(f"cannot publish on {endpoint}: ports end at {HIGHEST_PORT}")
        self._context = zmq.Context()
        self._door = None if ring is None else Doorkeeper(self._context, ring)
        self._socket = self._context.socket(zmq.PUB)
        self._socket.set(zmq.SNDHWM, high_water)
        self._socket.set(zmq.LINGER, int(1000 * linger_seconds))
        try:
            if self._door is not None:
                self._door.guard(self._socket)
                self._door.start()
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise SinkError(_why(error, endpoint)) from error
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    @property
    def refused(self) -> int:
        """Connections refused for want of a known key."""
        return 0 if self._door is None else self._door.refused

    def emit(self, event: Event, payload: bytes) -> None:
        """Publish one event."""
        try:
            self._socket.send_multipart((topic(event).encode(errors="replace"), payload), zmq.NOBLOCK)
        except zmq.ZMQError as error:
            raise SinkError(f"cannot publish: {error.strerror}") from error

    def close(self) -> None:
        """Close the socket; what is still queued is sent within the linger time."""
        if self._door is not None:
            self._door.close()
        self._socket.close()
        self._context.term()
