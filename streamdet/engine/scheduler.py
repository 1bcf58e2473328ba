"""Whose turn it is: streams with a hop to score queue up, and each has its turn before any has a second one."""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar


class Member(Protocol):
    """Something that waits for its turn, in one queue at a time."""

    queued: bool


Waiting = TypeVar("Waiting", bound=Member)


class Turns(Generic[Waiting]):
    """A queue in which everybody stands once at most. The caller sees to it that one thread at a time is inside.

    A stream queues up when its next hop is complete, so the hop that waited longest is scored first. One that has more
    hops waiting queues up again at the end: under overload streams take turns, and none can starve.
    """

    def __init__(self) -> None:
        self._queue: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def first(self) -> Waiting | None:
        """Who is next."""
        return self._queue[0] if self._queue else None

    def offer(self, member: Waiting) -> None:
        """Queue up, unless it stands there already."""
        if not member.queued:
            member.queued = True
            self._queue.append(member)

    def take(self, most: int) -> list[Waiting]:
        """Let the first ``most`` out of the queue; they are distinct."""
        taken = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
        for member in taken:
            member.queued = False
        return taken
