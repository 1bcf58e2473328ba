"""``check-config`` on files as people write them, and settings by the name of a stream."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamdet.assembly import Settings
from streamdet.bundled import bundled_model
from streamdet.config import Config
from streamdet.decide.calibrate import log_odds
from streamdet.engine.modelfile import read_model
from streamdet.settings.check import Check, check
from streamdet.settings.digest import config_digest
from streamdet.settings.reference import reference

ROOT = Path(__file__).parents[3]


@pytest.fixture
def checked(tmp_path: Path):
    def write_and_check(text: str) -> Check:
        path = tmp_path / "streams.toml"
        path.write_text(text)
        return check(path)

    return write_and_check


def test_the_page_of_options_is_up_to_date() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == reference(), (
        "run: streamdet check-config --reference > docs/configuration.md"
    )


def test_the_configuration_that_is_delivered_would_run() -> None:
    found = check(ROOT / "deploy" / "streams.toml")
    assert (found.errors, found.exit_code) == ([], 0)
    assert [(source["name"], source["uri"][:20]) for source in found.sources] == [("feed", "zmq://127.0.0.1:5570")]


def test_every_error_has_its_line(checked) -> None:
    found = checked('[[source]]\nuri = "rtp://0.0.0.0:5004"\nnam = "a"\n\n[alarm]\nraise = 1.4\n')
    assert [(e.field, e.line) for e in found.errors] == [("source.0.nam", 3), ("alarm.raise", 6)]
    assert found.exit_code == 2


@pytest.mark.parametrize(
    ("text", "says", "line", "code"),
    [
        ("[alarm\nraise = 1", "not valid TOML", 1, 2),
        ('[[source]]\nuri = "smoke://x"', "no source is called 'smoke'", 2, 3),
        ('model = "/nowhere.onnx"', "cannot read the model", 1, 4),
        ('operating_point = "x"\n', "no operating point 'x'", None, 2),
        ("[alarm]\nraise = 0.2\nclear = 0.8\n", "must lie below", 1, 2),
        ('[[stream]]\nmatch = "a"\nalarm = { raise = 0.1 }\n', "must lie below", 1, 2),
        (
            '[[source]]\nuri = "file:b.wav?name=a"\n[[source]]\nuri = "file:a.wav"',
            "second source",
            3,
            2,
        ),
    ],
)
def test_what_would_not_run_is_told(checked, text: str, says: str, line: int | None, code: int) -> None:
    (error,) = checked(text).errors
    assert says in error.message
    assert (error.line, error.exit_code) == (line, code)


def test_warnings_are_no_errors(checked) -> None:
    found = checked(
        'publish = "tcp://0.0.0.0:5560"\n[[stream]]\nmatch = "a*"\n[[stream]]\nmatch = "a*"\n'
        '[notify]\nurls_file = "/nowhere"\n'
    )
    assert found.exit_code == 0
    assert {(warning.field, warning.line) for warning in found.warnings} == {
        ("", None), ("publish", 1), ("stream.1.match", 5), ("notify.urls_file", 7),
    }  # fmt: skip


def test_the_first_section_that_matches_holds_and_only_that() -> None:
    info = read_model(bundled_model("edge"))[1]
    config = Config.model_validate(
        {
            "alarm": {"raise": 0.9, "clear": 0.3, "cooldown": 9.0},
            "stream": [
                {"match": "line-1*", "alarm": {"raise": 0.95}, "windows": {"long": 8.0}},
                {"match": "line-*", "alarm": {"raise": 0.8}},
                {"match": "desk", "operating_point": "default"},
            ],
        }
    )
    settings = Settings(config, info)
    raises = {name: settings.of(name).config.alarm.raise_at for name in ("line-17", "line-2", "hall", "Line-2")}
    assert raises == pytest.approx(
        {"line-17": log_odds(0.95), "line-2": log_odds(0.8), "hall": log_odds(0.9), "Line-2": log_odds(0.9)}
    )
    assert settings.of("line-17").config.windows == (3.0, 8.0)
    assert settings.of("line-17").config.alarm.clear_at == pytest.approx(log_odds(0.3))
    assert settings.judge("line-17").config is settings.of("line-17").config
    # A section that names an operating point takes its thresholds from there; what is no threshold stays global.
    desk = settings.of("desk").config.alarm
    assert desk.raise_at == pytest.approx(log_odds(info.operating_points["default"]["raise"]))
    assert desk.cooldown_seconds == 9.0


def test_the_digest_is_that_of_what_is_meant() -> None:
    assert config_digest(Config()) == config_digest(Config.model_validate({"alarm": {"cooldown": 5}}))
    assert config_digest(Config()) != config_digest(Config.model_validate({"alarm": {"cooldown": 6}}))
