"""Pictures that a node shows while it runs."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
import torch
from PIL import Image

from tests.nodes.fixtures import pack_module

progress = pack_module("comfy.page.progress")


@pytest.mark.parametrize(("height", "width"), [(96, 64), (512, 512), (700, 1000), (6912, 6000)])
def test_a_preview_shows_the_frame_at_its_size(height: int, width: int) -> None:
    frame = torch.zeros(3, 1, 1).expand(3, height, width).clone()
    frame[0, :, width // 2 :] = 1.0
    began = time.thread_time()
    shown = Image.open(io.BytesIO(progress.jpeg(frame)))
    assert time.thread_time() - began < 0.3, "a large frame is thinned before it is converted"
    scale = min(1.0, progress.PREVIEW_SIZE / max(height, width))
    assert abs(shown.width - width * scale) <= 1 and abs(shown.height - height * scale) <= 1
    row = np.asarray(shown)[shown.height // 2]
    left, right = row[row.shape[0] // 5], row[-(row.shape[0] // 5)]
    assert left.max() < 12 and right[0] > 240 and right[1:].max() < 12
