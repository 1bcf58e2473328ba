"""Opens a network stream with PyAV and passes its sound on; run by :mod:`streamdet.sources.avstream` as a process."""

from __future__ import annotations

import time
from typing import Any

import av

from streamdet.sources.child_io import ChildEnd

AHEAD_SECONDS = 5.0  # by how much sound may come faster than it lasts: a recording, or what a server gives at first


def main() -> None:
    """Pass sound on until it ends; trouble is said, then the process ends."""
    end = ChildEnd()
    try:
        _run(end, end.hear())
    except (av.error.FFmpegError, OSError, ValueError) as error:
        end.say(error=getattr(error, "strerror", None) or str(error))


def _run(end: ChildEnd, arguments: dict[str, Any]) -> None:
    timeout = (arguments["open_timeout"], arguments["read_timeout"])
    with av.open(arguments["url"], options=arguments["options"], timeout=timeout) as container:
        if not container.streams.audio:
            end.say(error="it has no sound")
            return
        stream = container.streams.audio[0]
        end.say(
            rate=stream.rate,
            channels=stream.channels,
            codec=stream.codec_context.name,
            seconds=None if container.duration is None else container.duration / av.time_base,
        )
        end.say(over=_pass_on(end, container, stream))


def _pass_on(end: ChildEnd, container: Any, stream: Any) -> float:
    """Pass all sound on; returns how far it went, in seconds of what the container says it lasts."""
    rate, damaged = stream.rate, 0
    converter = av.AudioResampler(format="flt", layout=stream.layout, rate=rate)
    begun, position = time.monotonic(), 0
    sent = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            damaged += 1
            end.say(damaged=damaged)
            continue
        for frame in frames:
            if frame.pts is not None and frame.time_base is not None:
                position = round(frame.pts * frame.time_base * rate)
            frame.pts = None  # the converter keeps no count of its own
            for made in converter.resample(frame):
                size = made.samples * len(made.layout.channels) * 4
                end.sound(bytes(made.planes[0])[:size], at=time.monotonic(), position=position)
                position += made.samples
                sent += made.samples
        time.sleep(max(0.0, sent / rate - AHEAD_SECONDS - (time.monotonic() - begun)))
    # A server of RTSP counts from its recording's beginning, wherever it was joined; files may begin at any number.
    start = 0 if container.format.name == "rtsp" or stream.start_time is None else stream.start_time * stream.time_base
    return float(position / rate - start)


if __name__ == "__main__":
    main()
