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
from streamdet.errors import SourceError
from streamdet.features.logmel import FloatArray
from streamdet.follow import After, Follower
from streamdet.keys import curve_from
from streamdet.sources.wire import AudioHeader, encode_message

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
        rate: samples a second.
        channels: interleaved channels of what is sent.
        sample_format: ``s16le`` or ``f32le``.
        mode: ``push`` to a source with ``mode=pull``, ``pub`` to one with ``mode=sub``; the topic is the stream's name.
        bind: bind the socket instead of connecting it.
        timeout: seconds a ``push`` waits for a receiver with room.

    Raises:
        SourceError: the endpoint cannot be used.
    """

    def __init__(
        self,
        endpoint: str,
        stream: str,
        *,
        rate: int,
        channels: int = 1,
        sample_format: Literal["s16le", "f32le"] = "s16le",
        mode: Literal["push", "pub"] = "push",
        bind: bool = False,
        timeout: float = 10.0,
    ) -> None:
        self._endpoint = endpoint
        self._stream = stream
        self._rate = check_rate(rate)
        self._ended = False
        self._channels = channels
        self._format = sample_format
        self._topic = stream.encode() if mode == "pub" else None
        self._sequence = 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB if mode == "pub" else zmq.PUSH)
        self._socket.linger = LINGER_MS
        self._socket.sndtimeo = round(1e3 * timeout)
        try:
            (self._socket.bind if bind else self._socket.connect)(endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise SourceError(f"cannot use {endpoint}: {error.strerror}") from error

    def send(self, samples: FloatArray, *, end: bool = False, captured: float | None = None) -> None:
        """Send float32 samples ``[n]`` or ``[n, channels]`` in [-1, 1].

        ``captured`` is when the last of them was recorded (seconds since the epoch; now where absent); ``end`` says
        that nothing follows.

        Raises:
            SourceError: nobody took the sound within the timeout.
        """
        header = AudioHeader(
            stream=self._stream,
            seq=self._sequence,
            rate=self._rate,
            format=self._format,
            channels=self._channels,
            time=time.time() if captured is None else captured,
            end=end,
        )
        try:
            self._socket.send_multipart(encode_message(header, samples, topic=self._topic))
        except zmq.Again as error:
            raise SourceError(f"nobody takes the sound sent to {self._endpoint}") from error
        self._sequence += 1
        self._ended = end

    def close(self) -> None:
        """Close the socket once what was sent is delivered, or after five seconds."""
        self._socket.close()
        self._context.term()

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
    sample_format: Literal["s16le", "f32le"] = "s16le",
) -> None:
    """Push a whole recording, float32 ``[n]`` or ``[n, channels]``, to a ``zmq://`` source in blocks of 0.1 s.

    Raises:
        SourceError: the endpoint cannot be used, or nobody takes the sound.
    """
    channels = samples.shape[1] if samples.ndim > 1 else 1
    size = round(CHUNK_SECONDS * rate)
    begun = time.monotonic()
    with AudioSender(endpoint, stream, rate=rate, channels=channels, sample_format=sample_format) as sender:
        for begin in range(0, len(samples), size):
            sender.send(samples[begin : begin + size])
            if real_time:
                time.sleep(max(0.0, begun + (begin + size) / rate - time.monotonic()))
