"""The payloads of audio over ZeroMQ: samples to octets and back, for both ends.

``s16le`` and ``f32le`` are interleaved PCM. ``flac`` (RFC 9639) is a whole FLAC stream, header and all, that stands on
its own. ``opus`` is one packet as of RFC 6716 section 3, whose decoder remembers the packets before it.
"""

from __future__ import annotations

import importlib
import io
from typing import Any, Final, Literal, get_args

import numpy as np
import soundfile

from streamdet.audio.codecs import OpusDecoder, opus_duration
from streamdet.audio.pcm import decode_pcm, encode_pcm, to_mono
from streamdet.errors import ConfigError, DependencyError, FormatError
from streamdet.features.logmel import FloatArray

WireFormat = Literal["s16le", "f32le", "flac", "opus"]
WIRE_FORMATS: Final[tuple[WireFormat, ...]] = get_args(WireFormat)

LARGEST_PAYLOAD: Final = 4 << 20
MOST_SAMPLES: Final = (
    LARGEST_PAYLOAD // 2
)  # of all channels: as many as fit uncompressed, so that no small one explodes
FLAC_MAGIC: Final = b"fLaC"
FLAC_CHANNELS: Final = 8
FLAC_FASTEST: Final = 655_350
OPUS_RATE: Final = 48_000  # of what is decoded (RFC 7587 section 4.1), whatever the encoder was fed
OPUS_INPUT: Final = (8000, 12_000, 16_000, 24_000, 48_000)
OPUS_SECONDS: Final = 0.02
OPUS_BIT_RATE: Final = 32_000  # a channel; speech is transparent there for all that a listener can tell


