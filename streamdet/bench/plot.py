"""The figures as a picture, or as bars of text where matplotlib is not installed."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamdet.bench.target import check_target
from streamdet.errors import ConfigError, DependencyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"stream": "#1b6ca8", "end_to_end": "#2a9d5c", "window": "#c9893a", "eager": "#b5493e"}
SUFFIXES = (".png", ".svg")
WIDTH = 40  # characters of the longest bar


def shown(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Results that are ways to hold streams, the most streams first."""
    ways = [entry for entry in report["results"] if entry["kind"] in COLOURS]
    return sorted(ways, key=lambda entry: -float(entry["streams_per_core"]))


def text_bars(report: dict[str, Any]) -> list[str]:
    """One line a way; lengths are logarithmic, as ways differ by two orders of magnitude."""
    ways = shown(report)
    most = max(math.log10(1 + entry["streams_per_core"]) for entry in ways)
    widest = max(len(entry["label"]) for entry in ways)
    return [
        f"{entry['label']:<{widest}}  {entry['streams_per_core']:>8.1f}  "
        + "━" * max(1, round(WIDTH * math.log10(1 + entry["streams_per_core"]) / most))
        for entry in ways
    ]


def check_plot(path: Path) -> None:
    """Make sure, before anything is measured, that a picture can be drawn and written.

    Raises:
        ConfigError: ``path`` is neither PNG nor SVG, or cannot be written.
        DependencyError: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--plot {path}: a picture is PNG or SVG; end its name in .png or .svg")
    check_target(path, in_place=True)
    if importlib.util.find_spec("matplotlib") is None:
        raise DependencyError("a plot needs matplotlib: pip install matplotlib; without --plot figures are printed")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a picture; the suffix of ``path`` chooses the format.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


def write_plot(report: dict[str, Any], path: Path) -> None:
    """Draw the streams per core of all ways.

    Raises:
        ConfigError, DependencyError: as :func:`check_plot` and :func:`save_figure`.
    """
    check_plot(path)
    from matplotlib.figure import Figure  # noqa: PLC0415  optional

    ways = shown(report)[::-1]
    figure = Figure(figsize=(9, 1.2 + 0.28 * len(ways)), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh([w["label"] for w in ways], _values(ways), color=[COLOURS[w["kind"]] for w in ways])
    axes.bar_label(bars, [f" {value:,.0f}" if value >= 10 else f" {value:.1f}" for value in _values(ways)], fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("streams per core (log)")
    axes.margins(x=0.1)
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{report['model']['name']} on {report['machine']['processor']}", fontsize=10)
    save_figure(figure, path)


def _values(ways: Sequence[dict[str, Any]]) -> list[float]:
    return [entry["streams_per_core"] for entry in ways]
