"""How well gradient boosting tells synthetic from human speech by features that need no listening."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold

from trainer.audit.features import NAMES
from trainer.data.manifest import Clip
from trainer.metrics import auc, bootstrap, eer

Array = npt.NDArray[np.float64]
Folds = list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]
FOLDS = 5


@dataclass(slots=True)
class Shortcuts:
    """Figures of the audit; AUC over clips of held-out groups, 0.5 is chance.

    ``alone`` is cross-validated with one feature, ``drop`` is what AUC loses when a feature is shuffled among the
    held-out clips, ``by_split`` is cross-validated within a split, ``ungrouped`` ignores groups.
    """

    by: str
    groups: int
    auc: float
    interval: tuple[float, float]
    eer: float
    ungrouped: float
    alone: dict[str, float] = field(default_factory=dict)
    drop: dict[str, float] = field(default_factory=dict)
    by_split: dict[str, float] = field(default_factory=dict)


def group_column(clips: Sequence[Clip]) -> str:
    """Choose what to hold out: sources, else speakers, groups, or single clips, where there are too few of those."""
    for name in ("source", "speaker", "group"):
        if all(len({getattr(c, name) for c in clips if c.label == label} - {""}) >= FOLDS for label in (0, 1)):
            return name
    return "id"


def shortcuts(
    features: Array,
    clips: Sequence[Clip],
    *,
    by: str = "",
    seed: int = 0,
    rounds: int = 150,
    advance: Callable[[], None] = lambda: None,
) -> Shortcuts:
    """Cross-validate with whole groups held out.

    Args:
        features: clips by features, see :data:`trainer.audit.features.NAMES`.
        clips: the same clips.
        by: field of a clip whose values are held out together; chosen from the data when empty.
        seed: of folds, boosting and shuffling.
        rounds: trees of each model; a quarter of them with one feature alone.
        advance: called after each of ``steps()`` steps.

    Raises:
        ValueError: one class is missing.
    """
    labels = np.array([c.label for c in clips], float)
    by = by or group_column(clips)
    names = np.array([getattr(c, by) or c.id for c in clips])
    folds = _folds(labels, names, seed)
    scores, drop = _importance(features, labels, folds, seed, rounds)
    advance()
    result = Shortcuts(by, len(set(names)), auc(scores, labels), (0.0, 0.0), eer(scores, labels), 0.0)
    result.interval = bootstrap(auc, scores, labels, list(names), draws=200, seed=seed)
    result.drop = dict(zip(NAMES, drop, strict=True))
    singles = _folds(labels, np.arange(len(labels)).astype(str), seed)
    result.ungrouped = auc(_held_out(features, labels, singles, seed, rounds), labels)
    advance()
    for column, name in enumerate(NAMES):
        result.alone[name] = auc(_held_out(features[:, [column]], labels, folds, seed, max(1, rounds // 4)), labels)
        advance()
    result.by_split = _by_split(features, labels, names, [c.split for c in clips], seed=seed, rounds=rounds)
    return result


def steps() -> int:
    """How often ``advance`` is called."""
    return len(NAMES) + 2


def _folds(labels: Array, names: npt.NDArray[np.str_], seed: int) -> Folds:
    least = min(len(set(names[labels == label])) for label in (0, 1))
    if least < 2:
        raise ValueError("each class needs two groups or more to be cross-validated")
    chooser = StratifiedGroupKFold(min(FOLDS, least), shuffle=True, random_state=seed)
    return list(chooser.split(np.zeros((len(labels), 1)), labels, names))


def _fit(features: Array, labels: Array, seed: int, rounds: int) -> HistGradientBoostingClassifier:
    leaf = max(2, min(20, len(labels) // 20))
    model = HistGradientBoostingClassifier(
        max_iter=rounds, learning_rate=0.08, max_leaf_nodes=15, min_samples_leaf=leaf, random_state=seed
    )
    share = labels.mean()
    return model.fit(features, labels, sample_weight=np.where(labels > 0, 0.5 / share, 0.5 / (1.0 - share)))


def _score(model: HistGradientBoostingClassifier, features: Array) -> Array:
    return np.asarray(model.decision_function(features), float)


def _held_out(features: Array, labels: Array, folds: Folds, seed: int, rounds: int) -> Array:
    scores = np.zeros(len(labels))
    for train, test in folds:
        scores[test] = _score(_fit(features[train], labels[train], seed, rounds), features[test])
    return scores


def _importance(features: Array, labels: Array, folds: Folds, seed: int, rounds: int) -> tuple[Array, Array]:
    """Scores of held-out clips, and how much AUC drops when a column is shuffled among them."""
    rng = np.random.default_rng(seed)
    scores = np.zeros(len(labels))
    without = np.zeros((features.shape[1], len(labels)))
    for train, test in folds:
        model = _fit(features[train], labels[train], seed, rounds)
        scores[test] = _score(model, features[test])
        for column in range(features.shape[1]):
            shuffled = features[test].copy()
            shuffled[:, column] = rng.permutation(shuffled[:, column])
            without[column, test] = _score(model, shuffled)
    return scores, auc(scores, labels) - np.array([auc(w, labels) for w in without])


def _by_split(
    features: Array, labels: Array, names: npt.NDArray[np.str_], splits: Sequence[str], *, seed: int, rounds: int
) -> dict[str, float]:
    result: dict[str, float] = {}
    for split in sorted(set(splits)):
        use = np.array([s == split for s in splits])
        groups = [len(set(names[use & (labels == label)])) for label in (0, 1)]
        if min(groups) >= FOLDS:
            folds = _folds(labels[use], names[use], seed)
            result[split] = auc(_held_out(features[use], labels[use], folds, seed, rounds), labels[use])
    return result
