"""The first moments of the command, before the daemon minds signals itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

INTERRUPTED = """
import importlib.abc, os, signal, sys

class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "streamdet.cli":
            for number in {numbers}:
                os.kill(os.getpid(), number)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["streamdet", {command!r}, "--help"]
from streamdet.__main__ import main
main()
"""


def told(command: str, numbers: str) -> tuple[int, str, str]:
    code = INTERRUPTED.format(numbers=numbers, command=command)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("number", ["signal.SIGTERM", "signal.SIGINT"])
def test_listen_told_to_stop_while_it_loads_leaves_in_peace(number: str) -> None:
    assert told("listen", f"[{number}]") == (0, "", "")


def test_listen_told_to_reload_while_it_loads_goes_on() -> None:
    code, out, err = told("listen", "[signal.SIGHUP]")
    assert (code, err) == (0, "")
    assert "--config" in out


def test_other_commands_end_with_their_terminal() -> None:
    assert told("scan", "[signal.SIGHUP]")[0] == -1
