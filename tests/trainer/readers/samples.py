"""Data sets in miniature, laid out as they are published; the lines of protocols and keys are of the published form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def audio(path: Path, seed: int | None = None) -> Path:
    """Write a tenth of a second of noise; the same seed gives the same samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = sum(path.as_posix().encode()) if seed is None else seed
    samples = 0.1 * np.random.default_rng(number).standard_normal(1_600)
    soundfile.write(path, samples, 16_000)
    return path


def text(path: Path, *lines: str) -> Path:
    """Write lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def inthewild(root: Path) -> Path:
    text(
        root / "meta.csv",
        "file,speaker,label",
        "0.wav,Alec Guinness,spoof",
        "1.wav,Alec Guinness,spoof",
        "2.wav,Barack Obama,spoof",
        "4.wav,Christopher Hitchens,bona-fide",
        "5.wav,Barack Obama,bona-fide",
    )
    for name in "01245":
        audio(root / f"{name}.wav")
    return root


def asvspoof2019(root: Path) -> Path:
    protocols = root / "LA" / "ASVspoof2019_LA_cm_protocols"
    text(
        protocols / "ASVspoof2019.LA.cm.train.trn.txt",
        "LA_0079 LA_T_1138215 - - bonafide",
        "LA_0079 LA_T_1271820 - - bonafide",
        "LA_0098 LA_T_9999999 - A01 spoof",
        "LA_0098 LA_T_1000001 - A04 spoof",
    )
    text(
        protocols / "ASVspoof2019.LA.cm.dev.trl.txt",
        "LA_0069 LA_D_1047731 - - bonafide",
        "LA_0069 LA_D_1000002 - A03 spoof",
    )
    text(
        protocols / "ASVspoof2019.LA.cm.eval.trl.txt",
        "LA_0039 LA_E_2834763 - A11 spoof",
        "LA_0014 LA_E_8877452 - A14 spoof",
        "LA_0040 LA_E_1000003 - - bonafide",
    )
    names = {"train": ("T_1138215", "T_1271820", "T_1000001"), "dev": ("D_1047731", "D_1000002")}
    names["eval"] = ("E_2834763", "E_8877452", "E_1000003")
    for part, files in names.items():
        for name in files:
            audio(root / "LA" / f"ASVspoof2019_LA_{part}" / "flac" / f"LA_{name}.flac")
    return root


def asvspoof2021la(root: Path) -> Path:
    text(
        root / "keys" / "LA" / "CM" / "trial_metadata.txt",
        "LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval",
        "LA_0020 LA_E_6866159 g722 loc_tx bonafide bonafide notrim eval",
        "LA_0009 LA_E_5464494 none - A09 spoof notrim progress",
        "LA_0031 LA_E_1000011 opus mad_tx A12 spoof trim hidden",
    )
    text(root / "keys" / "LA" / "ASV" / "trial_metadata.txt", "LA_0007 LA_E_9332881 alaw ita_tx A07 spoof notrim eval")
    for name in ("9332881", "6866159", "5464494", "1000011"):
        audio(root / "ASVspoof2021_LA_eval" / "flac" / f"LA_E_{name}.flac")
    return root


def asvspoof2021df(root: Path) -> Path:
    text(
        root / "keys" / "DF" / "CM" / "trial_metadata.txt",
        "LA_0023 DF_E_2000011 nocodec asvspoof A14 spoof notrim progress traditional_vocoder - - - -",
        "TEF2 DF_E_2000013 low_m4a vcc2020 Task1-team20 spoof notrim eval waveform_concatenation Task1 team20 FF E",
        "TGF1 DF_E_2000024 mp3m4a vcc2020 - bonafide notrim eval bonafide - - - -",
        "LA_0043 DF_E_2000026 high_ogg asvspoof - bonafide notrim eval bonafide - - - -",
    )
    parts = {"00": ("2000011", "2000013"), "01": ("2000024", "2000026")}
    for part, names in parts.items():
        for name in names:
            audio(root / f"ASVspoof2021_DF_eval_part{part}" / "ASVspoof2021_DF_eval" / "flac" / f"DF_E_{name}.flac")
    return root


def asvspoof5(root: Path) -> Path:
    protocols = root / "ASVspoof5_protocols"
    text(
        protocols / "ASVspoof5.train.tsv",
        "T_4850 T_0000000000 F - - - AC3 A05 spoof -",
        "T_3734 T_0000000011 F - - - - bonafide bonafide -",
    )
    text(
        protocols / "ASVspoof5.dev.track_1.tsv",
        "D_0062 D_0000000001 F - - - AC1 A11 spoof -",
        "D_0461 D_0000000190 M - - - - bonafide bonafide -",
    )
    text(
        protocols / "ASVspoof5.eval.track_1.tsv",
        "E_1607 E_0009538969 M C05 3 E_0000000011 AC2 A19 spoof -",
        "E_0231 E_0000000020 F - - - - bonafide bonafide -",
    )
    names = ("flac_T/T_0000000000", "flac_T/T_0000000011", "flac_D/D_0000000001", "flac_D/D_0000000190")
    for name in (*names, "flac_E_eval/E_0009538969", "flac_E_eval/E_0000000020"):
        audio(root / f"{name}.flac")
    return root


def fakeorreal(root: Path) -> Path:
    tail = ".wav_16k.wav_norm.wav_mono.wav_silence.wav"
    for part in ("training", "validation", "testing"):
        for label in ("real", "fake"):
            audio(root / "for-norm" / "for-norm" / part / label / f"file17{tail}")
    audio(root / "for-norm" / "for-norm" / "training" / "fake" / f"file18.mp3{tail}")
    return root


def wavefake(root: Path) -> Path:
    copies = root / "generated_audio"
    audio(copies / "ljspeech_melgan" / "LJ001-0001_gen.wav")
    audio(copies / "ljspeech_hifiGAN" / "LJ001-0001_generated.wav")
    audio(copies / "ljspeech_hifiGAN" / "LJ001-0002_generated.wav")
    audio(copies / "jsut_multi_band_melgan" / "BASIC5000_0001_gen.wav")
    audio(copies / "common_voices_prompts_from_conformer_fastspeech2_pwg_ljspeech" / "gen_0.wav")
    audio(root / "LJSpeech-1.1" / "wavs" / "LJ001-0001.wav")
    audio(root / "jsut_ver1.1" / "basic5000" / "wav" / "BASIC5000_0001.wav")
    return root


MLAAD_HEADER = (
    "path|original_file|language|is_original_language|duration|training_data|model_name|architecture|transcript"
)
BOOK = "en_US/by_book/female/mary_ann/northandsouth/wavs/northandsouth_40_f000069.wav"


def mlaad(root: Path, *, real: bool = True) -> Path:
    english = root / "fake" / "en" / "tts_models_en_ljspeech_vits"
    german = root / "fake" / "de" / "griffin_lim"
    text(
        english / "meta.csv",
        MLAAD_HEADER,
        f'./fake/en/{english.name}/northandsouth_40_f000069.wav|{BOOK}|en|True|3.2|ljspeech|vits|VITS|He said "go',
    )
    text(
        german / "meta.csv",
        MLAAD_HEADER,
        "abc.wav|de_DE/by_book/male/karlsson/maerchen/wavs/abc.wav|de|False|2.1|-|griffin_lim|Griffin-Lim|Es war",
    )
    audio(english / "northandsouth_40_f000069.wav")
    audio(german / "abc.wav")
    if real:
        audio(root / "real" / BOOK)
    return root
