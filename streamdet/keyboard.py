"""Single keys from a terminal, without waiting for Enter."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from typing import Final, Self

NAMES: Final = {  # the longer ones first: they begin alike
    b"\x1b[A": "up", b"\x1b[B": "down", b"\x1bOA": "up", b"\x1bOB": "down",
    b"\r": "enter", b"\n": "enter", b"\x1b": "escape",
}  # fmt: skip


class Keyboard:
    """Reads keys while the block lasts; gives the terminal back as it was, also after an error."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = sys.stdin.fileno() if descriptor is None else descriptor
        self._held = b""  # what was typed and not yet asked for

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def key(self) -> str | None:
        """Return the key that was pressed, None where there was none; never waits."""
        if select.select([self._descriptor], [], [], 0)[0]:
            self._held += os.read(self._descriptor, 64)
        if not self._held:
            return None
        found = next((name for name in NAMES if self._held.startswith(name)), self._held[:1])
        self._held = self._held[len(found) :]
        return NAMES.get(found, found.decode(errors="replace").lower())
