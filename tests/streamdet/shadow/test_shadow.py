"""A second model beside the first: compared, never heard, and swapped in as if it had been there all along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamdet.assembly import Settings
from streamdet.audio.block import Block
from streamdet.bundled import bundled_model
from streamdet.config import Config
from streamdet.engine.modelfile import Calibration, read_model, seal
from streamdet.engine.onnx import OnnxEngine
from streamdet.events import Event, Score
from streamdet.pipeline import Pipeline
from streamdet.shadow.shadows import Shadows
from trainer.export import ExportReport

from ..conftest import DEMO
from ..test_reload import Tail, reloads

HOP = 5120


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled network, calibrated differently: another model with another digest."""
    content, info = read_model(bundled_model("edge"))
    path = tmp_path_factory.mktemp("models") / "other.onnx"
    shifted = Calibration(info.calibration.scale, info.calibration.offset + 1.0)
    path.write_bytes(seal(content, replace(info, name="other", calibration=shifted)))
    return path


def make(model: Path, events: list[Event]) -> Pipeline:
    engine = OnnxEngine(model)
    return Pipeline(engine, Settings(Config(), engine.info).judge, events.append, ring_seconds=20.0)


def feed(pipeline: Pipeline, speech: np.ndarray, begin: int, end: int) -> None:
    for hop in range(begin, end):
        for name, shift in (("a", 0), ("b", 60)):
            samples = speech[(hop + shift) * HOP : (hop + shift + 1) * HOP]
            pipeline.push(Block(name, samples, 16_000))
        pipeline.drain()


def scores(events: list[Event], stream: str) -> list[Score]:
    return [event for event in events if isinstance(event, Score) and event.stream == stream]


def test_after_a_swap_it_is_as_if_the_new_model_had_heard_everything(speech: np.ndarray, other: Path) -> None:
    swapped: list[Event] = []
    always: list[Event] = []
    pipeline = make(bundled_model("edge"), swapped)
    shadows = Shadows(Config(), other, [pipeline])
    shadows.start()
    feed(pipeline, speech, 0, 40)
    shadows.check_warm()
    shadows.swap()
    feed(pipeline, speech, 40, 80)
    pipeline.finish("end")
    reference = make(other, always)
    feed(reference, speech, 0, 80)
    reference.finish("end")
    digests = [read_model(path)[1].digest for path in (bundled_model("edge"), other)]
    for name in ("a", "b"):
        mine, wanted = scores(swapped, name), scores(always, name)
        assert [score.model for score in mine] == [digests[0]] * 40 + [digests[1]] * 40
        assert [score.seq for score in mine] == sorted(score.seq for score in mine)
        assert [score.media_time for score in mine] == [score.media_time for score in wanted]
        for got, want in zip(mine[40:], wanted[40:], strict=True):
            assert (got.p_fake, got.verdict) == (pytest.approx(want.p_fake, abs=1e-6), want.verdict)
            assert got.windows == pytest.approx(want.windows, abs=1e-6)
    pipeline.engine.close()
    reference.engine.close()


def test_a_model_of_other_bands_hears_for_itself_and_takes_over(
    speech: np.ndarray, exported: dict[str, ExportReport]
) -> None:
    """Logits after the swap are those of a pipeline that had the new model from the start, also after a long gap."""
    path = exported["int8"].path
    columns: dict[str, list[tuple[str, float, float]]] = {"swapped": [], "always": []}
    pipeline, reference = make(bundled_model("edge"), []), make(path, [])
    for name, heard in (("swapped", pipeline), ("always", reference)):
        kept = columns[name]
        heard.add_tap(lambda hop, kept=kept: kept.append((hop.stream, hop.column.logit, hop.judgement.media_time)))
    shadows = Shadows(Config(), path, [pipeline])
    shadows.start()
    for each in (pipeline, reference):
        feed(each, speech, 0, 20)
        for name in "ab":
            each.push(Block(name, np.zeros(0, np.float32), 16_000, lost=10 * HOP))
        each.drain()
        feed(each, speech, 20, 40)
    shadows.check_warm()
    shadows.swap()
    for each in (pipeline, reference):
        feed(each, speech, 40, 60)
        each.push(Block("new", speech[: 3 * HOP], 16_000))
        each.drain()
    after = [row for row in columns["swapped"] if row[2] > 50 * 0.32 + 0.01 or row[0] == "new"]
    wanted = [row for row in columns["always"] if row[2] > 50 * 0.32 + 0.01 or row[0] == "new"]
    assert len(after) == 43
    assert after == wanted
    assert shadows.comparison().dropped == 0
    pipeline.engine.close()
    reference.engine.close()


def test_the_comparison_says_how_the_two_differ(speech: np.ndarray, other: Path) -> None:
    events: list[Event] = []
    pipeline = make(bundled_model("edge"), events)
    shadows = Shadows(Config(), other, [pipeline])
    shadows.start()
    feed(pipeline, speech, 0, 60)
    pipeline.finish("end")
    (shadow,) = shadows._shadows
    shadow.hand_over()
    detail = shadows.detail()
    assert detail["hops"] == 120
    assert detail["dropped"] == 0
    assert detail["mean_difference"] == pytest.approx(1.0, abs=1e-3)  # the offset of its calibration
    assert detail["correlation"] == pytest.approx(1.0, abs=1e-3)
    assert 0.3 < detail["agreement"] < 1.0
    assert {event.model for event in events} == {pipeline.engine.info.digest}  # nothing of the shadow is published
    shadow.engine.close()
    pipeline.engine.close()


def test_shadow_and_swap_by_reload(
    start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path, endpoint: str, other: Path
) -> None:
    path = tmp_path / "streams.toml"
    source = f'[[source]]\nuri = "file:{DEMO}?loop=1&name=demo"\n'
    begin = f'publish = "{endpoint}"\n'
    path.write_text(begin + source)
    process = start("listen", "--config", path, "--json")
    tail = Tail(process)
    tail.wait(lambda event: event["type"] == "score")
    path.write_text(begin + source + f'[shadow]\nmodel = "{other}"\nevery = 1\n')
    os.kill(process.pid, signal.SIGHUP)
    tail.wait(reloads(1, tail))
    found = tail.wait(lambda event: event.get("detail", {}).get("cause") == "shadow" and event["detail"]["hops"] > 34)
    assert found["detail"]["shadow"] == read_model(other)[1].digest
    path.write_text(f'model = "{other}"\n' + begin + source)
    os.kill(process.pid, signal.SIGHUP)
    told = tail.wait(reloads(2, tail))
    assert told["phase"] == "live", told
    assert told["detail"]["restart"] == ""
    tail.wait(lambda event: event["type"] == "score" and event["model"] == read_model(other)[1].digest)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    mine = [event for event in tail.events if event["stream"] == "demo"]
    assert [event["seq"] for event in mine] == list(range(1, len(mine) + 1))
    times = [event["media_time"] for event in mine if event["type"] == "score"]
    whole = [0.32 * (n + 1) for n in range(len(times))]
    assert times[:-1] == pytest.approx(whole[:-1], abs=0.01)
    assert times[-2] < times[-1] <= whole[-1] + 0.01  # what was left at the end is part of a hop
    assert json.dumps(mine[-1])
