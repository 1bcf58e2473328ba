"""Why a microphone is missing, told from what the kernel shows, and from a sound server that is there or not."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from streamdet.commands.devices import run_explain
from streamdet.sources.explain import explain
from tests.streamdet.pulse import FakeMicrophone

from .test_microphone import usb_card


def told(findings: list[object], what: str) -> list[str]:
    return [f"{f.result}: {f.says} > {f.do}" for f in findings if f.what == what]  # type: ignore[attr-defined]


def test_a_microphone_that_is_there(fake_microphone: FakeMicrophone, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_explain(as_json=True) == 0
    found = {entry["what"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert found["microphone 0"]["says"].startswith("pulse (ALSA), ")
    assert found["sound server"]["result"] == "ok"
    fake_microphone.kill()
    assert run_explain(as_json=False) == 3
    out = " ".join(capsys.readouterr().out.split())
    assert "works, and sees no microphone" in out
    assert "PulseAudio does not answer" in out


def test_a_card_that_somebody_holds_and_one_that_is_closed(tmp_path: Path) -> None:
    usb_card(tmp_path, 1, "1-1.2", idVendor="046d", idProduct="0825", serial="SECRET77")
    status = tmp_path / "proc/asound/card1/pcm0c/sub0/status"
    status.parent.mkdir(parents=True)
    status.write_text("state: RUNNING\nowner_pid   : 4711\n")
    (tmp_path / "proc/4711").mkdir()
    (tmp_path / "proc/4711/comm").write_text("arecord\n")
    findings = explain(tmp_path, {})
    assert told(findings, "kernel") == ["ok: has card 1 Card1 > "]
    (busy,) = told(findings, "busy")
    assert busy.startswith("fault: Card1 is being recorded from by arecord (4711) > end arecord")
    (tmp_path / "proc/4711/comm").write_text("pulseaudio\n")
    (busy,) = told(explain(tmp_path, {}), "busy")
    assert busy.startswith("note:")
    assert "mic:pulse" in busy
    assert "SECRET" not in str(findings)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_device_that_may_not_be_opened(tmp_path: Path) -> None:
    check_closed(tmp_path)


def check_closed(root: Path) -> None:
    node = root / "dev/snd/pcmC1D0c"
    node.parent.mkdir(parents=True)
    node.touch(mode=0o000)
    (closed,) = told(explain(root, {}), "permission")
    assert closed.startswith("fault: /dev/snd/pcmC1D0c may not be opened")
    assert "usermod -aG" in closed


def test_no_sound_at_all_and_a_socket_without_a_server(tmp_path: Path) -> None:
    path = tmp_path / "pulse/native"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    findings = explain(tmp_path, {"XDG_RUNTIME_DIR": str(tmp_path)})
    assert "no /proc/asound" in told(findings, "kernel")[0]
    assert "PulseAudio does not answer" in told(findings, "sound server")[0]
    (none,) = told(explain(tmp_path, {}), "sound server")
    assert "no socket of PulseAudio or PipeWire" in none
