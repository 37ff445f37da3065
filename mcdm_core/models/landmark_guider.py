"""Landmark guider: drawn landmarks of the head to head tokens (paper 3.3).

A small convolutional encoder. It is trained together with the motion codec and frozen afterwards. Only the rigid
landmarks are drawn, so that what lips, lids and brows do cannot enter the head tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import MCDMConfig
from ..face.landmarks import RIGID, constant

MAP_SIZE = 16
"""Side of the drawn maps in cells. Gaussians of one cell keep positions readable far below a cell."""


def draw_rigid_landmarks(landmarks: Tensor, size: int = MAP_SIZE, sigma: float = 1.0) -> Tensor:
    """Draw every rigid landmark as a Gaussian into a map of its own.

    Args:
        landmarks: ``[n, 68, 2]``, (x, y) in [0, 1] of the crop; outside points fade out of the map.
        size: side of the maps in cells.
        sigma: standard deviation of a Gaussian in cells.

    Returns:
        ``[n, r, size, size]`` in [0, 1], one channel a rigid landmark.
    """
    rigid = landmarks[:, constant(RIGID, landmarks.device)].float() * size
    cells = torch.arange(size, device=landmarks.device) + 0.5
    along_x = torch.exp(-((rigid[..., 0:1] - cells) ** 2) / (2 * sigma**2))
    along_y = torch.exp(-((rigid[..., 1:2] - cells) ** 2) / (2 * sigma**2))
    return along_y[..., :, None] * along_x[..., None, :]


class LandmarkGuider(nn.Module):
    """Head tokens from landmarks.

    Three strided convolutions over the drawn maps and a linear layer. The tokens leave it raw: the codec's
    stored statistics normalise them.
    """

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        codec = config.motion_codec
        self.head_tokens, self.motion_dim = codec.head_tokens, codec.motion_dim
        first, second, third = codec.width // 3, codec.width // 2, codec.width * 2 // 3
        self.conv_in = nn.Conv2d(len(list(RIGID)), first, 3, padding=1, stride=2)
        self.conv_mid = nn.Conv2d(first, second, 3, padding=1, stride=2)
        self.conv_out = nn.Conv2d(second, third, 3, padding=1, stride=2)
        self.project = nn.Linear(third * (MAP_SIZE // 8) ** 2, self.head_tokens * self.motion_dim)
        # Unit variance over the batch in training, fixed afterwards.
        self.spread = nn.BatchNorm1d(self.head_tokens * self.motion_dim, affine=False)

    def forward(self, landmarks: Tensor) -> Tensor:
        """Encode landmarks.

        Args:
            landmarks: ``[b, f, 68, 2]`` in [0, 1] of the face crop.

        Returns:
            Head tokens ``[b, f, nh, motion_dim]``, each feature about mean 0 and deviation 1 over the training set.
        """
        batch, frames = landmarks.shape[:2]
        x = draw_rigid_landmarks(landmarks.flatten(0, 1)).to(self.project.weight.dtype)
        x = F.silu(self.conv_in(x))
        x = F.silu(self.conv_mid(x))
        x = F.silu(self.conv_out(x))
        tokens = self.project(x.flatten(1)).view(batch, frames, self.head_tokens, self.motion_dim)
        return self.spread(tokens.flatten(0, 1).flatten(1)).view_as(tokens)
