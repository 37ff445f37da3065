"""Published files in both layouts, at full size without values and narrow with them, against the stock modules."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNetMotionModel
from safetensors.torch import save_file
from torch import nn

from mcdm_core.__main__ import main
from mcdm_core.checkpoint import is_something_else, load_checkpoint
from mcdm_core.config import BASE, MCDMConfig, to_json
from mcdm_core.conversion.assembly import place_weights
from mcdm_core.errors import WeightsError
from mcdm_core.model import MCDMModel
from mcdm_core.pipeline import MCDMPipeline

_SPEC = importlib.util.spec_from_file_location("layouts", Path(__file__).with_name("layouts.py"))
layouts = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(layouts)

WIDTHS = (16, 32, 32, 32)
NARROW = dataclasses.replace(
    BASE,
    image_size=64,
    vae=dataclasses.replace(BASE.vae, stock_channels=(8, 8, 16, 16), norm_groups=4),
    audio_encoder=dataclasses.replace(BASE.audio_encoder, feature_dim=32, num_layers=2, num_heads=2),
    image_encoder=dataclasses.replace(BASE.image_encoder, feature_dim=32, num_layers=2, num_heads=2, image_size=28),
    motion_codec=dataclasses.replace(BASE.motion_codec, width=24, num_layers=1, num_heads=2, motion_dim=20),
    present_clip_prior=dataclasses.replace(BASE.present_clip_prior, width=24, num_layers=1, num_heads=2),
    archived_clip_prior=dataclasses.replace(BASE.archived_clip_prior, width=12, latent_size=8),
    unet=dataclasses.replace(
        BASE.unet, block_channels=WIDTHS, num_heads=4, norm_groups=8, text_context_dim=24, latent_size=8
    ),
)
BORROWED = {"image_encoder": nn.Identity(), "audio_encoder": nn.Identity()}


def stock_unet(config: MCDMConfig) -> UNet2DConditionModel:
    unet = config.unet
    return UNet2DConditionModel(
        block_out_channels=unet.block_channels,
        cross_attention_dim=unet.text_context_dim,
        sample_size=unet.latent_size,
        attention_head_dim=unet.num_heads,
        norm_num_groups=unet.norm_groups,
    ).eval()


def stock_motion(config: MCDMConfig) -> UNetMotionModel:
    unet = config.unet
    return UNetMotionModel(
        block_out_channels=unet.block_channels,
        cross_attention_dim=unet.text_context_dim,
        num_attention_heads=unet.num_heads,
        norm_num_groups=unet.norm_groups,
        use_motion_mid_block=True,
        motion_max_seq_length=32,
    ).eval()


def stock_vae(config: MCDMConfig) -> AutoencoderKL:
    widths = config.vae.stock_channels
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=widths,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=config.vae.norm_groups,
    ).eval()


def animatediff(motion: UNetMotionModel) -> dict[str, torch.Tensor]:
    return {key: value for key, value in motion.state_dict().items() if "motion_modules" in key}


@pytest.fixture(scope="module")
def stock():
    torch.manual_seed(0)
    unet, motion, vae = stock_unet(NARROW), stock_motion(NARROW), stock_vae(NARROW)
    return {"unet": unet, "motion_module": motion, "vae": vae}


@pytest.fixture(scope="module")
def files(stock) -> dict[str, dict[str, dict[str, torch.Tensor]]]:
    """State dicts by layout and part."""
    unet, vae = stock["unet"].state_dict(), stock["vae"].state_dict()
    checkpoint = {**layouts.original_unet(unet), **layouts.original_vae(vae), "betas": torch.zeros(3)}
    checkpoint["cond_stage_model.transformer.text_model.final_layer_norm.bias"] = torch.zeros(2)
    motion = animatediff(stock["motion_module"])
    return {
        "diffusers": {"unet": unet, "vae": vae, "motion_module": motion},
        "original": {"unet": checkpoint, "vae": checkpoint, "motion_module": motion},
        "older": {"unet": unet, "vae": layouts.older_vae(vae), "motion_module": motion},
    }


@pytest.mark.parametrize("layout", ["diffusers", "original", "older"])
@torch.no_grad()
def test_each_layout_gives_the_stock_outputs(stock, files, layout: str) -> None:
    model = MCDMModel(NARROW, given=BORROWED).eval()
    # Without motion modules layer 4 is at its start, so the UNet is Stable Diffusion's.
    fates = place_weights(model, {part: files[layout][part] for part in ("unet", "vae")})
    torch.manual_seed(1)
    latents, text, pictures = torch.randn(1, 2, 4, 8, 8), torch.randn(1, 5, 24), torch.rand(2, 3, 64, 64) * 2 - 1
    ours, _ = model.unet(latents, torch.tensor([500.0]), None, None, text=text)
    theirs = stock["unet"](latents[0], 500, text.expand(2, -1, -1)).sample
    torch.testing.assert_close(ours[0], theirs, atol=1e-5, rtol=1e-5)
    scale = NARROW.vae.scaling_factor
    encoded = stock["vae"].encode(pictures).latent_dist.mode() * scale
    torch.testing.assert_close(model.vae.encode(pictures), encoded, atol=1e-5, rtol=1e-5)
    decoded = stock["vae"].decode(encoded / scale).sample
    torch.testing.assert_close(model.vae.decode(encoded), decoded, atol=1e-5, rtol=1e-5)
    for part in ("unet", "vae"):
        own = [fate for fate in fates if fate.part == part]
        assert sorted(fate.key for fate in own) == sorted(files[layout][part])
        assert all(bool(fate.place) != bool(fate.reason) for fate in own)


def test_motion_modules_go_into_layer_4_without_a_unet(files) -> None:
    model = MCDMModel(NARROW, given={**BORROWED, "vae": nn.Identity()})
    motion = files["diffusers"]["motion_module"]
    fates = place_weights(model, {"motion_module": motion})
    own = {f"unet.{key}": value for key, value in model.unet.state_dict().items()}
    placed = [fate for fate in fates if fate.place]
    assert placed and all(torch.equal(own[fate.place], motion[fate.key]) for fate in placed)
    assert {fate.reason for fate in fates if not fate.place} == {"Stable Diffusion has no attention at this level"}


def test_files_of_full_size_have_a_place_for_each_key() -> None:
    """The published files' keys and shapes, on no device."""
    transformers = pytest.importorskip("transformers", reason="CLIP and Wav2Vec need transformers")
    with torch.device("meta"):
        model = MCDMModel(BASE)
        unet, vae, motion = stock_unet(BASE), stock_vae(BASE), stock_motion(BASE)
        tower = clip_tower(transformers, BASE).state_dict()
        wav2vec = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()).state_dict()
    checkpoint = {**layouts.original_unet(unet.state_dict()), **layouts.original_vae(vae.state_dict())}
    parts = {
        "unet": checkpoint,
        "vae": checkpoint,
        "motion_module": animatediff(motion),
        "clip": tower,
        "wav2vec": wav2vec,
    }
    fates = place_weights(model, parts)
    counts = {p: sum(f.part == p and bool(f.place) for f in fates) for p in parts}
    # AnimateDiff has five motion modules of 27 keys at the level where Stable Diffusion has no attention.
    assert counts == {"unet": 686, "vae": 248, "motion_module": 567 - 5 * 27, "clip": 391, "wav2vec": 211}
    assert sum(value.numel() for value in unet.state_dict().values()) == 859_520_964  # Stable Diffusion 1.5's


