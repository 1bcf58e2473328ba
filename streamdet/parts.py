"""What ``listen`` runs beside sources and scoring: event store, evidence, metrics, live page. One protocol for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from streamdet.audio.ring import Span
from streamdet.config import Config
from streamdet.engine.modelfile import ModelInfo
from streamdet.events import Health, StatePhase
from streamdet.sinks.base import Sink
from streamdet.sinks.queue import QueueSink
from streamdet.store.gate import Gate
from streamdet.tap import Keeper, KeeperFigures, Tap


class Inside(Protocol):
    """What a part may look at and ask for while the daemon runs; every method may be called from any thread."""

    @property
    def model(self) -> ModelInfo:
        """What the model file that scores says of itself."""
        ...

    @property
    def config(self) -> Config:
        """The configuration that runs now; another object after each reload."""
        ...

    @property
    def queues(self) -> Sequence[QueueSink]:
        """The queue before each sink, with its counters."""
        ...

    @property
    def store(self) -> Gate | None:
        """The event store, with its counters; None where none is kept."""
        ...

    @property
    def evidence(self) -> KeepsEvidence | None:
        """The part that keeps recordings of alerts; None where none are kept."""
        ...

    def tell(self, phase: StatePhase, reason: str, detail: dict[str, float | int | str] | None = None) -> None:
        """Publish a state event of the daemon itself: something works worse than it should, or well again."""
        ...

    def health(self) -> Health:
        """How the daemon fares now; its ``seq`` is the one of the last health event."""
        ...

    def sources(self) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
        """Counters of those sources that count, by source, then by stream, then by counter; see ``sources/base.py``."""
        ...

    def source_of(self, stream: str) -> str | None:
        """Address of the source that a stream comes from, with secrets masked; None where it is long over."""
        ...

    def sound(self, stream: str, start: int, stop: int) -> Span | None:
        """Copy samples ``[start, stop)`` of a stream's clock as far as its ring holds them; None where it is over."""
        ...


@runtime_checkable
class NeedsSound(Protocol):
    """A part that asks for sound of the past; others need not have this."""

    @property
    def sound_seconds(self) -> float:
        """How far back it asks; each stream keeps so much, where the configuration does not say how much."""
        ...


@runtime_checkable
class KeepsEvidence(Protocol):
    """A part that keeps recordings of alerts; one at most has this."""

    @property
    def keeper(self) -> Keeper:
        """What scoring tells of alerts."""
        ...

    def figures(self) -> KeeperFigures:
        """Count what became of the recordings; from any thread."""
        ...


class Part(Protocol):
    """Something that ``listen`` runs beside scoring; :func:`streamdet.assembly.make_parts` lists them all."""

    @property
    def name(self) -> str:
        """Short name for logs."""
        ...

    def sinks(self) -> Sequence[Sink]:
        """List the sinks through which the part hears events; each gets a queue and a thread of its own."""
        ...

    def taps(self) -> Sequence[Tap]:
        """List what is shown every hop on the scoring thread."""
        ...

    def start(self, inside: Inside) -> None:
        """Begin, before the first hop is scored.

        Raises:
            StreamdetError: it cannot run; nothing is left running and ``listen`` ends.
        """
        ...

    def close(self) -> None:
        """Stop, after the last event has been passed on; called once, also where ``start`` was not."""
        ...
