"""``streamdet bench`` as a user runs it; only its structure and coarse ratios are checked, never a speed."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import typer
from matplotlib.figure import Figure
from typer.testing import CliRunner

from streamdet.bench.plot import check_plot, save_figure
from streamdet.bench.target import check_target
from streamdet.cli import app
from streamdet.errors import ConfigError
from tests.streamdet.conftest import Run, streamdet

SECONDS = 280  # no limit of speed: a machine may be busy with other things
PARTS = {"front_end", "vad", "engine", "decode_ring", "decision_json", "rest"}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict:
    picture = tmp_path_factory.mktemp("bench") / "bench.png"
    command = streamdet(
        "bench", "--quick", "--streams", "1", "--streams", "8", "--live", "1", "--json", "--plot", picture
    )
    done = subprocess.run(command, capture_output=True, check=True, timeout=SECONDS)
    assert picture.read_bytes().startswith(b"\x89PNG")
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def test_a_model_that_hears_more_than_bands_is_compared_with_no_other_network() -> None:
    command = streamdet("bench", "--model", "streamdet", "--quick", "--streams", "1", "--live", "0", "--json")
    done = subprocess.run(command, capture_output=True, check=True, timeout=SECONDS)
    report = json.loads(done.stdout)
    kinds = {entry["kind"] for entry in report["results"]}
    assert "stream" in kinds
    assert not kinds & {"window", "eager"}
    assert any("more than bands" in line for line in report["left_out"])


def test_each_way_has_figures(report: dict) -> None:
    kinds = [entry["kind"] for entry in report["results"]]
    assert kinds.count("stream") == 2
    assert kinds.count("end_to_end") == 3  # at 1 and 8 streams, and at 8 in blocks of a whole hop
    assert kinds.count("window") == kinds.count("eager") == 2
    assert report["left_out"] == []
    for entry in report["results"]:
        assert 0 < entry["low"] <= entry["ms_per_hop"] <= entry["high"]
        assert entry["streams_per_core"] == pytest.approx(320 / entry["ms_per_hop"], rel=0.02)
    assert report["end_to_end_streams_per_core"] > 0


def test_shares_add_up(report: dict) -> None:
    assert report["shares"].keys() == PARTS
    assert sum(report["shares"].values()) == pytest.approx(1.0, abs=1e-3)


def test_every_event_reached_the_reader(report: dict) -> None:
    assert report["events"]["published"] > 0
    assert report["events"]["received"] == report["events"]["published"]


def test_new_audio_costs_less_than_whole_windows(report: dict) -> None:
    times = {ratio["against"]: ratio["times"] for ratio in report["ratios"]}
    assert len(times) == 4
    assert min(times.values()) > 2  # a 4 s window is 12 hops, a 10 s window 31


def test_a_live_stream_was_heard(report: dict) -> None:
    live = report["live"]
    assert live["hops"] >= 1
    assert 0 < live["latency_ms_p50"] <= live["latency_ms_p99"] <= live["latency_ms_max"]
    assert 0 < live["rss_mb"] <= live["peak_rss_mb"]


def test_memory_grows_with_the_streams(report: dict) -> None:
    one, more = report["memory"]
    assert (one["streams"], more["streams"]) == (1, 8)
    ring_mb = one["ring_seconds"] * 16_000 * 4 / 1e6
    assert more["rss_mb"] - one["rss_mb"] > 6 * ring_mb
    assert more["mb_per_stream"] > 0.9 * ring_mb


def test_a_missing_model_is_one_line(run: Run, tmp_path: Path) -> None:
    done = run("bench", "--quick", "--model", tmp_path / "none.onnx")
    assert done.returncode == 4
    assert "cannot read the model" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_torch_and_onnx_the_rest_is_measured() -> None:
    blocked = "import sys; sys.modules['torch'] = sys.modules['onnx'] = None; from streamdet.cli import main; main()"
    arguments = ("bench", "--quick", "--streams", "1", "--rounds", "1", "--live", "0", "--json")
    done = subprocess.run([sys.executable, "-c", blocked, *arguments], capture_output=True, check=True, timeout=SECONDS)
    report = json.loads(done.stdout)
    assert {entry["kind"] for entry in report["results"]} == {"stream", "part", "end_to_end"}
    assert [reason.split()[0] for reason in report["left_out"]] == ["window", "torch"]
    assert report["ratios"] == []
    assert "live" not in report


@pytest.mark.parametrize("way", [("--rounds", "7"), ("--engine", "onnx-cpu")])
@pytest.mark.parametrize(
    ("plot", "told"),
    [("none/b.png", "there is no folder"), ("b.txt", "end its name in .png or .svg"), ("folder.svg", "is a folder")],
)
def test_a_picture_that_cannot_be_written_is_said_at_once(
    run: Run, tmp_path: Path, way: tuple[str, str], plot: str, told: str
) -> None:
    """Before the model is read, so that nothing can have been measured."""
    (tmp_path / "folder.svg").mkdir()
    done = run("bench", *way, "--model", tmp_path / "none.onnx", "--plot", tmp_path / plot)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_picture_without_matplotlib_is_refused_at_once(tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['matplotlib'] = None; from streamdet.cli import main; main()"
    arguments = ("bench", "--model", tmp_path / "none.onnx", "--plot", tmp_path / "b.png")
    command = [sys.executable, "-c", blocked, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=SECONDS)
    assert done.returncode == 5
    assert b"pip install matplotlib" in done.stderr


@pytest.mark.parametrize("name", ["new.SVG", "there.png"])
def test_a_picture_may_be_new_or_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / "there.png").write_bytes(b"old")
    check_plot(tmp_path / name)


def test_what_may_not_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there.png").write_bytes(b"old")
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    check_target(tmp_path / "there.png", in_place=True)
    for name, in_place in (("there.png", False), ("new.png", True)):
        with pytest.raises(ConfigError, match="may not be written to"):
            check_target(tmp_path / name, in_place=in_place)


def test_a_disk_that_takes_no_picture_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*: No such file or directory"):
        save_figure(Figure(), tmp_path / "gone" / "b.png")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--calibrate --plot b.png", ("--calibrate", "--plot")),
        ("--calibrate --streams 8", ("--calibrate", "--streams")),
        ("--calibrate --live-only", ("--calibrate", "--live-only")),
        ("--calibrate --quick", ("--calibrate", "--quick")),
        ("--calibrate --engine onnx-cpu --streams 8", ("--calibrate", "--streams")),
        ("--calibrate -m a.onnx -m b.onnx", ("--calibrate", "--model")),
        ("--config c.toml", ("--config", "--calibrate")),
        ("-c c.toml --engine onnx-cpu", ("--config", "--engine")),
        ("--seconds 9", ("--seconds", "--calibrate")),
        ("--engine onnx-cpu --quick", ("--engine", "--quick")),
        ("--live-only --plot b.png", ("--live-only", "--plot")),
        ("--live-only --live 0", ("--live-only", "--live 0")),
    ],
)
def test_options_that_would_be_ignored_are_refused(arguments: str, named: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["bench", *arguments.split()], standalone_mode=False)
    assert isinstance(done.exception, typer.BadParameter)
    assert done.exception.exit_code == 2
    assert all(option in str(done.exception) for option in named)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple]:
    """What was to be measured, by name of the function that would have."""
    calls: dict[str, tuple] = {}
    for name in ("run_and_show", "measure_engine_and_show", "calibrate_and_show"):
        monkeypatch.setattr(f"streamdet.commands.bench.{name}", partial(_keep, calls, name))
    return calls


def _keep(calls: dict[str, tuple], name: str, *arguments: object, **options: object) -> None:
    calls[name] = arguments


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("", "run_and_show"),
        ("--quick", "run_and_show"),
        ("--live 60 --live-only", "run_and_show"),
        ("-m full-int8.onnx -m full-fp32.onnx --json --plot bench.png", "run_and_show"),
        ("--calibrate --config none.toml", "calibrate_and_show"),
        ("--calibrate --seconds 9 --json", "calibrate_and_show"),
        ("--engine tensorrt --model gpu.onnx --streams 32 --streams 512 --plot gpu.png", "measure_engine_and_show"),
    ],
)
def test_what_is_documented_is_taken(called: dict[str, tuple], arguments: str, name: str) -> None:
    done = CliRunner().invoke(app, ["bench", *arguments.split()])
    assert done.exit_code == 0, done.output
    assert list(called) == [name]


def test_an_engine_can_be_calibrated(called: dict[str, tuple], tmp_path: Path) -> None:
    path = tmp_path / "streamdet.toml"
    path.write_text('engine = "auto"\nbatch = 7\n', encoding="utf-8")
    CliRunner().invoke(app, ["bench", "--calibrate", "--engine", "onnx-cpu", "--config", str(path)])
    config, written = called["calibrate_and_show"]
    assert (config.engine, config.batch, written) == ("onnx-cpu", 7, path)


def test_the_same_number_of_streams_is_measured_once(called: dict[str, tuple]) -> None:
    again = [word for number in (8, 1, 8, 1, 32) for word in ("--streams", str(number))]
    CliRunner().invoke(app, ["bench", *again])
    CliRunner().invoke(app, ["bench", "--engine", "onnx-cpu", *again])
    (plan,) = called["run_and_show"]
    assert tuple(plan.settings.streams) == (8, 1, 32)
    assert tuple(called["measure_engine_and_show"][2]) == (8, 1, 32)
