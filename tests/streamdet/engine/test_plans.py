"""What a plan is made of, checked on the processor; plans and parity where TensorRT and a GPU are."""

import importlib.util
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdet.bundled import bundled_model
from streamdet.engine.choice import PROVIDERS
from streamdet.engine.device import Device
from streamdet.engine.gpu import Gpu, find_gpu
from streamdet.engine.modelfile import read_model
from streamdet.engine.onnx import OnnxEngine
from streamdet.engine.plans import build_plan, find_tensorrt, profile_for, profiles
from streamdet.engine.pooled import pooled_network
from streamdet.engine.runtime import load_session
from streamdet.engine.tensorrt import TensorRTEngine, padded
from streamdet.errors import DependencyError, ModelError
from trainer.export import ExportReport

GPU = find_gpu()
CAPACITY = 6


@given(st.integers(1, 8192))
def test_profiles_cover_every_batch_once(most: int) -> None:
    made = profiles(most)
    assert made[0].least == 1
    assert made[-1].most == most
    assert all(after.least == before.most + 1 for before, after in pairwise(made))
    assert all(profile.least <= profile.usual <= profile.most for profile in made)
    for batch in {1, most, (most + 1) // 2}:
        chosen = made[profile_for(batch, made)]
        assert chosen.least <= batch <= chosen.most


@given(st.integers(1, 8192), st.integers(1, 8192))
def test_batches_are_filled_up_to_few_sizes(count: int, most: int) -> None:
    size = padded(min(count, most), most)
    assert min(count, most) <= size <= most
    assert size == most or size.bit_count() == 1


def test_no_batch_has_no_profiles() -> None:
    with pytest.raises(ValueError, match="one stream or more"):
        profiles(0)


class Pools:
    """Runs a pooled network in ONNX Runtime as the TensorRT engine runs a plan."""

    def __init__(self, network: bytes) -> None:
        self.session = load_session(network)
        types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        pools = self.session.get_inputs()[2:]
        self.pools = {p.name: np.zeros((CAPACITY, *p.shape[1:]), types[p.type]) for p in pools}

    def step(self, slots: np.ndarray, features: np.ndarray) -> np.ndarray:
        feeds = {"features": features, "slots": slots.astype(np.int32), **self.pools}
        column, *kept = self.session.run(None, feeds)
        self.pools = dict(zip(self.pools, kept, strict=True))
        return column


@pytest.mark.parametrize("precision", ["fp32", "fp16", "qdq"])
def test_pools_inside_the_network_are_the_slots_outside(gpu_models: dict[str, ExportReport], precision: str) -> None:
    """Streams that come in any company and order score as they do with their states gathered outside."""
    path = gpu_models[precision].path
    inside, outside = Pools(pooled_network(path.read_bytes())), OnnxEngine(path)
    for _ in range(CAPACITY):
        outside.allocate()
    rng = np.random.default_rng(3)
    for members in ([0, 1, 2], [4, 2, 0], [3], [5, 4, 3, 2, 1, 0], [1, 5]):
        slots = np.array(members, np.intp)
        features = rng.random((len(members), 32, 64), np.float32)
        np.testing.assert_allclose(inside.step(slots, features), outside.step(slots, features), rtol=1e-4, atol=1e-4)


def test_rows_that_fill_up_a_batch_touch_nobody(gpu_models: dict[str, ExportReport]) -> None:
    path = gpu_models["fp32"].path
    network = pooled_network(path.read_bytes())
    padded_up, plain = Pools(network), Pools(network)
    rng = np.random.default_rng(4)
    for _ in range(3):
        features = rng.random((3, 32, 64), np.float32)
        full = np.concatenate((features, np.zeros((1, 32, 64), np.float32)))
        columns = padded_up.step(np.array([0, 1, 2, CAPACITY - 1]), full)[:3]
        np.testing.assert_allclose(columns, plain.step(np.array([0, 1, 2]), features), rtol=1e-5, atol=1e-5)


def test_another_network_is_refused_before_a_library_sees_it() -> None:
    assert read_model(bundled_model("edge"))[1].precision == "int8"
    with pytest.raises(ModelError, match="not those of streamdet"):
        pooled_network((Path(str(bundled_model("edge"))).parent / "silero-vad-streams.onnx").read_bytes())


def test_half_precision_drifts_little_and_is_half_the_size(gpu_models: dict[str, ExportReport]) -> None:
    assert gpu_models["fp16"].drift["none"].column < 2.0
    assert gpu_models["fp16"].size < 0.6 * gpu_models["fp32"].size
    assert gpu_models["qdq"].size < 0.4 * gpu_models["fp32"].size
    assert {report.info.precision for report in gpu_models.values()} == {"fp32", "fp16", "qdq"}


@pytest.mark.skipif(isinstance(GPU, Gpu), reason="there is a GPU here")
def test_without_a_gpu_the_engine_says_so(gpu_models: dict[str, ExportReport]) -> None:
    with pytest.raises(DependencyError, match="engine tensorrt cannot be used: no NVIDIA driver"):
        TensorRTEngine(gpu_models["fp16"].path)


@pytest.mark.skipif(importlib.util.find_spec("cuda") is not None, reason="cuda-python is installed")
def test_without_cuda_python_the_device_says_what_to_install() -> None:
    with pytest.raises(DependencyError, match=r"pip install 'streamdet\[gpu\]'"):
        Device()


@pytest.mark.skipif(find_tensorrt() is None, reason="neither tensorrt nor tensorrt_rtx is installed")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "qdq"])
def test_a_plan_can_be_built_of_every_float_model(gpu_models: dict[str, ExportReport], precision: str) -> None:
    library = find_tensorrt()
    assert library is not None
    if isinstance(GPU, str) and library.name != "tensorrt_rtx":
        pytest.skip(f"only TensorRT for RTX builds without a GPU; here: {GPU}")
    plan = build_plan(
        gpu_models[precision].path.read_bytes(), library, 64, capability="8.9" if isinstance(GPU, str) else None
    )
    assert len(plan) > 100_000


