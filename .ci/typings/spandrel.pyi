import torch
from torch import Tensor

class ImageModelDescriptor:
    model: torch.nn.Module
    scale: int
    def __call__(self, image: Tensor) -> Tensor: ...
    def to(self, device: torch.device | str) -> ImageModelDescriptor: ...
