"""Figures that judge a detector, from scores (higher: more synthetic) and labels (1: synthetic).

Items may carry weights, so that a family or source with many clips does not dominate. Ties count half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import isotonic_regression

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rates:
    """Error rates at all thresholds: ``miss`` rises, ``false_alarm`` falls; call synthetic where score >= threshold."""

    threshold: Array
    miss: Array
    false_alarm: Array


def rates(scores: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Rates:
    """Miss and false-alarm rates at each distinct score, and at infinity.

    Raises:
        ValueError: only one class is present, or a score is not finite.
    """
    s, y, w = _checked(scores, labels, weights)
    order = np.argsort(s, kind="stable")
    s, y, w = s[order], y[order], w[order]
    first = np.flatnonzero(np.r_[True, np.diff(s) > 0])
    below_fake = np.r_[0.0, np.cumsum(w * y)]
    below_real = np.r_[0.0, np.cumsum(w * (1.0 - y))]
    at = np.r_[first, len(s)]
    miss = below_fake[at] / below_fake[-1]
    false_alarm = 1.0 - below_real[at] / below_real[-1]
    return Rates(np.r_[s[first], np.inf], miss, np.clip(false_alarm, 0.0, 1.0))


def _checked(scores: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None) -> tuple[Array, Array, Array]:
    s, y = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    w = np.ones_like(s) if weights is None else np.asarray(weights, np.float64)
    if not np.isfinite(s).all():
        raise ValueError("scores must be finite")
    if (w * y).sum() <= 0.0 or (w * (1.0 - y)).sum() <= 0.0:
        raise ValueError("both classes must be present")
    return s, y, w


def auc(scores: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Area under the ROC curve: the chance that a synthetic item scores above a human one."""
    r = rates(scores, labels, weights)
    detect = 1.0 - r.miss
    return float(np.sum((r.false_alarm[:-1] - r.false_alarm[1:]) * (detect[:-1] + detect[1:]) / 2.0))


