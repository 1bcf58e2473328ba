from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from typer.testing import CliRunner

from tests.trainer import corpus
from tests.trainer.readers import samples
from trainer.audit.features import NAMES, decode, measure
from trainer.audit.fingerprint import duplicates, fingerprint
from trainer.audit.leakage import leakage
from trainer.audit.report import Audit, verdict
from trainer.audit.shortcuts import group_column, shortcuts, steps
from trainer.cli import app
from trainer.data.audio import read_audio
from trainer.data.errors import DataError
from trainer.data.manifest import Clip, read_manifest

RATE = 16_000


def speech(seed: int, seconds: float = 4.0) -> np.ndarray:
    """Noise whose bands rise and fall independently, about as fast as in speech."""
    rng = np.random.default_rng(seed)
    size = int(seconds * RATE)
    parts = np.zeros(size)
    time = np.arange(size) / RATE
    for centre in np.geomspace(250, 3_000, 40):
        curve = np.interp(
            time, np.arange(0, seconds + 0.1, 0.1), rng.uniform(0, 1, len(np.arange(0, seconds + 0.1, 0.1))) ** 2
        )
        parts += curve * np.sin(2 * np.pi * centre * time + rng.uniform(0, 6))
    return 0.02 * parts + 1e-4 * rng.standard_normal(size)


def clip(name: str, label: int, **texts: str) -> Clip:
    return Clip(name, Path(f"{name}.wav"), label, **texts)


def tone(level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * 440.0 * np.arange(RATE) / RATE)


class TestFeatures:
    def test_silence_around_is_measured_in_seconds(self) -> None:
        found = measure(np.r_[np.zeros(8_000), tone(), np.zeros(4_000)], RATE)
        assert found["leading_silence"] == pytest.approx(0.5, abs=0.011)
        assert found["trailing_silence"] == pytest.approx(0.25, abs=0.011)
        assert found["seconds"] == pytest.approx(1.75)
        assert found["zeros"] == pytest.approx(12_000 / 28_000, abs=0.01)

    def test_levels_are_in_decibels_of_full_scale(self) -> None:
        found = measure(tone(0.5), RATE)
        assert found["peak"] == pytest.approx(-6.02, abs=0.01)
        assert found["loudness"] == pytest.approx(-9.03, abs=0.01)

    def test_offset_clipping_and_bits(self) -> None:
        plain = measure(tone(), RATE)
        assert measure(tone() + 0.05, RATE)["dc"] > plain["dc"] + 60.0
        assert plain["clipping"] < 0.001 < measure(np.clip(2 * tone(), -0.6, 0.6), RATE)["clipping"]
        for bits in (8, 12, 16):
            rounded = np.round(tone() * 2 ** (bits - 1)) / 2 ** (bits - 1)
            assert measure(rounded, RATE)["bits"] == bits
        assert measure(tone(), RATE)["bits"] == 25

    def test_band_limit_follows_a_low_pass(self) -> None:
        noise = 0.1 * np.random.default_rng(0).standard_normal(4 * RATE)
        narrow = soxr.resample(soxr.resample(noise, RATE, 8_000), 8_000, RATE)
        assert measure(noise, RATE)["band_limit"] > 7_900.0
        assert measure(narrow, RATE)["band_limit"] == pytest.approx(4_000.0, abs=200.0)
        assert measure(narrow, RATE)["upper_band"] < measure(noise, RATE)["upper_band"] - 30.0

    def test_tilt_is_in_decibels_an_octave(self) -> None:
        noise = np.random.default_rng(0).standard_normal(8 * RATE)
        assert measure(noise, RATE)["tilt"] == pytest.approx(0.0, abs=0.3)
        assert measure(0.01 * np.cumsum(noise), RATE)["tilt"] == pytest.approx(-6.0, abs=0.5)

    @pytest.mark.parametrize("samples", [np.zeros(5), np.zeros(RATE), np.ones(1), np.full(300, 1e-9)])
    def test_nothing_at_all_still_gives_finite_values(self, samples: np.ndarray) -> None:
        found = measure(samples, RATE)
        assert {*found, "codec"} == {*NAMES}
        assert np.isfinite([*found.values()]).all()

    def test_broken_files_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.wav").write_bytes(b"no audio")
        with pytest.raises(DataError, match=r"a\.wav"):
            decode(tmp_path / "a.wav")


