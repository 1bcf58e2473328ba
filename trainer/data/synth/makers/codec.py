"""Round trips through speech codecs of FFmpeg at their lowest rates."""

from __future__ import annotations

from streamdet.features.logmel import FloatArray
from trainer.augment import Codec, codec_available, round_trip
from trainer.data.synth.base import RATE, Made, Rng

LOW = (
    Codec("libopus", "libopus", (16_000,), (6_000,), "s16"),
    Codec("libopencore_amrnb", "libopencore_amrnb", (8_000,), (4_750, 5_150)),
    Codec("libmp3lame", "mp3", (16_000,), (8_000,), "s16p"),
    Codec("g723_1", "g723_1", (8_000,), (6_300,)),
)


class CodecRoundTrip:
    """Waveform and hybrid codecs through PyAV.

    Not among the default makers: what a telephone does to a human voice is human speech to a detector, and the
    augmentation puts both classes through the same codecs. Named, it serves detectors of resynthesis of any kind.
    """

    name, family, licence, default = "codec", "cs-codec", "FFmpeg's of the build (LGPL or GPL)", False

    def missing(self) -> str:
        """See :class:`trainer.data.synth.base.Copier`."""
        return "" if self._there() else "a build of PyAV with libopus, AMR-NB, MP3 or G.723.1"

    def copy(self, samples: FloatArray, rng: Rng) -> Made:
        """See :class:`trainer.data.synth.base.Copier`."""
        there = self._there()
        codec = there[int(rng.integers(len(there)))]
        bits = int(rng.choice(codec.bit_rates))
        name = codec.encoder.removeprefix("lib")
        return Made(round_trip(samples, codec, bits, codec.rates[0]), RATE, f"{name}-{bits}", settings={"bit/s": bits})

    @staticmethod
    def _there() -> list[Codec]:
        return [codec for codec in LOW if codec_available(codec)]
