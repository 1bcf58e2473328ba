"""ASVspoof 2019 LA, 2021 LA and DF, and ASVspoof 5: protocols of words, audio in folders ``flac``.

The same speakers lend their voices to human and synthetic speech, so ``group`` is the speaker.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trainer.data.errors import DataError
from trainer.data.readers.base import Layout, Options, Row, blank, by_stem, lines, only, wanted

PARTS_2019 = {"train": ("train", "trn"), "dev": ("val", "trl"), "eval": ("test", "trl")}
SUBSETS_2021 = {"progress": "val", "eval": "test"}  # further subsets, as "hidden", keep their names
ERAS_DF = {"asvspoof": "2019", "vcc2018": "2018", "vcc2020": "2020"}
PARTS_5 = {
    "ASVspoof5.train.tsv": ("train", ("flac_T",)),
    "ASVspoof5.dev.track_1.tsv": ("val", ("flac_D",)),
    "ASVspoof5.eval.track_1.tsv": ("test", ("flac_E_eval", "flac_E")),
}


def _protocols_2019(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for part, (_, kind) in PARTS_2019.items():
        paths = list(root.rglob(f"ASVspoof2019.LA.cm.{part}.{kind}.txt"))
        if paths:
            found[part] = only(paths, f"protocol of {part}", root)
    return found


def _detect_2019(root: Path) -> bool:
    return root.is_dir() and bool(_protocols_2019(root))


def _rows_2019(root: Path, options: Options) -> Iterator[Row]:
    """Read lines of speaker, file, a column for physical access only, attack and key."""
    protocols = _protocols_2019(root)
    if not protocols:
        raise DataError(f"{root}: no protocol ASVspoof2019.LA.cm.*.txt")
    for part, protocol in protocols.items():
        split, places = PARTS_2019[part][0], list(root.rglob(f"ASVspoof2019_LA_{part}"))
        if not places and not wanted(split, options):
            continue
        folder = only(places, f"folder ASVspoof2019_LA_{part}", root) / "flac"
        for speaker, name, _, attack, key, *_ in lines(protocol, 5):
            yield Row(
                folder / f"{name}.flac",
                key,
                split=split,
                family=blank(attack),
                source="ASVspoof 2019 LA",
                group=speaker,
                era="2019",
                language="en",
                speaker=speaker,
                columns={"attack": attack, "part": part},
            )


def _keys_2021(root: Path, track: str) -> list[Path]:
    """Key files of a track; its first utterance says which track a file is of, since folders are often renamed."""
    found = []
    for path in root.rglob("trial_metadata.txt"):
        words = next(lines(path, 1), [])
        if len(words) >= 8 and words[1].startswith(f"{track}_E_") and path.parent.name != "ASV":
            found.append(path)
    return found


def _audio_2021(root: Path, track: str) -> dict[str, Path]:
    """Audio by name, from the folders of this track where they can be told apart (DF comes in four parts)."""
    folders = sorted(p for p in root.rglob(f"ASVspoof2021_{track}_eval*") if p.is_dir())
    outer = [f for f in folders if not any(f.is_relative_to(o) and f != o for o in folders)]
    found: dict[str, Path] = {}
    for folder in outer or [root]:
        found |= by_stem(folder)
    return found


def _rows_2021(root: Path, track: str) -> Iterator[Row]:
    """Read lines of speaker, file, codec, channel (LA: the line it was sent over) or corpus (DF), attack, key and more.

    What follows is trimming, subset and, with DF, the kind of vocoder.
    """
    audio = _audio_2021(root, track)
    for words in lines(only(_keys_2021(root, track), f"trial_metadata.txt of the {track} track", root), 8):
        speaker, name, codec, origin, attack, key, trim, subset = words[:8]
        human = attack in ("-", "bonafide")  # the published LA keys say the one, the DF keys the other
        yield Row(
            audio.get(name, root / f"{name}.flac"),
            key,
            id=f"asvspoof2021{track.lower()}/{name}",
            split=SUBSETS_2021.get(subset, subset),
            family="" if human else attack,
            source=f"ASVspoof 2021 {track}" + (f"/{origin}" if track == "DF" else ""),
            group=speaker,
            era=ERAS_DF.get(origin, "") if track == "DF" else "2019",
            language="en",
            codec="" if codec in ("none", "nocodec") else codec,
            speaker=speaker,
            condition=("none" if origin == "-" else origin) if track == "LA" else "",
            columns={
                "attack": attack,
                "channel": origin,
                "trim": trim,
                "subset": subset,
                "vocoder": " ".join(words[8:9]),
            },
        )


def _protocols_5(root: Path) -> dict[str, Path]:
    return {name: only(paths, name, root) for name in PARTS_5 if (paths := list(root.rglob(name)))}


def _rows_5(root: Path, options: Options) -> Iterator[Row]:
    """Read lines of speaker, file, sex, codec, its quality and seed, kind and name of the attack, key, a spare."""
    protocols = _protocols_5(root)
    if not protocols:
        raise DataError(f"{root}: no protocol {', '.join(PARTS_5)}")
    for name, protocol in protocols.items():
        split, folders = PARTS_5[name]
        places = [p for f in folders for p in root.rglob(f) if p.is_dir()]
        if not places and not wanted(split, options):
            continue
        if not places:
            raise DataError(f"{root}: no folder {' or '.join(folders)} with the audio of {name}")
        for words in lines(protocol, 9):
            yield _row_5(words, split, places)


def _row_5(words: list[str], split: str, places: list[Path]) -> Row:
    speaker, name, sex, codec, quality, _, kind, attack, key = words[:9]
    paths = [place / f"{name}.flac" for place in places]
    return Row(
        next((p for p in paths if p.is_file()), paths[0]),
        key,
        id=f"asvspoof5/{name}",
        split=split,
        family="" if attack == "bonafide" else blank(attack),
        source="ASVspoof 5",
        group=speaker,
        era="2024",
        language="en",
        codec=blank(codec),
        speaker=speaker,
        columns={"attack": attack, "attack_tag": kind, "gender": sex, "codec_q": quality},
    )


LAYOUT_2019 = Layout(
    "asvspoof2019la",
    "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.*.txt and ASVspoof2019_LA_{train,dev,eval}/flac",
    _detect_2019,
    _rows_2019,
)
LAYOUT_2021_LA = Layout(
    "asvspoof2021la",
    "keys/LA/CM/trial_metadata.txt (utterances LA_E_*) and ASVspoof2021_LA_eval/flac",
    lambda root: root.is_dir() and bool(_keys_2021(root, "LA")),
    lambda root, _options: _rows_2021(root, "LA"),
)
LAYOUT_2021_DF = Layout(
    "asvspoof2021df",
    "keys/DF/CM/trial_metadata.txt (utterances DF_E_*) and ASVspoof2021_DF_eval*/flac, in one folder or its parts",
    lambda root: root.is_dir() and bool(_keys_2021(root, "DF")),
    lambda root, _options: _rows_2021(root, "DF"),
)
LAYOUT_5 = Layout(
    "asvspoof5",
    "ASVspoof5.train.tsv, ASVspoof5.dev.track_1.tsv or ASVspoof5.eval.track_1.tsv, and flac_T, flac_D, flac_E_eval",
    lambda root: root.is_dir() and bool(_protocols_5(root)),
    _rows_5,
)
