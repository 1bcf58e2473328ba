"""Tells, from RTP time stamps, how much sound is missing before a packet, and how much was silence nobody sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from streamdet.sources.jitter import Released

TOLERANCE_SECONDS: Final = 0.01  # by how much a sender's time stamps may stray from its samples
BURST_SECONDS: Final = 2.0  # by how much they may run ahead of the clock on the wall


@dataclass(slots=True)
class Timeline:
    """Where one stream stands. Packets without sound still count: what is missing beside them is carried along.

    A step of the time stamps with packets missing is loss. Without any missing it is silence that the sender did not
    send (RFC 3551 section 4.1). A step that no clock on the wall supports is neither: the count begins anew there.
    """

    resets: int = 0
    _expected: int | None = None
    _clock: int = 0
    _arrived: float = 0.0
    _carried: int = field(default=0)

    def carry(self, missing: int) -> None:
        """Count packets that are lost beside one that makes no sound."""
        self._carried += missing

    def place(self, released: Released, ticks: int, clock: int) -> tuple[int, int]:
        """Place a packet of ``ticks``; return the ticks lost and the ticks of silence right before it."""
        missing = self._carried + released.missing
        elapsed = released.arrived - self._arrived
        begin = released.packet.timestamp
        lost = silent = 0
        if self._expected is None:
            pass
        elif released.restarted or clock != self._clock:
            self.resets += 1
            lost = max(0, round(elapsed * clock) - ticks)
        else:
            step = ((begin - self._expected + 0x80000000) & 0xFFFFFFFF) - 0x80000000
            if abs(step) <= TOLERANCE_SECONDS * clock:
                begin = self._expected  # let small errors add up instead of following them
            elif 0 < step <= (elapsed + BURST_SECONDS) * clock:
                lost, silent = (step, 0) if missing else (0, step)
            else:
                self.resets += 1
                lost = missing * ticks
        self._expected = (begin + ticks) & 0xFFFFFFFF
        self._clock, self._arrived, self._carried = clock, released.arrived, 0
        return lost, silent
