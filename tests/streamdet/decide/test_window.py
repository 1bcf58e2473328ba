from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdet.decide.window import EMPTY, Column, Pool, Whole, Windows

HOP = 0.32

columns = st.lists(
    st.builds(
        Column,
        logit=st.floats(-20, 20),
        attention=st.floats(-6, 6),
        speech=st.one_of(st.just(0.0), st.floats(0.01, 1.0)),
        lost=st.floats(0, 1),
    ),
    max_size=90,
)


def naive(held: list[Column], hop_seconds: float) -> Pool:
    """The definition, without any ring."""
    if not held:
        return EMPTY
    weights = [math.exp(c.attention) * c.speech for c in held]
    weighted = math.fsum(w * c.logit for w, c in zip(weights, held, strict=True))
    return Pool(
        raw=weighted / math.fsum(weights) if math.fsum(weights) > 0 else None,
        seconds=len(held) * hop_seconds,
        speech=math.fsum(c.speech for c in held) / len(held),
        lost=math.fsum(c.lost for c in held) / len(held),
    )


def assert_same(pool: Pool, wanted: Pool) -> None:
    assert pool.seconds == pytest.approx(wanted.seconds)
    assert pool.speech == pytest.approx(wanted.speech, abs=1e-12)
    assert pool.lost == pytest.approx(wanted.lost, abs=1e-12)
    if wanted.raw is None:
        assert pool.raw is None
    else:
        assert pool.raw == pytest.approx(wanted.raw, abs=1e-9)


@given(columns, st.lists(st.floats(0.1, 12.0), min_size=1, max_size=4), st.sampled_from([0.16, 0.32, 0.64]))
def test_every_window_equals_the_naive_pool_after_every_column(
    given_columns: list[Column], lengths: list[float], hop: float
) -> None:
    windows = Windows(lengths, hop)
    for count, column in enumerate(given_columns, 1):
        windows.push(column)
        for pool, hops in zip(windows.pools(), windows.hops, strict=True):
            assert_same(pool, naive(given_columns[max(0, count - hops) : count], hop))


@given(columns)
def test_the_whole_equals_the_naive_pool_of_all_columns(given_columns: list[Column]) -> None:
    whole = Whole(HOP)
    for column in given_columns:
        whole.push(column)
    assert_same(whole.pool(), naive(given_columns, HOP))


@given(columns, columns)
def test_nothing_is_left_after_a_reset(before: list[Column], after: list[Column]) -> None:
    used, fresh = Windows((3.0, 10.0), HOP), Windows((3.0, 10.0), HOP)
    for column in before:
        used.push(column)
    used.reset()
    for column in after:
        used.push(column)
        fresh.push(column)
    assert used.pools() == fresh.pools()


@pytest.mark.parametrize(
    ("seconds", "hops"), [(3.0, 9), (3.04, 10), (4.0, 12), (5.0, 16), (7.5, 23), (9.9, 31), (10.0, 31)]
)
def test_a_length_is_rounded_to_the_nearest_hop(seconds: float, hops: int) -> None:
    assert Windows((seconds,), HOP).hops == (hops,)


def test_an_empty_window_holds_nothing() -> None:
    assert Windows((3.0, 10.0), HOP).pools() == (EMPTY, EMPTY)
    assert Whole(HOP).pool() == EMPTY


def test_hops_without_speech_have_no_say_however_sure_they_are() -> None:
    windows = Windows((3.0,), HOP)
    windows.push(Column(1.0, 0.0, 0.5))
    windows.push(Column(-20.0, 6.0, 0.0))
    (pool,) = windows.pools()
    assert pool.raw == pytest.approx(1.0)
    assert pool.speech_seconds == pytest.approx(0.5 * HOP)


def test_attention_and_speech_weigh_the_logits() -> None:
    windows = Windows((3.0,), HOP)
    windows.push(Column(4.0, math.log(3.0), 1.0))
    windows.push(Column(-4.0, 0.0, 0.5))
    assert windows.pools()[0].raw == pytest.approx((3 * 4.0 - 0.5 * 4.0) / 3.5)


def test_many_hours_leave_no_rounding_error_behind() -> None:
    windows = Windows((3.0,), HOP)
    windows.push(Column(1e12, 6.0, 1.0))
    for _ in range(20_000):
        windows.push(Column(0.25, 0.0, 1.0))
    assert windows.pools()[0].raw == 0.25
