from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from trainer import metrics

SEPARATION = 1.5


def normal_scores(size: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihood ratios of two normal distributions of unit variance, ``SEPARATION`` apart."""
    rng = np.random.default_rng(0)
    labels = (np.arange(size) % 2).astype(np.float64)
    raw = rng.standard_normal(size) + labels * SEPARATION
    return SEPARATION * (raw - SEPARATION / 2), labels


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_equals_scikit_learn_with_ties(items: list[tuple[int, bool]]) -> None:
    scores, labels = np.array([s for s, _ in items], float), np.array([y for _, y in items], float)
    if len(set(labels)) == 2:
        assert metrics.auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


def test_weighted_auc_equals_scikit_learn() -> None:
    scores, labels = normal_scores(500)
    weights = np.random.default_rng(1).uniform(0.1, 3.0, 500)
    assert metrics.auc(scores, labels, weights) == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))


def test_normal_scores_have_the_figures_of_the_closed_forms() -> None:
    llr, labels = normal_scores()
    assert metrics.eer(llr, labels) == pytest.approx(norm.cdf(-SEPARATION / 2), abs=0.006)
    assert metrics.auc(llr, labels) == pytest.approx(norm.cdf(SEPARATION / np.sqrt(2)), abs=0.006)
    expected = norm.sf(norm.isf(0.01) - SEPARATION)
    assert metrics.tpr_at(llr, labels, 0.01) == pytest.approx(expected, abs=0.02)


def test_calibrated_scores_cost_no_more_than_the_best_calibration() -> None:
    llr, labels = normal_scores()
    assert metrics.min_cllr(llr, labels) <= metrics.cllr(llr, labels) <= metrics.min_cllr(llr, labels) + 0.01
    assert metrics.min_dcf(llr, labels) <= metrics.act_dcf(llr, labels) <= metrics.min_dcf(llr, labels) + 0.02
    assert metrics.cllr(llr + 2.0, labels) > metrics.cllr(llr, labels) + 0.2
    assert metrics.min_cllr(llr * 3 + 2.0, labels) == pytest.approx(metrics.min_cllr(llr, labels))


@pytest.mark.parametrize(("scores", "expected"), [([0, 0, 1, 1], 0.0), ([1, 1, 0, 0], 1.0), ([0, 0, 0, 0], 0.5)])
def test_eer_of_perfect_reversed_and_blind_scores(scores: list[float], expected: float) -> None:
    labels = [0, 0, 1, 1]
    assert metrics.eer(scores, labels) == pytest.approx(expected)
    assert metrics.auc(scores, labels) == pytest.approx(1.0 - expected)


def test_scores_that_know_nothing_cost_one_bit() -> None:
    labels = [0, 1, 0, 1]
    assert metrics.cllr([0.0] * 4, labels) == pytest.approx(1.0)
    assert metrics.min_cllr([0.0] * 4, labels) == pytest.approx(1.0)
    assert metrics.min_dcf([0.0] * 4, labels) == pytest.approx(1.0)
    assert metrics.min_cllr([-1.0, 1.0, -2.0, 2.0], labels) == pytest.approx(0.0)


def test_weights_of_whole_numbers_equal_repeated_items() -> None:
    scores, labels = normal_scores(60)
    times = np.random.default_rng(2).integers(1, 5, 60)
    repeated = np.repeat(scores, times), np.repeat(labels, times)
    weighted, plain = metrics.summary(scores, labels, times.astype(float)), metrics.summary(*repeated)
    assert weighted == pytest.approx(plain)
    assert all(weighted[name] != metrics.summary(scores, labels)[name] for name in ("eer", "auc", "cllr", "hter_at_0"))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        metrics.eer([0.0, np.nan], [0, 1])
    with pytest.raises(ValueError, match="both classes"):
        metrics.auc([0.0, 1.0], [1, 1])


def test_a_large_group_does_not_hide_a_small_one() -> None:
    scores = np.array([0.0] * 50 + [1.0] * 96 + [-1.0] * 4)
    labels = np.array([0.0] * 50 + [1.0] * 100)
    strata = ["human"] * 50 + ["easy"] * 96 + ["hard"] * 4
    groups = metrics.group_eers(scores, labels, strata)
    assert groups["family:easy"] == 0.0
    assert groups["family:hard"] == 1.0
    assert metrics.eer(scores, labels) < 0.05 < metrics.mean_group_eer(scores, labels, strata)


def test_bootstrap_interval_holds_the_figure_and_widens_with_groups() -> None:
    llr, labels = normal_scores(400)
    low, high = metrics.bootstrap(metrics.auc, llr, labels, draws=200)
    assert low < metrics.auc(llr, labels) < high
    assert metrics.bootstrap(metrics.auc, llr, labels, draws=200) == (low, high)
    repeated = np.tile(llr, 8), np.tile(labels, 8)
    groups = [str(i) for i in range(400)] * 8
    grouped = metrics.bootstrap(metrics.auc, *repeated, groups, draws=200)
    alone = metrics.bootstrap(metrics.auc, *repeated, draws=200)
    assert grouped[1] - grouped[0] > 2 * (alone[1] - alone[0])
