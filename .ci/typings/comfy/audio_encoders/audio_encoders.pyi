from typing import TypedDict

from torch import Tensor

class EncodedAudio(TypedDict):
    encoded_audio: Tensor

class AudioEncoderModel:
    def encode_audio(self, audio: Tensor, sample_rate: int) -> EncodedAudio: ...
