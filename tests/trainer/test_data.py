from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from streamdet.features import FrontEnd, FrontEndConfig
from tests.trainer import corpus
from trainer.audit.features import decode
from trainer.augment import Bank, WaveAugment
from trainer.cli import app
from trainer.data.audio import read_audio
from trainer.data.batches import SILENCE, Cropper, columns_mask, stack
from trainer.data.build import Builder, load_bank, variant_rng
from trainer.data.cache import Entry, FeatureCache
from trainer.data.errors import DataError
from trainer.data.feed import named
from trainer.data.manifest import read_manifest, read_manifests
from trainer.data.sampler import BalancedSampler, representative, weights
from trainer.shape import FrameAugment

CONFIG = FrontEndConfig()


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return corpus.make(tmp_path / "corpus")


def rows(*labels: str) -> list[dict[str, str]]:
    return [{"id": f"c{i}", "label": label} for i, label in enumerate(labels)]


def test_manifest_finds_audio_beside_it_and_reads_splits(manifest: Path) -> None:
    train, val = read_manifest(manifest, "train"), read_manifest(manifest, "val")
    assert len(train) == 16
    assert len(val) == 8
    assert all(c.path.exists() for c in train + val)
    assert {c.label for c in train} == {0, 1}


def test_path_column_wins_and_is_relative_to_the_manifest(tmp_path: Path) -> None:
    corpus.write(tmp_path / "m.csv", [{"id": "a", "label": "Human", "path": "x/y.wav"}])
    clip = read_manifest(tmp_path / "m.csv")[0]
    assert clip.path == tmp_path / "x" / "y.wav"
    assert (clip.label, clip.split) == (0, "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"id": "a"}], "no column label"),
        (rows("real", "perhaps"), "m.csv:3: label 'perhaps'"),
        ([{"id": "a", "label": "real"}, {"id": "a", "label": "fake"}], "'a' occurs twice"),
        ([{"id": "a", "label": "real"}, {"id": " ", "label": "real"}], "m.csv:3: the id is empty"),
        ([{"id": "a", "label": "real", "split": "dev"}], "m.csv:2: split 'dev' is none of train, val, test, hidden"),
    ],
)
def test_bad_manifests_are_refused_by_line(tmp_path: Path, content: list[dict[str, str]], message: str) -> None:
    corpus.write(tmp_path / "m.csv", content)
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path / "m.csv")


def test_a_manifest_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    corpus.write(tmp_path / "m.csv", rows("real", "fake"))
    plain = read_manifest(tmp_path / "m.csv")
    text = (tmp_path / "m.csv").read_text(encoding="utf-8")
    (tmp_path / "m.csv").write_text(text, encoding="utf-8-sig")
    assert read_manifest(tmp_path / "m.csv") == plain
    (tmp_path / "m.csv").write_text(text + "café,real\n", encoding="latin-1")
    with pytest.raises(DataError, match=r"m\.csv: no text in UTF-8"):
        read_manifest(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text(text + "\n\nshort\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"m\.csv:6: label '' is none of"):
        read_manifest(tmp_path / "m.csv")


def test_missing_manifest_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.csv: No such file"):
        read_manifest(tmp_path / "none.csv")


def test_a_clip_in_several_manifests_is_read_once(tmp_path: Path) -> None:
    corpus.write(tmp_path / "a.csv", rows("real", "fake"))
    corpus.write(tmp_path / "b.csv", [{**row, "path": str(tmp_path / "audio" / "c0.flac")} for row in rows("real")])
    corpus.write(tmp_path / "c.csv", rows("real", "fake", "fake"))
    clips = read_manifests([tmp_path / name for name in ("a.csv", "b.csv", "c.csv")])
    assert [(c.id, c.label) for c in clips] == [("c0", 0), ("c1", 1), ("c2", 1)]


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"id": "c1", "label": "real", "split": "train"}, "labels"),
        ({"id": "c1", "label": "real", "split": "test"}, "labels"),
        ({"id": "c1", "label": "fake", "path": "elsewhere/c1.flac"}, "audio"),
    ],
)
def test_manifests_that_contradict_each_other_are_refused(tmp_path: Path, other: dict[str, str], what: str) -> None:
    corpus.write(tmp_path / "a.csv", rows("real", "fake"))
    corpus.write(tmp_path / "b.csv", [other])
    with pytest.raises(DataError, match=rf"a\.csv and .*b\.csv: id 'c1' .* different {what}"):
        read_manifests([tmp_path / "a.csv", tmp_path / "b.csv"], "train")


