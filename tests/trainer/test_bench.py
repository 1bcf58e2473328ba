"""Random networks for the bench are model files like any other."""

from pathlib import Path

import numpy as np

from streamdet.engine.onnx import OnnxEngine
from trainer.bench import write_models


def test_both_precisions_run_and_say_the_same(tmp_path: Path) -> None:
    paths = write_models(tmp_path / "models", 0.125)
    assert [path.name for path in paths] == ["random-0.125-fp32.onnx", "random-0.125-int8.onnx"]
    features = np.random.default_rng(0).random((1, 32, 64), np.float32) * 3
    columns = []
    for path in paths:
        engine = OnnxEngine(path)
        assert engine.info.width == 0.125
        assert engine.info.precision in path.name
        slot = np.array([engine.allocate()], np.intp)
        columns.append(np.concatenate([engine.step(slot, features) for _ in range(8)]))
    exact, rounded = columns
    assert np.ptp(exact) > 0
    np.testing.assert_allclose(rounded, exact, atol=0.3 * float(np.abs(exact).max()))
