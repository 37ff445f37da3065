"""Stage 2 of the stock layout on curated clips: what it reads, what it learns, and that the whole model takes it."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from mcdm_core.__main__ import main
from mcdm_core.checkpoint import load_checkpoint, save_checkpoint
from mcdm_core.data.tar_clips import TarClips
from mcdm_core.errors import WeightsError
from mcdm_core.models.audio_encoder import Wav2Vec2AudioEncoder, build_audio_encoder
from mcdm_core.models.image_encoder import build_image_encoder
from mcdm_core.models.motion_codec import MotionCodec
from mcdm_core.models.present_clip_prior import PresentClipPrior
from mcdm_core.training.stock import prior
from mcdm_core.training.stock.motion_samples import MARGIN, MotionSamples
from mcdm_core.training.stock.motion_study import Encoders, MotionAids
from mcdm_core.training.stock.prior import MotionObjective, train_stock_prior
from mcdm_core.training.stock.train import StockRecipe
from mcdm_core.training.workers import Workers

from .narrow import NARROW, RECIPE
from .processes import curve_of, curve_of_two, stopped_differs

CONFIG = dataclasses.replace(
    NARROW,
    audio_encoder=dataclasses.replace(NARROW.audio_encoder, feature_dim=16, num_layers=1, num_heads=2),
    image_encoder=dataclasses.replace(
        NARROW.image_encoder, image_size=32, patch_size=16, feature_dim=8, num_layers=1, num_heads=2
    ),
    present_clip_prior=dataclasses.replace(NARROW.present_clip_prior, width=16, num_layers=1, num_heads=2),
)
KNOWN, FRAMES = CONFIG.present_clip_prior.context_frames, CONFIG.clip_frames


def _quick_features(_: Wav2Vec2AudioEncoder, sound: torch.Tensor) -> torch.Tensor:
    mixed = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    return sound.unfold(0, 400, 320) @ mixed


@pytest.fixture(autouse=True)
def quick_ears(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of the sound that cost nothing; the network's own convolutions are wide in every configuration."""
    monkeypatch.setattr(Wav2Vec2AudioEncoder, "features", _quick_features)


@pytest.fixture(scope="module")
def whole(start: Path, tmp_path_factory) -> Path:
    """The assembled start with encoders and prior."""
    pytest.importorskip("transformers", reason="CLIP and Wav2Vec need transformers")
    torch.manual_seed(1)
    parts = {
        "audio_encoder": build_audio_encoder(CONFIG),
        "image_encoder": build_image_encoder(CONFIG),
        "motion_codec": MotionCodec(CONFIG),
        "present_clip_prior": PresentClipPrior(CONFIG),
    }
    path = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    states = {**load_checkpoint(start).states, **{name: module.state_dict() for name, module in parts.items()}}
    save_checkpoint(path, states, CONFIG, stage=0)
    return path


def _train(data: Path, whole: Path, output: Path, recipe: StockRecipe = RECIPE, **more) -> None:
    Wav2Vec2AudioEncoder.features = _quick_features  # in a process of its own, too
    train_stock_prior(data, [whole], output, recipe, **more)


def losses(data: Path, whole: Path, output: Path, **changes: object) -> list[float]:
    """The loss after every step."""
    return curve_of(functools.partial(_train, data, whole, recipe=dataclasses.replace(RECIPE, **changes)), output)


def test_a_sample_hears_what_it_shows(data: Path) -> None:
    clips = TarClips(sorted((data / "train").glob("*.tar")), at_least=KNOWN + FRAMES)
    samples = MotionSamples(clips, CONFIG, seed=3)
    sample, again, other = samples[5], samples[5], samples[6]
    assert all(torch.equal(again[key], value) for key, value in sample.items())
    assert not torch.equal(sample["noise"], other["noise"])
    assert sample["faces"].shape == (KNOWN + FRAMES, 3, 128, 128) and sample["reference"].shape == (3, 32, 32)
    assert sample["landmarks"].shape == (KNOWN + FRAMES, 68, 2) and sample["noise"].shape[0] == FRAMES
    beside = round(MARGIN * 16_000)
    assert sample["sound"].shape == ((KNOWN + FRAMES) * 640 + 2 * beside,)
    # The sound of the shown frames lies between what is heard before and after: found again in its clip.
    shown = sample["sound"][beside:-beside].numpy()
    found = []
    for index in range(len(clips)):
        points, sound = clips.labels(index)["landmarks"], clips.sound(index).astype(np.float32) / 32768
        for first in range(len(points) - KNOWN - FRAMES + 1):
            if np.array_equal(points[first : first + KNOWN + FRAMES], sample["landmarks"].numpy()):
                found.append(np.abs(sound[first * 640 :][: len(shown)] - shown).max())
    assert found == [0.0]
    shares = [samples[number] for number in range(40)]
    assert 0 < sum(bool(one["begins"]) for one in shares) < 40 and any(one["given"] for one in shares)


