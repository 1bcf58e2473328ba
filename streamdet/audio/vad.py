"""Voice activity: the share of each hop that is speech (Silero VAD 6.2, MIT licence, through ONNX Runtime).

The network is Silero's with its weights unchanged, rearranged so that all streams share one call (``trainer.silero``).
"""

from __future__ import annotations

from importlib import resources

import numpy as np
import numpy.typing as npt

from streamdet.engine.runtime import load_session
from streamdet.features.logmel import FloatArray

CHUNK = 512  # samples at 16 kHz that the model judges at once; a hop of 5,120 samples is ten of them
CONTEXT = 64  # samples of the chunk before that it wants to see again
UNITS = 128
STATE = CONTEXT + 2 * UNITS
WINDOW, STEP = 256, 128  # samples of a spectrum, and from one to the next; a chunk and its context hold four
REFLECTED = 64  # samples that the fourth window lacks: those before the chunk's last sample, mirrored


class VoiceActivity:
    """Speech probability of each 32 ms chunk; the state of a stream is one float32 row of ``STATE`` values.

    A stream's values do not depend, bit for bit, on which other streams share the call: streams are rows of matrix
    products, never columns.
    """

    def __init__(self) -> None:
        path = resources.files("streamdet.models") / "silero-vad-streams.onnx"
        self._session = load_session(path.read_bytes())

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
        context, h, c = np.split(state, (CONTEXT, CONTEXT + UNITS), axis=1)
        joined = np.concatenate((context, samples), axis=1)
        even, odd = folded_frames(joined)
        feeds = {"even": even, "odd": odd, "h": np.ascontiguousarray(h)[None], "c": np.ascontiguousarray(c)[None]}
        speech, h, c = self._session.run(("speech", "hn", "cn"), feeds)
        return speech.T, np.concatenate((joined[:, -CONTEXT:], h[0], c[0]), axis=1)


def folded_frames(joined: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cut samples into the four frames of each chunk and fold them about their middle.

    Args:
        joined: float32 ``[streams, CONTEXT + k * CHUNK]``.

    Returns:
        Sums ``[k, streams, 4, 128]``, the last one the middle itself, and differences ``[k, streams, 4, 127]`` of the
        samples that lie equally far from it. A frame's first sample has no partner, and weight 0 in the network.
    """
    length = CONTEXT + CHUNK
    chunks = np.lib.stride_tricks.sliding_window_view(joined, length, axis=1)[:, ::CHUNK].transpose(1, 0, 2)
    padded = np.concatenate((chunks, chunks[..., length - 2 : length - 2 - REFLECTED : -1]), axis=2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=2)[:, :, ::STEP]
    before, after = frames[..., 1:STEP], frames[..., :STEP:-1]
    even = np.empty((*before.shape[:-1], STEP), np.float32)
    np.add(before, after, out=even[..., :-1])
    even[..., -1] = frames[..., STEP]
    return even, np.subtract(before, after, order="C")


def speech_share(probabilities: npt.NDArray[np.float32], threshold: float = 0.5) -> npt.NDArray[np.float32]:
    """Share of the chunks ``[streams, k]`` that are speech, float32 ``[streams]``."""
    share: FloatArray = (probabilities >= threshold).mean(axis=1, dtype=np.float32)
    return share
