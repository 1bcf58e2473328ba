"""A model made for other bands than the bundled one, from its checkpoint through the run time."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamdet.assembly import Settings
from streamdet.audio.block import Block
from streamdet.config import Config
from streamdet.engine.modelfile import read_model
from streamdet.engine.onnx import OnnxEngine
from streamdet.engine.pooled import pooled_network
from streamdet.engine.runtime import load_session
from streamdet.features import FrontEnd
from streamdet.pipeline import Pipeline
from streamdet.scan import scan
from streamdet.tap import Heard
from trainer.export import ExportReport, reference_columns, whole_hops
from trainer.models.resnet import CausalResNet

from ..conftest import LINEAR
from .conftest import DEMO

HOPS = 40
Models = dict[str, ExportReport]


def columns(model: Path, sound: dict[str, np.ndarray], block: int) -> dict[str, np.ndarray]:
    """Columns ``[hops, 2]`` of several streams that go through one pipeline in blocks of ``block`` samples."""
    engine, heard = OnnxEngine(model), {name: [] for name in sound}

    def tap(hop: Heard) -> None:
        heard[hop.stream].append((hop.column.logit, hop.column.attention))

    settings = Settings(Config(), engine.info)
    pipeline = Pipeline(engine, settings.judge, lambda _: None, ring_seconds=20.0, taps=[tap])
    for at in range(0, max(len(samples) for samples in sound.values()), block):
        for name, samples in sound.items():
            if at < len(samples):
                pipeline.push(Block(name, samples[at : at + block], 16_000))
        pipeline.drain()
    pipeline.finish("end")
    engine.close()
    return {name: np.array(found) for name, found in heard.items()}


@pytest.fixture(scope="module")
def sound(speech: np.ndarray) -> dict[str, np.ndarray]:
    return {f"s{n}": speech[n * 100_000 : n * 100_000 + HOPS * 5_120] for n in range(3)}


def test_the_file_says_what_it_is_made_for_and_what_the_export_cost(linear_models: Models) -> None:
    for precision, report in linear_models.items():
        info = read_model(report.path)[1]
        assert info.front_end == LINEAR
        assert info.precision == precision
    drift = {precision: min(d.column for d in report.drift.values()) for precision, report in linear_models.items()}
    assert drift["fp32"] < 0.01
    assert drift["fp16"] < 2.0
    assert 0.1 < drift["int8"] < 20.0  # percent; trained networks come an order of magnitude closer
    assert 0.1 < drift["qdq"] < 30.0


def test_what_the_pipeline_says_in_blocks_is_what_torch_says_of_the_whole(
    linear_models: Models, linear_network: CausalResNet, sound: dict[str, np.ndarray]
) -> None:
    found = columns(linear_models["fp32"].path, sound, 320)
    for name, samples in sound.items():
        whole = reference_columns(linear_network, whole_hops(FrontEnd(LINEAR).whole(samples)))
        assert np.ptp(whole[:, 0]) > 0.1
        np.testing.assert_allclose(found[name], whole, rtol=1e-3, atol=1e-3)


def test_integers_are_the_same_bits_alone_and_together_in_any_blocks(
    linear_models: Models, sound: dict[str, np.ndarray]
) -> None:
    path = linear_models["int8"].path
    together = columns(path, sound, 5_120)
    for name, samples in sound.items():
        np.testing.assert_array_equal(columns(path, {name: samples}, 333)[name], together[name])
        assert np.ptp(together[name][:, 0]) > 0


@pytest.mark.parametrize("precision", ["fp16", "qdq"])
def test_plans_for_gpus_are_made_of_such_networks(linear_models: Models, precision: str) -> None:
    path = linear_models[precision].path
    session, engine = load_session(pooled_network(path.read_bytes())), OnnxEngine(path)
    features = np.random.default_rng(0).random((2, 32, LINEAR.mels), np.float32)
    slots = np.array([engine.allocate(), engine.allocate()], np.intp)
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    pools = {p.name: np.zeros((2, *p.shape[1:]), types[p.type]) for p in session.get_inputs()[2:]}
    inside = session.run(("column",), {"features": features, "slots": slots.astype(np.int32), **pools})[0]
    np.testing.assert_allclose(inside, engine.step(slots, features), rtol=1e-4, atol=1e-4)


def test_a_file_is_scanned(linear_models: Models, tmp_path: Path, speech: np.ndarray) -> None:
    soundfile.write(tmp_path / "a.wav", speech[: HOPS * 5_120], 16_000)
    (result,) = scan(Config(model=linear_models["int8"].path), [tmp_path / "a.wav"])
    assert result.error is None
    assert result.p_fake is not None
    assert len(result.track) == HOPS


def test_listen_writes_picture_and_frames_of_these_bands(
    linear_models: Models, run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """The alarm is set so low that every voice raises it."""
    model, folder, config = linear_models["int8"], tmp_path / "kept", tmp_path / "streams.toml"
    config.write_text(
        f'model = "{model.path}"\n[[source]]\nuri = "file:{DEMO}?name=demo&speed=max"\n'
        f'[alarm]\nraise = 0.001\nclear = 0.0005\n[evidence]\ndir = "{folder}"\nmode = "features"\n'
    )
    done = run("listen", "--config", config, "--publish", "none", "--json")
    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["model"] for line in done.stdout.splitlines()} == {model.info.digest}
    with np.load(next(folder.glob("*.npz"))) as kept:
        assert kept["log_mel"].shape[1] == LINEAR.mels
        assert json.loads(str(kept["front_end"])) == LINEAR.to_dict()
    assert next(folder.glob("*.png")).read_bytes().startswith(b"\x89PNG")
