"""A bad network: datagrams are lost, sent twice, swapped and delayed on their way, and each is accounted for."""

from __future__ import annotations

import heapq
import random
import select
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Weather:
    """Shares of datagrams lost and sent twice, and the longest delay in seconds, drawn for each anew."""

    loss: float = 0.0
    twice: float = 0.0
    delay: float = 0.0


class Relay(threading.Thread):
    """Passes what comes to ``port`` on to ``to``, through the weather; the first ``sheltered`` go straight through.

    ``counts`` says what was done: ``came``, ``lost``, ``twice``, and ``sent``, which is ``came - lost + twice``.
    """

    def __init__(self, to: tuple[str, int], weather: Weather, *, seed: int = 0, sheltered: int = 5) -> None:
        super().__init__(daemon=True)
        self.weather = weather
        self.counts = Counter[str]()
        self._to = to
        self._chance = random.Random(seed)
        self._sheltered = sheltered
        self._in = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._in.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._in.bind(("127.0.0.1", 0))
        self._out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._waiting: list[tuple[float, int, bytes]] = []
        self._stop_event = threading.Event()
        self.port = int(self._in.getsockname()[1])

    def run(self) -> None:
        while not self._stop_event.is_set() or self._waiting:
            wait = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else 0.05
            if select.select([self._in], [], [], min(wait, 0.05))[0]:
                self._take(self._in.recv(65536))
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                self._out.sendto(heapq.heappop(self._waiting)[2], self._to)
                self.counts["sent"] += 1

    def finish(self) -> None:
        """Send what waits, then end."""
        self._stop_event.set()
        self.join(10)
        self._in.close()
        self._out.close()

    def _take(self, data: bytes) -> None:
        self.counts["came"] += 1
        if self.counts["came"] <= self._sheltered:
            self._put(data, 0.0)
            return
        if self._chance.random() < self.weather.loss:
            self.counts["lost"] += 1
            return
        self._put(data, self.weather.delay)
        if self._chance.random() < self.weather.twice:
            self.counts["twice"] += 1
            self._put(data, self.weather.delay)

    def _put(self, data: bytes, delay: float) -> None:
        due = time.monotonic() + delay * self._chance.random()
        heapq.heappush(self._waiting, (due, self.counts["came"] * 2 + len(self._waiting), data))
