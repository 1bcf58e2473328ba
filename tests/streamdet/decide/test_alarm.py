"""The alarm's life cycle by tables: one evidence per second, and what must come of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdet.decide.alarm import ALLOWED, Alarm, AlarmConfig, AlarmState, Moment, Transition
from streamdet.errors import ConfigError

CONFIG = AlarmConfig(
    raise_at=2.0,
    clear_at=0.0,
    min_seconds=2.0,
    cooldown_seconds=3.0,
    update_seconds=4.0,
    silence_seconds=5.0,
    max_seconds=20.0,
)


def numbered(config: AlarmConfig = CONFIG) -> Alarm:
    numbers = count(1)
    return Alarm(config, lambda: f"alert-{next(numbers)}")


def run(alarm: Alarm, evidence: Sequence[float | None], hop: float = 1.0) -> list[Transition]:
    """Feed hops that end at ``hop``, ``2 hop``, ...; the onset is said to be the beginning of the hop."""
    steps: list[Transition] = []
    for number, value in enumerate(evidence, 1):
        at = number * hop
        steps += alarm.update(Moment(at, hop, value, p_fake=0.9, onset=at - hop))
    return steps


def told(steps: Sequence[Transition]) -> list[tuple[str, str, str, float]]:
    return [(step.id, step.phase, step.reason, step.at) for step in steps]


@pytest.mark.parametrize(
    ("evidence", "wanted"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([-1, 1, 1.9, 1.9, 1.9], [], id="never reaches the threshold"),
        pytest.param([3, 1, 3, 1, 3], [], id="too short each time"),
        pytest.param([3, 3], [("raised", "evidence", 2)], id="long enough"),
        pytest.param([2, 2], [("raised", "evidence", 2)], id="the threshold itself counts"),
        pytest.param([3, None, None, 3], [("raised", "evidence", 4)], id="silence does not break the run"),
        pytest.param([3, *[None] * 6, 3], [], id="long silence does"),
        pytest.param([3, 3, 1, 0.1, 1], [("raised", "evidence", 2)], id="hysteresis holds it"),
        pytest.param([3, 3, 0], [("raised", "evidence", 2), ("cleared", "evidence", 3)], id="cleared at the threshold"),
        pytest.param(
            [3] * 10,
            [("raised", "evidence", 2), ("updated", "evidence", 6), ("updated", "evidence", 10)],
            id="updated while it lasts",
        ),
        pytest.param(
            [3, 3, None, None, None, None, None, None],
            [("raised", "evidence", 2), ("updated", "evidence", 6), ("cleared", "silence", 7)],
            id="ends by silence",
        ),
        pytest.param(
            [3, 3, None, None, None, None, 1, None, None],
            [("raised", "evidence", 2), ("updated", "evidence", 6)],
            id="one judged hop starts the silence anew",
        ),
    ],
)
def test_one_alert(evidence: list[float | None], wanted: list[tuple[str, str, float]]) -> None:
    assert told(run(numbered(), evidence)) == [("alert-1", *step) for step in wanted]


def test_cool_down_keeps_quiet_and_then_another_alert_may_come() -> None:
    steps = run(numbered(), [3, 3, -1, *[3] * 6])
    assert told(steps) == [
        ("alert-1", "raised", "evidence", 2),
        ("alert-1", "cleared", "evidence", 3),
        ("alert-2", "raised", "evidence", 7),  # cool until 6, then two seconds of evidence: those that end at 6 and 7
    ]


def test_an_alert_without_end_is_ended_and_another_follows() -> None:
    steps = run(numbered(), [3] * 27)
    assert told(steps)[-2:] == [("alert-1", "cleared", "limit", 22), ("alert-2", "raised", "evidence", 26)]


def test_an_alert_keeps_its_onset_and_its_highest_peak() -> None:
    alarm = numbered()
    steps: list[Transition] = []
    for at, (evidence, p_fake) in enumerate([(3, 0.6), (3, 0.95), (3, 0.7), (-1, 0.1)], 1):
        steps += alarm.update(Moment(float(at), 1.0, evidence, p_fake, onset=at - 0.75))
    assert [(step.phase, step.onset, step.peak, step.duration) for step in steps] == [
        ("raised", 0.25, 0.95, 1.75),
        ("cleared", 0.25, 0.95, 3.75),
    ]


def test_the_onset_of_a_run_that_broke_off_is_forgotten() -> None:
    (raised,) = run(numbered(), [3, 1, 1, 3, 3])
    assert raised.onset == 3.0


@pytest.mark.parametrize("reason", ["ended", "gap"])
def test_closing_clears_what_is_active_and_only_once(reason: str) -> None:
    alarm = numbered()
    run(alarm, [3, 3])
    closed = alarm.close(2.5, reason)  # type: ignore[arg-type]
    assert told(closed) == [("alert-1", "cleared", reason, 2.5)]
    assert alarm.close(2.5, "ended") == ()


@pytest.mark.parametrize("evidence", [[], [3], [3, 3, -1]], ids=["quiet", "pending", "cooling"])
def test_closing_says_nothing_where_nothing_is_active(evidence: list[float]) -> None:
    alarm = numbered()
    run(alarm, evidence)
    assert alarm.close(9.0, "ended") == ()
    assert alarm.state != "pending"


@pytest.mark.parametrize("hop", [0.16, 0.32, 0.64])
def test_minimum_duration_is_in_seconds_whatever_the_hop(hop: float) -> None:
    (raised, *_) = run(numbered(), [3.0] * 100, hop)
    assert 2.0 - 1e-6 <= raised.at < 2.0 + hop


def test_without_a_minimum_duration_one_hop_raises() -> None:
    (raised,) = run(numbered(AlarmConfig(raise_at=2.0, clear_at=0.0, min_seconds=0.0)), [3], 0.32)
    assert raised.at == 0.32


def test_ids_are_unique_by_themselves() -> None:
    ids = {run(Alarm(CONFIG), [3, 3])[0].id for _ in range(50)}
    assert len(ids) == 50


@given(st.lists(st.one_of(st.none(), st.floats(-5, 5)), max_size=200), st.sampled_from([0.32, 1.0]))
def test_any_evidence_gives_well_formed_alerts(evidence: list[float | None], hop: float) -> None:
    alarm = numbered()
    steps = run(alarm, evidence, hop) + list(alarm.close(len(evidence) * hop, "ended"))
    by_id: dict[str, list[Transition]] = {}
    for step in steps:
        by_id.setdefault(step.id, []).append(step)
    cleared_at = -CONFIG.cooldown_seconds
    for life in by_id.values():
        phases = [step.phase for step in life]
        assert phases == ["raised", *["updated"] * (len(life) - 2), "cleared"]
        assert life[0].at - cleared_at >= CONFIG.cooldown_seconds
        cleared_at = life[-1].at
    assert [step.at for step in steps] == sorted(step.at for step in steps)


@given(st.lists(st.one_of(st.none(), st.floats(-5, 5)), max_size=200))
def test_only_allowed_moves_are_made(evidence: list[float | None]) -> None:
    alarm = numbered()
    before: AlarmState = alarm.state
    for number, value in enumerate(evidence, 1):
        alarm.update(Moment(float(number), 1.0, value))
        reachable = {before} | ALLOWED[before] | {b for a in ALLOWED[before] for b in ALLOWED[a]}
        assert alarm.state in reachable  # one hop makes at most two moves: cooling, quiet, pending
        before = alarm.state


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"raise_at": 0.0, "clear_at": 0.0}, "clear 0.5 must lie below raise 0.5"),
        ({"min_seconds": -1.0}, "min_seconds"),
        ({"cooldown_seconds": -1.0}, "cooldown_seconds"),
        ({"update_seconds": 0.0}, "update_seconds"),
        ({"silence_seconds": 0.0}, "silence_seconds"),
        ({"max_seconds": 0.0}, "max_seconds"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        AlarmConfig(**change)
