"""Decoders of what telephones and conferences send in RTP, one small class a codec.

G.711 (ITU-T G.711, by lookup table) and L16 (RFC 3551 section 4.5.11) need nothing but numpy; G.722 and Opus
(RFC 6716) use PyAV, which the extra ``rtp`` installs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import numpy as np

from streamdet.audio.pcm import decode_pcm, to_mono
from streamdet.errors import DependencyError, FormatError
from streamdet.features.logmel import FloatArray

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.audio.frame import AudioFrame


@dataclass(frozen=True, slots=True)
class Encoding:
    """What a payload type stands for, in the words of an SDP ``rtpmap``: name, RTP clock in Hz, channels."""

    codec: str
    clock: int
    channels: int = 1

    def __str__(self) -> str:
        suffix = f"/{self.channels}" if self.channels > 1 else ""
        return f"{self.codec.upper()}/{self.clock}{suffix}"


class Decoder(Protocol):
    """Turns the payloads of one RTP stream, in order, into mono sound."""

    @property
    def rate(self) -> int:
        """Sample rate of the sound, Hz; not always the RTP clock."""
        ...

    def ticks(self, payload: bytes) -> int:
        """How long a payload lasts, in ticks of the RTP clock.

        Raises:
            FormatError: the payload is damaged.
        """
        ...

    def decode(self, payload: bytes) -> FloatArray:
        """Mono sound, float32 ``[n]`` at ``rate``.

        Raises:
            FormatError: the payload is damaged, or lacks the channel that was chosen.
        """
        ...


@runtime_checkable
class ConcealingDecoder(Decoder, Protocol):
    """A decoder that can stand in for what was lost."""

    def conceal(self, count: int) -> FloatArray:
        """At most ``count`` samples at ``rate`` for those lost before the packet that is decoded next."""
        ...


def mulaw_table() -> FloatArray:
    """Compute the 256 values of PCMU, float32 in [-1, 1] (ITU-T G.711 table 2, scaled to 16 bits)."""
    code = ~np.arange(256) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768).astype(np.float32)


def alaw_table() -> FloatArray:
    """Compute the 256 values of PCMA, float32 in [-1, 1] (ITU-T G.711 table 1, scaled to 16 bits)."""
    code = np.arange(256) ^ 0x55
    segment = (code & 0x70) >> 4
    step = (code & 0x0F) << 4
    magnitude = np.where(segment == 0, step + 8, step + 0x108 << np.maximum(segment - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768).astype(np.float32)


class G711Decoder:
    """PCMU or PCMA: every byte is one sample of one channel, the channels interleaved."""

    def __init__(self, table: FloatArray, *, rate: int, channels: int = 1, channel: int | None = None) -> None:
        self.rate = rate
        self._table = table
        self._channels = channels
        self._channel = channel

    def ticks(self, payload: bytes) -> int:
        """See :class:`Decoder`."""
        if len(payload) % self._channels:
            raise FormatError(f"G.711 payload of {len(payload)} bytes for {self._channels} channels")
        return len(payload) // self._channels

    def decode(self, payload: bytes) -> FloatArray:
        """See :class:`Decoder`."""
        self.ticks(payload)
        samples = self._table[np.frombuffer(payload, np.uint8)]
        return to_mono(samples.reshape(-1, self._channels), channel=self._channel)


class L16Decoder:
    """Uncompressed 16-bit samples in network byte order."""

    def __init__(self, *, rate: int, channels: int = 1, channel: int | None = None) -> None:
        self.rate = rate
        self._channels = channels
        self._channel = channel

    def ticks(self, payload: bytes) -> int:
        """See :class:`Decoder`."""
        return len(payload) // (2 * self._channels)

    def decode(self, payload: bytes) -> FloatArray:
        """See :class:`Decoder`."""
        samples = decode_pcm(payload, pcm_format="s16be", channels=self._channels)
        return to_mono(samples, channel=self._channel)


class G722Decoder:
    """G.722 at 64 kbit/s: 16 kHz sound whose RTP clock says 8 kHz, an old error kept by RFC 3551 section 4.5.2."""

    rate = 16000

    def __init__(self, *, clock: int = 8000) -> None:
        self._clock = clock
        self._context = _av_context("g722", rate=self.rate, layout="mono")

    def ticks(self, payload: bytes) -> int:
        """See :class:`Decoder`."""
        return len(payload) * self._clock // 8000

    def decode(self, payload: bytes) -> FloatArray:
        """See :class:`Decoder`."""
        return to_mono(_av_decode(self._context, payload))


class OpusDecoder:
    """Opus, always decoded at 48 kHz; to mono by the codec itself unless one channel was chosen."""

    rate = 48000

    def __init__(self, *, channel: int | None = None) -> None:
        self._channel = channel
        self._toc: int | None = None
        layout = "mono" if channel is None else "stereo"
        self._context = _av_context(_opus_name(), rate=self.rate, layout=layout)

    def ticks(self, payload: bytes) -> int:
        """See :class:`Decoder`."""
        return opus_duration(payload)

    def decode(self, payload: bytes) -> FloatArray:
        """See :class:`Decoder`."""
        samples = to_mono(_av_decode(self._context, payload), channel=self._channel)
        self._toc = payload[0] & 0xFC
        return samples

    def conceal(self, count: int) -> FloatArray:
        """Let the codec itself stand in for ``count`` lost samples, before the packet behind them is decoded.

        A packet of nothing but its first byte is a frame that was lost (RFC 6716 section 3.2.1): the decoder then goes
        on with pitch and spectrum by itself and fades. Whole frames, as many as fit.
        """
        if self._toc is None:
            return np.empty(0, np.float32)
        times = min(count, _OPUS_CONCEALED) // _OPUS_FRAME[self._toc >> 3]
        lost = bytes([self._toc])
        parts = [to_mono(_av_decode(self._context, lost), channel=self._channel) for _ in range(times)]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)


# Samples at 48 kHz of one frame, by the configuration number in the first byte (RFC 6716 table 2).
_OPUS_FRAME: Final = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
_OPUS_LONGEST: Final = 5760
_OPUS_CONCEALED: Final = 2880  # as long as the other codecs are concealed for


def opus_duration(payload: bytes) -> int:
    """Count the samples at 48 kHz in an Opus packet from its table-of-contents byte (RFC 6716 section 3.1).

    Raises:
        FormatError: the packet is empty, or says it holds more than the 120 ms allowed.
    """
    if not payload:
        raise FormatError("empty Opus packet")
    code = payload[0] & 3
    if code == 3 and len(payload) < 2:
        raise FormatError("Opus packet ends before its frame count")
    frames = (1, 2, 2, payload[1] & 63 if code == 3 else 0)[code]
    duration = frames * _OPUS_FRAME[payload[0] >> 3]
    if not 0 < duration <= _OPUS_LONGEST:
        raise FormatError(f"Opus packet claims {duration / 48:.1f} ms")
    return duration


def _mulaw(encoding: Encoding, channel: int | None) -> Decoder:
    return G711Decoder(mulaw_table(), rate=encoding.clock, channels=encoding.channels, channel=channel)


def _alaw(encoding: Encoding, channel: int | None) -> Decoder:
    return G711Decoder(alaw_table(), rate=encoding.clock, channels=encoding.channels, channel=channel)


def _l16(encoding: Encoding, channel: int | None) -> Decoder:
    return L16Decoder(rate=encoding.clock, channels=encoding.channels, channel=channel)


def _g722(encoding: Encoding, _channel: int | None) -> Decoder:
    return G722Decoder(clock=encoding.clock)


def _opus(_encoding: Encoding, channel: int | None) -> Decoder:
    return OpusDecoder(channel=channel)


_DECODERS: Final[dict[str, Callable[[Encoding, int | None], Decoder]]] = {
    "pcmu": _mulaw,
    "pcma": _alaw,
    "l16": _l16,
    "g722": _g722,
    "opus": _opus,
}
CODECS: Final = tuple(_DECODERS)
DEFAULT_CLOCKS: Final = {"pcmu": 8000, "pcma": 8000, "l16": 44100, "g722": 8000, "opus": 48000}
_NEED_AV: Final = frozenset({"g722", "opus"})


def make_decoder(encoding: Encoding, *, channel: int | None = None) -> Decoder:
    """Build the decoder of one RTP stream.

    Raises:
        FormatError: nothing here decodes that codec.
        DependencyError: the codec needs PyAV, which is not installed.
    """
    maker = _DECODERS.get(encoding.codec)
    if maker is None:
        raise FormatError(f"no decoder for {encoding}; there are {', '.join(CODECS)}")
    return maker(encoding, channel)


def require_codec(codec: str) -> None:
    """Check at the start that a codec can be decoded here.

    Raises:
        FormatError: nothing here decodes it.
        DependencyError: it needs PyAV, which is not installed.
    """
    if codec not in _DECODERS:
        raise FormatError(f"no decoder for {codec}; there are {', '.join(CODECS)}")
    if codec in _NEED_AV:
        _av()


@cache
def _av() -> Any:
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise DependencyError("G.722 and Opus need PyAV: pip install 'streamdet[rtp]'") from error


@cache
def _opus_name() -> str:
    # libopus gives every packet its full length; FFmpeg's own decoder shifts samples between packets.
    return "libopus" if "libopus" in _av().codecs_available else "opus"


def _av_context(codec: str, *, rate: int, layout: str) -> AudioCodecContext:
    context: AudioCodecContext = _av().CodecContext.create(codec, "r")
    context.sample_rate = rate
    context.layout = layout
    return context


def _av_decode(context: AudioCodecContext, payload: bytes) -> FloatArray:
    av = _av()
    if not payload:  # to FFmpeg an empty packet means the end of the stream
        raise FormatError("empty payload")
    try:
        frames = context.decode(av.Packet(payload))
    except av.error.FFmpegError as error:
        raise FormatError(f"damaged {context.name} payload: {error.strerror}") from error
    parts = [_as_float(frame) for frame in frames]
    return np.concatenate(parts) if parts else np.empty((0, 1), np.float32)


def _as_float(frame: AudioFrame) -> FloatArray:
    raw = frame.to_ndarray()
    samples = raw.T if frame.format.is_planar else raw.reshape(-1, len(frame.layout.channels))
    scale = np.float32(1 / 32768) if samples.dtype == np.int16 else np.float32(1)
    return np.multiply(samples, scale, dtype=np.float32)
