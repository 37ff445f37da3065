import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mcdm_core.config import TINY
from mcdm_core.errors import MCDMError
from mcdm_core.models.landmarks import LIDS, LIPS
from mcdm_core.models.vae import TinyAutoencoder
from mcdm_core.schedule import NoiseSchedule
from mcdm_core.training.adversary import Adversary
from mcdm_core.training.denoiser import Denoiser, freeze_for_stage
from mcdm_core.training.unet_batches import augment_archive, sample_batch, sample_timesteps
from mcdm_core.training.unet_data import LatentClips, draw_reference, read_clips
from mcdm_core.training.unet_losses import decoded_cuts, denoiser_losses, picture_loss, region_weights
from mcdm_core.training.unet_validation import validate_denoiser

NARROW = dataclasses.replace(
    TINY,
    clip_frames=4,
    image_size=128,
    vae=dataclasses.replace(TINY.vae, block_channels=(8, 8, 8), blocks_per_level=(1, 1, 1)),
    unet=dataclasses.replace(TINY.unet, block_channels=(8, 16, 16), num_heads=2, norm_groups=4),
    archived_clip_prior=dataclasses.replace(TINY.archived_clip_prior, width=16),
    diffusion=dataclasses.replace(TINY.diffusion, prior_variance_terms=()),
)


def write_shard(path, frames=12, clips=2):
    torch.manual_seed(0)
    base = torch.rand(68, 2) * 0.5 + 0.25
    tensors = {}
    for i in range(clips):
        tensors[f"{i}/frames"] = torch.randint(0, 255, (frames, 128, 128, 3), dtype=torch.uint8)
        tensors[f"{i}/landmarks"] = base + 0.01 * torch.randn(frames, 68, 2)
        tensors[f"{i}/values"] = torch.rand(frames, 16)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(path), metadata={"clips": json.dumps([{}] * clips)})


@pytest.fixture
def data(tmp_path):
    write_shard(tmp_path / "train" / "a.safetensors")
    torch.manual_seed(1)
    return LatentClips(read_clips([tmp_path / "train"], 8, 0), TinyAutoencoder(NARROW), NARROW)


def test_latents_are_computed_once_and_kept_on_disk(data, tmp_path):
    clip = data.clips[0]
    first = data.get("latents", clip, [2, 5])
    direct = data.vae.encode(clip.frames([2, 5])).detach()
    torch.testing.assert_close(first, direct, atol=2e-3, rtol=2e-3)
    assert clip.ready["latents"].sum() == 2
    data.get("guide", clip, [1])
    data.save(tmp_path / "cache.safetensors")
    again = LatentClips(read_clips([tmp_path / "train"], 8, 0), data.vae, NARROW)
    assert again.load(tmp_path / "cache.safetensors")
    assert torch.equal(again.get("latents", again.clips[0], [2, 5]), first)
    other = LatentClips(read_clips([tmp_path / "train"], 8, 0), TinyAutoencoder(NARROW), NARROW)
    assert not other.load(tmp_path / "cache.safetensors")


def test_new_shards_join_and_leave_the_others_references_alone(data, tmp_path):
    before = [clip.reference for clip in data.clips]
    write_shard(tmp_path / "train" / "0.safetensors", clips=1)
    assert data.add_new([tmp_path / "train"], 8, 0) == 1 and data.add_new([tmp_path / "train"], 8, 0) == 0
    assert [clip.reference for clip in data.clips[:2]] == before
    ordered = read_clips([tmp_path / "train"], 8, 0)
    assert [clip.reference for clip in ordered if clip.path.name == "a.safetensors"] == before


def test_a_reference_has_open_eyes():
    values = torch.zeros(50, 16)
    values[:, 6:8] = 1.0
    values[::2, 6:8] = 0.0
    drawn = [draw_reference(values, np.random.default_rng(i)) % 2 for i in range(10)]
    assert sum(drawn) <= 1


def test_no_clips_is_an_error_that_says_what_to_do():
    with pytest.raises(MCDMError, match="shards"):
        LatentClips([], TinyAutoencoder(NARROW), NARROW)


