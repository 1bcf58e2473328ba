"""From a URI to a source: every scheme, and every way to get it wrong."""

import ctypes.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdet.errors import ConfigError, SourceError, StreamdetError
from streamdet.sources.address import OptionValue, stream_name
from streamdet.sources.file import FileSource
from streamdet.sources.microphone import MicrophoneSource
from streamdet.sources.pace import Backoff, Quiet
from streamdet.sources.rtp import RtpSource
from streamdet.sources.stdin import StdinSource
from streamdet.sources.uri import SCHEMES, from_uri
from streamdet.sources.zeromq import ZmqSource

PORTAUDIO = ctypes.util.find_library("portaudio") is not None


@pytest.mark.parametrize(
    ("uri", "kind", "name", "live"),
    [
        ("file:talks/Morning talk.wav", FileSource, "Morning-talk", False),
        ("FILE:a.flac?loop&speed=max", FileSource, "a", False),
        ("-", StdinSource, "stdin", False),
        ("-?rate=8000&format=f32le&channels=2", StdinSource, "stdin", False),
        ("stdin:?name=pipe", StdinSource, "pipe", False),
        ("mic:", MicrophoneSource, "mic", True),
        ("mic:0", MicrophoneSource, "mic-0", True),
        ("mic:USB%20Audio?channel=1&wait=1", MicrophoneSource, "mic-USB-Audio", True),
        ("rtp://0.0.0.0:5004", RtpSource, "rtp-5004", True),
        ("rtp://[::1]:5004?codec=opus&pt=97", RtpSource, "rtp-5004", True),
        ("rtp://:5004?codec=L16&rate=16000&channels=2&jitter_max=1000", RtpSource, "rtp-5004", True),
        ("zmq://127.0.0.1:5570", ZmqSource, "zmq-5570", True),
        ("zmq://127.0.0.1:5570?mode=sub&topic=a&bind=1&hwm=5&name=in", ZmqSource, "in", True),
    ],
)
def test_schemes(uri: str, kind: type, name: str, live: bool) -> None:
    if kind is MicrophoneSource and not PORTAUDIO:
        pytest.skip("not installed: PortAudio (Debian: libportaudio2)")
    source = from_uri(uri)
    assert isinstance(source, kind)
    assert (source.name, source.live) == (name, live)
    assert source.uri


def test_keyword_options_win() -> None:
    assert from_uri("file:a.wav?name=one", name="two", speed=None).name == "two"
    with pytest.raises(ConfigError, match="speed=fast must be one of real, max"):
        from_uri("file:a.wav", speed="fast")


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("gopher://x", SourceError, f"there are {', '.join(SCHEMES)}"),
        ("talk.wav", SourceError, "has no scheme"),
        (__file__, SourceError, f"for a file write file:{__file__}"),
        ("", SourceError, "has no scheme"),
        ("file:", SourceError, "needs a path"),
        ("file:a.wav?lopp=1", ConfigError, "no option 'lopp'; it has channel, loop, name, speed"),
        ("file:a.wav?loop=maybe", ConfigError, "loop=maybe must be 1 or 0"),
        ("file:a.wav?channel=-1", ConfigError, "channel=-1 must be a whole number from 0"),
        ("-?rate=1.5", ConfigError, "rate=1.5 must be a whole number"),
        ("-?format=mp3", ConfigError, "format=mp3 must be one of s16le"),
        ("-?channel=2", SourceError, "no channel 2"),
        ("rtp://0.0.0.0", ConfigError, "expected rtp://HOST:PORT"),
        ("rtp:5004", ConfigError, "expected rtp://HOST:PORT"),
        ("rtp://0.0.0.0:70000", ConfigError, "Port out of range"),
        ("rtp://[::1:5004", ConfigError, "Invalid IPv6"),
        ("rtp://0.0.0.0:5004?codec=g729", SourceError, "no decoder for g729; there are pcmu"),
        ("rtp://0.0.0.0:5004?pt=97", ConfigError, "need codec"),
        ("rtp://0.0.0.0:5004?pt=128&codec=opus", ConfigError, "pt=128"),
        ("rtp://0.0.0.0:5004?codec=opus&rate=16000", SourceError, "always 48000"),
        ("rtp://0.0.0.0:5004?jitter_min=100&jitter_max=50", ConfigError, "jitter_max is less"),
        ("rtp://0.0.0.0:5004?idle=nan", ConfigError, "idle=nan"),
        ("rtp://0.0.0.0:5004?sdp=/nonexistent.sdp", SourceError, "cannot read /nonexistent.sdp"),
        ("zmq://127.0.0.1:5570?mode=push", ConfigError, "one of pull, sub"),
    ],
)
def test_what_is_wrong_is_one_line(uri: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        from_uri(uri)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    st.one_of(st.text(max_size=40), st.builds("{}:{}".format, st.sampled_from(SCHEMES), st.text(max_size=40))),
    st.dictionaries(st.sampled_from(["name", "rate", "bind", "idle"]), st.one_of(st.text(max_size=5), st.integers())),
)
def test_anything_is_a_source_or_one_of_our_errors(uri: str, options: dict[str, OptionValue]) -> None:
    try:
        source = from_uri(uri, **options)
    except StreamdetError:
        return
    assert stream_name(source.name) == source.name


def test_delays_double_up_to_a_limit() -> None:
    backoff = Backoff(first=0.5, limit=3.0)
    delays = [backoff.delay() for _ in range(5)]
    for delay, middle in zip(delays, (0.5, 1, 2, 3, 3), strict=True):
        assert 0.75 * middle <= delay <= 1.25 * middle
    backoff.reset()
    assert backoff.delay() <= 0.625


def test_quiet_lets_one_through_in_so_many_seconds() -> None:
    quiet = Quiet(10)
    assert [quiet.allows(now) for now in (5, 6, 14.9, 15, 16)] == [True, False, False, True, False]
