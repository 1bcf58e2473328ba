"""SRTP: keys are read and never shown, real ffmpeg is heard, strangers and replays are not."""

from __future__ import annotations

import base64
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from streamdet.errors import ConfigError, FormatError, SourceError, StreamdetError
from streamdet.sources import srtp
from streamdet.sources.address import masked
from streamdet.sources.sdp import parse_sdp
from streamdet.sources.srtp import SUITES, SrtpError, SrtpKey, SrtpReceiver, parse_crypto, read_keys
from streamdet.sources.uri import from_uri

from .conftest import Reader, correlation

Read = Callable[..., Reader]
SECRET = bytes(range(100, 130))
INLINE = base64.b64encode(SECRET).decode()
SUITE = "AES_CM_128_HMAC_SHA1_80"


def key(suite: str = SUITE, fill: int = 1) -> SrtpKey:
    return SrtpKey(suite, bytes([fill]) * SUITES[suite].octets)


class Sealed:
    """A sender that seals packets of RTP; it may have been at it for long."""

    def __init__(self, of: SrtpKey, ssrc: int = 7) -> None:
        self._session = srtp._session(of, outbound=True)
        self._ssrc = ssrc
        self._at = 0

    def packet(self, index: int) -> bytes:
        """Seal the packet with a number that counts roll-overs as well."""
        while index - self._at > 0x4000:
            self._at += 0x4000
            self._protect(self._at)
        self._at = max(self._at, index)
        return self._protect(index)

    def _protect(self, index: int) -> bytes:
        header = struct.pack("!BBHII", 0x80, 0, index & 0xFFFF, index * 160 & 0xFFFFFFFF, self._ssrc)
        return self._session.protect(header + bytes([index & 0xFF]) * 160)


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_opens_what_it_sealed_and_nothing_twice(suite: str) -> None:
    sender, receiver = Sealed(key(suite)), SrtpReceiver([key(suite, 2), key(suite)])
    sealed = [sender.packet(n) for n in range(65_500, 65_600)]
    for n, data in enumerate(sealed):
        assert receiver.rtp(data, n * 0.02)[12:] == bytes([(65_500 + n) & 0xFF]) * 160
    for data in sealed:
        with pytest.raises(SrtpError, match="replayed"):
            receiver.rtp(data, 2.0)


@pytest.mark.parametrize("rolled_over", [1, 3, 63])
def test_whoever_joins_late_finds_the_place(rolled_over: int) -> None:
    sender, receiver = Sealed(key()), SrtpReceiver([key()])
    begin = (rolled_over << 16) + 12_345
    for n in range(5):
        assert receiver.rtp(sender.packet(begin + n), 0.02 * n)
    with pytest.raises(SrtpError):
        receiver.rtp(Sealed(key()).packet(begin), 60.0)  # and what came before cannot be played


def test_an_outage_of_hours_is_bridged_and_nothing_old_is_let_in() -> None:
    sender, receiver = Sealed(key()), SrtpReceiver([key()])
    old = [sender.packet(n) for n in range(100, 110)]
    for n, data in enumerate(old):
        receiver.rtp(data, 0.02 * n)
    back = sender.packet(5 * 65_536 + 200)
    assert receiver.rtp(back, 7200.0)
    for data in (*old, back):
        with pytest.raises(SrtpError):
            receiver.rtp(data, 7300.0)
    assert receiver.rtp(sender.packet(5 * 65_536 + 201), 7300.0)


def test_those_without_a_key_cannot_make_it_search_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []
    lead = SrtpReceiver._lead
    monkeypatch.setattr(SrtpReceiver, "_lead", lambda self, *a: searched.append(a[-1]) or lead(self, *a))
    receiver = SrtpReceiver([key()])
    strangers = [Sealed(key(fill=9), ssrc) for ssrc in range(50)]
    for n in range(200):  # ten seconds of fifty senders
        for stranger in strangers:
            with pytest.raises(SrtpError, match="unauthentic"):
                receiver.rtp(stranger.packet(n), 0.05 * n)
    assert 0 < len(searched) <= 10 / srtp.SHALLOW_SECONDS + 3
    assert searched.count(srtp.DEEP) <= 2


