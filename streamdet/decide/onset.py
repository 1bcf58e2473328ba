"""Onset: when the voice that an alert is about most likely began."""

from __future__ import annotations


class Onset:
    """Change point of a stream by the cumulative sum of its hops' own log-odds (Page 1954).

    A window answers late, since most of it is still the voice before. The hops know better: their sum falls through
    human speech and rises through synthetic speech, and the moment it last left 0 is the likeliest change. One hop
    counts at most ``clip`` nats and the sum stops at ``cap``, so that one wild hop cannot move the onset and a long
    synthetic turn is forgotten within seconds of human speech.
    """

    def __init__(self, *, clip: float = 2.0, cap: float = 10.0) -> None:
        self.clip = clip
        self.cap = cap
        self._sum = 0.0
        self._began: float | None = None

    def update(self, llr: float, began: float, speech: float) -> None:
        """Add one hop: its calibrated log-odds, the media time at which it began, its share of speech."""
        if speech <= 0:
            return
        step = speech * min(max(llr, -self.clip), self.clip)
        if self._sum == 0.0 and step > 0:
            self._began = began
        self._sum = min(max(self._sum + step, 0.0), self.cap)

    def since(self, earliest: float, latest: float) -> float:
        """Media time of the change, kept within bounds; ``latest`` where no hop leans to synthetic."""
        if self._began is None or self._sum == 0.0:
            return latest
        return min(max(self._began, earliest), latest)

    def reset(self) -> None:
        """Forget everything."""
        self._sum = 0.0
        self._began = None
