"""Random networks for the bench are model files like any other."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from streamdet.engine.onnx import OnnxEngine
from streamdet.features import FrontEndConfig
from trainer import cli
from trainer.bench import write_models


@pytest.mark.parametrize(
    ("config", "named"), [(FrontEndConfig(), ""), (FrontEndConfig(mels=96, bands="linear"), "-96linear")]
)
def test_both_precisions_run_and_say_the_same(tmp_path: Path, config: FrontEndConfig, named: str) -> None:
    paths = write_models(tmp_path / "models", 0.125, config)
    assert [path.name for path in paths] == [f"random-0.125{named}-fp32.onnx", f"random-0.125{named}-int8.onnx"]
    features = np.random.default_rng(0).random((1, 32, config.mels), np.float32) * 3
    columns = []
    for path in paths:
        engine = OnnxEngine(path)
        assert engine.info.width == 0.125
        assert engine.info.front_end == config
        assert engine.info.precision in path.name
        slot = np.array([engine.allocate()], np.intp)
        columns.append(np.concatenate([engine.step(slot, features) for _ in range(8)]))
    exact, rounded = columns
    assert np.ptp(exact) > 0
    np.testing.assert_allclose(rounded, exact, atol=0.3 * float(np.abs(exact).max()))


@pytest.mark.parametrize("width", ["9", "0", "-1"])
def test_widths_of_no_network_are_refused(tmp_path: Path, width: str) -> None:
    result = CliRunner().invoke(cli.app, ["bench-models", str(tmp_path / "models"), "--width", width])
    assert result.exit_code == 2
    assert not (tmp_path / "models").exists()
