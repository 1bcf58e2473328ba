"""Where a turn's sound comes from: a recording, or one of the engines below."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from streamdet.features.logmel import FloatArray
from trainer.demo.join import RATE, to_rate, trim
from trainer.demo.packages import Packages
from trainer.demo.recipe import Clip, Turn

PART_PAUSE = np.zeros(RATE * 2 // 5, dtype=np.float32)


def sound(turn: Turn, packages: Packages, *, fargan: Path | None = None) -> FloatArray:
    """Return the turn's samples, float32 mono at 16 kHz, at the level its engine gives.

    ``fargan`` is Opus' ``fargan_demo`` program; only turns by that engine need it.

    Raises:
        ValueError: the engine is unknown, or needs a program that was not given.
    """
    if turn.engine == "recording":
        return recording(turn, packages)
    if turn.engine == "fargan":
        if fargan is None:
            raise ValueError(f"turn {turn.name} needs --fargan, the fargan_demo program of Opus 1.6 or newer")
        return _fargan(recording(turn, packages), fargan)
    if turn.engine not in SPEAKERS:
        raise ValueError(f"turn {turn.name} names an unknown engine, {turn.engine}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "turn.wav"
        SPEAKERS[turn.engine](turn, path)
        return to_rate(*soundfile.read(path, dtype="float32"))


def recording(turn: Turn, packages: Packages) -> FloatArray:
    """Lay the turn's clips one after another, a short pause between any two excerpts."""
    parts = [part for clip in turn.clips for part in _parts(clip, packages)]
    spaced = [piece for part in parts for piece in (part, PART_PAUSE)]
    return np.concatenate(spaced[:-1])


def _parts(clip: Clip, packages: Packages) -> list[FloatArray]:
    samples = _read(packages.path(clip.package, clip.path))
    spans = clip.parts or ((0.0, len(samples) / RATE),)
    return [trim(samples[round(begin * RATE) : round(end * RATE)]) for begin, end in spans]


def _read(path: Path) -> FloatArray:
    if path.suffix == ".gsm":
        return to_rate(
            *soundfile.read(path, dtype="float32", format="RAW", subtype="GSM610", samplerate=8000, channels=1)
        )
    return to_rate(*soundfile.read(path, dtype="float32"))


def _espeak(turn: Turn, path: Path) -> None:
    subprocess.run(["espeak-ng", "-v", turn.voice, "-s", "155", "-w", str(path), turn.text], check=True)


def _flite(turn: Turn, path: Path) -> None:
    subprocess.run(["flite", "-voice", turn.voice, "-t", turn.text, "-o", str(path)], check=True)


def _festival(turn: Turn, path: Path) -> None:
    command = ["text2wave", "-eval", f"(voice_{turn.voice})", "-o", str(path)]
    subprocess.run(command, input=turn.text.encode(), check=True)


def _fargan(samples: FloatArray, program: Path) -> FloatArray:
    """Resynthesise speech from 20 features a 10 ms frame (Valin et al., "Very Low Complexity Speech Synthesis ...")."""
    with tempfile.TemporaryDirectory() as folder:
        pcm, features, out = (str(Path(folder) / name) for name in ("in.pcm", "features.f32", "out.pcm"))
        (np.clip(samples, -1, 1) * 32767).astype("<i2").tofile(pcm)
        subprocess.run([program, "-features", pcm, features], check=True)
        subprocess.run([program, "-fargan-synthesis", features, out], check=True)
        return np.asarray(np.fromfile(out, dtype="<i2") / 32768, dtype=np.float32)


SPEAKERS: dict[str, Callable[[Turn, Path], None]] = {
    "espeak-ng": _espeak,
    "flite": _flite,
    "festival": _festival,
}
