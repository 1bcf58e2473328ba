"""TensorRT plans: what they are made of, where they are kept, and how they are built.

Two libraries are understood, which share their API: TensorRT (``tensorrt``, from NVIDIA's index or JetPack) and
TensorRT for RTX (``tensorrt_rtx``, on PyPI). Networks are strongly typed, so that a plan's precision is that of the
model file: fp32, fp16, or int8 where the file holds symmetric QDQ pairs.

The state of all streams stays on the device: a plan is made of the :mod:`streamdet.engine.pooled` network, which takes
each state as a pool ``[capacity, ...]`` and the slots of the batch, and gives the pool back with their rows replaced,
into a second buffer that takes the first one's place at the next call.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamdet.engine.gpu import Gpu
from streamdet.engine.modelfile import ModelInfo
from streamdet.engine.pooled import pooled_network
from streamdet.errors import DependencyError, ModelError

LIBRARIES = ("tensorrt", "tensorrt_rtx")
LAYOUT = 1  # of the plans made here; another number is another plan
SMALLEST_POOL, USUAL_POOL, LARGEST_POOL = 2, 256, 16_384


@dataclass(frozen=True, slots=True)
class Library:
    """A TensorRT library that is installed."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Profile:
    """Least, usual and largest number of streams a call; plans are fastest at the usual one."""

    least: int
    usual: int
    most: int


def profiles(most: int) -> tuple[Profile, ...]:
    """Batches a plan is made for: one, a few, and up to ``most``, each with kernels of its own.

    Raises:
        ValueError: ``most`` is below 1.
    """
    if most < 1:
        raise ValueError("a batch holds one stream or more")
    edges = [1, *(size for size in (8, 64, 512) if size < most), most]
    steps = itertools.pairwise(edges)
    rest = tuple(Profile(low + 1, high, high) for low, high in steps if high > low)
    return (Profile(1, 1, 1), *rest)


def profile_for(batch: int, made: tuple[Profile, ...]) -> int:
    """Index of the profile that takes ``batch`` streams."""
    return next(index for index, profile in enumerate(made) if profile.least <= batch <= profile.most)


def find_tensorrt() -> Library | None:
    """Find the library to use, without starting it; None where there is none."""
    for name in LIBRARIES:
        if importlib.util.find_spec(name) is not None:
            return Library(name, _version(name))
    return None


def _version(name: str) -> str:
    """Version by the package's description, which needs no start of the library; else by the library itself."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(_started(name), "__version__", "unknown"))


def cache_folder() -> Path:
    """Where plans are kept: in the cache of a service if it has one, else in that of the user."""
    base = os.environ.get("CACHE_DIRECTORY", "").split(":")[0]
    if base:
        return Path(base) / "plans"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamdet" / "plans"


def plan_path(info: ModelInfo, gpu: Gpu, library: Library, cache: Path | None = None, most: int = 32) -> Path:
    """File of the plan of one model for one kind of GPU, library version and largest batch."""
    traits = (str(LAYOUT), info.digest, gpu.name, gpu.capability, library.name, library.version, str(most))
    key = hashlib.sha256("\n".join(traits).encode()).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", gpu.name).strip("-").lower()
    return (cache or cache_folder()) / f"{readable}-{library.name}-{library.version}-{key}.plan"


def build_plan(network: bytes, library: Library, most: int = 32, *, capability: str | None = None) -> bytes:
    """Build the plan of a float network; takes minutes with TensorRT, seconds with TensorRT for RTX.

    Args:
        network: the model file.
        library: what builds it.
        most: streams of the largest batch.
        capability: compute capability to build for, such as ``8.9``, with TensorRT for RTX also where no GPU is;
            that of the GPU that is there where absent.

    Raises:
        DependencyError: the library cannot be started.
        ModelError: it cannot make a plan of the network.
    """
    trt = _started(library.name)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    definition = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(definition, logger)
    if not parser.parse(pooled_network(network)):
        reasons = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise ModelError(f"{library.name} cannot read the network: {reasons}")
    config = builder.create_builder_config()
    if capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}"), 0)
    for profile in profiles(most):
        config.add_optimization_profile(_shapes(builder, definition, profile))
    plan = builder.build_serialized_network(definition, config)
    if plan is None:
        raise ModelError(f"{library.name} {library.version} cannot build a plan of the network")
    return bytes(plan)


def cached_plan(network: bytes, info: ModelInfo, gpu: Gpu, library: Library, *, most: int, cache: Path | None) -> Path:
    """Build the plan unless it is there, written in one piece; returns its file. Raises as :func:`build_plan`."""
    path = plan_path(info, gpu, library, cache, most)
    if not path.exists():
        plan = build_plan(network, library, most)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(plan)
        part.replace(path)
    return path


def _started(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise DependencyError(f"{name} is installed but cannot be started: {error}") from error


def _shapes(builder: Any, definition: Any, profile: Profile) -> Any:
    made = builder.create_optimization_profile()
    for index in range(definition.num_inputs):
        tensor = definition.get_input(index)
        rest = tuple(tensor.shape)[1:]
        pool = (SMALLEST_POOL, USUAL_POOL, LARGEST_POOL)
        least, usual, most = pool if tensor.name.startswith("pool_") else (profile.least, profile.usual, profile.most)
        made.set_shape(tensor.name, (least, *rest), (usual, *rest), (most, *rest))
    return made
