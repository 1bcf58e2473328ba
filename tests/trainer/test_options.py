"""Options that several commands have."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from trainer import cli


@pytest.mark.parametrize(
    "command",
    [
        ("calibrate", "m.onnx", "m.csv"),
        ("audit", "m.csv"),
        ("baselines", "m.csv"),
        ("augment-pictures", "x.png"),
        ("stream-eval", "m.onnx", "m.csv"),
        ("data", "synth", "m.csv", "--out", "x"),
    ],
)
def test_a_seed_is_not_negative(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli.app, [*command, "--seed", "-1"])
    assert result.exit_code == 2
    assert "--seed" in result.output
