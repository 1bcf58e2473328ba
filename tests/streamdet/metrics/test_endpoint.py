"""The endpoint of a real ``streamdet listen``, asked over HTTP; its text is checked by promtool where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamdet.errors import ConfigError
from streamdet.metrics.part import parse_address
from tests.ports import free_port

from ..conftest import DEMO

DEPLOY = Path(__file__).parents[3] / "deploy"
PATIENCE = 60.0


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """One that has a store, recordings, a webhook that nobody answers, a source that counts, and soon an alert."""
    number, folder = free_port(), tmp_path_factory.mktemp("metrics")
    log = folder / "log"
    code = "from streamdet.cli import main; main()"
    options = ["listen", "--publish", "none", "--metrics", f"127.0.0.1:{number}", "--json"]
    options += ["-s", f"file:{DEMO}?name=demo&loop=1", "-s", f"rtp://127.0.0.1:{free_port()}"]
    config = folder / "streamdet.toml"
    config.write_text(f'[[webhook]]\nurl = "http://127.0.0.1:{free_port()}/"\n')
    options += ["-c", str(config), "--evidence", str(folder / "evidence")]
    options += ["--store", str(folder / "events.db"), "--raise", "0.1", "--clear", "0.05"]
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, "-c", code, *options], stdout=file, stderr=subprocess.STDOUT)
    try:
        yield number
    finally:
        process.terminate()
        process.wait(20)


def wait_for_hops(port: int) -> dict[str, float]:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            values = figures(port)
        except OSError:
            values = {}
        if values.get("streamdet_hops_total", 0.0) >= 3:
            return values
        time.sleep(0.2)
    raise AssertionError(f"no hops were counted within {PATIENCE:.0f} s")


def figures(port: int) -> dict[str, float]:
    families = text_string_to_metric_families(ask(port, "/metrics")[1])
    return {
        s.name + "".join(f"|{v}" for k, v in sorted(s.labels.items()) if k in ("stream", "sink", "phase")): s.value
        for family in families
        for s in family.samples
    }


def test_hops_of_the_demo_are_counted_and_it_is_healthy(port: int) -> None:
    first = wait_for_hops(port)
    assert first["streamdet_streams"] == 1
    assert first["streamdet_audio_seconds_total|demo"] == pytest.approx(0.32 * first["streamdet_hops_total"], abs=0.65)
    assert first["streamdet_stream_state|live|demo"] == 1
    assert first["streamdet_sink_dropped_total|jsonl"] == 0
    status, text = ask(port, "/healthz")
    assert status == 200
    assert json.loads(text)["reasons"] == []
    assert ask(port, "/readyz")[0] == 200


def test_what_is_not_there_is_said(port: int) -> None:
    wait_for_hops(port)
    assert ask(port, "/")[0] == 404
    assert ask(port, "/metrics", "POST")[0] == 501
    assert ask(port, "/metrics", "HEAD") == (200, "")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_finds_nothing_wrong(port: int) -> None:
    wait_for_hops(port)
    text = ask(port, "/metrics")[1]
    done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_alert_rules_fire_when_they_should() -> None:
    folder = DEPLOY / "prometheus"
    command = ["promtool", "test", "rules", "streamdet.rules.test.yml"]
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_rule_has_a_case_in_which_it_fires() -> None:
    folder = DEPLOY / "prometheus"
    rules = re.findall(r"- alert: (\w+)", (folder / "streamdet.rules.yml").read_text(encoding="utf-8"))
    cases = (folder / "streamdet.rules.test.yml").read_text(encoding="utf-8")
    assert set(rules) == set(re.findall(r"alertname: (\w+)\n +exp_alerts:", cases))


def expressions() -> list[str]:
    """What the dashboard and the alert rules ask of Prometheus, the dashboard's variables filled in."""
    dashboard = json.loads((DEPLOY / "grafana" / "streamdet.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            (metric,) = re.findall(r"^label_values\((\w+), \w+\)$", variable["query"]["query"])
            asked.append(metric)
    rules = (DEPLOY / "prometheus" / "streamdet.rules.yml").read_text(encoding="utf-8")
    found = re.findall(r"expr: (?:>\n)?(.+?)\n +(?:for|labels):", rules, re.DOTALL)
    asked += [" ".join(expression.split()) for expression in found]
    return [re.sub(r"\$\w+", ".*", expression) for expression in asked]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    asked = expressions()
    rules = [{"record": f"asked:{number}", "expr": expression} for number, expression in enumerate(asked)]
    path = tmp_path / "dashboard.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML too
    done = subprocess.run(["promtool", "check", "rules", path], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(asked)} rules found" in done.stdout


def test_dashboard_and_rules_ask_only_for_what_is_exported(port: int) -> None:
    until = time.monotonic() + PATIENCE
    while "streamdet_alerts_total" not in (names := exported(port)):
        assert time.monotonic() < until, "no alert was counted"
        time.sleep(0.5)
    asked = [set(re.findall(r"\bstreamdet_\w+", expression)) for expression in expressions()]
    assert len(asked) > 20
    assert sum(map(bool, asked)) >= len(asked) - 1  # one asks Prometheus whether it is up
    assert set().union(*asked) <= names


def test_recordings_are_counted(port: int) -> None:
    values = wait_for_hops(port)
    counted = {name.removeprefix("streamdet_evidence_") for name in values if name.startswith("streamdet_evidence_")}
    assert counted == {"recorded_total", "failed_total", "late_total", "waiting", "broken"}
    assert values["streamdet_evidence_failed_total"] == values["streamdet_evidence_broken"] == 0


def exported(port: int) -> set[str]:
    return {s.name for f in text_string_to_metric_families(ask(port, "/metrics")[1]) for s in f.samples}


@pytest.mark.parametrize("text", ["9464", "localhost", "a:b", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_address(text)


def test_addresses_of_both_kinds_are_understood() -> None:
    assert parse_address("[::1]:9464") == ("::1", 9464)
    assert parse_address(":0") == ("", 0)
