"""Why a microphone is missing: everything between the plug and PortAudio, looked at in turn, each with what to do."""

from __future__ import annotations

import grp
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from streamdet.errors import DependencyError, SourceError
from streamdet.sources.cards import Card, card_of, read_cards
from streamdet.sources.portaudio import Device, list_devices

Result = Literal["ok", "note", "fault"]
CONNECT_SECONDS: Final = 1.0
_BUSY: Final = re.compile(r"proc/asound/card(\d+)/pcm(\d+)c/sub")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look showed: ``fault`` keeps microphones away, ``note`` may; ``do`` says what helps."""

    what: str
    result: Result
    says: str
    do: str = ""


def explain(root: Path = Path("/"), environment: Mapping[str, str] | None = None) -> list[Finding]:
    """Look at PortAudio, the kernel's cards, permissions, who holds a device, and the sound server."""
    environment = os.environ if environment is None else environment
    cards = read_cards(root)
    return [
        *_portaudio(cards),
        *_kernel(cards, root),
        *_permissions(root),
        *_busy(cards, root),
        *_server(environment),
    ]


def _portaudio(cards: Mapping[int, Card]) -> Iterator[Finding]:
    try:
        devices = list_devices()
    except DependencyError as error:
        yield Finding("PortAudio", "fault", "is not installed", str(error))
        return
    except SourceError as error:
        yield Finding("PortAudio", "fault", str(error), "restart the sound server; then look here again")
        return
    if not devices:
        yield Finding("PortAudio", "fault", "works, and sees no microphone", "see what follows")
    for device in devices:
        yield Finding(f"microphone {device.index}", "ok", _described(device, cards))
    heard = {number for device in devices if (number := card_of(device.name)) is not None}
    for card in cards.values():
        if devices and card.number not in heard:
            says = f"{card.name} is there, and PortAudio does not offer it as a microphone"
            yield Finding(f"card {card.number}", "note", says, "it may be busy, only for playback, or not permitted")


def _described(device: Device, cards: Mapping[int, Card]) -> str:
    card = cards.get(-1 if (number := card_of(device.name)) is None else number)
    tokens = "" if card is None else "".join(f", mic:{token}" for token in card.tokens)
    return f"{device.name} ({device.host_api}), {device.channels} channel(s) at {device.rate} Hz{tokens}"


def _kernel(cards: Mapping[int, Card], root: Path) -> Iterator[Finding]:
    if cards:
        yield Finding("kernel", "ok", "has " + ", ".join(f"card {card.number} {card.name}" for card in cards.values()))
    elif (root / "proc/asound").exists():
        yield Finding("kernel", "note", "has no sound card", "plug it in, try another port, and look at `dmesg`")
    else:
        do = "load snd-usb-audio or the card's driver; in a container give --device /dev/snd"
        yield Finding("kernel", "note", "has no sound at all (no /proc/asound)", do)


def _permissions(root: Path) -> Iterator[Finding]:
    nodes = sorted(root.glob("dev/snd/pcmC*D*c"))
    closed = [node for node in nodes if not os.access(node, os.R_OK | os.W_OK)]
    if nodes and not closed:
        yield Finding("permission", "ok", f"all of {', '.join(node.name for node in nodes)} may be opened")
    for node in closed:
        group = _group(node)
        do = f"sudo usermod -aG {group} $USER, and log in anew; in a service SupplementaryGroups={group}"
        yield Finding("permission", "fault", f"/dev/snd/{node.name} may not be opened: it belongs to {group}", do)


def _group(node: Path) -> str:
    number = node.stat().st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _busy(cards: Mapping[int, Card], root: Path) -> Iterator[Finding]:
    for status in sorted(root.glob("proc/asound/card*/pcm*c/sub*/status")):
        try:
            text = status.read_text(errors="replace")
        except OSError:
            continue
        owner = re.search(r"^owner_pid\s*:\s*(\d+)", text, re.MULTILINE)
        if owner is not None:
            yield _held(cards, root, status, int(owner[1]))


def _held(cards: Mapping[int, Card], root: Path, status: Path, pid: int) -> Finding:
    match = _BUSY.search(status.as_posix())
    number = -1 if match is None else int(match[1])
    name = cards[number].name if number in cards else f"card {number}"
    command = "a process that is not shown here"
    with suppress(OSError):
        command = (root / f"proc/{pid}/comm").read_text(errors="replace").strip()
    says = f"{name} is being recorded from by {command} ({pid})"
    if command in ("pulseaudio", "pipewire", "wireplumber", "jackd"):
        return Finding("busy", "note", says, "record through that sound server: mic:pulse, mic:default or mic:jack:")
    return Finding("busy", "fault", says, f"end {command}, or record from another device")


def _server(environment: Mapping[str, str]) -> Iterator[Finding]:
    found = list(_sockets(environment))
    for name, path in found:
        trouble = _connect(path)
        if trouble is None:
            yield Finding("sound server", "ok", f"{name} answers at {path}")
        else:
            do = f"start it: systemctl --user restart {name.lower()}"
            yield Finding("sound server", "note", f"{name} does not answer at {path}: {trouble}", do)
    if not found:
        do = "none is needed with ALSA (mic:alsa:NAME); a service has no user's PulseAudio and wants it that way"
        yield Finding("sound server", "note", "no socket of PulseAudio or PipeWire for this user", do)


def _sockets(environment: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    server = environment.get("PULSE_SERVER", "")
    runtime = environment.get("XDG_RUNTIME_DIR")
    if server.startswith(("unix:", "/")):
        yield "PulseAudio", Path(server.removeprefix("unix:"))
    elif runtime is not None and (path := Path(runtime, "pulse", "native")).exists():
        yield "PulseAudio", path
    if runtime is not None and (path := Path(runtime, "pipewire-0")).exists():
        yield "PipeWire", path


def _connect(path: Path) -> str | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_SECONDS)
        try:
            probe.connect(str(path))
        except OSError as error:
            return error.strerror or str(error)
    return None
