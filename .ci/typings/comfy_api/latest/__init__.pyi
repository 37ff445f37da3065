from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from . import io as io
from . import ui as ui

class VideoComponents:
    images: Tensor
    audio: dict[str, Any] | None
    frame_rate: Fraction

class VideoInput:
    def get_components(self) -> VideoComponents: ...
    def get_stream_source(self) -> str | BinaryIO: ...
    def get_dimensions(self) -> tuple[int, int]: ...
    def get_duration(self) -> float: ...
    def get_frame_count(self) -> int: ...
    def get_frame_rate(self) -> Fraction: ...

class _InputImpl:
    class VideoFromFile(VideoInput):
        def __init__(self, file: str | Path | BinaryIO) -> None: ...

    class VideoFromComponents(VideoInput):
        def __init__(self, components: VideoComponents) -> None: ...

InputImpl = _InputImpl

class ComfyExtension:
    async def on_load(self) -> None: ...
    async def get_node_list(self) -> list[type[io.ComfyNode]]: ...
