"""The run time stands alone: without torch, without the trainer, and, for what everybody uses, without extras."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import streamdet

ROOT = Path(streamdet.__file__).parent
PEERS = {"bench/eager.py"}  # what streamdet is measured against; bench leaves it out where torch is missing
EXTRAS = [
    *("torch", "trainer", "onnx", "cuda", "scipy", "sklearn", "matplotlib", "pyworld"),
    *("av", "pylibsrtp", "starlette", "uvicorn", "paho", "apprise", "prometheus_client"),
]


def imported(path: Path) -> Iterator[str]:
    """Top-level names of all packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_nothing_imports_the_trainer_or_torch() -> None:
    files = {str(path.relative_to(ROOT)): set(imported(path)) for path in ROOT.rglob("*.py")}
    assert len(files) > 100
    assert {name for name, names in files.items() if "trainer" in names} == set()
    assert {name for name, names in files.items() if "torch" in names} == PEERS


@pytest.mark.parametrize("command", ["listen", "scan"])
def test_no_extra_is_needed(command: str, speech: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    soundfile.write(path, speech[: 16_000 * 12], 16_000)
    blocked = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS})); from streamdet.cli import main; main()"
    listen = ["listen", "--source", f"file:{path}?speed=max", "--json", "--publish", "none"]
    arguments = listen if command == "listen" else ["scan", path]
    done = subprocess.run(
        [sys.executable, "-c", blocked, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "talk" in done.stdout
