"""What a person reads: the model card beside a model, and an HTML report of an evaluation."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy.special import ndtri

from streamdet.engine.modelfile import Calibration, ModelInfo
from streamdet.features import FrontEndConfig
from trainer.metrics import rates
from trainer.scoring import ClipScore

Array = npt.NDArray[np.float64]
NAMES = {
    "eer": "EER",
    "auc": "AUC",
    "min_dcf": "minDCF",
    "act_dcf": "actDCF",
    "cllr": "Cllr",
    "min_cllr": "min Cllr",
    "tpr_at_1_fpr": "TPR at 1 % FPR",
    "tpr_at_01_fpr": "TPR at 0.1 % FPR",
    "hter_at_0": "HTER at log-odds 0",
}
LIMITS = """\
- It says how likely speech is to be synthetic; it does not identify anyone and it does not prove anything.
- Voices made by methods that came after the training data, read by actors or story tellers, sung, whispered or
  heavily processed are where it errs most. Do not act on one verdict alone.
- It needs speech: 1.5 seconds at the least, better three; noise and music are not judged.
- Human speech that was resynthesized by a vocoder or a neural codec counts as synthetic.
"""

PHASE = "six, those of Distill-MOS (B. Stahl and H. Gamper, 2025, MIT licence), the complex spectrum"
POWER = "three, those of PLCMOS (L. Diener et al., 2023, MIT licence), the power of each frequency"


def _beside(front_end: FrontEndConfig) -> list[str]:
    heard = [text for text, there in ((PHASE, front_end.spectrum), (POWER, front_end.powers)) if there]
    if not heard:
        return []
    return [
        f"Beside the ResNet hear causal convolutions, in floating point: {'; '.join(heard)}. Units hear each "
        "frame of their outputs; moments of what those say "
        "over the last 2.6 s and a hidden layer give log-odds that are added to the ResNet's."
    ]


def card(info: ModelInfo, size: int, data: str = "") -> str:
    """Markdown model card from what the model file says of itself; ``data`` describes training data and licences."""
    parts = [
        f"# Model card: {info.name}",
        f"Causal ResNet-18, width {info.width:g}, {info.precision}, {size / 1e6:.1f} MB, made {info.created}. "
        f"One column of evidence for every {info.front_end.hop_seconds:.2f} s of 16 kHz audio from "
        f"{info.front_end.mels} log-{info.front_end.bands} bands; windows of 3 to 10 s are pooled with learned "
        "attention.",
        *_beside(info.front_end),
        f"Digest of the model file: `{info.digest}`.",
        "## Measured",
        *(_measured(split, figures) for split, figures in info.figures.items() if "figures" in figures),
        _export(info.figures.get("export")),
        "## Calibration and thresholds",
        _calibration(info),
        *(_point(name, values) for name, values in info.operating_points.items() if values),
        "## Data",
        data.strip() or "See the manifests that were given to `trainer fit`.",
        "## Limits",
        LIMITS.strip(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _measured(split: str, figures: dict[str, Any]) -> str:
    low, high = figures["interval_95"]["eer"]
    clips = figures["clips"]
    rows = [f"| {NAMES[k]} | {v:.3f} | {figures['balanced'][k]:.3f} |" for k, v in figures["figures"].items()]
    lengths = [f"{k} s: {v['eer']:.1%} ({v['clips']})" for k, v in figures["durations"].items()]
    return "\n".join(
        [
            f"### Split `{split}`: {clips['human']} human and {clips['synthetic']} synthetic clips of unseen sources",
            "",
            "| | all clips alike | families and sources balanced |",
            "|---|---|---|",
            *rows,
            "",
            f"95 % interval of the EER: {low:.1%} to {high:.1%} (bootstrap over utterance groups). Mean EER over "
            f"families and sources: {figures['mean_group_eer']:.1%}.",
            "",
            f"EER when only the first seconds are heard (clips): {'; '.join(lengths)}.",
        ]
    )


def _export(figures: dict[str, Any] | None) -> str:
    if not figures:
        return ""
    drift = figures["drift_percent"]
    return (
        f"Difference of this file from the network in training precision, in percent of the scores' standard "
        f"deviation: {drift['column']:.2f} a column, {drift['window']:.2f} a window of 2.9 s."
    )


def _calibration(info: ModelInfo) -> str:
    scale, offset = info.calibration.scale, info.calibration.offset
    split = info.figures.get("calibration", {}).get("split")
    if split is None and info.calibration == Calibration():
        return "Not calibrated: log-odds are the network's own, and thresholds the defaults (`trainer calibrate`)."
    # Files of former versions were calibrated, too, and do not say on what.
    clips = {"val": "on validation clips ", None: ""}.get(split, f"on clips of the split `{split}` ")
    return (
        f"Calibrated log-odds = {scale:.4f} x raw + ({offset:.4f}), by logistic regression {clips}with both classes "
        "weighing the same."
    )


def _point(name: str, values: dict[str, float]) -> str:
    listed = ", ".join(f"{key} {value:.3g}" for key, value in values.items())
    return f"Operating point `{name}`: {listed}."


def page(scores: Sequence[ClipScore], figures: dict[str, Any], title: str) -> str:
    """One HTML file, pictures inside: DET and calibration curves, figures, and the groups in order of difficulty.

    ``figures`` are those of :func:`trainer.evaluate.evaluate`, and ``skipped``: ids of unusable clips, and why.
    """
    labels = np.array([s.clip.label for s in scores], np.float64)
    llr = np.array([s.llr for s in scores])
    table = _table(
        ("", "all", "balanced"), [(NAMES[k], v, figures["balanced"][k]) for k, v in figures["figures"].items()]
    )
    intervals = [(NAMES[k], low, high) for k, (low, high) in figures["interval_95"].items()]
    lengths = [(f"{seconds} s", v["eer"], v["auc"]) for seconds, v in figures["durations"].items()]
    hardest = sorted(figures["groups"].items(), key=lambda item: -item[1])
    fields = [
        (f"{field}: {value}", v["eer"], v["auc"]) for field, by in figures["by"].items() for value, v in by.items()
    ]
    return "\n".join(
        [
            "<!doctype html><meta charset=utf-8>",
            f"<title>{html.escape(title)}</title>",
            "<style>body{font:15px sans-serif;margin:2em;max-width:60em}td,th{padding:.2em .8em;text-align:right}"
            "td:first-child{text-align:left}img{max-width:48%}</style>",
            f"<h1>{html.escape(title)}</h1>",
            f"<p>{figures['clips']['human']} human, {figures['clips']['synthetic']} synthetic clips; in "
            f"{figures['no_speech']} no speech was found. Files that could not be used: {len(figures['skipped'])}.</p>",
            table,
            "<h2>95 % intervals (bootstrap over utterance groups)</h2>",
            _table(("", "from", "to"), intervals),
            _picture(_det(llr, labels)) + _picture(_reliability(llr, labels)),
            "<h2>When only the first seconds are heard</h2>",
            _table(("heard", "EER", "AUC"), lengths),
            "<h2>Groups, hardest first (EER)</h2>",
            _table(("group", "EER"), hardest),
            "<h2>By field</h2>",
            _table(("field", "EER", "AUC"), fields),
        ]
    )


def _table(head: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in head) + "</tr>"]
    for name, *values in rows:
        cells = "".join(f"<td>{value:.3f}</td>" for value in values)
        lines.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    return "<table>" + "\n".join(lines) + "</table>"


def _figure() -> Figure:
    return Figure(figsize=(5, 4), layout="constrained")


def _det(llr: Array, labels: Array) -> Figure:
    """Error rates against each other on normal deviates (A. Martin et al., 1997)."""
    figure, r = _figure(), rates(llr, labels)
    axes = figure.add_subplot(title="Detection error trade-off", xlabel="human called synthetic", ylabel="missed")
    keep = (r.miss > 0.001) & (r.miss < 0.999) & (r.false_alarm > 0.001) & (r.false_alarm < 0.999)
    axes.plot(ndtri(r.false_alarm[keep]), ndtri(r.miss[keep]))
    ticks = np.array([0.01, 0.05, 0.1, 0.2, 0.4])
    axes.set_xticks(ndtri(ticks), [f"{t:.0%}" for t in ticks])
    axes.set_yticks(ndtri(ticks), [f"{t:.0%}" for t in ticks])
    axes.grid(visible=True)
    return figure


def _reliability(llr: Array, labels: Array) -> Figure:
    """Share of synthetic clips among those of similar p_fake, both classes weighing the same."""
    figure = _figure()
    axes = figure.add_subplot(title="Calibration", xlabel="p_fake", ylabel="share synthetic")
    p = 1.0 / (1.0 + np.exp(-np.clip(llr, -50.0, 50.0)))
    weights = np.where(labels > 0, 0.5 / labels.sum(), 0.5 / (labels == 0).sum())
    cell = np.minimum((p * 10).astype(int), 9)
    total, fake = np.bincount(cell, weights, 10), np.bincount(cell, weights * labels, 10)
    used = total > 0
    axes.plot((np.arange(10)[used] + 0.5) / 10, fake[used] / total[used], marker="o")
    axes.plot((0, 1), (0, 1), linestyle=":")
    axes.grid(visible=True)
    return figure


def _picture(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return f'<img src="data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def write_card(model: Path, info: ModelInfo, data: str = "") -> Path:
    """Write the card beside ``model`` as Markdown; the section on data is kept when ``data`` is empty."""
    path = model.with_suffix(".md")
    if not data and path.exists():
        text = path.read_text(encoding="utf-8")
        data = text.partition("## Data\n")[2].partition("## Limits")[0]
    path.write_text(card(info, model.stat().st_size, data), encoding="utf-8")
    return path
