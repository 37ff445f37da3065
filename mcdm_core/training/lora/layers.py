"""Low-rank changes of networks (LoRA, by peft), as a module that holds nothing else.

The training loop then averages, saves and resumes the change alone: its output file is the adapter.
"""

from __future__ import annotations

from torch import nn

from ...errors import PackageError

ATTENTION = r".*\.(attn1|attn2|archived_attn|present_attn)\.(to_[qkv]|to_out\.0)|.*\.temporal\.proj_out"
"""Names of the UNet's attention layers 1 to 4, in both layouts."""
PRIOR = r"archived_clip_prior\.(to_[kv]|to_out)"
FEED_FORWARD = r".*\.ff\.net\.(0\.proj|2)"
LOOKS = f"{ATTENTION}|{PRIOR}|{FEED_FORWARD}"
"""What an adapter of a person's looks changes, in a denoiser."""
MOTION = r"present_clip_prior\.(.*\.attention\.(qkv|out)|.*\.feed_forward\.(inner|outer)|film\.audio|direct)"
"""What an adapter of a person's movement changes: the present-clip prior, and its linear path from the sound."""
_NAME = "person"


class LowRankChange(nn.Module):
    """The trained layers ``A`` and ``B``, under the keys of :mod:`mcdm_core.adapter`.

    They are put into ``networks``, whose own weights are frozen. At the start B is zero, so nothing changes.

    Args:
        networks: with the components of a model as children, changed in place; rank: of the change; targets: pattern
            of the layers' names.

    Raises:
        PackageError: if peft is not installed.
    """

    def __init__(self, networks: nn.Module, rank: int, targets: str = LOOKS) -> None:
        super().__init__()
        try:
            from peft import LoraConfig, inject_adapter_in_model
            from peft.tuners.lora import LoraLayer
        except ImportError as error:
            raise PackageError("Training an adapter needs peft: pip install 'mcdm-talking-face[lora]'.") from error
        networks.requires_grad_(False)
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, lora_dropout=0.0)
        inject_adapter_in_model(config, networks, adapter_name=_NAME)
        for name, layer in networks.named_modules():
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
