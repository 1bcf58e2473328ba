"""Talks to a running streamdet over ZeroMQ: sends it audio, and receives what it says.

::

    with subscribe("tcp://127.0.0.1:5560", "tcp://127.0.0.1:5561", kinds=["alert"]) as events:
        for event in events:
            print(event.stream, event.phase)

    with AudioSender("tcp://127.0.0.1:5570", "lobby", rate=16000) as sender:
        for samples in microphone():
            sender.send(samples)
"""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import numpy as np
import zmq

from streamdet.audio.pcm import check_rate
from streamdet.errors import ConfigError, SourceError
from streamdet.features.logmel import FloatArray
from streamdet.follow import After, Follower
from streamdet.keys import curve_from
from streamdet.sources.wire import AudioHeader, join_message
from streamdet.sources.wire_payload import OPUS_RATE, OPUS_SECONDS, OpusEncoder, WireFormat, encode_plain

LINGER_MS: Final = 5000
CHUNK_SECONDS: Final = 0.1


def subscribe(
    endpoint: str,
    replay: str | None = None,
    *,
    streams: Collection[str] = (),
    kinds: Collection[str] = (),
    after: After = "now",
    key: Path | None = None,
    server_key: Path | None = None,
) -> Follower:
    """Receive events, each once and in order: iterate over what this returns, and close it or use it with ``with``.

    It reconnects by itself, and gets what it missed from the replay socket, where there is one.

    Args:
        endpoint: ZeroMQ address of a streamdet's ``--publish``.
        replay: address of its ``--replay``.
        streams: only these streams; all where empty.
        kinds: only ``score``, ``alert``, ``state`` or ``health``; all where empty.
        after: ``now``, ``oldest``, or the last ``seq`` by stream that was dealt with.
        key: own ``NAME.key_secret``, where the publisher asks for keys.
        server_key: its ``server.key``.

    Raises:
        ConfigError: an endpoint is none, or a key cannot be read.
    """
    curve = curve_from(key, server_key)
    return Follower(endpoint, replay, streams=streams, kinds=kinds, after=after, curve=curve)


