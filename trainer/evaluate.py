"""Judges a model file on a split: all figures, with intervals, and broken down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdet.engine.modelfile import Calibration
from trainer.data.errors import DataError
from trainer.families import kind
from trainer.metrics import (
    auc,
    bootstrap,
    cllr,
    eer,
    group_eers,
    mean_group_eer,
    min_dcf,
    stratum_weights,
    summary,
)
from trainer.scoring import ClipScore, pooled

Array = npt.NDArray[np.float64]
DURATIONS = (1.0, 2.0, 3.0, 4.0, 10.0)  # seconds
FIELDS = ("era", "language", "codec")  # clips of both classes have them
INTERVALS: dict[str, Callable[[Array, Array], float]] = {"eer": eer, "auc": auc, "cllr": cllr, "min_dcf": min_dcf}


def evaluate(
    scores: Sequence[ClipScore], calibration: Calibration, hop_seconds: float, draws: int = 500
) -> dict[str, Any]:
    """Figures of scored clips; ``calibration`` is the model's, for the windows that are pooled anew.

    Raises:
        DataError: the clips do not hold both classes.
    """
    labels = np.array([s.clip.label for s in scores], np.float64)
    if len(np.unique(labels)) < 2:
        raise DataError("evaluation needs human and synthetic clips")
    llr = np.array([s.llr for s in scores])
    strata = [s.clip.stratum for s in scores]
    groups = [s.clip.group or s.clip.id for s in scores]
    return {
        "clips": {"human": int((labels == 0).sum()), "synthetic": int(labels.sum())},
        "no_speech": sum(not s.speech for s in scores),
        "figures": summary(llr, labels),
        "balanced": summary(llr, labels, stratum_weights(strata)),
        "mean_group_eer": mean_group_eer(llr, labels, strata),
        "interval_95": {k: bootstrap(f, llr, labels, groups, draws=draws) for k, f in INTERVALS.items()},
        "groups": group_eers(llr, labels, strata),
        "by": {
            "kind": against_all(scores, [kind(s.clip.family) if s.clip.label else "" for s in scores], label=1),
            "channel": against_all(scores, ["" if s.clip.label else s.clip.condition for s in scores], label=0),
            **{name: breakdown(scores, [getattr(s.clip, name) for s in scores]) for name in FIELDS},
        },
        "durations": durations(scores, calibration, hop_seconds),
    }


def breakdown(scores: Sequence[ClipScore], values: Sequence[str], least: int = 5) -> dict[str, Any]:
    """EER, AUC and counts of each of ``values`` (one a clip) that has ``least`` clips of each class."""
    result, names = {}, np.asarray(values)
    all_labels, all_llr = np.array([s.clip.label for s in scores], np.float64), np.array([s.llr for s in scores])
    for value in sorted(set(values) - {""}):
        labels, llr = all_labels[names == value], all_llr[names == value]
        if min(labels.sum(), (labels == 0).sum()) >= least:
            counts = {"human": int((labels == 0).sum()), "synthetic": int(labels.sum())}
            result[value] = {"eer": eer(llr, labels), "auc": auc(llr, labels), **counts}
    return result


def against_all(scores: Sequence[ClipScore], values: Sequence[str], *, label: int, least: int = 5) -> dict[str, Any]:
    """EER and AUC of the clips of one class that share one of ``values`` (one a clip) against all of the other."""
    result, names = {}, np.asarray(values)
    all_labels, all_llr = np.array([s.clip.label for s in scores], np.float64), np.array([s.llr for s in scores])
    for value in sorted(set(values) - {""}):
        mine = (names == value) & (all_labels == label)
        use = mine | (all_labels != label)
        if mine.sum() >= least:
            labels, llr = all_labels[use], all_llr[use]
            counts = {"human": int((labels == 0).sum()), "synthetic": int(labels.sum())}
            result[value] = {"eer": eer(llr, labels), "auc": auc(llr, labels), **counts}
    return result


def durations(scores: Sequence[ClipScore], calibration: Calibration, hop_seconds: float) -> dict[str, Any]:
    """Figures when only the first seconds of each clip are heard; clips that are shorter by half are left out."""
    result = {}
    for seconds in DURATIONS:
        hops = round(seconds / hop_seconds)
        long_enough = [s for s in scores if s.seconds >= 0.5 * seconds + 0.25]
        raw = [(pooled(s.track[:hops]), s.clip.label) for s in long_enough]
        llr = np.array([0.0 if r is None else calibration.scale * r + calibration.offset for r, _ in raw])
        labels = np.array([label for _, label in raw], np.float64)
        if 0 < labels.sum() < len(labels):
            result[f"{seconds:g}"] = {"clips": len(labels), "eer": eer(llr, labels), "auc": auc(llr, labels)}
    return result


def worst(scores: Sequence[ClipScore], count: int = 20) -> list[dict[str, Any]]:
    """Clips with the highest loss: mislabelled ones show here."""
    loss = [(-s.llr if s.clip.label else s.llr, s) for s in scores]
    loss.sort(key=lambda pair: pair[0], reverse=True)
    return [
        {"id": s.clip.id, "label": s.clip.label, "stratum": s.clip.stratum, "source": s.clip.source, "llr": s.llr}
        for _, s in loss[:count]
    ]