def encode_flac(samples: FloatArray, rate: int) -> bytes:
    """Write float32 ``[n, channels]`` as a FLAC stream of 16 bits; nothing where there are no samples."""
    if not len(samples):
        return b""
    file = io.BytesIO()
    scaled = np.clip(np.rint(samples * np.float32(32768)), -32768, 32767).astype(np.int16)
    soundfile.write(file, scaled, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def decode_flac(payload: bytes, *, rate: int, channels: int) -> FloatArray:
    """Read a FLAC stream as float32 ``[n, channels]``.

    Raises:
        FormatError: it is none, is damaged, too long, or of another rate or number of channels than was said.
    """
    if not payload:
        return np.empty((0, channels), np.float32)
    if not payload.startswith(FLAC_MAGIC):  # libsndfile would try all it knows, MPEG and others, on what strangers send
        raise FormatError("payload is no FLAC stream: it does not begin with fLaC")
    try:
        with soundfile.SoundFile(io.BytesIO(payload)) as file:
            if (file.format, file.samplerate, file.channels) != ("FLAC", rate, channels):
                found = f"{file.format} at {file.samplerate} Hz with {file.channels} channel(s)"
                raise FormatError(f"payload is {found}, not FLAC at {rate} Hz with {channels}")
            if file.frames * channels > MOST_SAMPLES:
                raise FormatError(f"FLAC payload holds more than {MOST_SAMPLES} samples")
            return np.asarray(file.read(dtype="float32", always_2d=True))
    except soundfile.LibsndfileError as error:
        raise FormatError(f"payload is no FLAC stream: {error.error_string}") from error


def encode_plain(samples: FloatArray, *, wire_format: WireFormat, rate: int) -> bytes:
    """Write float32 ``[n]`` or ``[n, channels]`` as a payload that needs no memory of others.

    Raises:
        ConfigError: Opus does; use :class:`OpusEncoder`.
    """
    if wire_format == "opus":
        raise ConfigError("Opus packets come from an encoder that remembers: OpusEncoder")
    if wire_format == "flac":
        return encode_flac(samples if samples.ndim > 1 else samples[:, np.newaxis], rate)
    return encode_pcm(samples, pcm_format=wire_format)


def decode_plain(payload: bytes, *, wire_format: WireFormat, rate: int, channels: int) -> FloatArray:
    """Read a payload that needs no memory of others, as float32 ``[n, channels]``.

    Raises:
        FormatError: it is damaged, or Opus.
    """
    if wire_format == "opus":
        raise FormatError("an Opus packet alone is not decodable")
    if wire_format == "flac":
        return decode_flac(payload, rate=rate, channels=channels)
    return decode_pcm(payload, pcm_format=wire_format, channels=channels)


class PayloadDecoder:
    """Decodes the payloads of one stream, in order, to mono.

    Args:
        channel: the one that is kept, counted from 0; the mean of all where None.
    """

    def __init__(self, channel: int | None = None) -> None:
        self._channel = channel
        self._opus: OpusDecoder | None = None

    def decode(self, payload: bytes, *, wire_format: WireFormat, rate: int, channels: int) -> FloatArray:
        """Read a payload as float32 ``[n]`` at ``rate``.

        Raises:
            FormatError: it is damaged, or has no such channel.
            DependencyError: it is Opus, and PyAV is not installed.
        """
        if wire_format != "opus":
            samples = decode_plain(payload, wire_format=wire_format, rate=rate, channels=channels)
            return to_mono(samples, channel=self._channel)
        if self._channel is not None and self._channel >= channels:
            raise FormatError(f"channel {self._channel} was asked for, but there are only {channels}")
        if not payload:
            return np.empty(0, np.float32)
        opus_duration(payload)  # refuses what cannot be one before the decoder sees it
        if self._opus is None:
            self._opus = OpusDecoder(channel=self._channel)
        return self._opus.decode(payload)

    def reset(self) -> None:
        """Forget the packets before: the sender began anew."""
        self._opus = None


class OpusEncoder:
    """Makes Opus packets of 20 ms from sound that comes in pieces of any length.

    Raises:
        ConfigError: Opus knows no such rate, or more than two channels were asked for.
        DependencyError: PyAV is not installed.
    """

    def __init__(self, rate: int, channels: int) -> None:
        if rate not in OPUS_INPUT or channels > 2:
            known = ", ".join(map(str, OPUS_INPUT))
            raise ConfigError(f"Opus takes one or two channels at {known} Hz, not {channels} at {rate} Hz")
        try:
            self._av: Any = importlib.import_module("av")
        except ImportError as error:
            raise DependencyError("Opus needs PyAV: pip install 'streamdet[rtp]'") from error
        self._layout = "stereo" if channels == 2 else "mono"
        self._channels = channels
        self._size = round(OPUS_SECONDS * rate)
        self._rest = np.empty((0, channels), np.float32)
        self._encoder = self._av.CodecContext.create("libopus", "w")
        self._encoder.sample_rate, self._encoder.layout, self._encoder.format = rate, self._layout, "flt"
        self._encoder.bit_rate = OPUS_BIT_RATE * channels
        self._rate = rate
        self._at = 0

    @property
    def waiting(self) -> float:
        """Seconds of sound that wait to fill a packet."""
        return len(self._rest) / self._rate

    def encode(self, samples: FloatArray, *, last: bool = False) -> list[bytes]:
        """Take float32 ``[n, channels]``; return the packets that are full, and with ``last`` the rest, filled up."""
        sound = np.concatenate([self._rest, samples.reshape(-1, self._channels)])
        if last and len(sound) % self._size:
            sound = np.pad(sound, ((0, -len(sound) % self._size), (0, 0)))
        whole = len(sound) - len(sound) % self._size
        self._rest = sound[whole:]
        return [packet for at in range(0, whole, self._size) for packet in self._packets(sound[at : at + self._size])]

    def _packets(self, samples: FloatArray) -> list[bytes]:
        interleaved = np.ascontiguousarray(samples, np.float32).reshape(1, -1)
        frame = self._av.AudioFrame.from_ndarray(interleaved, format="flt", layout=self._layout)
        frame.sample_rate, frame.pts = self._rate, self._at
        self._at += len(samples)
        return [bytes(packet) for packet in self._encoder.encode(frame)]
