"""Kinds of synthesis, and which family is of which: what a mean over families hides shows by kind."""

from __future__ import annotations

from fnmatch import fnmatchcase

OTHER = "other"
# The first kind with a pattern that fits a family's name has it; patterns are those of the shell.
KINDS: dict[str, tuple[str, ...]] = {
    "commercial": (
        *("azure*", "elevenlabs*", "minimax*", "openai*", "polly*", "google-*", "fluentspeech-api"),
        *("Trump TTS*", "hooligan*"),
    ),
    "vocoder and codec copies": (
        *("cs-*", "*codec*", "bigvgan*", "dac", "mimi", "snac", "tf_codec", "encodec", "lyra*", "hifigan", "istftnet"),
        *("melgan", "mb-melgan", "style-melgan", "parallelwavegan", "univnet", "vocos", "waveflow", "wavegrad*"),
        *("wavenet", "specgrad", "priorgrad", "diffwave", "clarinet", "snakegan", "sc-wavernn", "blow", "gt-mel*"),
        *("speechtokenizer", "stable-codec*", "speech-resynthesis", "fastdiff", "ardit*", "gslm"),
    ),
    "voice conversion": (
        *("*-vc", "*vc", "*vc-*", "*-vc+", "vqvc+", "freevc", "starganv2*", "diffvc", "quickvc", "fragmentvc", "nansy"),
        *("fragementvc", "mediumvc", "vqmivc", "adain-*", "slmgan", "nvcnet", "mixstyle", "speaker-anonymisation"),
        *("vcc2020*", "gmvae*-vc", "flowvae-vc", "3d_vd", "*chou-vc*"),
    ),
    "zero-shot and LLM voices": (
        *("clam-tts", "cosyvoice*", "ditto-tts", "e1-tts", "e3tts", "f5-tts", "fireredtts*", "fish-speech", "zipvoice"),
        *("flashspeech", "make-a-voice", "maskgct", "megatts*", "mobilespeech", "naturalspeech2", "naturalspeech3"),
        *("pflow", "seed-tts", "spear*", "tortoise", "uniaudio", "vall-e*", "voicebox", "voicecraft", "xtts*"),
        *("yourtts", "zet-speech", "hierspeech*", "instructtts", "generspeech", "adaspeech", "stylespeech"),
        *("visparkrl*", "styletts2"),
    ),
    "classic TTS": ("*",),
}


def kind(family: str) -> str:
    """Kind of a family of synthetic speech; a family without a name is of another kind."""
    if not family:
        return OTHER
    return next(name for name, patterns in KINDS.items() if any(fnmatchcase(family, p) for p in patterns))
