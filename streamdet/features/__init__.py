"""Log-mel features: the one definition that the run time and the trainer share."""

from streamdet.features.frontend import FrontEnd, FrontEndState
from streamdet.features.level import LevelNorm
from streamdet.features.logmel import FrontEndConfig, LogMel
from streamdet.features.powers import Powers
from streamdet.features.slots import SlotFrontEnd
from streamdet.features.spectrum import Spectrum

__all__ = ["FrontEnd", "FrontEndConfig", "FrontEndState", "LevelNorm", "LogMel", "Powers", "SlotFrontEnd", "Spectrum"]
