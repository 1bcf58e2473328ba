"""``streamdet devices``."""

from __future__ import annotations

import dataclasses
import json

from rich.console import Console
from rich.table import Table

from streamdet.sources.microphone import list_devices


def run_devices(*, as_json: bool) -> None:
    """Print all microphones; raises DependencyError where PortAudio is not installed."""
    found = list_devices()
    if as_json:
        print(json.dumps([dataclasses.asdict(device) for device in found]))
        return
    table = Table(box=None, header_style="bold")
    for title in ("device", "name", "host API", "channels", "rate"):
        table.add_column(title)
    for device in found:
        table.add_row(*(str(value) for value in dataclasses.astuple(device)))
    Console().print(table if found else "no microphone found")
