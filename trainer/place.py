"""Where a run computes: device, precision, and the other processes that share its batches.

One process on a CPU or a GPU; several single-thread processes on a CPU, which :func:`trainer.fit.fit` starts; or the
processes that ``torchrun`` started, one a GPU. Processes average gradients with torch's own DistributedDataParallel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.data.batches import Batch
from trainer.data.errors import DataError

Amp = Literal["auto", "off", "bf16", "fp16"]
Device = Literal["auto", "cpu", "cuda"]
TYPES = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Place:
    """One process among ``processes``; ``half`` is the type of mixed precision, None for float32 throughout."""

    device: torch.device
    half: torch.dtype | None = None
    rank: int = 0
    processes: int = 1

    def autocast(self) -> torch.autocast:
        """Context in which a network computes in mixed precision."""
        return torch.autocast(self.device.type, self.half or torch.bfloat16, enabled=self.half is not None)

    def tensors(self, batch: Batch) -> tuple[Tensor, ...]:
        """Features, mask, labels, and a teacher's targets and verdicts of a batch on the device."""
        parts = (batch.features, batch.mask, batch.labels, batch.targets, batch.verdicts)
        return tuple(torch.from_numpy(part).to(self.device, non_blocking=True) for part in parts)

    def parallel(self, network: nn.Module, *, compiled: bool) -> nn.Module:
        """Wrap ``network`` for training: gradients are averaged over the processes, and the code is compiled."""
        wrapped = network
        if self.processes > 1:
            devices = [self.device] if self.device.type == "cuda" else None
            wrapped = DistributedDataParallel(network, device_ids=devices)
        return cast(nn.Module, torch.compile(wrapped)) if compiled else wrapped

    def agree(self, *numbers: float) -> list[float]:
        """Return in all processes what rank 0 says."""
        if self.processes == 1:
            return list(numbers)
        said = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.broadcast(said, 0)
        return [float(number) for number in said.cpu()]


def launched() -> bool:
    """Whether ``torchrun`` (or another launcher that speaks its language) started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def choose_device(wish: Device) -> torch.device:
    """Device that ``wish`` means here; under a launcher each process has its own GPU.

    Raises:
        DataError: a GPU is wanted where torch sees none.
    """
    if wish == "cuda" and not torch.cuda.is_available():
        raise DataError("torch sees no GPU here; choose another device, or install a build of torch for your GPU")
    if wish == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) if launched() else 0)


def choose_half(amp: Amp, device: torch.device) -> torch.dtype | None:
    """Type of mixed precision: ``auto`` is bfloat16 wherever the device has it, float16 on older GPUs.

    Raises:
        DataError: float16 is wanted on a CPU, where its gradients cannot be scaled.
    """
    if amp == "fp16" and device.type == "cpu":
        raise DataError("mixed precision in float16 needs a GPU; choose bf16")
    if amp != "auto":
        return TYPES[amp]
    if device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16


@contextmanager
def joined(amp: Amp, wish: Device, rank: int, processes: int, meeting: str | None) -> Iterator[Place]:
    """Join the group of ``processes`` that meet at the URL ``meeting`` (None: as the launcher says) for a while."""
    device = choose_device(wish)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
    if processes > 1:
        backend = "nccl" if device.type == "cuda" else "gloo"
        where: dict[str, Any] = {"init_method": meeting, "rank": rank, "world_size": processes} if meeting else {}
        dist.init_process_group(backend, **where)
    try:
        yield Place(device, choose_half(amp, device), rank, processes)
        if processes > 1:
            dist.barrier()  # who leaves early takes down the connections of those that still wait for its last word
    finally:
        if processes > 1:
            dist.destroy_process_group()
