"""Models that come with the package, by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamdet.bundled import BUNDLED, VARIABLE, bundled_model, find_model, lighter
from streamdet.config import validated
from streamdet.engine.modelfile import read_model


@pytest.mark.parametrize("name", list(BUNDLED))
def test_each_is_there_and_carries_its_card(name: str) -> None:
    path = find_model(Path(name))
    _, info = read_model(path)
    assert info.precision == "int8"
    assert info.digest in path.with_suffix(".md").read_text(encoding="utf-8")


def test_whoever_has_a_heavy_one_is_told_of_those_that_are_lighter() -> None:
    best = lighter(read_model(bundled_model())[1])
    assert "--model medium" in best
    assert "--model edge" in best
    middle = lighter(read_model(bundled_model("medium"))[1])
    assert "--model edge" in middle
    assert "medium" not in middle
    assert lighter(read_model(bundled_model("edge"))[1]) == ""


def test_none_is_what_the_environment_says_or_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE)
    assert find_model(None) == bundled_model() == bundled_model("streamdet")
    monkeypatch.setenv(VARIABLE, "edge")
    assert find_model(None) == bundled_model("edge")
    assert find_model(Path("streamdet")) == bundled_model()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine.onnx"))
    assert find_model(None) == tmp_path / "mine.onnx"


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "streamdet").mkdir()  # as in a checkout
    assert find_model(Path("streamdet")) == bundled_model()
    (tmp_path / "edge").write_bytes(b"")
    assert find_model(Path("edge")) == Path("edge")
    assert find_model(Path("./other.onnx")) == Path("other.onnx")


def test_a_configuration_may_name_one() -> None:
    config = validated({"model": "edge", "shadow": {"model": "streamdet"}}, "test")
    assert (config.model, config.shadow.model) == (bundled_model("edge"), bundled_model())
