import dataclasses

import pytest
import torch
from diffusers import UNet2DConditionModel, UNetMotionModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D

from mcdm_core.config import BASE
from mcdm_core.conversion.unet import load_motion_modules, load_stable_diffusion, motion_module_keys
from mcdm_core.errors import WeightsError
from mcdm_core.models.temporal_attention import MemoryEfficientTemporalAttention
from mcdm_core.models.unet import DenoisingUNet

WIDTHS = (16, 32, 32, 32)
CONFIG = dataclasses.replace(
    BASE,
    clip_frames=16,
    unet=dataclasses.replace(
        BASE.unet, block_channels=WIDTHS, num_heads=4, norm_groups=8, text_context_dim=24, latent_size=8
    ),
    archived_clip_prior=dataclasses.replace(BASE.archived_clip_prior, width=12, latent_size=8),
    motion_codec=dataclasses.replace(BASE.motion_codec, motion_dim=20),
)


@pytest.fixture(scope="module")
def stock():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        block_out_channels=WIDTHS, cross_attention_dim=24, attention_head_dim=4, norm_num_groups=8, sample_size=8
    ).eval()


@pytest.fixture(scope="module")
def motion():
    torch.manual_seed(1)
    model = UNetMotionModel(
        block_out_channels=WIDTHS,
        cross_attention_dim=24,
        num_attention_heads=4,
        norm_num_groups=8,
        use_motion_mid_block=True,
        motion_max_seq_length=32,
    )
    for name, parameter in model.named_parameters():
        if "motion_modules" in name and "proj_out" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def inputs(frames=3):
    torch.manual_seed(2)
    return torch.randn(2, frames, 4, 8, 8), torch.tensor([7.0, 731.0]), torch.randn(2, 5, 24)


def stock_output(model, latents, timestep, text):
    frames = latents.shape[1]
    out = model(latents.flatten(0, 1), timestep.repeat_interleave(frames), text.repeat_interleave(frames, 0)).sample
    return out.unflatten(0, latents.shape[:2])


@torch.no_grad()
def test_stock_weights_give_the_stock_output_with_all_new_layers_at_their_start(stock):
    unet = DenoisingUNet(CONFIG).eval()
    own = load_stable_diffusion(unet, stock.state_dict())
    assert own and all(any(p in k for p in ("archived_", "present_", "temporal")) for k in own)
    latents, timestep, text = inputs()
    f_ac, f_pc = torch.randn(2, 3, 16, 12), torch.randn(2, 3, 24, 20)
    ours, memory = unet(latents, timestep, f_ac, f_pc, text=text)
    torch.testing.assert_close(ours, stock_output(stock, latents, timestep, text), atol=1e-5, rtol=1e-5)
    assert sorted(memory) == sorted(unet.memory_keys) and len(memory) == 16
    again, _ = unet(latents, timestep, f_ac, f_pc, memory=memory, text=text, bypass_temporal=True)
    torch.testing.assert_close(again, ours, atol=1e-5, rtol=1e-5)


def test_loading_names_a_missing_an_unknown_and_a_misshapen_key(stock):
    unet, state = DenoisingUNet(CONFIG), stock.state_dict()
    with pytest.raises(WeightsError, match="conv_in.weight"):
        load_stable_diffusion(unet, {k: v for k, v in state.items() if k != "conv_in.weight"})
    with pytest.raises(WeightsError, match="extra"):
        load_stable_diffusion(unet, {**state, "extra": torch.zeros(1)})
    with pytest.raises(WeightsError, match="conv_out.bias"):
        load_stable_diffusion(unet, {**state, "conv_out.bias": torch.zeros(9)})


def test_motion_modules_fill_layer_4_and_leave_only_the_level_without_attention(motion):
    unet, state = DenoisingUNet(CONFIG), motion.state_dict()
    assert len(motion_module_keys(state)) == 567
    unused = load_motion_modules(unet, state)
    assert {k.split(".motion_modules")[0] for k in unused} == {"down_blocks.3", "up_blocks.0"}
    assert len(unused) == 5 * 27
    loaded = unet.mid_block.attentions[0].transformer_blocks[0].temporal.state_dict()
    for key, value in motion.mid_block.motion_modules[0].state_dict().items():
        assert torch.equal(loaded[key], value)
    incomplete = {k: v for k, v in state.items() if "mid_block" not in k}
    with pytest.raises(WeightsError, match="mid_block"):
        load_motion_modules(unet, incomplete)


def original_name(key):
    swaps = [(".norm1.", ".norms.0."), (".norm2.", ".norms.1."), (".norm3.", ".ff_norm.")]
    swaps += [(".attn1.", ".attention_blocks.0."), (".attn2.", ".attention_blocks.1.")]
    swaps += [(".pos_embed.", ".attention_blocks.0.pos_encoder.")]
    head, index, rest = key.partition(".motion_modules.")[0], key.split(".motion_modules.")[1][0], key.split(".", 4)
    rest = key.split(f".motion_modules.{index}.")[1]
    name = f"{head}.motion_modules.{index}.temporal_transformer.{rest}"
    for new, old in swaps:
        name = name.replace(new, old)
    return name


def test_original_animatediff_names_are_understood(motion):
    state = motion_module_keys(motion.state_dict())
    original = {original_name(k): v for k, v in state.items()}
    original |= {
        k.replace("attention_blocks.0.pos", "attention_blocks.1.pos"): v for k, v in original.items() if ".pos_" in k
    }
    assert any("attention_blocks.1.pos_encoder.pe" in k for k in original)
    back = motion_module_keys(original)
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in state)


@torch.no_grad()
def test_layer_4_without_memory_is_animatediffs_motion_module():
    torch.manual_seed(3)
    theirs = AnimateDiffTransformer3D(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=32,
        norm_num_groups=8,
        attention_bias=False,
        activation_fn="geglu",
        positional_embeddings="sinusoidal",
        num_positional_embeddings=32,
    ).eval()
    ours = MemoryEfficientTemporalAttention(32, 4, norm_groups=8)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 5, 9, 32)
    expected = theirs(x.flatten(0, 1).transpose(1, 2).unflatten(2, (3, 3)), num_frames=5)
    expected = expected.flatten(2).transpose(1, 2).unflatten(0, (2, 5))
    result, memory = ours(None, x)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
    assert memory is None