@pytest.fixture
def on_gpu(
    gpu_models: dict[str, ExportReport], request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[TensorRTEngine]:
    if isinstance(GPU, str):
        pytest.skip(GPU)
    if find_tensorrt() is None:
        pytest.skip("neither tensorrt nor tensorrt_rtx is installed")
    engine = TensorRTEngine(gpu_models[request.param].path, max_batch=8, cache=tmp_path)
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("on_gpu", "tolerance"), [("fp32", 0.02), ("fp16", 0.05), ("qdq", 0.1)], indirect=["on_gpu"], ids=str
)
def test_parity_with_the_processor(
    on_gpu: TensorRTEngine, gpu_models: dict[str, ExportReport], tolerance: float
) -> None:
    """Same columns as ONNX Runtime on the processor, in share of their spread; in any company, through growth."""
    cpu = OnnxEngine(gpu_models[on_gpu.info.precision].path)
    slots = np.array([on_gpu.allocate() for _ in range(70)], np.intp)
    for _ in slots:
        cpu.allocate()
    rng, there, here = np.random.default_rng(5), [], []
    for turn in range(12):
        members = rng.permutation(slots)[: 1 + 6 * turn]
        features = rng.random((len(members), 32, 64), np.float32)
        there.append(on_gpu.step(members, features))
        here.append(cpu.step(members, features))
        if turn == 6:
            on_gpu.reset(3)
            cpu.reset(3)
    gpu_columns, cpu_columns = np.concatenate(there), np.concatenate(here)
    error = np.sqrt(np.mean(np.square(gpu_columns - cpu_columns), axis=0))
    assert (error < tolerance * cpu_columns.std(axis=0) + 1e-3).all()


@pytest.mark.parametrize("name", ["onnx-cuda", "onnx-tensorrt"])
def test_parity_of_the_providers(gpu_models: dict[str, ExportReport], name: str) -> None:
    if isinstance(GPU, str):
        pytest.skip(GPU)
    if PROVIDERS[name] not in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has no {PROVIDERS[name]}")
    path = gpu_models["fp32"].path
    there, here = OnnxEngine(path, name=name), OnnxEngine(path)
    slots = np.array([there.allocate() for _ in range(4)], np.intp)
    for _ in slots:
        here.allocate()
    rng = np.random.default_rng(6)
    for _ in range(5):
        features = rng.random((4, 32, 64), np.float32)
        np.testing.assert_allclose(there.step(slots, features), here.step(slots, features), rtol=0.02, atol=0.02)
