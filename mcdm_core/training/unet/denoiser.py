"""What stages 1 and 3 train: the archived-clip prior and the UNet, and the paper's frozen sets (section 3.5)."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from ...config import MCDMConfig
from ...errors import MCDMError
from ...models.archived_clip_prior import ArchivedClipPrior
from ...models.unet import DenoisingUNet

ARCHIVED_LAYERS = (".archived_attn.", ".archived_norm.")
PRESENT_LAYERS = (".present_attn.", ".present_norm.", ".temporal.")
MOTION_LAYERS = ("unet.motion_tokens.", "unet.motion_embedding.")


class DenoisingNetworks(Protocol):
    """The two networks, in training or in a whole model."""

    archived_clip_prior: ArchivedClipPrior
    unet: DenoisingUNet


class Denoiser(nn.Module):
    """The archived-clip prior and the UNet as one module; its keys carry the weight file's prefixes."""

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        self.archived_clip_prior = ArchivedClipPrior(config)
        self.unet = DenoisingUNet(config)


def freeze_for_stage(denoiser: Denoiser, stage: int, train_backbone: bool) -> list[str]:
    """Set ``requires_grad`` for a stage and return the names of the parameters that train.

    Args:
        stage: 1 or 3. Stage 1: archived-clip prior and its reference attention; stage 3: present-clip reference
            attention and temporal attention.
        train_backbone: also the UNet's own weights (``tiny`` in stage 1, where nothing is pretrained). In stage 3, an
            option beside the paper: everything goes on, the archived-clip prior as well.
    """
    if stage not in (1, 3):
        raise MCDMError(f"stage {stage} does not train the denoiser; give 1 or 3 (2 is the present-clip prior)")
    trained = []
    for name, parameter in denoiser.named_parameters():
        present = any(part in name for part in PRESENT_LAYERS) or name.startswith(MOTION_LAYERS)
        archived = name.startswith("archived_clip_prior.") or any(part in name for part in ARCHIVED_LAYERS)
        if stage == 1:
            wanted = archived or (train_backbone and not present)
        else:
            wanted = present or train_backbone
        parameter.requires_grad_(wanted)
        if wanted:
            trained.append(name)
    return trained
