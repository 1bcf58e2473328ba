"""How many streams fit, and where that is written."""

import json
import tomllib
from pathlib import Path

import pytest

from streamdet.bench.calibrate import HEAD_ROOM, PRECISION, Calibration, Trial, rehearse, search
from streamdet.bench.publisher import Publisher
from streamdet.bench.setting import check_setting, with_setting, write_setting
from streamdet.commands.bench import calibrate_and_show
from streamdet.config import Config, load
from streamdet.errors import ConfigError
from tests.streamdet.conftest import Run


@pytest.mark.parametrize("limit", [1, 2, 7, 15, 16, 100, 333, 5_000])
def test_the_search_closes_in_on_the_limit_from_below(limit: int) -> None:
    tried: list[int] = []

    def trial(streams: int) -> Trial:
        tried.append(streams)
        return Trial(streams, streams <= limit, 1.0, 2.0, 0.5)

    found = search(trial)
    assert limit / PRECISION - 1 <= found.held <= limit
    assert found.max_streams == int(found.held * (1 - HEAD_ROOM))
    assert len(set(tried)) == len(tried) < 20


def test_a_machine_that_holds_nothing_is_found_out() -> None:
    assert search(lambda streams: Trial(streams, False, 9e9, 9e9, 1.0)).max_streams == 0


def test_a_machine_without_limit_is_not_tried_for_ever() -> None:
    found = search(lambda streams: Trial(streams, True, 1.0, 2.0, 0.5), most=100)
    assert found.held == 100


def test_a_trial_holds_real_streams_in_real_time() -> None:
    publisher = Publisher(patient=False)
    try:
        trial = rehearse(Config(), 3, 1.5, publisher)
    finally:
        received = publisher.close()
    assert trial.streams == 3
    assert 0 < trial.latency_ms_p50 <= trial.latency_ms_p99
    assert trial.cores_busy > 0
    assert received == publisher.published > 3 * 3


COMMENTED = """\
# The office.
model = "mine.onnx"   # ours
batch = 16

# All about windows.
[windows]
short = 3.0  # max_streams = 7 is not here

[[source]]
uri = "mic:0"
"""


def test_comments_stay_and_the_line_goes_before_the_first_table() -> None:
    changed = with_setting(COMMENTED, "max_streams", 120)
    assert changed == COMMENTED.replace("batch = 16\n", "batch = 16\nmax_streams = 120\n")
    again = with_setting(changed.replace("= 120", "= 120 # measured"), "max_streams", 90)
    assert again == changed.replace("= 120", "= 90 # measured")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "max_streams = 5\n"),
        ("batch = 8", "batch = 8\nmax_streams = 5\n"),
        ("# only this\n", "# only this\nmax_streams = 5\n"),
        ("# of the table\n[windows]\nshort = 3.0\n", "max_streams = 5\n# of the table\n[windows]\nshort = 3.0\n"),
        ("  max_streams=9#old\n", "  max_streams=5#old\n"),
        ("#max_streams = 9\n", "#max_streams = 9\nmax_streams = 5\n"),
    ],
)
def test_every_place_is_found(text: str, expected: str) -> None:
    assert with_setting(text, "max_streams", 5) == expected


@pytest.mark.parametrize("text", ['model = """\n[x]\n"""\nbatch = 3\n[windows]\nlong = 9.0\n', "nonsense", "a = ["])
def test_what_is_unusual_is_left_alone_or_stays_right(text: str) -> None:
    """Never another meaning: either the result says the same and one thing more, or it is refused."""
    try:
        changed = with_setting(text, "max_streams", 5)
    except ConfigError:
        return
    assert tomllib.loads(changed) == tomllib.loads(text) | {"max_streams": 5}


def test_the_file_is_replaced_in_one_piece_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "streamdet.toml"
    path.write_text(COMMENTED, encoding="utf-8")
    path.chmod(0o640)
    write_setting(path, "max_streams", 44)
    assert load(path).max_streams == 44
    assert path.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["streamdet.toml"]
    write_setting(tmp_path / "new.toml", "max_streams", 3)
    assert load(tmp_path / "new.toml") == Config(max_streams=3)


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        write_setting(tmp_path / "none" / "streamdet.toml", "max_streams", 3)


@pytest.mark.parametrize(
    ("text", "told"),
    [("nonsense", "not valid TOML"), ("nothing = 3\n", "nothing"), ('model = """\n[x]\n"""\n', "by hand")],
)
def test_what_cannot_be_set_later_is_found_out_before(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "streamdet.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=told):
        check_setting(path, "max_streams")
    assert path.read_text(encoding="utf-8") == text


def test_a_configuration_that_cannot_be_written_is_said_before_the_trials(run: Run, tmp_path: Path) -> None:
    done = run("bench", "--calibrate", "--seconds", "1", "--config", tmp_path / "none" / "streamdet.toml")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "there is no folder" in line
    check_setting(tmp_path / "new.toml", "max_streams")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Calibration:
    """What every calibration finds, without trials."""
    calibration = Calibration(20, 14, (Trial(20, True, 1.0, 2.0, 0.5),))
    monkeypatch.setattr("streamdet.commands.bench.calibrate", lambda *_args, **_options: calibration)
    return calibration


@pytest.mark.parametrize("as_json", [False, True])
def test_the_result_is_printed_and_written(
    found: Calibration, tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    path = tmp_path / "streamdet.toml"
    calibrate_and_show(Config(), path, as_json=as_json, seconds=1.0)
    assert load(path).max_streams == 14
    printed = capsys.readouterr().out
    if as_json:
        assert json.loads(printed)["max_streams"] == 14
    else:
        assert printed.startswith("max_streams = 14\n")
        assert printed.endswith(f"written to {path}, which is new\n")
        calibrate_and_show(Config(), path, as_json=False, seconds=1.0)
        assert capsys.readouterr().out.endswith(f"written to {path}\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_the_result_is_printed_though_it_cannot_be_written(
    found: Calibration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    as_json: bool,
) -> None:
    monkeypatch.setattr("streamdet.commands.bench.check_setting", lambda *_args: None)  # it could be written then
    with pytest.raises(ConfigError, match="cannot write"):
        calibrate_and_show(Config(), tmp_path / "none" / "streamdet.toml", as_json=as_json, seconds=1.0)
    printed = capsys.readouterr().out
    assert ("max_streams = 14" in printed) is not as_json
    assert "written" not in printed
    if as_json:
        assert json.loads(printed)["max_streams"] == 14
