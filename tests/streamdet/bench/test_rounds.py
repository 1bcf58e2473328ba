"""Turns, medians, and what follows from them."""

import pytest

from streamdet.bench.plot import text_bars
from streamdet.bench.rounds import Contestant, Timing, interleave


def test_all_take_turns_there_and_back() -> None:
    order: list[str] = []
    names = ("a", "b", "c")
    field = [Contestant("stream", name, 1, lambda name=name: order.append(name), {}) for name in names]
    turns: list[int] = []
    timings = interleave(field, rounds=2, seconds=0.0, advance=lambda: turns.append(1))
    assert "".join(order) == "abc" + "abc" + "cba"
    assert len(turns) == 6
    assert [timing.label for timing in timings] == list(names)


def test_more_work_costs_more_and_is_shared_among_the_hops() -> None:
    def burn(times: int) -> None:
        sum(range(100_000 * times))

    field = [
        Contestant("stream", "one", 1, lambda: burn(1), {}),
        Contestant("stream", "twenty", 1, lambda: burn(20), {}),
        Contestant("stream", "twenty shared", 20, lambda: burn(20), {}),
    ]
    one, twenty, shared = interleave(field, rounds=5, seconds=0.01, advance=lambda: None)
    assert 8 < twenty.median / one.median < 50
    assert 0.4 < shared.median / one.median < 2.5
    assert all(timing.low <= timing.median <= timing.high for timing in (one, twenty, shared))


def test_a_turn_ends_when_its_work_is_settled() -> None:
    waiting: list[str] = []
    field = [Contestant("stream", "a", 1, lambda: waiting.append("x"), {}, waiting.clear)]
    interleave(field, rounds=1, seconds=0.0, advance=lambda: None)
    assert waiting == []


def test_streams_per_core() -> None:
    timing = Timing("stream", "a", 3.2, 3.0, 3.4, {"streams": 8})
    assert timing.streams_per_core(0.32) == pytest.approx(100)
    assert timing.to_dict(0.32) == {
        "kind": "stream",
        "label": "a",
        "streams": 8,
        "ms_per_hop": 3.2,
        "low": 3.0,
        "high": 3.4,
        "streams_per_core": 100.0,
    }


def test_bars_are_sorted_and_leave_the_parts_out() -> None:
    kinds = ("part", "eager", "stream")
    results = [
        {"kind": kind, "label": kind, "streams_per_core": 10.0**power} for power, kind in enumerate(kinds, start=1)
    ]
    lines = text_bars({"results": results})
    assert [line.split()[0] for line in lines] == ["stream", "eager"]
    assert lines[0].count("━") > lines[1].count("━") > 0
