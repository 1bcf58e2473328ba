"""The whole way from a sender to an alert: a real microphone, real RTP in five codecs, real ZeroMQ from elsewhere."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from .conftest import DEMO, Run, lines_until
from .pulse import FakeMicrophone, fake_microphone

__all__ = ["fake_microphone"]
Start = Callable[..., subprocess.Popen[bytes]]
SECONDS = 9


def turns(label: str) -> list[dict]:
    return [turn for turn in json.loads(DEMO.with_suffix(".json").read_text())["turns"] if turn["label"] == label]


@pytest.fixture
def port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
    return number - number % 2


@pytest.fixture
def excerpt(tmp_path: Path, speech: np.ndarray) -> Path:
    """The change from the first synthetic turn's neighbour into it: speech of both kinds."""
    first = turns("synthetic")[0]
    begin = int((first["start"] - SECONDS / 2) * 16_000)
    path = tmp_path / "excerpt.wav"
    soundfile.write(path, speech[begin : begin + SECONDS * 16_000], 16_000)
    return path


def test_speech_into_a_microphone_is_heard_judged_and_alerted_on(
    start: Start, fake_microphone: FakeMicrophone, endpoint: str, tmp_path: Path, speech: np.ndarray
) -> None:
    turn = turns("synthetic")[0]
    path = tmp_path / "turn.wav"
    soundfile.write(path, speech[int(turn["start"] * 16_000) : int(turn["end"] * 16_000)], 16_000)
    process = start("listen", "--device", "pulse", "--json", "--publish", endpoint, **fake_microphone.environment)
    lines_until(process, lambda event: event["type"] == "score", 30)
    fake_microphone.play(path)
    events = lines_until(process, lambda e: e["type"] == "alert" and e["phase"] == "raised", 40)
    scores = [event for event in events if event["type"] == "score"]
    assert scores[-1]["verdict"] == "spoof"
    assert scores[-1]["speech"] > 0.3


SENDERS = {
    "pcmu": (["-ar", "8000", "-c:a", "pcm_mulaw"], ""),
    "pcma": (["-ar", "8000", "-c:a", "pcm_alaw"], ""),
    "g722": (["-ar", "16000", "-c:a", "g722"], ""),
    "l16": (["-ar", "16000", "-c:a", "pcm_s16be"], "&codec=l16&rate=16000&channels=1"),
    "opus": (["-ar", "48000", "-c:a", "libopus", "-b:a", "48k", "-application", "audio"], "&codec=opus"),
}
CONTAINERS = {"pcmu": "wav", "pcma": "wav", "g722": "wav", "l16": "wav", "opus": "ogg"}


def through_the_codec(codec: str, source: Path, folder: Path) -> Path:
    """The same encoder and decoder, without the network between them."""
    options, _ = SENDERS[codec]
    options = [option.replace("pcm_s16be", "pcm_s16le") for option in options]
    encoded, decoded = folder / f"encoded.{CONTAINERS[codec]}", folder / "decoded.wav"
    for command in ([source, *options, encoded], [encoded, "-c:a", "pcm_s16le", decoded]):
        subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", *map(str, command)], check=True, timeout=60)
    return decoded


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="not installed: ffmpeg")
@pytest.mark.parametrize("codec", SENDERS)
def test_rtp_gives_the_track_of_the_file(
    start: Start, run: Run, codec: str, port: int, endpoint: str, excerpt: Path, tmp_path: Path
) -> None:
    (expected,) = json.loads(f"[{run('scan', through_the_codec(codec, excerpt, tmp_path), '--json').stdout}]")
    options, hint = SENDERS[codec]
    uri = f"rtp://127.0.0.1:{port}?name=line&idle=2{hint}"
    process = start("listen", "-s", uri, "--json", "--publish", endpoint, "--seconds", str(SECONDS + 30))
    lines_until(process, lambda event: event["type"] in {"state", "health"}, 30)
    time.sleep(0.5)
    sender = ["ffmpeg", "-v", "error", "-re", "-i", str(excerpt), "-ac", "1", *options]
    subprocess.run([*sender, "-f", "rtp", f"rtp://127.0.0.1:{port}?pkt_size=700"], check=True, timeout=60,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    events = lines_until(process, lambda event: event.get("phase") == "ended", 30)
    scores = [event for event in events if event["type"] == "score"]
    assert {score["lost"] for score in scores} == {0.0}
    assert abs(len(scores) - len(expected["track"])) <= 1
    pairs = [
        (hop["p_fake"], score["p_fake"])
        for hop, score in zip(expected["track"], scores, strict=False)
        if hop["p_fake"] is not None and score["p_fake"] is not None
    ]
    assert len(pairs) >= len(expected["track"]) // 2
    there, here = np.array(pairs).T
    assert np.abs(there - here).mean() < 0.05
    assert np.abs(there - here).max() < 0.25


ZMQ_SENDER = """
import sys, soundfile
from streamdet.client import AudioSender
samples, rate = soundfile.read(sys.argv[1], dtype="float32")
with AudioSender(sys.argv[2], stream="line", rate=rate) as sender:
    for at in range(0, len(samples), rate // 10):
        sender.send(samples[at : at + rate // 10])
"""


def test_zeromq_from_another_process_gives_the_track_of_the_file(
    start: Start, run: Run, endpoint: str, excerpt: Path, tmp_path: Path
) -> None:
    (expected,) = json.loads(f"[{run('scan', excerpt, '--json').stdout}]")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    process = start("listen", "-s", f"zmq://{address}?mode=pull", "--json", "--publish", endpoint)
    lines_until(process, lambda event: event["type"] in {"state", "health"}, 30)
    subprocess.run(
        [sys.executable, "-c", ZMQ_SENDER, str(excerpt), f"tcp://{address}"], check=True, timeout=60, env=os.environ
    )
    events = lines_until(process, lambda e: e.get("phase") == "ended" and e["stream"] == "line", 30)
    scores = [event for event in events if event["type"] == "score"]
    for hop, score in zip(expected["track"], scores, strict=True):
        assert hop["p_fake"] == pytest.approx(score["p_fake"], abs=1e-3)
        assert hop["verdict"] == score["verdict"]


def test_a_microphone_that_is_not_there_is_waited_for_in_one_clear_line(
    start: Start, fake_microphone: FakeMicrophone, tmp_path: Path
) -> None:
    fake_microphone.kill()
    arguments = ("listen", "--device", "pulse", "--json", "--publish", "none")
    process = start(*arguments, **fake_microphone.environment)
    lines_until(process, lambda event: "there is no microphone 'pulse'" in event.get("reason", ""), 30)
    time.sleep(4)  # it tries again, and does not say so again
    said = [line for line in (tmp_path / "stderr-0").read_text().splitlines() if "no microphone" in line]
    assert len(said) == 1
    assert "waiting: there is no microphone 'pulse', nor any other; `streamdet devices --explain`" in said[0]
    assert "Ctrl-C stops waiting" in said[0]
    fake_microphone.start()
    lines_until(process, lambda event: event["type"] == "score", 30)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_where_there_are_others_a_wrong_name_is_an_error(
    start: Start, fake_microphone: FakeMicrophone, tmp_path: Path
) -> None:
    process = start("listen", "--device", "nosuch", "--json", "--publish", "none", **fake_microphone.environment)
    assert process.wait(60) == 3
    said = (tmp_path / "stderr-0").read_text()
    assert "there is no microphone 'nosuch'; there are 0 'pulse'" in said
    assert "to wait for it say --source 'mic:nosuch?wait=1'" in said