def eer(scores: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Equal error rate: where miss and false-alarm rates cross, between thresholds by linear interpolation."""
    r = rates(scores, labels, weights)
    gap = r.miss - r.false_alarm
    after = int(np.argmax(gap >= 0.0))
    if after == 0 or gap[after] == 0.0:
        return float(r.miss[after])
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(r.miss[after - 1] + share * (r.miss[after] - r.miss[after - 1]))


def stratum_weights(strata: Sequence[str], exponent: float = 0.5) -> Array:
    """Weights under which a stratum of ``n`` items counts ``n ** exponent``."""
    names, index, count = np.unique(np.asarray(strata), return_inverse=True, return_counts=True)
    del names
    return np.asarray(count.astype(np.float64) ** (exponent - 1.0))[index]


def balanced(labels: np.ndarray, weights: Array) -> Array:
    """Scale ``weights`` such that both classes weigh the same and the mean is 1."""
    share = np.where(labels == 1, weights[labels == 1].sum(), weights[labels == 0].sum())
    return np.asarray(weights / share * len(labels) / 2.0)


def group_eers(scores: Array, labels: Array, strata: Sequence[str], least: int = 3) -> dict[str, float]:
    """EER of each stratum with ``least`` items or more: a family against all human items, a source against all others.

    Keys are ``family:NAME`` and ``source:NAME``; the opposite class is balanced by stratum.
    """
    names, weights, result = np.asarray(strata), stratum_weights(strata), {}
    for label, kind in ((1, "family"), (0, "source")):
        for name in np.unique(names[labels == label]):
            mine = (labels == label) & (names == name)
            if mine.sum() >= least:
                use = mine | (labels != label)
                result[f"{kind}:{name}"] = eer(scores[use], labels[use], weights[use])
    return result


def mean_group_eer(scores: Array, labels: Array, strata: Sequence[str]) -> float:
    """Mean of the families' mean EER and the sources' mean EER; the EER of all where no group has enough items."""
    groups = group_eers(scores, labels, strata)
    halves = [[v for k, v in groups.items() if k.startswith(kind)] for kind in ("family:", "source:")]
    means = [float(np.mean(half)) for half in halves if half]
    return float(np.mean(means)) if means else eer(scores, labels)


def bootstrap(
    metric: Callable[[Array, Array], float],
    scores: Array,
    labels: Array,
    groups: Sequence[str] | None = None,
    *,
    draws: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of ``metric``; whole ``groups`` are drawn when given, since their clips are alike."""
    rng = np.random.default_rng(seed)
    names = np.asarray(groups if groups is not None else np.arange(len(scores)))
    _, index = np.unique(names, return_inverse=True)
    members = [np.flatnonzero(index == g) for g in range(index.max() + 1)]
    values: list[float] = []
    while len(values) < draws:
        pick = np.concatenate([members[g] for g in rng.integers(len(members), size=len(members))])
        if 0 < labels[pick].sum() < len(pick):
            values.append(metric(scores[pick], labels[pick]))
    low, high = np.quantile(values, ((1.0 - level) / 2.0, (1.0 + level) / 2.0))
    return float(low), float(high)


PRIOR_SPOOF, COST_REJECT, COST_ACCEPT = 0.05, 1.0, 10.0  # of ASVspoof 5, track 1


def _cost(miss: Array, false_alarm: Array) -> Array:
    reject, accept = COST_REJECT * (1.0 - PRIOR_SPOOF), COST_ACCEPT * PRIOR_SPOOF
    return np.asarray((reject * false_alarm + accept * miss) / min(reject, accept))


def min_dcf(scores: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Least normalised detection cost over all thresholds, with the costs of ASVspoof 5 (X. Wang et al., 2024)."""
    r = rates(scores, labels, weights)
    return float(_cost(r.miss, r.false_alarm).min())


def act_dcf(llr: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Give the detection cost at the threshold of Bayes' rule, if ``llr`` are log-likelihood ratios as they claim."""
    s, y, w = _checked(llr, labels, weights)
    spoof = s >= np.log(COST_REJECT * (1.0 - PRIOR_SPOOF) / (COST_ACCEPT * PRIOR_SPOOF))
    miss = np.average(~spoof[y > 0], weights=w[y > 0])
    false_alarm = np.average(spoof[y == 0], weights=w[y == 0])
    return float(_cost(np.asarray(miss), np.asarray(false_alarm)))


def cllr(llr: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Cost of log-likelihood ratios in bits (N. Bruemmer and J. du Preez, 2006): 0 perfect, 1 knows nothing."""
    s, y, w = _checked(llr, labels, weights)
    wrong = np.logaddexp(0.0, np.where(y > 0, -s, s)) / np.log(2.0)
    return float((np.average(wrong[y > 0], weights=w[y > 0]) + np.average(wrong[y == 0], weights=w[y == 0])) / 2.0)


def min_cllr(scores: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Cllr after the best monotone calibration, by pooling adjacent violators: what discrimination alone costs."""
    s, y, w = _checked(scores, labels, weights)
    even = np.where(y > 0, w / w[y > 0].sum(), w / w[y == 0].sum())
    order = np.argsort(s, kind="stable")
    ordered, target, weight = s[order], y[order], even[order]
    _, tie = np.unique(ordered, return_inverse=True)
    total = np.bincount(tie, weight)
    rate = isotonic_regression(np.bincount(tie, weight * target) / total, sample_weight=total)[tie]
    with np.errstate(divide="ignore"):
        bits = -np.log2(np.where(target > 0, rate, 1.0 - rate))
    return float(np.sum(weight * np.where(np.isfinite(bits), bits, 0.0)) / 2.0)


def tpr_at(scores: npt.ArrayLike, labels: npt.ArrayLike, fpr: float, weights: npt.ArrayLike | None = None) -> float:
    """Share of synthetic items found at the lowest threshold with at most ``fpr`` of the human ones called so."""
    r = rates(scores, labels, weights)
    return float(1.0 - r.miss[int(np.argmax(r.false_alarm <= fpr + 1e-12))])


def summary(llr: Array, labels: Array, weights: Array | None = None) -> dict[str, float]:
    """All figures of one set of calibrated log-odds; shares in [0, 1]."""
    return {
        "eer": eer(llr, labels, weights),
        "auc": auc(llr, labels, weights),
        "min_dcf": min_dcf(llr, labels, weights),
        "act_dcf": act_dcf(llr, labels, weights),
        "cllr": cllr(llr, labels, weights),
        "min_cllr": min_cllr(llr, labels, weights),
        "tpr_at_1_fpr": tpr_at(llr, labels, 0.01, weights),
        "tpr_at_01_fpr": tpr_at(llr, labels, 0.001, weights),
        "hter_at_0": hter(llr, labels, weights),
    }


def hter(llr: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Mean of both error rates at log-odds 0, a threshold chosen without these data."""
    s, y, w = _checked(llr, labels, weights)
    spoof = s >= 0.0
    miss = np.average(~spoof[y > 0], weights=w[y > 0])
    false_alarm = np.average(spoof[y == 0], weights=w[y == 0])
    return float((miss + false_alarm) / 2.0)
