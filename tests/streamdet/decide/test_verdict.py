from __future__ import annotations

import pytest

from streamdet.decide.verdict import Rules
from streamdet.decide.window import Pool
from streamdet.errors import ConfigError
from streamdet.events import Verdict

RULES = Rules(spoof_at=1.0, bona_fide_at=-1.0)


def pool(speech_seconds: float, lost: float = 0.0, raw: float | None = 0.0) -> Pool:
    return Pool(raw if speech_seconds > 0 else None, 3.0, speech_seconds / 3.0, lost)


@pytest.mark.parametrize(
    ("held", "evidence", "wanted"),
    [
        (pool(0.0), 9.0, "no_speech"),
        (pool(0.19), 9.0, "no_speech"),
        (pool(0.21), 9.0, "undecided"),
        (pool(1.49), 9.0, "undecided"),
        (pool(1.51), 9.0, "spoof"),
        (pool(1.51), -9.0, "bona_fide"),
        (pool(3.0, lost=0.3), 9.0, "spoof"),
        (pool(3.0, lost=0.31), 9.0, "undecided"),
        (pool(3.0, lost=0.31), -9.0, "undecided"),
        (pool(3.0), 1.0, "spoof"),
        (pool(3.0), 0.999, "undecided"),
        (pool(3.0), -0.999, "undecided"),
        (pool(3.0), -1.0, "bona_fide"),
    ],
)
def test_verdicts(held: Pool, evidence: float, wanted: Verdict) -> None:
    assert RULES.verdict(held, evidence) == wanted


def test_a_lost_window_with_no_speech_left_is_no_speech() -> None:
    assert RULES.verdict(pool(0.0, lost=1.0), 0.0) == "no_speech"
    assert not RULES.trusted(pool(0.0, lost=1.0))


def test_the_defaults_ask_for_one_and_a_half_seconds_and_a_clear_majority() -> None:
    rules = Rules()
    assert (rules.min_speech_seconds, rules.max_lost) == (1.5, 0.3)
    assert rules.verdict(pool(3.0), 0.0) == "undecided"


def test_thresholds_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(ConfigError, match="must lie below"):
        Rules(spoof_at=-1.0, bona_fide_at=1.0)
    with pytest.raises(ConfigError, match="silence_seconds"):
        Rules(silence_seconds=2.0)
