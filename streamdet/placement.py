"""Which worker a stream belongs to."""

from __future__ import annotations

import threading


class Placement:
    """Gives each stream to the place that holds the fewest, and leaves it there while its name is known.

    A stream that ended and comes again goes where it was, so that one thread alone ever tells of a stream. For any
    thread; a stream that is open is looked up without a lock.
    """

    def __init__(self, places: int) -> None:
        self._loads = [0] * places
        self._open: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def loads(self) -> tuple[int, ...]:
        """Streams that each place holds now."""
        return tuple(self._loads)

    def home(self, name: str) -> int:
        """Find the place of a stream, or give it one."""
        place = self._open.get(name)
        return self._enter(name) if place is None else place

    def find(self, name: str) -> int | None:
        """Find the place of a stream that is open or ended not long ago; gives none to a stream that has none."""
        place = self._open.get(name)
        if place is None:
            with self._lock:
                place = self._open.get(name, self._ended.get(name))
        return place

    def leave(self, name: str) -> None:
        """Note that a stream has ended."""
        with self._lock:
            place = self._open.pop(name, None)
            if place is not None:
                self._loads[place] -= 1
                self._ended[name] = place

    def forget(self, name: str) -> None:
        """Forget where an ended stream was."""
        with self._lock:
            self._ended.pop(name, None)

    def _enter(self, name: str) -> int:
        with self._lock:
            place = self._open.get(name, self._ended.pop(name, None))
            if place is None:
                place = self._loads.index(min(self._loads))
            if name not in self._open:
                self._open[name] = place
                self._loads[place] += 1
            return place
