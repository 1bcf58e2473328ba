"""The operating curve: false alarms an hour against the share of turns caught, and against the delay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from trainer.streams.choose import Curve

LEAST = 0.1  # false alarms an hour; the axis begins here, none at all is drawn here


def draw(curves: Mapping[str, Curve], points: Mapping[str, Any], path: Path) -> None:
    """Draw curves by name and mark operating points (figures by name); the suffix of ``path`` is its format."""
    figure = Figure(figsize=(7, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for name, curve in curves.items():
        alarms = [max(LEAST, tally.per_hour) for tally in curve.tallies]
        upper.plot(alarms, [tally.share_caught for tally in curve.tallies], marker=".", label=name)
        lower.plot(alarms, [tally.delay_p50 for tally in curve.tallies], marker=".", label=name)
    for name, figures in points.items():
        turns = figures["turns_of_6_s"]
        at = max(LEAST, figures["human_only"]["per_hour"])
        upper.plot(at, turns["caught"], "k*", markersize=11)
        upper.annotate(name, (at, turns["caught"]), textcoords="offset points", xytext=(6, -14))
        lower.plot(at, turns["delay"]["p50"] or np.nan, "k*", markersize=11)
    upper.set(ylabel="share of synthetic turns of 6 s or more caught", ylim=(0, 1))
    lower.set(ylabel="median delay in seconds", xlabel="false alarms per hour of human speech", xscale="log")
    for axes in (upper, lower):
        axes.axvline(1.0, linestyle=":", color="grey")
        axes.grid(visible=True, alpha=0.4)
    upper.legend()
    figure.savefig(path, dpi=100)
