"""A short run of every fuzz target, and proof that the harness finds what is broken."""

from __future__ import annotations

import pytest

from tests.fuzz import harness
from tests.fuzz.harness import Target, fuzz, fuzz_with_atheris, has_atheris
from tests.fuzz.rtp import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_escapes_from(name: str) -> None:
    outcome = fuzz(TARGETS[name](), inputs=400, seed=11)
    assert outcome.good, outcome
    assert outcome.covered > 2


def broken(data: bytes) -> None:
    """Fail behind two conditions that blind chance would not meet together."""
    if data[:1] == b"\x90":
        if data[2:4] == b"\xff\xff":
            raise ValueError("found")
        return


def test_a_fault_behind_two_doors_is_found() -> None:
    outcome = fuzz(Target("broken", broken, [bytes(8)], [__name__]), inputs=200_000, traced=1.0)
    assert outcome.error is not None
    assert "found" in outcome.error
    assert outcome.failure is not None
    found = bytes.fromhex(outcome.failure)
    assert (found[0], found[2:4]) == (0x90, b"\xff\xff")


def test_growth_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "LARGEST_GROWTH", 4 << 20)
    kept: list[bytes] = []
    leaky = Target("leaky", lambda data: kept.append(b"x" * 400_000 + data), [b"x"], [__name__])
    outcome = fuzz(leaky, inputs=300)
    assert outcome.grown > 4 << 20
    assert not outcome.good


@pytest.mark.skipif(not has_atheris(), reason="not installed: atheris")
def test_atheris_runs_a_target() -> None:
    outcome = fuzz_with_atheris("tests.fuzz.rtp", TARGETS["rtcp"](), inputs=500)
    assert outcome.good, outcome
    assert outcome.inputs == 500