class TestFingerprint:
    def test_finds_a_cut_levelled_and_recoded_copy(self, tmp_path: Path) -> None:
        one = speech(1)
        soundfile.write(tmp_path / "a.mp3", 0.3 * one[12_345:60_000], RATE)
        copy, rate, _ = decode(tmp_path / "a.mp3")
        words = [fingerprint(one, RATE), fingerprint(speech(2), RATE), fingerprint(copy, rate)]
        (match,) = duplicates(words, ["train", "train", "test"])
        assert {match.first, match.second} == {0, 2}
        assert match.seconds > 2.0

    def test_gain_moves_nothing(self) -> None:
        one = speech(3)
        assert np.bitwise_count(fingerprint(one, RATE) ^ fingerprint(0.01 * one, RATE)).mean() < 0.1

    def test_other_recordings_and_silence_do_not_match(self) -> None:
        words = [fingerprint(speech(seed), RATE) for seed in range(12)]
        words += [fingerprint(np.zeros(4 * RATE), RATE)] * 2
        assert duplicates(words, [f"split{i}" for i in range(14)]) == []

    def test_pairs_within_a_kind_are_passed_over(self) -> None:
        words = [fingerprint(speech(1), RATE)] * 2
        assert duplicates(words, ["train", "train"]) == []
        assert len(duplicates(words, ["train", "test"])) == 1

    def test_too_short_a_clip_has_no_words(self) -> None:
        assert len(fingerprint(np.ones(100), RATE)) == 0
        assert duplicates([fingerprint(np.ones(100), RATE)] * 2, ["a", "b"]) == []


class TestLeakage:
    def test_finds_what_splits_share(self) -> None:
        clips = [
            clip("a", 0, split="train", source="s1", group="g1", speaker="ann"),
            clip("b", 0, split="test", source="s1", group="g2", speaker="ann"),
            clip("c", 1, split="test", source="s2", group="g1", family="vits", parent="a"),
            clip("d", 1, split="train", source="s3", group="g3", family="vits"),
        ]
        found = leakage(clips, ["1", "1", "2", "3"], [])
        assert found.kind == "split"
        assert found.equal_across == [("a", "b")]
        assert found.shared["source"] == {"s1": ["test", "train"]}
        assert found.shared["group"] == {"g1": ["test", "train"]}
        assert found.shared["speaker"] == {"ann": ["test", "train"]}
        assert found.shared["family"] == {"vits": ["test", "train"]}
        assert found.shared["parent"] == {"c": ["test", "train"]}
        assert found.found

    def test_contradicting_labels_are_told_from_copies(self) -> None:
        clips = [clip("a", 0, group="g"), clip("b", 1, group="g"), clip("c", 0, group="h")]
        found = leakage(clips, ["1", "1", "1"], [])
        assert found.kind == "group"
        assert found.contradictions == [("a", "b")]
        assert found.equal_within == [("a", "b")]
        assert found.equal_across == [("a", "c")]

    def test_clean_splits_are_called_clean(self) -> None:
        clips = [clip("a", 0, split="train", source="s", group="g"), clip("b", 0, split="test", source="t", group="h")]
        found = leakage(clips, ["1", "2"], [])
        assert not found.found
        assert "No leak between splits was found." in verdict(Audit({}, {}, found, None))


