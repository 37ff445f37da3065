"""The motion codec: crops that follow the head, token bookkeeping, statistics, training losses."""

from __future__ import annotations

import math

import pytest
import torch

from mcdm_core.config import BASE, TINY
from mcdm_core.errors import MCDMError
from mcdm_core.models.motion_codec import MotionCodec, face_frame, mouth_and_face_crops
from mcdm_core.models.motion_tokens import EXPRESSIONS, MotionTokens
from mcdm_core.training.codec.data import CodecFrames, encode_rows
from mcdm_core.training.codec.losses import (
    MOTION_SHARE,
    READING_PART,
    CodecObjective,
    missing_motion,
    place_heads,
    reading_loss,
    shape_loss,
    swap_inside,
)
from mcdm_core.training.codec.train import finish_codec
from mcdm_core.training.codec.validation import concentration, explained, validate_codec

from ..motion_fixtures import face_landmarks

SIZES = (TINY.motion_codec.head_tokens, TINY.motion_codec.lip_tokens, TINY.motion_codec.expression_tokens)


def codec() -> MotionCodec:
    torch.manual_seed(0)
    return MotionCodec(TINY).eval()


def turned(points: torch.Tensor, angle: float, scale: float, shift: float) -> torch.Tensor:
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) * scale
    return (points - 0.5) @ turn + 0.5 + shift


def test_face_frame_follows_a_similarity() -> None:
    points = face_landmarks()
    centre, spread, axis = face_frame(points)
    moved = face_frame(turned(points, 0.3, 0.8, 0.05))
    assert torch.allclose(moved[0], turned(centre, 0.3, 0.8, 0.05), atol=1e-5)
    assert torch.allclose(moved[1], spread * 0.8, atol=1e-5)
    assert torch.allclose(moved[2], turned(axis + 0.5, 0.3, 1.0, 0.0) - 0.5, atol=1e-5)


def test_crops_of_a_turned_and_scaled_face_are_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8, generator=generator), size=128, mode="bicubic")
    points = face_landmarks()
    matrix = torch.tensor([[[math.cos(0.2), -math.sin(0.2), 0.0], [math.sin(0.2), math.cos(0.2), 0.0]]])
    # grid_sample asks where an output pixel comes from: output = inverse rotation of the picture
    grid = torch.nn.functional.affine_grid(matrix, [1, 3, 128, 128], align_corners=False)
    rotated = torch.nn.functional.grid_sample(image, grid, align_corners=False)
    rotated_points = turned(points, -0.2, 1.0, 0.0)
    mouth, _ = mouth_and_face_crops(image, points)
    again, _ = mouth_and_face_crops(rotated, rotated_points)
    assert (mouth - again).abs().mean() < 0.01


def test_tokens_round_trip_and_shapes() -> None:
    model = codec()
    frames, points = torch.rand(2, 3, 3, 128, 128) * 2 - 1, face_landmarks(2)[:, None].expand(-1, 3, -1, -1)
    tokens = model.encode(frames, points)
    assert [t.shape for t in (tokens.head, tokens.lip, tokens.expression)] == [(2, 3, n, 32) for n in SIZES]
    again = MotionTokens.split(tokens.cat(), TINY)
    assert torch.equal(again.lip, tokens.lip) and torch.equal(again.expression, tokens.expression)
    motion = model.decode(tokens, tokens.map(lambda t: t[:, 0]), points[:, 0])
    assert motion.landmarks.shape == (2, 3, 68, 2) and motion.values.shape == (2, 3, 16)
    same = model.decode(tokens, tokens.map(lambda t: t[:, :1]), points[:, 0])
    assert torch.equal(motion.values, same.values)
    assert torch.equal(model.encode_head(points), tokens.head)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(MCDMError, match="motion tokens"):
        MotionTokens.split(torch.zeros(1, sum(SIZES) + 1, 32), TINY)
    with pytest.raises(MCDMError, match="landmarks"):
        codec().encode(torch.zeros(1, 2, 3, 128, 128), torch.zeros(1, 3, 68, 2))
    with pytest.raises(MCDMError, match="bored"):
        codec().named_expression("bored")


def frames_of_noise(clips: int = 3, frames: int = 8, quadruples: int = 2) -> CodecFrames:
    generator = torch.Generator().manual_seed(0)
    number = clips * frames + quadruples * 4
    return CodecFrames(
        torch.randint(0, 256, (number, 3, 48, 48), generator=generator, dtype=torch.uint8),
        torch.randint(0, 256, (number, 3, 64, 64), generator=generator, dtype=torch.uint8),
        face_landmarks(number) + 0.01 * torch.randn(number, 68, 2, generator=generator),
        torch.rand(number, 16, generator=generator),
        [(k * frames, (k + 1) * frames) for k in range(clips)],
        torch.arange(clips * frames, number).view(quadruples, 4),
        torch.arange(number) < frames,
    )


