"""``streamdet scan`` as a user runs it, good files and bad."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from .conftest import DEMO, Run, hops


def parse(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_scan_and_listen_agree(run: Run, tmp_path: Path, endpoint: str) -> None:
    (scanned,) = parse(run("scan", DEMO, "--json").stdout)
    listened = run("listen", "-s", f"file:{DEMO}", "--speed", "max", "--json", "--publish", endpoint)
    assert listened.returncode == 0
    scores = [event for event in parse(listened.stdout) if event["type"] == "score"]
    assert len(scores) == len(scanned["track"]) == hops(soundfile.info(DEMO).duration)
    for hop, score in zip(scanned["track"], scores, strict=True):
        assert hop["t"] == score["media_time"]
        assert hop["verdict"] == score["verdict"]
        assert hop["p_fake"] == pytest.approx(score["p_fake"], abs=1e-6)
        for length, value in hop["windows"].items():
            assert value == pytest.approx(score["windows"][length], abs=1e-6)


def test_a_folder_with_bad_files_is_scored_to_its_end(run: Run, tmp_path: Path, speech: np.ndarray) -> None:
    soundfile.write(tmp_path / "a.wav", speech[:80_000], 16_000)
    (tmp_path / "b-empty.wav").write_bytes(b"")
    (tmp_path / "c-noise.flac").write_bytes(bytes(range(256)) * 20)
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "d-truncated.wav").write_bytes(whole[: len(whole) // 2])
    soundfile.write(tmp_path / "sub.flac", speech[80_000:160_000], 16_000)
    (tmp_path / "notes.txt").write_text("not sound")
    done = run("scan", tmp_path, "--json")
    assert done.returncode == 3
    results = {Path(entry["path"]).name: entry for entry in parse(done.stdout)}
    assert list(results) == ["a.wav", "b-empty.wav", "c-noise.flac", "d-truncated.wav", "sub.flac"]
    assert [name for name, entry in results.items() if entry["error"]] == list(results)[1:4]
    assert 0 <= results["a.wav"]["p_fake"] <= 1
    assert 0 <= results["sub.flac"]["p_fake"] <= 1
    assert results["b-empty.wav"]["p_fake"] is None
    assert "empty" in results["b-empty.wav"]["error"]
    assert results["d-truncated.wav"]["seconds"] == pytest.approx(2.5, abs=0.1)


@pytest.mark.parametrize(
    ("rate", "channels", "suffix"), [(8_000, 1, "wav"), (44_100, 2, "flac"), (48_000, 1, "ogg"), (22_050, 1, "mp3")]
)
def test_any_rate_channels_and_format(
    run: Run, tmp_path: Path, speech: np.ndarray, rate: int, channels: int, suffix: str
) -> None:
    samples = soxr.resample(speech[:96_000], 16_000, rate)
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, np.repeat(samples[:, None], channels, axis=1), rate)
    (result,) = parse(run("scan", path, "--json").stdout)
    assert result["error"] is None
    assert result["seconds"] == pytest.approx(6.0, abs=0.2)
    assert result["p_fake"] is not None


def test_silence_has_no_number_and_a_short_clip_still_has_one(run: Run, tmp_path: Path, speech: np.ndarray) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(64_000, np.float32), 16_000)
    soundfile.write(tmp_path / "short.wav", speech[16_000:32_000], 16_000)
    done = run("scan", tmp_path, "--json")
    assert done.returncode == 0
    short, silence = sorted(parse(done.stdout), key=lambda entry: entry["path"])
    assert (silence["p_fake"], silence["verdict"]) == (None, "no_speech")
    assert short["p_fake"] is not None
    assert short["verdict"] == "undecided"


def test_the_table_names_every_file(run: Run, tmp_path: Path, speech: np.ndarray) -> None:
    soundfile.write(tmp_path / "a.wav", speech[:80_000], 16_000)
    done = run("scan", tmp_path / "a.wav", tmp_path / "missing.wav")
    assert done.returncode == 3
    assert "a.wav" in done.stdout
    assert "unreadable" in done.stdout
    assert "there is no file" in done.stderr


def test_a_damaged_file_is_named_and_marked(run: Run, tmp_path: Path, speech: np.ndarray) -> None:
    soundfile.write(tmp_path / "good.wav", speech[:80_000], 16_000)
    soundfile.write(tmp_path / "cut.flac", speech[:160_000], 16_000)
    whole = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(tmp_path / "nan.wav", np.full(80_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    (tmp_path / "none.wav").write_bytes(b"")
    done = run("scan", tmp_path)
    assert done.returncode == 3
    damaged, numbers, empty = filter(None, done.stderr.splitlines())
    assert damaged.startswith(f"{tmp_path / 'cut.flac'}: damaged after 4.0 s")
    assert numbers.startswith(f"{tmp_path / 'nan.wav'}: 80000 samples that are no numbers")
    assert empty == f"{tmp_path / 'none.wav'} is empty (0 bytes)"
    marked = {line.split()[0].rpartition("/")[2]: line.split()[-1] == "damaged" for line in done.stdout.splitlines()}
    assert marked == {"file": False, "cut.flac": True, "good.wav": False, "nan.wav": True, "none.wav": False}


def test_a_model_that_does_not_fit_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    done = run("scan", DEMO, "--model", tmp_path / "model.onnx")
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("streamdet: model ")
