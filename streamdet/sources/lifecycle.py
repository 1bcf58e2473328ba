"""The one life cycle of all sources: which phase may follow which, said once in events, rarely in logs, counted always.

::

    connecting ──► live ◄──► degraded          degraded: sound comes, but not as it should
        │           │  ▲        │ ▲            recovering: it came, and does not come now
        │           ▼  │        ▼ │            failed: given up, until somebody or something tries anew
        │          recovering ────┘            ended: final
        └────► failed, ended (from every phase)

A port or a socket that carries many streams has a life cycle beside theirs: after its last stream has ended it waits
for the next one, which is ``connecting`` again.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Final

import structlog

from streamdet.audio.block import End, Phase, Status
from streamdet.events import StatePhase
from streamdet.sources.pace import Quiet

log = structlog.get_logger(__name__)

# Every move a source may make; anything else is a fault of the source. To stay in a phase is no move.
ALLOWED: Final[Mapping[StatePhase, frozenset[StatePhase]]] = {
    "connecting": frozenset({"live", "degraded", "failed", "ended"}),
    "live": frozenset({"degraded", "recovering", "connecting", "failed", "ended"}),
    "degraded": frozenset({"live", "recovering", "connecting", "failed", "ended"}),
    "recovering": frozenset({"live", "degraded", "failed", "ended"}),
    "failed": frozenset({"connecting", "ended"}),
    "ended": frozenset(),
}
TROUBLE: Final = frozenset({"degraded", "recovering", "failed"})
LOG_SECONDS: Final = 60.0  # one stream logs a move into the same phase this often at most
LOG_BURST: Final = 30  # lines that all streams together may log at once
LOG_RATE: Final = 1.0  # and lines a second after that


class Budget:
    """Lets ``burst`` through at once and ``rate`` a second in the long run; for any thread."""

    def __init__(self, burst: float, rate: float) -> None:
        self.refused = 0  # since the last one let through
        self._burst = burst
        self._rate = rate
        self._left = burst
        self._at = 0.0
        self._lock = threading.Lock()

    def allows(self, now: float) -> bool:
        """Tell whether one more fits at monotonic time ``now``."""
        with self._lock:
            self._left = min(self._burst, self._left + self._rate * max(0.0, now - self._at))
            self._at = max(self._at, now)
            if self._left < 1:
                self.refused += 1
                return False
            self._left -= 1
            self.refused = 0
            return True


_budget = Budget(LOG_BURST, LOG_RATE)
UNLOGGED: Final = Budget(0, 0)  # for who tells in other ways what becomes of a source


class LifeCycle:
    """Where one source, or one stream of it, stands. Used by the thread of its source alone.

    Args:
        stream: name of the stream, as in its events.
        budget: bounds the log lines; all streams of a process share one unless told otherwise.

    Raises:
        AssertionError: by :meth:`move` and :meth:`end`, for a move that :data:`ALLOWED` lacks.
    """

    def __init__(self, stream: str, *, budget: Budget | None = None) -> None:
        self.stream = stream
        self.entered: Counter[StatePhase] = Counter()  # how often each phase was entered
        self._phase: StatePhase = "connecting"
        self._since = time.monotonic()
        self._budget = budget or _budget
        self._quiet: dict[StatePhase, Quiet] = {}
        self._unsaid = 0

    @property
    def phase(self) -> StatePhase:
        """The phase it is in."""
        return self._phase

    @property
    def ended(self) -> bool:
        """True once nothing more may come."""
        return self._phase == "ended"

    def move(self, to: Phase, reason: str, detail: Mapping[str, float | int | str] | None = None) -> Status:
        """Enter a phase, or stay in it with something new to say; returns what the source has to yield."""
        self._enter(to, reason)
        return Status(self.stream, to, reason, dict(detail or {}))

    def update(self, reason: str, detail: Mapping[str, float | int | str] | None = None) -> Status:
        """Say something new in the phase it is in."""
        if self._phase == "ended":
            raise AssertionError(f"{self.stream}: nothing may come after its end")
        return Status(self.stream, self._phase, reason, dict(detail or {}))

    def end(self, reason: str) -> End:
        """End it; returns what the source has to yield."""
        self._enter("ended", reason)
        return End(self.stream, reason)

    def counters(self) -> dict[str, float]:
        """How often each phase was entered, as ``entered_live`` and so on; for a source's ``counters``."""
        return {f"entered_{phase}": count for phase, count in self.entered.items()}

    def _enter(self, to: StatePhase, reason: str) -> None:
        before = self._phase
        if to == before and before != "ended":
            return
        if to not in ALLOWED[before]:
            raise AssertionError(f"{self.stream}: no way from {before} to {to}")
        now = time.monotonic()
        self._phase = to
        self.entered[to] += 1
        self._log(before, reason, now)
        self._since = now

    def _log(self, before: StatePhase, reason: str, now: float) -> None:
        quiet = self._quiet.setdefault(self._phase, Quiet(LOG_SECONDS))
        unsaid_by_all = self._budget.refused
        if not quiet.allows(now) or not self._budget.allows(now):
            self._unsaid += 1
            return
        say = log.warning if self._phase in TROUBLE else log.info
        more = {"unsaid": self._unsaid} if self._unsaid else {}
        if unsaid_by_all:
            more["unsaid_by_all"] = unsaid_by_all
        seconds = round(now - self._since, 1)
        say("source", stream=self.stream, phase=self._phase, reason=reason, before=before, seconds=seconds, **more)
        self._unsaid = 0
