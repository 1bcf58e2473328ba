from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from streamdet.commands.model import run_model_info
from streamdet.engine.modelfile import read_model, seal
from trainer.export import ExportReport


def test_names_in_brackets_are_shown_as_they_are(
    exported: dict[str, ExportReport], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, info = read_model(exported["int8"].path)
    path = tmp_path / "m.onnx"
    path.write_bytes(seal(content, dataclasses.replace(info, name="mine [red][/y]")))
    run_model_info(path, as_json=False)
    assert "mine [red][/y]" in capsys.readouterr().out
