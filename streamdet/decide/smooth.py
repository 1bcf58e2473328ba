"""Evidence over time: what one stream's log-odds amount to, measured in seconds so that the hop does not matter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Evidence(Protocol):
    """Turns the log-odds of overlapping windows into the one number that an alarm watches."""

    def update(self, llr: float, hop_seconds: float, speech: float) -> float:
        """Take the next hop and return the evidence.

        Args:
            llr: calibrated log-odds of spoof of the window that ends here (natural log).
            hop_seconds: how much audio is new.
            speech: share of speech in it; 0 where nothing was said, and then ``llr`` is not looked at.
        """
        ...

    def reset(self) -> None:
        """Forget everything, as at the start of a stream."""
        ...


class Smoother:
    """Exponential average with a time constant in seconds of speech; holds its value while nobody speaks.

    The weights are normalised, so the first value counts in full and there is no pull towards an imagined start. A
    value held for ``t`` seconds counts the same whether it comes as one hop or as ten. ``seconds`` 0 means no average.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._sum = 0.0
        self._weight = 0.0

    @property
    def value(self) -> float | None:
        """The average, in the unit of the input; None before any speech."""
        return self._sum / self._weight if self._weight else None

    def update(self, llr: float, hop_seconds: float, speech: float) -> float:
        """Average the next hop in (see :class:`Evidence`); 0 before any speech."""
        if speech > 0:
            new = -math.expm1(-hop_seconds * speech / self.seconds) if self.seconds > 0 else 1.0
            self._sum += new * (llr - self._sum)
            self._weight += new * (1.0 - self._weight)
        value = self.value
        return 0.0 if value is None else value

    def reset(self) -> None:
        """Forget everything."""
        self._sum = self._weight = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CusumConfig:
    """How a :class:`Cusum` counts; the numbers are in nats unless they say otherwise."""

    window_seconds: float = 3.0  # length of the windows that the log-odds come from: they overlap, so each counts less
    clip: float = 4.0  # no window counts more than this
    drift: float = 0.0  # taken off each window: the log-odds a stream may have for ever without an alarm
    cap: float = 12.0  # the sum stops here, so that it can come down again within seconds


class Cusum:
    """Cumulative sum (Page 1954) of clipped log-likelihood ratios, discounted for the overlap of their windows.

    Windows that overlap share their audio, so a hop counts with ``hop / window`` of its window's ratio, and with its
    share of speech. The sum never goes below 0: it is the evidence for a change since the most likely moment of it.
    """

    def __init__(self, config: CusumConfig | None = None) -> None:
        self.config = config or CusumConfig()
        self.value = 0.0

    def update(self, llr: float, hop_seconds: float, speech: float) -> float:
        """Add the next hop (see :class:`Evidence`)."""
        config = self.config
        clipped = min(max(llr - config.drift, -config.clip), config.clip)
        share = min(hop_seconds / config.window_seconds, 1.0) * speech
        if share > 0:
            self.value = min(max(self.value + share * clipped, 0.0), config.cap)
        return self.value

    def reset(self) -> None:
        """Forget everything."""
        self.value = 0.0
