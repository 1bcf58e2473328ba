"""The short version of :mod:`tests.chaos.rtp`."""

from __future__ import annotations

import shutil

import pytest

from tests.chaos import rtp
from tests.chaos.relay import Weather


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_every_packet_is_found_again_after_a_bad_network(loss: float) -> None:
    figures = rtp.bad_network(Weather(loss, twice=0.1, delay=0.2), streams=2, packets=200, seed=5)
    assert figures["relay"]["twice"] > 0  # type: ignore[index]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="not installed: ffmpeg")
def test_opus_that_is_lost_is_lost_to_the_sample() -> None:
    figures = rtp.opus(0.2, seconds=13.0, seed=3)  # long enough for one report of the loss
    assert 0.1 < figures["share_lost"] < 0.3  # type: ignore[operator]


def test_a_crowd_is_received_whole() -> None:
    assert rtp.crowd(streams=100, seconds=2.0)["streams"] == 100


def test_a_flood_of_strangers_starves_nobody() -> None:
    figures = rtp.flood(seconds=2.0, rate=4000)  # more than may wait for a second packet
    assert figures["untrusted"] + figures["overflow"] > 1000  # type: ignore[operator]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="not installed: ffmpeg")
def test_a_sender_that_is_killed_and_comes_back_is_the_same_stream() -> None:
    assert rtp.come_and_go(3)["rounds"] == 3
