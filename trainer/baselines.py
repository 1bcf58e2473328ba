"""Three trivial detectors, trained and judged like the network: what it has to be better than by far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from streamdet.features import FrontEnd
from trainer.audit.scan import scan
from trainer.data.audio import read_audio
from trainer.data.errors import DataError
from trainer.data.manifest import Clip
from trainer.metrics import auc, balanced, bootstrap, eer, mean_group_eer, stratum_weights, summary
from trainer.scoring import Array

SECONDS = 10.0  # of a clip; features of more would be the same


@dataclass(frozen=True, slots=True)
class Described:
    """Clips that could be read with the features of each detector: shortcuts, means, and means with deviations."""

    clips: list[Clip]
    shortcuts: Array
    means: Array
    statistics: Array
    skipped: dict[str, str]


def describe(clips: Sequence[Clip], advance: Callable[[], None] = lambda: None) -> Described:
    """Measure all clips.

    Raises:
        DataError: none can be read, or one class is missing.
    """
    front_end, rows = FrontEnd(), []
    found = scan(clips, near=False, advance=advance)
    for clip in found.clips:
        frames = front_end.whole(read_audio(clip.path)[: int(SECONDS * front_end.config.rate)])
        rows.append(np.concatenate((frames.mean(axis=0), frames.std(axis=0))))
    if len({clip.label for clip in found.clips}) < 2:
        raise DataError("a baseline needs human and synthetic clips to learn from and to be judged on")
    statistics = np.array(rows, np.float64)
    means = statistics[:, : statistics.shape[1] // 2]
    return Described(found.clips, found.features, means, statistics, found.skipped)


def detectors(seed: int) -> dict[str, tuple[str, Any]]:
    """Name, matrix of :class:`Described` and untrained detector of each baseline."""
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2_000))
    return {
        "shortcut features, gradient boosting": ("shortcuts", HistGradientBoostingClassifier(random_state=seed)),
        "mean log-mel, logistic regression": ("means", linear),
        "mean and deviation of log-mel, gradient boosting": (
            "statistics",
            HistGradientBoostingClassifier(random_state=seed),
        ),
    }


def judge(train: Described, test: Described, *, seed: int = 0, draws: int = 500) -> dict[str, dict[str, Any]]:
    """Train each baseline on all of ``train``, strata weighted as in evaluation, and judge it on ``test``."""
    labels = np.array([clip.label for clip in test.clips], np.float64)
    wanted = np.array([clip.label for clip in train.clips])
    groups = [clip.group or clip.id for clip in test.clips]
    strata = [clip.stratum for clip in test.clips]
    weights = balanced(wanted, stratum_weights([clip.stratum for clip in train.clips]))
    results: dict[str, dict[str, Any]] = {}
    for name, (matrix, detector) in detectors(seed).items():
        last = {"logisticregression__sample_weight": weights} if matrix == "means" else {"sample_weight": weights}
        detector.fit(getattr(train, matrix), wanted, **last)
        llr = np.asarray(detector.decision_function(getattr(test, matrix)), np.float64)
        results[name] = {
            "figures": summary(llr, labels),
            "mean_group_eer": mean_group_eer(llr, labels, strata),
            "interval_95": {
                "eer": bootstrap(eer, llr, labels, groups, draws=draws),
                "auc": bootstrap(auc, llr, labels, groups, draws=draws),
            },
        }
    return results


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown table of the baselines."""
    lines = ["| detector | EER % (95 %) | AUC (95 %) | mean EER over groups % |", "|---|---|---|---|"]
    for name, result in results.items():
        (low, high), (least, most) = result["interval_95"]["eer"], result["interval_95"]["auc"]
        figures = result["figures"]
        lines.append(
            f"| {name} | {100 * figures['eer']:.1f} ({100 * low:.1f} to {100 * high:.1f}) | {figures['auc']:.3f} "
            f"({least:.3f} to {most:.3f}) | {100 * result['mean_group_eer']:.1f} |"
        )
    return "\n".join(lines)
