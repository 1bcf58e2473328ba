"""``streamdet model info``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

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
        table.add_row(key, Text(_figures(value) if key == "figures" else _words(value)))
    Console().print(table)


def _figures(figures: Mapping[str, Any]) -> str:
    """Say what the clips of each split gave; the rest is for programs."""
    lines = [f"{split}: {_words(found['figures'])}" for split, found in figures.items() if "figures" in found]
    return "\n".join([*lines, "--json has all of them, with intervals"])


def _words(value: object) -> str:
    """Put a value in words: a line for each table of a table, numbers with four digits."""
    if isinstance(value, Mapping):
        nested = any(isinstance(entry, Mapping) for entry in value.values())
        between, after = ("\n", ":") if nested else (", ", "")
        return between.join(f"{key}{after} {_words(entry)}" for key, entry in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
