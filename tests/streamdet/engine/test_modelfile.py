from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamdet.engine.modelfile import Calibration, ModelInfo, read_model, seal
from streamdet.engine.onnx import OnnxEngine
from streamdet.engine.runtime import session_options
from streamdet.errors import ModelError
from streamdet.features import FrontEndConfig
from trainer.export import ExportReport

TEXT = st.text(max_size=20)
NUMBERS = st.floats(-1e6, 1e6)
INFOS = st.builds(
    ModelInfo,
    name=TEXT,
    created=TEXT,
    width=NUMBERS,
    precision=st.sampled_from(["fp32", "int8"]),
    calibration=st.builds(Calibration, NUMBERS, NUMBERS),
    operating_points=st.dictionaries(TEXT, st.dictionaries(TEXT, NUMBERS, max_size=3), max_size=3),
    figures=st.dictionaries(TEXT, st.one_of(NUMBERS, TEXT), max_size=3),
)
ANY_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(scope="module")
def content(exported: dict[str, ExportReport]) -> bytes:
    return exported["int8"].path.read_bytes()


@ANY_FOLDER
@given(info=INFOS)
def test_what_is_sealed_is_read(tmp_path: Path, info: ModelInfo) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(seal(b"", info))
    read = read_model(path)[1]
    assert read.to_json() == info.to_json()
    assert len(read.digest) == 64


def test_onnxruntime_reads_the_same_metadata(content: bytes, exported: dict[str, ExportReport]) -> None:
    entries = onnxruntime.InferenceSession(content, session_options()).get_modelmeta().custom_metadata_map
    info = exported["int8"].info
    assert entries == {"streamdet": info.to_json(), "streamdet.digest": info.digest}
    assert json.loads(entries["streamdet"])["schema"] == 1


def test_a_network_with_metadata_of_its_own_keeps_it(tmp_path: Path, exported: dict[str, ExportReport]) -> None:
    sealed_twice = seal(exported["fp32"].path.read_bytes(), ModelInfo("second", "", 1.0, "fp32"))
    (tmp_path / "m.onnx").write_bytes(sealed_twice)
    assert read_model(tmp_path / "m.onnx")[1].name == "second"


@ANY_FOLDER
@given(data=st.data())
def test_any_changed_bit_is_noticed(tmp_path: Path, content: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "changed.onnx"
    path.write_bytes(changed)
    with pytest.raises(ModelError, match=r"changed\.onnx: (damaged|not a streamdet model)"):
        read_model(path)


@pytest.mark.parametrize("keep", [0, 1, 85, 86, 1000, -1, -86])
def test_a_cut_file_is_noticed(tmp_path: Path, content: bytes, keep: int) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(content[:keep])
    with pytest.raises(ModelError, match="its end is missing"):
        read_model(path)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read the model .*none\.onnx: No such file"):
        read_model(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="directory"):
        read_model(tmp_path)


def test_another_onnx_file_is_not_a_model(tmp_path: Path, content: bytes) -> None:
    foreign = Path(onnxruntime.__file__).parent / "datasets" / "sigmoid.onnx"
    with pytest.raises(ModelError, match="not a streamdet model"):
        read_model(foreign)


def test_another_front_end_is_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(seal(b"", ModelInfo("m", "", 1.0, "fp32", FrontEndConfig(mels=90, hop=80))))
    with pytest.raises(
        ModelError, match=r"another front end: hop 80 \(here 160\), mels 90 \(here a multiple of 32 up to 128\)"
    ):
        read_model(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mels": 160}, r"mels 160 \(here a multiple of 32 up to 128\)"),
        ({"mels": 0}, "mels 0"),
        ({"bands": "bark"}, r"bands bark \(here mel or linear\)"),
        ({"low": 8_000.0}, r"low 8000.0 \(here 0 to 7000\)"),
        ({"high": 9_000.0}, r"high 9000.0 \(here 1000 to 8000\)"),
        ({"scale": 0.0}, "scale 0.0"),
        ({"level_seconds": -1.0}, "level_seconds -1.0"),
        ({"floor": float("nan")}, "floor nan"),
    ],
)
def test_features_that_nobody_can_make_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(seal(b"", ModelInfo("m", "", 1.0, "fp32", replace(FrontEndConfig(), **change))))
    with pytest.raises(ModelError, match=f"another front end: {said}"):
        read_model(path)


def test_bands_and_their_scale_come_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    made = FrontEndConfig(mels=96, bands="linear", floor=10.0)
    path.write_bytes(seal(b"", ModelInfo("m", "", 1.0, "fp32", made)))
    assert read_model(path)[1].front_end == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "has schema 2, this version reads 1; upgrade"),
        ({"front_end": {**FrontEndConfig().to_dict(), "whitening": 1}}, r"whitening 1 \(here None\)"),
        ({"calibration": {"slope": 1}}, "description cannot be read"),
        ({"width": "wide"}, "description cannot be read"),
        ({"figures": ...}, "description cannot be read"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OtherInfo(ModelInfo):
        def to_json(self) -> str:
            stored = {**json.loads(super().to_json()), **change}
            return json.dumps({key: value for key, value in stored.items() if value is not ...})

    path = tmp_path / "m.onnx"
    path.write_bytes(seal(b"", OtherInfo("m", "", 1.0, "fp32")))
    with pytest.raises(ModelError, match=message) as caught:
        read_model(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_the_engine_refuses_a_graph_that_cannot_run(tmp_path: Path, exported: dict[str, ExportReport]) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(seal(b"", ModelInfo("m", "", 1.0, "fp32")))
    with pytest.raises(ModelError, match="ONNX Runtime cannot run it"):
        OnnxEngine(path)
    foreign = Path(onnxruntime.__file__).parent / "datasets" / "sigmoid.onnx"
    path.write_bytes(seal(foreign.read_bytes(), ModelInfo("m", "", 1.0, "fp32")))
    with pytest.raises(ModelError, match="inputs and outputs are not those of streamdet"):
        OnnxEngine(path)
