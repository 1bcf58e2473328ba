"""What is counted, and what a health check makes of it."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from streamdet.decide.judge import JudgeConfig, Judgement
from streamdet.decide.window import Column
from streamdet.events import Alert, AlertPhase, Health, Score, State, StatePhase
from streamdet.features import FrontEndConfig
from streamdet.metrics.figures import LATENCY_BOUNDS, Figures
from streamdet.metrics.verdict import Doctor
from streamdet.parts import Inside
from streamdet.tap import Heard
from streamdet.voice import Hop

RATE = 16_000
WHEN = {"seq": 1, "time": "2026-01-01T00:00:00.000Z", "media_time": 1.0, "model": "m"}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def heard(stream: str = "a", *, p_fake: float | None = 0.5, lost: float = 0.0, speech: float = 1.0) -> Heard:
    hop = Hop(np.zeros(5120, np.float32), int(5120 * lost), 5120, 0.0)
    judgement = Judgement(0.32, p_fake, {}, speech, lost, "undecided", ())
    return Heard(stream, hop, None, Column(0.0, 0.0, speech, lost), judgement, JudgeConfig(), FrontEndConfig())


def score(latency_ms: float) -> Score:
    return Score(
        stream="a", p_fake=None, windows={}, speech=0.0, lost=0.0, verdict="no_speech", latency_ms=latency_ms, **WHEN
    )


def alert(phase: AlertPhase) -> Alert:
    return Alert(stream="a", id="x", phase=phase, reason="evidence", onset=0.0, peak=0.9, duration=1.0, **WHEN)


def state(phase: StatePhase, stream: str = "a") -> State:
    return State(stream=stream, phase=phase, reason="because", **WHEN)


def health(**changes: object) -> Health:
    plain = Health(
        seq=1,
        time="2026-01-01T00:00:00.000Z",
        media_time=0.0,
        model="m",
        uptime=1.0,
        streams=1,
        alerts=0,
        hops=0,
        lag_ms=0.0,
        dropped={},
        engine="onnx-cpu",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def doctor(figures: Figures, clock: Clock, now: Health, *, quiet_is_well: bool = False) -> Doctor:
    inside = cast(Inside, SimpleNamespace(health=lambda: now))
    return Doctor(figures, inside, stale=10.0, quiet_is_well=quiet_is_well, lag_limit=5.0, clock=clock)


def test_seconds_of_audio_loss_and_speech_add_up() -> None:
    figures = Figures(RATE)
    for lost in (0.0, 0.5, 1.0):
        figures.hear(heard(lost=lost, speech=0.25))
    stream = figures.streams["a"]
    assert (stream.hops, stream.audio, stream.lost, stream.speech) == pytest.approx((3, 0.96, 0.48, 0.24))


def test_mean_log_odds_follow_a_change_with_the_time_constant() -> None:
    figures = Figures(RATE)
    figures.hear(heard(p_fake=0.5))
    for _ in range(round(300 / 0.32)):
        figures.hear(heard(p_fake=0.9))
    figures.hear(heard(p_fake=None))
    target = math.log(9.0)
    assert figures.streams["a"].log_odds == pytest.approx(target * (1 - math.exp(-1)), rel=0.01)


def test_certain_scores_keep_the_mean_finite() -> None:
    figures = Figures(RATE)
    figures.hear(heard(p_fake=1.0))
    figures.hear(heard(p_fake=0.0))
    assert math.isfinite(figures.streams["a"].log_odds or math.nan)


def test_latency_falls_into_its_bucket() -> None:
    figures = Figures(RATE)
    for milliseconds in (0.5, 1.0, 30.0, 99_999.0):
        figures.take(score(milliseconds))
    counts = dict(zip([*LATENCY_BOUNDS, math.inf], figures.latency.counts, strict=True))
    assert {bound: count for bound, count in counts.items() if count} == {0.001: 2, 0.05: 1, math.inf: 1}
    assert figures.latency.total == pytest.approx(100.0305)


def test_a_stream_that_ended_leaves_only_its_share_of_the_sum() -> None:
    figures = Figures(RATE)
    figures.hear(heard("a"))
    figures.hear(heard("b"))
    figures.take(state("ended", "a"))
    figures.take(state("ended", "never-heard"))
    assert list(figures.streams) == ["b"]
    assert figures.ended.audio == pytest.approx(0.32)


def test_streams_beyond_the_limit_count_in_the_sum() -> None:
    figures = Figures(RATE, most=2)
    for name in ("a", "b", "c", "a"):
        figures.hear(heard(name))
    assert set(figures.streams) == {"a", "b"}
    assert (figures.ended.hops, figures.untold) == (1, 1)


def test_an_alert_is_on_until_it_is_cleared() -> None:
    figures = Figures(RATE)
    seen = []
    for phase in ("raised", "updated", "cleared"):
        figures.take(alert(cast(AlertPhase, phase)))
        seen.append(figures.streams["a"].alerting)
    assert seen == [True, True, False]
    assert figures.alerts["raised", "evidence"] == 1


def test_healthy_only_while_sound_is_scored() -> None:
    clock = Clock()
    figures = Figures(RATE, clock=clock)
    checks = doctor(figures, clock, health())
    assert checks.health().well  # it has only just begun
    clock.now += 11.0
    assert checks.health().reasons == ("no sound was scored for 11 s",)
    figures.hear(heard())
    assert checks.health().well
    clock.now += 10.5
    figures.hear(heard(lost=1.0))  # nothing was heard in this one
    figures.take(state("recovering"))
    assert checks.health().reasons == ("no sound was scored for 10 s", "a is recovering")


def test_a_quiet_line_is_well_where_that_is_said_unless_its_source_is_down() -> None:
    clock = Clock()
    figures = Figures(RATE, clock=clock)
    checks = doctor(figures, clock, health(streams=0), quiet_is_well=True)
    clock.now += 60.0
    assert checks.health().well
    figures.take(state("failed", "trunk"))
    assert checks.health().reasons == ("no sound was scored for 60 s", "trunk is failed")


def test_late_or_overloaded_or_full_is_not_ready() -> None:
    clock = Clock()
    figures = Figures(RATE, clock=clock)
    assert doctor(figures, clock, health()).readiness().well
    late = doctor(figures, clock, health(lag_ms=5_500.0))
    assert late.readiness().reasons == ("scoring is 5.5 s behind the sound",)
    assert not late.health().well
    assert not doctor(figures, clock, health(overloaded=True)).readiness().well
    assert not doctor(figures, clock, health(streams=4, max_streams=4)).readiness().well