@pytest.mark.parametrize("consecutive", [False, True])
def test_archived_frames_pair_with_target_frames(data, consecutive):
    """With the archive undisturbed, row i is the frame a clip length before target i."""
    frames = 4 if consecutive else 2
    found = 0
    for seed in range(12):
        batch = sample_batch(data, 1, frames, np.random.default_rng(seed), motion=False, consecutive=consecutive)
        clip, indices = batch.sources[0]
        past = data.get("latents", clip, [i - 4 for i in indices])
        found += torch.equal(batch.archive[0], past)
        assert torch.equal(batch.latents[0], data.get("latents", clip, indices))
        assert min(indices) >= 4 and max(indices) < clip.length
        assert batch.guide.shape == (1, frames, 26, 16, 16)
    assert found


def test_own_samples_enter_the_archive_where_they_exist(data):
    clip = data.clips[0]
    data.remember(clip, [3], torch.full((1, 12, 16, 16), 7.0))
    archive = data.archived(clip, [3, 4], own=True)
    assert (archive[0] == 7).all()
    assert torch.equal(archive[1], data.get("latents", clip, [4])[0])
    assert torch.equal(data.archived(clip, [3, 4], own=False), data.get("latents", clip, [3, 4]))


def test_weights_have_mean_one_and_favour_lips_and_lids():
    landmarks = torch.full((1, 1, 68, 2), 0.9)
    landmarks[:, :, LIPS] = 0.3
    landmarks[:, :, LIDS] = 0.6
    weight = region_weights(landmarks, 16)
    torch.testing.assert_close(weight.mean((-2, -1)), torch.ones(1, 1, 1))
    cell = weight[0, 0, 0]
    assert cell[4, 4] > cell[9, 9] > cell[15, 0]


def test_timesteps_regress_at_the_top_and_later_cover_all():
    assert (sample_timesteps(5, 1.0, 999) == 999).all()
    torch.manual_seed(0)
    assert 0.4 < (sample_timesteps(4000, 0.5, 999) == 999).float().mean() < 0.6
    drawn = sample_timesteps(4000, 0.0, 999)
    assert drawn.min() >= 10 and drawn.max() <= 999
    assert 0.5 < (drawn > 870).float().mean() < 0.65 and (drawn < 200).float().mean() > 0.05


def test_augmentation_keeps_shape_and_is_bounded():
    latents = torch.randn(3, 12, 16, 16)
    for seed in range(20):
        result = augment_archive(latents, np.random.default_rng(seed))
        assert result.shape == latents.shape and result.abs().max() < 20


def test_the_decoded_loss_is_zero_for_the_decoder_s_own_pictures():
    """Away from the cut's edge a cut decodes almost as the whole does; a wrong latent does not."""
    vae = TinyAutoencoder(NARROW).eval()
    latents, points = torch.randn(2, 12, 16, 16), torch.full((2, 68, 2), 0.5)
    with torch.no_grad():
        true = vae.decode(latents)
        right, wrong = (picture_loss(*decoded_cuts(vae, x, true, points)) for x in (latents, latents + 1))
    assert right < 0.4 * wrong


@pytest.mark.parametrize("stage", [1, 3])
def test_a_few_steps_lower_the_loss_of_one_batch(data, stage):
    torch.manual_seed(2)
    denoiser, schedule = Denoiser(NARROW), NoiseSchedule(NARROW)
    freeze_for_stage(denoiser, stage, train_backbone=True)
    batch = sample_batch(
        data, 2, 4, np.random.default_rng(0), motion=False, consecutive=stage == 3, pictures=2
    )
    if stage == 3:
        batch.motion = torch.randn(2, 4, 6, 32)
    optimizer = torch.optim.AdamW([p for p in denoiser.parameters() if p.requires_grad], 3e-3)
    history = []
    for _ in range(12):
        torch.manual_seed(3)
        losses, estimate = denoiser_losses(
            denoiser, batch, schedule, torch.tensor([999.0, 500.0]),
            bypass_temporal=stage == 1, vae=data.vae, decode_weight=0.1,
        )  # fmt: skip
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        history.append(float(losses["mse"].detach()))
    assert estimate.shape == batch.latents.shape and history[-1] < 0.9 * history[0]


