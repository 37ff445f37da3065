from typing import Any

import torch
from torch import Tensor

class _Output:
    last_hidden_state: Tensor

class _Model(torch.nn.Module):
    def __call__(self, *args: Tensor, **named: Tensor) -> _Output: ...

class Wav2Vec2Config:
    hidden_size: int
    def __init__(self, **options: Any) -> None: ...

class Wav2Vec2Model(_Model):
    config: Wav2Vec2Config
    def __init__(self, config: Wav2Vec2Config) -> None: ...

class CLIPVisionConfig:
    def __init__(self, **options: Any) -> None: ...

class CLIPVisionModel(_Model):
    def __init__(self, config: CLIPVisionConfig) -> None: ...
