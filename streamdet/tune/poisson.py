"""What a count of rare events says of their rate: exact bounds for a Poisson process (Garwood 1936)."""

from __future__ import annotations

import math

STEPS = 80  # of a bisection: far below the precision of a float


def _at_most(count: int, mean: float) -> float:
    """Probability of at most ``count`` events where ``mean`` are expected."""
    return sum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1)) if mean > 0 else 1.0


def upper_bound(count: int, confidence: float = 0.95) -> float:
    """Return the largest mean that ``count`` events still allow, one-sided; 3.0 at 95 % where none came."""
    low, high = 0.0, count + 10.0 * math.sqrt(count + 1.0) + 20.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(count, middle) > 1 - confidence else (low, middle)
    return high


def most_allowed(mean: float, confidence: float = 0.95) -> int | None:
    """Return how many events may come so that their mean is at most ``mean``; None where not even 0 would show it."""
    count = -1
    while upper_bound(count + 1, confidence) <= mean:
        count += 1
    return None if count < 0 else count
