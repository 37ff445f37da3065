"""Configuration of every MCDM model as frozen dataclasses, with the two presets.

A configuration travels inside the metadata of the safetensors file it belongs to
(:func:`to_json`, read by ``stored_config.py``), so a weight file is complete by itself.
Section numbers refer to the paper, arXiv 2502.09533.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class VAEConfig:
    """Image autoencoder. ``layout``: ``"stable_diffusion"`` (base) or ``"compact"``, this project's own (tiny).

    ``block_channels`` and ``blocks_per_level`` are the compact layout's, ``stock_channels`` and ``norm_groups`` Stable
    Diffusion's.
    """

    layout: str = "stable_diffusion"
    latent_channels: int = 4
    downscale: int = 8
    block_channels: tuple[int, ...] = (32, 64, 128)
    blocks_per_level: tuple[int, ...] = (1, 2, 2)
    scaling_factor: float = 0.18215
    stock_channels: tuple[int, ...] = (128, 256, 512, 512)
    norm_groups: int = 32


@dataclass(frozen=True)
class PartDecoderConfig:
    """Decoder of painted parts (``models/part_decoder.py``, C); without any widths the autoencoder's own is used.

    ``block_channels`` and ``blocks_per_level`` go from half of a part's resolution downwards, as the autoencoder's.
    With ``portrait_gates`` what it sees of the portrait passes gates; with ``archive_sight`` it looks at the archive's
    latents. It finds itself in ``gallery`` pictures of the person, and in the portrait; 0 for none.
    """

    block_channels: tuple[int, ...] = ()
    blocks_per_level: tuple[int, ...] = ()
    portrait_gates: bool = False
    archive_sight: bool = False
    gallery: int = 0


@dataclass(frozen=True)
class FaceNetworkConfig:
    """Landmarks, head pose, lip and expression values of a face crop; box in a full picture.

    ``part_channels``: widths of the second reading of lips, lids and brows; without any there is none.
    """

    input_size: int = 128
    channels: tuple[int, ...] = (24, 48, 96, 128)
    part_channels: tuple[int, ...] = ()


@dataclass(frozen=True)
class AudioEncoderConfig:
    """``kind``: ``"wav2vec2"`` (frozen, base) or ``"logmel_context"`` (small and trained, tiny).

    ``num_mels`` to ``window_frames`` and ``width`` to ``spectral_balance`` (share of the utterance's mean spectrum that
    is taken off) are the latter's, ``num_layers`` and ``num_heads`` Wav2Vec 2.0's.
    """

    kind: str = "wav2vec2"
    sample_rate: int = 16_000
    num_mels: int = 80
    hop_length: int = 160
    window_frames: int = 20
    feature_dim: int = 768
    tokens_per_frame: int = 1
    width: int = 160
    dilations: tuple[int, ...] = ()
    spectral_balance: float = 0.0
    num_layers: int = 12
    num_heads: int = 12


@dataclass(frozen=True)
class ImageEncoderConfig:
    """``kind``: ``"clip"`` (frozen CLIP ViT-L, base), ``"conv"`` (small, trained) or ``"codec"``. With
    ``"codec"`` the frozen encoders of the motion codec read the picture, and its motion tokens are the image tokens.

    ``channels`` are the second's, ``num_layers``, ``num_heads`` and ``patch_size`` CLIP's.
    """

    kind: str = "clip"
    image_size: int = 224
    feature_dim: int = 1024
    channels: tuple[int, ...] = (32, 64, 96, 128)
    num_layers: int = 24
    num_heads: int = 16
    patch_size: int = 14


@dataclass(frozen=True)
class MotionCodecConfig:
    """Lip and expression encoders, landmark guider and motion decoder (section 3.3, B.2)."""

    width: int = 768
    num_layers: int = 4
    num_heads: int = 12
    motion_dim: int = 768
    head_tokens: int = 16
    lip_tokens: int = 4
    expression_tokens: int = 4
    num_landmarks: int = 68
    num_values: int = 16
    image_size: int = 128


@dataclass(frozen=True)
class PresentClipPriorConfig:
    """Present-clip motion diffusion (section 3.3, B.2). The paper: L = 8 layers.

    ``persistence`` (an addition, see the model) begins from the last known frame with ``prior_variance`` around it. The
    variance may be fitted for every frame and feature (``fitted_variance``). ``sound_path`` names the tokens that a
    linear path from the sound leads to, ``"lip"`` or ``"all"``. ``noise_correlation`` is that of the added noise from
    one frame to the next, for head, lip and expression tokens; 0 is the paper's. ``noise_scale`` is that of the noise
    which sampling begins with at temperature 1, by stream.
    """

    width: int = 768
    num_layers: int = 8
    num_heads: int = 12
    mlp_ratio: float = 4.0
    context_frames: int = 4
    max_frames: int = 64
    num_train_timesteps: int = 1000
    prediction_type: str = "epsilon"
    persistence: bool = False
    prior_variance: float = 0.36
    sound_path: str = "lip"
    fitted_variance: bool = False
    noise_correlation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    noise_scale: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class ArchivedClipPriorConfig:
    """Frame-aligned attention over reference and archive (section 3.2, B.1)."""

    patch_size: int = 4
    width: int = 768
    num_queries: int = 16
    latent_size: int = 64


@dataclass(frozen=True)
class UNetConfig:
    """Denoising UNet with four attention layers per transformer block (section 3.1, 3.4).

    ``layout``: ``"stable_diffusion"`` (base) or ``"compact"`` (tiny); see the model. ``shape_maps``: two of the motion
    tokens are points of lips and lids, also drawn at the input (``models/inputs/shape_maps.py``, C).
    ``archive_places``: layer 2 begins by looking where it is (C). ``block_projections``: Stable Diffusion's norm and
    projections around a transformer block; without them what layers 2 to 4 add drowns in the residual stream.
    """

    layout: str = "stable_diffusion"
    latent_channels: int = 4
    latent_size: int = 64
    block_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    num_heads: int = 8
    norm_groups: int = 32
    text_context_dim: int = 768
    ff_mult: float = 4.0
    alpha: float = 0.1
    temporal_attention: str = "exact"
    favor_features: int = 256
    warped_reference: bool = False
    guide_channels: int = 0
    shape_maps: bool = False
    archive_places: bool = False
    block_projections: bool = True


@dataclass(frozen=True)
class PartsConfig:
    """Mouth and eyes painted in squares of their own (``face/parts.py``), the rest of the face warped (C).

    ``size`` is a part's side in pixels; 0 paints the whole crop, as the paper does. The variances are those of the true
    latents. In what is to be painted they lie around the portrait's own part held still, beside it around the warp.
    """

    size: int = 0
    unknown_variance: float = 0.5
    known_variance: float = 0.03


@dataclass(frozen=True)
class DiffusionConfig:
    """Noise schedule and prediction target of the image denoiser (section 4.1; C: cosine).

    ``prior_variance_terms``, if given, make the variance of the warped reference's error differ from place to place
    (``diffusion/warp_variance.py``); ``temperature`` scales the noise that sampling starts from. With ``shared_noise``
    all frames of a video begin from one noise, so that the texture it decides stays where it is.
    """

    num_train_timesteps: int = 1000
    prediction_type: str = "epsilon"
    prior_variance: float = 0.36
    prior_variance_terms: tuple[float, ...] = ()
    temperature: float = 1.0
    shared_noise: bool = False


@dataclass(frozen=True)
class MCDMConfig:
    """The whole model. ``clip_frames`` f and ``archive_frames`` a are 16 in the paper."""

    preset: str = "base"
    image_size: int = 512
    fps: int = 25
    clip_frames: int = 16
    archive_frames: int = 16
    vae: VAEConfig = field(default_factory=VAEConfig)
    part_decoder: PartDecoderConfig = field(default_factory=PartDecoderConfig)
    face_network: FaceNetworkConfig = field(default_factory=FaceNetworkConfig)
    audio_encoder: AudioEncoderConfig = field(default_factory=AudioEncoderConfig)
    image_encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    motion_codec: MotionCodecConfig = field(default_factory=MotionCodecConfig)
    present_clip_prior: PresentClipPriorConfig = field(default_factory=PresentClipPriorConfig)
    archived_clip_prior: ArchivedClipPriorConfig = field(default_factory=ArchivedClipPriorConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)
    parts: PartsConfig = field(default_factory=PartsConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)


BASE = MCDMConfig()

TINY = MCDMConfig(
    preset="tiny",
    image_size=192,
    vae=VAEConfig(layout="compact", latent_channels=12, scaling_factor=1.0),
    part_decoder=PartDecoderConfig(
        block_channels=(32, 64, 128), blocks_per_level=(2, 2, 2), portrait_gates=True, archive_sight=True, gallery=8
    ),
    audio_encoder=AudioEncoderConfig(
        kind="logmel_context", feature_dim=128, window_frames=62, width=128, dilations=(1, 2, 3), spectral_balance=0.5
    ),
    image_encoder=ImageEncoderConfig(kind="codec", image_size=128, feature_dim=32),
    motion_codec=MotionCodecConfig(
        width=96, num_heads=4, motion_dim=32, head_tokens=2, lip_tokens=2, expression_tokens=2
    ),
    present_clip_prior=PresentClipPriorConfig(
        width=128,
        num_heads=4,
        mlp_ratio=2.0,
        context_frames=12,
        persistence=True,
        sound_path="all",
        fitted_variance=True,
        noise_correlation=(0.97, 0.0, 0.9),
        noise_scale=(1.0, 0.0, 1.3),
    ),
    archived_clip_prior=ArchivedClipPriorConfig(patch_size=2, width=128, latent_size=12),
    unet=UNetConfig(
        layout="compact",
        latent_channels=12,
        latent_size=12,
        block_channels=(96, 160, 224),
        layers_per_block=1,
        attention_levels=(True, True, True),
        num_heads=4,
        norm_groups=8,
        text_context_dim=128,
        ff_mult=3.0,
        warped_reference=True,
        guide_channels=29,
        shape_maps=True,
        archive_places=True,
    ),
    parts=PartsConfig(size=96),
    diffusion=DiffusionConfig(prediction_type="prior_residual", temperature=0.7, shared_noise=True),
)

SMALL = MCDMConfig(
    preset="small",
    image_size=256,
    motion_codec=MotionCodecConfig(width=384, num_heads=6, motion_dim=384, head_tokens=8),
    present_clip_prior=PresentClipPriorConfig(width=384, num_heads=6),
    archived_clip_prior=ArchivedClipPriorConfig(patch_size=2, width=384, latent_size=32),
    unet=UNetConfig(latent_size=32, block_channels=(160, 320, 640, 640), text_context_dim=0),
)
"""The paper's model at half its width and side, for one GPU of 12 GB. Its UNet starts from nothing, so it has no text
attention; the autoencoder, CLIP and Wav2Vec 2.0 are the published ones."""

PRESETS: dict[str, MCDMConfig] = {"base": BASE, "small": SMALL, "tiny": TINY}


def to_json(config: MCDMConfig) -> str:
    """Serialise a configuration for the metadata of a safetensors file."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True)


def differences(config: Any) -> dict[str, Any]:
    """The fields of a configuration that are not at their defaults, sections nested."""
    found: dict[str, Any] = {}
    for field_ in dataclasses.fields(config):
        value = getattr(config, field_.name)
        if dataclasses.is_dataclass(value):
            if inner := differences(value):
                found[field_.name] = inner
        elif value != field_.default:
            found[field_.name] = value
    return found
