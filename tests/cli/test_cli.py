"""The command line: a video from a random model, interruption, continuation, measurement, messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mcdm_core.__main__ import build_parser, main
from mcdm_core.errors import MediaError, PackageError
from mcdm_core.media.video_reader import VideoReader, read_video
from tests.small_inputs import given


@pytest.fixture
def inputs(small_options, tmp_path) -> list[str]:
    """Arguments of ``generate`` for the random model."""
    return ["generate", *given(tmp_path), *small_options, "--output", str(tmp_path / "out" / "a.mp4")]


def test_generate_writes_the_whole_sound(inputs, tmp_path, capsys) -> None:
    assert main([*inputs, "--memory-out", str(tmp_path / "m.safetensors")]) == 0
    frames, fps = read_video(tmp_path / "out" / "a.mp4")
    assert frames.shape == (14, 3, 180, 160) and fps == 25
    assert "14 of 14 frames" in capsys.readouterr().out
    again = [*inputs[:-1], str(tmp_path / "b.mp4"), "--memory-in", str(tmp_path / "m.safetensors")]
    assert main(again) == 0 and (tmp_path / "b.mp4").exists()


def test_a_mark_is_seen_in_every_frame(inputs, tmp_path) -> None:
    assert main(inputs) == 0
    plain = read_video(tmp_path / "out" / "a.mp4")[0]
    assert main([*inputs, "--mark"]) == 0
    marked = read_video(tmp_path / "out" / "a.mp4")[0]
    changed = (marked - plain).abs().amax(1)
    assert changed[:, 150:, 60:].amax((1, 2)).min() > 0.3 and changed[:, :80].mean() < 0.03


def test_an_interruption_keeps_what_is_done(inputs, tmp_path, monkeypatch, capsys) -> None:
    from mcdm_core.pipeline import MCDMPipeline

    original = MCDMPipeline.generate

    def stop_after_two(self, *args, **kwargs):
        for clip in original(self, *args, **kwargs):
            if clip.index == 2:
                raise KeyboardInterrupt
            yield clip

    monkeypatch.setattr(MCDMPipeline, "generate", stop_after_two)
    assert main(inputs) == 130
    assert len(list(VideoReader(tmp_path / "out" / "a.part.mp4"))) == 8
    assert "8 of 14" in capsys.readouterr().err and not (tmp_path / "out" / "a.mp4").exists()


def test_the_same_command_goes_on_and_makes_the_same_video(inputs, tmp_path, monkeypatch, capsys) -> None:
    from mcdm_core.pipeline.sampling import ClipSampler

    assert main([*inputs[:-1], str(tmp_path / "whole.mp4"), "--memory-out", str(tmp_path / "m.safetensors")]) == 0
    original, made = ClipSampler.denoise, []

    def fail_once(self, *args, **kwargs):
        if len(made) == 2:
            made.append("failure")
            raise MediaError("The disk is full.")
        made.append(1)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(ClipSampler, "denoise", fail_once)
    again = [*inputs, "--memory-out", str(tmp_path / "n.safetensors")]
    capsys.readouterr()
    assert main(again) == 1
    error = capsys.readouterr().err
    assert "The disk is full. 8 frames are safe" in error and not (tmp_path / "n.safetensors").exists()
    assert main([*again, "--seed", "7"]) == 0, "another video of the same name is made anew"
    assert "another unfinished video" in capsys.readouterr().err
    made[:] = [0] * 10
    assert main(again) == 0
    assert "going on after 8 of 14 frames" in capsys.readouterr().err and made.count(1) == 2
    whole, _ = read_video(tmp_path / "whole.mp4")
    resumed, _ = read_video(tmp_path / "out" / "a.mp4")
    assert torch.equal(whole, resumed)
    assert (tmp_path / "m.safetensors").read_bytes() == (tmp_path / "n.safetensors").read_bytes()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.mp4"]


def test_a_video_goes_on_in_the_number_format_it_was_begun_in(inputs, tmp_path, monkeypatch, capsys) -> None:
    """Which format is fast is measured, and may come out otherwise the next time."""
    from mcdm_core.pipeline.run import number_format
    from mcdm_core.pipeline.sampling import ClipSampler

    original, formats = ClipSampler.denoise, []

    def stop_at_the_third(self, *args, **kwargs):
        if len(formats) == 2:
            formats.append(None)
            raise KeyboardInterrupt
        formats.append(self.model.picture_format)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(ClipSampler, "denoise", stop_at_the_third)
    for measured, status in ((torch.bfloat16, 130), (torch.float32, 0)):
        monkeypatch.setattr(number_format, "fast_format", lambda measured=measured: measured)
        assert main(inputs) == status
    assert "going on after 8 of 14 frames" in capsys.readouterr().err
    assert [number for number in formats if number] == [torch.bfloat16] * 4


def test_a_dub_goes_by_what_is_given_to_it(pipe, tmp_path) -> None:
    """Not by what networks read of the video, which differs in the last bit with the number of threads."""
    from mcdm_core.cli.dub import _run_folder

    for name in ("video.mp4", "voice.wav", "other.wav"):
        (tmp_path / name).write_text(name)
    command = ["dub", "--video", str(tmp_path / "video.mp4"), "--output", str(tmp_path / "a.mp4")]

    def folder(*options: str) -> Path:
        return _run_folder(build_parser().parse_args([*command, *options]), pipe)(torch.float32)

    voice, other = (["--audio", str(tmp_path / name)] for name in ("voice.wav", "other.wav"))
    assert folder(*voice) == folder(*voice)
    assert len({folder(*voice), folder(*other), folder(*voice, "--seed", "1"), folder(*voice, "--face", "2")}) == 4


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_stop_in_the_middle_of_a_clip_keeps_it_whole_and_the_memory_in_step(
    inputs, tmp_path, monkeypatch, name, status
) -> None:
    """A real signal, sent while the second clip is written."""
    import os
    import signal

    from mcdm_core.media.video_writer import VideoWriter
    from mcdm_core.pipeline.memory import MotionMemory

    original, number, written = VideoWriter.write, getattr(signal, name), []

    def write(self, frames):
        original(self, frames)
        written.append(frames)
        if len(written) == 6:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(VideoWriter, "write", write)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    before = signal.getsignal(number)
    assert main([*inputs, "--memory-out", str(tmp_path / "m.safetensors")]) == status
    assert signal.getsignal(number) is before
    assert len(list(VideoReader(tmp_path / "out" / "a.part.mp4"))) == 8
    assert MotionMemory.load(tmp_path / "m.safetensors").frame_index == 8


def test_ctrl_c_before_the_first_clip_leaves_an_earlier_video(inputs, tmp_path, monkeypatch, capsys) -> None:
    from mcdm_core.pipeline import MCDMPipeline

    def stop(self, *args, **kwargs):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(MCDMPipeline, "generate", stop)
    earlier = tmp_path / "out" / "a.mp4"
    earlier.parent.mkdir()
    earlier.write_bytes(b"an earlier video")
    assert main(inputs) == 130
    assert "no video" in capsys.readouterr().err
    assert [p.name for p in earlier.parent.iterdir()] == ["a.mp4"] and earlier.read_bytes() == b"an earlier video"


def test_crops_alone_and_large_portraits(inputs, tmp_path) -> None:
    assert main([*inputs, "--crop", "--detail", "none"]) == 0
    reader = VideoReader(tmp_path / "out" / "a.mp4")
    assert reader.width == reader.height == 134  # the crop's 133 pixels, made even
    assert main([*inputs, "--max-size", "90"]) == 0
    assert VideoReader(tmp_path / "out" / "a.mp4").height == 90


def test_evaluate_measures_a_video(inputs, tmp_path, capsys) -> None:
    assert main(inputs) == 0
    capsys.readouterr()
    arguments = ["evaluate", str(tmp_path / "out" / "a.mp4"), *inputs[1:3], *inputs[5:12]]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == 14 and -1 <= report["lips_with_loudness"]["correlation"] <= 1


def test_unusable_inputs_end_in_one_line(inputs, tmp_path, capsys) -> None:
    missing = list(inputs)
    missing[2] = str(tmp_path / "nobody.png")
    assert main(missing) == 1
    assert "nobody.png" in capsys.readouterr().err
    for option in ("--memory-in", "--driver"):
        assert main([*inputs[:-2], option, str(tmp_path / "none.safetensors")]) == 1
        error = capsys.readouterr().err
        assert "none.safetensors" in error and "Traceback" not in error


def test_a_face_lost_by_shrinking_the_portrait_is_explained(inputs, capsys) -> None:
    assert main([*inputs, "--max-size", "40"]) == 1
    assert "--max-size" in capsys.readouterr().err


def test_outputs_and_devices_are_checked_before_the_models_are_loaded(inputs, tmp_path, monkeypatch, capsys) -> None:
    from mcdm_core.pipeline import MCDMPipeline

    def load(*_, **__):
        raise AssertionError("the models are loaded")

    monkeypatch.setattr(MCDMPipeline, "from_file", load)
    (tmp_path / "file").touch()
    (tmp_path / "talk.mp4").touch()
    for output in (tmp_path, tmp_path / "a.txt", tmp_path / ("n" * 300 + ".mp4"), tmp_path / "file" / "a.mp4"):
        assert main([*inputs[:-1], str(output)]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and ("NAME.mp4" in error or "cannot be written" in error)
    itself = [*inputs[:-1], str(tmp_path / "talk.mp4"), "--driver", str(tmp_path / "." / "talk.mp4")]
    assert main(itself) == 1 and "is an input as well" in capsys.readouterr().err
    for memory in (tmp_path, tmp_path / "voice.wav", tmp_path / "model.safetensors"):
        assert main([*inputs, "--memory-out", str(memory)]) == 1
        assert "safetensors" in capsys.readouterr().err
    assert main([*inputs, "--device", "warp-drive"]) == 1
    assert "warp-drive" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ("--steps", "0"),
        ("--motion-steps", "-1"),
        ("--fps", "0"),
        ("--fps", "fast"),
        ("--max-size", "-5"),
        ("--temperature", "nan"),
    ],
)
def test_senseless_numbers_are_refused(inputs, wrong, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*inputs, *wrong])
    assert stop.value.code == 2 and wrong[0] in capsys.readouterr().err


def test_a_driver_moves_the_head(inputs, tmp_path, monkeypatch) -> None:
    from mcdm_core.pipeline import MCDMPipeline

    assert main(inputs) == 0
    monkeypatch.setattr(MCDMPipeline, "detect_faces", lambda self, image: [(40.0, 50.0, 120.0, 130.0)])
    seen = []
    original = MCDMPipeline.generate

    def note(self, *args, **kwargs):
        seen.append(kwargs["landmarks"])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(MCDMPipeline, "generate", note)
    driver = str(tmp_path / "out" / "a.mp4")
    assert main([*inputs[:-1], str(tmp_path / "b.mp4"), "--driver", driver]) == 0
    assert seen[0].shape == (14, 68, 2)
    assert main([*inputs[:-1], str(tmp_path / "b.mp4"), "--driver", str(tmp_path / "voice.wav")]) == 1


def test_dub_takes_adapters_and_names_one_that_is_missing(inputs, tmp_path, capsys) -> None:
    own = dict(zip(inputs[1::2], inputs[2::2], strict=False))
    video = Path(__file__).parents[1] / "media" / "inputs" / "phone_rotated.mp4"
    command = ["dub", "--video", str(video), "--audio", own["--audio"], "--weights", own["--weights"]]
    assert main([*command, "--lora", str(tmp_path / "anna.safetensors"), "--output", str(tmp_path / "b.mp4")]) == 1
    assert "There is no adapter at" in capsys.readouterr().err


def test_info_lists_components(inputs, tmp_path, capsys) -> None:
    assert main(["info", "--weights", str(tmp_path / "model.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "torch" in out and "present_clip_prior" in out
    assert main(["info", "--weights", str(tmp_path / "none.safetensors")]) == 1
    assert "none.safetensors" in capsys.readouterr().err


def test_info_says_what_a_file_is(inputs, tmp_path, capsys) -> None:
    assert main([*inputs, "--memory-out", str(tmp_path / "m.safetensors")]) == 0
    capsys.readouterr()
    for name, words in {
        "out/a.mp4": "says that it is synthetic",
        "m.safetensors": "after 14 frames",
        "model.safetensors": "present_clip_prior",
    }.items():
        assert main(["info", str(tmp_path / name)]) == 0
        assert words in capsys.readouterr().out
    assert main(["info", str(tmp_path / "voice.wav")]) == 1


def test_every_command_explains_itself(capsys) -> None:
    for command in ("generate", "info", "evaluate", "render-data", "label-data", "train"):
        with pytest.raises(SystemExit) as stop:
            build_parser().parse_args([command, "--help"])
        assert stop.value.code == 0
    assert "Ctrl-C" in capsys.readouterr().out


def test_samples_are_there() -> None:
    from mcdm_core.samples import FOLDER, default_portrait, default_voice, list_samples

    names = list_samples()
    assert default_portrait().is_file() and default_voice().is_file()
    text = Path(FOLDER / "LICENSES.md").read_text()
    assert all(name in text for name in names["portraits"] + names["voices"])


def test_torch_threads_are_left_alone() -> None:
    before = torch.get_num_threads()
    build_parser()
    assert torch.get_num_threads() == before


def test_render_data_makes_three_splits_and_says_what_is_missing(tmp_path, monkeypatch, capsys) -> None:
    pytest.importorskip("numba", reason="the renderer needs numba")
    from mcdm_core.data.synthetic import render

    made: list[tuple[str, int, Path]] = []

    def note(output: Path, clips: int, split: str, **_: object) -> None:
        made.append((split, clips, output))

    monkeypatch.setattr(render, "render", note)
    assert main(["render-data", str(tmp_path), "--hours", "0.05", "--test-clips", "0"]) == 0
    assert made == [("val", 40, tmp_path / "val"), ("train", 60, tmp_path / "train")]

    def fail(*_: object, **__: object) -> None:
        raise PackageError("espeak-ng is missing")

    monkeypatch.setattr(render, "render", fail)
    assert main(["render-data", str(tmp_path)]) == 1
    assert "espeak-ng is missing" in capsys.readouterr().err


def test_train_refines_single_stages_alone(tmp_path, capsys) -> None:
    assert main(["train", "all", "--refine", str(tmp_path / "model.safetensors"), "--output", str(tmp_path)]) == 1
    assert "--refine is of preset tiny and its stages codec, audio, prior" in capsys.readouterr().err
    arguments = ["--data", str(tmp_path), "--output", str(tmp_path)]
    # A preset that cannot refine says so, and does not begin anew without a word.
    assert main(["train", "unet3", *arguments, "--refine", "model.safetensors", "--preset", "base"]) == 1
    assert "--refine is of preset tiny" in capsys.readouterr().err
    assert main(["train", "unet3", *arguments, "--shares", "1", "2"]) == 1
    assert "--shares has 2 numbers, --data 1 folders" in capsys.readouterr().err


def test_train_refuses_what_a_stage_would_not_heed(tmp_path, capsys) -> None:
    arguments = ["--data", str(tmp_path), "--output", str(tmp_path)]
    assert main(["train", "prior", *arguments, "--shares", "1"]) == 1
    assert "--shares is heeded by unet1, unet3, decoder, sight alone" in capsys.readouterr().err
    assert main(["train", "decoder", *arguments, "--steps", "5", "--learning-rate", "0.1"]) == 1
    assert "--steps, --learning-rate: an option of the presets base and small" in capsys.readouterr().err
    assert main(["train", "lora", *arguments, "--steps", "5"]) == 1
    assert "--steps" not in capsys.readouterr().err, "an adapter of tiny takes it"


def test_train_says_what_is_missing(tmp_path, capsys) -> None:
    assert main(["train", "all", "--output", str(tmp_path / "run")]) == 1
    assert "--data" in capsys.readouterr().err
    assert main(["train", "bundle", "--output", str(tmp_path / "run")]) == 1
    assert "no weights" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "vae", "--data", "x", "--output", "y", "--minutes", "0"])
    arguments = ["--data", str(tmp_path), "--output", str(tmp_path / "run")]
    assert main(["train", "vae", *arguments]) == 1
    assert "render-data" in capsys.readouterr().err
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.safetensors").touch()
    assert main(["train", "prior", *arguments]) == 1
    assert "train codec" in capsys.readouterr().err


def test_an_interrupted_training_says_how_it_goes_on(tmp_path, capsys, monkeypatch) -> None:
    from mcdm_core.cli.train import stages

    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.safetensors").touch()

    def stop(options, minutes):
        raise KeyboardInterrupt

    monkeypatch.setitem(stages._STAGES, "face", stop)
    assert main(["train", "face", "--data", str(tmp_path), "--output", str(tmp_path / "run")]) == 130
    assert "stage face" in capsys.readouterr().err
