"""A whole model of published weights: which file gives which component, and what became of each of its keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from ..errors import WeightsError
from ..models.unet import DenoisingUNet
from .names import MOTION_KEY, clip_vision_name, motion_name, unet_name, vae_name, wav2vec2_name
from .unet import check_shapes, load_motion_modules, load_stable_diffusion

PARTS = ("unet", "motion_module", "vae", "clip", "wav2vec")
"""What can be given, in the order it is placed."""
_WHAT = {
    "unet": "Stable Diffusion UNet",
    "motion_module": "AnimateDiff motion module",
    "vae": "autoencoder",
    "clip": "CLIP vision tower",
    "wav2vec": "Wav2Vec 2.0 model",
}
UNTRAINED_STAGE = 0
"""Training stage of an assembled model: its own layers are at their start, and sampling leaves out layer 4."""

_SCHEDULE = ("betas", "alphas_cumprod", "sqrt_", "log_one_minus_", "posterior_", "logvar", "model_ema.", "lvlb_weights")
_ELSEWHERE: dict[str, tuple[tuple[tuple[str, ...], str], ...]] = {
    "unet": (
        (("first_stage_model.",), "the autoencoder, which --vae takes"),
        (("cond_stage_model.",), "the text encoder, which MCDM does without"),
        (_SCHEDULE, "the noise schedule or an average, which are not needed"),
    ),
    "vae": (
        (("model.diffusion_model.",), "the UNet, which --unet takes"),
        (("cond_stage_model.",), "the text encoder, which MCDM does without"),
        ((*_SCHEDULE, "loss."), "the noise schedule, an average or a training loss, which are not needed"),
    ),
    "motion_module": (
        (("module.", "down_blocks.", "mid_block.", "up_blocks."), "positions once more, or no motion module"),
        (("conv_in.", "conv_out.", "conv_norm_out.", "time_embedding."), "the UNet's own, taken from another file"),
    ),
    "clip": (
        (("vision_model.embeddings.position_ids", "embeddings.position_ids"), "positions, which are computed"),
        (("visual.proj", "visual_projection."), "the projection behind the tokens, which are used themselves"),
        (
            (
                "text_model.",
                "text_projection",
                "logit_scale",
                "transformer.",
                "token_embedding.",
                "positional_embedding",
                "ln_final.",
            ),
            "CLIP's text part",
        ),
    ),
    "wav2vec": (
        (("lm_head.",), "the recogniser's output"),
        (("quantizer.", "project_q.", "project_hid."), "the pre-training's"),
    ),
}


class Networks(Protocol):
    """What weights are placed in: an ``MCDMModel``, or anything that has its networks."""

    unet: DenoisingUNet

    @property
    def vae(self) -> nn.Module:
        """The autoencoder."""
        ...

    @property
    def image_encoder(self) -> nn.Module:
        """Of the reference."""
        ...

    @property
    def audio_encoder(self) -> nn.Module:
        """Of the voice."""
        ...


class KeyFate(NamedTuple):
    """One key of a file: the part it was given as, its place (``component.key``), or why it has none."""

    part: str
    key: str
    place: str
    reason: str


def place_weights(model: Networks, parts: Mapping[str, Mapping[str, Tensor]]) -> list[KeyFate]:
    """Put published weights into a model's components, strictly.

    Args:
        model: its networks are changed in place; components that no part gives stay as they are.
        parts: state dicts of :data:`PARTS` in any layout of ``names.py``. The motion module needs no UNet.

    Returns:
        What became of each key of each file.

    Raises:
        WeightsError: for a part the model has no place for, an unknown key, one that is missing or of another shape.
    """
    fates: list[KeyFate] = []
    for part in PARTS:
        if part not in parts:
            continue
        state, renamed = parts[part], _NAMERS[part]
        places: dict[str, str] = {}
        found: dict[str, Tensor] = {}
        for key, value in state.items():
            name = renamed(key)
            if name is None:
                fates.append(KeyFate(part, key, "", _reason(part, key)))
            elif name in found:
                raise WeightsError(f"The file of the {_WHAT[part]} has {name!r} twice; get it again.")
            else:
                places[key], found[name] = name, value
        if not found:
            raise WeightsError(f"The file given for the {_WHAT[part]} holds nothing of it; give another.")
        unused, prefix = _LOADERS[part](model, found)
        for key, name in places.items():
            reason = "Stable Diffusion has no attention at this level" if name in unused else ""
            fates.append(KeyFate(part, key, "" if reason else prefix + _own_name(part, name), reason))
    return fates


def _reason(part: str, key: str) -> str:
    for starts, reason in _ELSEWHERE[part]:
        if key.startswith(starts):
            return reason
    raise WeightsError(
        f"The file of the {_WHAT[part]} has the unknown key {key!r}; give a published file of this part."
    )


def _own_name(part: str, name: str) -> str:
    match = MOTION_KEY.match(name) if part == "motion_module" else None
    return f"{match[1]}.attentions.{match[2]}.transformer_blocks.0.temporal.{match[3]}" if match else name


def _load_unet(model: Networks, state: dict[str, Tensor]) -> tuple[list[str], str]:
    if not model.unet.stock:
        raise WeightsError(f"The UNet of {model.unet.config.preset!r} is not Stable Diffusion's: leave that out.")
    load_stable_diffusion(model.unet, state)
    return [], "unet."


def _load_motion(model: Networks, state: dict[str, Tensor]) -> tuple[list[str], str]:
    if not model.unet.stock:
        raise WeightsError(f"The UNet of {model.unet.config.preset!r} takes no motion module: leave that out.")
    return load_motion_modules(model.unet, state), "unet."


def _load_vae(model: Networks, state: dict[str, Tensor]) -> tuple[list[str], str]:
    _fill(model.vae, "autoencoder", {key: _linear(key, value) for key, value in state.items()}, "VAE")
    return [], "vae.autoencoder."


def _load_clip(model: Networks, state: dict[str, Tensor]) -> tuple[list[str], str]:
    """OpenAI's layout has query, key and value of a layer in one tensor."""
    split: dict[str, Tensor] = {}
    for key, value in state.items():
        if ".attn.in_proj_" in key:
            for name, third in zip("qkv", value.chunk(3), strict=True):
                split[key.replace(".attn.in_proj_", f".self_attn.{name}_proj.")] = third
        else:
            split[key] = value
    _fill(model.image_encoder, "tower", split, "CLIP vision tower")
    return [], "image_encoder.tower."


