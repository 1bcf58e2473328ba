"""Events on a real ZeroMQ socket to a real reader in another process, as in ``listen``."""

from __future__ import annotations

import select
import subprocess
import sys
import time

import zmq

from streamdet.errors import SinkError
from streamdet.events import Event
from streamdet.sinks.fanout import Fanout
from streamdet.sinks.queue import QueueSink
from streamdet.sinks.zeromq import ZeroMQSink

GREETING_SECONDS = 60.0
POLL_SECONDS = 0.001
PROBE = b"probe"


class _Greeter(ZeroMQSink):
    """Also sends probes, so that the reader knows when its subscription has arrived."""

    def probe(self) -> None:
        """Send one."""
        self._socket.send_multipart((PROBE, b""))


class Publisher:
    """Encodes and publishes events for a process that only counts them.

    Args:
        patient: wait for room rather than drop an event, as ``listen`` would.

    Raises:
        SinkError: the reader cannot be started.
    """

    def __init__(self, *, patient: bool = True) -> None:
        socket = _Greeter("tcp://127.0.0.1:*", high_water=0)
        self.published = 0
        self._reader = subprocess.Popen(
            [sys.executable, "-m", "streamdet.bench.publisher", socket.endpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._await_reader(socket)
        self._queue = QueueSink(socket, patient=patient)
        self._fanout = Fanout([self._queue])

    def emit(self, event: Event) -> None:
        """Publish one event."""
        self.published += 1
        self._fanout.emit(event)

    def flush(self) -> None:
        """Wait until all events are with ZeroMQ."""
        while self._queue.waiting:
            time.sleep(POLL_SECONDS)

    def close(self) -> int:
        """Close everything; returns how many events the reader received."""
        self.flush()
        time.sleep(0.2)  # what is on its way through the loopback
        out, _ = self._reader.communicate(timeout=GREETING_SECONDS)
        self._fanout.close()
        return int(out)

    def _await_reader(self, socket: _Greeter) -> None:
        assert self._reader.stdout is not None
        until = time.monotonic() + GREETING_SECONDS
        while not select.select([self._reader.stdout], [], [], 0.05)[0]:
            if time.monotonic() > until:
                self._reader.kill()
                raise SinkError("the process that reads the events did not start")
            socket.probe()
        self._reader.stdout.readline()


def count_events(endpoint: str) -> int:
    """Receive events until standard input closes; says so once the first probe has come."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    socket.set(zmq.RCVHWM, 0)
    socket.subscribe(b"")
    socket.connect(endpoint)
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    count, greeted = 0, False
    while True:
        ready = dict(poller.poll())
        if socket in ready:
            topic = socket.recv_multipart()[0]
            count += topic != PROBE
            if not greeted:
                print(flush=True)
                greeted = True
        elif ready:
            return count


if __name__ == "__main__":
    print(count_events(sys.argv[1]))
