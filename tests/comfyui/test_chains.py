"""After the samplers: upscale models from ComfyUI's own loader, motion plotted and edited, results in the history."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from results import by_type, read, saved, watched_memory
from upscaler import UPSCALER, write_upscaler

SAMPLES = Path(__file__).resolve().parents[2] / "mcdm_core" / "assets" / "samples"


@pytest.fixture
def upscaled_prompt(server: Any, workflow_prompt: Any) -> Any:
    """The upscaler workflow with a real upscale model in both of its ways."""
    write_upscaler(server.base / "models" / "upscale_models" / UPSCALER)

    def make(seconds: float, compose: str) -> dict[str, Any]:
        prompt = workflow_prompt("MCDM 10 Upscaled")
        prompt["900"] = {"class_type": "UpscaleModelLoader", "inputs": {"model_name": UPSCALER}}
        for number in by_type(prompt, "MCDMEmbedAudio"):
            prompt[number]["inputs"]["duration"] = seconds
        for number in by_type(prompt, "MCDMAssembleVideo"):
            prompt[number]["inputs"]["compose"] = compose
        for number in by_type(prompt, "MCDMUpscaleVideo"):
            prompt[number]["inputs"]["upscale_model"] = ["900", 0]
        return prompt

    return make


def test_real_upscale_model_in_memory_and_streaming(server: Any, upscaled_prompt: Any) -> None:
    prompt = upscaled_prompt(1.28, "face crop")
    # A photograph's grain comes out of the video's compression otherwise than it went in.
    prompt[by_type(prompt, "MCDMSamples")[0]]["inputs"]["portrait"] = "portrait.png"
    scale = by_type(prompt, "ImageScaleBy")[0]
    prompt[scale] = {
        "class_type": "ImageUpscaleWithModel",
        "inputs": {"upscale_model": ["900", 0], "image": prompt[scale]["inputs"]["image"]},
    }
    small = by_type(prompt, "MCDMAssembleVideo")[0]
    prompt["901"] = {
        "class_type": "SaveVideo",
        "inputs": {"video": [small, 0], "filename_prefix": "small", "format": "auto", "codec": "auto"},
    }
    result = server.run(prompt, timeout=900)
    assert result.status == "execution_success", result.data.get("exception_message", result.data)
    made = [read(saved(server, result.outputs[number]["images"][0])) for number in by_type(prompt, "SaveVideo")]
    (original, *_), *larger = sorted(made, key=lambda video: video[0][0].shape[0])
    height, width, _ = original[0].shape
    assert len(larger) == 2
    for frames, sound, peak in larger:
        assert len(frames) == len(original) == 32
        # A crop of odd size has one more row and column in a video.
        assert all(0 <= 2 * side - large <= 2 for side, large in zip((height, width), frames[0].shape, strict=False))
        assert sound is not None and -0.1 < sound - 1.28 <= 1 / 25 and peak > 0.01
    least = min(frames[0].shape[0] for frames, _, _ in larger)
    core, streamed = (np.stack(frames)[:, :least, :least].astype(float) for frames, _, _ in larger)
    assert np.abs(core - streamed).mean() < 2, "both ways show the same, but for the video's compression"
    small_again = streamed[:, ::2, ::2]
    assert np.abs(small_again - np.stack(original)[:, : small_again.shape[1], : small_again.shape[2]]).mean() < 8


def test_streaming_upscaler_holds_only_a_few_frames(server: Any, upscaled_prompt: Any) -> None:
    prompt = upscaled_prompt(4.0, "full picture")
    streamed = by_type(prompt, "MCDMUpscaleVideo")[0]
    whole = by_type(prompt, "MCDMAssembleVideo")[0]
    prompt[whole]["inputs"]["frames_out"] = "last frame"
    for kind in ("ImageScaleBy", "CreateVideo"):
        prompt.pop(by_type(prompt, kind)[0])
    for number in by_type(prompt, "SaveVideo"):
        if prompt[number]["inputs"]["video"][0] != streamed:
            prompt.pop(number)
    readings: list[tuple[float, float]] = []
    with watched_memory(server, readings, interval=0.2):
        result = server.run(prompt, timeout=900)
    assert result.status == "execution_success", result.data.get("exception_message", result.data)
    frames, _, _ = read(saved(server, result.outputs[by_type(prompt, "SaveVideo")[0]]["images"][0]))
    begin = next(at for at, kind, data in result.events if kind == "executing" and data.get("node") == streamed)
    before = [size for at, size in readings if at < begin][-1]
    during = max(size for at, size in readings if at >= begin)
    all_frames = len(frames) * frames[0].size * 4 / 2**20
    print(f"{len(frames)} frames of {frames[0].shape}: {during - before:.0f} MB more; all at once {all_frames:.0f} MB")
    assert len(frames) == 100
    assert during - before < 0.5 * all_frames


def test_a_video_of_odd_frames_in_memory_is_upscaled(server: Any) -> None:
    Image.effect_noise((161, 121), 80).convert("RGB").save(server.base / "input" / "odd.png")
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "odd.png"}},
        "2": {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 20}},
        "3": {"class_type": "CreateVideo", "inputs": {"images": ["2", 0], "fps": 25.0}},
        "4": {"class_type": "MCDMUpscaleVideo", "inputs": {"video": ["3", 0], "scale": 2.0}},
        "5": {"class_type": "SaveVideo", "inputs": {"video": ["4", 0], "filename_prefix": "odd"}},
    }
    prompt["4"]["inputs"] |= {"frames_at_once": 8, "tile": 512}
    prompt["5"]["inputs"] |= {"format": "auto", "codec": "auto"}
    result = server.run(prompt)
    assert result.status == "execution_success", result.data.get("exception_message", result.data)
    frames, sound, _ = read(saved(server, result.outputs["5"]["images"][0]))
    assert len(frames) == 20 and frames[0].shape == (242, 322, 3) and sound is None


def test_motion_of_a_sampled_video_can_be_plotted_edited_and_sampled_again(server: Any, workflow_prompt: Any) -> None:
    prompt = workflow_prompt("MCDM 02 Step by step", seconds=1.2)
    sampler = by_type(prompt, "MCDMSampleVideo")[0]
    given = prompt[sampler]["inputs"]
    same = {name: given[name] for name in ("model", "reference")}
    audio = given["audio"]
    edit = {"motion": [sampler, 3], "head_scale": 0.0, "lips_scale": 1.0, "expression_scale": 1.0, "smooth": 0.0}
    edit |= {"hold": "nothing", "hold_frame": 0, "take_from_other": "nothing", "expression": "happy", "strength": 0.5}
    prompt["900"] = {"class_type": "MCDMEditMotion", "inputs": same | edit}
    plot = {"audio": audio, "width": 640, "height": 320}
    for number, source in (("901", [sampler, 3]), ("902", ["900", 0])):
        prompt[number] = {"class_type": "MCDMPlotMotion", "inputs": plot | {"motion": source}}
    prompt["903"] = {"class_type": "MCDMSampleVideo", "inputs": given | {"motion": ["900", 0]}}
    whole = by_type(prompt, "MCDMAssembleVideo")[0]
    prompt[whole]["inputs"] |= {"video": ["903", 0], "motion": ["903", 3]}
    result = server.run(prompt, timeout=900)
    assert result.status == "execution_success", result.data.get("exception_message", result.data)
    pictures = [saved(server, result.outputs[number]["images"][0]).read_bytes() for number in ("901", "902")]
    assert pictures[0] != pictures[1]
    frames, _, _ = read(saved(server, result.outputs[by_type(prompt, "SaveVideo")[0]]["images"][0]))
    assert len(frames) == 30


def test_videos_of_player_nodes_are_in_the_history(server: Any, workflow_prompt: Any) -> None:
    prompt = workflow_prompt("MCDM 10 Upscaled")
    prompt[by_type(prompt, "MCDMSampleVideo")[0]]["inputs"]["seed"] = 31
    result = server.run(prompt, timeout=900)
    assert result.status == "execution_success", result.data.get("exception_message", result.data)
    outputs = server.history(result.data["prompt_id"])["outputs"]
    for kind, folder in (("MCDMSampleVideo", "output"), ("MCDMAssembleVideo", "temp"), ("MCDMUpscaleVideo", "temp")):
        entry = outputs[by_type(prompt, kind)[0]]
        assert "images" not in entry, "ComfyUI's page would show the video beside the player"
        assert entry["video"][0]["type"] == folder
        frames, sound, _ = read(saved(server, entry["video"][0]))
        assert len(frames) == 32 and sound is not None
    assert result.previews > 0 and not result.named("mcdm.frame"), "no player there: ComfyUI's own previews"


def test_latest_frames_go_to_the_players_of_the_page(server: Any, workflow_prompt: Any) -> None:
    prompt = workflow_prompt("MCDM 10 Upscaled")
    prompt[by_type(prompt, "MCDMSampleVideo")[0]]["inputs"]["seed"] = 32
    result = server.run(prompt, timeout=900, as_page=True)
    assert result.status == "execution_success", result.data.get("exception_message", result.data)
    frames = result.named("mcdm.frame")
    assert {by_type(prompt, kind)[0] for kind in ("MCDMAssembleVideo", "MCDMUpscaleVideo")} <= {
        f["node"] for f in frames
    }
    for frame in frames:
        head, data = frame["image"].split(",")
        assert head == "data:image/jpeg;base64"
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert 0 < max(picture.size) <= 512
    assert result.previews == 0, "ComfyUI's own would stay on the node after its end"


def test_two_speakers_move_in_one_picture_in_turn(server: Any, workflow_prompt: Any) -> None:
    prompt = workflow_prompt("MCDM 11 Two speakers", seconds=2.56)
    result = server.run(prompt, timeout=900)
    assert result.status == "execution_success", result.data.get("exception_message", result.data)
    frames, sound, peak = read(saved(server, result.outputs[by_type(prompt, "SaveVideo")[0]]["images"][0]))
    assert len(frames) == 64 and sound is not None and -0.1 < sound - 2.56 <= 1 / 25 and peak > 0.01
    video = np.stack(frames).astype(float)
    middle = video.shape[2] // 2
    for half in (video[:, :, :middle], video[:, :, middle:]):
        assert np.abs(half - half[0]).max(axis=(1, 2, 3)).max() > 30, "both faces move"


def test_further_pictures_of_the_person_show_in_what_is_painted(server: Any, workflow_prompt: Any) -> None:
    """The same portrait in redder light is found in mouth and eyes, and changes nothing beside them."""
    with Image.open(SAMPLES / "portrait.png") as picture:
        red, *others = picture.convert("RGB").split()
        redder = Image.merge("RGB", [red, *(channel.point(lambda value: int(value * 0.6)) for channel in others)])
    redder.save(server.base / "input" / "redder.png")
    videos = []
    for given in (None, "redder.png"):
        prompt = workflow_prompt("MCDM 08 Clip by clip with memory")
        prompt[by_type(prompt, "MCDMSamples")[0]]["inputs"]["portrait"] = "portrait.png"
        if given is not None:
            prompt["900"] = {"class_type": "LoadImage", "inputs": {"image": given}}
            prompt[by_type(prompt, "MCDMStartMemory")[0]]["inputs"]["images"] = ["900", 0]
        result = server.run(prompt, timeout=900)
        assert result.status == "execution_success", result.data.get("exception_message", result.data)
        frames, _, _ = read(saved(server, result.outputs[by_type(prompt, "SaveVideo")[0]]["images"][0]))
        videos.append(np.stack(frames).astype(float))
    change = videos[1] - videos[0]
    moved = np.abs(change).max(axis=(0, 3)) > 12
    assert 0.002 < moved.mean() < 0.25, "mouth and eyes alone"
    assert (change[..., 0] - change[..., 1])[:, moved].mean() > 1, "redder there"