def clip_tower(transformers, config: MCDMConfig):
    image = config.image_encoder
    return transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(
            hidden_size=image.feature_dim,
            intermediate_size=4 * image.feature_dim,
            num_hidden_layers=image.num_layers,
            num_attention_heads=image.num_heads,
            image_size=image.image_size,
            patch_size=image.patch_size,
        )
    ).eval()


@pytest.fixture(scope="module")
def encoders() -> dict:
    """Narrow stock encoders, and their files: by part the layouts that are in use."""
    transformers = pytest.importorskip("transformers", reason="CLIP and Wav2Vec need transformers")
    audio = NARROW.audio_encoder
    torch.manual_seed(2)
    tower = clip_tower(transformers, NARROW)
    wav2vec = transformers.Wav2Vec2Model(
        transformers.Wav2Vec2Config(
            hidden_size=audio.feature_dim,
            intermediate_size=4 * audio.feature_dim,
            num_hidden_layers=audio.num_layers,
            num_attention_heads=audio.num_heads,
        )
    ).eval()
    bare = {key.removeprefix("vision_model."): value for key, value in tower.state_dict().items()}
    prefixed_wav2vec = {f"wav2vec2.{key}": value for key, value in wav2vec.state_dict().items()}
    older = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for key, value in prefixed_wav2vec.items()
    }
    prefixed_wav2vec["lm_head.weight"] = torch.zeros(2)
    prefixed = {f"vision_model.{key}": value for key, value in bare.items()}
    prefixed |= {"text_model.embeddings.token_embedding.weight": torch.zeros(2), "logit_scale": torch.zeros(())}
    prefixed |= {"vision_model.embeddings.position_ids": torch.zeros(1, 5), "visual_projection.weight": torch.zeros(2)}
    clips, both_wav2vec = (prefixed, layouts.original_clip(bare)), (prefixed_wav2vec, older)
    return {"tower": tower, "speech": wav2vec, "clip": clips, "wav2vec": both_wav2vec}


