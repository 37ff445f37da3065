import dataclasses

import pytest
import torch

from mcdm_core.errors import MCDMError
from mcdm_core.models.transformer_block import MCDMTransformerBlock
from mcdm_core.models.unet import DenoisingUNet
from mcdm_core.training.unet.denoiser import Denoiser, freeze_for_stage

from ..whole_crop import WHOLE_CROP

NARROW = dataclasses.replace(
    WHOLE_CROP,
    clip_frames=4,
    unet=dataclasses.replace(WHOLE_CROP.unet, block_channels=(16, 24, 32), num_heads=4, latent_size=8),
    archived_clip_prior=dataclasses.replace(WHOLE_CROP.archived_clip_prior, width=16, latent_size=8),
)


def randomised(module, seed=0):
    """Layers that start at zero would hide what a test looks for."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5 / parameter[0].numel() ** 0.5)
    return module.eval()


def inputs(b=1, f=4, seed=1):
    torch.manual_seed(seed)
    return (
        torch.randn(b, f, 12, 8, 8),
        torch.full((b,), 400.0),
        torch.randn(b, f, 16, 16),
        torch.randn(b, f, 6, 32),
        torch.randn(b, f, 26, 8, 8),
    )


@torch.no_grad()
def test_the_block_follows_the_paper_s_order():
    block = randomised(
        MCDMTransformerBlock(16, 2, 8, 12, temporal={"length": 8, "norm_groups": 4, "motion_module": False})
    )
    x, f_ac, f_pc = torch.randn(4, 9, 16), torch.randn(4, 5, 8), torch.randn(4, 3, 12)
    y = x + block.attn1(block.norm1(x))
    f_ac_ref = y + block.archived_attn(block.archived_norm(y), f_ac)
    f_pc_ref = y + block.present_attn(block.present_norm(y), f_pc)
    z, memory = block.temporal(f_ac_ref[None], f_pc_ref[None])
    expected = z[0] + block.ff(block.norm3(z[0]))
    result, new = block(x, 4, f_ac, f_pc)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(new, memory)
    bypassed, none = block(x, 4, f_ac, f_pc, bypass_temporal=True)
    z = f_ac_ref + f_pc_ref - y
    torch.testing.assert_close(bypassed, z + block.ff(block.norm3(z)), atol=1e-5, rtol=1e-5)
    assert none is None


def test_the_archive_reaches_the_output_through_layer_4_only():
    block = randomised(
        MCDMTransformerBlock(16, 2, 8, 12, temporal={"length": 8, "norm_groups": 4, "motion_module": False})
    )
    torch.nn.init.zeros_(block.temporal.proj_out.weight)
    x, f_pc = torch.randn(4, 9, 16), torch.randn(4, 3, 12)
    f_ac = torch.randn(4, 5, 8, requires_grad=True)
    block(x, 4, f_ac, f_pc)[0].sum().backward()
    assert not f_ac.grad.any()
    f_ac.grad = None
    block(x, 4, f_ac, f_pc, bypass_temporal=True)[0].sum().backward()
    assert f_ac.grad.any()


@torch.no_grad()
def test_a_frame_reads_its_own_archived_frame_and_its_own_motion():
    """Section 3: latent frame j attends to the tokens of archived frame j and to its own motion tokens."""
    block = randomised(
        MCDMTransformerBlock(16, 2, 8, 12, temporal={"length": 8, "norm_groups": 4, "motion_module": False})
    )
    x, f_ac, f_pc = torch.randn(4, 9, 16), torch.randn(4, 5, 8), torch.randn(4, 3, 12)
    before = block(x, 4, f_ac, f_pc, bypass_temporal=True)[0]
    for tokens in (f_ac, f_pc):
        tokens[2] += 1
        after = block(x, 4, f_ac, f_pc, bypass_temporal=True)[0]
        changed = (after - before).abs().amax((1, 2)) > 1e-4
        assert changed.tolist() == [False, False, True, False]
        before = after


@torch.no_grad()
def test_tiny_has_the_planned_size_and_shape():
    unet = DenoisingUNet(WHOLE_CROP)
    assert 6.5e6 < sum(p.numel() for p in unet.parameters()) < 8.5e6
    guide, latents = torch.randn(1, 2, 26, 16, 16), torch.randn(1, 2, 12, 16, 16)
    out, memory = unet(latents, torch.tensor(3.5), torch.randn(1, 2, 16, 128), torch.randn(1, 2, 6, 32), guide=guide)
    assert out.shape == latents.shape and not out.any()
    sizes = [tuple(m.shape) for m in memory.values()]
    assert sizes == [(1, 64, 128), (1, 16, 192), (1, 16, 192), (1, 64, 128)]


@torch.no_grad()
def test_the_memory_changes_the_next_clip_and_keeps_its_size():
    unet = randomised(DenoisingUNet(NARROW))
    x, t, f_ac, f_pc, guide = inputs()
    _first, memory = unet(x, t, f_ac, f_pc, guide=guide)
    second, after = unet(x, t, 2 * f_ac, f_pc, memory, guide)
    fresh, _ = unet(x, t, 2 * f_ac, f_pc, None, guide)
    assert (second - fresh).abs().max() > 1e-5
    assert {k: v.shape for k, v in memory.items()} == {k: v.shape for k, v in after.items()}
    assert list(memory) == unet.memory_keys


@torch.no_grad()
def test_clips_of_a_batch_do_not_see_each_other():
    unet = randomised(DenoisingUNet(NARROW))
    x, t, f_ac, f_pc, guide = inputs(b=2)
    both, _ = unet(x, t, f_ac, f_pc, guide=guide)
    alone, _ = unet(x[1:], t[1:], f_ac[1:], f_pc[1:], guide=guide[1:])
    torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_frames_see_each_other_through_layer_4_only():
    unet = randomised(DenoisingUNet(NARROW))
    x, t, f_ac, f_pc, guide = inputs()
    other = x.clone()
    other[:, 3] += 1
    with_time = unet(other, t, f_ac, f_pc, guide=guide)[0] - unet(x, t, f_ac, f_pc, guide=guide)[0]
    assert with_time[:, 0].abs().max() > 1e-5
    a, b = (unet(v, t, f_ac, f_pc, guide=guide, bypass_temporal=True)[0] for v in (other, x))
    torch.testing.assert_close(a[:, :3], b[:, :3], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_favor_switches_without_new_weights():
    unet = randomised(DenoisingUNet(NARROW))
    args = inputs()
    exact = unet(*args[:4], guide=args[4])[0]
    unet.set_temporal_attention("favor")
    favor = unet(*args[:4], guide=args[4])[0]
    assert torch.isfinite(favor).all() and 0 < (favor - exact).abs().max() < exact.abs().max()
    with pytest.raises(MCDMError, match="unknown"):
        unet.set_temporal_attention("flash")


def test_a_missing_guide_and_foreign_latents_are_refused():
    unet = DenoisingUNet(NARROW)
    x, t, f_ac, f_pc, guide = inputs()
    with pytest.raises(MCDMError, match="guide"):
        unet(x, t, f_ac, f_pc)
    with pytest.raises(MCDMError, match="Latents"):
        unet(x[:, :, :4], t, f_ac, f_pc, guide=guide)


def test_without_the_warped_reference_the_same_network_runs_without_a_guide():
    config = dataclasses.replace(NARROW, unet=dataclasses.replace(NARROW.unet, warped_reference=False))
    x, t, f_ac, f_pc, _ = inputs()
    unet = DenoisingUNet(config)
    assert unet.conv_in.in_channels == 12
    assert unet(x, t, f_ac, f_pc)[0].shape == x.shape


def test_the_stages_freeze_what_the_paper_freezes():
    denoiser = Denoiser(NARROW)
    first = freeze_for_stage(denoiser, 1, train_backbone=False)
    assert first and all(n.startswith("archived_clip_prior.") or ".archived_" in n for n in first)
    third = freeze_for_stage(denoiser, 3, train_backbone=False)
    parts = (".present_attn.", ".present_norm.", ".temporal.", "motion_tokens", "motion_embedding")
    assert third and all(any(p in n for p in parts) for n in third)
    assert not set(first) & set(third)
    everything = {n for n, _ in denoiser.named_parameters()}
    assert set(freeze_for_stage(denoiser, 1, train_backbone=True)) == everything - set(third)
    with pytest.raises(MCDMError, match="stage 2"):
        freeze_for_stage(denoiser, 2, train_backbone=False)
