"""The TensorRT engine's bookkeeping, on a GPU made of host memory; the real one is in ``test_plans``."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from streamdet.engine import tensorrt
from streamdet.engine.gpu import Gpu
from streamdet.engine.onnx import OnnxEngine
from streamdet.engine.plans import Library
from streamdet.engine.pooled import pooled_network
from streamdet.engine.tensorrt import FIRST_CAPACITY, TensorRTEngine
from streamdet.errors import StreamdetError
from trainer.export import ExportReport

from .host_gpu import HostContext, HostDevice, HostLibrary, HostPlan

Make = Callable[..., TensorRTEngine]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    def load(library: Library, path: Path) -> tuple[type, HostPlan, HostContext]:
        plan = HostPlan(path.read_bytes())
        return HostLibrary, plan, HostContext(plan)

    def cached(network: bytes, *_: object, **__: object) -> Path:
        path = tmp_path / "pooled.onnx"
        path.write_bytes(pooled_network(network))
        return path

    monkeypatch.setattr(tensorrt, "find_gpu", lambda: Gpu("host", "0.0", "0.0"))
    monkeypatch.setattr(tensorrt, "find_tensorrt", lambda: Library("host", "1"))
    monkeypatch.setattr(tensorrt, "cached_plan", cached)
    monkeypatch.setattr(tensorrt, "Device", HostDevice)
    monkeypatch.setattr(tensorrt, "_loaded", load)
    return TensorRTEngine


def compare(engine: TensorRTEngine, cpu: OnnxEngine, rng: np.random.Generator, members: list[int]) -> None:
    slots = np.array(members, np.intp)
    features = rng.random((len(members), 32, 64), np.float32)
    np.testing.assert_allclose(engine.step(slots, features), cpu.step(slots, features), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_streams_keep_their_state_in_any_company(
    make: Make, gpu_models: dict[str, ExportReport], precision: str
) -> None:
    """Sizes come often enough for their graphs to be recorded and replayed on both sides of the buffers."""
    path = gpu_models[precision].path
    engine, cpu = make(path, max_batch=4), OnnxEngine(path)
    for _ in range(6):
        assert engine.allocate() == cpu.allocate()
    rng = np.random.default_rng(1)
    for _ in range(5):
        for members in ([0, 1, 2], [5], [3, 4], [0, 5, 2, 1, 4, 3], [4, 0, 2]):
            compare(engine, cpu, rng, members)
    assert engine._device.replayed > 10
    engine.close()


def test_a_slot_that_is_reset_or_given_out_again_starts_anew(make: Make, gpu_models: dict[str, ExportReport]) -> None:
    path = gpu_models["fp32"].path
    engine, cpu = make(path, max_batch=4), OnnxEngine(path)
    slots = [engine.allocate() for _ in range(3)]
    assert slots == [cpu.allocate() for _ in range(3)]
    rng = np.random.default_rng(2)
    compare(engine, cpu, rng, slots)
    for each in (engine, cpu):
        each.reset(1)
    compare(engine, cpu, rng, slots)
    for each in (engine, cpu):
        each.release(2)
        assert each.allocate() == 2
    compare(engine, cpu, rng, slots)
    with pytest.raises(ValueError, match="not in use"):
        engine.reset(9)
    engine.close()


def test_more_streams_than_fit_move_to_larger_buffers_with_their_state(
    make: Make, gpu_models: dict[str, ExportReport]
) -> None:
    path = gpu_models["fp32"].path
    engine, cpu = make(path, max_batch=32), OnnxEngine(path)
    rng, slots = np.random.default_rng(3), list[int]()
    for _ in range(FIRST_CAPACITY + 10):
        slots.append(engine.allocate())
        assert cpu.allocate() == slots[-1]
        if len(slots) in {20, FIRST_CAPACITY - 1, FIRST_CAPACITY}:
            compare(engine, cpu, rng, slots)
    for _ in range(4):
        compare(engine, cpu, rng, slots)
    assert engine._context.profiles == [2]
    engine.close()


def test_a_batch_that_cannot_be_recorded_runs_as_it_is(
    make: Make, gpu_models: dict[str, ExportReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: HostDevice, work: Callable[[], None]) -> int:
        raise StreamdetError("cudaStreamBeginCapture failed")

    monkeypatch.setattr(HostDevice, "record", fail)
    path = gpu_models["fp32"].path
    engine, cpu = make(path, max_batch=4), OnnxEngine(path)
    slots = [engine.allocate(), engine.allocate()]
    assert slots == [cpu.allocate(), cpu.allocate()]
    rng = np.random.default_rng(4)
    for _ in range(6):
        compare(engine, cpu, rng, slots)
    assert engine._device.replayed == 0
    engine.close()
