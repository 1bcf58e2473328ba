"""Which engine is taken, and what is said of the others."""

import dataclasses
import json
from pathlib import Path

import pytest

from streamdet.bundled import bundled_model
from streamdet.engine import choice, gpu, plans
from streamdet.engine.choice import FASTEST_FIRST, Option, choose, find_options
from streamdet.engine.gpu import Gpu, find_gpu
from streamdet.engine.modelfile import ModelInfo, read_model
from streamdet.engine.plans import Library, plan_path
from streamdet.errors import DependencyError
from tests.streamdet.conftest import Run

ADA = Gpu("NVIDIA L4", "8.9", "12.8")
RTX = Library("tensorrt_rtx", "1.7.1")
HALF = ModelInfo("half", "2026", 0.5, "fp16", digest="ab" * 32)


def options(**possible: bool) -> list[Option]:
    return [
        Option(name, possible.get(name.replace("-", "_"), name == "onnx-cpu"), f"why {name}") for name in FASTEST_FIRST
    ]


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the probes would say on a machine with a GPU, TensorRT for RTX and ONNX Runtime for GPUs."""
    monkeypatch.setattr(choice, "find_gpu", lambda: ADA)
    monkeypatch.setattr(choice, "find_tensorrt", lambda: RTX)
    monkeypatch.setattr(choice, "find_spec", lambda name: name)
    monkeypatch.setattr(choice.onnxruntime, "get_available_providers", lambda: list(choice.PROVIDERS.values()))


def test_auto_takes_the_fastest_and_says_why_not_the_faster_ones() -> None:
    assert choose("auto", options(onnx_cuda=True, tensorrt=True)).name == "tensorrt"
    taken = choose("auto", options(onnx_cuda=True))
    assert taken.name == "onnx-cuda"
    assert taken.reason == "why tensorrt; why onnx-tensorrt"


def test_auto_never_builds_for_minutes_but_a_configured_engine_may() -> None:
    first = Option("tensorrt", possible=True, reason="no plan yet", ready=False)
    assert choose("auto", [first, *options()[1:]]).name == "onnx-cpu"
    assert choose("tensorrt", [first, *options()[1:]]).name == "tensorrt"


def test_an_engine_that_is_wanted_and_impossible_is_an_error_with_the_reason() -> None:
    with pytest.raises(DependencyError, match="engine onnx-cuda cannot be used: why onnx-cuda"):
        choose("onnx-cuda", options())


def test_without_a_gpu_the_processor_is_taken_and_each_engine_says_what_is_missing() -> None:
    if isinstance(find_gpu(), Gpu):
        pytest.skip("there is a GPU here")
    found = find_options(HALF)
    assert [option.name for option in found] == list(FASTEST_FIRST)
    assert [option.possible for option in found] == [False, False, False, True]
    assert choose("auto", found).name == "onnx-cpu"
    assert choose("auto", found).reason == find_gpu()


def test_a_model_for_processors_stays_on_the_processor(with_gpu: None) -> None:
    found = find_options(read_model(bundled_model("edge"))[1])
    assert choose("auto", found).name == "onnx-cpu"
    assert all("trainer export --precision fp16" in option.reason for option in found[:3])


def test_with_a_gpu_a_plan_that_is_built_comes_first(with_gpu: None, tmp_path: Path) -> None:
    found = find_options(HALF, cache=tmp_path)
    assert [option.possible for option in found] == [True, True, True, True]
    assert "streamdet engine build" in found[0].reason
    assert choose("auto", found).name == "onnx-cuda"
    assert choose("onnx-tensorrt", found).name == "onnx-tensorrt"
    plan_path(HALF, ADA, RTX, tmp_path).write_bytes(b"plan")
    assert choose("auto", find_options(HALF, cache=tmp_path)).name == "tensorrt"
    assert choose("auto", find_options(HALF, batch=512, cache=tmp_path)).name == "onnx-cuda"


def test_each_missing_thing_is_named(with_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    assert "cuda-python is not installed" in find_options(HALF)[0].reason
    monkeypatch.setattr(choice, "find_tensorrt", lambda: None)
    assert "neither tensorrt nor tensorrt_rtx is installed" in find_options(HALF)[0].reason
    monkeypatch.setattr(choice.onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    found = {option.name: option for option in find_options(HALF)}
    assert found["onnx-cuda"].possible
    assert "no TensorrtExecutionProvider" in found["onnx-tensorrt"].reason
    monkeypatch.setattr(choice, "find_gpu", lambda: "no NVIDIA driver")
    assert {option.reason for option in find_options(HALF)[:3]} == {"no NVIDIA driver"}


@pytest.mark.parametrize("library", ["libnot-there.so.9", "libm.so.6"])
def test_a_missing_driver_is_a_reason(library: str) -> None:
    if library == "libm.so.6":
        with pytest.raises(AttributeError):  # a library that is there and no driver is no NVIDIA machine's
            find_gpu(library)
        return
    assert find_gpu(library) == f"no NVIDIA driver ({library} is not there)"


@pytest.mark.parametrize(
    "changed",
    [
        {"info": dataclasses.replace(HALF, digest="cd" * 32)},
        {"gpu": dataclasses.replace(ADA, name="NVIDIA L40")},
        {"gpu": dataclasses.replace(ADA, capability="9.0")},
        {"library": Library("tensorrt_rtx", "1.8")},
        {"library": Library("tensorrt", "1.7.1")},
        {"most": 64},
    ],
)
def test_a_plan_is_kept_for_one_model_gpu_version_and_batch(changed: dict, tmp_path: Path) -> None:
    usual = {"info": HALF, "gpu": ADA, "library": RTX, "cache": tmp_path, "most": 32}
    assert plan_path(**usual) == plan_path(**usual)
    assert plan_path(**usual | changed) != plan_path(**usual)
    same_key = dataclasses.replace(ADA, driver="13.0")  # a new driver needs no new plan
    assert plan_path(**usual | {"gpu": same_key}) == plan_path(**usual)
    assert plan_path(**usual).name.startswith("nvidia-l4-tensorrt_rtx-1.7.1-")


def test_plans_lie_in_the_cache_of_the_service_or_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/streamdet:/other")
    assert plans.cache_folder() == Path("/var/cache/streamdet/plans")
    monkeypatch.delenv("CACHE_DIRECTORY")
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/somebody/.cache")
    assert plans.cache_folder() == Path("/home/somebody/.cache/streamdet/plans")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert plans.cache_folder() == Path.home() / ".cache" / "streamdet" / "plans"


def test_the_command_lists_engines_for_people_and_machines(run: Run) -> None:
    listed = json.loads(run("engine", "list", "--json").stdout)
    assert [entry["name"] for entry in listed["engines"]] == list(FASTEST_FIRST)
    assert [entry["taken"] for entry in listed["engines"]].count(True) == 1
    assert "onnx-cpu" in run("engine", "list").stdout


def test_forcing_an_engine_that_is_not_there_is_one_line(run: Run) -> None:
    if isinstance(gpu.find_gpu(), Gpu):
        pytest.skip("there is a GPU here")
    done = run("listen", "--demo", "--engine", "tensorrt")
    assert done.returncode == DependencyError.exit_code
    assert "engine tensorrt cannot be used: " in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert run("listen", "--demo", "--engine", "abacus").returncode == 2
