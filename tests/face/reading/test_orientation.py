"""Pictures on their side are named with the turn they need; upright ones are left alone."""

from __future__ import annotations

import pytest
import torch

from mcdm_core.errors import FaceNotFoundError
from mcdm_core.face.reading.orientation import quarter_turns, turned_place
from mcdm_core.media.portrait import load_portrait
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.samples import FOLDER

ADVICE = {1: "by 90 degrees clockwise", 2: "by 180 degrees", 3: "by 90 degrees counterclockwise"}


@pytest.fixture(scope="module")
def shipped() -> MCDMPipeline:
    """The shipped weights."""
    return MCDMPipeline.from_preset("tiny")


@pytest.fixture(scope="module")
def astronaut() -> torch.Tensor:
    """A photograph, upright."""
    return load_portrait(FOLDER / "astronaut.jpg", 256)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_photograph_that_lies_is_refused_with_the_turn_it_needs(shipped, astronaut, turns: int) -> None:
    lying = torch.rot90(astronaut, turns, (1, 2))
    with pytest.raises(FaceNotFoundError, match=ADVICE[turns]):
        shipped.encode_reference(lying)
    try:
        assert [ADVICE[turns] in str(finding) for finding in shipped.check_portrait(lying)] == [True]
    except FaceNotFoundError as error:
        assert ADVICE[turns] in str(error)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_the_check_names_the_turn_where_the_box_is_given(shipped, astronaut, turns: int) -> None:
    left, top, right, bottom = shipped.detect_faces(astronaut)[0]
    lying = torch.rot90(astronaut, turns, (1, 2))
    height, width = astronaut.shape[1:]
    corners = [turned_place(corner, width, height, 4 - turns) for corner in ((left, top), (right, bottom))]
    (xs, ys) = zip(*corners, strict=True)
    (finding,) = shipped.check_portrait(lying, box=(min(xs), min(ys), max(xs), max(ys)))
    assert finding.kind == "lying" and ADVICE[turns] in finding.advice
    shipped.encode_reference(lying, box=(min(xs), min(ys), max(xs), max(ys)))  # whoever gives a box, has it


def test_upright_portraits_and_pictures_without_a_face_are_not_misjudged(shipped, astronaut) -> None:
    for portrait in (astronaut, load_portrait(FOLDER / "portrait.png")):
        assert all(finding.kind != "lying" for finding in shipped.check_portrait(portrait))
    network, noise = shipped.model.face_network, torch.rand(3, 160, 160, generator=torch.Generator().manual_seed(0))
    assert quarter_turns(network, noise * 2 - 1, 0.0) == 0
    assert quarter_turns(network, torch.linspace(-1, 1, 160).expand(3, 160, 160), 0.0) == 0


def test_the_upright_picture_itself_would_win_against_its_turned_ones(shipped, astronaut) -> None:
    network, picture = shipped.model.face_network, astronaut * 2 - 1
    score = max(face.score for face in network.detect(picture))
    assert quarter_turns(network, picture, min(score, 0.99)) == 0


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_places_turn_with_the_picture(turns: int) -> None:
    picture = torch.zeros(1, 5, 8)
    picture[0, 1, 6] = 1
    x, y = turned_place((6.5, 1.5), 8, 5, turns)
    assert torch.rot90(picture, -turns, (1, 2))[0, int(y), int(x)] == 1


def test_the_check_takes_the_faces_over_that_were_found_already(shipped, astronaut, monkeypatch) -> None:
    reference, findings = shipped.encode_reference(astronaut), shipped.check_portrait(astronaut)
    monkeypatch.setattr(shipped.model.face_network, "detect", None)
    assert shipped.check_portrait(astronaut, reference=reference) == findings
