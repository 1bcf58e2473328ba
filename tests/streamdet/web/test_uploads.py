"""Files that a page sends: in memory, never on a disk where that can be helped, and gone afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from streamdet.web import scans, uploads
from streamdet.web.desk import as_int16, wav
from streamdet.web.uploads import PREFIX, SHARED_MEMORY, FolderUploads, NamelessUploads, make_uploads, sweep

from .conftest import RATE, SYNTHETIC, Rig, request, wait_for

MARK = b"a voice that nobody agreed to have on a disk"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="files without a name are Linux's")


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a temporary file would go."""
    folder = tmp_path / "disk"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def fresh() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def score(rig: Rig, sound: np.ndarray) -> dict:
    answer = request(rig.port, "POST", "/api/scans", wav(as_int16(sound), RATE)).json
    path = f"/api/scans/{answer['id']}"
    state: dict = wait_for(lambda: (got := request(rig.port, "GET", path).json)["result"] and got, 90)
    return state


def written() -> dict[str, bytes]:
    """Every file that this process has open for writing and that holds the mark, by where it lies."""
    found = {}
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
            if descriptor.is_file() and (data := descriptor.read_bytes()).startswith(MARK):
                found[target] = data
        except OSError:
            continue
    return found


@LINUX
def test_no_byte_of_an_upload_is_written_outside_memory(disk: Path, fresh: Rig, speech: np.ndarray) -> None:
    before = set(SHARED_MEMORY.iterdir())
    with socket.create_connection(("127.0.0.1", fresh.port)) as raw:
        head = (
            f"POST /api/scans HTTP/1.1\r\nHost: 127.0.0.1:{fresh.port}\r\nX-Streamdet: 1\r\nContent-Length: 99999\r\n"
        )
        raw.sendall(head.encode() + b"\r\n" + MARK)
        ((place, data),) = wait_for(lambda: written().items())
        assert place.startswith("/memfd:")
        assert data == MARK
        assert not list(disk.iterdir())
    wait_for(lambda: not written())
    state = score(fresh, speech[SYNTHETIC])  # the process that scores finds it there
    assert state["result"]["verdict"] == "spoof"
    assert not list(disk.iterdir())
    assert not [folder for folder in set(SHARED_MEMORY.iterdir()) - before if folder.name.startswith(PREFIX)]


def test_a_file_is_scored_from_a_folder_too_and_the_folder_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speech: np.ndarray
) -> None:
    monkeypatch.setattr(scans, "make_uploads", lambda: FolderUploads(tmp_path))
    rig = Rig()
    try:
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o077 == 0
        assert score(rig, speech[SYNTHETIC])["result"]["verdict"] == "spoof"
        assert [path.name for path in folder.iterdir()] == ["owner"]
    finally:
        rig.close()
    assert not list(tmp_path.iterdir())


def test_the_places_are_tried_in_turn_and_a_disk_is_said(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform == "linux":
        assert isinstance(make_uploads(), NamelessUploads)
    monkeypatch.delattr(os, "memfd_create", raising=False)
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(uploads, "SHARED_MEMORY", memory)
    mounts = tmp_path / "mounts"
    monkeypatch.setattr(uploads, "MOUNTS", mounts)

    mounts.write_text(f"/dev/root / ext4 rw 0 0\ntmpfs {memory} tmpfs rw 0 0\n")
    with capture_logs() as said:
        second = make_uploads()
    assert [path.name.startswith(PREFIX) for path in memory.iterdir()] == [True]
    assert said == []
    second.close()

    mounts.write_text(f"tmpfs {tmp_path} tmpfs rw 0 0\n/dev/root {memory} ext4 rw 0 0\n/dev/root {disk} ext4 rw 0 0\n")
    with capture_logs() as said:
        third = make_uploads()
    (folder,) = disk.iterdir()
    assert [(one["event"], one["folder"], one["log_level"]) for one in said] == [
        ("uploads_on_disk", str(folder), "warning")
    ]
    third.close()
    assert not list(disk.iterdir())


def test_only_what_a_process_left_that_is_gone_is_swept(disk: Path) -> None:
    code = (
        "import pathlib, sys, time\n"
        "from streamdet.web.uploads import FolderUploads\n"
        "made = FolderUploads(pathlib.Path(sys.argv[1]))\n"
        "made.make().write(b'a voice')\n"
        "print(made.folder, flush=True)\n"
        "time.sleep(600)\n"
    )
    folders = []
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", code, str(disk)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        folders.append(Path(process.stdout.readline().strip()))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    left, young = folders
    running = FolderUploads(disk)
    foreign = disk / f"{PREFIX}of-something-else"  # without an owner
    foreign.mkdir()
    aim = disk / "aim"
    aim.mkdir()
    (aim / "owner").touch()
    link = disk / f"{PREFIX}link"
    link.symlink_to(aim)
    hour_ago = time.time() - 3600
    for folder in (left, running.folder, foreign, aim):
        os.utime(folder, (hour_ago, hour_ago))
    os.utime(link, (hour_ago, hour_ago), follow_symlinks=False)

    assert len(list(left.iterdir())) == 2
    make_uploads().close()  # what each start does
    assert set(disk.iterdir()) == {young, running.folder, foreign, aim, link}
    assert (aim / "owner").exists()
    running.close()
    os.utime(young, (hour_ago, hour_ago))
    sweep(disk)
    assert not young.exists()
