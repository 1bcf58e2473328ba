"""``streamdet engine``: what can run a model here, and building what has to be built."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamdet.engine.choice import choose, find_options
from streamdet.engine.gpu import find_gpu
from streamdet.engine.modelfile import read_model
from streamdet.engine.plans import cached_plan, find_tensorrt, plan_path
from streamdet.errors import DependencyError


def run_engine_list(model: Path, batch: int, *, as_json: bool) -> None:
    """Print every engine, whether it can run ``model`` here, and which one is taken by itself."""
    info = read_model(model)[1]
    options = find_options(info, batch=batch)
    taken = choose("auto", options)
    if as_json:
        entries = [{**dataclasses.asdict(option), "taken": option.name == taken.name} for option in options]
        print(json.dumps({"model": info.name, "precision": info.precision, "engines": entries}))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("engine", "here", "why"):
        table.add_column(title)
    for option in options:
        here = "no" if not option.possible else "yes" if option.ready else "after a build"
        name = f"[bold]{option.name}[/bold] (taken)" if option.name == taken.name else option.name
        table.add_row(name, here, Text(option.reason))
    console = Console()
    console.print(f"model {info.name}: width {info.width:g}, {info.precision}", highlight=False, markup=False)
    console.print(table)


def run_engine_build(model: Path, batch: int, cache: Path | None, *, as_json: bool) -> None:
    """Build the plan of ``model`` for this machine's GPU, unless it is there.

    Raises:
        DependencyError: there is no GPU, or a package is missing.
        ModelError: no plan can be made of the model.
    """
    network, info = read_model(model)
    options = find_options(info, batch=batch, cache=cache)
    choose("tensorrt", options)
    gpu, library = find_gpu(), find_tensorrt()
    if isinstance(gpu, str) or library is None:  # said above as well; either may have gone since
        raise DependencyError(f"cannot build a plan: {gpu if isinstance(gpu, str) else 'TensorRT is gone'}")
    there = plan_path(info, gpu, library, cache, batch).exists()
    path = cached_plan(network, info, gpu, library, most=batch, cache=cache)
    if as_json:
        print(json.dumps({"plan": str(path), "built": not there, "bytes": path.stat().st_size, "gpu": gpu.name}))
    else:
        print(f"{path}: {'was there' if there else 'built'}, {path.stat().st_size / 1e6:.0f} MB, for {gpu.name}")
