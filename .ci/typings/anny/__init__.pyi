from typing import Any

import torch
from torch import Tensor

class Anny(torch.nn.Module):
    template_vertices: Tensor
    blendshapes: Tensor
    vertex_bone_weights: Tensor
    vertex_bone_indices: Tensor
    bone_labels: list[str]
    bone_parents: Any
    def __init__(self, **options: str) -> None: ...
    def __getattr__(self, name: str) -> Any: ...
