"""What shows where one clip ends and the next begins, with the M that is carried over and without (section 3.4).

A video has few seams, and frames change more or less wherever they fall. A warp has no clips, yet the seams of five
filmed clips once gave it a ratio of 1.15. So a segment is painted twice, the second time from half a clip later. Frames
at a seam of one painting lie inside a clip of the other, and these are compared.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...face.part_guide import true_parts
from ...face.parts import MOUTH
from .painting import Painter, PaintingCase


def seam(error: Tensor, later: Tensor, length: int, shift: int) -> float:
    """Change of the error over seams, over its change between the same frames inside a clip.

    Of the error and not of the picture: a true movement is no seam.

    Args:
        error: of one painting in clips of ``length`` frames, ``[n, 3, k, k]``.
        later: of another painting, which begins ``shift`` frames later.

    >>> steady = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 2, 2)
    >>> seam(steady, steady[2:], length=4, shift=2)
    1.0
    """
    one, other = ((x[1:] - x[:-1]).abs().mean((1, 2, 3)) for x in (error, later))
    seams = torch.arange(length - 1, len(one) + len(other), length, device=one.device)
    pairs = [
        (one[at], other[at - shift])
        for at in seams[(seams < len(one)) & (seams >= shift) & (seams - shift < len(other))]
    ]
    pairs += [(other[at], one[at + shift]) for at in seams[(seams < len(other)) & (seams + shift < len(one))]]
    across, inside = torch.tensor(pairs).sum(0)
    return float(across / inside.clamp_min(1e-9))


@torch.no_grad()
def seam_scores(painter: Painter, case: PaintingCase, later: PaintingCase, shift: int, steps: int) -> dict[str, float]:
    """``seam`` of the mouth over two cases of one person, and ``seam_without_memory``: nothing carried over.

    Args:
        later: the same ``shift`` frames later.
    """
    size, length = painter.config.parts.size, painter.config.clip_frames

    def error(of: PaintingCase, off: str | None) -> Tensor:
        views = painter.views(of, of.landmarks)
        true = true_parts(of.frames[None], views.squares, size)
        return ((painter.paint(of, off=off, steps=steps) - true) * views.region)[MOUTH]

    return {
        name: seam(error(case, off), error(later, off), length, shift)
        for name, off in (("seam", None), ("seam_without_memory", "memory"))
    }