def test_swapping_inside_a_quadruple_pairs_the_right_tokens() -> None:
    crossed = torch.zeros(1, 2, 2, sum(SIZES), 32)
    for lips in range(2):
        for expression in range(2):
            crossed[0, lips, expression, SIZES[0] : SIZES[0] + SIZES[1]] = lips
            crossed[0, lips, expression, SIZES[0] + SIZES[1] :] = expression
    swapped, consistency = swap_inside(crossed, TINY)
    # Exact tokens (lips depend on the lips alone) survive the swap, and are perfectly consistent.
    assert torch.equal(swapped, crossed) and float(consistency) == 0
    assert float(swap_inside(torch.randn_like(crossed), TINY)[1]) > 0.1


def test_a_refined_codec_keeps_what_its_tokens_mean_in_clips_alone() -> None:
    data, model = frames_of_noise(), codec()
    earlier = encode_rows(model.eval(), data, torch.arange(len(data.landmarks)))
    objective = CodecObjective(model, data, couples=24, quadruples=2, earlier=earlier)
    assert float(objective(0)["faith"].detach()) < 0.5  # the same codec, but for augmentation
    objective.earlier = earlier + 3 * data.still[:, None, None]
    rows = torch.arange(len(data.landmarks))
    mirrored = torch.zeros(len(rows), dtype=torch.bool)
    assert float(objective._faith(earlier, rows, mirrored)) == 0  # stills may mean something else
    assert float(objective._faith(earlier + 1, rows, mirrored)) == pytest.approx(1)
    assert float(objective._faith(earlier + 1, rows, ~mirrored)) == 0


def test_heads_placed_elsewhere_keep_their_shape() -> None:
    points = face_landmarks(400)
    placed = place_heads(points, torch.Generator().manual_seed(0))
    moved = (placed - points).abs().amax((1, 2)) > 1e-6
    assert 0.5 < float(moved.float().mean()) < 0.7
    # Lengths change by the size alone, which is the same for all of a face.
    ratio = torch.cdist(placed, placed)[:, 0, 1:] / torch.cdist(points, points)[:, 0, 1:]
    assert float((ratio - ratio.mean(1, keepdim=True)).abs().max()) < 1e-3
    assert 0.01 < float(ratio.mean(1).std()) < 0.04


def test_the_shape_loss_sees_lips_and_lids_not_places() -> None:
    points = face_landmarks(3)
    assert float(shape_loss(points + torch.tensor([0.1, -0.05]), points)) == pytest.approx(0, abs=1e-4)
    wide = points.clone()
    wide[:, 18, 1] += 0.02
    assert float(shape_loss(wide, points)) > 0.01


def test_losses_fall_and_the_buffers_are_filled() -> None:
    model, data = codec().train(), frames_of_noise()
    objective = CodecObjective(model, data, couples=6, quadruples=2)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    history = []
    for step in range(8):
        losses = objective(step)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        history.append(float(losses["loss"].detach()))
    assert {"self", "cross", "consistency", "person"} <= set(losses)
    assert sum(history[-2:]) < sum(history[:2])
    finish_codec(model, data)
    raw = model.encode_crops(data.mouth.float() / 127.5 - 1, data.face.float() / 127.5 - 1, data.landmarks)
    normal = model.normalize(raw)
    assert normal.mean(0).abs().max() < 1e-3 and normal.std(0).max() < 1.01
    assert model.expression_bank.shape == (len(EXPRESSIONS), SIZES[2], 32) and model.expression_bank.any()
    assert torch.allclose(model.denormalize(normal), raw, atol=1e-5)


def test_blinks_are_drawn_more_often_than_they_happen() -> None:
    data = frames_of_noise()
    data.values[:, 6:8] = 0
    data.values[5, 6:8] = 1
    objective = CodecObjective(codec(), data)
    drawn = objective.draw(torch.zeros(300, dtype=torch.long), 0.3).tolist()
    assert 0.25 < drawn.count(5) / 300 < 0.6 and all(0 <= row < 8 for row in drawn)
    others = objective.draw(torch.ones(300, dtype=torch.long), 0.3)
    assert others.unique().tolist() == list(range(8, 16))


