from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamdet.engine.state import SlotPool, StateSpec

SPECS = [StateSpec((2, 3), np.dtype(np.float32)), StateSpec((4,), np.dtype(np.uint8), 7.0)]


class AgainstDictionary(RuleBasedStateMachine):
    """The pool behaves as a dictionary from slot to state would."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = SlotPool(SPECS, capacity=2)
        self.model: dict[int, int] = {}
        self.stamp = 0

    @rule()
    def allocate(self) -> None:
        slot = self.pool.allocate()
        assert slot == min(set(range(len(self.model) + 1)) - self.model.keys())
        self.model[slot] = 0

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.model)))
        self.pool.release(slot)
        del self.model[slot]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.model)))
        self.pool.reset(slot)
        self.model[slot] = 0

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def store(self, data: st.DataObject) -> None:
        slots = data.draw(st.permutations(sorted(self.model)))[: data.draw(st.integers(1, 4))]
        stamps = np.arange(len(slots)) + self.stamp % 200 + 1
        self.stamp += len(slots)
        states = [np.multiply.outer(stamps, np.ones(spec.shape)).astype(spec.dtype) for spec in SPECS]
        self.pool.scatter(np.array(slots, np.intp), states)
        self.model.update(zip(slots, stamps.tolist(), strict=True))

    @invariant()
    def holds_what_was_stored(self) -> None:
        assert len(self.pool) == len(self.model)
        slots = np.array(sorted(self.model), np.intp)
        for spec, state in zip(SPECS, self.pool.gather(slots), strict=True):
            assert state.dtype == spec.dtype
            assert state.flags.c_contiguous
            for slot, row in zip(slots, state, strict=True):
                assert np.all(row == (self.model[slot] or spec.initial))


AgainstDictionary.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestSlotPool = AgainstDictionary.TestCase


def test_slots_not_in_use_are_refused() -> None:
    pool = SlotPool(SPECS)
    slot = pool.allocate()
    pool.release(slot)
    with pytest.raises(ValueError, match="not in use"):
        pool.release(slot)
    with pytest.raises(ValueError, match="not in use"):
        pool.reset(slot)
