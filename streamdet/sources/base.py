"""What every source is: a name and a generator of blocks; and what it may count."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

from streamdet.audio.block import Item


class Source(Protocol):
    """A place sound comes from; one file of this package implements one kind.

    ``live`` tells whether the source sets its own pace, so that sound nobody reads is lost.
    """

    @property
    def uri(self) -> str:
        """The address the source was made from, with secrets masked."""
        ...

    @property
    def name(self) -> str:
        """Name of the stream, or the prefix of the streams, that it yields."""
        ...

    @property
    def live(self) -> bool:
        """True where the sender sets the pace."""
        ...

    def items(self, stop: threading.Event) -> Iterator[Item]:
        """Yield sound and status until the end or until ``stop`` is set, looking at ``stop`` every 0.5 s or sooner.

        Trouble that can pass (a sender gone, a damaged packet) is a :class:`Status`, never an exception.

        Raises:
            SourceError: the source cannot be started at all; the text says what to do.
        """
        ...


@runtime_checkable
class Counted(Protocol):
    """What a source may offer beside :class:`Source`: numbers about its streams, for metrics."""

    def counters(self) -> Mapping[str, Mapping[str, float]]:
        """Count what happened to each stream that is open, by name of the stream, then of the counter.

        The source's own name holds what no stream owns and what all streams together received. May be called from any
        thread at any time; must not block. A name says what is counted and its unit (``lost``, ``jitter_ms``).
        """
        ...


@runtime_checkable
class Unhurried(Protocol):
    """What a live source may offer beside :class:`Source`: to take sound in when it is wanted, not as it trickles in.

    To wake up for every 20 ms of sound costs more than to score it, where streams are few.
    """

    def expect(self, seconds: float) -> None:
        """Hear, on the source's own thread after each block, how much sound the next hop still wants."""
        ...
