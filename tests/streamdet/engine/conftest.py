from __future__ import annotations

import datetime
from pathlib import Path
from typing import get_args

import pytest

from streamdet.engine.modelfile import ModelInfo
from streamdet.features.logmel import FloatArray
from trainer.export import ExportReport, Precision, export_model


@pytest.fixture(scope="session")
def gpu_models(
    checkpoint: Path, clips: list[FloatArray], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ExportReport]:
    """Model files of the random network that a GPU can run, by precision."""
    folder = tmp_path_factory.mktemp("gpu-models")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    info = ModelInfo("random", now, 1.0, "", operating_points={"default": {"raise": 0.9, "clear": 0.5}})
    wanted = [precision for precision in get_args(Precision) if precision != "int8"]
    return {p: export_model(checkpoint, folder / f"{p}.onnx", p, clips, info) for p in wanted}
