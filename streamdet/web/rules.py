"""How a stream is judged, as the page draws it."""

from __future__ import annotations

from typing import Any

from streamdet.decide.calibrate import probability
from streamdet.decide.judge import JudgeConfig


def describe_rules(judged: JudgeConfig) -> dict[str, Any]:
    """Plain values for JSON: lengths of the windows in seconds, probabilities, and the least speech in seconds."""
    return {
        "windows": sorted(set(judged.windows)),
        "spoof": round(probability(judged.rules.spoof_at), 3),
        "bona_fide": round(probability(judged.rules.bona_fide_at), 3),
        "min_speech": judged.rules.min_speech_seconds,
    }
