"""Which engines this machine can run a model with, why not the others, and which one is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import onnxruntime

from streamdet.engine.gpu import Gpu, find_gpu
from streamdet.engine.modelfile import ModelInfo
from streamdet.engine.plans import find_tensorrt, plan_path
from streamdet.errors import DependencyError

EngineName = Literal["auto", "onnx-cpu", "onnx-cuda", "onnx-tensorrt", "tensorrt"]
FASTEST_FIRST = ("tensorrt", "onnx-tensorrt", "onnx-cuda", "onnx-cpu")
PROVIDERS = {"onnx-tensorrt": "TensorrtExecutionProvider", "onnx-cuda": "CUDAExecutionProvider"}
FLOATING = ("fp32", "fp16", "qdq")  # precisions that a GPU runs; the integer graph is made for processors


@dataclass(frozen=True, slots=True)
class Option:
    """One engine: whether it can be used here with the model in question, and why, or why not.

    ``ready`` is false where it can be used, but something has to be built first, which takes minutes.
    """

    name: str
    possible: bool
    reason: str
    ready: bool = True


def find_options(info: ModelInfo, *, batch: int = 32, cache: Path | None = None) -> list[Option]:
    """Look at every engine, the fastest first; ``cache`` is the folder of plans, built for up to ``batch`` streams."""
    gpu = find_gpu()
    return [_tensorrt(info, gpu, batch, cache), *(_provider(name, info, gpu) for name in PROVIDERS), _processor()]


def choose(wanted: EngineName, options: Sequence[Option]) -> Option:
    """Take the engine that is wanted, or with ``auto`` the fastest that is ready.

    Raises:
        DependencyError: the wanted one cannot be used here; the text says why.
    """
    if wanted == "auto":
        chosen = next(option for option in options if option.possible and option.ready)
        passed = [f"{option.name}: {option.reason}" for option in options[: list(options).index(chosen)]]
        return Option(chosen.name, possible=True, reason="; ".join(passed) or chosen.reason)
    option = next(option for option in options if option.name == wanted)
    if not option.possible:
        raise DependencyError(f"engine {wanted} cannot be used: {option.reason}")
    return Option(option.name, possible=True, reason="as configured", ready=option.ready)


def _processor() -> Option:
    return Option("onnx-cpu", possible=True, reason=f"ONNX Runtime {onnxruntime.__version__}")


def _provider(name: str, info: ModelInfo, gpu: Gpu | str) -> Option:
    if PROVIDERS[name] not in onnxruntime.get_available_providers():
        hint = "pip install onnxruntime-gpu in place of onnxruntime"
        return Option(name, possible=False, reason=f"this ONNX Runtime has no {PROVIDERS[name]}: {hint}")
    option = _with_gpu(name, info, gpu, f"ONNX Runtime {onnxruntime.__version__}")
    if name == "onnx-tensorrt" and option.possible:
        return Option(name, possible=True, reason="builds at every start; it has to be asked for by name", ready=False)
    return option


def _tensorrt(info: ModelInfo, gpu: Gpu | str, batch: int, cache: Path | None) -> Option:
    library = find_tensorrt()
    if library is None:
        hint = "pip install 'streamdet[gpu]', or the tensorrt package of NVIDIA or JetPack"
        return Option("tensorrt", possible=False, reason=f"neither tensorrt nor tensorrt_rtx is installed: {hint}")
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        return Option("tensorrt", possible=False, reason="cuda-python is not installed: pip install 'streamdet[gpu]'")
    option = _with_gpu("tensorrt", info, gpu, f"{library.name} {library.version}")
    if not option.possible or isinstance(gpu, str) or plan_path(info, gpu, library, cache, batch).exists():
        return option
    return Option("tensorrt", possible=True, reason="no plan is built yet: streamdet engine build", ready=False)


def _with_gpu(name: str, info: ModelInfo, gpu: Gpu | str, reason: str) -> Option:
    if isinstance(gpu, str):
        return Option(name, possible=False, reason=gpu)
    if info.precision not in FLOATING:
        hint = "a GPU needs one of `trainer export --precision fp16`, fp32 or qdq"
        return Option(name, possible=False, reason=f"the model is {info.precision}, made for processors; {hint}")
    return Option(name, possible=True, reason=f"{reason} on {gpu.name}")
