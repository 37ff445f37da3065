"""The presets: the paper's numbers in ``base``, the sizes that ``tiny`` may have, and configurations in files."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from mcdm_core.config import BASE, TINY, MCDMConfig, differences, to_json
from mcdm_core.errors import MCDMError, WeightsError
from mcdm_core.models import temporal_attention
from mcdm_core.models.unet import DenoisingUNet
from mcdm_core.models.vae import TinyAutoencoder, build_autoencoder
from mcdm_core.pipeline import MCDMPipeline, preset_weights
from mcdm_core.stored_config import from_json


def test_base_has_the_paper_s_numbers() -> None:
    assert (BASE.image_size, BASE.clip_frames, BASE.archive_frames) == (512, 16, 16)
    assert (BASE.vae.latent_channels, BASE.vae.downscale) == (4, 8)
    prior = BASE.archived_clip_prior
    assert prior.num_queries == 16 and (prior.latent_size // prior.patch_size) ** 2 == 256
    assert prior.latent_size == BASE.unet.latent_size == BASE.image_size // BASE.vae.downscale
    assert BASE.present_clip_prior.num_layers == 8 and BASE.motion_codec.num_layers == 4
    assert BASE.unet.alpha == 0.1 and BASE.audio_encoder.kind == "wav2vec2" and BASE.image_encoder.kind == "clip"
    assert BASE.diffusion.prediction_type == BASE.present_clip_prior.prediction_type == "epsilon"
    assert not BASE.unet.warped_reference and not BASE.present_clip_prior.persistence


def test_tiny_keeps_the_paper_s_structure() -> None:
    assert (TINY.clip_frames, TINY.archive_frames, TINY.archived_clip_prior.num_queries) == (16, 16, 16)
    assert TINY.present_clip_prior.num_layers == 8 and TINY.motion_codec.num_layers == 4 and TINY.unet.alpha == 0.1


def test_tiny_is_as_small_as_it_was_planned() -> None:
    model = MCDMPipeline.from_config(TINY).model
    assert sum(parameter.numel() for parameter in model.parameters()) < 20e6
    if preset_weights("tiny").is_file():
        assert preset_weights("tiny").stat().st_size < 60e6


def test_the_memory_of_a_step_of_base_is_23_megabytes_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporal_attention, "random_features", torch.zeros)
    with torch.device("meta"):
        unet = DenoisingUNet(BASE)
    numbers = 0
    for key, block in zip(unet.memory_keys, unet.transformer_blocks(), strict=True):
        level = {"down": int(key.split(".")[1]), "up": 3 - int(key.split(".")[1])} if "_blocks" in key else {"mid": 3}
        side = BASE.unet.latent_size // 2 ** next(value for name, value in level.items() if key.startswith(name))
        numbers += side**2 * block.norm1.normalized_shape[0]
    assert 2 * numbers == pytest.approx(23e6, rel=0.02)


def test_a_configuration_survives_a_file_and_an_unknown_field_is_named() -> None:
    assert from_json(to_json(TINY)) == TINY and from_json(to_json(BASE)) == BASE
    changed = dataclasses.replace(TINY, fps=30)
    assert from_json(to_json(changed)).fps == 30
    with pytest.raises(WeightsError, match="newer"):
        from_json('{"colour": 1}')


def test_the_networks_do_not_depend_on_the_preset_s_name() -> None:
    with torch.device("meta"):
        renamed = DenoisingUNet(dataclasses.replace(TINY, preset="mine"))
        assert renamed.state_dict().keys() == DenoisingUNet(TINY).state_dict().keys()
    assert isinstance(build_autoencoder(dataclasses.replace(TINY, preset="base")), TinyAutoencoder)
    with pytest.raises(MCDMError, match="vae.layout is 'round'"):
        build_autoencoder(dataclasses.replace(TINY, vae=dataclasses.replace(TINY.vae, layout="round")))


@pytest.mark.parametrize("preset", [TINY, BASE], ids=lambda preset: preset.preset)
def test_a_file_of_version_0_1_which_had_no_layouts_is_read(preset: MCDMConfig) -> None:
    old = json.loads(to_json(preset))
    del old["unet"]["layout"], old["vae"]["layout"]
    old["face_network"]["heatmap_size"] = 32
    old["unet"]["warp"] = "framed" if preset.unet.warped_reference else "pinned"
    assert from_json(json.dumps(old)) == preset


def test_a_file_that_needs_what_is_gone_is_refused() -> None:
    old = json.loads(to_json(TINY))
    old["unet"]["warp"] = "pinned"
    with pytest.raises(WeightsError, match="pinned"):
        from_json(json.dumps(old))


def test_differences_name_what_is_not_at_its_default() -> None:
    assert differences(BASE) == {}
    assert differences(dataclasses.replace(BASE, fps=30, vae=dataclasses.replace(BASE.vae, latent_channels=8))) == {
        "fps": 30,
        "vae": {"latent_channels": 8},
    }
