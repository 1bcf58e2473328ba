"""The ledger stays small and its sums stay right."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streamdet.totals import Ledger, Totals


def test_what_ended_long_ago_is_summed_up() -> None:
    gone: list[str] = []
    ledger = Ledger(kept=3, on_forget=gone.append)
    for number in range(10):
        totals = ledger.open(f"s{number}")
        totals.hops, totals.seconds, totals.peak = 1, 0.5, number / 10
        totals.verdicts["spoof"] += 1
        ledger.close(f"s{number}")
    assert [name for name, _ in ledger.items()] == ["s7", "s8", "s9"]
    assert gone == [f"s{number}" for number in range(7)]
    assert ledger.forgotten == 7
    assert (ledger.rest.hops, ledger.rest.peak, ledger.rest.verdicts) == (7, 0.6, Counter(spoof=7))
    assert ledger.seconds == 5.0


def test_a_name_that_comes_again_goes_on() -> None:
    ledger = Ledger(kept=1)
    ledger.open("a").hops = 3
    ledger.close("a")
    assert ledger.open("a").hops == 3
    ledger.close("b")  # was never opened
    assert ledger["a"].hops == 3
    assert ledger.pop("a") is None  # it is open
    ledger.close("a")
    popped = ledger.pop("a")
    assert popped is not None
    assert popped.hops == 3
    assert ledger.items() == []


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=60), st.integers(0, 3))
def test_no_second_is_lost_whoever_comes_and_goes(steps: list[tuple[int, int]], kept: int) -> None:
    ledger, expected = Ledger(kept=kept), 0
    for name, seconds in steps:
        ledger.open(str(name)).seconds += seconds
        expected += seconds
        if seconds % 2:
            ledger.close(str(name))
    assert ledger.seconds == expected


def test_adding_leaves_out_what_belongs_to_one_stream() -> None:
    together = Totals(hops=1, alerts=2)
    together.add(Totals(hops=2, alerts=1, skipped=4, unscored=6, overrun=5, lost_seconds=1.5, failed="why", end=9.0))
    assert together == Totals(hops=3, alerts=3, skipped=4, unscored=6, overrun=5, lost_seconds=1.5)
