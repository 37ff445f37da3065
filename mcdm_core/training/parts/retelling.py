"""Layers 2 and 4 are asked to retell the archive: a short way for the gradient to what they hand on (C).

What the archive is worth to a picture is little beside where the lips are, and it passes two projections that begin at
zero. Trained by the pictures alone, layer 2 learnt nothing in an hour. So a linear map has to tell the archived latents
of every cell from layer 2's output there. Layer 4 sees the guide as well, and retells what the archive shows that the
guide lacks: else it would retell the guide. The maps are thrown away after training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...config import MCDMConfig
from ...models.unet import DenoisingUNet

TEMPORAL_WEIGHT = 2.5
"""Of layer 4, beside 1 of layer 2: what the guide lacks is the smaller quantity."""
_SURROUNDINGS = 0.1
"""Weight of cells around the region to be painted."""


class ArchiveRetelling(nn.Module):
    """Reads the archive off the finest transformer blocks of a UNet that has just run.

    Args:
        unet: whose first and last block are listened to.
    """

    def __init__(self, unet: DenoisingUNet, config: MCDMConfig) -> None:
        super().__init__()
        width, channels = config.unet.block_channels[0], config.unet.latent_channels
        self.archived, self.temporal = nn.Linear(width, channels), nn.Linear(width, channels)
        self._captured: dict[str, list[Tensor]] = {"archived": [], "temporal": []}
        blocks = unet.transformer_blocks()
        for block in (blocks[0], blocks[-1]):
            block.archived_attn.register_forward_hook(self._capture_archived)
            block.temporal.register_forward_hook(self._capture_temporal)

    def _capture_archived(self, layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        self._capture("archived", made)

    def _capture_temporal(
        self, layer: nn.Module, given: tuple[Tensor, ...], made: tuple[Tensor, Tensor | None]
    ) -> None:
        self._capture("temporal", made[0] - given[1])

    def _capture(self, layer: str, made: Tensor) -> None:
        if torch.is_grad_enabled():
            self._captured[layer].append(made)

    def forward(self, archived: Tensor, composite: Tensor, region: Tensor) -> Tensor:
        """Squared error of the archive as retold, and forgetting of what was captured.

        Args:
            archived: latents ``[b*2, f, c, h, w]`` that F_ac was made of; composite: the guide's, of the same shape.
            region: what is to be painted ``[b*2, f, 1, h, w]``.
        """
        cells = "b f c h w -> (b f) (h w) c"
        told = rearrange(archived, cells)
        missing = told - rearrange(composite, cells)
        weight = rearrange(_SURROUNDINGS + region, cells)
        weight = weight / weight.mean()
        total = archived.new_zeros(())
        for layer, wanted, share in (("archived", told, 1.0), ("temporal", missing, TEMPORAL_WEIGHT)):
            captured = self._captured[layer]
            for made in captured:
                retold = getattr(self, layer)(made.float()).reshape_as(wanted)
                total = total + share * (F.mse_loss(retold, wanted, reduction="none") * weight).mean() / len(captured)
            captured.clear()
        return total
