from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainer.readers import samples
from trainer.data.errors import DataError
from trainer.data.manifest import Clip
from trainer.data.readers import LAYOUTS, Options, detect, open_dataset


def by_name(clips: list[Clip]) -> dict[str, Clip]:
    return {c.path.stem: c for c in clips}


def test_in_the_wild_takes_speakers_as_groups(tmp_path: Path) -> None:
    data = open_dataset(samples.inthewild(tmp_path / "release_in_the_wild"))
    assert data.layout == "inthewild"
    assert data.skipped == {}
    assert [(c.path.name, c.label, c.speaker, c.group) for c in data.clips] == [
        ("0.wav", 1, "Alec Guinness", "Alec Guinness"),
        ("1.wav", 1, "Alec Guinness", "Alec Guinness"),
        ("2.wav", 1, "Barack Obama", "Barack Obama"),
        ("4.wav", 0, "Christopher Hitchens", "Christopher Hitchens"),
        ("5.wav", 0, "Barack Obama", "Barack Obama"),
    ]


def test_asvspoof_2019_reads_three_protocols_and_lists_what_is_not_there(tmp_path: Path) -> None:
    data = open_dataset(samples.asvspoof2019(tmp_path))
    assert data.layout == "asvspoof2019la"
    assert Counter((c.split, c.label) for c in data.clips) == {
        ("train", 0): 2,
        ("train", 1): 1,
        ("val", 0): 1,
        ("val", 1): 1,
        ("test", 0): 1,
        ("test", 1): 2,
    }
    assert [*data.skipped] == ["asvspoof2019la/LA/ASVspoof2019_LA_train/flac/LA_T_9999999"]
    found = by_name(data.clips)
    assert (found["LA_E_2834763"].family, found["LA_E_2834763"].speaker) == ("A11", "LA_0039")
    assert found["LA_T_1138215"].family == ""


def test_asvspoof_2021_la_keeps_codec_and_subset(tmp_path: Path) -> None:
    data = open_dataset(samples.asvspoof2021la(tmp_path))
    assert data.layout == "asvspoof2021la"
    found = by_name(data.clips)
    assert {n: (c.label, c.codec, c.split, c.family) for n, c in found.items()} == {
        "LA_E_9332881": (1, "alaw", "test", "A07"),
        "LA_E_6866159": (0, "g722", "test", ""),
        "LA_E_5464494": (1, "", "val", "A09"),
        "LA_E_1000011": (1, "opus", "hidden", "A12"),
    }


def test_asvspoof_2021_la_has_the_channel_as_condition(tmp_path: Path) -> None:
    data = open_dataset(samples.asvspoof2021la(tmp_path))
    assert {c.path.stem: c.condition for c in data.clips} == {
        "LA_E_9332881": "ita_tx",
        "LA_E_6866159": "loc_tx",
        "LA_E_5464494": "none",
        "LA_E_1000011": "mad_tx",
    }
    assert data.columns["asvspoof2021la/LA_E_1000011"]["trim"] == "trim"


def test_asvspoof_2021_df_spans_its_parts_and_tells_corpora_apart(tmp_path: Path) -> None:
    data = open_dataset(samples.asvspoof2021df(tmp_path))
    assert data.layout == "asvspoof2021df"
    found = by_name(data.clips)
    assert {n: (c.label, c.source, c.era, c.codec, c.split, c.family) for n, c in found.items()} == {
        "DF_E_2000011": (1, "ASVspoof 2021 DF/asvspoof", "2019", "", "val", "A14"),
        "DF_E_2000013": (1, "ASVspoof 2021 DF/vcc2020", "2020", "low_m4a", "test", "Task1-team20"),
        "DF_E_2000024": (0, "ASVspoof 2021 DF/vcc2020", "2020", "mp3m4a", "test", ""),
        "DF_E_2000026": (0, "ASVspoof 2021 DF/asvspoof", "2019", "high_ogg", "test", ""),
    }