def test_keys_as_an_sdp_or_a_file_has_them(tmp_path: Path) -> None:
    wanted = SrtpKey(SUITE, SECRET)
    for text in (f"1 {SUITE} inline:{INLINE}", f"1 {SUITE} inline:{INLINE}|2^31", f"{SUITE} {INLINE}"):
        assert parse_crypto(text) == wanted
    (tmp_path / "key").write_text(
        f"# ours\n{SUITE} inline:{INLINE} # the first\n\na=crypto:2 {SUITE} inline:{INLINE}\n"
    )
    assert read_keys(tmp_path / "key") == (wanted, wanted)
    offer = (
        f"m=audio 9 RTP/SAVP 0\na=crypto:1 F8_128_HMAC_SHA1_80 inline:{INLINE}\na=crypto:2 {SUITE} inline:{INLINE}\n"
    )
    described = parse_sdp(offer)
    assert described.encrypted
    assert described.keys == (wanted,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"1 F8_128_HMAC_SHA1_80 inline:{INLINE}", "F8_128_HMAC_SHA1_80 is unknown; there are AES_CM"),
        (f"1 {SUITE} inline:{INLINE[:-4]}", "must be 30 octets in base64; it is 27"),
        (f"1 {SUITE} inline:{INLINE}|2^20|1:4", "identifier"),
        (INLINE, "malformed key"),
    ],
)
def test_a_wrong_key_is_said_without_showing_it(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        parse_crypto(text)
    assert INLINE[:12] not in str(caught.value)


@given(st.text(max_size=60))
def test_anything_is_a_key_or_a_format_error(text: str) -> None:
    for line in (text, f"1 {SUITE} inline:{text}"):
        try:
            found = parse_crypto(line)
        except FormatError:
            continue
        assert len(found.secret) == SUITES[found.suite].octets


def test_no_key_is_ever_shown(tmp_path: Path) -> None:
    assert INLINE not in repr(SrtpKey(SUITE, SECRET))
    assert str(SECRET) not in repr(SrtpKey(SUITE, SECRET))
    for uri in (f"rtp://0.0.0.0?srtp={INLINE}", f"rtp://:5004?srtp=inline:{INLINE}", f"rtq://a?srtp={INLINE}"):
        with pytest.raises(StreamdetError) as caught:
            from_uri(uri)
        assert INLINE not in str(caught.value)
        assert INLINE not in masked(uri)
    assert masked("rtsp://me:sesame@host/x?token=abc&rate=8000") == "rtsp://me:***@host/x?token=***&rate=8000"


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        ("?srtp=/nonexistent", SourceError, "cannot read the SRTP key file /nonexistent"),
        ("?srtp={empty}", FormatError, "holds no SRTP key"),
        ("?sdp={locked}", ConfigError, "no usable a=crypto line; say srtp=FILE"),
        ("?srtp={good}&rtcp=reply", ConfigError, "rtcp=reply needs a key of its own"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, query: str, error: type[Exception], message: str) -> None:
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "locked").write_text("m=audio 9 RTP/SAVP 0\n")
    (tmp_path / "good").write_text(f"{SUITE} inline:{INLINE}\n")
    paths = {name: tmp_path / name for name in ("empty", "locked", "good")}
    with pytest.raises(error, match=message):
        from_uri(f"rtp://127.0.0.1:5004{query.format(**paths)}")


FFMPEG = ("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="not installed: ffmpeg")
@pytest.mark.parametrize("suite", FFMPEG)
def test_ffmpeg_is_heard_with_the_right_key_alone(
    read: Read, speech: np.ndarray, tmp_path: Path, port: int, suite: str
) -> None:
    sound = speech[32_000:64_000]
    soundfile.write(tmp_path / "talk.wav", sound, 16_000)
    (tmp_path / "right.sdp").write_text(
        f"m=audio 1 RTP/SAVP 96\na=rtpmap:96 L16/16000\na=crypto:1 {suite} inline:{INLINE}\n"
    )
    wrong = base64.b64encode(bytes(30)).decode()
    (tmp_path / "wrong.key").write_text(f"{suite} inline:{wrong}\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        other = probe.getsockname()[1]
    source = from_uri(f"rtp://127.0.0.1:{port}?sdp={tmp_path}/right.sdp")
    stranger = from_uri(f"rtp://127.0.0.1:{other}?srtp={tmp_path}/wrong.key")
    heard, deaf = read(source), read(stranger)
    for reader in (heard, deaf):
        reader.wait(lambda r: r.statuses())
    command = ["ffmpeg", "-loglevel", "error", "-re", "-i", str(tmp_path / "talk.wav"), "-c:a", "pcm_s16be"]
    command += ["-payload_type", "96", "-srtp_out_suite", suite, "-srtp_out_params", INLINE, "-f", "rtp"]
    senders = [
        subprocess.Popen([*command, f"srtp://127.0.0.1:{to}?pkt_size=700"], stdout=subprocess.DEVNULL)
        for to in (port, other)
    ]
    assert [sender.wait(30) for sender in senders] == [0, 0]
    heard.wait(lambda r: r.heard() >= 0.95 * len(sound))
    assert correlation(heard.sound(), sound) > 0.9999
    deaf.wait(lambda r: any("another SRTP key" in status.reason for status in r.statuses()))
    assert not deaf.blocks()
    assert len([status for status in deaf.statuses() if "another SRTP key" in status.reason]) == 1
    assert stranger.counters()[stranger.name]["unauthentic"] > 30  # type: ignore[attr-defined]
    assert source.counters()[source.name]["unauthentic"] == 0  # type: ignore[attr-defined]
    shown = repr(heard.items[:1]) + repr([*heard.statuses(), *deaf.statuses()])
    assert INLINE not in shown
    assert wrong not in shown
