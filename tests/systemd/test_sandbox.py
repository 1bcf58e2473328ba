"""What the unit's sandbox lets a source do, and what it does not: other programs run in the very same sandbox."""

from __future__ import annotations

import pytest

from .machine import Machine

pytestmark = pytest.mark.timeout(900)  # the first test waits for the machine to be made

INSTALLED = "/etc/systemd/system/streamdet.service"
START = "ExecStart=/opt/streamdet/bin/streamdet listen --config /etc/streamdet/streams.toml --json"


def in_sandbox(machine: Machine, code: str) -> str:
    """Run Python ``code`` as the service is run; returns what it wrote, or the traceback."""
    unit = machine.run("cat", INSTALLED)
    assert START in unit
    for old, new in {
        START: "ExecStart=/opt/streamdet/bin/python /run/probe.py",
        "Type=notify": "Type=oneshot",
        "StandardOutput=null": "StandardOutput=journal",
        "Restart=always": "Restart=no",
        "WatchdogSec=15": "WatchdogSec=0",
    }.items():
        unit = unit.replace(old, new)
    machine.write("/run/probe.py", code)
    machine.write("/run/systemd/system/probe.service", unit)
    machine.run("systemctl", "daemon-reload")
    began = machine.run("date", "+%s.%N").strip()
    machine.run("systemctl", "start", "probe.service", check=False)
    return machine.log("probe.service", f"--since=@{began}")


def test_portaudio_can_call_back(machine: Machine) -> None:
    code = "import cffi; ffi = cffi.FFI(); print('got', ffi.callback('int(int)', lambda x: x + 1)(41))"
    assert "got 42" in in_sandbox(machine, code)


def test_files_of_the_audio_group_can_be_read(machine: Machine) -> None:
    machine.run("sh", "-c", "echo sound > /opt/card && chgrp audio /opt/card && chmod 0640 /opt/card")
    assert "heard sound" in in_sandbox(machine, "print('heard', open('/opt/card').read())")


def test_sockets_can_be_bound(machine: Machine) -> None:
    code = (
        "import socket, zmq\n"
        "context = zmq.Context()\n"
        "context.socket(zmq.PUB).bind('tcp://127.0.0.1:5599')\n"
        "context.socket(zmq.PUB).bind('ipc:///run/streamdet/events')\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(('0.0.0.0', 5004))\n"
        "import os, stat\n"
        "print('mode', oct(stat.S_IMODE(os.stat('/run/streamdet/events').st_mode)))\n"
        "os._exit(0)\n"
    )
    assert "mode 0o770" in in_sandbox(machine, "import sys; sys.stdout.reconfigure(line_buffering=True)\n" + code)


def test_state_can_be_written(machine: Machine) -> None:
    code = "open('kept', 'w').write('x'); import os; print('wrote', os.path.abspath('kept'))"
    assert "wrote /var/lib/" in in_sandbox(machine, code)


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("open('/opt/open-to-all', 'a')", "Read-only file system"),
        ("open('/etc/streamdet/streams.toml', 'a')", "PermissionError"),
        ("open('/dev/kmsg', 'w')", "denied"),
        ("open('/proc/sys/kernel/hostname', 'w')", "OSError"),
        ("__import__('os').listdir('/root')", "PermissionError"),
        ("__import__('socket').socket(17, 3)", "Address family not supported"),
        ("__import__('os').setuid(0)", "PermissionError"),
        ("__import__('os').chroot('/')", "PermissionError"),
    ],
)
def test_forbidden(machine: Machine, what: str, error: str) -> None:
    machine.run("sh", "-c", "touch /opt/open-to-all && chmod 0666 /opt/open-to-all")
    log = in_sandbox(machine, f"{what}\nprint('that went through')\n")
    assert "that went through" not in log
    assert error in log


def test_user_namespaces_cannot_be_made(machine: Machine) -> None:
    code = (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "print('unshare', libc.unshare(0x10000000), os.strerror(ctypes.get_errno()))\n"
    )
    assert "unshare -1 Operation not permitted" in in_sandbox(machine, code)
