"""Shortcut features: what differs between files and has nothing to do with how speech was made."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from trainer.data.audio import refuse_no_sound
from trainer.data.errors import DataError

Array = npt.NDArray[np.float64]
NAMES: dict[str, str] = {
    "leading_silence": "seconds before the first frame within 40 dB of the loudest",
    "trailing_silence": "seconds after the last frame within 40 dB of the loudest",
    "pause_share": "share of frames 40 dB below the loudest",
    "seconds": "duration",
    "loudness": "level of the frames that are not pauses, dBFS",
    "peak": "largest sample, dBFS",
    "noise_floor": "level of the quietest tenth of the frames, dBFS",
    "dynamics": "90th against 10th percentile of frame levels, dB",
    "dc": "mean of the samples, dB against their level",
    "clipping": "share of samples at the largest value of the file, in runs of two and more",
    "zeros": "share of samples that are digital zero",
    "bits": "bits that the samples use",
    "rate": "sample rate of the file, Hz",
    "codec": "container and coding of the file, by its name's place in the alphabet",
    "band_limit": "frequency below which the spectrum stays within 50 dB of its peak, Hz",
    "upper_band": "energy above 6 kHz against all, dB",
    "low_band": "energy below 80 Hz against all, dB",
    "tilt": "slope of the spectrum from 200 Hz to 6 kHz, dB an octave",
}
FLOOR = -120.0  # dB, given for nothing at all
SIZE = 1024


def decode(path: Path) -> tuple[Array, int, str]:
    """Read samples as they are in the file (mono, not resampled), its sample rate, and its format.

    Raises:
        DataError: the file cannot be decoded, is empty, or holds values that are no sound.
    """
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            kind = f"{file.format}/{file.subtype}"
            samples, rate = file.read(dtype="float64", always_2d=True), int(file.samplerate)
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(f"{path}: {error}") from error
    refuse_no_sound(path, samples)
    return samples.mean(axis=1), rate, kind


def measure(samples: Array, rate: int) -> dict[str, float]:
    """All features of one clip but ``codec``, which only means something beside others."""
    return {**_time(samples, rate), **_samples(samples), **_spectrum(samples, rate), "rate": float(rate)}


def table(rows: list[dict[str, float]], kinds: list[str]) -> Array:
    """Matrix of clips by features, in the order of ``NAMES``."""
    place = {kind: float(i) for i, kind in enumerate(sorted(set(kinds)))}
    return np.array([[{**row, "codec": place[kind]}[n] for n in NAMES] for row, kind in zip(rows, kinds, strict=True)])


def _db(power: Array | float) -> Array:
    return np.asarray(10.0 * np.log10(np.maximum(power, 10.0 ** (FLOOR / 10.0))))


def _time(samples: Array, rate: int) -> dict[str, float]:
    hop = max(1, rate // 100)
    frames = samples[: len(samples) // hop * hop].reshape(-1, hop) if len(samples) >= hop else samples[None, :]
    level = _db((frames**2).mean(axis=1))
    loud = level > level.max() - 40.0
    heard = np.flatnonzero(loud)
    return {
        "leading_silence": heard[0] / 100.0,
        "trailing_silence": (len(loud) - 1 - heard[-1]) / 100.0,
        "pause_share": float(1.0 - loud.mean()),
        "seconds": len(samples) / rate,
        "loudness": float(_db(float((frames[loud] ** 2).mean()))),
        "noise_floor": float(np.quantile(level, 0.1)),
        "dynamics": float(np.quantile(level, 0.9) - np.quantile(level, 0.1)),
    }


def _samples(samples: Array) -> dict[str, float]:
    size = np.abs(samples)
    top = size >= size.max() - 1e-9
    runs = top[1:] & top[:-1] if size.max() > 0.0 else np.zeros(1, bool)
    return {
        "peak": float(_db(float(size.max() ** 2))),
        "dc": float(_db(float(samples.mean() ** 2)) - _db(float((samples**2).mean()))),
        "clipping": float(runs.mean()) if len(runs) else 0.0,
        "zeros": float((size == 0.0).mean()),
        "bits": _bits(samples),
    }


def _bits(samples: Array) -> float:
    """Fewest bits that hold all samples exactly; 24 and a fraction for what does not fit, such as decoded MP3."""
    whole = samples * 2.0**23
    if np.abs(whole - np.round(whole)).max() > 1e-6:
        return 25.0
    used = int(np.bitwise_or.reduce(np.abs(np.round(whole)).astype(np.int64)))
    return float(24 - ((used & -used).bit_length() - 1)) if used else 0.0


def _spectrum(samples: Array, rate: int) -> dict[str, float]:
    padded = np.pad(samples, (0, max(0, SIZE - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, SIZE)[:: SIZE // 2]
    power = (np.abs(np.fft.rfft(frames * np.hanning(SIZE), axis=1)) ** 2).mean(axis=0)
    frequency = np.asarray(np.fft.rfftfreq(SIZE, 1.0 / rate), np.float64)
    smooth = _db(np.convolve(power, np.ones(5) / 5.0, "same"))
    within = np.flatnonzero(smooth > smooth.max() - 50.0)
    return {
        "band_limit": float(frequency[within[-1]]),
        "upper_band": _share(power, frequency > 6_000.0),
        "low_band": _share(power, (frequency < 80.0) & (frequency > 0.0)),
        "tilt": _tilt(power, frequency),
    }


def _share(power: Array, where: npt.NDArray[np.bool_]) -> float:
    return float(_db(float(power[where].sum() / max(power.sum(), 1e-30))))


def _tilt(power: Array, frequency: Array) -> float:
    use = (frequency >= 200.0) & (frequency <= 6_000.0)
    slope = np.polyfit(np.log2(frequency[use]), _db(power[use]), 1)[0]
    return float(slope)
