"""Resampling without seams, and positions on the output clock."""

import numpy as np
import pytest
import soxr

from streamdet.audio.resample import Resampler


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000])
def test_chunks_equal_the_whole(rate: int) -> None:
    samples = np.random.default_rng(0).standard_normal(rate).astype(np.float32)
    resampler = Resampler(rate, 16_000)
    parts = [resampler.push(chunk) for chunk in np.array_split(samples, 37)]
    assert resampler.position == 16_000
    joined = np.concatenate([*parts, resampler.finish()])
    np.testing.assert_allclose(joined, soxr.resample(samples, rate, 16_000), atol=1e-4)


def test_the_same_rate_passes_untouched() -> None:
    samples = np.ones(7, np.float32)
    resampler = Resampler(16_000, 16_000)
    assert resampler.push(samples) is samples
    assert len(resampler.finish()) == 0
