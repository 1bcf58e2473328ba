"""Calibration: from the network's raw log-odds to log-odds that mean what they say."""

from __future__ import annotations

import math
from dataclasses import dataclass

from streamdet.errors import ModelError


@dataclass(frozen=True, slots=True)
class Platt:
    """Logistic calibration (Platt 1999): ``calibrated = scale * raw + offset``, both log-odds of spoof (natural log).

    Raises:
        ModelError: a number is not finite, or the scale would turn fake into real.
    """

    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and math.isfinite(self.offset) and self.scale > 0):
            raise ModelError(
                f"calibration scale {self.scale} and offset {self.offset}: need finite numbers and a scale above 0"
            )

    def log_odds(self, raw: float) -> float:
        """Calibrated log-odds of raw log-odds."""
        return self.scale * raw + self.offset


def probability(log_odds: float) -> float:
    """Logistic function, without overflow at either end."""
    if log_odds >= 0:
        return 1.0 / (1.0 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1.0 + odds)


def log_odds(probability: float) -> float:
    """Inverse of :func:`probability` for ``0 < probability < 1``; ValueError or ZeroDivisionError outside."""
    return math.log(probability / (1.0 - probability))
