"""Streams are spread evenly and stay where they are."""

import threading

from streamdet.placement import Placement


def test_new_streams_go_where_the_fewest_are() -> None:
    placement = Placement(3)
    homes = [placement.home(f"s{number}") for number in range(9)]
    assert sorted(homes) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    placement.leave("s4")
    assert placement.loads == (3, 2, 3)
    assert placement.home("new") == 1


def test_a_stream_stays_and_comes_back_to_where_it_was() -> None:
    placement = Placement(2)
    first, second = placement.home("a"), placement.home("b")
    assert (placement.home("a"), placement.home("b")) == (first, second)
    placement.leave("b")
    placement.home("c")
    assert placement.home("b") == second
    placement.leave("b")
    placement.forget("b")
    placement.leave("a")
    assert placement.home("b") == first  # it was forgotten, and there is more room


def test_finding_changes_nothing() -> None:
    placement = Placement(2)
    placement.home("a")
    home = placement.home("b")
    assert (placement.find("b"), placement.find("never")) == (home, None)
    placement.leave("b")
    assert (placement.find("b"), placement.find("never")) == (home, None)
    placement.forget("b")
    assert placement.find("b") is None
    assert placement.loads == (1, 0)


def test_names_without_sound_are_no_load() -> None:
    placement = Placement(2)
    for number in range(6):  # each a port with one sender
        placement.reserve(f"port{number}")
        placement.home(f"sender{number}")
    assert placement.loads == (3, 3)
    before = [placement.reserve(f"port{number}") for number in range(6)]
    placement.leave("port0")
    assert [placement.reserve(f"port{number}") for number in range(6)] == before
    assert placement.loads == (3, 3)


def test_sound_goes_where_its_name_was_told_of_before() -> None:
    placement = Placement(2)
    places = [placement.reserve(f"s{number}") for number in range(6)]
    assert placement.loads == (0, 0)
    assert sorted(places) == [0, 0, 0, 1, 1, 1]
    assert [placement.find(f"s{number}") for number in range(6)] == places
    assert [placement.home(f"s{number}") for number in range(6)] == places
    assert placement.loads == (3, 3)
    placement.leave("s0")
    assert placement.reserve("s0") == places[0]
    assert sorted(placement.loads) == [2, 3]


def test_leaving_twice_or_unknown_changes_nothing() -> None:
    placement = Placement(2)
    placement.home("a")
    placement.leave("a")
    placement.leave("a")
    placement.leave("never")
    assert placement.loads == (0, 0)


def test_many_threads_agree() -> None:
    placement, seen = Placement(4), [set[int]() for _ in range(200)]

    def look() -> None:
        for number in range(200):
            seen[number].add(placement.home(f"s{number}"))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(homes) == 1 for homes in seen)
    assert placement.loads == (50, 50, 50, 50)
