"""The model that ships, against the corpus it must hold on: run where STREAMDET_CORPUS names that folder."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from streamdet.bundled import BUNDLED, bundled_model
from streamdet.config import Config
from streamdet.engine.modelfile import read_model
from streamdet.scan import Scanner
from trainer.metrics import auc, eer

CORPUS = os.environ.get("STREAMDET_CORPUS", "")
needs_corpus = pytest.mark.skipif(not CORPUS, reason="STREAMDET_CORPUS does not name the corpus folder")


@needs_corpus
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", list(BUNDLED))
def test_it_holds_on_sources_it_has_never_heard(name: str) -> None:
    with (Path(CORPUS) / "manifest.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    scanner = Scanner(Config(model=bundled_model(name)))
    results = [scanner.scan(Path(CORPUS) / "audio" / f"{row['id']}.flac") for row in rows]
    assert not [result.error for result in results if result.error]
    judged = [(result.p_fake, row["label"] == "fake") for result, row in zip(results, rows, strict=True)
              if result.p_fake is not None]  # fmt: skip
    assert len(judged) > 0.97 * len(rows)
    scores, labels = (np.array(column, np.float64) for column in zip(*judged, strict=True))
    _, info = read_model(bundled_model(name))
    claimed = info.figures["test"]["figures"]
    assert auc(scores, labels) == pytest.approx(claimed["auc"], abs=0.02)
    assert eer(scores, labels) == pytest.approx(claimed["eer"], abs=0.03)


@pytest.mark.parametrize("name", list(BUNDLED))
def test_the_card_and_the_file_tell_the_same(name: str) -> None:
    path = bundled_model(name)
    _, info = read_model(path)
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert info.digest in card
    assert json.loads(info.to_json())["precision"] == "int8"
    assert {"val", "test"} <= set(info.figures)
