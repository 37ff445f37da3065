"""The codec as a reader of painted mouths."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mcdm_core.config import TINY
from mcdm_core.face.parts import apply, cut, inverse, reference_squares
from mcdm_core.media.portrait import load_portrait
from mcdm_core.models.motion_codec import mouth_crop
from mcdm_core.pipeline import MCDMPipeline, preset_weights
from mcdm_core.samples import default_portrait
from mcdm_core.training.parts.lip_reading import LipReading
from mcdm_core.training.photographs.moved_portraits import FaceChange, move_portraits
from mcdm_core.training.prior.train import load_codec

WEIGHTS = preset_weights("tiny")
pytestmark = pytest.mark.skipif(not WEIGHTS.is_file(), reason="the tiny weights are not installed")
SIZE = 96


NARROW = FaceChange(gap=torch.ones(1), width=torch.full((1,), 0.8), lids=torch.ones(1))


@pytest.fixture(scope="module")
def reading() -> LipReading:
    return LipReading(load_codec(WEIGHTS, TINY))


@pytest.fixture(scope="module")
def face() -> tuple[Tensor, Tensor]:
    """Face crop ``[1, 3, s, s]`` in [-1, 1] and landmarks ``[1, 68, 2]`` of the sample portrait."""
    reference = MCDMPipeline.from_preset("tiny").encode_reference(load_portrait(default_portrait()))
    return reference.crop[None] * 2 - 1, reference.landmarks[None]


@pytest.fixture(scope="module")
def mouths(face: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The mouth's part as it is, and with lips drawn in."""
    squares = reference_squares(face[1])
    return tuple(cut(x, squares[:, 0], SIZE) for x in (face[0], move_portraits(*face, NARROW)[0]))


def test_a_part_shows_what_the_codec_reads_of_a_whole_face(face: tuple[Tensor, Tensor]) -> None:
    squares = reference_squares(face[1])
    part, places = cut(face[0], squares[:, 0], SIZE), apply(inverse(squares[:, 0]), face[1])
    # The part is drawn anew, which blurs.
    assert (mouth_crop(part, places) - mouth_crop(*face))[..., 6:-6, 6:-6].abs().mean() < 0.03


def test_other_lips_are_further_away_than_the_same_ones_in_other_light(
    face: tuple[Tensor, Tensor], mouths: tuple[Tensor, Tensor], reading: LipReading
) -> None:
    true, other = mouths
    squares = reference_squares(face[1])
    assert float(reading(true, true, squares, face[1])) == 0.0
    darker = true - (other - true).abs().mean()
    distances = [float(reading(x, true, squares, face[1])) for x in (darker, other)]
    assert distances[1] > 5 * distances[0], distances


def test_its_gradient_leads_to_the_true_lips(
    face: tuple[Tensor, Tensor], mouths: tuple[Tensor, Tensor], reading: LipReading
) -> None:
    true, painted = mouths[0], mouths[1].clone().requires_grad_()
    squares, optimizer = reference_squares(face[1]), torch.optim.Adam([painted], 5e-3)
    distances = []
    for _ in range(20):
        distance = reading(painted, true, squares, face[1])
        optimizer.zero_grad()
        distance.backward()
        optimizer.step()
        distances.append(distance.item())
    assert distances[-1] < 0.3 * distances[0]
    assert not any(x.requires_grad for x in reading.parameters())