@pytest.mark.parametrize("layout", [0, 1])
@torch.no_grad()
def test_clip_and_wav2vec_give_the_stock_outputs(encoders, layout: int) -> None:
    clip, wav2vec = encoders["clip"][layout], encoders["wav2vec"][layout]
    pictures, sound = torch.rand(1, 3, 28, 28) * 2 - 1, torch.randn(8000)
    model = MCDMModel(NARROW, given={"vae": nn.Identity()}).eval()
    fates = place_weights(model, {"clip": clip, "wav2vec": wav2vec})
    assert len(fates) == len(clip) + len(wav2vec)
    normal = ((pictures + 1) / 2 - model.image_encoder.mean) / model.image_encoder.std
    expected = encoders["tower"](pixel_values=normal).last_hidden_state
    torch.testing.assert_close(model.image_encoder(pictures), expected, atol=1e-5, rtol=1e-5)
    expected = encoders["speech"](((sound - sound.mean()) / sound.std(correction=0))[None]).last_hidden_state[0]
    torch.testing.assert_close(model.audio_encoder.features(sound), expected, atol=1e-5, rtol=1e-5)


def test_encoders_load_under_the_names_of_other_versions_of_their_libraries(encoders) -> None:
    model = MCDMModel(NARROW, given={"vae": nn.Identity()})
    place_weights(model, {"clip": encoders["clip"][0], "wav2vec": encoders["wav2vec"][0]})
    states = model.states()
    other = dict(states)
    prefix = "tower.vision_model."
    other["image_encoder"] = {
        "tower." + key.removeprefix(prefix) if key.startswith(prefix) else prefix + key.removeprefix("tower."): value
        for key, value in states["image_encoder"].items()
    }
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    swaps = {**names, **{new: old for old, new in names.items()}}
    other["audio_encoder"] = {
        next((key.replace(old, new) for old, new in swaps.items() if old in key), key): value
        for key, value in states["audio_encoder"].items()
    }
    assert all(other[name].keys() != states[name].keys() for name in ("image_encoder", "audio_encoder"))
    MCDMModel.check_fit(NARROW, other, {"vae": nn.Identity()})
    again = MCDMModel(NARROW, given={"vae": nn.Identity()})
    again.load_states(other)
    for name in ("image_encoder", "audio_encoder"):
        assert all(torch.equal(again.states()[name][key], value) for key, value in states[name].items())


def test_wrong_files_are_named(files) -> None:
    model = MCDMModel(NARROW, given=BORROWED)
    unet, vae = files["diffusers"]["unet"], files["diffusers"]["vae"]
    with pytest.raises(WeightsError, match="UNet has the unknown key 'lora.up'"):
        place_weights(model, {"unet": {**unet, "lora.up": torch.zeros(1)}})
    with pytest.raises(WeightsError, match="lacks 'conv_in.weight'"):
        place_weights(model, {"unet": {k: v for k, v in unet.items() if k != "conv_in.weight"}})
    with pytest.raises(WeightsError, match="quant_conv.bias"):
        place_weights(model, {"vae": {**vae, "quant_conv.bias": torch.zeros(3)}})
    with pytest.raises(WeightsError, match="holds nothing"):
        place_weights(model, {"vae": {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}})