class AudioSender:
    """Sends one stream to a ``zmq://`` source.

    Args:
        endpoint: ZeroMQ endpoint, such as ``tcp://127.0.0.1:5570``.
        stream: name of the stream, 1 to 64 characters.
        rate: samples a second; for ``opus`` one of 8000, 12000, 16000, 24000 and 48000.
        channels: interleaved channels of what is sent.
        sample_format: ``s16le``, ``f32le``, ``flac`` (16 bits, about half the size) or ``opus`` (a tenth; needs
            PyAV, and tells a detector less than the others do).
        mode: ``push`` to a source with ``mode=pull``, ``pub`` to one with ``mode=sub``; the topic is the stream's name.
        bind: bind the socket instead of connecting it.
        timeout: seconds a ``push`` waits for a receiver with room.
        queue: messages that wait in this process while the receiver is busy or away.
        key: own ``NAME.key_secret``, where the receiver asks for keys.
        server_key: its ``server.key``.

    Attributes:
        sent: messages handed over.
        blocked_seconds: how long :meth:`send` has had to wait for room; the receiver is told.

    Raises:
        ConfigError: the format cannot hold such sound, or a key cannot be read or used.
        SourceError: the endpoint cannot be used.
    """

    def __init__(
        self,
        endpoint: str,
        stream: str,
        *,
        rate: int,
        channels: int = 1,
        sample_format: WireFormat = "s16le",
        mode: Literal["push", "pub"] = "push",
        bind: bool = False,
        timeout: float = 10.0,
        queue: int = 1000,
        key: Path | None = None,
        server_key: Path | None = None,
    ) -> None:
        self.sent = 0
        self.blocked_seconds = 0.0
        self._endpoint = endpoint
        self._stream = stream
        self._rate = check_rate(rate)
        self._ended = False
        self._channels = channels
        self._format = sample_format
        self._opus = OpusEncoder(rate, channels) if sample_format == "opus" else None
        self._topic = stream.encode() if mode == "pub" else None
        self._timeout = timeout
        curve = curve_from(key, server_key)
        if curve is not None and bind:
            raise ConfigError("a sender with keys connects: bind=False, and bind=1 at the source")
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB if mode == "pub" else zmq.PUSH)
        self._socket.linger = LINGER_MS
        self._socket.sndhwm = queue
        if curve is not None:
            curve.apply(self._socket)
        try:
            (self._socket.bind if bind else self._socket.connect)(endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise SourceError(f"cannot use {endpoint}: {error.strerror}") from error

    def send(self, samples: FloatArray, *, end: bool = False, captured: float | None = None) -> None:
        """Send float32 samples ``[n]`` or ``[n, channels]`` in [-1, 1].

        ``captured`` is when the last of them was recorded (seconds since the epoch; now where absent); ``end`` says
        that nothing follows. As Opus they leave in packets of 20 ms, and what fills none waits for the next call.

        Raises:
            SourceError: nobody took the sound within the timeout.
        """
        captured = time.time() if captured is None else captured
        if self._opus is None:
            payload = encode_plain(samples, wire_format=self._format, rate=self._rate)
            self._send(payload, captured, end=end)
            return
        packets = self._opus.encode(samples, last=end)
        captured -= self._opus.waiting
        for left, packet in zip(range(len(packets) - 1, -1, -1), packets, strict=True):
            self._send(packet, captured - left * OPUS_SECONDS, end=end and not left)
        if end and not packets:
            self._send(b"", captured, end=True)

    def close(self) -> None:
        """Close the socket once what was sent is delivered, or after five seconds."""
        self._socket.close()
        self._context.term()

    def _send(self, payload: bytes, captured: float, *, end: bool) -> None:
        header = AudioHeader(
            stream=self._stream,
            seq=self.sent,
            rate=self._rate if self._opus is None else OPUS_RATE,
            format=self._format,
            channels=self._channels,
            time=captured,
            blocked=round(self.blocked_seconds, 3) or None,
            end=end,
        )
        self._deliver(join_message(header, payload, topic=self._topic))
        self.sent += 1
        self._ended = end

    def _deliver(self, parts: list[bytes]) -> None:
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            pass  # no room, or nobody there yet: from here on it counts as waiting
        else:
            return
        begun = time.monotonic()
        if not self._socket.poll(round(1e3 * self._timeout), zmq.POLLOUT):
            self.blocked_seconds += time.monotonic() - begun
            raise SourceError(f"nobody takes the sound sent to {self._endpoint}")
        self.blocked_seconds += time.monotonic() - begun
        self._socket.send_multipart(parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self._ended:
                self.send(np.empty((0, self._channels), np.float32), end=True)
        finally:
            self.close()


def send_audio(
    endpoint: str,
    stream: str,
    samples: FloatArray,
    *,
    rate: int,
    real_time: bool = False,
    sample_format: WireFormat = "s16le",
    key: Path | None = None,
    server_key: Path | None = None,
) -> None:
    """Push a whole recording, float32 ``[n]`` or ``[n, channels]``, to a ``zmq://`` source in blocks of 0.1 s.

    Raises:
        ConfigError: the format cannot hold such sound, or a key cannot be read.
        SourceError: the endpoint cannot be used, or nobody takes the sound.
    """
    channels = samples.shape[1] if samples.ndim > 1 else 1
    size = round(CHUNK_SECONDS * rate)
    begun = time.monotonic()
    with AudioSender(
        endpoint, stream, rate=rate, channels=channels, sample_format=sample_format, key=key, server_key=server_key
    ) as sender:
        for begin in range(0, len(samples), size):
            sender.send(samples[begin : begin + size])
            if real_time:
                time.sleep(max(0.0, begun + (begin + size) / rate - time.monotonic()))
