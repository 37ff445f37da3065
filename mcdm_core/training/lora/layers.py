"""Low-rank changes of a denoiser's attention (LoRA, by peft), as a module that holds nothing else.

The training loop then averages, saves and resumes the change alone: its output file is the adapter.
"""

from __future__ import annotations

from torch import nn

from ...errors import PackageError
from ..unet.denoiser import Denoiser

ATTENTION = r".*\.(attn1|attn2|archived_attn|present_attn)\.(to_[qkv]|to_out\.0)|.*\.temporal\.proj_out"
"""Names of the UNet's attention layers 1 to 4, in both layouts."""
PRIOR = r"archived_clip_prior\.(to_[kv]|to_out)"
FEED_FORWARD = r".*\.ff\.net\.(0\.proj|2)"
ALL = f"{ATTENTION}|{PRIOR}|{FEED_FORWARD}"
_NAME = "person"


class LowRankChange(nn.Module):
    """The trained layers ``A`` and ``B``, under the keys of :mod:`mcdm_core.adapter`.

    They are put into ``denoiser``, whose own weights are frozen. At the start B is zero, so nothing changes.

    Args:
        denoiser: is changed in place; rank: of the change; targets: pattern of the layers' names.

    Raises:
        PackageError: if peft is not installed.
    """

    def __init__(self, denoiser: Denoiser, rank: int, targets: str = ALL) -> None:
        super().__init__()
        try:
            from peft import LoraConfig, inject_adapter_in_model
            from peft.tuners.lora import LoraLayer
        except ImportError as error:
            raise PackageError("Training an adapter needs peft: pip install 'mcdm-talking-face[lora]'.") from error
        denoiser.requires_grad_(False)
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, lora_dropout=0.0)
        inject_adapter_in_model(config, denoiser, adapter_name=_NAME)
        for name, layer in denoiser.named_modules():
            if isinstance(layer, LoraLayer):
                _place(self, f"{name}.lora_A", layer.lora_A[_NAME])
                _place(self, f"{name}.lora_B", layer.lora_B[_NAME])


def _place(root: nn.Module, name: str, module: nn.Module) -> None:
    """Make ``module`` known as ``name``, which has dots, below ``root``."""
    *folders, last = name.split(".")
    for folder in folders:
        if not hasattr(root, folder):
            root.add_module(folder, nn.Module())
        root = root.get_submodule(folder)
    root.add_module(last, module)
