"""The log of a run, a CSV line an evaluation, and its picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

PANELS = {
    "Training loss": ("loss",),
    "Validation EER": ("group_eer", "eer", "eer_plain"),
    "Validation AUC": ("auc", "auc_plain"),
}
NAMES = {
    "loss": "mean of late steps",
    "group_eer": "mean over groups",
    "eer": "groups balanced",
    "eer_plain": "all clips alike",
    "auc": "groups balanced",
    "auc_plain": "all clips alike",
}


def append(path: Path, row: Mapping[str, float]) -> None:
    """Add a line to the log; the first one also writes the header."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def draw(log: Path, picture: Path) -> None:
    """Draw loss, EER and AUC over the steps of a log, the best evaluation marked; the picture appears in one piece."""
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (title, columns) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        axes.set(title=title, xlabel="step")
        axes.grid(visible=True, alpha=0.3)
        for column in columns:
            _line(axes, rows, column)
    partial = picture.with_name(f".{picture.name}")
    figure.savefig(partial, format="png", dpi=80)
    partial.replace(picture)


def _line(axes: Axes, rows: list[dict[str, str]], column: str) -> None:
    points = [(int(row["step"]), float(row[column])) for row in rows if row.get(column)]
    if not points:
        return
    steps, values = zip(*points, strict=True)
    (line,) = axes.plot(steps, values, marker=".", label=NAMES[column])
    if column == "group_eer":
        least = values.index(min(values))
        axes.plot(steps[least], values[least], marker="o", markersize=9, fillstyle="none", color=line.get_color())
    axes.legend(fontsize="small")
