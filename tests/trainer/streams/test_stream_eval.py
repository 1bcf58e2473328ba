"""From a manifest to operating points in a model file, on speech."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from streamdet.engine.modelfile import read_model
from tests.trainer import corpus
from trainer import cli, stream_eval
from trainer.data.errors import DataError
from trainer.data.manifest import Clip, read_manifest
from trainer.demo.join import RATE, frame_levels
from trainer.export import ExportReport
from trainer.streams.hear import Setup, hear_all
from trainer.streams.script import LONGEST, SHORTEST, scripts
from trainer.streams.splice import Splicer

DEMO = Path(cli.__file__).parents[1] / "streamdet" / "demo"
RUNNER = CliRunner()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The turns of the demo conversation as clips of 4 s, each turn a source."""
    folder = tmp_path_factory.mktemp("spliced")
    (folder / "audio").mkdir()
    sound, _ = soundfile.read(DEMO / "demo.flac", dtype="float32")
    rows = []
    for number, turn in enumerate(json.loads((DEMO / "demo.json").read_text())["turns"]):
        fake = turn["label"] == "synthetic"
        for part, begin in enumerate(np.arange(turn["start"], turn["end"] - 2.0, 4.0)):
            name = f"t{number}-{part}"
            end = min(begin + 4.0, turn["end"])
            soundfile.write(folder / "audio" / f"{name}.flac", sound[int(begin * RATE) : int(end * RATE)], RATE)
            family = f"f{number}" if fake else ""
            values = (name, "val", "fake" if fake else "real", family, f"s{number}", name, "", "en", "", "")
            rows.append(dict(zip(corpus.FIELDS, values, strict=True)))
    corpus.write(folder / "manifest.csv", rows)
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def speech(manifest: Path) -> list[Clip]:
    return read_manifest(manifest)


