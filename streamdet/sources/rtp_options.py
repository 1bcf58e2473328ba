"""The options of an RTP source: what a URI may say, checked once."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from streamdet.audio.codecs import CODECS, DEFAULT_CLOCKS, Encoding, require_codec
from streamdet.errors import ConfigError, DependencyError, FormatError
from streamdet.sources.address import Address, Options
from streamdet.sources.payload import SOUNDLESS, PayloadTypes, make_encoding
from streamdet.sources.sdp import Description, read_sdp
from streamdet.sources.srtp import SrtpKey, read_keys, require_srtp

DYNAMIC: Final = range(96, 128)
MOST_PORTS: Final = 2048

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
RtcpMode = Literal["receive", "reply", "off"]
StreamKey = Literal["ssrc", "host"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RtpOptions:
    """How a port treats its senders; ``docs/sources.md`` says when to change what.

    ``shortest`` and ``longest`` bound, in seconds, the wait for a packet out of order; a stream without packets for
    ``idle`` seconds has ended; more than ``streams`` at a time are refused, and of each stream what exceeds
    ``max_rate`` packets in a second. A stream that loses more than the share ``max_loss`` is degraded. ``allow`` lists
    who may send, empty for all. With ``mux`` RTCP comes on the ports of RTP alone. ``by`` tells what a stream is: an
    SSRC, or all a host sends one after the other.
    """

    channel: int | None = None
    shortest: float = 0.04
    longest: float = 0.4
    idle: float = 30.0
    streams: int = 1024
    max_rate: int = 1000
    max_loss: float = 0.05
    allow: tuple[Network, ...] = ()
    rtcp: RtcpMode = "receive"
    mux: bool = False
    by: StreamKey = "ssrc"
    conceal: bool = True


@dataclass(frozen=True, slots=True)
class Ports:
    """The UDP ports of a source: for RTP, and for RTCP alone (it is heard on the RTP ports as well, RFC 5761)."""

    media: tuple[int, ...]
    control: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """As in a URI: one port, or ``first-last``."""
        return f"{self.media[0]}-{self.media[-1]}" if len(self.media) > 1 else str(self.media[0])


def choose_ports(first: int, last: int, rtcp: RtcpMode, *, mux: bool = False) -> Ports:
    """Choose what to listen on: with RTCP the even ports, each with the odd one above it (RFC 3550 section 11).

    A single port is taken for RTP whether even or odd. With RTCP off, or on the ports of RTP (``mux``, RFC 5761), every
    port of a range is for RTP.

    Raises:
        ConfigError: the range is empty or too long.
    """
    paired = rtcp != "off" and not mux
    if not paired:
        media = tuple(range(first, last + 1))
    elif first == last:
        media = (first,)
    else:
        media = tuple(range(first + first % 2, last + 1, 2))
    if not media or len(media) > MOST_PORTS:
        raise ConfigError(
            f"rtp: {first}-{last} must be a range of 1 to {MOST_PORTS} ports (even ones, unless rtcp=off or mux=1)"
        )
    control = tuple(port + 1 for port in media if port % 2 == 0) if paired else ()
    return Ports(media, control)


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything a URI says about an RTP source beside its address."""

    payload_types: PayloadTypes
    options: RtpOptions
    keys: tuple[SrtpKey, ...] = ()


def read_setup(address: Address) -> Setup:
    """Read all options but ``name``.

    Raises:
        ConfigError: one makes no sense.
        SourceError: a file one names cannot be read.
        DependencyError: a codec or encryption is asked for that is not installed.
    """
    options = address.options
    sdp = options.text("sdp")
    described = read_sdp(Path(sdp)) if sdp else Description({})
    told = _told_types(options, described.payload_types)
    keys = _keys(options, described)
    return Setup(told, _rtp_options(options, encrypted=bool(keys)), keys)


def _told_types(options: Options, described: PayloadTypes) -> PayloadTypes:
    codec = options.text("codec")
    number = options.integer("pt", low=0, high=127)
    rate = options.integer("rate", low=4000, high=768_000)
    channels = options.integer("channels", low=1, high=255)
    if described:
        _require_one(described)
    if codec is None:
        if number is not None or rate is not None or channels is not None:
            raise ConfigError(f"rtp: pt, rate and channels need codec, one of {', '.join(CODECS)}")
        return described
    require_codec(codec.lower())
    encoding = _told_encoding(codec.lower(), rate, channels)
    return dict(described) | dict.fromkeys(DYNAMIC if number is None else (number,), encoding)


def _told_encoding(codec: str, rate: int | None, channels: int | None) -> Encoding:
    if codec == "g722":  # its RTP clock is 8000 whatever its sound; see G722Decoder
        rate = None
    return make_encoding(codec, rate or DEFAULT_CLOCKS[codec], channels or 1)


def _require_one(known: Mapping[int, Encoding]) -> None:
    """Raise the last complaint where nothing an SDP names can be decoded."""
    trouble: FormatError | DependencyError | None = None
    for encoding in known.values():
        try:
            if encoding.codec not in SOUNDLESS:
                require_codec(encoding.codec)
                return
        except (FormatError, DependencyError) as error:
            trouble = error
    raise trouble or FormatError("the SDP describes no sound that can be decoded")


def _keys(options: Options, described: Description) -> tuple[SrtpKey, ...]:
    path = options.text("srtp")
    keys = read_keys(Path(path)) if path else described.keys
    if described.encrypted and not keys:
        raise ConfigError(
            "the SDP asks for encryption but has no usable a=crypto line; say srtp=FILE, a file with the key"
        )
    if keys:
        require_srtp()
    return keys


def _rtp_options(options: Options, *, encrypted: bool) -> RtpOptions:
    shortest = options.number("jitter_min", 40, low=0, high=2000) / 1e3
    longest = options.number("jitter_max", 400, low=0, high=10_000) / 1e3
    if longest < shortest:
        raise ConfigError("rtp: jitter_max is less than jitter_min")
    rtcp = _word(options, "rtcp", get_args(RtcpMode), "receive")
    if rtcp == "reply" and encrypted:
        raise ConfigError("rtp: rtcp=reply needs a key of its own when the stream is encrypted; say rtcp=receive")
    usual = RtpOptions()
    return RtpOptions(
        channel=options.integer("channel", low=0, high=254),
        shortest=shortest,
        longest=longest,
        idle=options.number("idle", usual.idle, low=1, high=86_400),
        streams=options.integer("streams", low=1, high=100_000) or usual.streams,
        max_rate=options.integer("max_rate", low=1, high=1_000_000) or usual.max_rate,
        max_loss=options.number("max_loss", usual.max_loss, low=0, high=1),
        allow=_networks(options.text("allow")),
        rtcp=_rtcp_mode(rtcp),
        mux=options.flag("mux"),
        by="host" if _word(options, "by", get_args(StreamKey), "ssrc") == "host" else "ssrc",
        conceal=options.flag("conceal", default=True),
    )


def _word(options: Options, name: str, choices: tuple[str, ...], default: str) -> str:
    return options.choice(name, choices, default)


def _rtcp_mode(text: str) -> RtcpMode:
    modes: dict[str, RtcpMode] = {"receive": "receive", "reply": "reply", "off": "off"}
    return modes[text]


def _networks(text: str | None) -> tuple[Network, ...]:
    if text is None:
        return ()
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"rtp: allow: {error}; say addresses or networks such as 10.0.0.0/8,192.0.2.7") from error
