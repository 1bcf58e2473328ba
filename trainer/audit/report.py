"""The audit in words, as JSON and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainer.audit.features import NAMES, Array
from trainer.audit.leakage import Leakage
from trainer.audit.shortcuts import Shortcuts

SHOWN = 8  # examples a list
LEAST = 10  # clips of a class that figures can be judged by; with fewer, boosting may have nothing to split at
VERDICTS = (
    (0.60, "little gives the classes away without listening"),
    (0.70, "a part of the classes can be told apart without listening; a detector must clear this bar by far"),
    (0.85, "much can be told apart without listening: level, dither and cut the clips before training, and trust no "
     "detector that does not clear this bar by far"),
    (1.01, "the classes are given away by how the files were made; figures on these data say nothing about speech"),
)  # fmt: skip


@dataclass(slots=True)
class Audit:
    """All findings on one data set; ``shortcuts`` is None where a class is missing."""

    clips: dict[str, int]
    skipped: dict[str, str]
    leakage: Leakage
    shortcuts: Shortcuts | None

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON; with the verdict."""
        return {**asdict(self), "verdict": verdict(self)}


def verdict(audit: Audit) -> list[str]:
    """Sentences that say what the figures mean."""
    said = []
    if audit.shortcuts is None:
        said.append("One class has too few groups, so shortcuts between the classes cannot be judged.")
    elif few := _few(audit.clips):
        said.append(f"Too few clips to tell whether there are shortcuts: {few}; {LEAST} of each class are needed.")
    else:
        words = next(text for least, text in VERDICTS if audit.shortcuts.auc < least)
        said.append(f"Shortcuts reach AUC {audit.shortcuts.auc:.3f} on unseen {audit.shortcuts.by}s: {words}.")
    if audit.leakage.contradictions:
        said.append("Equal audio carries contradicting labels: an error in the data, not to be trained on.")
    border = audit.leakage.kind
    leaks = f"{border}s leak into each other: figures across them are too good."
    said.append(leaks.capitalize() if audit.leakage.found else f"No leak between {border}s was found.")
    if audit.skipped:
        said.append(f"{len(audit.skipped)} files could not be used.")
    return said


def _few(clips: Mapping[str, int]) -> str:
    """Both counts, where one is too small to judge by."""
    counts = {kind: sum(n for name, n in clips.items() if name.endswith(kind)) for kind in ("human", "synthetic")}
    return " and ".join(f"{n} {kind}" for kind, n in counts.items()) if min(counts.values()) < LEAST else ""


def text(audit: Audit) -> str:
    """Report for a terminal."""
    parts = [", ".join(f"{name} {count}" for name, count in audit.clips.items())]
    if audit.shortcuts is not None:
        parts += _shortcuts(audit.shortcuts)
    parts += ["", *_leakage(audit.leakage), *_examples("skipped", audit.skipped)]
    return "\n".join([*parts, "", *verdict(audit)])


def _shortcuts(found: Shortcuts) -> list[str]:
    low, high = found.interval
    head = [
        f"shortcuts, {found.groups} {found.by}s held out in turn: AUC {found.auc:.3f} "
        f"(95 %: {low:.3f} to {high:.3f}), EER {found.eer:.1%}; with {found.by}s mixed: AUC {found.ungrouped:.3f}",
        *(f"  within {split}: AUC {value:.3f}" for split, value in found.by_split.items()),
        "",
        f"{'feature':16} {'alone':>6} {'lost':>7}  (AUC with it alone; AUC lost when it is shuffled)",
    ]
    order = sorted(found.drop, key=lambda name: -found.drop[name])
    return head + [f"{n:16} {found.alone[n]:6.3f} {found.drop[n]:7.3f}  {NAMES[n]}" for n in order]


def _leakage(found: Leakage) -> list[str]:
    """One line each finding, with examples."""
    border = found.kind
    result = [
        *_pairs("equal audio with contradicting labels", found.contradictions),
        *_pairs(f"equal audio across {border}s", found.equal_across),
        *_pairs(f"equal audio within a {border}", found.equal_within),
        f"near-duplicates across {border}s: {len(found.near)}",
    ]
    for entry in found.near[:SHOWN]:
        first, second = (f"{c} ({i})" for c, i in zip(entry["clips"], entry["in"], strict=True))
        result.append(f"  {first} and {second}: {entry['seconds']} s, {entry['bit_errors']:.1%} of the bits differ")
    for name, values in found.shared.items():
        result += _examples(f"{name} in several splits", {k: ", ".join(v) for k, v in values.items()})
    return result


def _pairs(title: str, pairs: list[tuple[str, str]]) -> list[str]:
    return [f"{title}: {len(pairs)}", *(f"  {a} and {b}" for a, b in pairs[:SHOWN])]


def _examples(title: str, values: Mapping[str, str]) -> list[str]:
    lines = [f"  {name}: {value}" for name, value in list(values.items())[:SHOWN]]
    more = [f"  and {len(values) - SHOWN} more"] if len(values) > SHOWN else []
    return [f"{title}: {len(values)}", *lines, *more]


def picture(audit: Audit, features: Array, labels: Array, path: Path) -> None:
    """Draw AUC of each feature, and the distributions of the four that matter most, to an image file.

    Raises:
        ValueError: the audit has no shortcut figures to draw.
    """
    if audit.shortcuts is None:
        raise ValueError("no shortcut figures to draw")
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    grid = figure.add_gridspec(2, 4)
    _bars(figure.add_subplot(grid[:, :2]), audit.shortcuts)
    drop = audit.shortcuts.drop
    order = sorted(drop, key=lambda name: -drop[name])
    for place, name in enumerate(order[:4]):
        axes = figure.add_subplot(grid[place // 2, 2 + place % 2])
        _histogram(axes, name, features[:, list(NAMES).index(name)], labels)
    figure.savefig(path, dpi=110)


def _bars(axes: Axes, found: Shortcuts) -> None:
    names = sorted(found.alone, key=lambda name: found.alone[name])
    place = np.arange(len(names))
    axes.barh(place, [max(found.alone[n] - 0.5, 0.0) for n in names], left=0.5, color="#4878a8")
    axes.axvline(found.auc, color="#b03030", label=f"all together {found.auc:.3f}")
    axes.axvspan(*found.interval, color="#b03030", alpha=0.15, label="95 % interval")
    axes.set_yticks(place, names)
    axes.set_xlim(0.5, 1.0)
    axes.set_xlabel(f"AUC, unseen {found.by}s")
    axes.set_title("What can be told without listening")
    axes.legend(loc="lower right")


def _histogram(axes: Axes, name: str, values: Array, labels: Array) -> None:
    low, high = (float(q) for q in np.quantile(values, (0.005, 0.995)))
    edges = np.linspace(low, high + 1e-6, 31)
    for label, word, colour in ((0, "human", "#3a7d44"), (1, "synthetic", "#b03030")):
        axes.hist(
            np.clip(values[labels == label], low, high),
            edges.tolist(),
            density=True,
            alpha=0.5,
            color=colour,
            label=word,
        )
    axes.set_title(name)
    axes.set_yticks([])
    axes.legend()
