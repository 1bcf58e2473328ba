"""Lists and opens microphones with PortAudio; run by :mod:`streamdet.sources.portaudio` as a process of its own."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import queue
import time
from contextlib import suppress
from typing import Any, Final

from streamdet.sources.child_io import ChildEnd

CHUNK_SECONDS: Final = 0.02
MOST_CHUNKS: Final = 500  # 10 s
JACK_NAME: Final = b"streamdet-%d" % os.getpid()  # PortAudio keeps the pointer, not the text

NO_JACK: Final = {"JACK_DEFAULT_SERVER": "streamdet-none", "JACK_NO_START_SERVER": "1"}  # no server has that name


def main() -> None:
    """List the devices, wait for a choice, and pass its sound on until killed; trouble is said, then it ends."""
    end = ChildEnd()
    if end.hear()["jack"]:
        _name_jack_client()
    else:
        os.environ |= NO_JACK
    try:
        import sounddevice  # noqa: PLC0415  this is what may be missing, hang or crash
    except (OSError, ImportError) as error:
        end.say(missing="PortAudio" if isinstance(error, OSError) else "sounddevice")
        return
    try:
        end.say(**_listed(sounddevice))
        _capture(end, sounddevice, end.hear())
    except (sounddevice.PortAudioError, ValueError) as error:
        end.say(error=str(error))


def _name_jack_client() -> None:
    """Let PortAudio be known to JACK by a name that no other process has.

    All clients of PortAudio are called "PortAudio" otherwise. One that outlives its killed server still waits on the
    semaphore of that name and takes half of the wake-ups of whoever has the name at the new server (seen with JACK
    1.9.21): every other period of sound is lost then.
    """
    found = ctypes.util.find_library("portaudio")
    with suppress(OSError, AttributeError):  # no PortAudio, which is said when it is needed; or one without JACK
        ctypes.CDLL(found).PaJack_SetClientName(JACK_NAME)


def _listed(library: Any) -> dict[str, Any]:
    hosts = [host["name"] for host in library.query_hostapis()]
    devices = [
        {
            "index": entry["index"],
            "name": entry["name"],
            "host_api": hosts[entry["hostapi"]],
            "channels": entry["max_input_channels"],
            "rate": round(entry["default_samplerate"]),
        }
        for entry in library.query_devices()
        if entry["max_input_channels"] > 0
    ]
    default = library.default.device["input"]
    return {"devices": devices, "default": None if default is None or default < 0 else int(default)}


def _capture(end: ChildEnd, library: Any, choice: dict[str, Any]) -> None:
    chunks: queue.SimpleQueue[tuple[bytes, float, int] | None] = queue.SimpleQueue()
    position = xruns = 0

    def callback(data: Any, frames: int, _times: object, flags: Any) -> None:
        nonlocal position, xruns
        xruns += bool(flags.input_overflow)
        if chunks.qsize() < MOST_CHUNKS:  # otherwise the step of the position tells what is missing
            chunks.put((bytes(data), time.monotonic(), position))
        position += frames

    stream = library.RawInputStream(
        device=choice["index"],
        samplerate=choice["rate"],
        channels=choice["channels"],
        dtype="float32",
        blocksize=int(choice["rate"] * CHUNK_SECONDS),
        latency="high",
        callback=callback,
        finished_callback=lambda: chunks.put(None),
    )
    stream.start()
    end.say(opened=True)
    told = 0
    while (chunk := chunks.get()) is not None:
        data, at, begin = chunk
        end.sound(data, at=at, position=begin)
        if xruns > told:
            told = xruns
            end.say(xruns=told)
    end.say(error="PortAudio ended the stream")


if __name__ == "__main__":
    main()
