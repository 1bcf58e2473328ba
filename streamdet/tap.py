"""What a hop looked like from inside, for what needs more than the events say: evidence, a live picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from streamdet.decide.judge import Judgement
from streamdet.decide.window import Column
from streamdet.features.logmel import FloatArray
from streamdet.voice import Hop


@dataclass(frozen=True, slots=True)
class Heard:
    """One hop of one stream with everything that was made of it; arrays are shared, so nobody may write to them.

    ``features`` are float32 ``[hop_frames, mels]`` as the network saw them, None where the whole hop was lost, or
    skipped under overload (its samples are there all the same).
    """

    stream: str
    hop: Hop
    features: FloatArray | None
    column: Column
    judgement: Judgement


Tap = Callable[[Heard], None]
"""Called on the scoring thread for each hop: it must return at once and hand longer work to a thread of its own.

Where several workers score, calls come from all of their threads, but never two at a time."""
