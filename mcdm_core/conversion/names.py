"""Key names of the published files: each layout's names in those of the modules that MCDM is built of.

Every function takes one key and returns its name here, or None for a key that belongs elsewhere. The layouts:

=========== =============================================== ==============================================
component   original                                        diffusers, transformers
=========== =============================================== ==============================================
UNet, VAE   ``model.diffusion_model.``,                     bare keys of ``UNet2DConditionModel`` and
            ``first_stage_model.`` of one checkpoint        ``AutoencoderKL``
CLIP        ``visual.`` of OpenAI's model                   ``vision_model.`` of ``CLIPModel``
Wav2Vec 2.0 none as safetensors                             ``wav2vec2.`` of ``Wav2Vec2ForCTC``
AnimateDiff ``temporal_transformer`` of ``mm_sd_v15_v2``    ``MotionAdapter``, ``UNetMotionModel``
=========== =============================================== ==============================================
"""

from __future__ import annotations

import re

LAYERS_PER_BLOCK = 2
"""Residual blocks of one level of Stable Diffusion 1.5."""

Swaps = tuple[tuple[str, str], ...]

_UNET_RESNET: Swaps = (
    ("in_layers.0.", "norm1."),
    ("in_layers.2.", "conv1."),
    ("emb_layers.1.", "time_emb_proj."),
    ("out_layers.0.", "norm2."),
    ("out_layers.3.", "conv2."),
    ("skip_connection.", "conv_shortcut."),
)
_UNET_OUTSIDE: Swaps = (
    ("time_embed.0.", "time_embedding.linear_1."),
    ("time_embed.2.", "time_embedding.linear_2."),
    ("input_blocks.0.0.", "conv_in."),
    ("out.0.", "conv_norm_out."),
    ("out.2.", "conv_out."),
)
_VAE: Swaps = (
    (".norm_out.", ".conv_norm_out."),
    (".mid.block_1.", ".mid_block.resnets.0."),
    (".mid.block_2.", ".mid_block.resnets.1."),
    (".mid.attn_1.", ".mid_block.attentions.0."),
    (".nin_shortcut.", ".conv_shortcut."),
)
_VAE_ATTENTION: Swaps = (
    (".norm.", ".group_norm."),
    (".q.", ".to_q."),
    (".k.", ".to_k."),
    (".v.", ".to_v."),
    (".proj_out.", ".to_out.0."),
    # Names of older diffusers, which the published autoencoders still have.
    (".query.", ".to_q."),
    (".key.", ".to_k."),
    (".value.", ".to_v."),
    (".proj_attn.", ".to_out.0."),
)
_CLIP: Swaps = (
    ("class_embedding", "embeddings.class_embedding"),
    ("conv1.", "embeddings.patch_embedding."),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("ln_pre.", "pre_layrnorm."),
    ("ln_post.", "post_layernorm."),
    ("transformer.resblocks.", "encoder.layers."),
)
_CLIP_LAYER: Swaps = (
    (".attn.out_proj.", ".self_attn.out_proj."),
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
)

_MOTION: Swaps = (
    ("temporal_transformer.", ""),
    (".norms.0.", ".norm1."),
    (".norms.1.", ".norm2."),
    (".ff_norm.", ".norm3."),
    (".attention_blocks.0.pos_encoder.", ".pos_embed."),
    (".attention_blocks.0.", ".attn1."),
    (".attention_blocks.1.", ".attn2."),
)

MOTION_KEY = re.compile(r"^((?:down_blocks|up_blocks)\.\d+|mid_block)\.motion_modules\.(\d+)\.(.+)$")
_INPUT_BLOCK = re.compile(r"^input_blocks\.(\d+)\.(\d)\.(.+)$")
_OUTPUT_BLOCK = re.compile(r"^output_blocks\.(\d+)\.(\d)\.(.+)$")
_MIDDLE_BLOCK = re.compile(r"^middle_block\.(\d)\.(.+)$")
_VAE_LEVEL = re.compile(r"^(encoder|decoder)\.(down|up)\.(\d+)\.(block|downsample|upsample)\.(.+)$")


