from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from tests.trainer import corpus
from trainer.cli import app
from trainer.data.errors import DataError
from trainer.data.manifest import Clip, read_manifest
from trainer.data.synth.base import Tools
from trainer.data.synth.makers import every
from trainer.data.synth.plan import plan, spread
from trainer.data.synth.run import Journal, synthesise
from trainer.data.synth.work import Order, recorded

MAKERS = {name: maker for name, maker in every(Tools()).items() if name in ("griffinlim", "espeak", "flite")}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.make(tmp_path_factory.mktemp("synth") / "corpus")


def order(folder: Path, seed: int = 0) -> Order:
    return Order(folder, Tools(), None, 8.0, seed)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_makes_what_training_reads(manifest: Path, tmp_path: Path) -> None:
    clips = read_manifest(manifest, "train")
    report = synthesise(clips, MAKERS, order(tmp_path), 2)
    assert report.made == {"griffinlim": 2, "espeak": 2, "flite": 2}
    assert report.failed == {}
    made = read_manifest(tmp_path / "manifest.csv", "train")
    assert all(clip.label == 1 and clip.path.is_file() for clip in made)
    parents = {clip.id: clip for clip in clips}
    for copy in (clip for clip in made if clip.family == "cs-griffinlim"):
        parent = parents[copy.parent]
        assert (copy.source, copy.group, copy.label) == (parent.source, parent.group, 1)
        assert soundfile.info(copy.path).frames == soundfile.info(parent.path).frames
    notes = json.loads((tmp_path / "NOTES.json").read_text())
    assert notes["families"]["espeak"]["clips"] == 2
    assert "GPL" in notes["families"]["espeak"]["licence"]
    assert notes["seed"] == 0


def test_the_seed_decides_every_sample(manifest: Path, tmp_path: Path) -> None:
    clips = read_manifest(manifest, "train")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        synthesise(clips, {"griffinlim": MAKERS["griffinlim"]}, order(tmp_path / name, seed), 2)
    a, b, c = ({r["id"]: (tmp_path / n / r["path"]).read_bytes() for r in rows(tmp_path / n)} for n in "abc")
    assert a == b
    assert all(a[name] != c[name] for name in a.keys() & c.keys())


def test_a_second_run_adds_what_lacks_and_touches_nothing_else(manifest: Path, tmp_path: Path) -> None:
    clips = read_manifest(manifest, "train")
    synthesise(clips, {"flite": MAKERS["flite"]}, order(tmp_path), 1)
    stamp = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "audio").iterdir()}
    report = synthesise(clips, {"flite": MAKERS["flite"]}, order(tmp_path), 2)
    assert (report.kept, report.made["flite"]) == (1, 1)
    assert all((tmp_path / "audio" / name).stat().st_mtime_ns == at for name, at in stamp.items())


@pytest.mark.parametrize(("seed", "seconds", "said"), [(1, 8.0, "seed 0"), (0, 5.0, "seconds 8.0")])
def test_a_run_with_another_seed_or_length_needs_another_folder(
    manifest: Path, tmp_path: Path, seed: int, seconds: float, said: str
) -> None:
    clips, makers = read_manifest(manifest, "train"), {"griffinlim": MAKERS["griffinlim"]}
    synthesise(clips, makers, order(tmp_path), 1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=f"made with {said}; .* another --out"):
        synthesise(clips, makers, Order(tmp_path, Tools(), None, seconds, seed), 2)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.timeout(600)
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(manifest: Path, tmp_path: Path) -> None:
    def command(out: Path) -> list[str]:
        words = f"data synth {manifest} --makers espeak --per-maker 8 --processes 2 --out {out}"
        return [sys.executable, "-m", "trainer.cli", *words.split()]

    def journal(folder: Path) -> int:
        path = folder / "journal.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    process = subprocess.Popen(command(tmp_path / "killed"), env={**os.environ, "OMP_NUM_THREADS": "1"})
    while journal(tmp_path / "killed") < 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with (tmp_path / "killed" / "journal.jsonl").open("a") as file:
        file.write('{"id": "torn')
    assert 2 <= journal(tmp_path / "killed") < 8
    for name in ("killed", "whole"):
        subprocess.run(command(tmp_path / name), check=True, stdout=subprocess.DEVNULL)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    for row in rows(tmp_path / "whole"):
        assert (tmp_path / "killed" / row["path"]).read_bytes() == (tmp_path / "whole" / row["path"]).read_bytes()


