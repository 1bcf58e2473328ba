"""WaveFake (J. Frank and L. Schoenherr, NeurIPS 2021): copies of LJSpeech and JSUT by vocoders, a folder each.

The human originals come from LJSpeech 1.1 and JSUT 1.1, beside the copies or where ``real`` points; a copy names its
original as parent and shares its ``group``, the utterance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from trainer.data.readers.base import Layout, Options, Row, audio_files, identity

CORPORA = {"ljspeech": ("en", re.compile(r"LJ\d{3}-\d{4}")), "jsut": ("ja", re.compile(r"BASIC5000_\d{4}"))}
SPOKEN = "common_voices_prompts_from_conformer_fastspeech2_pwg_ljspeech"  # text to speech, so without originals
REALS = (".", "wavs", "basic5000/wav", "LJSpeech-1.1/wavs", "jsut_ver1.1/basic5000/wav")


def _copies(root: Path) -> list[Path]:
    """Folders of generated speech, at the root or in ``generated_audio``."""
    places = [p for base in (root, root / "generated_audio") if base.is_dir() for p in base.iterdir() if p.is_dir()]
    return sorted(p for p in places if p.name == SPOKEN or re.fullmatch(r"(ljspeech|jsut)_[A-Za-z0-9_]+", p.name))


def _corpus(name: str) -> str:
    return "jsut" if name.startswith("jsut_") else "ljspeech"


def _utterance(corpus: str, path: Path) -> str:
    match = CORPORA[corpus][1].search(path.name)
    return match.group() if match else ""


def _human(root: Path, options: Options) -> dict[str, Path]:
    """Originals by utterance."""
    found: dict[str, Path] = {}
    for base in (options.real,) if options.real is not None else (root, root.parent):
        for folder in (base / r for r in REALS):
            for corpus in CORPORA:
                names = (p for p in sorted(folder.glob("*.wav")) if _utterance(corpus, p) == p.stem)
                found |= {p.stem: p for p in names}
    return found


def _rows(root: Path, options: Options) -> Iterator[Row]:
    human = _human(root, options)
    for utterance, path in human.items():
        yield _row(path, "real", "jsut" if utterance.startswith("BASIC") else "ljspeech", utterance)
    for folder in _copies(root):
        corpus = _corpus(folder.name)
        family = "conformer_fastspeech2_pwg" if folder.name == SPOKEN else folder.name.removeprefix(f"{corpus}_")
        for path in audio_files(folder):
            utterance = "" if folder.name == SPOKEN else _utterance(corpus, path)
            parent = identity("wavefake", root, human[utterance]) if utterance in human else ""
            yield _row(path, "fake", corpus, utterance, family=family, parent=parent)


def _row(path: Path, label: str, corpus: str, utterance: str, *, family: str = "", parent: str = "") -> Row:
    return Row(
        path,
        label,
        family=family,
        source=f"WaveFake/{corpus}",
        group=utterance,
        era="2021" if family else "",
        language=CORPORA[corpus][0],
        parent=parent,
        speaker=corpus,
        columns={"corpus": corpus, "utterance": utterance},
    )


LAYOUT = Layout(
    "wavefake",
    "folders ljspeech_<vocoder> and jsut_<vocoder>, or generated_audio/ with them; LJSpeech-1.1, jsut_ver1.1 beside",
    lambda root: root.is_dir() and bool(_copies(root)),
    _rows,
)
