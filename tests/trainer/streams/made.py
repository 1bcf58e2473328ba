"""Columns whose truth is known: every hop says what its turn is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.streams.hear import Heard
from trainer.streams.splice import Turn

HOP = 0.32


def heard(
    lengths: Sequence[tuple[int, int]],
    *,
    level: float = 3.0,
    spread: float = 0.0,
    seed: int = 0,
    source: str = "s",
    mixed: bool = True,
) -> Heard:
    """A stream of turns ``(label, hops)``: synthetic hops say ``level`` nats, human ones ``-level``, plus noise."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[float, ...]] = []
    turns = []
    for label, hops in lengths:
        begin = len(rows) * HOP
        for _ in range(hops):
            logit = (level if label else -level) + spread * float(rng.standard_normal())
            rows.append(((len(rows) + 1) * HOP, logit, 0.3 * float(rng.standard_normal()), 1.0, 0.0))
        turns.append(Turn(begin, len(rows) * HOP, label, source, "f" if label else ""))
    return Heard(f"{source}-{seed}", mixed, tuple(turns), np.array(rows))
