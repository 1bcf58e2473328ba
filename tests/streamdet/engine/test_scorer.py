"""A stream's columns and speech are the same, bit for bit, whoever shares the call."""

import numpy as np
import pytest

from streamdet.bundled import bundled_model
from streamdet.engine.onnx import OnnxEngine
from streamdet.engine.scorer import Columns, HopScorer

HOPS = 4


def scored(samples: np.ndarray, members: list[int]) -> list[Columns]:
    """Score the rows ``members`` of ``samples`` ``[streams, HOPS * hop_samples]`` side by side."""
    scorer = HopScorer(OnnxEngine(bundled_model("edge")))
    slots = np.array([scorer.open() for _ in members], np.intp)
    return [scorer.score(slots, hop) for hop in np.split(samples[members], HOPS, axis=1)]


@pytest.mark.parametrize("company", [2, 5, 33])
def test_company_changes_nothing(speech: np.ndarray, company: int) -> None:
    starts = np.arange(company) * 20_000
    samples = np.stack([speech[start : start + HOPS * 5_120] for start in starts])
    together = scored(samples, list(range(company)))
    for member in (0, company // 2, company - 1):
        for alone, shared in zip(scored(samples, [member]), together, strict=True):
            np.testing.assert_array_equal(alone.column[0], shared.column[member])
            assert alone.speech[0] == shared.speech[member]
