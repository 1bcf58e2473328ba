"""Payload types from SDP files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdet.audio.codecs import Encoding
from streamdet.errors import FormatError, SourceError
from streamdet.sources.sdp import parse_sdp, read_sdp

FFMPEG = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=No Name
c=IN IP4 127.0.0.1
t=0 0
a=tool:libavformat 59.27.100
m=audio 5104 RTP/AVP 97
b=AS:96
a=rtpmap:97 opus/48000/2
a=fmtp:97 sprop-stereo=1
"""
TELEPHONE = """v=0\r
m=video 9 RTP/AVP 96\r
a=rtpmap:96 H264/90000\r
m=audio 5004/2 RTP/AVPF 0 8 101 13\r
a=rtpmap:101 telephone-event/8000\r
a=ptime:20\r
"""


def test_what_ffmpeg_writes(tmp_path: Path) -> None:
    (tmp_path / "a.sdp").write_text(FFMPEG)
    assert read_sdp(tmp_path / "a.sdp").payload_types == {97: Encoding("opus", 48000, 2)}


def test_static_types_and_events_but_no_video() -> None:
    assert parse_sdp(TELEPHONE).payload_types == {
        0: Encoding("pcmu", 8000),
        8: Encoding("pcma", 8000),
        13: Encoding("cn", 8000),
        101: Encoding("telephone-event", 8000),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "describes no sound"),
        ("m=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000", "describes no sound"),
        ("m=audio 9 UDP/TLS/RTP/SAVPF 0", "asks for UDP/TLS/RTP/SAVPF"),
        ("m=audio nine RTP/AVP 0", "malformed SDP line m=audio nine"),
        ("m=audio 9 RTP/AVP 97\na=rtpmap:97 opus", "malformed SDP line a=rtpmap:97 opus"),
        ("m=audio 9 RTP/AVP 200\na=rtpmap:200 L16/8000", "malformed SDP line"),
        ("m=audio 9 RTP/AVP 97\na=rtpmap:97 L16/1", "a sample rate of 1 Hz"),
        ("m=audio 9 RTP/AVP 97\na=rtpmap:97 opus/16000", "always 48000"),
        ("m=audio 9 RTP/AVP 97\na=rtpmap:97 L16/8000/0", "0 channels"),
    ],
)
def test_a_wrong_line_is_shown(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse_sdp(text)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        read_sdp(tmp_path / "none.sdp")
    (tmp_path / "binary.sdp").write_bytes(b"\xff\xfe")
    with pytest.raises(FormatError, match="not UTF-8"):
        read_sdp(tmp_path / "binary.sdp")


LINES = st.sampled_from([*FFMPEG.splitlines(), *TELEPHONE.splitlines(), "m=audio", "a=rtpmap:", "m=", "="])


@given(st.lists(st.one_of(LINES, st.text(max_size=40)), max_size=12))
def test_anything_is_an_sdp_or_a_format_error(lines: list[str]) -> None:
    try:
        types = parse_sdp("\n".join(lines)).payload_types
    except FormatError:
        return
    assert types
    assert all(0 <= number <= 127 for number in types)
