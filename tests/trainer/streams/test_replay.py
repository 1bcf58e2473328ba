from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from streamdet.decide.alarm import AlarmConfig
from streamdet.decide.calibrate import Platt
from streamdet.decide.judge import Judge, JudgeConfig
from streamdet.decide.smooth import Cusum, CusumConfig
from streamdet.decide.verdict import Rules
from tests.trainer.streams.made import HOP, heard
from trainer.streams.choose import tally_of
from trainer.streams.figures import Tally, compare, intervals
from trainer.streams.hear import Heard
from trainer.streams.replay import Alert, Method, TopK, Track, alerts, cusum, ema, gather, judged, prepare

PLATT = Platt(0.8, -0.1)


def ready(stream: Heard, platt: Platt = PLATT) -> Track:
    return prepare(stream, platt, Rules(), 3.0, HOP)


def speechless_in_places(stream: Heard, seed: int) -> Heard:
    rng = np.random.default_rng(seed)
    stream.columns[:, 3] = rng.choice((0.0, 0.4, 1.0), len(stream.columns))
    stream.columns[40:80, 3] = 0.0
    return stream


@pytest.mark.parametrize("raise_at", [0.3, 0.8, 1.2])
@pytest.mark.parametrize("method", [ema(0.0), ema(2.0), cusum(CusumConfig(clip=2.0, drift=0.5, cap=6.0))])
def test_replay_equals_the_judge_that_runs(method: Method, raise_at: float) -> None:
    alarm = AlarmConfig(raise_at=raise_at, clear_at=0.0, min_seconds=0.64, silence_seconds=6.0)
    config = JudgeConfig(smooth_seconds=method.smoothing, alarm=alarm)
    found = 0
    for seed in range(8):
        turns = [(0, 40), (1, 30), (0, 35), (1, 40), (0, 30)]
        stream = speechless_in_places(heard(turns, level=2.5, spread=3.0, seed=seed), seed)
        track = ready(stream)
        evidence = None if method.cusum is None else Cusum(method.cusum)
        expected = judged(stream, Judge(config, PLATT, evidence))
        assert alerts(track, gather(track, method), alarm) == expected
        found += len(expected)
    assert found > 0


def test_certain_hops_are_caught_after_the_time_the_numbers_say() -> None:
    stream = heard([(0, 40), (1, 40), (0, 60)], level=4.0)
    stream.columns[:, 2] = 0.0
    track = ready(stream, Platt())
    alarm = AlarmConfig(raise_at=0.1, clear_at=-3.9, min_seconds=0.0)
    # Without smoothing a window of 9 hops is above 0 once 5 of them are synthetic, and all human 9 hops later.
    found = compare(track, alerts(track, gather(track, ema(0.0)), alarm))
    assert found.false_alarms == found.late == 0
    assert found.turns[0].delay == pytest.approx(5 * HOP)
    assert found.turns[0].to_clear == pytest.approx(9 * HOP)
    assert found.turns[0].cleared


def test_false_alarms_are_counted_per_hour_of_human_only_streams() -> None:
    calm = heard([(0, 1000)], mixed=False, source="calm")
    loud = heard([(0, 500), (1, 20), (0, 480)], level=5.0, mixed=False, source="loud")
    loud = Heard(loud.name, False, (heard([(0, 1000)]).turns[0],), loud.columns)  # human, whatever its hops say
    tracks = [ready(calm), ready(loud)]
    tally = tally_of(tracks, [gather(t, ema(1.0)) for t in tracks], AlarmConfig())
    assert tally.false_alarms == 1
    assert tally.hours == pytest.approx(2000 * HOP / 3600)
    assert tally.per_hour == pytest.approx(3600 / (2000 * HOP))


def test_an_older_alert_does_not_count_as_caught() -> None:
    stream = heard([(0, 10), (1, 20), (0, 5), (1, 25), (0, 40)])
    (first, second) = compare(ready(stream), [Alert(6.0, 18.0)]).turns
    assert first.delay == pytest.approx(6.0 - 10 * HOP)
    assert not first.cleared
    assert first.to_clear == pytest.approx(5 * HOP)  # cut short by the second turn
    assert second.delay is None
    assert second.carried


def test_an_alert_just_after_a_turn_is_late_and_one_well_after_it_false() -> None:
    stream = heard([(0, 10), (1, 20), (0, 60)])
    end = 30 * HOP
    outcome = compare(ready(stream), [Alert(end + 1.0, end + 2.0), Alert(end + 9.0, end + 10.0)])
    assert (outcome.late, outcome.false_alarms, outcome.turns[0].delay) == (1, 1, None)


def test_short_turns_do_not_count_as_missed() -> None:
    tally = Tally((compare(ready(heard([(0, 30), (1, 10), (0, 30), (1, 20), (0, 30)])), []),))
    figures = tally.figures()
    assert figures["turns_of_6_s"]["turns"] == 1
    assert figures["turns_of_6_s"]["missed"] == 1.0
    assert figures["shorter_turns"]["turns"] == 1
    assert figures["time_to_clear"]["p50"] is None


def test_intervals_hold_the_figure_and_no_alarm_is_no_proof() -> None:
    streams = [heard([(0, 400)], seed=s, source=f"h{s}", mixed=False) for s in range(5)]
    streams += [heard([(0, 30), (1, 30), (0, 30)], seed=s, source=f"m{s}", level=2.0 - s, spread=0.5) for s in range(4)]
    tracks = [ready(s, Platt()) for s in streams]
    tally = tally_of(tracks, [gather(t, ema(1.0)) for t in tracks], AlarmConfig(raise_at=0.5, clear_at=0.0))
    bounds = intervals(tally, draws=200)
    assert tally.false_alarms == 0
    assert bounds["per_hour"][1] == pytest.approx(2.996 / tally.hours)
    assert 0 < tally.share_caught < 1
    assert bounds["caught"][0] < tally.share_caught < bounds["caught"][1]
    assert bounds == intervals(tally, draws=200)


def test_top_k_is_the_mean_of_the_highest_and_forgets() -> None:
    evidence = TopK(5 * HOP, 2, HOP)
    update = partial(evidence.update, hop_seconds=HOP, speech=1.0)
    assert [update(v) for v in (1.0, 5.0, 3.0)] == [1.0, 3.0, 4.0]
    assert evidence.update(9.0, HOP, 0.0) == 4.0  # nobody spoke
    for _ in range(4):
        last = update(0.0)
    assert last == 1.5  # 3 and 0: the 5 has left
    evidence.reset()
    assert update(-2.0) == -2.0
