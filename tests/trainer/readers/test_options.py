from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from tests.trainer import corpus
from tests.trainer.readers import samples
from trainer.data.errors import DataError
from trainer.data.manifest import read_manifest
from trainer.data.readers import Options, open_dataset
from trainer.data.readers.check import check


@pytest.fixture
def wild(tmp_path: Path) -> Path:
    return samples.inthewild(tmp_path / "wild")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for number in range(60):
        samples.audio(tmp_path / "many" / ("real" if number % 2 else "fake") / f"voice{number // 4}" / f"{number}.wav")
    return tmp_path / "many"


def test_manifest_gives_the_clips_that_training_reads(tmp_path: Path) -> None:
    path = corpus.make(tmp_path / "corpus")
    assert open_dataset(path).clips == read_manifest(path)
    assert open_dataset(path.parent).clips == read_manifest(path)
    assert open_dataset(path, Options(split="val")).clips == read_manifest(path, "val")


def test_manifest_groups_by_any_column(tmp_path: Path) -> None:
    path = corpus.make(tmp_path / "corpus")
    rows = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([f"{rows[0]},studio", *(f"{r},room{i % 2}" for i, r in enumerate(rows[1:]))]), "utf-8")
    assert {c.group for c in open_dataset(path, Options(group="studio")).clips} == {"room0", "room1"}
    with pytest.raises(DataError, match="no column 'house'"):
        open_dataset(path, Options(group="house"))


def test_a_manifest_is_read_as_strictly_as_for_training(tmp_path: Path) -> None:
    path = corpus.make(tmp_path / "corpus")
    plain, text = read_manifest(path), path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8-sig")
    assert open_dataset(path).clips == open_dataset(path.parent).clips == plain
    path.write_text(text.replace("id,split,label", "id,split,class"), encoding="utf-8")
    with pytest.raises(DataError, match=r"manifest\.csv: no column label; a manifest needs id, label"):
        open_dataset(path)
    path.write_text(text.replace("clip03,", ","), encoding="utf-8")
    with pytest.raises(DataError, match=r"manifest\.csv:5: the id is empty"):
        open_dataset(path)
    path.write_text(text.replace(",train,", ",dev,"), encoding="utf-8")
    with pytest.raises(DataError, match="split 'dev' is none of train, val, test, hidden"):
        open_dataset(path)
    assert {c.split for c in open_dataset(path, Options(shares=(1.0, 0.0, 0.0))).clips} == {"train"}


def test_label_map_renames_and_leaves_out(wild: Path) -> None:
    meta = wild / "meta.csv"
    meta.write_text(
        meta.read_text(encoding="utf-8").replace("1.wav,Alec Guinness,spoof", "1.wav,Alec Guinness,partial")
    )
    with pytest.raises(DataError, match="label 'partial' is none of"):
        open_dataset(wild)
    assert len(open_dataset(wild, Options(labels={"Partial": "skip"})).clips) == 4
    mapped = open_dataset(wild, Options(labels={"partial": "real", "bona-fide": "fake"})).clips
    assert [c.label for c in mapped] == [1, 0, 1, 1, 1]


def test_a_meaning_that_is_none_is_blamed_not_the_word(wild: Path) -> None:
    with pytest.raises(DataError, match="label spoof=fakke: 'fakke' is none of real, fake, skip"):
        open_dataset(wild, Options(labels={"spoof": "fakke"}))


def test_a_split_without_clips_names_those_there_are(wild: Path) -> None:
    with pytest.raises(DataError, match=r"no clip in split 'tset'; there are train$"):
        open_dataset(wild, Options(split="tset"))
    with pytest.raises(DataError, match=r"no clip in split 'train'; there are test$"):
        open_dataset(wild, Options(split="train", shares=(0.0, 0.0, 1.0)))


def test_shares_never_tear_a_group(many: Path) -> None:
    clips = open_dataset(many, Options(group="folder", shares=(0.5, 0.25, 0.25))).clips
    assert {c.split for c in clips} == {"train", "val", "test"}
    places = {c.group: {d.split for d in clips if d.group == c.group} for c in clips}
    assert len(places) == 15
    assert all(len(splits) == 1 for splits in places.values())


def test_shares_keep_places_when_clips_are_added(many: Path) -> None:
    options = Options(group="folder", shares=(0.5, 0.25, 0.25))
    before = {c.id: c.split for c in open_dataset(many, options).clips}
    samples.audio(many / "real" / "newcomer" / "x.wav")
    after = {c.id: c.split for c in open_dataset(many, options).clips}
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()


def test_shares_of_one_split_only(wild: Path) -> None:
    assert {c.split for c in open_dataset(wild, Options(shares=(0.0, 0.0, 1.0))).clips} == {"test"}


def test_limit_is_by_class_and_always_the_same(many: Path) -> None:
    first = open_dataset(many, Options(limit=7)).clips
    assert [sum(c.label == label for c in first) for label in (0, 1)] == [7, 7]
    assert open_dataset(many, Options(limit=7)).clips == first
    assert {c.id for c in open_dataset(many, Options(limit=5)).clips} < {c.id for c in first}


def test_a_short_protocol_line_is_named(tmp_path: Path) -> None:
    root = samples.asvspoof2019(tmp_path)
    protocol = root / "LA" / "ASVspoof2019_LA_cm_protocols" / "ASVspoof2019.LA.cm.dev.trl.txt"
    protocol.write_text(protocol.read_text() + "LA_0069 LA_D_1000009\n")
    with pytest.raises(DataError, match=r"dev\.trl\.txt:3: 2 words where 5 are needed"):
        open_dataset(root)


def test_a_short_line_of_in_the_wild_is_named(wild: Path) -> None:
    meta = wild / "meta.csv"
    meta.write_text(meta.read_text(encoding="utf-8") + "\n6.wav,Barack Obama\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"meta\.csv:8: no label; mend the line"):
        open_dataset(wild)


def test_a_data_set_without_any_of_its_files_is_an_error(wild: Path) -> None:
    for path in wild.glob("*.wav"):
        path.unlink()
    with pytest.raises(DataError, match="5 are listed but not there"):
        open_dataset(wild)


def test_broken_files_are_listed_and_skipped(wild: Path) -> None:
    (wild / "1.wav").write_bytes(b"RIFF, or so it says")
    soundfile.write(wild / "2.wav", [], 16_000)
    done = []
    result = check(open_dataset(wild).clips, lambda: done.append(1))
    assert [c.path.name for c in result.good] == ["0.wav", "4.wav", "5.wav"]
    assert [*result.skipped] == ["inthewild/1", "inthewild/2"]
    assert "no samples" in result.skipped["inthewild/2"]
    assert len(done) == 5


def test_equal_audio_with_two_labels_is_an_error_whatever_the_format(wild: Path) -> None:
    samples.audio(wild / "0.wav", seed=1)
    samples.audio(wild / "1.wav", seed=1)
    check(open_dataset(wild).clips)
    exact, rate = soundfile.read(wild / "0.wav", dtype="int16")
    soundfile.write(wild / "4.wav", exact, rate, format="FLAC")
    with pytest.raises(DataError, match="inthewild/0 and inthewild/4"):
        check(open_dataset(wild).clips)
