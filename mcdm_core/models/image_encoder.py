"""Image tokens of the reference for the present-clip prior (section 3.3): CLIP's (``base``), the motion codec's
(``tiny``), or a small CNN's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as functional
from einops import rearrange
from torch import Tensor, nn

from ..config import MCDMConfig
from ..errors import PackageError

if TYPE_CHECKING:
    from transformers import CLIPVisionModel

_TOWER_PREFIX = "vision_model."
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class ConvImageEncoder(nn.Module):
    """Small trained CNN: ``[b, 3, h, w]`` in [-1, 1] to 16 tokens (4x4) ``[b, 16, feature_dim]``."""

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        encoder = config.image_encoder
        self.image_size = encoder.image_size
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        inputs = 12
        for width in encoder.channels:
            layers += [nn.Conv2d(inputs, width, 3, stride=2, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
            inputs = width
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(inputs, encoder.feature_dim)
        self.norm = nn.LayerNorm(encoder.feature_dim)

    def forward(self, image: Tensor) -> Tensor:
        """Tokens of the reference picture."""
        if image.shape[-1] != self.image_size or image.shape[-2] != self.image_size:
            image = functional.interpolate(image, size=(self.image_size, self.image_size), mode="area")
        features = functional.adaptive_avg_pool2d(self.layers(image), 4)
        return self.norm(self.out(rearrange(features, "b c h w -> b (h w) c")))


class CLIPImageEncoder(nn.Module):
    """Frozen CLIP vision tower: ``[b, 3, h, w]`` in [-1, 1] to all its tokens ``[b, 257, 1024]`` (ViT-L/14)."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: MCDMConfig, tower: CLIPVisionModel | None = None) -> None:
        """Wrap ``tower`` (a transformers ``CLIPVisionModel``), or build ViT-L/14 with random weights.

        Raises:
            PackageError: if transformers is needed and not installed.
        """
        super().__init__()
        self.image_size = config.image_encoder.image_size
        if tower is None:
            try:
                from transformers import CLIPVisionConfig, CLIPVisionModel
            except ImportError as error:
                raise PackageError(
                    "The CLIP image encoder of the base preset needs the package transformers; install it, or use the "
                    "tiny preset."
                ) from error
            tower = CLIPVisionModel(
                CLIPVisionConfig(
                    hidden_size=config.image_encoder.feature_dim,
                    intermediate_size=4 * config.image_encoder.feature_dim,
                    num_hidden_layers=config.image_encoder.num_layers,
                    num_attention_heads=config.image_encoder.num_heads,
                    image_size=self.image_size,
                    patch_size=config.image_encoder.patch_size,
                )
            )
        self.tower = tower.requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor(_CLIP_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_CLIP_STD).view(1, 3, 1, 1), persistent=False)

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict saved under any version of transformers: from 5 on the tower's names have no prefix."""
        prefixed = any(key.startswith(_TOWER_PREFIX) for key in self.tower.state_dict())
        wanted = "tower." + _TOWER_PREFIX if prefixed else "tower."
        bare = ((key.removeprefix("tower.").removeprefix(_TOWER_PREFIX), value) for key, value in state.items())
        return {wanted + key: value for key, value in bare}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights under either of the names that :meth:`own_names` knows."""
        return super().load_state_dict(self.own_names(state_dict), strict, assign)

    def train(self, mode: bool = True) -> CLIPImageEncoder:
        """Stay in evaluation mode: the tower is frozen (section 3.3)."""
        super().train(mode)
        self.tower.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Tokens of the reference picture, class token first."""
        size = (self.image_size, self.image_size)
        scaled = functional.interpolate(image, size=size, mode="bicubic", antialias=True, align_corners=False)
        normal = ((scaled.clamp(-1, 1) + 1) / 2 - self.mean.to(image)) / self.std.to(image)
        return self.tower(pixel_values=normal).last_hidden_state


class CodecImageEncoder(nn.Module):
    """The motion codec's tokens of the picture, each feature with a learnt weight: ``[b, nq, dm]`` to the same.

    The codec's frozen encoders have read the picture already. Pose, lips and expression of the portrait are all that
    motion has to begin from and to come back to. A network of its own learnt nothing that the prior made use of.
    """

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        codec = config.motion_codec
        tokens = codec.head_tokens + codec.lip_tokens + codec.expression_tokens
        self.gain = nn.Parameter(torch.ones(tokens, codec.motion_dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Image tokens from the reference's normalised motion tokens (``MotionTokens.cat``)."""
        return tokens * self.gain


def build_image_encoder(config: MCDMConfig) -> nn.Module:
    """The image encoder a configuration asks for by ``image_encoder.kind``."""
    if config.image_encoder.kind == "codec":
        return CodecImageEncoder(config)
    if config.image_encoder.kind == "clip":
        return CLIPImageEncoder(config)
    return ConvImageEncoder(config)
