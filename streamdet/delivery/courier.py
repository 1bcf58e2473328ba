"""Carries parcels from an outbox to a service, one after the other, with a breaker that spares a service in trouble."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import structlog

from streamdet.delivery.outbox import Outbox, Parcel

log = structlog.get_logger(__name__)
FIRST_REST, LONGEST_REST = 1.0, 300.0  # seconds
IDLE = 1.0
DAY = 86_400.0


class NotDelivered(Exception):  # noqa: N818  it is no error of ours, and it is caught here
    """The service did not take a parcel. ``hopeless``: no later try of this very parcel could help."""

    def __init__(self, reason: str, *, hopeless: bool = False, rest: float = 0.0) -> None:
        super().__init__(reason)
        self.hopeless = hopeless
        self.rest = rest  # seconds that the service asks to be left alone


class Courier:
    """Delivers in order in a thread of its own.

    After a failure it rests, twice as long each time (1 s to 5 min, with jitter), and then tries the same parcel: order
    holds, and a service that is down gets one request a rest. A parcel that is hopeless, or older than ``patience``
    seconds, goes to the dead letters. An outbox whose disk fails is tried again after a rest too, and never ends the
    thread; the outbox itself says so.
    """

    def __init__(
        self,
        name: str,
        outbox: Outbox,
        deliver: Callable[[Parcel], None],
        *,
        patience: float = DAY,
        first_rest: float = FIRST_REST,
        longest_rest: float = LONGEST_REST,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.outbox = outbox
        self.outbox.name = name
        self.failures = 0  # in a row
        self.failed = 0  # tries in all
        self._deliver = deliver
        self._patience = patience
        self._first_rest, self._longest_rest = first_rest, longest_rest
        self._clock = clock
        self._unread = 0  # times in a row that the outbox failed
        self._owed: tuple[Parcel, str] | None = (
            None  # is to be set aside, once that can be written, and not tried again
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"courier-{name}", daemon=True)

    @property
    def broken(self) -> bool:
        """Whether the service refuses at present."""
        return self.failures > 0

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def close(self, linger: float = 1.0) -> None:
        """Stop after the parcel under way; a service that is well is given ``linger`` seconds to take the rest."""
        until = time.monotonic() + linger
        while self._thread.is_alive() and self.outbox.waiting and not self.broken and time.monotonic() < until:
            time.sleep(0.02)
        self._stop.set()
        self.outbox.wake()
        if self._thread.is_alive():
            self._thread.join(linger + 1.0)
        self.outbox.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._step()
            except (sqlite3.Error, OSError):
                self._unread += 1
                self._pause(self._rest(self._unread))
            else:
                self._unread = 0

    def _step(self) -> None:
        if self._owed is not None:
            self._set_aside(*self._owed)
        elif (parcel := self.outbox.first(IDLE)) is not None:
            self._carry(parcel)

    def _carry(self, parcel: Parcel) -> None:
        try:
            self._deliver(parcel)
        except NotDelivered as error:
            self._failed(parcel, error)
        except Exception as error:  # noqa: BLE001  a fault in one service's code must not end its deliveries unseen
            self._failed(parcel, NotDelivered(f"{type(error).__name__}: {error}"))
        else:
            self.outbox.took(parcel)
            if self.failures:
                log.info("delivery_resumed", sink=self.name, after=self.failures, waiting=self.outbox.waiting)
            self.failures = 0

    def _failed(self, parcel: Parcel, error: NotDelivered) -> None:
        self.failed += 1
        reason = str(error)
        if error.hopeless or self._clock() - parcel.put > self._patience:
            log.warning("delivery_given_up", sink=self.name, key=parcel.key, reason=reason, tries=parcel.tries + 1)
            self._set_aside(parcel, reason)
            return
        self.outbox.refused(parcel, reason)
        self.failures += 1
        if self.failures & (self.failures - 1) == 0:  # the 1st, 2nd, 4th, 8th ...
            log.warning("delivery_failed", sink=self.name, reason=reason, times=self.failures)
        self._pause(max(self._rest(self.failures), error.rest))

    def _set_aside(self, parcel: Parcel, reason: str) -> None:
        self._owed = (parcel, reason)
        self.outbox.give_up(parcel, reason)
        self._owed = None

    def _rest(self, times: int) -> float:
        longest = min(self._longest_rest, self._first_rest * 2.0 ** min(times - 1, 20))
        return longest * random.uniform(0.5, 1.0)

    def _pause(self, seconds: float) -> None:
        """Rest, but for what the outbox has in memory and could write by now."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0.0 and not self._stop.wait(min(left, IDLE)):
            self.outbox.mend()


@runtime_checkable
class Delivers(Protocol):
    """A sink whose events are carried by a courier."""

    @property
    def courier(self) -> Courier:
        """Who carries them."""
        ...