class TestShortcuts:
    @staticmethod
    def clips(count: int = 200) -> list[Clip]:
        return [clip(str(i), i % 2, source=f"s{i % 2}{i // 2 % 10}") for i in range(count)]

    def test_a_planted_shortcut_is_found_and_named(self) -> None:
        clips, rng = self.clips(), np.random.default_rng(0)
        features = rng.standard_normal((len(clips), len(NAMES)))
        features[:, [*NAMES].index("peak")] += 3.0 * np.array([c.label for c in clips])
        done = []
        found = shortcuts(features, clips, rounds=20, advance=lambda: done.append(1))
        assert len(done) == steps()
        assert found.by == "source"
        assert found.auc > 0.95
        assert max(found.drop, key=lambda n: found.drop[n]) == "peak"
        assert max(found.alone, key=lambda n: found.alone[n]) == "peak"
        assert found.interval[0] <= found.auc <= found.interval[1]
        assert found.by_split["train"] > 0.9

    def test_noise_is_at_chance(self) -> None:
        clips = self.clips(400)
        found = shortcuts(np.random.default_rng(1).standard_normal((400, len(NAMES))), clips, rounds=20)
        assert abs(found.auc - 0.5) < 0.1

    def test_what_only_marks_a_source_counts_less_when_sources_are_held_out(self) -> None:
        """Each source has a value of its own, drawn without regard to its class."""
        clips = self.clips(800)
        values = {c.source: v for c, v in zip(clips[:20], np.random.default_rng(2).permutation(20), strict=True)}
        features = np.zeros((800, len(NAMES)))
        features[:, 0] = [values[c.source] for c in clips]
        found = shortcuts(features, clips, rounds=20)
        assert found.ungrouped > 0.95
        assert found.auc < 0.75

    def test_groups_are_chosen_by_what_the_data_have(self) -> None:
        assert group_column(self.clips()) == "source"
        spoken = [clip(str(i), i % 2, source="one", speaker=f"v{i}") for i in range(20)]
        assert group_column(spoken) == "speaker"
        assert group_column([clip(str(i), i % 2, source="one") for i in range(20)]) == "id"

    def test_one_class_cannot_be_judged(self) -> None:
        clips = [clip(str(i), int(i == 0), source=f"s{i}") for i in range(20)]
        with pytest.raises(ValueError, match="two groups"):
            shortcuts(np.zeros((20, len(NAMES))), clips)


