"""The ``streamdet`` command from its first moment on: signals are minded while the rest is still being loaded."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command; ``listen`` ends orderly even if it is told to before it hears anything."""
    if sys.argv[1:2] == ["listen"]:
        _mind_signals()
    from streamdet.cli import main as run  # noqa: PLC0415  takes a while

    run()


def _mind_signals() -> None:
    """Until the daemon takes over, stopping is leaving, and there is no older configuration to replace by reloading."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
