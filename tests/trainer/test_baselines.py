from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.trainer import corpus
from trainer import cli
from trainer.baselines import balanced, describe, detectors
from trainer.data.errors import DataError
from trainer.data.manifest import read_manifest


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.make(tmp_path_factory.mktemp("baselines") / "corpus", 40)


def test_command_prints_and_stores_a_table(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "baselines.json"
    result = CliRunner().invoke(cli.app, ["baselines", str(manifest), "--split", "val", "--out", str(out)])
    assert result.exit_code == 0, result.output
    stored = json.loads(out.read_text())
    assert set(stored) == set(detectors(0))
    for name, figures in stored.items():
        low, high = figures["interval_95"]["auc"]
        assert low <= figures["figures"]["auc"] <= high
        assert f"| {name} | {100 * figures['figures']['eer']:.1f} (" in out.with_suffix(".md").read_text()
    assert stored["mean log-mel, logistic regression"]["figures"]["auc"] > 0.95, "a tone at 3 kHz shows in the mean"


def test_broken_clips_are_skipped_and_one_class_is_refused(manifest: Path, tmp_path: Path) -> None:
    clips = read_manifest(corpus.make(tmp_path / "corpus", 4))
    clips[0].path.write_bytes(b"noise")
    described = describe(clips)
    assert set(described.skipped) == {clips[0].id}
    assert len(described.clips) == len(described.statistics) == len(described.shortcuts) == len(clips) - 1
    with pytest.raises(DataError, match="human and synthetic"):
        describe([clip for clip in clips[1:] if clip.label == 0])


def test_both_classes_weigh_the_same() -> None:
    weights = balanced(np.array([0, 1, 1, 1]), np.array([2.0, 1.0, 1.0, 2.0]))
    assert weights[0] == pytest.approx(weights[1:].sum())
    assert weights.mean() == pytest.approx(1.0)
