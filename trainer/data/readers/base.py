"""What every reader of a published data set shares: rows as published, and how they become clips."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from trainer.data.errors import DataError
from trainer.data.manifest import LABELS, Clip

AUDIO = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif", ".au"})
LEAVE_OUT = "skip"  # what a label map says of words whose clips are not wanted
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Row:
    """One file as its data set describes it: ``label`` is the published word, ``columns`` all that is published."""

    path: Path
    label: str
    id: str = ""
    split: str = "train"
    family: str = ""
    source: str = ""
    group: str = ""
    era: str = ""
    language: str = ""
    codec: str = ""
    parent: str = ""
    speaker: str = ""
    condition: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a data set is read.

    Args:
        labels: published label words and what they mean here: ``real``, ``fake``, or ``skip`` to leave clips out.
        group: what keeps clips together when splits or folds are made: ``speaker``, ``source``, ``family``, any other
            field of a clip, or a column that the data set publishes; empty keeps the layout's own choice.
        split: read this split only.
        shares: shares of train, val and test when whole groups are dealt out anew, without regard to published splits.
        limit: at most so many clips of a label in a split (0: all), chosen by a hash of their ids, so always the same.
        real: where the human recordings lie, for layouts that publish synthetic speech only.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    split: str | None = None
    shares: tuple[float, float, float] | None = None
    limit: int = 0
    real: Path | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """One published layout: how its folder looks, how it is recognised, and how its rows are read."""

    name: str
    looks: str
    detect: Callable[[Path], bool]
    rows: Callable[[Path, Options], Iterable[Row]]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Clips of a data set, and the files left out with the reason.

    ``columns`` is what else the data set publishes, by clip; ``words`` are the labels it uses, in lower case.
    """

    layout: str
    root: Path
    clips: list[Clip]
    skipped: dict[str, str]
    columns: dict[str, Mapping[str, str]] = field(default_factory=dict)
    words: frozenset[str] = frozenset()


def read(layout: Layout, root: Path, options: Options) -> Dataset:
    """Read a folder (or manifest) in a given layout.

    Raises:
        DataError: nothing is there, a list is missing or malformed, a label is unknown, an id occurs twice, or no
            clip is left.
    """
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    _refuse_meanings(options.labels)
    words: set[str] = set()
    clips: dict[str, Clip] = {}
    skipped: dict[str, str] = {}
    columns: dict[str, Mapping[str, str]] = {}
    for row in layout.rows(root, options):
        words.add(row.label.strip().lower())
        clip = _clip(layout, root, row, options)
        if clip is None:
            continue
        if clip.id in clips or clip.id in skipped:
            raise DataError(f"{root}: id {clip.id!r} occurs twice")
        place = str(clip.path.absolute())
        if readable(place) != place:  # a manifest, which is text, cannot name it
            skipped[readable(clip.id)] = f"{readable(str(clip.path))}: a name that is not UTF-8; rename it"
        elif clip.path.is_file():
            clips[clip.id], columns[clip.id] = clip, row.columns
        else:
            skipped[clip.id] = f"{clip.path}: listed but not there"
    chosen = _choose(list(clips.values()), options)
    if clips and not chosen:
        raise DataError(f"{root}: no clip in split {options.split!r}; there are {_splits(clips.values(), options)}")
    if not chosen:
        why = f"{len(skipped)} are listed but not there, or have names that are not UTF-8"
        raise DataError(f"{readable(str(root))}: no clip to use as {layout.name}; {why}")
    return Dataset(layout.name, root, chosen, skipped, {c.id: columns[c.id] for c in chosen}, frozenset(words))


def _refuse_meanings(labels: Mapping[str, str]) -> None:
    for word, meaning in labels.items():
        if meaning.strip().lower() not in (*LABELS, LEAVE_OUT):
            raise DataError(f"label {word}={meaning}: {meaning!r} is none of real, fake, {LEAVE_OUT}")


def _splits(clips: Iterable[Clip], options: Options) -> str:
    return ", ".join(sorted({c.split for c in _choose(list(clips), replace(options, split=None))}))