def unet_name(key: str) -> str | None:
    """Stable Diffusion's UNet: the original's keys, with or without ``model.diffusion_model.``, in diffusers' names.

    >>> unet_name("model.diffusion_model.input_blocks.0.0.weight")
    'conv_in.weight'
    >>> unet_name("first_stage_model.encoder.conv_in.weight") is None
    True
    """
    if key.startswith(("first_stage_model.", "cond_stage_model.", "model_ema.")):
        return None
    key = key.removeprefix("model.diffusion_model.")
    for old, new in _UNET_OUTSIDE:
        if key.startswith(old):
            return new + key[len(old) :]
    if match := _MIDDLE_BLOCK.match(key):
        place, rest = int(match[1]), match[2]
        return _resnet("mid_block", place // 2, rest) if place != 1 else f"mid_block.attentions.0.{rest}"
    if match := _INPUT_BLOCK.match(key):
        level, layer = divmod(int(match[1]) - 1, LAYERS_PER_BLOCK + 1)
        if layer == LAYERS_PER_BLOCK:
            return f"down_blocks.{level}.downsamplers.0.conv.{match[3].removeprefix('op.')}"
        return _block(f"down_blocks.{level}", layer, match)
    if match := _OUTPUT_BLOCK.match(key):
        level, layer = divmod(int(match[1]), LAYERS_PER_BLOCK + 1)
        # Behind the last residual block of a level (and its attention, where there is one) resolution doubles.
        if layer == LAYERS_PER_BLOCK and match[3].startswith("conv."):
            return f"up_blocks.{level}.upsamplers.0.{match[3]}"
        return _block(f"up_blocks.{level}", layer, match)
    return key if key.startswith(("down_blocks.", "mid_block.", "up_blocks.", "time_embedding.", "conv_")) else None


def vae_name(key: str, levels: int = 4) -> str | None:
    """Stable Diffusion's autoencoder: the original's keys, with or without ``first_stage_model.``, in diffusers' names.

    The original counts the decoder's levels from the largest picture, diffusers from the smallest.

    >>> vae_name("first_stage_model.encoder.conv_in.weight")
    'encoder.conv_in.weight'
    """
    if key.startswith(("model.diffusion_model.", "cond_stage_model.", "model_ema.")):
        return None
    key = key.removeprefix("first_stage_model.")
    if not key.startswith(("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")):
        return None
    if match := _VAE_LEVEL.match(key):
        half, way, level, part, rest = match.groups()
        number = int(level) if way == "down" else levels - 1 - int(level)
        kind = {"block": "resnets", "downsample": "downsamplers.0", "upsample": "upsamplers.0"}[part]
        key = f"{half}.{way}_blocks.{number}.{kind}.{rest}"
    for old, new in _VAE:
        key = key.replace(old, new)
    if ".mid_block.attentions." in key:
        for old, new in _VAE_ATTENTION:
            key = key.replace(old, new)
    return key


def clip_vision_name(key: str) -> str | None:
    """CLIP's vision tower in transformers' names without a prefix; OpenAI's ``attn.in_proj_*`` keep theirs.

    >>> clip_vision_name("visual.proj") is None
    True
    >>> clip_vision_name("visual.conv1.weight")
    'embeddings.patch_embedding.weight'
    """
    if key.startswith("visual."):
        key = key.removeprefix("visual.")
        if key == "proj":
            return None
        for old, new in _CLIP:
            if key.startswith(old):
                key = new + key[len(old) :]
                break
        for old, new in _CLIP_LAYER:
            key = key.replace(old, new)
        return key
    key = key.removeprefix("vision_model.")
    known = key.startswith(("embeddings.", "pre_layrnorm.", "post_layernorm.", "encoder.layers."))
    return key if known and not key.endswith("position_ids") else None


def wav2vec2_name(key: str) -> str | None:
    """Wav2Vec 2.0 in transformers' names without a prefix.

    >>> wav2vec2_name("wav2vec2.encoder.layer_norm.weight")
    'encoder.layer_norm.weight'
    >>> wav2vec2_name("lm_head.weight") is None
    True
    """
    key = key.removeprefix("wav2vec2.")
    known = key.startswith(("feature_extractor.", "feature_projection.", "encoder.")) or key == "masked_spec_embed"
    return key if known else None


def motion_name(key: str) -> str | None:
    """AnimateDiff's motion modules in diffusers' names.

    The original stores the same positions once for each of the two attentions; the second copy is None here.
    """
    key = key.removeprefix("module.")
    for old, new in _MOTION:
        key = key.replace(old, new)
    return key if MOTION_KEY.match(key) and ".pos_encoder." not in key else None


def _block(level: str, layer: int, match: re.Match[str]) -> str:
    """Place 0 of an original's block is the residual block, place 1 the transformer."""
    return _resnet(level, layer, match[3]) if match[2] == "0" else f"{level}.attentions.{layer}.{match[3]}"


def _resnet(level: str, layer: int, rest: str) -> str:
    for old, new in _UNET_RESNET:
        if rest.startswith(old):
            rest = new + rest[len(old) :]
            break
    return f"{level}.resnets.{layer}.{rest}"
