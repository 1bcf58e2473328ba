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
    why_not = _why_not(info, gpu)
    if isinstance(gpu, str) or why_not:
        on_gpu = [Option(name, possible=False, reason=why_not) for name in ("tensorrt", *PROVIDERS)]
    else:
        on_gpu = [_tensorrt(info, gpu, batch, cache), *(_provider(name, gpu) for name in PROVIDERS)]
    return [*on_gpu, Option("onnx-cpu", possible=True, reason=f"ONNX Runtime {onnxruntime.__version__}")]


def choose(wanted: EngineName, options: Sequence[Option]) -> Option:
    """Take the engine that is wanted, or with ``auto`` the fastest that is ready.

    Raises:
        DependencyError: the wanted one cannot be used here; the text says why.
    """
    if wanted == "auto":
        chosen = next(option for option in options if option.possible and option.ready)
        passed = dict.fromkeys(option.reason for option in options[: list(options).index(chosen)])
        return Option(chosen.name, possible=True, reason="; ".join(passed) or chosen.reason)
    option = next(option for option in options if option.name == wanted)
    if not option.possible:
        raise DependencyError(f"engine {wanted} cannot be used: {option.reason}")
    return Option(option.name, possible=True, reason="as configured", ready=option.ready)


def _provider(name: str, gpu: Gpu) -> Option:
    if PROVIDERS[name] not in onnxruntime.get_available_providers():
        hint = "pip install onnxruntime-gpu in place of onnxruntime"
        return Option(name, possible=False, reason=f"this ONNX Runtime has no {PROVIDERS[name]}: {hint}")
    if name == "onnx-tensorrt":
        return Option(name, possible=True, reason="builds at every start; it has to be asked for by name", ready=False)
    return Option(name, possible=True, reason=f"ONNX Runtime {onnxruntime.__version__} on {gpu.name}")


def _tensorrt(info: ModelInfo, gpu: Gpu, batch: int, cache: Path | None) -> Option:
    library = find_tensorrt()
    if library is None:
        hint = "pip install 'streamdet[gpu]', or the tensorrt package of NVIDIA or JetPack"
        return Option("tensorrt", possible=False, reason=f"neither tensorrt nor tensorrt_rtx is installed: {hint}")
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        return Option("tensorrt", possible=False, reason="cuda-python is not installed: pip install 'streamdet[gpu]'")
    if not plan_path(info, gpu, library, cache, batch).exists():
        return Option("tensorrt", possible=True, reason="no plan is built yet: streamdet engine build", ready=False)
    return Option("tensorrt", possible=True, reason=f"{library.name} {library.version} on {gpu.name}")


def _why_not(info: ModelInfo, gpu: Gpu | str) -> str:
    """Say why no GPU can be used, whatever is installed."""
    if info.precision not in FLOATING:
        hint = "a GPU needs one of `trainer export --precision fp16`, fp32 or qdq"
        return f"the model is {info.precision}, made for processors; {hint}"
    return gpu if isinstance(gpu, str) else ""
