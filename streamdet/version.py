"""Which version runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def running_version() -> str:
    """Version of the installed package; ``source`` where it runs from a source tree that was never installed."""
    try:
        return version("streamdet")
    except PackageNotFoundError:
        return "source"