def _load_wav2vec(model: Networks, state: dict[str, Tensor]) -> tuple[list[str], str]:
    _fill(model.audio_encoder, "model", state, "Wav2Vec 2.0 model", optional=("masked_spec_embed",))
    return [], "audio_encoder.model."


def _linear(key: str, value: Tensor) -> Tensor:
    """The original autoencoder's attention has 1x1 convolutions where diffusers has linear layers."""
    return value[:, :, 0, 0] if ".attentions." in key and value.dim() == 4 else value


def _fill(owner: nn.Module, name: str, state: dict[str, Tensor], what: str, optional: tuple[str, ...] = ()) -> None:
    if not hasattr(owner, name):
        raise WeightsError(f"The {what} has no place in this preset, which has a small one of its own; leave it out.")
    bare = {_bare(key): value for key, value in state.items()}
    own = {_bare(key): value for key, value in getattr(owner, name).state_dict().items()}
    check_shapes(bare, own, what)
    missing = [key for key in own if key not in bare]
    if needed := [key for key in missing if key not in optional]:
        raise WeightsError(f"The {what} lacks {needed[0]!r} ({len(needed)} keys missing); give the complete file.")
    bare.update({key: own[key] for key in missing})
    owner.load_state_dict({f"{name}.{key}": value for key, value in bare.items()})


def _bare(key: str) -> str:
    """Names that differ between versions of transformers and torch, alike for comparison."""
    key = key.removeprefix("vision_model.")
    return key.replace("conv.parametrizations.weight.original0", "conv.weight_g").replace(
        "conv.parametrizations.weight.original1", "conv.weight_v"
    )


_NAMERS: dict[str, Callable[[str], str | None]] = {
    "unet": unet_name,
    "motion_module": motion_name,
    "vae": vae_name,
    "clip": clip_vision_name,
    "wav2vec": wav2vec2_name,
}
_LOADERS: dict[str, Callable[[Networks, dict[str, Tensor]], tuple[list[str], str]]] = {
    "unet": _load_unet,
    "motion_module": _load_motion,
    "vae": _load_vae,
    "clip": _load_clip,
    "wav2vec": _load_wav2vec,
}
