"""The voice activity network rearranged for many streams against the one that was published."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile

from streamdet.audio.vad import CHUNK, CONTEXT, UNITS, VoiceActivity
from trainer.silero import rearrange, unrolled

PACKAGE = Path(__file__).parents[2] / "streamdet"
PUBLISHED = Path(__file__).parent / "silero-vad.onnx"


def published_probabilities(samples: np.ndarray) -> np.ndarray:
    """What the published network says of one stream, all chunks in one call."""
    session = onnxruntime.InferenceSession(PUBLISHED, providers=["CPUExecutionProvider"])
    joined = np.concatenate((np.zeros(CONTEXT, np.float32), samples))
    windows = np.lib.stride_tricks.sliding_window_view(joined, CONTEXT + CHUNK)[::CHUNK]
    state = np.zeros((1, 1, UNITS), np.float32)
    feeds = {"input": np.ascontiguousarray(windows), "h": state, "c": state}
    probabilities: np.ndarray = session.run(("speech_probs",), feeds)[0]
    return probabilities


def test_it_says_what_the_published_network_says_on_a_conversation() -> None:
    samples, rate = soundfile.read(PACKAGE / "demo" / "demo.flac", dtype="float32")
    assert rate == 16_000
    samples = samples[: len(samples) // 5_120 * 5_120]
    vad, parts = VoiceActivity(), []
    state = vad.start(1)
    for hop in samples.reshape(-1, 1, 5_120):
        probabilities, state = vad(hop, state)
        parts.append(probabilities[0])
    ours, wanted = np.concatenate(parts), published_probabilities(samples)
    assert 0.2 < (wanted >= 0.5).mean() < 0.98  # both speech and pauses were heard
    np.testing.assert_allclose(ours, wanted, atol=1e-4)
    np.testing.assert_array_equal(ours >= 0.5, wanted >= 0.5)


def test_the_package_holds_what_the_script_makes(tmp_path: Path) -> None:
    rearrange(PUBLISHED, tmp_path / "made.onnx")
    assert onnx.load(tmp_path / "made.onnx").graph == onnx.load(PACKAGE / "models" / "silero-vad-streams.onnx").graph


@pytest.mark.parametrize(("frames", "stride"), [(4, 1), (4, 2), (2, 2), (1, 1)])
def test_an_unrolled_convolution_is_the_convolution(frames: int, stride: int) -> None:
    rng = np.random.default_rng(3)
    kernel, x = rng.standard_normal((5, 3, 3)).astype(np.float32), rng.standard_normal((frames, 3)).astype(np.float32)
    padded = np.pad(x, ((1, 1), (0, 0)))
    wanted = [np.einsum("tc,oct->o", padded[at : at + 3], kernel) for at in range(0, frames, stride)]
    np.testing.assert_allclose(x.ravel() @ unrolled(kernel, frames, stride), np.concatenate(wanted), atol=1e-5)
