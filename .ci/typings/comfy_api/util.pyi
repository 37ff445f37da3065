from fractions import Fraction

from torch import Tensor

from .input import AudioInput

class VideoComponents:
    images: Tensor
    audio: AudioInput | None
    frame_rate: Fraction
