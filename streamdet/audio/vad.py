"""Voice activity: the share of each hop that is speech (Silero VAD 6.2, MIT licence, through ONNX Runtime)."""

from __future__ import annotations

from importlib import resources

import numpy as np
import numpy.typing as npt
import onnxruntime

from streamdet.engine.runtime import session_options
from streamdet.features.logmel import FloatArray

CHUNK = 512  # samples at 16 kHz that the model judges at once; a hop of 5,120 samples is ten of them
CONTEXT = 64  # samples of the chunk before that it wants to see again
UNITS = 128
STATE = CONTEXT + 2 * UNITS


class VoiceActivity:
    """Speech probability of each 32 ms chunk; the state of a stream is one float32 row of ``STATE`` values.

    Streams are judged one by one, all chunks of a hop in one call, so that a stream's values never depend on who
    else is being scored.
    """

    def __init__(self) -> None:
        path = resources.files("streamdet.models") / "silero-vad.onnx"
        self._session = onnxruntime.InferenceSession(
            path.read_bytes(), session_options(), providers=["CPUExecutionProvider"]
        )

    def start(self, streams: int = 1) -> FloatArray:
        """State of fresh streams, ``[streams, STATE]``."""
        return np.zeros((streams, STATE), np.float32)

    def __call__(self, samples: FloatArray, state: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Judge whole chunks.

        Args:
            samples: float32 ``[streams, k * CHUNK]`` at 16 kHz.
            state: float32 ``[streams, STATE]``.

        Returns:
            ``(probabilities [streams, k], next state)``.
        """
        judged = [self._one(row, kept) for row, kept in zip(samples, state, strict=True)]
        return np.stack([p for p, _ in judged]), np.stack([s for _, s in judged])

    def _one(self, samples: FloatArray, state: FloatArray) -> tuple[FloatArray, FloatArray]:
        joined = np.concatenate((state[:CONTEXT], samples))
        windows = np.lib.stride_tricks.sliding_window_view(joined, CONTEXT + CHUNK)[::CHUNK]
        h, c = state[CONTEXT:].reshape(2, 1, 1, UNITS)
        probabilities, h, c = self._session.run(
            ("speech_probs", "hn", "cn"), {"input": np.ascontiguousarray(windows), "h": h, "c": c}
        )
        return probabilities, np.concatenate((joined[-CONTEXT:], h.ravel(), c.ravel()))


def speech_share(probabilities: npt.NDArray[np.float32], threshold: float = 0.5) -> npt.NDArray[np.float32]:
    """Share of the chunks ``[streams, k]`` that are speech, float32 ``[streams]``."""
    share: FloatArray = (probabilities >= threshold).mean(axis=1, dtype=np.float32)
    return share
