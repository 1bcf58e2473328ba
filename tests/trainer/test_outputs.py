"""Files that cannot be written are refused before the work, or end it with one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamdet.errors import ConfigError
from tests.trainer import corpus
from trainer import cli
from trainer.outputs import model_writable, writable

RUNNER = CliRunner()


def test_missing_folders_are_made(tmp_path: Path) -> None:
    writable(tmp_path / "a" / "b" / "report.html")
    assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a" / "b" / "report.html").exists()


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="its folder cannot be made"):
        writable(tmp_path / "file" / "x.json")
    with pytest.raises(ConfigError, match="is a folder"):
        writable(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    writable(tmp_path / "file")
    with pytest.raises(ConfigError, match=r"file\.md: cannot be written"):
        model_writable(tmp_path / "file")


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "m.onnx", "m.csv", "--report"),
        ("export", "m.pt", "m.csv", "--out"),
        ("baselines", "m.csv", "--out"),
        ("stream-eval", "m.onnx", "m.csv", "--out"),
        ("audit", "m.csv", "--out"),
        ("manifest", "m.csv", "--out"),
        ("data", "teach", "m.csv", "--out"),
    ],
)
def test_commands_look_at_their_outputs_first(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = RUNNER.invoke(cli.app, [*command, str(tmp_path / "file" / "out.x")])
    assert isinstance(result.exception, ConfigError)
    assert "its folder cannot be made" in str(result.exception)


@pytest.mark.parametrize(
    "command",
    [("stream-eval", "m.onnx", "m.csv", "--picture"), ("audit", "m.csv", "--picture"), ("augment-pictures",)],
)
def test_pictures_of_unknown_kinds_are_refused(command: tuple[str, ...], tmp_path: Path) -> None:
    result = RUNNER.invoke(cli.app, [*command, str(tmp_path / "curve.xyz")])
    assert isinstance(result.exception, ConfigError)
    assert "let its name end in .png, .svg, .pdf" in str(result.exception)


def test_export_needs_the_text_for_its_card_before_it_begins(tmp_path: Path) -> None:
    arguments = ["export", "m.pt", "m.csv", "--out", str(tmp_path / "m.onnx"), "--data", str(tmp_path / "nope.md")]
    result = RUNNER.invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert "does not exist" in " ".join(result.output.replace("│", " ").split())  # wherever the frame breaks the line


def test_export_of_an_empty_manifest_and_negative_counts_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("id,label\n")
    files = [str(checkpoint), str(tmp_path / "empty.csv"), "--out", str(tmp_path / "m.onnx")]
    result = RUNNER.invoke(cli.app, ["export", *files])
    assert str(result.exception) == "no clips in split 'train'; the manifests are empty"
    assert RUNNER.invoke(cli.app, ["export", *files, "--clips", "-1"]).exit_code == 2
    assert RUNNER.invoke(cli.app, ["calibrate", *files[:2], "--copies", "-1"]).exit_code == 2


def test_what_fails_while_writing_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, out = corpus.make(tmp_path / "corpus", 2), tmp_path / "[none]" / "m.csv"
    monkeypatch.setattr("trainer.outputs.writable", lambda _: None)  # as if the folder went after that look
    monkeypatch.setattr("sys.argv", ["trainer", "manifest", str(manifest), "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert f"{out}: No such file or directory" in capsys.readouterr().err.splitlines()
