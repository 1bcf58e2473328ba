"""Who speaks when: draws the turns of spliced streams. Every draw depends on the seed alone, none on the label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from trainer.data.errors import DataError
from trainer.data.manifest import Clip

SHORTEST, LONGEST = 2.0, 15.0  # seconds of a turn
STREAM = 180.0  # seconds of a stream
USES = 6.0  # a clip is heard at most about so often in human-only streams, each time in another stream and channel
PAUSE = 0.5  # seconds between turns, on the mean
LEAST = 0.7  # seconds; clips shorter than this are left out

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Line:
    """One turn to be spliced: clips of one source (and family, if synthetic) in a row, cut at ``seconds``."""

    label: int  # 1: synthetic
    source: str
    family: str
    clips: tuple[Clip, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Script:
    """One stream to be spliced; ``mixed`` tells whether synthetic turns occur, ``seed`` draws gaps and channel."""

    name: str
    mixed: bool
    lines: tuple[Line, ...]
    seed: int

    @property
    def seconds(self) -> float:
        """Length the stream will have, roughly."""
        return sum(line.seconds + PAUSE for line in self.lines)


class Deck:
    """Clips of one voice, dealt in random order; none comes again before all have been dealt."""

    def __init__(self, clips: Sequence[Clip], lengths: Sequence[float], rng: Rng) -> None:
        self.seconds = float(sum(lengths))
        self._cards = list(zip(clips, lengths, strict=True))
        self._rng = rng
        self._order: list[int] = []

    def deal(self, room: float = LONGEST) -> Line:
        """Draw a turn of random length, ``room`` seconds at most; no clip occurs twice in it."""
        wanted = float(self._rng.uniform(SHORTEST, max(SHORTEST, min(LONGEST, room, self.seconds))))
        dealt: list[int] = []
        held = 0.0
        while held < wanted and len(dealt) < len(self._cards):
            card = self._next(dealt)
            dealt.append(card)
            held += self._cards[card][1]
        clips = tuple(self._cards[card][0] for card in dealt)
        return Line(clips[0].label, clips[0].source, clips[0].family, clips, min(wanted, held))

    def _next(self, dealt: Sequence[int]) -> int:
        for place, card in enumerate(self._order):
            if card not in dealt:
                return self._order.pop(place)
        self._order += self._rng.permutation(len(self._cards)).tolist()
        return self._next(dealt)


def clip_seconds(path: Path) -> float:
    """Length of a sound file in seconds.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return float(soundfile.info(path).duration)
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(f"{path}: {error}") from error


def decks(clips: Sequence[Clip], label: int, rng: Rng) -> list[Deck]:
    """One deck for each source of human speech, or for each family at each source of synthetic speech."""
    voices: dict[tuple[str, str], list[tuple[Clip, float]]] = {}
    for clip in clips:
        if clip.label == label and (seconds := clip_seconds(clip.path)) >= LEAST:
            voices.setdefault((clip.source, clip.family), []).append((clip, seconds))
    long_enough = [cards for cards in voices.values() if sum(seconds for _, seconds in cards) >= SHORTEST]
    return [Deck([c for c, _ in cards], [s for _, s in cards], rng) for cards in long_enough]


def scripts(clips: Sequence[Clip], *, human_hours: float, mixed_hours: float, seed: int) -> list[Script]:
    """Draw human-only streams of one source each, and mixed streams of all sources.

    A source (of human speech) or family at a source (of synthetic speech) is heard in proportion to the square root
    of what there is of it, as in the other figures of the trainer.

    Raises:
        DataError: one class has no turn of two seconds, or a clip cannot be read.
    """
    rng = np.random.default_rng(seed)
    human, synthetic = decks(clips, 0, rng), decks(clips, 1, rng)
    if not human or not synthetic:
        raise DataError("stream-eval needs human and synthetic clips, with 2 seconds or more of a source")
    return [*_human_only(human, human_hours, rng), *_mixed(human, synthetic, mixed_hours, rng)]


def shares(voices: Sequence[Deck]) -> list[float]:
    """Share of each deck in what is heard."""
    roots = np.sqrt([deck.seconds for deck in voices])
    return [float(root) for root in roots / roots.sum()]


def _human_only(human: Sequence[Deck], hours: float, rng: Rng) -> list[Script]:
    result = []
    for deck, share in zip(human, shares(human), strict=True):
        seconds = min(share * hours * 3600.0, USES * deck.seconds)
        for number in range(max(1, round(seconds / STREAM))):
            lines = _fill([deck], [1.0], min(STREAM, seconds), rng)
            name = f"human/{lines[0].source}/{number}"
            result.append(Script(name, mixed=False, lines=tuple(lines), seed=int(rng.integers(2**31))))
    return result


def _mixed(human: Sequence[Deck], synthetic: Sequence[Deck], hours: float, rng: Rng) -> list[Script]:
    result = []
    for number in range(round(hours * 3600.0 / STREAM)):
        real = _fill(human, shares(human), STREAM / 2.0, rng)
        fake = _fill(synthetic, shares(synthetic), STREAM / 2.0, rng)
        lines = [line for pair in zip(real, fake, strict=False) for line in pair]
        # The last word is human, so that each alert has its chance to clear.
        lines += real[len(lines) // 2 :][:1] or _fill(human, shares(human), LONGEST, rng)[:1]
        result.append(Script(f"mixed/{number}", mixed=True, lines=tuple(lines), seed=int(rng.integers(2**31))))
    return result


def _fill(voices: Sequence[Deck], odds: Sequence[float], seconds: float, rng: Rng) -> list[Line]:
    lines: list[Line] = []
    held = 0.0
    while held < seconds - PAUSE - SHORTEST or not lines:
        line = voices[int(rng.choice(len(voices), p=odds))].deal(seconds - held)
        lines.append(line)
        held += line.seconds + PAUSE
    return lines