def test_asvspoof_5_reads_nine_columns(tmp_path: Path) -> None:
    data = open_dataset(samples.asvspoof5(tmp_path))
    assert data.layout == "asvspoof5"
    assert {c.path.stem: (c.label, c.split, c.family, c.codec, c.speaker) for c in data.clips} == {
        "T_0000000000": (1, "train", "A05", "", "T_4850"),
        "T_0000000011": (0, "train", "", "", "T_3734"),
        "D_0000000001": (1, "val", "A11", "", "D_0062"),
        "D_0000000190": (0, "val", "", "", "D_0461"),
        "E_0009538969": (1, "test", "A19", "C05", "E_1607"),
        "E_0000000020": (0, "test", "", "", "E_0231"),
    }


@pytest.mark.parametrize(
    ("make", "folder"), [(samples.asvspoof2019, "ASVspoof2019_LA_dev"), (samples.asvspoof5, "flac_D")]
)
def test_asvspoof_needs_the_audio_of_the_splits_that_are_asked_for(
    tmp_path: Path, make: Callable[[Path], Path], folder: str
) -> None:
    root = make(tmp_path)
    whole = open_dataset(root, Options(split="train"))
    (place,) = root.rglob(folder)
    place.rename(tmp_path / "away")
    assert open_dataset(root, Options(split="train")).clips == whole.clips
    for options in (Options(split="val"), Options(), Options(split="train", shares=(1.0, 0.0, 0.0))):
        with pytest.raises(DataError, match=f"no folder {folder}"):
            open_dataset(root, options)


def test_fake_or_real_is_found_where_the_archive_nests_it(tmp_path: Path) -> None:
    data = open_dataset(samples.fakeorreal(tmp_path))
    assert data.layout == "fakeorreal"
    assert Counter((c.split, c.label) for c in data.clips) == {
        ("train", 0): 1,
        ("train", 1): 2,
        ("val", 0): 1,
        ("val", 1): 1,
        ("test", 0): 1,
        ("test", 1): 1,
    }
    groups = {c.group for c in data.clips}
    assert len(groups) == 7, "numbers of files start anew in each folder, so they do not tie folders together"
    assert "training/fake/file18" in groups


def test_fake_or_real_refuses_two_versions_of_the_same_recordings(tmp_path: Path) -> None:
    samples.audio(tmp_path / "for-2sec" / "training" / "real" / "a.wav")
    samples.audio(tmp_path / "for-2sec" / "training" / "fake" / "b.wav")
    samples.audio(tmp_path / "for-norm" / "training" / "real" / "a.wav")
    samples.audio(tmp_path / "for-norm" / "training" / "fake" / "b.wav")
    with pytest.raises(DataError, match="more than one folder"):
        open_dataset(tmp_path)


def test_wavefake_ties_copies_to_their_originals(tmp_path: Path) -> None:
    data = open_dataset(samples.wavefake(tmp_path))
    assert data.layout == "wavefake"
    found = {c.path.parent.name + "/" + c.path.name: c for c in data.clips}
    original = found["wavs/LJ001-0001.wav"]
    copies = [found["ljspeech_melgan/LJ001-0001_gen.wav"], found["ljspeech_hifiGAN/LJ001-0001_generated.wav"]]
    assert original.label == 0
    assert [c.label for c in copies] == [1, 1]
    assert [c.family for c in copies] == ["melgan", "hifiGAN"]
    assert {c.parent for c in copies} == {original.id}
    assert {c.group for c in [*copies, original]} == {"LJ001-0001"}
    assert found["ljspeech_hifiGAN/LJ001-0002_generated.wav"].parent == "", "its original is not there"
    assert found["jsut_multi_band_melgan/BASIC5000_0001_gen.wav"].language == "ja"
    spoken = found["common_voices_prompts_from_conformer_fastspeech2_pwg_ljspeech/gen_0.wav"]
    assert (spoken.family, spoken.parent, spoken.label) == ("conformer_fastspeech2_pwg", "", 1)


