"""The life cycle of sources: the table is kept, logs are rare, counts are whole."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streamdet.audio.block import End, Phase, Status
from streamdet.events import StatePhase
from streamdet.sources.lifecycle import ALLOWED, Budget, LifeCycle

PHASES = get_args(StatePhase)


def test_the_table_names_every_phase_and_every_phase_can_end() -> None:
    assert set(ALLOWED) == set(PHASES)
    assert set(get_args(Phase)) | {"ended"} == set(PHASES)
    assert not ALLOWED["ended"]
    assert all("ended" in ALLOWED[phase] and phase not in ALLOWED[phase] for phase in PHASES if phase != "ended")
    assert "recovering" not in ALLOWED["connecting"]  # what never came cannot come back


@given(st.lists(st.sampled_from(PHASES), max_size=30))
def test_any_walk_keeps_to_the_table(walk: list[StatePhase]) -> None:
    life = LifeCycle("a", budget=Budget(0, 0))
    moves = 0
    for to in walk:
        before = life.phase
        legal = to in ALLOWED[before] or (to == before != "ended")
        try:
            item = life.end("x") if to == "ended" else life.move(to, "x")
        except AssertionError:
            assert not legal
            assert life.phase == before
            continue
        assert legal
        assert life.phase == to
        assert isinstance(item, End if to == "ended" else Status)
        moves += to != before
    assert sum(life.entered.values()) == moves == sum(life.counters().values())


def test_nothing_comes_after_the_end() -> None:
    life = LifeCycle("a")
    life.end("gone")
    with pytest.raises(AssertionError, match="a: no way from ended to live"):
        life.move("live", "back")
    with pytest.raises(AssertionError, match="no way from ended to ended"):
        life.end("again")
    with pytest.raises(AssertionError, match="after its end"):
        life.update("more")


def test_a_stream_that_flaps_fills_no_log() -> None:
    life = LifeCycle("flappy", budget=Budget(100, 0))
    with capture_logs() as lines:
        for _ in range(500):
            life.move("live", "here")
            life.move("recovering", "gone")
        life.move("degraded", "noisy")
    assert [line["phase"] for line in lines] == ["live", "recovering", "degraded"]
    assert [line["log_level"] for line in lines] == ["info", "warning", "warning"]
    assert lines[-1]["unsaid"] == 998
    assert life.counters() == {"entered_live": 500, "entered_recovering": 500, "entered_degraded": 1}


def test_many_streams_share_the_lines() -> None:
    budget = Budget(10, 0)
    with capture_logs() as lines:
        for i in range(300):
            LifeCycle(f"s{i}", budget=budget).move("live", "here")
    assert len(lines) == 10
    assert budget.refused == 290


def test_a_budget_refills_with_time() -> None:
    budget = Budget(2, 1.0)
    assert [budget.allows(now) for now in (100, 100, 100, 100.5, 101.1, 101.2)] == [
        True,
        True,
        False,
        False,
        True,
        False,
    ]
    assert budget.refused == 1


def test_an_update_stays_in_its_phase() -> None:
    life = LifeCycle("a")
    assert life.move("live", "here", {"lost": 1}) == Status("a", "live", "here", {"lost": 1})
    assert life.update("still", {"lost": 2}) == Status("a", "live", "still", {"lost": 2})
    assert life.counters() == {"entered_live": 1}
