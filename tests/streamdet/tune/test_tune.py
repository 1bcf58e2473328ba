"""Thresholds proposed from sound in which everybody is human."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path

import numpy as np
import pytest

from streamdet.decide.alarm import Alarm, AlarmConfig, Moment
from streamdet.decide.calibrate import log_odds
from streamdet.errors import ConfigError
from streamdet.settings.write import with_keys
from streamdet.tune.poisson import most_allowed, upper_bound
from streamdet.tune.propose import parse_rate, propose
from streamdet.tune.track import Track, count_alarms

from ..conftest import DEMO, Run

HOP = 0.32


def track(evidence: np.ndarray, name: str = "a") -> Track:
    times = HOP * np.arange(1, len(evidence) + 1)
    return Track(name, times, np.full(len(evidence), HOP), evidence.astype(np.float64))


def wandering(hops: int, seed: int) -> np.ndarray:
    """Slow noise about -3 with a hole here and there, as a human voice gives."""
    noise = np.random.default_rng(seed).normal(size=hops + 20)
    evidence = np.convolve(noise, np.ones(9) / 3, "valid")[:hops] * 1.5 - 3
    evidence[np.random.default_rng(seed + 1).random(hops) < 0.05] = np.nan
    return evidence


@pytest.mark.parametrize(("count", "bound"), [(0, 2.9957), (1, 4.7439), (10, 16.962), (100, 118.079)])
def test_poisson_bounds_are_the_published_ones(count: int, bound: float) -> None:
    assert upper_bound(count) == pytest.approx(bound, abs=1e-3)


def test_how_many_events_a_rate_allows() -> None:
    assert most_allowed(2.9) is None
    assert [most_allowed(mean) for mean in (3.0, 4.74, 4.75, 16.97)] == [0, 0, 1, 10]


@pytest.mark.parametrize("held", [0.0, 1.0, 3.0])
def test_jumping_counts_what_the_alarm_itself_counts(held: float) -> None:
    evidence = wandering(20_000, 1)
    config = AlarmConfig(raise_at=0.0, clear_at=-1.0, min_seconds=held)
    alarm, raised = Alarm(config), 0
    for number, value in enumerate(evidence.tolist(), 1):
        moment = Moment(HOP * number, HOP, None if math.isnan(value) else value)
        raised += sum(step.phase == "raised" for step in alarm.update(moment))
    assert raised >= 2
    assert count_alarms([track(evidence)], config) == raised


def test_the_proposal_keeps_the_rate_that_was_wanted() -> None:
    tracks = [track(wandering(40_000, seed), f"s{seed}") for seed in range(3)]  # 10.7 h
    proposal = propose(tracks, AlarmConfig(raise_at=log_odds(0.6), clear_at=log_odds(0.4), min_seconds=0.5), 1.0)
    chosen = proposal.proposed
    assert proposal.present.at_most_per_hour > 1.0 >= chosen.at_most_per_hour
    assert chosen.raise_at > 0.6
    assert chosen.min_seconds == 0.5
    apart = log_odds(0.6) - log_odds(0.4)
    assert log_odds(chosen.raise_at) - log_odds(chosen.clear_at) == pytest.approx(apart, abs=0.01)
    # It is the lowest: one step below, more came than the rate allows.
    below = log_odds(chosen.raise_at) - 0.1
    looser = AlarmConfig(raise_at=below, clear_at=below - apart, min_seconds=0.5)
    assert upper_bound(count_alarms(tracks, looser)) / proposal.hours > 1.0


def test_too_little_audio_is_refused_with_what_would_do() -> None:
    with pytest.raises(ConfigError, match=r"0\.89 h of audio are too little to promise 1 a day.*Give 72 h"):
        propose([track(wandering(10_000, 0))], AlarmConfig(), parse_rate("1/day"))
    with pytest.raises(ConfigError, match="Give 9 min"):
        propose([track(wandering(1_000, 0))], AlarmConfig(), parse_rate("20/hour"))


@pytest.mark.parametrize("text", ["often", "0/day", "1/year", "-1/day"])
def test_a_rate_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="no rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "\n[alarm]\nraise = 0.9\n"),
        ("batch = 8\n", "batch = 8\n\n[alarm]\nraise = 0.9\n"),
        ("[alarm] # x\nraise = 0.5 # was\n# end\n[web]\n", "[alarm] # x\nraise = 0.9 # was\n# end\n[web]\n"),
        ("[alarm]\nclear = 0.1\n\n[web]\n", "[alarm]\nraise = 0.9\nclear = 0.1\n\n[web]\n"),
    ],
)
def test_comments_survive_what_is_written(before: str, after: str) -> None:
    assert with_keys(before, "alarm", {"raise": 0.9}) == after


def test_a_table_in_one_line_has_to_be_edited_by_hand() -> None:
    with pytest.raises(ConfigError):
        with_keys("alarm = { raise = 0.5 }\n", "alarm", {"raise": 0.9})


def test_files_are_scored_and_the_result_is_written(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "streams.toml"
    path.write_text("# mine\nbatch = 8\n")
    done = run("tune", DEMO, "--false-alarms", "300/hour", "--config", path, "--write", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["hours"] == pytest.approx(74 / 3600, rel=0.02)
    written = tomllib.loads(path.read_text())["alarm"]
    assert written["raise"] == told["proposed"]["raise_at"]
    assert path.read_text().startswith("# mine\n")
    refused = run("tune", DEMO, "--false-alarms", "1/day")
    assert refused.returncode == 2
    assert "too little" in refused.stderr