def write_files(folder: Path, parts: dict[str, dict[str, torch.Tensor]]) -> list[str]:
    """Write safetensors files and the narrow configuration; the command that converts them all."""
    (folder / "narrow.json").write_text(to_json(NARROW))
    command = ["convert", "--config", str(folder / "narrow.json"), "--output", str(folder / "base.safetensors")]
    for part, state in parts.items():
        path = folder / f"{part}.safetensors"
        save_file({key: value.clone().contiguous() for key, value in state.items()}, str(path))
        command += [f"--{part.replace('_', '-')}", str(path)]
    return [*command, "--table", str(folder / "keys.csv"), "--dtype", "float32"]


def test_the_command_accounts_for_all_keys(files, tmp_path, capsys) -> None:
    parts = {part: files["original"][part] for part in ("unet", "motion_module", "vae")}
    assert main(write_files(tmp_path, parts)) == 0
    printed = capsys.readouterr().out
    assert "left out, to be brought by ComfyUI's loaders: audio_encoder, image_encoder" in printed
    lines = [line.split(None, 3) for line in printed.splitlines()]
    for part in parts:
        # The printed counts of a file sum up to its keys.
        counts = [int(line[2]) for line in lines if line[0] == f"--{part.replace('_', '-')}"]
        assert sum(counts) == len(parts[part]) and len(counts) > 1
    with (tmp_path / "keys.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(state) for state in parts.values())
    config, states, stage = load_checkpoint(tmp_path / "base.safetensors")
    assert dataclasses.replace(config, face_network=NARROW.face_network) == NARROW and stage == 0
    assert "audio_encoder" not in states and "face_network" in states
    flat = {f"{name}.{key}": value for name, state in states.items() for key, value in state.items()}
    for row in rows:
        assert bool(row["place"]) != bool(row["reason"])
        if row["place"]:
            expected = parts[row["part"]][row["key"]]
            assert torch.equal(flat[row["place"]].reshape(-1), expected.reshape(-1)), row


def test_a_whole_assembled_file_makes_a_video_and_the_files_it_is_made_of_are_something_else(
    files, encoders, tmp_path, capsys
) -> None:
    parts = {**files["diffusers"], "clip": encoders["clip"][0], "wav2vec": encoders["wav2vec"][0]}
    assert main(write_files(tmp_path, parts)) == 0
    assert "left out, to be" not in capsys.readouterr().out
    assert not is_something_else(tmp_path / "base.safetensors")
    assert all(is_something_else(tmp_path / f"{part}.safetensors") for part in parts)
    (tmp_path / "damaged.safetensors").write_bytes(b"x" * 20)
    assert not is_something_else(tmp_path / "damaged.safetensors"), "reading it says what is wrong with it"
    pipe = MCDMPipeline.from_file(tmp_path / "base.safetensors")
    assert pipe.stage == 0
    torch.manual_seed(0)
    reference = pipe.encode_reference(torch.rand(3, 96, 96), box=(20, 20, 76, 76))
    audio = pipe.embed_audio(torch.randn(1, 16_000) * 0.1, 16_000)
    clip = next(iter(pipe.generate(reference, audio, seed=0, steps=2, motion_steps=2)))
    assert clip.frames.shape == (16, 3, 64, 64) and torch.isfinite(clip.frames).all()


def test_the_command_refuses_pickles_and_nothing(tmp_path, capsys) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"")
    arguments = ["convert", "--output", str(tmp_path / "x.safetensors")]
    assert main(arguments) == 1 and "--unet" in capsys.readouterr().err
    (tmp_path / "narrow.json").write_text(to_json(NARROW))
    arguments += ["--config", str(tmp_path / "narrow.json"), "--unet", str(tmp_path / "model.ckpt")]
    assert main(arguments) == 1 and "safetensors" in capsys.readouterr().err
