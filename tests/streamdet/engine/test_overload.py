"""Overload is said once, with what it cost, and once when it is over."""

from streamdet.engine.overload import CALM_SECONDS, Change, Load, OverloadWatch


def watch(loads: list[Load], late: float = 1.0) -> list[tuple[float, Change]]:
    """Look at one load a second."""
    watching = OverloadWatch(late)
    looks = ((float(now), watching.look(load, float(now))) for now, load in enumerate(loads))
    return [(now, change) for now, change in looks if change is not None]


def test_lag_begins_it_and_calm_ends_it() -> None:
    lags = [0.1, 0.9, 1.2, 3.0, 1.0, 0.4, 0.4, 0.6, *[0.1] * 9]
    (began, first), (ended, last) = watch([Load(lag) for lag in lags])
    assert (began, first.begins, first.lag) == (2.0, True, 1.2)
    assert (ended, last.begins, last.lag) == (7.0 + CALM_SECONDS, False, 3.0)
    assert last.seconds == ended - began


def test_what_was_left_out_counts_from_the_beginning_of_each_overload() -> None:
    first = [Load(), Load(0.2, 7, 100), *[Load(0.0, 7, 100)] * 8]
    second = [Load(0.2, 10, 100), Load(0.2, 12, 400), *[Load(0.0, 12, 400)] * 8]
    changes = [change for _, change in watch([*first, *second])]
    assert [change.begins for change in changes] == [True, False, True, False]
    assert [(change.skipped, change.overrun) for change in changes] == [(7, 100), (7, 100), (3, 0), (5, 300)]
    assert changes[-1].detail()["skipped_hops"] == 5
    assert changes[-1].detail()["overrun_samples"] == 300


def test_a_machine_that_keeps_up_says_nothing() -> None:
    assert watch([Load(0.3)] * 50) == []


def test_loads_add_up() -> None:
    assert Load(0.5, 1, 10) + Load(0.2, 2, 20) == Load(0.5, 3, 30)
