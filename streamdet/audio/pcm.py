"""Raw PCM to float samples and back, one channel out of many, and values that are no sound."""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np

from streamdet.errors import FormatError
from streamdet.features.logmel import FloatArray

PcmFormat = Literal["s16le", "s16be", "f32le"]
PCM_FORMATS: Final[tuple[PcmFormat, ...]] = get_args(PcmFormat)

# Full scale is 1. A float file on the integer scale (32768) still passes; its square must stay far from overflow.
LOUDEST: Final = 1e6

FULL_SCALE: Final = np.float32(1 / 32768)  # of 16 bits

SLOWEST_RATE: Final = 4000
FASTEST_RATE: Final = 768_000

_TYPES: Final[dict[PcmFormat, np.dtype[np.int16] | np.dtype[np.float32]]] = {
    "s16le": np.dtype("<i2"),
    "s16be": np.dtype(">i2"),
    "f32le": np.dtype("<f4"),
}


def sample_bytes(pcm_format: PcmFormat) -> int:
    """Bytes of one sample of one channel."""
    return _TYPES[pcm_format].itemsize


def check_rate(rate: int) -> int:
    """Return a sample rate in Hz that sound can have.

    Raises:
        FormatError: it is out of bounds.
    """
    if not SLOWEST_RATE <= rate <= FASTEST_RATE:
        raise FormatError(f"a sample rate of {rate} Hz is not between {SLOWEST_RATE} and {FASTEST_RATE}")
    return rate


def decode_pcm(data: bytes, *, pcm_format: PcmFormat, channels: int = 1) -> FloatArray:
    """Turn interleaved PCM into float32 ``[n, channels]``; 16 bits are scaled to [-1, 1).

    Raises:
        FormatError: the data do not hold whole frames.
    """
    frame = sample_bytes(pcm_format) * channels
    if len(data) % frame:
        raise FormatError(f"{len(data)} bytes of {pcm_format} are not whole frames of {channels} channel(s)")
    raw = np.frombuffer(data, _TYPES[pcm_format]).reshape(-1, channels)
    if pcm_format == "f32le":
        return raw.astype(np.float32)
    samples: FloatArray = np.multiply(raw, FULL_SCALE, dtype=np.float32)
    return samples


def encode_pcm(samples: FloatArray, *, pcm_format: PcmFormat) -> bytes:
    """Turn float32 samples into interleaved PCM; 16 bits are rounded and clipped."""
    if pcm_format == "f32le":
        return bytes(samples.astype("<f4"))
    scaled = np.clip(np.rint(samples * np.float32(32768)), -32768, 32767)
    return bytes(scaled.astype(_TYPES[pcm_format]))


def to_mono(samples: FloatArray, *, channel: int | None = None) -> FloatArray:
    """Reduce float32 ``[n, channels]`` to ``[n]``: the mean of all channels, or one channel counted from 0.

    Raises:
        FormatError: there is no such channel.
    """
    count = samples.shape[1]
    if channel is not None and channel >= count:
        raise FormatError(f"channel {channel} was asked for, but there are only {count} (they count from 0)")
    if count == 1 or channel is not None:
        return np.ascontiguousarray(samples[:, channel or 0])
    mono = samples[:, 0] + samples[:, 1]  # NumPy's mean over so short an axis takes twenty times as long
    for other in range(2, count):
        mono += samples[:, other]
    mono /= np.float32(count)
    return mono


def clean(samples: FloatArray) -> tuple[FloatArray, int]:
    """Replace what is no sound (NaN, infinity, beyond :data:`LOUDEST`) by 0 and count it; of any shape."""
    if samples.size == 0 or np.abs(samples).max() <= LOUDEST:  # a NaN makes the comparison false
        return samples, 0
    bad = ~(np.abs(samples) <= LOUDEST)
    return np.where(bad, np.float32(0), samples), int(bad.sum())
