from __future__ import annotations

import pytest

from trainer.families import KINDS, OTHER, kind


@pytest.mark.parametrize(
    ("family", "wanted"),
    [
        ("tacotron2", "classic TTS"),
        ("espeak", "classic TTS"),
        ("vits", "classic TTS"),
        ("cs-fargan", "vocoder and codec copies"),
        ("ticodec-1000bps", "vocoder and codec copies"),
        ("hifigan", "vocoder and codec copies"),
        ("lvc-vc", "voice conversion"),
        ("starganv2-vc", "voice conversion"),
        ("seed-tts-vc", "voice conversion"),
        ("vall-e", "zero-shot and LLM voices"),
        ("seed-tts", "zero-shot and LLM voices"),
        ("elevenlabs", "commercial"),
        ("", OTHER),
    ],
)
def test_families_have_the_kind_one_expects(family: str, wanted: str) -> None:
    assert kind(family) == wanted
    assert wanted in (*KINDS, OTHER)
