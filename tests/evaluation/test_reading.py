"""The measurement of the reading: exact where the error is known."""

import numpy as np
import pytest
import torch

from mcdm_core.evaluation.reading import predictor_openings, reading_scores, slope
from mcdm_core.face.landmarks import INNER_LIP_PAIRS, LIP_CORNERS, lip_opening
from mcdm_core.face.reading.face_mesh import FaceOpenings


@pytest.fixture
def labels() -> torch.Tensor:
    """Twenty faces, five with closed lips, the others more and more open."""
    torch.manual_seed(0)
    points = (torch.rand(1, 68, 2) * 0.1 + 0.45).repeat(20, 1, 1)
    points[:, [20, 24]] = torch.tensor([[0.30, 0.4], [0.40, 0.4]])
    points[:, [28, 32]] = torch.tensor([[0.70, 0.4], [0.60, 0.4]])
    gaps = torch.cat([torch.zeros(5), torch.linspace(0.02, 0.06, 15)])
    for upper, lower in INNER_LIP_PAIRS:
        points[:, lower] = points[:, upper]
        points[:, lower, 1] += gaps
    return points


def test_a_perfect_reading_scores_perfectly(labels) -> None:
    openings = FaceOpenings(lip_opening(labels).numpy(), np.random.default_rng(0).uniform(0, 1, 20))
    scores = reading_scores(labels, labels, openings)
    assert scores["lips"] == scores["closed_corners"] == scores["closed_inner"] == 0
    assert scores["closed_mouths"] == 5 and scores["closed_gap"] == pytest.approx(0, abs=1e-6)
    assert scores["lip_r"] == scores["independent_lip_r"] == pytest.approx(1)
    assert scores["lip_slope"] == scores["independent_lip_slope"] == pytest.approx(1)


def test_errors_are_told_in_pixels_and_a_narrow_range_by_its_slope(labels) -> None:
    read = labels.clone()
    for upper, lower in INNER_LIP_PAIRS:
        read[:, lower, 1] = labels[:, upper, 1] + 0.7 * (labels[:, lower, 1] - labels[:, upper, 1]) + 0.009
    read[:, list(LIP_CORNERS), 0] += 2 / 128
    scores = reading_scores(read, labels)
    assert scores["corners"] == pytest.approx(2, abs=1e-3) == scores["closed_corners"]
    assert scores["lip_slope"] == pytest.approx(0.7, abs=0.01) and scores["lip_r"] == pytest.approx(1, abs=1e-3)
    assert scores["closed_gap"] == pytest.approx(0.009 / 0.3, abs=1e-3)
    assert scores["closed_inner"] == pytest.approx(0.009 * 128 * 3 / 8, abs=0.02)
    assert "independent_lip_r" not in scores


def test_lips_that_slide_along_themselves_are_off_but_not_apart(labels) -> None:
    read = labels.clone()
    read[:, 12:20, 0] += 3 / 128
    scores = reading_scores(read, labels)
    assert scores["closed_inner"] == pytest.approx(3, abs=1e-3) and scores["closed_inner_vertical"] == 0


def test_openings_of_the_68_points_and_frames_without_a_face() -> None:
    points = np.zeros((2, 68, 2))
    points[0, [36, 39], 0], points[0, [42, 45], 0] = (-11, -9), (9, 11)
    points[0, [65, 66, 67], 1] = 4
    points[0, [40, 41, 46, 47], 1] = 2
    points[1] = np.nan
    openings = predictor_openings(points)
    assert openings.lips[0] == pytest.approx(0.2) and openings.lids[0] == pytest.approx(0.1)
    assert openings.found == 0.5


def test_slope_passes_over_what_is_unknown() -> None:
    true = np.array([0.0, 0.1, np.nan, 0.2])
    assert slope(np.array([0.0, 0.05, 9.0, 0.1]), true) == pytest.approx(0.5)
    assert np.isnan(slope(true, np.ones(4)))
