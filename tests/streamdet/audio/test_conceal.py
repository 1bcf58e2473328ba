"""What stands in for lost sound: it goes on with the pitch, fades, never exceeds what was asked, and fits its ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamdet.audio.codecs import Encoding, make_decoder
from streamdet.audio.conceal import HISTORY_SECONDS, LONGEST_SECONDS, Concealer, conceal
from tests.chaos.senders import payloads


def tone(rate: int, hertz: float, samples: int, begin: int = 0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * (begin + np.arange(samples)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
@pytest.mark.parametrize("hertz", [80.0, 125.0, 190.0])
def test_a_voiced_sound_goes_on_in_phase(rate: int, hertz: float) -> None:
    history, size = tone(rate, hertz, int(HISTORY_SECONDS * rate)), rate // 50
    made = conceal(history, size, rate)
    fade = np.clip(1.2 - 0.2 * np.arange(size) / (0.01 * rate), 0, 1)
    wanted = tone(rate, hertz, size, len(history)) * fade
    assert np.abs(made - wanted).max() < 0.2
    assert np.corrcoef(made, wanted)[0, 1] > 0.98


def test_it_fades_and_stops_after_sixty_milliseconds() -> None:
    made = conceal(tone(8000, 100, 480), 8000, 8000)
    assert len(made) == LONGEST_SECONDS * 8000
    levels = [float(np.abs(made[i : i + 80]).max()) for i in range(0, 480, 80)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] > 0.95
    assert abs(made[-1]) < 0.01


def test_it_runs_into_what_follows() -> None:
    history, following = tone(8000, 100, 480), np.full(160, 0.7, np.float32)
    assert abs(conceal(history, 160, 8000, following)[-1] - 0.7) < 0.1
    assert abs(conceal(history, 160, 8000)[-1] - 0.7) > 0.3


@given(
    hnp.arrays(np.float32, st.integers(0, 600), elements=st.floats(-1, 1, width=32)),
    st.integers(0, 1000),
    st.sampled_from([4000, 8000, 11_025, 16_000]),
)
def test_any_history_gives_finite_sound_no_louder_than_it_was(history: np.ndarray, count: int, rate: int) -> None:
    made = conceal(history, count, rate)
    assert made.dtype == np.float32
    assert len(made) <= min(count, int(LONGEST_SECONDS * rate))
    assert np.isfinite(made).all()
    if len(made):
        assert np.abs(made).max() <= np.abs(history).max() + 1e-6


def test_a_concealer_remembers_just_enough_and_forgets_at_a_change() -> None:
    concealer = Concealer()
    assert len(concealer.fill(160, 8000)) == 0
    for begin in range(0, 80_000, 160):
        concealer.hear(tone(8000, 100, 160, begin), 8000)
    assert concealer._count <= HISTORY_SECONDS * 8000 + 160
    assert len(concealer.fill(160, 8000)) == 160
    assert len(concealer.fill(160, 16_000)) == 0
    concealer.hear(tone(16_000, 100, 320), 16_000)
    assert len(concealer.fill(160, 16_000)) == 0  # 20 ms are too few to find a pitch in
    concealer.forget()
    assert concealer._count == 0


def test_opus_conceals_itself_and_goes_on_afterwards() -> None:
    decoder = make_decoder(Encoding("opus", 48_000))
    sound = 0.3 * tone(48_000, 150, 48_000)
    coded = list(payloads("opus", sound, 48_000))
    assert len(decoder.conceal(960)) == 0  # type: ignore[attr-defined]
    for payload in coded[:20]:
        decoder.decode(payload)
    made = decoder.conceal(960)  # type: ignore[attr-defined]
    assert len(made) == 960
    assert 0.1 < np.abs(made).max() < 0.6
    assert len(decoder.conceal(100_000)) == 0.06 * 48_000  # type: ignore[attr-defined]
    assert np.abs(decoder.decode(coded[24])).max() > 0.1
