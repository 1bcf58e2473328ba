"""``streamdet reload``: asks a running ``listen`` to read its configuration anew."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from streamdet.errors import ConfigError

PROC = Path("/proc")


def run_reload(pid: int | None, pidfile: Path | None) -> None:
    """Send SIGHUP to the process of that number, of that file, or to the only ``streamdet listen`` there is.

    Raises:
        ConfigError: there is none, there are several, or it is no ``streamdet listen``.
    """
    found = _number(pidfile) if pidfile is not None else pid if pid is not None else _only()
    if not _listens(found):
        # The signal would end any program that does not expect it.
        raise ConfigError(f"process {found} is no `streamdet listen --config`: nothing was sent")
    try:
        os.kill(found, signal.SIGHUP)
    except PermissionError as error:
        raise ConfigError(f"process {found} belongs to another user: try `systemctl reload streamdet`") from error
    print(f"asked process {found} to reload; its log and `streamdet events` say what came of it")


def _number(path: Path) -> int:
    try:
        return int(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the number of a process from {path}: {error}") from error


def _only() -> int:
    found = list(_all())
    if len(found) == 1:
        return found[0]
    which = f"several run: {', '.join(map(str, found))}" if found else "none runs here"
    raise ConfigError(f"give the PID of a `streamdet listen --config`: {which}")


def _all() -> Iterator[int]:
    for folder in PROC.iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid() and _listens(int(folder.name)):
            yield int(folder.name)


def _listens(pid: int) -> bool:
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    program = words[: words.index("listen")] if "listen" in words else []
    # Not what started it (timeout, sudo, a shell), whose command line holds the same words.
    runs = Path(words[0]).name.startswith(("python", "streamdet")) and any("streamdet" in word for word in program)
    return runs and any(word in ("-c", "--config") or word.startswith("--config=") for word in words)