def _clip(layout: Layout, root: Path, row: Row, options: Options) -> Clip | None:
    word = row.label.strip().lower()
    meaning = {k.strip().lower(): v.strip().lower() for k, v in options.labels.items()}.get(word, word)
    if meaning == LEAVE_OUT:
        return None
    if meaning not in LABELS:
        known = ", ".join(sorted(LABELS))
        raise DataError(f"{row.path}: label {word!r} is none of {known}; a label map can say what it means")
    texts = {f.name: getattr(row, f.name) for f in fields(Clip) if f.name not in ("id", "label")}
    clip = Clip(id=row.id or identity(layout.name, root, row.path), label=LABELS[meaning], **texts)
    return replace(clip, group=_group(row, options.group)) if options.group else clip


def identity(layout: str, root: Path, path: Path) -> str:
    """Id of a file: the layout and the path below ``root``, without its suffix."""
    below = path.relative_to(root) if path.is_relative_to(root) else Path(*path.parts[-4:])
    return f"{layout}/{below.with_suffix('').as_posix()}"


def readable(name: str) -> str:
    r"""Write the bytes of a file's name that are not UTF-8 as ``\xe9``: nothing else can print or store them."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _group(row: Row, column: str) -> str:
    if column in row.columns:
        return row.columns[column]
    if column == "label" or column not in {f.name for f in fields(Clip)}:
        raise DataError(f"{row.path}: no column {column!r} to group by; there are {', '.join(sorted(row.columns))}")
    return str(getattr(row, column))


def _choose(clips: list[Clip], options: Options) -> list[Clip]:
    if options.shares is not None:
        clips = [replace(c, split=_dealt(c, options.shares)) for c in clips]
    if options.split is not None:
        clips = [c for c in clips if c.split == options.split]
    return _limited(clips, options.limit) if options.limit else clips


def _dealt(clip: Clip, shares: tuple[float, float, float]) -> str:
    """Split of a clip: its group alone decides, so that a group is never torn and further clips change nothing."""
    key = clip.group or clip.speaker or clip.id
    place = int.from_bytes(_hash(key), "little") / 2.0**64 * sum(shares)
    return SPLITS[0] if place < shares[0] else SPLITS[1] if place < shares[0] + shares[1] else SPLITS[2]


def _limited(clips: list[Clip], limit: int) -> list[Clip]:
    kinds: dict[tuple[str, int], list[Clip]] = {}
    for clip in clips:
        kinds.setdefault((clip.split, clip.label), []).append(clip)
    kept = {c.id for kind in kinds.values() for c in sorted(kind, key=lambda c: _hash(c.id))[:limit]}
    return [c for c in clips if c.id in kept]


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def audio_files(folder: Path) -> Iterator[Path]:
    """All audio files below a folder, in order of their names; hidden files and folders are passed over."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO:
                yield Path(place, name)


def by_stem(folder: Path) -> dict[str, Path]:
    """Audio files below a folder by name without suffix.

    Raises:
        DataError: two files share a name, so a list of names cannot say which one it means.
    """
    found: dict[str, Path] = {}
    for path in audio_files(folder):
        other = found.setdefault(path.stem, path)
        if other != path:
            raise DataError(f"{path} and {other} share a name; give a folder that holds one data set only")
    return found


def lines(path: Path, least: int) -> Iterator[list[str]]:
    """Words of each line that is not empty.

    Raises:
        DataError: the file cannot be read, or a line has fewer than ``least`` words.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if words and len(words) < least:
            raise DataError(f"{path}:{number}: {len(words)} words where {least} are needed")
        if words:
            yield words


def only(found: Iterable[Path], what: str, root: Path) -> Path:
    """Give the single path found.

    Raises:
        DataError: there is none, or more than one.
    """
    paths = sorted(found)
    if len(paths) != 1:
        names = ", ".join(str(p) for p in paths)
        raise DataError(f"{root}: " + (f"more than one {what}: {names}" if paths else f"no {what}"))
    return paths[0]


def wanted(split: str, options: Options) -> bool:
    """Whether clips that are published as ``split`` are asked for; all are when splits are dealt out anew."""
    return options.shares is not None or options.split in (None, split)


def blank(word: str) -> str:
    """Text of a protocol's column: a dash says nothing."""
    return "" if word in ("-", "none") else word
