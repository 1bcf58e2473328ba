"""One engine by size of batch; where a GPU is, the same command measures it there."""

import json
from pathlib import Path

from streamdet.bench.engines import VOICES, _parity
from streamdet.bundled import bundled_model
from streamdet.engine.onnx import OnnxEngine
from tests.streamdet.conftest import Run


def test_an_engine_is_measured_with_a_picture(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "engine.png"
    done = run("bench", "--engine", "onnx-cpu", "--streams", "1", "--streams", "8", "--json", "--plot", picture)
    report = json.loads(done.stdout)
    assert (report["engine"], report["gpu"], report["parity"]) == ("onnx-cpu", None, None)
    assert [pace["streams"] for pace in report["paces"]] == [1, 8]
    for pace in report["paces"]:
        assert 0 < pace["ms_p50"] <= pace["ms_p99"]
        assert abs(pace["streams_at_real_time"] / (pace["streams"] * 320 / pace["ms_p50"]) - 1) < 0.01
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_parity_of_an_engine_with_itself_is_complete() -> None:
    parity = _parity(OnnxEngine(bundled_model("edge")), OnnxEngine(bundled_model("edge")))
    assert (parity.error_percent, parity.largest) == (0.0, 0.0)
    assert parity.hops == 8 * VOICES


def test_an_engine_that_is_not_there_is_one_line(run: Run) -> None:
    done = run("bench", "--engine", "abacus")
    assert done.returncode == 2
    assert "--engine: engine: Input should be" in done.stderr