def test_broken_clips_are_counted_and_skipped(tmp_path: Path) -> None:
    manifest = corpus.make(tmp_path / "corpus", 4)
    clips = [c for c in read_manifest(manifest, "train") if c.label == 0]
    clips[0].path.write_bytes(b"noise")
    soundfile.write(clips[1].path, np.zeros(16_000), 16_000)
    report = synthesise(clips, {"griffinlim": MAKERS["griffinlim"]}, order(tmp_path / "out"), 10)
    assert len(report.failed) == 2
    assert sum(report.made.values()) == len(clips) - 2
    assert "silent" in report.failed[f"cs-griffinlim-{clips[1].id}"]
    notes = json.loads((tmp_path / "out" / "NOTES.json").read_text())
    assert notes["failed"] == report.failed


def test_parents_come_from_all_sources_in_turn_and_more_only_adds() -> None:
    clips = [Clip(f"{s}{n}", Path(), 0, source=s) for s in "abc" for n in range(10)]
    chosen = spread(clips, "key")
    assert [{c.source for c in chosen[i : i + 3]} for i in range(0, 30, 3)] == [{"a", "b", "c"}] * 10
    few, many = (plan(clips, {"griffinlim": MAKERS["griffinlim"]}, each, 0) for each in (4, 9))
    assert many[:4] == few
    assert len({job.file for job in many}) == 9


def test_a_foreign_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text("hello\n")
    with pytest.raises(DataError, match="not a journal of this command"):
        Journal(tmp_path)


def test_read_speech_has_levels_like_recordings() -> None:
    tone = np.sin(np.arange(32_000) / 10.0).astype(np.float32)
    levels = [20 * np.log10(np.std(recorded(tone, np.random.default_rng(seed)))) for seed in range(40)]
    assert min(levels) < -28.0 < -22.0 < max(levels)
    assert -33.0 < min(levels) < max(levels) < -17.0


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainer.cli", "data", "synth", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_command_lists_its_makers_and_refuses_unknown_ones(tmp_path: Path) -> None:
    listed = {row["name"]: row for row in json.loads(run("--list", "--json").stdout)}
    assert listed["espeak"]["available"]
    assert listed["griffinlim"]["makes"] == "copies of human clips"
    assert all(row["available"] == (not row["missing"]) for row in listed.values())
    unknown = run("--makers", "parrot", "--out", str(tmp_path))
    assert unknown.returncode == 7
    assert "no maker 'parrot'" in unknown.stderr
    alone = run("--makers", "griffinlim", "--out", str(tmp_path))
    assert alone.returncode == 7
    assert "give a manifest" in " ".join(alone.stderr.split())


def test_files_that_are_named_and_cannot_be_used_end_it_before_any_work(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.tsv").write_text("")
    (tmp_path / "pointer.onnx").write_text("version https://git-lfs.github.com/spec/v1\n")
    wrong = [
        ("--vocoder", "nope.onnx", "no such file"),
        ("--vocoder", "pointer.onnx", "not an ONNX file that can be loaded"),
        ("--fargan", "nope", "no such file"),
        ("--sentences", "empty.tsv", "no sentences"),
    ]
    for option, name, said in wrong:
        words = [str(manifest), "--makers", "griffinlim", "--out", str(tmp_path / "out"), option, str(tmp_path / name)]
        result = CliRunner().invoke(app, ["data", "synth", *words])
        assert isinstance(result.exception, DataError), result.output
        assert str(result.exception).startswith(f"{tmp_path / name}: {said}")
    assert not (tmp_path / "out").exists()


def test_a_run_that_only_fails_ends_in_an_error(tmp_path: Path) -> None:
    manifest = corpus.make(tmp_path / "corpus", 2)
    for clip in read_manifest(manifest):
        clip.path.write_bytes(b"noise")
    words = [str(manifest), "--makers", "griffinlim", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["data", "synth", *words])
    assert isinstance(result.exception, DataError), result.output
    assert str(result.exception).startswith("nothing was made, ")
