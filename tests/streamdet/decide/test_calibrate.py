from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdet.decide.calibrate import Platt, log_odds, probability
from streamdet.errors import ModelError


@given(st.floats(-500, 500))
def test_probability_is_the_logistic_function(x: float) -> None:
    assert 0.0 <= probability(x) <= 1.0
    assert probability(x) + probability(-x) == pytest.approx(1.0, abs=1e-15)
    assert probability(x) == pytest.approx(0.5 + 0.5 * math.tanh(x / 2), abs=1e-15)


@pytest.mark.parametrize("x", [-1e6, -800.0, 800.0, 1e6])
def test_probability_does_not_overflow(x: float) -> None:
    assert probability(x) == (1.0 if x > 0 else 0.0)


@given(st.floats(1e-9, 1 - 1e-9))
def test_log_odds_undo_probability(p: float) -> None:
    assert probability(log_odds(p)) == pytest.approx(p, rel=1e-9)


@given(st.floats(0.01, 10), st.floats(-5, 5), st.floats(-50, 50), st.floats(-50, 50))
def test_calibration_keeps_the_order_of_scores(scale: float, offset: float, a: float, b: float) -> None:
    platt = Platt(scale, offset)
    assert platt.log_odds(min(a, b)) <= platt.log_odds(max(a, b))


def test_calibration_moves_the_sign_as_told() -> None:
    assert probability(Platt(2.0, -1.0).log_odds(3.0)) == pytest.approx(1 / (1 + math.exp(-5)))


@pytest.mark.parametrize(
    ("scale", "offset"), [(0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0), (1.0, math.inf), (math.inf, 0.0)]
)
def test_a_calibration_that_would_turn_fake_into_real_is_refused(scale: float, offset: float) -> None:
    with pytest.raises(ModelError, match="scale above 0"):
        Platt(scale, offset)
