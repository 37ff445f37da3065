"""The wrappers of the ``base`` preset's stock networks, on small randomly initialised ones of their libraries."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mcdm_core import model as model_module
from mcdm_core.config import BASE, TINY, AudioEncoderConfig
from mcdm_core.errors import MCDMError
from mcdm_core.models.audio_encoder import Wav2Vec2AudioEncoder
from mcdm_core.models.image_encoder import CLIPImageEncoder, build_image_encoder
from mcdm_core.models.vae import StableDiffusionAutoencoder, build_autoencoder


@pytest.fixture(scope="module")
def autoencoder() -> torch.nn.Module:
    """An ``AutoencoderKL`` of SD 1.5's structure, two channels a group wide."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
    ).eval()


@pytest.fixture(scope="module")
def tower() -> torch.nn.Module:
    """A CLIP vision tower of two layers on 28-pixel pictures."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    return transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        )
    )


def clip_config(**changes: int):
    return dataclasses.replace(BASE, image_encoder=dataclasses.replace(BASE.image_encoder, **changes))


@torch.no_grad()
def test_latents_are_scaled_means_at_an_eighth(autoencoder) -> None:
    wrapped = StableDiffusionAutoencoder(BASE, autoencoder)
    x = torch.rand(2, 3, 32, 48) * 2 - 1
    latents = wrapped.encode(x)
    assert latents.shape == (2, 4, 4, 6)
    posterior = autoencoder.encode(x).latent_dist
    assert torch.allclose(latents, posterior.mean * 0.18215)
    # No draw is made: the same picture always has the same latents.
    assert torch.equal(latents, wrapped.encode(x))
    assert torch.allclose(wrapped.decode(latents), autoencoder.decode(posterior.mean).sample, atol=1e-5)
    assert wrapped(x).shape == x.shape and wrapped.downscale == 8


@torch.no_grad()
def test_the_autoencoder_keeps_half_precision(autoencoder) -> None:
    wrapped = StableDiffusionAutoencoder(BASE, autoencoder).to(torch.bfloat16)
    try:
        latents = wrapped.encode(torch.zeros(1, 3, 16, 16, dtype=torch.bfloat16))
        assert latents.dtype == torch.bfloat16 and wrapped.decode(latents).dtype == torch.bfloat16
    finally:
        autoencoder.float()


def test_base_builds_stable_diffusions_autoencoder() -> None:
    with torch.device("meta"):
        built = build_autoencoder(BASE)
    assert isinstance(built, StableDiffusionAutoencoder)
    count = sum(parameter.numel() for parameter in built.parameters())
    assert count == 83_653_863  # Stable Diffusion 1.5's
    assert built.scaling_factor == 0.18215


@torch.no_grad()
def test_clip_tokens_of_a_picture(tower) -> None:
    wrapped = CLIPImageEncoder(clip_config(image_size=28, feature_dim=16), tower)
    tokens = wrapped(torch.rand(2, 3, 128, 96) * 2 - 1)
    assert tokens.shape == (2, 5, 16)  # the class token first, then 2x2 patches
    # At its own size nothing is resampled; the picture is normalised as CLIP was trained.
    x = torch.rand(1, 3, 28, 28)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    normal = torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(3)], 1)
    assert torch.allclose(wrapped(x * 2 - 1), tower(pixel_values=normal).last_hidden_state, atol=1e-4)


def test_clip_stays_frozen(tower) -> None:
    wrapped = CLIPImageEncoder(clip_config(image_size=28, feature_dim=16), tower).train()
    assert not any(parameter.requires_grad for parameter in wrapped.parameters()) and not wrapped.tower.training
    assert not any(key in wrapped.state_dict() for key in ("mean", "std"))


def test_base_builds_clip_vit_large() -> None:
    pytest.importorskip("transformers")
    with torch.device("meta"):
        built = build_image_encoder(BASE)
    assert built.tower.config.patch_size == 14 and built.tower.config.hidden_size == 1024
    assert sum(parameter.numel() for parameter in built.parameters()) == 303_179_776  # ViT-L/14's vision tower


def test_components_that_are_given_are_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("built, though it was given")

    for name in ("build_autoencoder", "build_audio_encoder", "build_image_encoder"):
        monkeypatch.setattr(model_module, name, never)
    given = {name: torch.nn.Identity() for name in ("vae", "audio_encoder", "image_encoder")}
    with torch.device("meta"):
        model = model_module.MCDMModel(TINY, given=given)
    assert all(getattr(model, name) is part for name, part in given.items())
    assert [name for name, state in model.states().items() if not state] == list(given)
    with pytest.raises(AssertionError, match="given"), torch.device("meta"):
        model_module.MCDMModel(TINY, given={"vae": given["vae"]})


class Ramp(torch.nn.Module):
    """In place of Wav2Vec 2.0: feature j of a waveform is the mean of the samples it hears, 320 j to 320 j + 400."""

    def __init__(self) -> None:
        super().__init__()
        self.config = type("Config", (), {"hidden_size": 1})
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, samples: torch.Tensor):
        features = samples.unfold(1, 400, 320).mean(-1, keepdim=True)
        return type("Output", (), {"last_hidden_state": features})


@pytest.mark.parametrize("fps", [24.0, 25.0, 29.97, 50.0])
def test_speech_tokens_lie_at_the_middle_of_their_frame(fps: float) -> None:
    config = dataclasses.replace(BASE, audio_encoder=AudioEncoderConfig(feature_dim=1))
    encoder = Wav2Vec2AudioEncoder(config, model=Ramp())
    seconds = 2
    waveform = torch.linspace(-1, 1, 16_000 * seconds)
    count = round(seconds * fps)
    tokens = encoder(encoder.frame_windows(waveform, 16_000, fps, count))
    assert tokens.shape == (count, 1, 1)
    middle = (torch.arange(count) + 0.5) / fps
    expected = (middle / seconds * 2 - 1) / waveform.std(correction=0)
    inner = slice(1, count - 1)  # the network hears nothing beyond the ends
    assert torch.allclose(tokens[inner, 0, 0], expected[inner], atol=2e-3)


def test_speech_tokens_take_the_model_s_precision() -> None:
    config = dataclasses.replace(BASE, audio_encoder=AudioEncoderConfig(feature_dim=1))
    encoder = Wav2Vec2AudioEncoder(config, model=Ramp()).to(torch.bfloat16)
    tokens = encoder(encoder.frame_windows(torch.randn(16_000), 16_000, 25, 25))
    assert tokens.dtype == torch.bfloat16 and tokens.isfinite().all()
    with pytest.raises(MCDMError, match="features"):
        Wav2Vec2AudioEncoder(BASE, model=Ramp())
