"""Which worker a stream belongs to."""

from __future__ import annotations

import threading


class Placement:
    """Gives each stream to the place that holds the fewest, and leaves it there while its name is known.

    A stream that ended and comes again goes where it was, so that one thread alone ever tells of a stream. A name of
    which only states are told, such as the port of many streams, has a place too, but is no load until its sound comes.
    For any thread; a stream that is open is looked up without a lock.
    """

    def __init__(self, places: int) -> None:
        self._loads = [0] * places
        self._silent_loads = [0] * places  # decide between places that hold equally many streams
        self._open: dict[str, int] = {}
        self._silent: dict[str, int] = {}  # names without sound until now
        self._ended: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def loads(self) -> tuple[int, ...]:
        """Streams with sound that each place holds now."""
        return tuple(self._loads)

    def home(self, name: str) -> int:
        """Find the place of a stream that has sound, or give it one."""
        place = self._open.get(name)
        return self._enter(name) if place is None else place

    def reserve(self, name: str) -> int:
        """Find the place of a name, or give it one where its sound will go if ever any comes; no load until then."""
        place = self._open.get(name)
        if place is None:
            with self._lock:
                place = self._known(name)
                if place is None:
                    place = self._silent[name] = self._emptiest()
                    self._silent_loads[place] += 1
        return place

    def find(self, name: str) -> int | None:
        """Find the place of a name that is open or ended not long ago; gives none to a name that has none."""
        place = self._open.get(name)
        if place is None:
            with self._lock:
                place = self._known(name)
        return place

    def leave(self, name: str) -> None:
        """Note that a stream has ended."""
        with self._lock:
            place = self._open.pop(name, None)
            if place is not None:
                self._loads[place] -= 1
            else:
                place = self._leave_silent(name)
            if place is not None:
                self._ended[name] = place

    def forget(self, name: str) -> None:
        """Forget where an ended stream was."""
        with self._lock:
            self._ended.pop(name, None)

    def _enter(self, name: str) -> int:
        with self._lock:
            place = self._known(name)
            if place is None:
                place = self._emptiest()
            if name not in self._open:
                self._leave_silent(name)
                self._ended.pop(name, None)
                self._open[name] = place
                self._loads[place] += 1
            return place

    def _known(self, name: str) -> int | None:
        places = (held.get(name) for held in (self._open, self._silent, self._ended))
        return next((place for place in places if place is not None), None)

    def _leave_silent(self, name: str) -> int | None:
        place = self._silent.pop(name, None)
        if place is not None:
            self._silent_loads[place] -= 1
        return place

    def _emptiest(self) -> int:
        return min(range(len(self._loads)), key=lambda place: (self._loads[place], self._silent_loads[place]))