def test_tokens_that_do_not_move_inside_quadruples_are_told() -> None:
    generator = torch.Generator().manual_seed(0)
    person = torch.randn(200, 1, 1, sum(SIZES), 32, generator=generator).expand(-1, 2, 2, -1, -1)
    assert float(missing_motion(person, TINY)) == pytest.approx(2 * MOTION_SHARE)
    assert float(missing_motion(torch.randn(person.shape, generator=generator), TINY)) == 0


def test_concentration_is_one_over_the_participation_ratio() -> None:
    generator = torch.Generator().manual_seed(0)
    for dimensions in (1, 3, 8):
        basis = torch.linalg.qr(torch.randn(64, dimensions, generator=generator))[0]
        many = torch.randn(4000, dimensions, generator=generator) @ basis.T
        covariance = many.T @ many / len(many)
        literal = covariance.square().sum() / covariance.trace() ** 2
        assert float(concentration(many)) == pytest.approx(float(literal), rel=0.02)
        assert float(concentration(many)) == pytest.approx(1 / dimensions, rel=0.1)
        # Few samples do not look as if they lay in fewer dimensions.
        draws = [concentration(torch.randn(24, dimensions, generator=generator) @ basis.T) for _ in range(100)]
        assert float(torch.stack(draws).mean()) == pytest.approx(1 / dimensions, rel=0.15)


def test_what_moves_without_a_cause_is_not_explained() -> None:
    generator = torch.Generator().manual_seed(0)
    causes, other = torch.randn(800, 5, generator=generator), torch.randn(800, 12, generator=generator)
    caused = causes @ torch.randn(5, 12, generator=generator)
    assert explained(caused, causes, 400) > 0.99
    assert abs(explained(other, causes, 400)) < 0.05
    scaled = other * caused.std() / other.std()
    assert explained(caused + scaled, causes, 400) == pytest.approx(0.5, abs=0.07)


def test_small_values_count_as_much_as_large_ones_when_read() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(500, 16, generator=generator) * torch.linspace(0.05, 1.0, 16)
    spread = values.std(0)
    lost = []
    for k in (0, 15):
        read = values.clone()
        read[:, k] = 0
        lost.append(float(reading_loss(read, values, spread)))
    assert float(reading_loss(values, values, spread)) == 0
    assert lost[0] == pytest.approx(lost[1], rel=0.15) and lost[0] > 0


def test_reading_loss_is_the_mean_over_noise_on_the_tokens() -> None:
    generator, noise = torch.Generator().manual_seed(0), 0.5
    model, raw = codec().eval(), torch.randn(400, sum(SIZES), 32, generator=generator)
    spread = torch.linspace(20.0, 40.0, 16)  # so large that errors are in the loss's square part
    with torch.no_grad():
        values = model.read_values(raw) + torch.randn(400, 16, generator=generator)
        told = float(reading_loss(model.read_values(raw), values, spread, model.reading_gain(), noise))
        drawn = [
            float(
                reading_loss(
                    model.read_values(raw + noise * torch.randn(raw.shape, generator=generator)), values, spread
                )
            )
            for _ in range(60)
        ]
        assert told == pytest.approx(sum(drawn) / 60, rel=0.01)
        assert told > 1.01 * float(reading_loss(model.read_values(raw), values, spread))


def test_training_begins_with_the_reading_alone() -> None:
    data, progress = frames_of_noise(), [0.0]
    objective = CodecObjective(codec().train(), data, couples=4, quadruples=2, progress=lambda: progress[0])
    alone = objective(0)
    assert set(alone) == {"reading", "loss"} and float(alone["loss"].detach()) > 0 and objective.noise == 0
    progress[0] = READING_PART / 2
    assert set(objective(1)) == {"reading", "loss"} and objective.noise == pytest.approx(0.5)
    progress[0] = READING_PART
    assert {"self", "cross", "consistency"} <= set(objective(2)) and objective.noise == 1


def test_loss_does_not_depend_on_pairs_or_blinks_being_there() -> None:
    data = frames_of_noise(quadruples=0)
    data.values[:, 6:8] = 0
    losses = CodecObjective(codec().train(), data, couples=4)(0)
    assert "cross" not in losses and torch.isfinite(losses["loss"])


def test_validation_tells_lips_and_lids() -> None:
    numbers = validate_codec(codec(), frames_of_noise())
    assert {"lip_value_r", "lip_landmark_r", "lid_landmark_r", "lid_range", "blink_value_r"} <= set(numbers)
    assert all(math.isfinite(value) for value in numbers.values())


def test_base_preset_builds() -> None:
    with torch.device("meta"):
        model = MotionCodec(BASE)
    assert model.token_mean.shape == (24, 768)