def test_wavefake_takes_originals_from_elsewhere(tmp_path: Path) -> None:
    samples.wavefake(tmp_path / "all")
    (tmp_path / "all" / "LJSpeech-1.1").rename(tmp_path / "lj")
    data = open_dataset(tmp_path / "all" / "generated_audio", Options(real=tmp_path / "lj"))
    human = [c for c in data.clips if c.label == 0]
    assert [c.path for c in human] == [tmp_path / "lj" / "wavs" / "LJ001-0001.wav"]
    assert sum(c.parent == human[0].id for c in data.clips) == 2


def test_mlaad_reads_lists_with_quotation_marks_and_pairs_originals(tmp_path: Path) -> None:
    data = open_dataset(samples.mlaad(tmp_path))
    assert data.layout == "mlaad"
    assert data.skipped == {}
    human, english, german = sorted(data.clips, key=lambda c: (c.label, c.language != "en"))
    assert (human.label, human.source, human.speaker, human.language) == (0, "M-AILABS", "mary_ann", "en")
    assert (english.family, english.source, english.parent) == ("VITS", "MLAAD/vits", human.id)
    assert english.group == human.group == "mary_ann/northandsouth"
    assert (german.family, german.language, german.parent) == ("Griffin-Lim", "de", "")
    assert german.group == "karlsson/maerchen"


def test_mlaad_alone_is_synthetic_throughout(tmp_path: Path) -> None:
    data = open_dataset(samples.mlaad(tmp_path, real=False))
    assert [c.label for c in data.clips] == [1, 1]


def test_folder_takes_inner_folders_as_families_and_sources(tmp_path: Path) -> None:
    for name in ("Real/podcast/a.wav", "Real/b.flac", "FAKE/vits/c.wav", "FAKE/d.wav"):
        samples.audio(tmp_path / name)
    samples.text(tmp_path / "FAKE" / "notes.txt", "no audio")
    data = open_dataset(tmp_path)
    assert data.layout == "folder"
    found = by_name(data.clips)
    assert {n: c.label for n, c in found.items()} == {"a": 0, "b": 0, "c": 1, "d": 1}
    assert found["a"].source == f"{tmp_path.name}/podcast"
    assert found["c"].family == "vits"


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (samples.inthewild, "inthewild"),
        (samples.asvspoof2019, "asvspoof2019la"),
        (samples.asvspoof2021la, "asvspoof2021la"),
        (samples.asvspoof2021df, "asvspoof2021df"),
        (samples.asvspoof5, "asvspoof5"),
        (samples.fakeorreal, "fakeorreal"),
        (samples.wavefake, "wavefake"),
        (samples.mlaad, "mlaad"),
    ],
)
def test_layout_is_recognised_and_ids_are_unique_and_stable(tmp_path: Path, make, name: str) -> None:  # type: ignore[no-untyped-def]
    root = make(tmp_path)
    assert detect(root).name == name
    first, second = open_dataset(root), open_dataset(f"{name}:{root}")
    assert first.clips == second.clips
    assert len({c.id for c in first.clips}) == len(first.clips)
    assert all(c.id.startswith(f"{name}/") for c in first.clips)


def test_unknown_layouts_list_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    assert all(name in str(caught.value) for name in LAYOUTS)
    with pytest.raises(DataError, match="wildintheworld: not a known layout"):
        open_dataset(f"wildintheworld:{tmp_path}")
    with pytest.raises(DataError, match="no such file"):
        open_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_named_layout_of_what_is_not_there_is_one_clear_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        open_dataset(f"{name}:{tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match=r"alone\.txt"):
        open_dataset(f"{name}:{samples.text(tmp_path / 'alone.txt', 'words')}")


def test_the_folder_one_stands_in_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples.audio(tmp_path / "set" / "real" / "a.wav")
    samples.audio(tmp_path / "set" / "fake" / "b.wav")
    monkeypatch.chdir(tmp_path / "set")
    assert [(c.id, c.source) for c in open_dataset(".").clips] == [
        ("folder/set/fake/b", "set"),
        ("folder/set/real/a", "set"),
    ]
