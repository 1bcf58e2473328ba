"""Decoders against FFmpeg's, and PCM both ways."""

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdet.audio import codecs
from streamdet.audio.codecs import Encoding, make_decoder, opus_duration, require_codec
from streamdet.audio.pcm import PCM_FORMATS, PcmFormat, clean, decode_pcm, encode_pcm, to_mono
from streamdet.errors import DependencyError, FormatError

EVERY_BYTE = bytes(range(256))


def ffmpeg_packets(codec: str, samples: np.ndarray, rate: int, layout: str = "mono", frame: int = 0) -> list[bytes]:
    """Encode float samples ``[channels, n]`` by FFmpeg, packet by packet."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.sample_rate, encoder.layout = rate, layout
    encoder.format = "s16" if codec != "libopus" else "flt"
    encoder.open()
    size = frame or encoder.frame_size
    packets = []
    for begin in range(0, samples.shape[1] - size + 1, size):
        part = samples[:, begin : begin + size].T.reshape(1, -1)
        data = part if codec == "libopus" else np.rint(part * 32767).astype(np.int16)
        piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), format=encoder.format.name, layout=layout)
        piece.sample_rate, piece.pts = rate, begin
        packets += [bytes(packet) for packet in encoder.encode(piece)]
    return packets


@pytest.mark.parametrize(("codec", "name"), [("pcmu", "pcm_mulaw"), ("pcma", "pcm_alaw")])
def test_g711_tables_are_those_of_ffmpeg(codec: str, name: str) -> None:
    context = av.CodecContext.create(name, "r")
    context.sample_rate, context.layout = 8000, "mono"
    expected = context.decode(av.Packet(EVERY_BYTE))[0].to_ndarray()[0] / 32768
    decoder = make_decoder(Encoding(codec, 8000))
    assert np.array_equal(decoder.decode(EVERY_BYTE), expected.astype(np.float32))
    assert decoder.ticks(EVERY_BYTE) == 256
    assert decoder.rate == 8000


def test_l16_is_big_endian_and_interleaved() -> None:
    decoder = make_decoder(Encoding("l16", 44100, 2), channel=1)
    assert np.array_equal(decoder.decode(bytes([0, 1, 0x40, 0, 0, 2, 0x80, 0])), np.float32([0.5, -1]))
    assert decoder.ticks(bytes(8)) == 2
    with pytest.raises(FormatError, match="not whole frames"):
        decoder.decode(bytes(7))


def test_g722_clock_is_half_its_rate(speech: np.ndarray) -> None:
    packets = ffmpeg_packets("g722", speech[None, :32_000], 16_000, frame=320)
    decoder = make_decoder(Encoding("g722", 8000))
    heard = np.concatenate([decoder.decode(packet) for packet in packets])
    assert {decoder.ticks(packet) for packet in packets} == {160}
    assert heard.shape == (32_000,)
    assert np.corrcoef(heard[22:], speech[: 32_000 - 22])[0, 1] > 0.98  # the filter bank delays by 22 samples


@pytest.mark.parametrize(("layout", "channel"), [("mono", None), ("stereo", None), ("stereo", 0), ("stereo", 1)])
def test_opus_mono_and_stereo(layout: str, channel: int | None) -> None:
    tone = np.sin(2 * np.pi * np.arange(48_000) / 48_000 * np.array([[440], [1200]])) * 0.3
    sent = tone[:1] if layout == "mono" else tone
    decoder = make_decoder(Encoding("opus", 48000, 2), channel=channel)
    packets = ffmpeg_packets("libopus", sent.astype(np.float32), 48_000, layout)
    heard = np.concatenate([decoder.decode(packet) for packet in packets])
    assert len(heard) == sum(decoder.ticks(packet) for packet in packets) == 48_000
    spectrum = np.abs(np.fft.rfft(heard[-24_000:]))[[220, 600]] * 2 / 24_000  # 440 and 1200 Hz
    full = 0.3 if layout == "mono" or channel is not None else 0.15
    wanted = np.array([full, 0] if layout == "mono" or channel == 0 else [0, full] if channel == 1 else [full, full])
    assert np.allclose(spectrum, wanted, atol=0.03)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_damaged_payloads_raise_only_format_errors(payload: bytes) -> None:
    for encoding in (
        Encoding("l16", 8000, 2),
        Encoding("g722", 8000),
        Encoding("opus", 48000),
        Encoding("pcmu", 8000, 2),
    ):
        decoder = make_decoder(encoding)
        try:
            ticks = decoder.ticks(payload)
            samples = decoder.decode(payload)
        except FormatError:
            continue
        assert len(samples) == ticks * decoder.rate // encoding.clock
        assert np.isfinite(samples).all()


def test_opus_durations_by_rfc_6716() -> None:
    assert opus_duration(bytes([0 << 3])) == 480  # SILK, 10 ms
    assert opus_duration(bytes([3 << 3 | 1])) == 2 * 2880  # SILK, two of 60 ms
    assert opus_duration(bytes([13 << 3])) == 960  # hybrid, 20 ms
    assert opus_duration(bytes([16 << 3])) == 120  # CELT, 2.5 ms
    assert opus_duration(bytes([31 << 3 | 3, 6])) == 6 * 960
    for bad in (b"", bytes([3]), bytes([3, 0]), bytes([31 << 3 | 3, 7])):
        with pytest.raises(FormatError):
            opus_duration(bad)


def test_an_unknown_codec_is_named() -> None:
    for call in (lambda: make_decoder(Encoding("g729", 8000)), lambda: require_codec("g729")):
        with pytest.raises(FormatError, match=r"no decoder for .*(?i:g729).*; there are pcmu, pcma, l16, g722, opus"):
            call()


@pytest.mark.parametrize("codec", ["g722", "opus"])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, codec: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)  # what import does where it is not installed
    codecs._av.cache_clear()
    codecs._opus_name.cache_clear()
    try:
        with pytest.raises(DependencyError, match=r"pip install 'streamdet\[rtp\]'"):
            require_codec(codec)
        require_codec("pcmu")
    finally:
        codecs._av.cache_clear()


@pytest.mark.parametrize("pcm_format", PCM_FORMATS)
@settings(deadline=None)
@given(values=st.lists(st.integers(-32768, 32767), max_size=40))
def test_pcm_there_and_back(pcm_format: PcmFormat, values: list[int]) -> None:
    samples = (np.array(values, np.float32) / 32768).reshape(-1, 1)
    data = encode_pcm(samples, pcm_format=pcm_format)
    assert len(data) == len(values) * (4 if pcm_format == "f32le" else 2)
    assert np.array_equal(decode_pcm(data, pcm_format=pcm_format), samples)


def test_16_bits_are_clipped_not_wrapped() -> None:
    assert encode_pcm(np.float32([1.5, -1.5]), pcm_format="s16le") == bytes([0xFF, 0x7F, 0, 0x80])


@settings(deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_clean_touches_only_what_is_no_sound(values: list[float]) -> None:
    samples = np.array(values, np.float32)
    good = np.abs(samples) <= 1e6
    cleaned, bad = clean(samples)
    assert bad == (~good).sum()
    assert np.array_equal(cleaned, np.where(good, samples, 0))


def test_to_mono_says_which_channels_there_are() -> None:
    with pytest.raises(FormatError, match="channel 2 was asked for, but there are only 2"):
        to_mono(np.zeros((4, 2), np.float32), channel=2)


def test_g711_of_two_channels() -> None:
    decoder = make_decoder(Encoding("pcmu", 8000, 2), channel=1)
    assert np.array_equal(decoder.decode(bytes([0, 0xFF, 0, 0x80])), codecs.mulaw_table()[[0xFF, 0x80]])
    assert decoder.ticks(bytes(4)) == 2
    with pytest.raises(FormatError):
        decoder.decode(bytes(3))
