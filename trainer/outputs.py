"""Looks at files that shall be written before the work that fills them."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from streamdet.errors import ConfigError

PICTURES = (".png", ".svg", ".pdf")


def writable(path: Path) -> None:
    """See that ``path`` can be written; folders that it lacks are made.

    Raises:
        ConfigError: it is a folder, or it or its folder cannot be made or written to.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: its folder cannot be made ({reason(error)}); give another place") from error
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"{path}: cannot be written; give another place")


def model_writable(model: Path) -> None:
    """See that a model file and its card, which lies beside it, can be written.

    Raises:
        ConfigError: one cannot.
    """
    for path in (model, model.with_suffix(".md")):
        writable(path)


def output(context: typer.Context, path: Path | None) -> Path | None:
    """Refuse a file that cannot be written, as the callback of an option."""
    if path is not None and not context.resilient_parsing:
        writable(path)
    return path


def picture(context: typer.Context, path: Path | None) -> Path | None:
    """Refuse a picture of an unknown kind, or one that cannot be written, as the callback of an option."""
    if path is not None and path.suffix.lower() not in PICTURES:
        raise ConfigError(f"{path}: not a picture that can be drawn; let its name end in {', '.join(PICTURES)}")
    return output(context, path)


def reason(error: OSError) -> str:
    """Say what the system said, without number and file."""
    return error.strerror or str(error)
