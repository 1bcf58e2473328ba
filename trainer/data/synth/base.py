"""What a maker of synthetic speech is."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile

from streamdet.features.logmel import FloatArray
from trainer.data.errors import DataError

RATE = 16_000
TIMEOUT = 60.0  # seconds that a program may take for one clip
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Made:
    """One synthetic clip: float32 mono ``samples`` at ``rate``, and what made it in which language and how."""

    samples: FloatArray
    rate: int
    system: str
    language: str = ""
    settings: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tools:
    """Programs and files that a user names: FARGAN's demo program, vocoders in ONNX."""

    fargan: Path | None = None
    vocoders: tuple[Path, ...] = ()


class Sentences:
    """Sentences by language, the project's own or those of a file of lines ``LANGUAGE<tab>SENTENCE``.

    Raises:
        DataError: the file cannot be read or is empty, or a line is not of this form.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    @cached_property
    def by_language(self) -> dict[str, list[str]]:
        """All sentences."""
        found: dict[str, list[str]] = {}
        for number, line in enumerate(self._text().splitlines(), start=1):
            language, tab, sentence = line.partition("\t")
            if not (tab and language and sentence.strip()):
                raise DataError(f"{self._path}:{number}: write LANGUAGE, a tab and a sentence")
            found.setdefault(language, []).append(sentence.strip())
        if not found:
            raise DataError(f"{self._path}: no sentences; write lines of LANGUAGE, a tab and a sentence")
        return found

    def _text(self) -> str:
        try:
            if self._path is not None:
                return self._path.read_text(encoding="utf-8")
            return (resources.files("trainer.data.synth") / "sentences.tsv").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self._path}: {error}") from error

    def draw(self, language: str, rng: Rng) -> str:
        """One to three sentences of a language.

        Raises:
            DataError: there is none.
        """
        known = self.by_language.get(language)
        if not known:
            raise DataError(f"no sentence in {language!r}; give a file of sentences that has some")
        count = min(len(known), int(rng.integers(1, 4)))
        return " ".join(known[i] for i in rng.choice(len(known), count, replace=False))


class Copier(Protocol):
    """Makes a synthetic copy of a human clip: same words, same speaker, other waveform."""

    name: str
    family: str
    licence: str
    default: bool

    def missing(self) -> str:
        """Say what has to be installed or given; empty where all is there."""
        ...

    def copy(self, samples: FloatArray, rng: Rng) -> Made:
        """Resynthesise ``samples``, float32 mono at 16 kHz."""
        ...


class Speaker(Protocol):
    """Reads sentences with voices of its own."""

    name: str
    family: str
    licence: str
    default: bool

    def missing(self) -> str:
        """Say what has to be installed; empty where all is there."""
        ...

    def speak(self, sentences: Sentences, rng: Rng, scratch: Path) -> Made:
        """Read a few sentences; ``scratch`` is an empty folder."""
        ...


Maker = Copier | Speaker


def copies(maker: Maker) -> bool:
    """Whether a maker needs human clips."""
    return hasattr(maker, "copy")


def execute(command: Sequence[str | Path], text: bytes | None = None) -> bytes:
    """Run a program to its end and return its output.

    Raises:
        DataError: it fails or takes longer than a minute.
    """
    try:
        done = subprocess.run(command, input=text, capture_output=True, timeout=TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        raise DataError(f"{command[0]}: {error} {said.decode(errors='replace').strip()[-200:]}".strip()) from error
    return done.stdout


def wave(path: Path) -> tuple[FloatArray, int]:
    """Read what a program wrote, as float32 mono and its rate.

    Raises:
        DataError: the file is missing or no audio.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(f"the program wrote no audio: {error}") from error
    return samples.mean(axis=1), rate


def pick(rng: Rng, choices: Sequence[str]) -> str:
    """Choose one of ``choices``."""
    return choices[int(rng.integers(len(choices)))]