class TestCommands:
    @pytest.fixture
    def manifest(self, tmp_path: Path) -> Path:
        return corpus.make(tmp_path / "corpus", clips=20)

    def test_audit_writes_json_text_and_picture(self, manifest: Path, tmp_path: Path) -> None:
        (manifest.parent / "audio" / "clip04.flac").write_bytes(b"broken")
        picture, report = tmp_path / "audit.png", tmp_path / "audit.txt"
        options = ["--json", "--picture", str(picture), "--out", str(report), "--by", "group"]
        result = CliRunner().invoke(app, ["audit", str(manifest), *options], catch_exceptions=False)
        assert result.exit_code == 0
        found = json.loads(result.stdout)
        assert sum(found["clips"].values()) == 39
        assert [*found["skipped"]] == ["clip04"]
        assert found["shortcuts"]["auc"] > 0.9, "a buzz of 3 kHz is heard by the slope of the spectrum"
        assert found["leakage"]["shared"]["source"], "the miniature shares its sources between splits"
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert all(sentence in report.read_text(encoding="utf-8") for sentence in found["verdict"])

    def test_contradicting_labels_end_in_an_error_after_the_report(self, manifest: Path) -> None:
        audio = manifest.parent / "audio"
        (audio / "clip01.flac").write_bytes((audio / "clip00.flac").read_bytes())
        result = CliRunner().invoke(app, ["audit", str(manifest), "--no-near"])
        assert isinstance(result.exception, DataError)
        assert "equal audio with contradicting labels: 1" in result.stdout

    def test_audit_of_an_unknown_column(self, manifest: Path) -> None:
        result = CliRunner().invoke(app, ["audit", str(manifest), "--by", "house"])
        assert isinstance(result.exception, DataError)
        assert "house" in str(result.exception)

    def test_audit_does_not_hold_out_the_label(self, manifest: Path) -> None:
        result = CliRunner().invoke(app, ["audit", str(manifest), "--by", "label"])
        assert isinstance(result.exception, DataError)
        assert "label: what is to be told apart cannot be held out" in str(result.exception)

    def test_audit_of_very_few_clips_gives_no_verdict_on_shortcuts(self, tmp_path: Path) -> None:
        manifest = corpus.make(tmp_path / "few", clips=3)
        result = CliRunner().invoke(app, ["audit", str(manifest), "--no-near", "--by", "id"], catch_exceptions=False)
        assert "Too few clips to tell whether there are shortcuts: 3 human and 3 synthetic; 10 of each" in result.stdout
        assert "gives the classes away" not in result.stdout

    def test_a_picture_that_cannot_be_drawn_is_said(self, tmp_path: Path) -> None:
        for number in range(4):
            samples.audio(tmp_path / "set" / "real" / f"{number}.wav")
        picture = tmp_path / "x.png"
        words = ["audit", f"folder:{tmp_path / 'set'}", "--no-near", "--picture", str(picture)]
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert "x.png: not drawn; it shows what tells the classes apart" in " ".join(result.stderr.split())
        assert not picture.exists()

    def test_a_label_that_no_clip_has_is_said(self, manifest: Path, tmp_path: Path) -> None:
        words = ["manifest", str(manifest), "--out", str(tmp_path / "o.csv"), "--no-check"]
        result = CliRunner().invoke(app, [*words, "--label", "reel=fake", "--label", "Real=fake"])
        assert result.exit_code == 0
        said = " ".join(result.output.split())
        assert "--label reel: no clip is labelled so; there are fake, real" in said
        assert "--label Real" not in said

    def test_names_in_brackets_are_said_as_they_are(self, tmp_path: Path) -> None:
        for name in ("real/Talk [dQw4w9].wav", "fake/[bold]/[x].wav", "fake/a[/y].wav"):
            samples.audio(tmp_path / "set [1]" / name)
        (tmp_path / "set [1]" / "real" / "Talk [dQw4w9].wav").write_bytes(b"broken")
        out = tmp_path / "out [" / "y].csv"
        out.parent.mkdir()
        result = CliRunner().invoke(app, ["manifest", f"folder:{tmp_path / 'set [1]'}", "--out", str(out)])
        assert result.exit_code == 0, result.exception
        said = " ".join(result.output.split())
        assert "skipped folder/set [1]/real/Talk [dQw4w9]: " in said
        assert "[/y].csv: 2 clips" in said
        words = ["cache", str(out), "--out", str(tmp_path / "cache"), "--exclude-family", "[/no]"]
        assert "nothing is excluded by '[/no]'" in CliRunner().invoke(app, words, catch_exceptions=False).output

    @pytest.mark.parametrize("check", ["--check", "--no-check"])
    def test_names_that_are_not_utf8_are_listed_and_skipped(self, tmp_path: Path, check: str) -> None:
        for name in ("real/a.wav", "fake/b.wav", "fake/c.wav"):
            samples.audio(tmp_path / "set" / name)
        (tmp_path / "set" / "fake" / "c.wav").rename(tmp_path / "set" / "fake" / "caf\udce9.wav")
        result = CliRunner().invoke(app, ["manifest", str(tmp_path / "set"), check, "--out", str(tmp_path / "o.csv")])
        assert result.exit_code == 0, result.exception
        assert "skipped folder/set/fake/caf\\xe9: " in " ".join(result.output.split())
        assert [c.path.name for c in read_manifest(tmp_path / "o.csv")] == ["b.wav", "a.wav"]
        words = ["audit", str(tmp_path / "set"), "--out", str(tmp_path / "o.txt"), "--no-near"]
        assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0

    def test_a_name_that_is_not_utf8_can_be_read_but_not_listed(self, tmp_path: Path) -> None:
        path = samples.audio(tmp_path / "set" / "fake" / "a.wav")
        path = path.rename(tmp_path / "set" / "fake" / "caf\udce9.wav")
        assert len(read_audio(path)) == len(decode(path)[0]) == 1_600
        result = CliRunner().invoke(app, ["manifest", f"folder:{tmp_path / 'set'}", "--out", str(tmp_path / "o.csv")])
        assert isinstance(result.exception, DataError)
        assert "have names that are not UTF-8" in str(result.exception)

    def test_manifest_can_be_trained_on(self, tmp_path: Path) -> None:
        for number in range(8):
            path = tmp_path / "set" / ("real" if number % 2 else "spoof") / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, corpus.voice(number, fake=number % 2 == 0), RATE)
        (tmp_path / "set" / "real" / "1.wav").write_bytes(b"broken")
        out = tmp_path / "out.csv"
        result = CliRunner().invoke(
            app, ["manifest", f"folder:{tmp_path / 'set'}", "--shares", "1,0,0", "--out", str(out)]
        )
        assert result.exit_code == 0, result.output
        assert "skipped folder/set/real/1" in result.output
        clips = read_manifest(out)
        assert [c.label for c in clips] == [0, 0, 0, 1, 1, 1, 1]
        assert all(c.path.is_file() and c.split == "train" for c in clips)
        with out.open(encoding="utf-8") as file:
            assert [r["id"] for r in csv.DictReader(file)] == [c.id for c in clips]

    def test_manifest_keeps_what_else_a_data_set_publishes(self, tmp_path: Path) -> None:
        sets = [samples.asvspoof2021la(tmp_path / "la"), samples.inthewild(tmp_path / "wild")]
        out, again = tmp_path / "out.csv", tmp_path / "again.csv"
        for places, path in ((sets, out), ([out], again)):
            result = CliRunner().invoke(app, ["manifest", *map(str, places), "--no-check", "--out", str(path)])
            assert result.exit_code == 0, result.output
        with out.open(encoding="utf-8") as file:
            rows = {row["id"]: row for row in csv.DictReader(file)}
        row = rows["asvspoof2021la/LA_E_1000011"]
        assert (row["channel"], row["trim"], row["subset"], row["condition"]) == ("mad_tx", "trim", "hidden", "mad_tx")
        assert (rows["inthewild/0"]["trim"], rows["inthewild/0"]["file"]) == ("", "0.wav")
        assert again.read_text(encoding="utf-8") == out.read_text(encoding="utf-8")

    def test_two_folders_become_one_manifest(self, tmp_path: Path) -> None:
        for name in ("one", "two", "else/one"):
            for label in ("real", "fake"):
                samples.audio(tmp_path / name / label / "00.wav")
        out = tmp_path / "out.csv"
        join = ["manifest", "--no-check", "--out", str(out), str(tmp_path / "one")]
        assert CliRunner().invoke(app, [*join, str(tmp_path / "two")]).exit_code == 0
        names = {f"folder/{name}/{label}/00" for name in ("one", "two") for label in ("real", "fake")}
        assert {c.id for c in read_manifest(out)} == names
        result = CliRunner().invoke(app, [*join, str(tmp_path / "else" / "one")])
        assert isinstance(result.exception, DataError)
        assert "occurs in both data sets; rename one" in str(result.exception)

    @pytest.mark.parametrize(
        "options",
        [
            ["--shares", "1,2"],
            ["--shares", "-1,1,1"],
            ["--shares", "nan,1,1"],
            ["--shares", "inf,1,1"],
            ["--label", "partial"],
            ["--limit", "-3"],
        ],
    )
    def test_options_that_make_no_sense(self, manifest: Path, tmp_path: Path, options: list[str]) -> None:
        result = CliRunner().invoke(app, ["manifest", str(manifest), "--out", str(tmp_path / "o.csv"), *options])
        assert result.exit_code == 2
