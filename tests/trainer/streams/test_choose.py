from __future__ import annotations

import numpy as np
import pytest

from streamdet.assembly import cusum_config, judge_config, judge_maker
from streamdet.config import Config
from streamdet.decide.calibrate import Platt, log_odds
from streamdet.decide.smooth import CusumConfig
from streamdet.decide.verdict import Rules
from streamdet.engine.modelfile import ModelInfo
from tests.trainer.streams.made import HOP, heard
from trainer.data.errors import DataError
from trainer.streams.choose import Curve, Draws, Setting, best, inner_budget, sweep
from trainer.streams.hear import Heard
from trainer.streams.points import POINTS, choose_points, judge_points, pure_windows, raising, with_points
from trainer.streams.replay import Track, cusum, ema, judged, prepare

AVERAGE = Setting(ema(1.0), 1.0, 2.0)
SUM = Setting(cusum(CusumConfig(clip=2.0, drift=0.0, cap=6.0)), 0.0, 2.0)


def streams() -> list[Heard]:
    """Six human sources, one of them hard, and twelve mixed streams."""
    human = [
        heard([(0, 700)], level=0.5 if s == 0 else 2.0, spread=4.0, seed=s, source=f"h{s}", mixed=False)
        for s in range(6)
    ]
    turns = [(0, 20), (1, 30), (0, 25), (1, 35), (0, 30)]
    return human + [heard(turns, level=2.0, spread=3.0, seed=20 + s, source=f"m{s % 4}") for s in range(12)]


@pytest.fixture(scope="module")
def tracks() -> list[Track]:
    return [prepare(stream, Platt(), Rules(), 3.0, HOP) for stream in streams()]


@pytest.fixture(scope="module")
def curve(tracks: list[Track]) -> Curve:
    return sweep(tracks, AVERAGE)


def test_sweep_stops_where_false_alarms_are_too_many(curve: Curve) -> None:
    assert curve.tallies[0].false_alarms == 0
    assert curve.tallies[-1].per_hour > 15.0
    assert all(tally.per_hour <= 15.0 for tally in curve.tallies[:-1])
    assert list(curve.thresholds) == sorted(curve.thresholds, reverse=True)


def test_threshold_is_the_lowest_within_the_budget(curve: Curve) -> None:
    place = curve.within(6.0)
    assert all(tally.per_hour <= 6.0 for tally in curve.tallies[: place + 1])
    assert curve.tallies[place + 1].per_hour > 6.0
    assert curve.tallies[curve.within(0.0)].false_alarms == 0


def test_better_evidence_scores_higher(tracks: list[Track], curve: Curve) -> None:
    draws = Draws(curve.counts[0], draws=50)
    slow = draws.rank(sweep(tracks, Setting(ema(1.0), 8.0, 2.0)))  # held so long that nothing can be prompt
    ranked = [draws.rank(curve), slow]
    assert ranked[0].score > slow.score + 0.1
    assert best(ranked).curve is curve


def test_of_equals_the_simplest_is_taken(tracks: list[Track], curve: Curve) -> None:
    draws = Draws(curve.counts[0], draws=20)
    twin = Curve(SUM, curve.thresholds, curve.tallies)
    assert best([draws.rank(twin), draws.rank(curve)]).curve.setting is AVERAGE


def test_sources_left_out_have_more_false_alarms_where_one_is_hard(curve: Curve) -> None:
    draws = Draws(curve.counts[0], draws=200)
    assert draws.left_out(curve, 2.0) > 2.0
    inner = inner_budget(draws, curve, 2.0)
    assert inner < 2.0
    assert draws.left_out(curve, inner) <= 2.0 or inner == 0.0


def test_a_budget_that_hours_cannot_show_is_extrapolated(curve: Curve) -> None:
    observed = curve.thresholds[curve.within(0.0)]
    rates = np.log([tally.per_hour for tally in curve.tallies if tally.false_alarms >= 3])
    slope, level = np.polyfit(curve.thresholds[-len(rates) :], rates, 1)
    assert raising(curve, 0.0, 0.2) == pytest.approx(max(observed, (np.log(0.2) - level) / slope))
    assert raising(curve, 0.0, 0.2) > curve.thresholds[curve.within(1.0)]
    assert raising(curve, 6.0, 100.0) == curve.thresholds[curve.within(6.0)]  # this one the hours can show


@pytest.mark.parametrize("setting", [AVERAGE, SUM])
def test_points_do_in_the_running_judge_what_the_replay_promised(setting: Setting, tracks: list[Track]) -> None:
    curve = sweep(tracks, setting)
    points, notes = choose_points(tracks, curve, Draws(curve.counts[0], draws=50), smoothing=1.0)
    assert list(points) == list(POINTS) == list(notes)
    assert points["strict"]["raise"] >= points["default"]["raise"] >= points["sensitive"]["raise"]
    info = with_points(ModelInfo("m", "now", 0.5, "int8"), points)
    figures = judge_points(streams(), tracks, info)
    for name in points:
        raise_at = judge_config(Config(operating_point=name), info).alarm.raise_at
        place = int(np.argmin(np.abs(np.array(curve.thresholds) - raise_at)))
        if curve.thresholds[place] == pytest.approx(raise_at):
            told = curve.tallies[place].figures()
            assert figures[name]["human_only"] == told["human_only"]
            assert figures[name]["turns_of_6_s"] == told["turns_of_6_s"]
    assert figures["sensitive"]["turns_of_6_s"]["caught"] > 0.5
    assert min(abs(t - log_odds(points["sensitive"]["raise"])) for t in curve.thresholds) < 1e-9


def test_a_point_with_evidence_accumulates_and_others_do_not() -> None:
    point = {"raise": 0.95, "clear": 0.5, "cusum_clip": 2.0, "cusum_cap": 5.0}
    info = ModelInfo("m", "now", 0.5, "int8", operating_points={"default": point, "plain": {}})
    assert cusum_config(Config(), info) == CusumConfig(window_seconds=3.0, clip=2.0, cap=5.0)
    assert cusum_config(Config(operating_point="plain"), info) is None
    judge, plain = judge_maker(Config(), info)(), judge_maker(Config(operating_point="plain"), info)()
    stream = heard([(1, 60)], level=1.0)  # too weak for any average to pass 0.9, but it goes on and on
    columns = prepare(stream, Platt(), Rules(), 3.0, HOP)
    assert columns.llr[-1] == pytest.approx(1.0)
    assert len(judged(stream, judge)) == 1
    assert judged(stream, plain) == []


def test_turns_too_short_for_any_window_of_their_own_are_refused() -> None:
    mixed = heard([(0, 20), (1, 8), (0, 20)])
    brief = [prepare(s, Platt(), Rules(), 3.0, HOP) for s in (*streams()[:6], mixed)]
    with pytest.raises(DataError, match=r"no synthetic turn of 4 s with speech; give more"):
        pure_windows(brief, 1.0)
