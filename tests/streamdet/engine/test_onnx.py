from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import psutil
import pytest

from streamdet.engine.onnx import OnnxEngine
from streamdet.features.logmel import FloatArray
from trainer.export import ExportReport

STREAMS, HOPS = 12, 7


@pytest.fixture(scope="module", params=["fp32", "int8"])
def make(request: pytest.FixtureRequest, exported: dict[str, ExportReport]) -> Callable[..., OnnxEngine]:
    path = exported[request.param].path
    return lambda **options: OnnxEngine(path, **options)


@pytest.fixture(scope="module")
def tolerance(make: Callable[..., OnnxEngine]) -> float:
    """Integers do not depend on the order of summation; floats do a little."""
    return 0.0 if make().info.precision == "int8" else 2e-5


@pytest.fixture(scope="module")
def features(clips: list[FloatArray]) -> FloatArray:
    return np.stack([clip[: HOPS * 32].reshape(HOPS, 32, 64) for clip in clips])


def alone(engine: OnnxEngine, hops: FloatArray) -> FloatArray:
    """Columns ``[hops, 2]`` of one stream in a slot of its own."""
    slot = np.array([engine.allocate()])
    columns = np.concatenate([engine.step(slot, hop[None]) for hop in hops])
    engine.release(int(slot[0]))
    return columns


@pytest.fixture(scope="module")
def singles(make: Callable[..., OnnxEngine], features: FloatArray) -> FloatArray:
    engine = make()
    return np.stack([alone(engine, hops) for hops in features])


@pytest.mark.parametrize("max_batch", [32, 8, 5, 1])
def test_a_batch_equals_single_streams(
    make: Callable[..., OnnxEngine], features: FloatArray, singles: FloatArray, tolerance: float, max_batch: int
) -> None:
    engine = make(max_batch=max_batch)
    slots = np.array([engine.allocate() for _ in range(STREAMS)])
    together = np.stack([engine.step(slots, features[:, hop]) for hop in range(HOPS)], axis=1)
    np.testing.assert_allclose(together, singles, rtol=tolerance, atol=tolerance)


def test_any_grouping_and_order_of_streams_gives_the_same(
    make: Callable[..., OnnxEngine], features: FloatArray, singles: FloatArray, tolerance: float
) -> None:
    rng = np.random.default_rng(0)
    engine = make()
    slots = np.array([engine.allocate() for _ in range(STREAMS)])
    done = np.zeros(STREAMS, int)
    columns = np.empty_like(singles)
    while (done < HOPS).any():
        ready = np.flatnonzero(done < HOPS)
        chosen = rng.permutation(ready)[: rng.integers(1, len(ready) + 1)]
        columns[chosen, done[chosen]] = engine.step(slots[chosen], features[chosen, done[chosen]])
        done[chosen] += 1
    np.testing.assert_allclose(columns, singles, rtol=tolerance, atol=tolerance)


def test_a_reset_concerns_one_slot_only(
    make: Callable[..., OnnxEngine], features: FloatArray, singles: FloatArray, tolerance: float
) -> None:
    engine = make()
    slots = np.array([engine.allocate() for _ in range(2)])
    for hop in range(3):
        engine.step(slots, features[:2, hop])
    engine.reset(int(slots[0]))
    mixed = np.stack((features[0, :3], features[1, 3:6]))
    after = np.stack([engine.step(slots, mixed[:, hop]) for hop in range(3)], axis=1)
    np.testing.assert_allclose(after[0], singles[0, :3], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(after[1], singles[1, 3:6], rtol=tolerance, atol=tolerance)
    assert not np.allclose(singles[0, :3], singles[0, 3:6]), "the past must matter for this test to mean anything"


def test_a_released_slot_comes_back_fresh(
    make: Callable[..., OnnxEngine], features: FloatArray, singles: FloatArray
) -> None:
    engine = make()
    assert engine.allocate() == 0
    engine.step(np.array([0]), features[3, :1])
    engine.release(0)
    assert engine.allocate() == 0
    engine.release(0)
    np.testing.assert_array_equal(alone(engine, features[0]), singles[0])


def test_more_slots_than_at_first_leave_states_alone(
    make: Callable[..., OnnxEngine], features: FloatArray, singles: FloatArray
) -> None:
    engine = make()
    slot = np.array([engine.allocate()])
    first = engine.step(slot, features[0, :1])
    others = [engine.allocate() for _ in range(40)]
    second = engine.step(slot, features[0, 1:2])
    assert len({*others, 0}) == 41
    np.testing.assert_array_equal(np.concatenate((first, second)), singles[0, :2])


def test_no_streams_is_no_work(make: Callable[..., OnnxEngine]) -> None:
    columns = make().step(np.empty(0, np.intp), np.empty((0, 32, 64), np.float32))
    assert columns.shape == (0, 2)


def test_one_thread_that_does_not_spin(make: Callable[..., OnnxEngine], features: FloatArray) -> None:
    process = psutil.Process()
    before = process.num_threads()
    engine = make()
    slots = np.array([engine.allocate() for _ in range(STREAMS)])
    engine.step(slots, features[:, 0])
    assert process.num_threads() == before
    begun = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - begun < 0.1


def test_the_engine_needs_neither_torch_nor_onnx(exported: dict[str, ExportReport]) -> None:
    code = (
        "import sys\nfrom streamdet.engine.onnx import OnnxEngine\n"
        f"OnnxEngine({str(exported['int8'].path)!r})\n"
        "print({'torch', 'onnx', 'trainer'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
