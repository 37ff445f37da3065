from typing import BinaryIO, TypedDict

from torch import Tensor

from .util import VideoComponents

class AudioInput(TypedDict):
    waveform: Tensor
    sample_rate: int

class VideoInput:
    def get_components(self) -> VideoComponents: ...
    def get_stream_source(self) -> str | BinaryIO: ...
    def get_dimensions(self) -> tuple[int, int]: ...
    def get_duration(self) -> float: ...
