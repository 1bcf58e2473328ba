"""``streamdet model info``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from streamdet.engine.modelfile import read_model


def run_model_info(path: Path, *, as_json: bool) -> None:
    """Print a model file's description; raises ModelError as :func:`streamdet.engine.modelfile.read_model`."""
    content, info = read_model(path)
    values = {"path": str(path), "bytes": len(content), **dataclasses.asdict(info)}
    if as_json:
        print(json.dumps(values))
        return
    table = Table(box=None, show_header=False)
    for key, value in values.items():
        table.add_row(key, json.dumps(value, indent=1) if isinstance(value, dict) else str(value))
    Console().print(table)
