import dataclasses

import pytest
import torch

from mcdm_core.errors import MCDMError
from mcdm_core.models.archived_clip_prior import ArchivedClipPrior

from ..whole_crop import WHOLE_CROP

CONFIG = dataclasses.replace(
    WHOLE_CROP, archived_clip_prior=dataclasses.replace(WHOLE_CROP.archived_clip_prior, width=24, num_queries=5)
)


@pytest.fixture
def prior():
    torch.manual_seed(0)
    return ArchivedClipPrior(CONFIG)


def latents(*shape):
    return torch.randn(*shape, 12, 16, 16)


def literal(prior, reference, archive):
    """Section 3.2 frame by frame, projecting all m patches, as the paper writes it."""
    frames = []
    for i in range(archive.shape[1]):
        patches = prior.reference_patches(reference).flatten(2).transpose(1, 2) + prior.positions
        key = prior.to_k(patches)
        value = prior.to_v(prior.archive_patches(archive[:, i]).flatten(2).transpose(1, 2) + prior.positions)
        weights = torch.softmax(prior.queries @ key.transpose(1, 2) / key.shape[-1] ** 0.5, dim=-1)
        frames.append(prior.to_out(prior.norm_out(weights @ value)))
    return torch.stack(frames, 1)


@torch.no_grad()
def test_equals_the_paper_s_formula_frame_by_frame(prior):
    reference, archive = latents(2), latents(2, 4)
    result = prior(prior.reference_attention(reference), archive)
    assert result.shape == (2, 4, 5, 24)
    torch.testing.assert_close(result, literal(prior, reference, archive), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_map_is_a_distribution_and_belongs_to_the_reference_alone(prior):
    attention = prior.reference_attention(latents(3))
    assert attention.shape == (3, 5, 64)
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, 5))
    assert (attention >= 0).all()


@torch.no_grad()
def test_a_row_depends_on_its_own_frame_only_and_can_be_computed_when_the_frame_enters(prior):
    reference, archive = latents(1), latents(1, 3)
    attention = prior.reference_attention(reference)
    together = prior(attention, archive)
    one_by_one = torch.cat([prior(attention, archive[:, i : i + 1]) for i in range(3)], 1)
    torch.testing.assert_close(together, one_by_one, atol=1e-5, rtol=1e-4)
    changed = archive.clone()
    changed[:, 1] += 1
    moved = (prior(attention, changed) - together).abs().amax((0, 2, 3))
    assert moved[1] > 1e-3 and moved[0] == 0 and moved[2] == 0


@torch.no_grad()
def test_the_reference_repeated_gives_equal_rows(prior):
    reference = latents(2)
    rows = prior(prior.reference_attention(reference), reference[:, None].expand(-1, 4, -1, -1, -1))
    torch.testing.assert_close(rows, rows[:, :1].expand_as(rows), atol=1e-6, rtol=1e-5)


def test_latents_of_another_size_are_refused(prior):
    with pytest.raises(MCDMError, match="reference"):
        prior.reference_attention(torch.randn(1, 12, 8, 8))
    with pytest.raises(MCDMError, match="archive"):
        prior(torch.rand(1, 5, 64), torch.randn(1, 2, 4, 16, 16))


def test_patches_must_tile_the_latents():
    odd = dataclasses.replace(WHOLE_CROP.archived_clip_prior, patch_size=3)
    bad = dataclasses.replace(WHOLE_CROP, archived_clip_prior=odd)
    with pytest.raises(MCDMError, match="patch_size"):
        ArchivedClipPrior(bad)
