from pathlib import Path
from typing import BinaryIO

from ..input import VideoInput
from ..util import VideoComponents
from . import io as io
from . import ui as ui

class InputImpl:
    class VideoFromFile(VideoInput):
        def __init__(self, file: str | Path | BinaryIO) -> None: ...

    class VideoFromComponents(VideoInput):
        def __init__(self, components: VideoComponents) -> None: ...

class ComfyExtension:
    async def on_load(self) -> None: ...
    async def get_node_list(self) -> list[type[io.ComfyNode]]: ...
