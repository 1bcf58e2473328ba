"""What travels from a source to the pipeline: sound, what happened to the source, and the end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from streamdet.features.logmel import FloatArray

Phase = Literal["connecting", "live", "degraded", "recovering", "failed"]


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive mono samples of one stream.

    ``samples`` is float32 ``[n]`` in [-1, 1] at ``rate`` Hz. ``lost`` counts the samples (at ``rate``) that are
    missing right before this block; ``concealed`` says that the samples themselves stand in for lost ones.
    ``arrived`` is the monotonic time of the last sample, in seconds. ``drift`` says, where the source measures it, by
    how many millionths its samples come faster than ``rate`` promises; the resampler makes up for it.
    """

    stream: str
    samples: FloatArray
    rate: int
    lost: int = 0
    concealed: bool = False
    arrived: float = field(default_factory=time.monotonic)
    drift: float | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """A source's life cycle moved; ``detail`` carries counters such as overruns or packet loss."""

    stream: str
    phase: Phase
    reason: str
    detail: dict[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class End:
    """No more sound will come for this stream."""

    stream: str
    reason: str = "end of stream"


Item = Block | Status | End
