import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mcdm_core.diffusion.frame_diffusion import FrameDiffusion
from mcdm_core.errors import MCDMError
from mcdm_core.face.landmarks import LIDS, LIPS, mirror_landmarks
from mcdm_core.models.vae import TinyAutoencoder
from mcdm_core.training.adversary import Adversary
from mcdm_core.training.clip_frames import ClipFrames, draw_reference
from mcdm_core.training.unet.batches import augment_archive, sample_batch, sample_timesteps
from mcdm_core.training.unet.data import LatentClips, RowCache
from mcdm_core.training.unet.denoiser import Denoiser, freeze_for_stage
from mcdm_core.training.unet.losses import _cut, decoded_cuts, denoiser_losses, picture_loss, region_weights
from mcdm_core.training.unet.train import STAGE_1, STAGE_3, DenoiserObjective
from mcdm_core.training.unet.validation import validate_denoiser

from ..whole_crop import WHOLE_CROP

NARROW = dataclasses.replace(
    WHOLE_CROP,
    clip_frames=4,
    image_size=128,
    vae=dataclasses.replace(WHOLE_CROP.vae, block_channels=(8, 8, 8), blocks_per_level=(1, 1, 1)),
    unet=dataclasses.replace(WHOLE_CROP.unet, block_channels=(8, 16, 16), num_heads=2, norm_groups=4),
    archived_clip_prior=dataclasses.replace(WHOLE_CROP.archived_clip_prior, width=16),
    diffusion=dataclasses.replace(WHOLE_CROP.diffusion, prior_variance_terms=()),
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


def latent_clips(*folders, minimum=8, shares=None, **settings):
    torch.manual_seed(1)
    return LatentClips(ClipFrames(folders, minimum, **settings), TinyAutoencoder(NARROW), NARROW, shares=shares)


@pytest.fixture
def data(tmp_path):
    write_shard(tmp_path / "train" / "a.safetensors")
    return latent_clips(tmp_path / "train")


def test_latents_are_computed_once(data):
    rows = np.array([2, 5, 2])
    first = data.latents(rows)
    direct = data.vae.encode(data.frames.pictures(rows)).detach()
    torch.testing.assert_close(first, direct, atol=2e-3, rtol=2e-3)
    data._latents.compute = None  # what is known is not computed again
    assert torch.equal(data.latents(rows.reshape(3, 1))[:, 0], first)


def test_a_filled_cache_holds_every_row_and_computes_in_batches_of_one_size():
    sizes = []

    def square(rows):
        sizes.append(len(rows))
        return torch.from_numpy(rows)[:, None].float() ** 2

    cache = RowCache(10, square, batch=4)
    cache.fill()
    assert sizes == [4, 4, 4] and cache.ready.all()
    assert torch.equal(cache.get(np.array([[9, 0], [3, 3]]))[..., 0], torch.tensor([[81.0, 0.0], [9.0, 9.0]]))
    assert len(sizes) == 3


def test_guides_are_kept_where_clips_have_one_reference_and_the_same_where_not(data, tmp_path):
    rows = np.array([[3, 4], [15, 17]])
    kept = data.guide(rows, data.frames.references[[0, 1], 0])
    several = latent_clips(tmp_path / "train", references=3)
    several.vae.load_state_dict(data.vae.state_dict())
    for clip in (0, 1):
        again = several.guide(rows, data.frames.references[[0, 1], 0])
        torch.testing.assert_close(again[clip], kept[clip], atol=3e-3, rtol=3e-3)


def test_a_mirrored_clip_is_the_clip_in_a_mirror_in_other_colours(tmp_path):
    write_shard(tmp_path / "train" / "a.safetensors")
    frames = ClipFrames([tmp_path / "train"], 8, mirrored=True)
    assert len(frames) == 4 and frames.rows == 48 and len(frames.stored) == 24
    rows = np.array([3, 20, 27, 44])  # 27 and 44 are 3 and 20 again
    pictures, points = frames.pictures(rows), frames.points(rows)
    torch.testing.assert_close(points[2:], mirror_landmarks(points[:2]))
    for plain, other in ((0, 2), (1, 3)):
        flipped = pictures[plain].flip(-1)
        for channel in range(3):
            inner = pictures[other][channel].abs() < 0.99
            x, y = flipped[channel][inner], pictures[other][channel][inner]
            slope = ((x - x.mean()) * (y - y.mean())).mean() / x.var(unbiased=False)
            torch.testing.assert_close(slope * (x - x.mean()) + y.mean(), y, atol=1e-4, rtol=1e-4)
            assert 0.6 < slope < 1.4
    assert (frames.references[2:] == frames.references[:2] + 24).all()


def test_a_reference_has_open_eyes():
    values = torch.zeros(50, 16)
    values[:, 6:8] = 1.0
    values[::2, 6:8] = 0.0
    drawn = [draw_reference(values, np.random.default_rng(i)) % 2 for i in range(10)]
    assert sum(drawn) <= 1


def test_no_clips_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(MCDMError, match="shards"):
        ClipFrames([tmp_path], 8)


@pytest.mark.parametrize("consecutive", [False, True])
def test_archived_frames_pair_with_target_frames(data, monkeypatch, consecutive):
    """Undisturbed, row i of the archive is the frame a clip length before target i, or the reference."""
    monkeypatch.setattr("mcdm_core.training.unet.batches.augment_archive", lambda latents: latents)
    frames, found = 4 if consecutive else 2, 0
    for seed in range(12):
        batch = sample_batch(data, 3, frames, np.random.default_rng(seed), motion=False, consecutive=consecutive)
        assert batch.guide.shape == (3, frames, 26, 16, 16)
        assert torch.equal(batch.latents, data.latents(batch.rows))
        for clip in range(3):
            numbers = batch.rows[clip] % 12
            assert numbers.min() >= 4 and len(set(numbers)) == frames
            repeated = torch.equal(batch.archive[clip], batch.reference[clip].expand(frames, -1, -1, -1))
            assert repeated or torch.equal(batch.archive[clip], data.latents(batch.rows[clip] - 4))
            found += repeated
    assert 2 <= found <= 20


def test_own_samples_enter_the_archive_where_they_exist(data):
    data.remember(np.array([[3], [15]]), torch.full((2, 1, 12, 16, 16), 7.0), torch.tensor([True, False]))
    rows = np.array([[3, 4], [15, 16]])
    archive = data.archived(rows, torch.tensor([True, True]))
    assert (archive[0, 0] == 7).all()
    assert torch.equal(archive[0, 1], data.latents(np.array([4]))[0])
    assert torch.equal(archive[1], data.latents(rows[1]))
    assert torch.equal(data.archived(rows, torch.tensor([False, False])), data.latents(rows))


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
    torch.manual_seed(0)
    latents = torch.randn(40, 3, 12, 16, 16)
    result = augment_archive(latents)
    assert result.shape == latents.shape and result.abs().max() < 20
    same = (result == latents).flatten(1).all(1).float().mean()
    assert 0.1 < same < 0.45  # 0.6 * 0.7 * 0.7 * (0.8 + 0.2 / 9) of the clips


def test_a_shifted_archive_is_rolled(monkeypatch):
    torch.manual_seed(0)
    latents = torch.randn(60, 1, 2, 5, 5)
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, 0.15))
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.zeros(shape))
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    monkeypatch.setattr("mcdm_core.training.unet.batches.functional.avg_pool2d", lambda x, *_: x[..., 1:-1, 1:-1])
    for clip, result in zip(latents, augment_archive(latents), strict=True):
        rolled = [clip.roll((dy, dx), (2, 3)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        assert any(torch.allclose(result, other) for other in rolled)


def test_cuts_equal_slices():
    pictures = torch.randn(4, 3, 10, 12)
    corners = torch.tensor([[0, 0], [3, 1], [6, 4], [2, 2]])
    for picture, (x, y), cut in zip(pictures, corners.tolist(), _cut(pictures, corners, 6), strict=True):
        assert torch.equal(cut, picture[:, y : y + 6, x : x + 6])


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
    denoiser, diffusion = Denoiser(NARROW), FrameDiffusion(NARROW)
    freeze_for_stage(denoiser, stage, train_backbone=True)
    batch = sample_batch(data, 2, 4, np.random.default_rng(0), motion=False, consecutive=stage == 3, pictures=2)
    if stage == 3:
        batch.motion = torch.randn(2, 4, 6, 32)
    optimizer = torch.optim.AdamW([p for p in denoiser.parameters() if p.requires_grad], 3e-3)
    history = []
    for _ in range(12):
        torch.manual_seed(3)
        losses, estimate = denoiser_losses(
            denoiser,
            batch,
            diffusion,
            torch.tensor([999.0, 500.0]),
            bypass_temporal=stage == 1,
            vae=data.vae,
            decode_weight=0.1,
        )
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        history.append(float(losses["mse"].detach()))
    assert estimate.shape == batch.latents.shape and history[-1] < 0.9 * history[0]


def test_validation_compares_with_the_warp_alone_and_draws_a_sheet(data, tmp_path):
    numbers = validate_denoiser(
        Denoiser(NARROW),
        data,
        FrameDiffusion(NARROW),
        bypass_temporal=False,
        motion=False,
        picture=tmp_path / "sheet.png",
        steps=(2, 1),
        num_clips=2,
    )
    kinds = ("warp", 2, 1, "finished")
    wanted = {"warp", "psnr_2", "psnr_1", "finished", *(f"{p}_{n}" for p in ("mouth", "eyes") for n in kinds)}
    assert set(numbers) == wanted
    assert all(np.isfinite(v) for v in numbers.values()) and (tmp_path / "sheet.png").stat().st_size > 1000


def test_stills_without_an_archive_join_stage_1(tmp_path):
    """A clip shorter than two of the model's has any of its frames as targets and the reference as archive."""
    write_shard(tmp_path / "stills" / "a.safetensors", frames=6, clips=1)
    data = latent_clips(tmp_path / "stills", minimum=2)
    for seed in range(6):
        batch = sample_batch(data, 1, 2, np.random.default_rng(seed), motion=False, consecutive=False, every=4)
        assert torch.equal(batch.archive[0], batch.reference[0].expand(2, -1, -1, -1))


def test_folders_are_drawn_by_their_shares(tmp_path):
    write_shard(tmp_path / "a" / "a.safetensors", clips=8)
    write_shard(tmp_path / "b" / "b.safetensors", clips=1)
    data = latent_clips(tmp_path / "a", tmp_path / "b", shares=(1.0, 3.0))
    drawn = data.frames.group[data.draw(400, np.random.default_rng(0))]
    assert 0.68 < np.mean(drawn) < 0.82


def test_refinement_starts_from_the_model_s_own_estimate(data):
    """An untrained denoiser's estimate is the warped reference: refined inputs lie at it, the others at the truth."""
    denoiser, diffusion = Denoiser(NARROW), FrameDiffusion(NARROW)
    batch = sample_batch(data, 2, 2, np.random.default_rng(0), motion=False, consecutive=False)
    seen = []
    forward = denoiser.unet.forward
    denoiser.unet.forward = lambda x, *args, **kwargs: seen.append(x) or forward(x, *args, **kwargs)
    losses, _ = denoiser_losses(
        denoiser, batch, diffusion, torch.tensor([20.0, 20.0]), bypass_temporal=True, refined=torch.tensor([0])
    )
    warped = diffusion.prior_mean(batch.guide)
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


@pytest.mark.parametrize(("stage", "recipe"), [(1, STAGE_1), (3, STAGE_3)])
def test_an_objective_gives_losses_of_every_kind_and_fills_the_archive(data, monkeypatch, stage, recipe):
    torch.manual_seed(0)
    recipe = dataclasses.replace(recipe, clips=3, frames=2, decode_frames=1, regression_steps=0, refine_share=0.5)
    monkeypatch.setattr(data, "motion", lambda rows: torch.randn(*rows.shape, 6, 32))
    denoiser = Denoiser(NARROW)
    freeze_for_stage(denoiser, stage, train_backbone=True)
    objective = DenoiserObjective(denoiser, data, stage, recipe, bfloat16=False)
    for step in range(3):
        parts = objective(step)
        parts["loss"].backward()
    assert set(parts) == {"loss", "mse", "decoded", "critic", "reward"}
    assert all(torch.isfinite(value) for value in parts.values()) and data._made.any()