def test_audio_is_mono_and_at_the_wanted_rate(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    soundfile.write(tmp_path / "a.wav", np.stack((tone / 2, 0.1 - tone / 2), axis=1), 44_100)
    samples = read_audio(tmp_path / "a.wav")
    assert samples.shape == (16_000,)
    np.testing.assert_allclose(samples[2_000:-2_000], 0.05, atol=1e-3)


def test_unreadable_audio_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.flac").write_bytes(b"fLaC but not really")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 16_000, subtype="FLOAT")
    absurd = np.zeros((100, 2))
    absurd[50] = 1e30, -1e30  # they cancel out in the mean
    soundfile.write(tmp_path / "absurd.wav", absurd, 16_000, subtype="FLOAT")
    reasons = {
        "broken.flac": "broken.flac",
        "empty.wav": "no samples",
        "nan.wav": "not finite",
        "absurd.wav": "far out",
    }
    for name, reason in reasons.items():
        for read in (read_audio, decode):
            with pytest.raises(DataError, match=reason):
                read(tmp_path / name)
    soundfile.write(tmp_path / "integers.wav", np.full(100, 32_767.0), 16_000, subtype="FLOAT")
    assert len(read_audio(tmp_path / "integers.wav")) == 100


def test_cache_gives_back_the_front_ends_features_in_half_precision(manifest: Path, tmp_path: Path) -> None:
    clips = read_manifest(manifest, "train")
    cache = FeatureCache(tmp_path / "cache")
    Builder(cache, None).variant(clips, 0)
    assert cache.refresh() == len(clips)
    entry = next(e for e in cache.entries if e.clip == clips[0].id)
    front_end = FrontEnd(CONFIG)
    expected, _ = front_end.logmel(read_audio(clips[0].path)[None, :], front_end.logmel.start())
    np.testing.assert_allclose(entry.frames, expected[0], atol=0.008)
    assert entry.label == clips[0].label


def test_build_resumes_grows_and_repeats_itself(manifest: Path, tmp_path: Path) -> None:
    clips = read_manifest(manifest, "train")
    augment = WaveAugment(Bank())
    cache = FeatureCache(tmp_path / "cache")
    Builder(cache, augment, seed=3).variant(clips[:5], 0)
    second = Builder(cache, augment, seed=3)
    second.variant(clips, 0)
    assert second.report.written == len(clips) - 5
    whole = FeatureCache(tmp_path / "whole")
    Builder(whole, augment, seed=3).variant(clips, 0)
    cache.refresh()
    whole.refresh()
    grown, once = ({e.clip: e.frames for e in c.entries} for c in (cache, whole))
    assert all(np.array_equal(grown[name], once[name]) for name in once)


def test_other_seeds_and_variants_differ() -> None:
    draws = {float(variant_rng(*key).random()) for key in ((0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1))}
    assert len(draws) == 4


def test_broken_files_are_counted_and_skipped(manifest: Path, tmp_path: Path) -> None:
    clips = read_manifest(manifest, "train")
    clips[0].path.write_bytes(b"noise")
    clips[1].path.unlink()
    soundfile.write(clips[2].path, np.ones(100), 16_000)
    builder = Builder(FeatureCache(tmp_path / "cache"), None)
    builder.variant(clips, 0)
    assert builder.report.written == len(clips) - 3
    assert set(builder.report.skipped) == {c.id for c in clips[:3]}


def test_equal_audio_with_contradicting_labels_is_an_error(manifest: Path, tmp_path: Path) -> None:
    clips = read_manifest(manifest, "train")
    real, fake = (next(c for c in clips if c.label == label) for label in (0, 1))
    fake.path.write_bytes(real.path.read_bytes())
    with pytest.raises(DataError, match="same audio with contradicting labels"):
        Builder(FeatureCache(tmp_path / "cache"), None).variant(clips, 0)


def test_cached_audio_with_contradicting_labels_is_an_error_too(manifest: Path, tmp_path: Path) -> None:
    clips = read_manifest(manifest, "train")
    cache = FeatureCache(tmp_path / "cache")
    Builder(cache, None).variant(clips, 0)
    again = replace(clips[0], id="again", label=1 - clips[0].label)
    for _ in range(2):  # repeating what was refused is refused again
        with pytest.raises(DataError, match=f"again and {clips[0].id} are the same audio"):
            Builder(cache, None).variant([*clips, again], 0)
    Builder(cache, None).variant([again, *clips[1:]], 0)  # a clip that the manifests no longer name contradicts none
    with pytest.raises(DataError, match="same audio with contradicting labels"):
        Builder(cache, None).variant([*clips, again], 0)
    cache.refresh()
    with pytest.raises(DataError, match="same audio with contradicting labels"):
        named(cache, {c.id: c for c in [*clips, again]})


def test_a_cache_without_digests_of_its_audio_is_still_read(manifest: Path, tmp_path: Path) -> None:
    clips = read_manifest(manifest, "train")
    cache = FeatureCache(tmp_path / "cache")
    Builder(cache, None).variant(clips, 0)
    for path in cache.folder.glob("*.json"):
        rows = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps([{k: v for k, v in row.items() if k != "sound"} for row in rows]), encoding="utf-8")
    builder = Builder(cache, None)
    builder.variant(clips, 0)
    assert builder.report.written == 0
    assert cache.refresh() == len(clips)
    assert len(named(cache, {c.id: c for c in clips})) == len(clips)


