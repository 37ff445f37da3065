"""Small configurations and inputs the motion tests share."""

from __future__ import annotations

import dataclasses

import torch

from mcdm_core.config import TINY, ImageEncoderConfig, MCDMConfig, PresentClipPriorConfig
from mcdm_core.face.landmarks import INNER_LIP_PAIRS
from mcdm_core.models.present_clip_prior import PresentClipPrior

CONFIG: MCDMConfig = dataclasses.replace(
    TINY,
    clip_frames=4,
    image_encoder=ImageEncoderConfig(kind="conv", image_size=128, feature_dim=128),
    present_clip_prior=PresentClipPriorConfig(width=32, num_layers=2, num_heads=4, mlp_ratio=2.0, context_frames=2),
)
TOKENS = CONFIG.motion_codec.head_tokens + CONFIG.motion_codec.lip_tokens + CONFIG.motion_codec.expression_tokens
DIM = CONFIG.motion_codec.motion_dim


def awake_prior() -> PresentClipPrior:
    """A prior whose zero-initialised layers are random, so that every path shows in the output."""
    torch.manual_seed(0)
    prior = PresentClipPrior(CONFIG).eval()
    with torch.no_grad():
        for parameter in prior.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.3)
    return prior


def conditions(batch: int = 1, frames: int = 4) -> dict[str, torch.Tensor]:
    """Random audio and image tokens."""
    generator = torch.Generator().manual_seed(1)
    return {
        "audio": torch.randn(batch, frames, 1, CONFIG.audio_encoder.feature_dim, generator=generator),
        "image": torch.randn(batch, 5, CONFIG.image_encoder.feature_dim, generator=generator),
    }


def face_landmarks(batch: int = 1) -> torch.Tensor:
    """Landmarks ``[batch, 68, 2]`` with eyes, brows, lips and outline roughly where a face has them."""
    generator = torch.Generator().manual_seed(2)
    points = 0.5 + 0.05 * torch.randn(68, 2, generator=generator)
    angle = torch.arange(20) / 20 * 2 * torch.pi
    points[:20] = torch.stack([0.5 - 0.12 * angle.cos(), 0.7 + 0.05 * angle.sin()], -1)
    for upper, lower in INNER_LIP_PAIRS:
        points[[upper, lower], 1] = torch.tensor([0.69, 0.71])
    for start, sign in ((20, -1.0), (28, 1.0)):
        points[start : start + 8, 0] = 0.5 + sign * torch.linspace(0.2, 0.08, 8)
        points[start : start + 8, 1] = 0.42
        points[start + 4, 0] = 0.5 + sign * 0.07
    points[36:46] = torch.stack([torch.linspace(0.3, 0.7, 10), torch.full((10,), 0.35)], -1)
    points[54] = torch.tensor([0.5, 0.9])
    points[[61, 62]] = torch.tensor([[0.25, 0.3], [0.75, 0.3]])
    points[63] = torch.tensor([0.5, 0.2])
    return points.expand(batch, -1, -1).clone()