def test_scripts_repeat_with_the_seed_alternate_and_keep_sources_apart(speech: list[Clip]) -> None:
    first, again, other = (scripts(speech, human_hours=0.1, mixed_hours=0.1, seed=s) for s in (1, 1, 2))
    assert first == again != other
    for script in first:
        labels = [line.label for line in script.lines]
        if script.mixed:
            assert labels == [0, 1] * (len(labels) // 2) + [0]
        else:
            assert set(labels) == {0}
            assert len({line.source for line in script.lines}) == 1
        for line in script.lines:
            assert line.seconds <= LONGEST
            assert {(c.source, c.label) for c in line.clips} == {(line.source, line.label)}
            assert len(set(line.clips)) == len(line.clips)
    assert sum(line.seconds >= SHORTEST for s in first for line in s.lines) > 20


def test_all_human_clips_are_heard_before_any_comes_again(speech: list[Clip]) -> None:
    for script in scripts(speech, human_hours=0.2, mixed_hours=0.0, seed=0):
        there = {c.id for c in speech if c.source == script.lines[0].source}
        dealt = [c.id for line in script.lines for c in line.clips]
        assert set(dealt[: 2 * len(there)]) == there


def test_truth_lies_where_the_voices_are_and_both_classes_are_equally_loud(speech: list[Clip]) -> None:
    louder: dict[int, list[float]] = {0: [], 1: []}
    for script in [s for s in scripts(speech, human_hours=0.01, mixed_hours=0.15, seed=3) if s.mixed]:
        samples, turns = Splicer(clean=1.0)(script)
        levels = frame_levels(samples)
        quiet = np.ones(len(levels), bool)
        for turn in turns:
            begin, end = round(turn.begin * 50), round(turn.end * 50)
            quiet[max(0, begin - 1) : end + 1] = False
            louder[turn.label].append(float(np.quantile(levels[begin:end], 0.8)) - float(levels.min()))
        assert turns[-1].end < len(samples) / RATE
        assert levels[quiet].max() < np.quantile(levels[~quiet], 0.8) - 10
    assert abs(np.mean(louder[0]) - np.mean(louder[1])) < 3.0


def test_one_class_alone_is_refused(speech: list[Clip]) -> None:
    with pytest.raises(DataError, match="human and synthetic"):
        scripts([c for c in speech if c.label], human_hours=1.0, mixed_hours=1.0, seed=0)


def test_what_was_heard_is_kept_and_does_not_depend_on_neighbours(
    speech: list[Clip], exported: dict[str, ExportReport], tmp_path: Path
) -> None:
    plan = [replace(s, lines=s.lines[:3]) for s in scripts(speech, human_hours=0.01, mixed_hours=0.1, seed=0)[-2:]]
    setup = Setup(exported["int8"].path)
    done: list[float] = []
    fresh = hear_all(setup, plan, cache=tmp_path / "kept", progress=done.append)
    assert sum(done) == pytest.approx(sum(s.seconds for s in plan))
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    assert len(kept) == len(plan)
    again = hear_all(setup, plan, cache=tmp_path / "kept")
    alone = hear_all(setup, plan[:1])
    assert kept == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    for one, other in [*zip(fresh, again, strict=True), (fresh[0], alone[0])]:
        assert (one.name, one.mixed, one.turns) == (other.name, other.mixed, other.turns)
        assert np.array_equal(one.columns, other.columns)
    assert fresh[0].columns[:, 3].mean() > 0.5  # it is speech
    assert fresh[0].columns[-1, 0] >= fresh[0].turns[-1].end


def test_the_whole_way_to_points_in_the_model_file(
    manifest: Path, exported: dict[str, ExportReport], tmp_path: Path
) -> None:
    model = tmp_path / "model.onnx"
    shutil.copy(exported["int8"].path, model)
    out, picture, kept = tmp_path / "out.json", tmp_path / "curve.svg", tmp_path / "kept"
    sizes = ["--hours", "0.03", "--mixed", "0.1", "--cache", str(kept)]
    command = ["stream-eval", str(model), str(manifest), *sizes]
    result = RUNNER.invoke(cli.app, [*command, "--out", str(out), "--picture", str(picture), "--store"])
    assert result.exit_code == 0, result.output
    figures, info = json.loads(out.read_text()), read_model(model)[1]
    assert {"default", "strict", "sensitive"} <= set(figures["operating_points"]) <= set(info.operating_points)
    assert info.operating_points["default"] == figures["operating_points"]["default"]
    assert figures["chosen"] in figures["settings"]
    assert figures["points"]["default"]["turns_of_6_s"]["turns"] > 5
    assert "Operating point `strict`" in model.with_suffix(".md").read_text()
    assert "<svg" in picture.read_text()
    assert "| default |" in result.output
    rows = manifest.read_text().replace(",val,", ",test,")
    (manifest.parent / "test.csv").write_text(rows)
    command = ["stream-eval", str(model), str(manifest.parent / "test.csv"), *sizes, "--split", "test", "--json"]
    judged = json.loads(RUNNER.invoke(cli.app, command).stdout)
    assert "operating_points" not in judged
    assert set(judged["points"]) == set(info.operating_points)


def test_broken_recordings_are_listed_and_left_out(
    manifest: Path, exported: dict[str, ExportReport], tmp_path: Path
) -> None:
    own = Path(shutil.copytree(manifest.parent, tmp_path / "own")) / "manifest.csv"
    names = [clip.id for clip in read_manifest(own)][:3]
    paths = [own.parent / "audio" / f"{name}.flac" for name in names]
    paths[0].write_bytes(b"noise")
    paths[1].write_bytes(paths[1].read_bytes()[: paths[1].stat().st_size // 2])
    soundfile.write(paths[2].with_suffix(".wav"), np.full(4 * RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    paths[2].with_suffix(".wav").rename(paths[2])
    sizes = ["--hours", "0.03", "--mixed", "0.1", "--json"]
    result = RUNNER.invoke(cli.app, ["stream-eval", str(exported["int8"].path), str(own), *sizes])
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)["skipped"]) == set(names)
    assert [result.stderr.count(f"skipped {name}: ") for name in names] == [1, 1, 1]
    assert "3 clips skipped" in result.stderr


def test_what_was_kept_and_cut_is_heard_anew(
    speech: list[Clip], exported: dict[str, ExportReport], tmp_path: Path
) -> None:
    plan = [replace(s, lines=s.lines[:2]) for s in scripts(speech, human_hours=0.01, mixed_hours=0.1, seed=0)[-1:]]
    setup = Setup(exported["int8"].path)
    (whole,) = hear_all(setup, plan, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    for content in (kept.read_bytes()[:200], b"", b"junk"):
        kept.write_bytes(content)
        (again,) = hear_all(setup, plan, cache=tmp_path)
        assert np.array_equal(again.columns, whole.columns)


def test_turns_too_short_to_count_are_refused_before_and_after_hearing(
    speech: list[Clip], exported: dict[str, ExportReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = scripts(speech, human_hours=0.01, mixed_hours=0.1, seed=0)
    brief = [replace(s, lines=tuple(replace(line, seconds=3.0) for line in s.lines)) for s in plan]
    for turns, heard in ((brief, AssertionError("not to be heard")), (plan, [])):
        monkeypatch.setattr(stream_eval, "hear_all", Mock(side_effect=[heard]))
        with pytest.raises(DataError, match="no turn of 6 s; give more --hours or --mixed"):
            stream_eval.run(Setup(exported["int8"].path), turns, stream_eval.Options())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--mixed", "0"], "--mixed"),
        (["--hours", "-1"], "--hours"),
        (["--split", "test", "--picture", "x.svg"], "shows how thresholds are chosen"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(options: list[str], complaint: str) -> None:
    result = RUNNER.invoke(cli.app, ["stream-eval", "no.onnx", "no.csv", *options])
    assert result.exit_code == 2
    assert complaint in " ".join(result.output.replace("│", " ").split())


def test_help_shows_examples() -> None:
    assert "trainer stream-eval model.onnx" in RUNNER.invoke(cli.app, ["stream-eval", "--help"]).output