def _objective(data: Path, whole: Path) -> tuple[MotionObjective, MotionSamples]:
    config, module, encoders = prior._load([whole], torch.device("cpu"))
    clips = TarClips(sorted((data / "train").glob("*.tar")), at_least=KNOWN + FRAMES)
    plain, samples = (MotionSamples(clips, config, 3, augmented=on) for on in (False, True))
    trained = module.present_clip_prior
    for name in ("weight", "bias"):
        torch.nn.init.normal_(trained.output[name], std=0.02)
    aids = MotionAids(trained, encoders, plain, config, 8, torch.device("cpu"))
    more = {"batch": 4, "workers": Workers(), "device": torch.device("cpu"), "bfloat16": False}
    return MotionObjective(trained, encoders, aids, samples, config, **more), plain


def test_samples_for_training_show_heads_elsewhere_and_portraits_of_before(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = TarClips(sorted((data / "train").glob("*.tar")), at_least=KNOWN + FRAMES)
    wanted: list[list[int]] = []
    read = clips.pictures

    def pictures(index: int, numbers: list[int], size: int | None = None) -> np.ndarray:
        wanted.append(numbers)
        return read(index, numbers, size)

    monkeypatch.setattr(clips, "pictures", pictures)
    samples, plain = (MotionSamples(clips, CONFIG, 5, augmented=on) for on in (True, False))
    pairs = [(samples[number], plain[number]) for number in range(30)]
    assert all(numbers[-1] < numbers[KNOWN] for numbers in wanted), "a portrait knows nothing of what is to come"
    moved = [not torch.equal(one["placed"], one["landmarks"]) for one, _ in pairs]
    assert 8 < sum(moved) < 22
    for one, same in pairs:
        assert torch.equal(same["placed"], same["landmarks"]) and int(same["people"]) == -1
        assert torch.equal(one["landmarks"], same["landmarks"]) and one["values"].shape == (KNOWN + FRAMES, 16)
        assert not torch.equal(one["reference"], same["reference"]) and int(one["people"]) >= 0


def test_what_tinys_prior_has_is_learnt_of_the_data_once(data: Path, whole: Path) -> None:
    objective, plain = _objective(data, whole)
    trained = objective.prior
    assert trained.closed_lids.any() and trained.direct.weight.any()
    before = trained.direct.weight.detach().clone()
    again = MotionAids(trained, objective.encoders, plain, objective.config, 8, torch.device("cpu"))
    assert torch.equal(trained.direct.weight, before), "what has been trained is not fitted anew"
    assert torch.equal(again.readout, objective.aids.readout)


def test_each_idea_reaches_the_losses(data: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective, _ = _objective(data, whole)
    batch = default_collate([objective.stream.samples[number] for number in range(8)])
    moved = (batch["placed"] != batch["landmarks"]).flatten(1).any(1)
    assert moved.any() and not moved.all()
    with torch.no_grad():
        usual, read = objective.losses(batch)
        nobody, _ = objective.losses({**batch, "people": torch.full_like(batch["people"], -1)})
        there, _ = objective.losses({**batch, "placed": batch["landmarks"]})
        monkeypatch.setattr(objective.aids, "bridged", lambda tokens: tokens + 100)
        bridged, _ = objective.losses(batch)
    assert (usual != nobody).any()
    assert torch.equal(usual[~moved], there[~moved]) and (usual[moved] != there[moved]).all()
    assert float(bridged.mean()) > 20 * float(usual.mean()) and (read > 0).all()


def test_the_shown_frames_have_the_tokens_of_their_own_sound() -> None:
    pytest.importorskip("transformers", reason="CLIP and Wav2Vec need transformers")
    audio = build_audio_encoder(CONFIG)
    assert isinstance(audio, Wav2Vec2AudioEncoder)
    beside, sound = round(MARGIN * 16_000), torch.zeros(1, 8 * 640 + 2 * round(MARGIN * 16_000))
    encoders = Encoders(MotionCodec(CONFIG), audio, torch.nn.Identity())
    silent = encoders.sound_tokens(sound, 8, 25.0)
    sound[0, beside + 3 * 640 : beside + 4 * 640] = torch.randn(640)
    change = (encoders.sound_tokens(sound, 8, 25.0) - silent).abs().mean((0, 2, 3))
    assert silent.shape == (1, 8, 1, 16) and int(change.argmax()) == 3, "the click is in the fourth frame"


def test_the_prior_alone_learns_and_goes_on_where_it_was(data: Path, whole: Path, tmp_path: Path) -> None:
    curve = np.array(losses(data, whole, tmp_path / "a.safetensors", steps=50, learning_rate=4e-3))
    single = (curve[1:] - 0.95 * curve[:-1]) / 0.05  # the log has means over some steps
    assert single[-15:].mean() < 0.85 * single[:15].mean()
    short = losses(data, whole, tmp_path / "b.safetensors")
    turns = losses(data, whole, tmp_path / "c.safetensors", accumulate=2)
    assert np.allclose(short, turns, atol=1e-4) and short[0] != short[-1]
    made = load_checkpoint(whole).states["present_clip_prior"]
    from safetensors.torch import load_file

    after = load_file(str(tmp_path / "a.safetensors"))
    assert {key.partition(".")[0] for key in after} == {"present_clip_prior"}
    moved = [key for key, value in made.items() if not torch.equal(after[f"present_clip_prior.{key}"], value)]
    assert any("multimodal_blocks" in key for key in moved) and "alphas_cumprod" not in moved


def test_two_processes_give_the_loss_curve_of_one(data: Path, whole: Path, tmp_path: Path) -> None:
    training = functools.partial(_train, data, whole)
    one = curve_of(training, tmp_path / "one.safetensors")
    two = curve_of_two(training, tmp_path / "two.safetensors")
    assert len(one) == len(two) and np.abs(np.array(one) - two).max() < 1e-4 and one[0] != one[-1]


def test_a_stopped_training_goes_on_with_the_next_sample(data: Path, whole: Path, tmp_path: Path) -> None:
    assert stopped_differs(functools.partial(_train, data, whole), tmp_path, after=2) < 1e-6


def test_validation_tells_the_own_sound_from_anothers(data: Path, whole: Path, tmp_path: Path) -> None:
    result = train_stock_prior(data, [whole], tmp_path / "a.safetensors", RECIPE)
    assert result.validation.keys() == {"mse", "mse_wrong"}
    assert result.validation["mse"] != result.validation["mse_wrong"]


def test_the_command_trains_it_and_bundles_it(data: Path, whole: Path, tmp_path: Path, capsys) -> None:
    common = ["--preset", "base", "--start", str(whole), "--output", str(tmp_path), "--device", "cpu"]
    steps = ["--data", str(data), "--steps", "2", "--batch", "2", "--readers", "0", "--float32"]
    for stage in ("prior", "unet3"):
        assert main(["train", stage, *common, *steps]) == 0
    assert main(["train", "bundle", *common]) == 0
    made = load_checkpoint(Path(capsys.readouterr().out.strip()))
    before = load_checkpoint(whole).states
    for part, learns in (("present_clip_prior", True), ("audio_encoder", False), ("image_encoder", False)):
        half = {key: value.half() for key, value in before[part].items()}
        assert learns == any(not torch.equal(half[key], value) for key, value in made.states[part].items()), part


def test_what_is_missing_is_named(data: Path, start: Path, whole: Path, tmp_path: Path) -> None:
    states = load_checkpoint(whole).states
    for part, how in (("motion_codec", "codec"), ("audio_encoder", "convert")):
        path = tmp_path / f"{part}.safetensors"
        save_checkpoint(path, {name: state for name, state in states.items() if name != part}, CONFIG, stage=0)
        with pytest.raises(WeightsError, match=f"no {part} .*{how}"):
            train_stock_prior(data, [path], tmp_path / "a.safetensors", RECIPE)
