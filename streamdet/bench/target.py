"""Finds out, before a long measurement, whether its result can be written."""

from __future__ import annotations

import os
from pathlib import Path

from streamdet.errors import ConfigError


def check_target(path: Path, *, in_place: bool) -> None:
    """Make sure that a file can be written; ``in_place`` where one that is there is not replaced by a new one.

    Raises:
        ConfigError: it cannot.
    """
    folder = path.parent
    if not os.path.isdir(folder):
        raise ConfigError(f"cannot write {path}: there is no folder {folder}; make it, or name another file")
    if os.path.isdir(path):
        raise ConfigError(f"cannot write {path}: it is a folder; name a file")
    touched = path if in_place and os.path.exists(path) else folder
    if not os.access(touched, os.W_OK):
        raise ConfigError(f"cannot write {path}: {touched} may not be written to; change that, or name another file")
