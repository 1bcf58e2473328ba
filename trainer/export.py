"""Turns a checkpoint into a model file that the run time accepts, and measures what the conversion costs."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from streamdet.engine.modelfile import ModelInfo, seal
from streamdet.engine.onnx import OnnxEngine
from streamdet.errors import ModelError
from streamdet.features.logmel import FloatArray
from trainer.gpu_graph import HalfGraph, QdqGraph
from trainer.graph import FloatGraph, IntegerGraph, fold, resnet_of
from trainer.models.fused import FusedNet
from trainer.models.load import Network, load_network
from trainer.models.resnet import STRIDE
from trainer.quantize import CALIBRATORS, choose_scales, compensate, correct_biases, observe

Precision = Literal["fp32", "int8", "fp16", "qdq"]  # the last two for GPUs
WINDOW = 9  # columns of the windows that drift is given for: 2.88 s, the shortest decision


@dataclass(frozen=True, slots=True)
class Drift:
    """Root mean square difference from the network in torch, in percent of the standard deviation of its values.

    ``column`` is over the logits of single columns, ``window`` over the log-odds pooled from nine columns.
    """

    column: float
    window: float


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export made: the file, its description, and its drift by calibrator (``none`` without integers)."""

    path: Path
    info: ModelInfo
    size: int
    calibrator: str
    drift: dict[str, Drift]


def export_model(
    checkpoint: Path,
    out_path: Path,
    precision: Precision,
    calibration_features: Sequence[FloatArray],
    meta: ModelInfo,
) -> ExportReport:
    """Export a checkpoint to a model file.

    For int8 and qdq half of the clips, drawn at random but always the same, choose the scales of the activations, by
    each calibrator in turn, with weights rounded to the nearest step and with compensation (int8 alone), and the others
    measure the drift; what drifts least wins. The file goes
    to ``out_path`` in one piece.

    Args:
        checkpoint: file that :func:`trainer.models.load.load_network` reads.
        out_path: model file to write.
        precision: ``fp32``, or ``int8`` for uint8 activations and 7-bit weights; for GPUs ``fp16``, or ``qdq`` for
            symmetric int8 as pairs of quantization and its reverse.
        calibration_features: two or more clips ``[frames, values]`` from :class:`streamdet.features.FrontEnd`, human
            and synthetic, a few dozen or more; shorter ones than 32 frames do not count.
        meta: description to store; width, precision and the figure ``export`` are filled in.

    Raises:
        ModelError: the checkpoint cannot be read, its network looks ahead, or there are too few clips.
    """
    network = load_network(checkpoint)
    if not network.causal:
        raise ModelError(f"{checkpoint}: padded at both ends, so it needs the future; only a causal network can stream")
    clips = [whole_hops(clip) for clip in calibration_features if len(clip) >= STRIDE]
    if len(clips) < 2:
        raise ModelError(f"export needs two or more clips of {STRIDE} frames or more, got {len(clips)}")
    order = np.random.default_rng(0).permutation(len(clips)).tolist()
    chosen, held_out = [clips[i] for i in order[::2]], [clips[i] for i in order[1::2]]
    info = dataclasses.replace(meta, width=float(network.settings["width"]), precision=precision)
    reference = [reference_columns(network, clip) for clip in held_out]
    with tempfile.TemporaryDirectory(dir=out_path.parent) as scratch:
        drifts = {}
        for calibrator, graph in _candidates(network, precision, chosen):
            candidate = Path(scratch) / calibrator
            candidate.write_bytes(seal(graph, info))
            drifts[calibrator] = measure_drift(reference, streamed_columns(candidate, held_out))
            candidate.write_bytes(graph)
        best = min(drifts, key=lambda name: drifts[name].column)
        figures = {**info.figures, "export": {"calibrator": best, "drift_percent": dataclasses.asdict(drifts[best])}}
        info = dataclasses.replace(info, figures=figures)
        winner = Path(scratch) / best
        winner.write_bytes(seal(winner.read_bytes(), info))
        winner.replace(out_path)
    return ExportReport(out_path, OnnxEngine(out_path).info, out_path.stat().st_size, best, drifts)


def whole_hops(clip: FloatArray) -> FloatArray:
    """Cut ``clip`` (``[frames, values]``) to a multiple of 32 frames, contiguous."""
    return np.ascontiguousarray(clip[: len(clip) // STRIDE * STRIDE], np.float32)


@torch.inference_mode()
def reference_columns(network: Network, clip: FloatArray) -> FloatArray:
    """Columns ``[frames / 32, 2]`` of a clip according to torch."""
    columns: FloatArray = network(torch.from_numpy(clip)[None])[0][0].numpy()
    return columns


def streamed_columns(path: Path, clips: Sequence[FloatArray]) -> list[FloatArray]:
    """Columns of clips according to a model file, hop by hop, all clips side by side."""
    engine = OnnxEngine(path)
    slots = np.array([engine.allocate() for _ in clips], np.intp)
    hops = [len(clip) // STRIDE for clip in clips]
    results = [np.empty((count, 2), np.float32) for count in hops]
    for hop in range(max(hops)):
        running = [i for i, count in enumerate(hops) if count > hop]
        features = np.stack([clips[i][hop * STRIDE : (hop + 1) * STRIDE] for i in running])
        for i, column in zip(running, engine.step(slots[running], features), strict=True):
            results[i][hop] = column
    engine.close()
    return results


def measure_drift(reference: Sequence[FloatArray], columns: Sequence[FloatArray]) -> Drift:
    """Compare columns ``[n, 2]`` of the same clips; clips shorter than a window count as one window."""
    wanted = np.concatenate([part[:, 0] for part in reference])
    got = np.concatenate([part[:, 0] for part in columns])
    pooled = np.array([value for part in reference for value in _windows(part)])
    drifted = np.array([value for part in columns for value in _windows(part)])
    return Drift(_relative(wanted, got), _relative(pooled, drifted))


def _candidates(network: Network, precision: Precision, clips: Sequence[FloatArray]) -> Iterator[tuple[str, bytes]]:
    folded = fold(network)
    if precision == "fp32":
        yield "none", FloatGraph(folded).build().SerializeToString()
        return
    if precision == "fp16":
        yield "none", HalfGraph(folded).build().SerializeToString()
        return
    resnet = resnet_of(folded)
    bands = [np.ascontiguousarray(clip[:, : resnet.mels]) for clip in clips]
    samples = observe(resnet, bands)
    ways = {"": None, ", compensated": compensate(resnet, bands) if precision == "int8" else None}
    for name, calibrator in CALIBRATORS.items():
        scales = choose_scales(samples, calibrator)
        if precision == "qdq":
            yield name, QdqGraph(folded, scales).build().SerializeToString()
            continue
        for suffix, rounded in ways.items():
            corrected = correct_biases(resnet, scales, bands, rounded)
            whole = folded.with_resnet(corrected) if isinstance(folded, FusedNet) else corrected
            yield name + suffix, IntegerGraph(whole, scales, rounded).build().SerializeToString()


def _windows(columns: FloatArray) -> Iterator[float]:
    for end in range(min(WINDOW, len(columns)), len(columns) + 1):
        part = columns[max(0, end - WINDOW) : end].astype(np.float64)
        yield float(np.average(part[:, 0], weights=np.exp(part[:, 1])))


def _relative(wanted: FloatArray, got: FloatArray) -> float:
    deviation = float(np.std(wanted, dtype=np.float64))
    return 100.0 * float(np.sqrt(np.mean(np.square(got.astype(np.float64) - wanted)))) / max(deviation, 1e-12)