def test_cache_of_another_front_end_is_refused(tmp_path: Path) -> None:
    FeatureCache(tmp_path / "cache")
    with pytest.raises(DataError, match=r"64 mel bands.*choose another folder for 96 linear bands"):
        FeatureCache(tmp_path / "cache", FrontEndConfig(mels=96, bands="linear"))


def test_cache_says_its_front_end_itself(tmp_path: Path) -> None:
    config = FrontEndConfig(mels=96)
    FeatureCache(tmp_path, config)
    assert FeatureCache(tmp_path).config == config
    (tmp_path / "front_end.config").write_text('{"whitening": 1}')
    with pytest.raises(DataError, match="not the description of a front end"):
        FeatureCache(tmp_path)


def test_cache_made_with_a_step_cannot_go_on_without_it(manifest: Path, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    cache.made_without(("codec",))
    FeatureCache(cache.folder).made_without(("codec",))
    with pytest.raises(DataError, match="made without codec, not without any"):
        cache.made_without(())
    older = FeatureCache(tmp_path / "older")
    Builder(older, None).variant(read_manifest(manifest, "train"), 0)
    with pytest.raises(DataError, match="choose another folder"):
        older.made_without(("codec",))


def test_cache_goes_on_with_the_settings_it_was_made_with(manifest: Path, tmp_path: Path) -> None:
    def cache(*options: str) -> None:
        words = ["cache", str(manifest), "--out", str(tmp_path / "cache"), "--variants", "1", *options]
        assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0

    (tmp_path / "noise").mkdir()
    (tmp_path / "noise.csv").write_text("id,kind\n")
    cache("--seed", "3")
    cache("--seed", "3")
    for options, text in (
        (("--seed", "4"), "seed 3 instead of 4"),
        (("--seed", "3", "--clean", "0.5"), "clean 0.7 instead of 0.5"),
        (("--seed", "3", "--seconds", "2"), "seconds 6.0 instead of 2.0"),
        (("--seed", "3", "--noise", str(tmp_path / "noise")), "noise none instead of"),
    ):
        with pytest.raises(DataError, match=text):
            cache(*options)


def test_half_written_shards_are_invisible(manifest: Path, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    (cache.folder / "v000-abc.npy").write_bytes(b"half")
    assert cache.refresh() == 0


def test_noise_folder_gives_noise_rooms_and_babble_of_human_clips_only(manifest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "noise"
    folder.mkdir()
    for name in ("a", "b"):
        soundfile.write(folder / f"{name}.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 16_000), 16_000)
    (tmp_path / "noise.csv").write_text("id,kind\na,noise\nb,rir\n")
    clips = read_manifest(manifest, "train")
    bank = load_bank(folder, clips)
    assert (len(bank.noise), len(bank.rooms)) == (1, 1)
    assert len(bank.speech) == sum(c.label == 0 for c in clips)
    (tmp_path / "noise.csv").write_text("kind,id,seconds\n\nnoise,a,1\n\nrir,b,1\n\n")
    bank = load_bank(folder)
    assert (len(bank.noise), len(bank.rooms)) == (1, 1)
    for content, reason in (
        ("id,kind\na,noise\n\nb\n", "noise.csv:4: an id and a kind"),
        ("id\na\n", "no column kind"),
    ):
        (tmp_path / "noise.csv").write_text(content)
        with pytest.raises(DataError, match=reason):
            load_bank(folder)
    (tmp_path / "noise.csv").unlink()
    with pytest.raises(DataError, match="lists the noise"):
        load_bank(folder)


def entry(clip: str, label: int, stratum: str, parent: str = "", frames: int = 100, source: str = "") -> Entry:
    return Entry(clip, label, stratum, source, parent, np.full((frames, 64), -5.0, np.float16))


def test_weights_follow_the_power_of_the_capped_count() -> None:
    strata = ["a"] * 100 + ["b"] * 10 + ["c"]
    by = Counter()
    for name, weight in zip(strata, weights(strata, 0.5, 25), strict=True):
        by[name] += weight
    assert by["a"] / by["c"] == pytest.approx(5.0)
    assert by["b"] / by["c"] == pytest.approx(np.sqrt(10.0))
    assert sum(by.values()) == pytest.approx(1.0)


def test_sampler_balances_labels_and_strata_whatever_the_number_of_variants() -> None:
    entries = [entry(f"r{i}", 0, "studio") for i in range(20)]
    entries += [entry(f"b{i}", 1, "big") for i in range(30)] + [entry("s", 1, "small")] * 9
    sampler = BalancedSampler(entries, exponent=0.0)
    rng = np.random.default_rng(0)
    drawn = [entries[i] for _ in range(200) for i in sampler.draw(rng, 10)]
    count = Counter(e.stratum for e in drawn)
    assert count["studio"] == 1_000
    assert count["small"] / 1_000 == pytest.approx(0.5, abs=0.06)


def test_sampler_brings_the_human_original_of_a_copy() -> None:
    entries = [entry(f"r{i}", 0, "studio") for i in range(50)] + [entry("copy", 1, "vocoder", parent="r7")]
    sampler = BalancedSampler(entries, matched=1.0)
    assert [entries[i].clip for i in sampler.draw(np.random.default_rng(0), 8)[:4]] == ["r7"] * 4


def test_sampler_matches_a_fake_with_humans_of_its_source() -> None:
    entries = [entry(f"r{i}", 0, "studio", source=f"page{i % 25}") for i in range(50)]
    entries += [entry(f"f{i}", 1, "tts", source=f"page{i}") for i in range(25)] + [entry("x", 1, "tts", source="none")]
    sampler = BalancedSampler(entries, matched=1.0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        drawn = [entries[i] for i in sampler.draw(rng, 16)]
        for human, fake in zip(drawn[:8], drawn[8:], strict=True):
            assert fake.source in {human.source, "none"}


def test_copies_are_drawn_more_often_by_their_factor() -> None:
    entries = [entry("r", 0, "studio"), entry("f", 1, "tts"), entry("c", 1, "vocoder", parent="r")]
    sampler = BalancedSampler(entries, copies=3.0)
    count = Counter(entries[i].clip for i in sampler.draw(np.random.default_rng(0), 8_000)[4_000:])
    assert count["c"] / 4_000 == pytest.approx(0.75, abs=0.03)


def test_representative_clips_are_half_human_and_mixed(manifest: Path) -> None:
    chosen = representative(read_manifest(manifest), 8)
    assert len({c.id for c in chosen}) == 8
    assert sum(c.label for c in chosen) == 4
    assert {c.label for c in chosen[::2]} == {0, 1}


def test_representative_clips_of_one_class_are_that_class_and_of_none_an_error(manifest: Path) -> None:
    human = [clip for clip in read_manifest(manifest) if clip.label == 0]
    assert {clip.label for clip in representative(human, 4)} == {0}
    with pytest.raises(DataError, match="no clips to choose from"):
        representative([], 4)


def test_short_clips_are_followed_by_masked_silence() -> None:
    crops, valid = stack([np.full((50, 64), -5.0, np.float16)], 96, 32, np.random.default_rng(0))
    assert crops.shape == (1, 128, 64)
    assert (crops[0, :32] == SILENCE).all()
    assert (crops[0, 32:82] == -5.0).all()
    assert (crops[0, 82:] == SILENCE).all()
    assert columns_mask(valid, 3, 32).tolist() == [[True, True, False]]


def test_history_comes_from_the_clip_where_it_is_long_enough() -> None:
    clip = np.repeat(np.arange(300, dtype=np.float16)[:, None], 64, axis=1)
    crops, valid = stack([clip], 64, 100, np.random.default_rng(0))
    assert (np.diff(crops[0, :, 0]) == 1.0).all()
    assert valid[0] == 64


def test_crops_have_whole_hops_within_bounds_and_repeat_with_the_seed() -> None:
    entries = [entry("a", 0, "x", frames=500), entry("b", 1, "y", frames=90)]
    cropper = Cropper(CONFIG, FrameAugment(), shortest=64, longest=128)
    lengths = {cropper.draw(entries, np.random.default_rng(s)).features.shape[1] for s in range(30)}
    assert lengths == {64, 96, 128}
    one, two = (cropper.draw(entries, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one.features, two.features)
    assert one.labels.tolist() == [0.0, 1.0]
    assert one.features.min() >= 0.0
