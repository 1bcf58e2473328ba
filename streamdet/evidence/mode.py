"""What is kept of alerts, and where."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

from streamdet.config import Config
from streamdet.errors import ConfigError

Mode = Literal["scores", "features", "full"]
FOLDER: Final = "evidence"


def evidence_mode(config: Config) -> Mode | None:
    """Say what is kept; None where nothing is."""
    section = config.evidence
    if section.dir == "none" or section.mode == "off" or (section.mode is None and section.dir is None):
        return None
    return section.mode or "full"


def evidence_folder(config: Config) -> Path:
    """Where recordings are kept: as configured, else in the state directory that a service manager gives.

    Raises:
        ConfigError: neither says.
    """
    if config.evidence.dir is not None:
        return Path(config.evidence.dir)
    state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if not state:
        raise ConfigError("evidence: no folder to keep recordings in: give --evidence DIR")
    return Path(state) / FOLDER
