"""The booted machine with streamdet installed in it, shared by the tests of this folder."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .machine import Machine, base_system, wheels_for, why_not

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """Boot, and install by the script that a person runs, from wheels and without a network."""
    if reason := why_not():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="streamdet-machine-") as name:
        folder = Path(name)
        python = next(path.name for path in (base_system() / "usr/bin").glob("python3.*[0-9]")).removeprefix("python")
        wheels_for(python, project=PROJECT, folder=folder / "wheels", pip=(sys.executable, "-m", "pip"))
        wheel = next((folder / "wheels").glob("streamdet-*.whl")).name
        binds = {folder / "wheels": "/wheels", PROJECT / "deploy": "/src/deploy", PROJECT / "systemd": "/src/systemd"}
        machine = Machine(folder / "boot.log", binds=binds)
        try:
            install = ("/src/deploy/install.sh", "--from", f"/wheels/{wheel}", "--find-links", "/wheels", "--no-start")
            machine.run("bash", *install, timeout=300)
            yield machine
        finally:
            machine.close()
