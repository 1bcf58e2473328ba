"""What a hop looked like from inside, for what needs more than the events say: evidence, a live picture."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from streamdet.decide.alarm import Transition
from streamdet.decide.judge import JudgeConfig, Judgement
from streamdet.decide.window import Column
from streamdet.events import Alert, Evidence
from streamdet.features.logmel import FloatArray, FrontEndConfig
from streamdet.voice import Hop


@dataclass(frozen=True, slots=True)
class Heard:
    """One hop of one stream with everything that was made of it; arrays are shared, so nobody may write to them.

    ``features`` are float32 ``[hop_frames, mels]``, the bands as the network saw them, of by ``front_end``; None where
    the whole hop was lost, or skipped under overload (its samples are there all the same). ``judged`` is how its stream
    is judged at this hop: the same object until a reload changes it.
    """

    stream: str
    hop: Hop
    features: FloatArray | None
    column: Column
    judgement: Judgement
    judged: JudgeConfig
    front_end: FrontEndConfig
    restarted: bool = False  # everything before it was forgotten, after a long gap


Tap = Callable[[Heard], None]
"""Called on the scoring thread for each hop: it must return at once and hand longer work to a thread of its own.

Where several workers score, calls come from all of their threads, but never two at a time."""


@dataclass(frozen=True, slots=True)
class KeeperFigures:
    """What became of the recordings of alerts."""

    recorded: int = 0  # alerts in the chain
    failed: int = 0  # writes that the disk refused
    late: int = 0  # whose alert was told to be over before they were complete
    waiting: int = 0  # hops that wait to be written
    broken: bool = False  # nothing can be written now


class Keeper(Protocol):
    """Keeps a recording of every alert; called on the scoring thread of the stream, so it must return at once.

    Where several workers score, calls come from all of their threads, and at the same time.
    """

    def follow(self, alert: Alert) -> None:
        """Hear that an alert was raised, or goes on; its hop was shown to the taps before."""
        ...

    def complete(self, stream: str, step: Transition, time: str) -> Future[Evidence | None]:
        """Finish the recording of an alert that is over; ``time`` is when the end of its audio arrived (UTC).

        The event that says so is held back until the future is done, though not for long; None where nothing is kept.
        """
        ...

    def leave(self, stream: str) -> None:
        """Hear that a stream has ended; one of the same name may follow."""
        ...