def test_validation_compares_with_the_warp_alone_and_draws_a_sheet(data, tmp_path):
    numbers = validate_denoiser(
        Denoiser(NARROW), data, NoiseSchedule(NARROW), bypass_temporal=False, motion=False,
        picture=tmp_path / "sheet.png", steps=(2, 1), num_clips=2,
    )  # fmt: skip
    wanted = {"warp", "psnr_2", "psnr_1", *(f"{place}_{n}" for place in ("mouth", "eyes") for n in ("warp", 2, 1))}
    assert set(numbers) == wanted
    assert all(np.isfinite(v) for v in numbers.values()) and (tmp_path / "sheet.png").stat().st_size > 1000


def test_stills_without_an_archive_join_stage_1(tmp_path):
    """A clip shorter than two of the model's has any of its frames as targets and the reference as archive."""
    write_shard(tmp_path / "stills" / "a.safetensors", frames=6, clips=1)
    torch.manual_seed(1)
    data = LatentClips(read_clips([tmp_path / "stills"], 2, 0), TinyAutoencoder(NARROW), NARROW)
    for seed in range(6):
        batch = sample_batch(data, 1, 2, np.random.default_rng(seed), motion=False, consecutive=False, every=4)
        reference = data.reference(batch.sources[0][0])
        assert torch.equal(batch.archive[0], reference.expand(2, -1, -1, -1))


def test_folders_are_drawn_by_their_shares(tmp_path):
    write_shard(tmp_path / "a" / "a.safetensors", clips=8)
    write_shard(tmp_path / "b" / "b.safetensors", clips=1)
    clips = read_clips([tmp_path / "a", tmp_path / "b"], 8, 0)
    data = LatentClips(clips, TinyAutoencoder(NARROW), NARROW, shares=(1.0, 3.0))
    random = np.random.default_rng(0)
    drawn = [data.draw(random).group for _ in range(200)]
    assert 0.65 < np.mean(drawn) < 0.85


def test_refinement_starts_from_the_model_s_own_estimate(data):
    """An untrained denoiser's estimate is the warped reference: refined inputs lie at it, the others at the truth."""
    denoiser, schedule = Denoiser(NARROW), NoiseSchedule(NARROW)
    batch = sample_batch(data, 2, 2, np.random.default_rng(0), motion=False, consecutive=False)
    seen = []
    forward = denoiser.unet.forward
    denoiser.unet.forward = lambda x, *args, **kwargs: seen.append(x) or forward(x, *args, **kwargs)
    losses, _ = denoiser_losses(
        denoiser, batch, schedule, torch.tensor([20.0, 20.0]), bypass_temporal=True, refined=torch.tensor([True, False])
    )
    warped = schedule.prior_mean(batch.guide)
    noisy = seen[-1]
    assert (noisy[0] - warped[0]).abs().mean() < 0.1 and (noisy[1] - batch.latents[1]).abs().mean() < 0.1
    assert torch.isfinite(losses["loss"])


def test_the_critic_learns_to_tell_and_rewards_the_truth():
    torch.manual_seed(0)
    adversary = Adversary(learning_rate=2e-3)
    true, blurred = torch.randn(8, 3, 48, 48).clamp(-1, 1), torch.zeros(8, 3, 48, 48)
    first = float(adversary.teach(blurred, true))
    for _ in range(30):
        last = float(adversary.teach(blurred, true))
    assert last < 0.7 * first
    assert adversary.reward(true, true) < adversary.reward(blurred, true)
    assert all(parameter.requires_grad for parameter in adversary.critic.parameters())


def test_some_references_have_an_open_mouth():
    values = torch.zeros(50, 16)
    values[::2, 0] = 1.0
    drawn = [draw_reference(values, np.random.default_rng(i), open_mouth=True) % 2 for i in range(10)]
    assert sum(drawn) <= 1
