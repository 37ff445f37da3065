from collections.abc import Callable
from typing import Any

from torch import Tensor

class ProgressBar:
    def __init__(self, total: int, node_id: str | None = ...) -> None: ...
    def update_absolute(self, value: int, total: int | None = ..., preview: Any = ...) -> None: ...

def tiled_scale(
    samples: Tensor,
    function: Callable[[Tensor], Tensor],
    tile_x: int = ...,
    tile_y: int = ...,
    overlap: int = ...,
    upscale_amount: float = ...,
    out_channels: int = ...,
    output_device: Any = ...,
    pbar: ProgressBar | None = ...,
) -> Tensor: ...
