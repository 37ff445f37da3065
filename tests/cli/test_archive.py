"""``generate --archive``: further pictures and videos of the person."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mcdm_core.__main__ import main
from mcdm_core.errors import FaceNotFoundError
from mcdm_core.face.landmarks import lip_opening
from mcdm_core.face.reading.face_track import FaceTrack
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.pipeline.memory_builder import seen_in_video
from tests.small_inputs import given


@pytest.fixture
def inputs(small_options: list[str], tmp_path: Path) -> list[str]:
    """Arguments of ``generate`` for the random model."""
    return ["generate", *given(tmp_path), *small_options, "--output", str(tmp_path / "out" / "a.mp4")]


@pytest.fixture
def finds_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights find no face."""
    original = MCDMPipeline.encode_reference

    def encode(self: MCDMPipeline, image: torch.Tensor, box: object = None) -> object:
        return original(self, image, box or (40, 50, 120, 130))

    monkeypatch.setattr(MCDMPipeline, "encode_reference", encode)


@pytest.mark.usefixtures("finds_faces", "any_contours")
def test_further_pictures_change_the_mouth_and_are_part_of_the_run(inputs: list[str], tmp_path: Path) -> None:
    from PIL import Image

    video, picture = Path(inputs[-1]), tmp_path / "darker.png"
    Image.open(tmp_path / "portrait.png").point(lambda value: value * 0.5).save(picture)
    assert main(inputs) == 0
    alone = video.read_bytes()
    assert main([*inputs, "--archive", str(picture)]) == 0
    assert video.read_bytes() != alone


def test_a_picture_without_a_face_is_named(inputs: list[str], tmp_path: Path, capsys) -> None:
    from PIL import Image

    Image.new("RGB", (160, 160)).save(tmp_path / "wall.png")
    assert main([*inputs, "--archive", str(tmp_path / "wall.png")]) == 1
    assert "wall.png: No face was found" in capsys.readouterr().err
    assert main([*inputs, "--archive", str(tmp_path / "nobody.png")]) == 1
    assert "nobody.png" in capsys.readouterr().err


def test_a_memory_has_an_archive_of_its_own(inputs: list[str], tmp_path: Path, capsys) -> None:
    both = ["--archive", str(tmp_path / "portrait.png"), "--memory-in", str(tmp_path / "memory.safetensors")]
    assert main([*inputs, *both]) == 1
    assert "--memory-in has an archive of its own" in capsys.readouterr().err


def test_a_video_shows_mouths_from_shut_to_the_widest(pipe: MCDMPipeline, portrait: torch.Tensor) -> None:
    count = 40
    landmarks = torch.rand(68, 2, generator=torch.Generator().manual_seed(0)).repeat(count, 1, 1)
    opening = torch.rand(count, generator=torch.Generator().manual_seed(1))
    landmarks[:, :, 1] *= (1 + opening)[:, None]
    found = torch.ones(count, dtype=torch.bool)
    found[3] = False
    track = FaceTrack(torch.tensor([[80.0, 90.0, 130.0]]).repeat(count, 1), landmarks, found)
    frames = [portrait * (1 - index / 100) for index in range(count)]
    seen = seen_in_video(pipe, track, iter(frames))
    assert len(seen) == pipe.config.archive_frames == 4
    shown = {round(float(1 - (one.image / portrait.clamp_min(1e-3)).median()), 2) for one in seen}
    order = found.nonzero()[:, 0][lip_opening(landmarks[found]).argsort()]
    assert shown == {round(int(order[place]) / 100, 2) for place in (0, 13, 25, 38)}
    nowhere = FaceTrack(track.squares, landmarks, torch.zeros(count, dtype=torch.bool))
    assert seen_in_video(pipe, nowhere, iter(frames)) == []


def test_a_video_without_a_face_is_named(pipe: MCDMPipeline, tmp_path: Path) -> None:
    from mcdm_core.cli.archived_pictures import archived_pictures
    from mcdm_core.media.video_writer import VideoWriter

    with VideoWriter(tmp_path / "wall.mp4", 96, 96, 25) as writer:
        for _ in range(10):
            writer.write(torch.full((1, 3, 96, 96), 0.3))
    with pytest.raises(FaceNotFoundError, match=r"wall\.mp4 shows no face"):
        archived_pictures(pipe, [tmp_path / "wall.mp4"])
