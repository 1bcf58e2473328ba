"""The detectors that come with the package."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamdet.engine.modelfile import ModelInfo

BUNDLED = {
    "streamdet": "streamdet.onnx",  # the default, the best one
    "medium": "medium.onnx",  # a seventh of the work: without the phase of each frequency
    "edge": "edge.onnx",  # less than a tenth: for hundreds of streams and small processors
}
DEFAULT = "streamdet"
VARIABLE = "STREAMDET_MODEL"  # of the environment: the model where neither configuration nor command line names one


def bundled_model(name: str = DEFAULT) -> Path:
    """Path of a model that comes with the package."""
    return Path(str(resources.files("streamdet") / "models" / BUNDLED[name]))


def find_model(wanted: Path | None) -> Path:
    """Path of the model that is meant: a file, or the name of one in the package, where no file is called so.

    None means what the environment says in ``STREAMDET_MODEL``, or else the default.
    """
    wanted = wanted or Path(os.environ.get(VARIABLE) or DEFAULT)
    name = str(wanted)
    return bundled_model(name) if name in BUNDLED and not wanted.is_file() else wanted


def lighter(info: ModelInfo) -> str:
    """Say what to do where this model is too much for the machine; empty where the package has none that is lighter."""
    if info.front_end.spectrum:
        return "--model medium needs a seventh of the work, --model edge less than a tenth"
    return "--model edge needs half of the work" if info.front_end.powers else ""
