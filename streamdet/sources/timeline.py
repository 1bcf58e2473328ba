"""Tells, from RTP time stamps, how much sound is missing before a packet, and how much was silence nobody sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from streamdet.sources.jitter import Released

TOLERANCE_SECONDS: Final = 0.01  # by how much a sender's time stamps may stray from its samples
BURST_SECONDS: Final = 2.0  # by how much they may run ahead of the clock on the wall


@dataclass(slots=True)
class Timeline:
    """Where one stream stands. Packets without sound still count: what is missing beside them is carried along.

    A step of the time stamps with packets missing is loss. Without any missing it is silence that the sender did not
    send (RFC 3551 section 4.1); around a packet that announces silence (comfort noise, RFC 3389) or stands in its
    stead (telephone events, RFC 4733), only as much is loss as the missing packets can have held. A step that no clock
    on the wall supports is neither: the count begins anew there.
    """

    resets: int = 0
    _expected: int | None = None
    _clock: int = 0
    _ticks: int = 0  # of the packet of sound placed last
    _arrived: float = 0.0
    _carried: int = 0
    _quiet: bool = False  # something without sound came since the last sound
    _restarted: bool = False

    def carry(self, released: Released, *, broken: bool = False) -> None:
        """Count a packet that has no place, and those lost beside it; itself as lost where it is ``broken``."""
        self._carried += released.missing + broken
        self._restarted = self._restarted or released.restarted

    def restart(self) -> None:
        """Expect the sender to have begun anew."""
        self._restarted = True

    def skip(self, released: Released) -> None:
        """Count a packet that takes the place of sound for a time it does not tell, such as a telephone event."""
        self.carry(released)
        self._quiet = True

    def cover(self, released: Released, clock: int) -> tuple[int, int]:
        """Place a packet that says there was silence until its time stamp; returns what :meth:`place` does."""
        if self._expected is None or self._restarted or released.restarted or clock != self._clock:
            self.skip(released)
            return 0, 0
        step = self._step(released)
        self._quiet = True
        if not 0 < step <= self._longest(released):
            self._carried += released.missing
            return 0, 0
        lost = min(step, (self._carried + released.missing) * self._ticks)
        self._expected, self._arrived, self._carried = released.packet.timestamp, released.arrived, 0
        return lost, step - lost

    def place(self, released: Released, ticks: int, clock: int) -> tuple[int, int]:
        """Place a packet of ``ticks``; return the ticks lost and the ticks of silence right before it."""
        missing = self._carried + released.missing
        begin = released.packet.timestamp
        lost = silent = 0
        if self._expected is None:
            pass
        elif self._restarted or released.restarted or clock != self._clock:
            self.resets += 1
            lost = max(0, round((released.arrived - self._arrived) * clock) - ticks)
        else:
            step = self._step(released)
            if abs(step) <= self._tolerance(missing):
                begin = self._expected  # let small errors add up instead of following them
            elif 0 < step <= self._longest(released):
                lost = min(step, missing * self._ticks) if self._quiet else step if missing else 0
                silent = step - lost
            else:
                self.resets += 1
                lost = min(missing * ticks, int(self._longest(released)))
        self._expected = (begin + ticks) & 0xFFFFFFFF
        self._clock, self._ticks, self._arrived, self._carried = clock, ticks, released.arrived, 0
        self._quiet = self._restarted = False
        return lost, silent

    def _tolerance(self, missing: int) -> float:
        """Ticks that a packet may be off; where some are missing, less than the shortest of them can have held."""
        usual = TOLERANCE_SECONDS * self._clock
        return min(usual, self._ticks / 2) if missing else usual

    def _step(self, released: Released) -> int:
        expected = self._expected or 0
        return ((released.packet.timestamp - expected + 0x80000000) & 0xFFFFFFFF) - 0x80000000

    def _longest(self, released: Released) -> float:
        return (max(0.0, released.arrived - self._arrived) + BURST_SECONDS) * self._clock
