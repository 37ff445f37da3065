"""Gates: a figure stands beside its baseline, and an idea that is switched off without loss misses its gate."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mcdm_core.config import TINY
from mcdm_core.data.real.stills import write_still_shards
from mcdm_core.data.shards import INFO_FIELDS, ShardWriter
from mcdm_core.errors import MCDMError
from mcdm_core.evaluation.gates import gates_of, motion_scores, painting_scores, report, table
from mcdm_core.face.landmarks import lip_opening
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.samples import FOLDER
from mcdm_core.training.parts.painting import PaintingCase, laplacian_energy, region_psnr
from mcdm_core.training.parts.rows import FrameRows
from mcdm_core.training.parts.seams import seam
from mcdm_core.training.parts.validation import painting_case, teeth_case

from ..conftest import small_config
from ..motion_fixtures import face_landmarks
from ..whole_crop import WHOLE_CROP

GOOD = {
    "mouth": 30.0, "mouth_warp": 29.0, "mouth_still": 26.0, "wide": 28.0, "wide_warp": 26.0, "wide_still": 23.0,
    "blink": 29.0, "blink_warp": 27.0, "blink_still": 25.0, "wide_without_archive": 27.0,
    "wide_without_gallery": 27.2, "wide_nearest": 26.5, "without_f_ac": 29.5,
    "without_gallery": 28.6, "without_bare_gallery": 28.7,
    "without_tokens": 27.0, "without_codec_tokens": 29.0, "without_unet": 26.0, "seam": 1.02,
    "seam_without_memory": 1.2, "sharpness": 0.9, "sharpness_warp": 0.6,
    "sharpness_without_part_decoder": 0.5, "without_part_decoder": 29.8,
    "teeth_without_archive_sight": 27.8, "teeth": 28.0,
    "teeth_without_archive": 26.0, "teeth_warp": 24.0, "teeth_still": 23.0,
}  # fmt: skip
GOOD_MOTION = {
    "codec_lip_slope": 0.95, "codec_lip_r": 0.97, "codec_lid_slope": 0.9, "codec_lip_error": 0.6,
    "codec_lip_error_still": 2.5, "head_clip": 0.97, "head_held": 0.96, "lip_clip": 0.85, "lip_held": 0.6,
    "expression_clip": 0.9, "expression_held": 0.87, "clip_cosine": 0.9, "clip_without_image": 0.89, "lip_r": 0.8,
    "lip_r_wrong": 0.1, "lip_range": 1.0, "lip_speed": 0.95, "head_speed": 1.0, "blinks_a_minute": 17.0,
    "seeds_apart": 3.0,
}  # fmt: skip


def test_good_scores_pass_every_gate() -> None:
    gates = gates_of(GOOD)
    assert len(gates) == 18 and all(gate.passed for gate in gates)
    assert "27.00" in next(gate.baseline for gate in gates if "blink" in gate.name)


@pytest.mark.parametrize(
    ("part", "alive"),
    [
        ("wide_without_archive", "wide"),
        ("wide_without_gallery", "wide"),
        ("wide_nearest", "wide"),
        ("without_f_ac", "mouth"),
        ("without_tokens", "mouth"),
        ("without_codec_tokens", "mouth"),
        ("without_unet", "mouth"),
        ("seam_without_memory", "seam"),
        ("teeth_without_archive", "teeth"),
        ("sharpness_without_part_decoder", "sharpness"),
        ("teeth_without_archive_sight", "teeth"),
    ],
)
def test_an_idea_without_effect_misses_its_gate(part: str, alive: str) -> None:
    missed = [gate for gate in gates_of({**GOOD, part: GOOD[alive]}) if not gate.passed]
    assert len(missed) == 1


def test_pictures_that_show_nothing_new_may_not_harm() -> None:
    missed = [gate for gate in gates_of({**GOOD, "without_bare_gallery": 28.3}) if not gate.passed]
    assert [gate.name for gate in missed] == ["mouth: a gallery of nothing but the portrait above none, dB"]


@pytest.mark.parametrize(
    ("part", "alive"),
    [
        ("head_clip", "head_held"),
        ("lip_clip", "lip_held"),
        ("expression_clip", "expression_held"),
        ("clip_without_image", "clip_cosine"),
        ("lip_r_wrong", "lip_r"),
    ],
)
def test_motion_no_better_than_its_baseline_misses_its_gate(part: str, alive: str) -> None:
    assert all(gate.passed for gate in gates_of(GOOD_MOTION)) and len(gates_of(GOOD_MOTION)) == 15
    missed = [gate for gate in gates_of({**GOOD_MOTION, part: GOOD_MOTION[alive]}) if not gate.passed]
    assert len(missed) == 1
    held = {"codec_lip_slope": 0.0, "codec_lip_r": 0.0, "codec_lid_slope": 0.0, "codec_lip_error": 2.5}
    assert sum(not gate.passed for gate in gates_of({**GOOD_MOTION, **held})) == 4


def test_a_dead_codec_gives_the_portrait_held_still(tmp_path: Path) -> None:
    _people(tmp_path / "people", clips=2)
    pipe = MCDMPipeline.from_config(dataclasses.replace(small_config(), preset="tiny"))
    decoder = pipe.model.motion_codec.decoder
    for layer in (*decoder.regions, decoder.direct):
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)
    scores = motion_scores(pipe, tmp_path / "people")
    assert scores["codec_lip_slope"] == pytest.approx(0, abs=1e-4)
    assert scores["codec_lip_error"] == pytest.approx(scores["codec_lip_error_still"], abs=1e-4)
    assert scores["lip_range"] == pytest.approx(0, abs=1e-4) and scores["seeds_apart"] == pytest.approx(0, abs=1e-3)
    assert sum(not gate.passed for gate in gates_of(scores)) > 8
    (tmp_path / "one").mkdir()
    _people(tmp_path / "one")
    with pytest.raises(MCDMError, match="at least two"):
        motion_scores(pipe, tmp_path / "one")


def test_gates_without_figures_are_left_out() -> None:
    names = {gate.name for gate in gates_of({k: v for k, v in GOOD.items() if "blink" not in k and "seam" not in k})}
    assert not any("blink" in name or "seam" in name for name in names) and len(names) == 15


def test_measures_are_what_they_say() -> None:
    true = torch.zeros(1, 3, 8, 8)
    region = torch.zeros(1, 1, 8, 8)
    region[..., :4] = 1
    wrong = true.clone()
    wrong[..., :4] = 0.2
    wrong[..., 4:] = 2.0
    assert region_psnr(wrong, true, region).item() == pytest.approx(20.0, abs=1e-3)
    noise = torch.randn(1, 3, 32, 32)
    blurred = torch.nn.functional.avg_pool2d(noise, 3, 1, 1)
    everywhere = torch.ones(1, 1, 32, 32)
    assert laplacian_energy(blurred, everywhere) < 0.3 * laplacian_energy(noise, everywhere)


def test_a_seam_is_more_change_than_the_same_frames_have_inside_a_clip() -> None:
    moving = torch.rand(12, generator=torch.Generator().manual_seed(0)).cumsum(0).square() * 0.01
    error = moving.view(12, 1, 1, 1).expand(12, 3, 4, 4).clone()
    one, later = error[:10].clone(), error[2:].clone()
    assert seam(one, later, 4, 2) == pytest.approx(1.0)  # however unlike the frames are
    one[4:8] += 0.3  # its second clip
    assert seam(one, later, 4, 2) > 1.2
    later[4:8] += 0.3
    assert seam(one, later, 4, 2) > seam(error[:10], later, 4, 2) > 1.2


def _people(folder: Path, clips: int = 1, frames: int = 12) -> None:
    random = np.random.default_rng(0)
    points = np.asarray(face_landmarks(), np.float32).reshape(-1, 68, 2)[0]
    with ShardWriter(folder / "people-00000.safetensors") as writer:
        for index in range(clips):
            landmarks = np.repeat(points[None], frames, 0)
            landmarks[:, 16:20, 1] += 0.03 * np.abs(np.sin(np.arange(frames)))[:, None]
            tensors = {
                "frames": random.integers(0, 255, (frames, 96, 96, 3), dtype=np.uint8),
                "landmarks": landmarks.astype(np.float32),
                "pose": np.zeros((frames, 6), np.float32),
                "values": np.zeros((frames, 16), np.float32),
                "audio": np.zeros(frames * 640, np.int16),
            }
            info = {**dict.fromkeys(INFO_FIELDS, ""), "source": "real video", "fps": 25, "seed": 0, "index": index}
            writer.add(tensors, info)


def _case(folder: Path, frames: int) -> PaintingCase:
    """The case that one clip of so many frames makes."""
    _people(folder / "people", frames=frames)
    config = small_config()
    codec = MCDMPipeline.from_config(config).model.motion_codec
    rows = FrameRows([folder / "people"], codec, config.image_size, minimum=8)
    return painting_case(rows, rows.clips[0], config.clip_frames)


def test_a_report_of_random_weights_is_whole_and_misses_gates(tmp_path: Path) -> None:
    _people(tmp_path / "people")
    config = small_config()
    # Of a gallery it would show mouths, whatever it has painted.
    blind = dataclasses.replace(config.part_decoder, gallery=0)
    pipe = MCDMPipeline.from_config(dataclasses.replace(config, preset="tiny", part_decoder=blind))
    result = report(pipe, [tmp_path / "people"], tmp_path, limit=1, parts=["painting"])
    found = result[str(tmp_path / "people")]
    assert json.loads(json.dumps(result)) == result
    assert "missed" in table(result) and (tmp_path / f"{tmp_path.name}_people.png").is_file()
    # A UNet that ends in zeros paints the portrait held still, and the report says so.
    scores = found["scores"]
    assert isinstance(scores, dict)
    assert scores["without_tokens"] == pytest.approx(scores["mouth"], abs=1e-4)
    assert scores["mouth"] == pytest.approx(scores["without_unet"], abs=1e-4)


def test_the_portrait_s_own_frame_is_not_judged(tmp_path: Path) -> None:
    case = _case(tmp_path, frames=8)
    same = [i for i in range(8) if torch.equal(case.frames[i], case.portrait)]
    assert len(same) == 1 and case.judged.tolist() == [i for i in range(8) if i not in same]


def test_the_archive_shows_none_of_the_frames_to_be_painted(tmp_path: Path) -> None:
    case = _case(tmp_path, frames=14)
    assert len(case.archive) == small_config().clip_frames
    assert not any(torch.equal(a, frame) for a in case.archive for frame in case.frames)


def test_teeth_come_from_an_archive_that_is_not_the_answer(tmp_path: Path) -> None:
    network = MCDMPipeline.from_preset("tiny").model.face_network
    write_still_shards(network, [FOLDER / "astronaut.jpg"], tmp_path, "train", frames=1, size=192)
    config = small_config()
    rows = FrameRows([tmp_path], MCDMPipeline.from_config(config).model.motion_codec, config.image_size)
    case = teeth_case(rows, rows.clips[0], 4)
    assert float(lip_opening(case.reference)) < 0.02 < float(lip_opening(case.landmarks[0]))
    assert not any(torch.equal(a, case.frames[0]) for a in case.archive)
    assert float((case.archive[0] - case.portrait).abs().max()) > 0.1


def test_weights_that_paint_the_whole_crop_are_refused(tmp_path: Path) -> None:
    whole = dataclasses.replace(
        WHOLE_CROP,
        unet=dataclasses.replace(WHOLE_CROP.unet, block_channels=(16, 16, 16), num_heads=2),
        present_clip_prior=dataclasses.replace(TINY.present_clip_prior, width=32, num_layers=1, num_heads=2),
    )
    with pytest.raises(MCDMError, match="whole crop"):
        painting_scores(MCDMPipeline.from_config(whole), tmp_path)
