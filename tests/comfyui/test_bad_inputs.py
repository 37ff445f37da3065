"""What every node answers to an input it cannot use: a message that says what is wrong and what to do."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from results import by_type, keep_only


class Bad(NamedTuple):
    """A template in which one node gets a bad input, and a part of the answer.

    A change is a value, None to disconnect, or ``(file, output)`` of a loader of that file.
    """

    template: str
    kind: str
    changes: dict[str, Any]
    message: str
    needs_weights: bool = False


CLIPS, PLAIN = "MCDM 08 Clip by clip with memory", "MCDM 02 Step by step"
EDITED, CONTINUED, LARGER = "MCDM 05 Motion edited by hand", "MCDM 09 Continue a video", "MCDM 10 Upscaled"
OUTSIDE = {"box_left": 5000, "box_top": 5000, "box_right": 5100, "box_bottom": 5100}
NO_IMAGES = {"images": None, "images_2": None, "images_3": None}

REFUSED = {
    "damaged weights": Bad(PLAIN, "MCDMLoadModel", {"model_name": "damaged.safetensors"}, "damaged.safetensors"),
    # 0.3.64 does not hold the name against the list: there the node says what it is.
    "weights of something else": Bad(
        PLAIN, "MCDMLoadModel", {"model_name": "foreign.safetensors"}, "foreign.safetensors"
    ),
    "silence": Bad(PLAIN, "MCDMEmbedAudio", {"audio": ("silence.wav", 0)}, "silent throughout"),
    "start after the end": Bad(PLAIN, "MCDMEmbedAudio", {"start": 500.0}, "after the end of the audio"),
    "no face": Bad(PLAIN, "MCDMEncodeReference", {"image": ("grey.png", 0)}, "No face", needs_weights=True),
    "a face too many": Bad(PLAIN, "MCDMEncodeReference", {"face_number": 9}, "face_number is 9", needs_weights=True),
    "box outside": Bad(PLAIN, "MCDMEncodeReference", OUTSIDE, "outside the picture"),
    "driver without a face": Bad(
        EDITED, "MCDMPredictMotion", {"driver_images": ("grey.png", 0)}, "No face was found in the driver", True
    ),
    "swap without other": Bad(EDITED, "MCDMEditMotion", {"take_from_other": "head"}, "nothing is connected to 'other'"),
    "clip index": Bad(CLIPS, "MCDMSampleClip", {"clip_index": 999}, "clip_index is 999"),
    "nothing to assemble": Bad(CLIPS, "MCDMAssembleVideo", NO_IMAGES, "connect a VIDEO"),
    "crops that are not square": Bad(
        CLIPS, "MCDMAssembleVideo", NO_IMAGES | {"images": ("grey.png", 0)}, "320x240 pixels; expected square"
    ),
    "nothing to continue": Bad(CONTINUED, "MCDMMemoryFromVideo", {"video": None}, "Nothing to continue"),
    "another picture to continue": Bad(
        CONTINUED, "MCDMMemoryFromVideo", {"video": None, "images": ("grey.png", 0)}, "320x240 pixels; expected"
    ),
    "clips outside the output folder": Bad(
        PLAIN, "MCDMSampleVideo", {"filename_prefix": "../../outside"}, "outside the output folder"
    ),
    "memory outside the output folder": Bad(
        CLIPS, "MCDMSaveMemory", {"filename_prefix": "../../outside"}, "outside the output folder"
    ),
    "memory that is not there": Bad(CLIPS, "MCDMLoadMemory", {"file": "gone.safetensors"}, "no motion memory"),
    "memory from elsewhere": Bad(CLIPS, "MCDMLoadMemory", {"file": "../../x.safetensors"}, "lies outside"),
    "a sample that is not there": Bad(PLAIN, "MCDMSamples", {"portrait": "nobody.png"}, "nobody.png"),
    "an expression nobody knows": Bad(PLAIN, "MCDMSampleVideo", {"expression": "1 joyful"}, "'1 joyful'"),
    "a smile too wide": Bad("MCDM 04 Expressions over time", "MCDMFaceEditor", {"smile": 9.0}, "bigger than max"),
    "nothing to dub": Bad("MCDM 03 Dub a video", "MCDMDubVideo", {"video": None}, "Nothing to dub"),
    "no liveliness like that": Bad("MCDM 01 Talking portrait", "MCDMTalkingPortrait", {"liveliness": 9.0}, "bigger"),
    "days below zero": Bad("clean up", "MCDMCleanUpRuns", {"older_than_days": -1.0}, "smaller than min"),
    "base without its weights": Bad(PLAIN, "MCDMLoadModel", {"model_name": "base (needs weights)"}, "CLIP ViT-L/14"),
    "a plot too small": Bad(EDITED, "MCDMPlotMotion", {"width": 10}, "smaller than min"),
    "a scale too large": Bad(LARGER, "MCDMUpscaleVideo", {"scale": 99.0}, "bigger than max"),
    "a seed below zero": Bad(CLIPS, "MCDMStartMemory", {"seed": -1}, "smaller than min"),
}


def spoil(prompt: dict[str, Any], bad: Bad) -> None:
    """Make the change in a prompt."""
    if bad.kind == "MCDMLoadMemory":
        model = [by_type(prompt, "MCDMLoadModel")[0], 0]
        prompt["800"] = {"class_type": bad.kind, "inputs": {"model": model}}
        prompt[by_type(prompt, "MCDMSampleClip")[0]]["inputs"]["memory"] = ["800", 0]
    inputs = prompt[by_type(prompt, bad.kind)[0]]["inputs"]
    for number, (key, value) in enumerate(bad.changes.items(), 900):
        if value is None:
            inputs.pop(key, None)
        elif isinstance(value, tuple):
            file, output = value
            loader, widget = ("LoadAudio", "audio") if file.endswith(".wav") else ("LoadImage", "image")
            prompt[str(number)] = {"class_type": loader, "inputs": {widget: file}}
            inputs[key] = [str(number), output]
        else:
            inputs[key] = value
    keep_only(prompt, by_type(prompt, bad.kind)[0])


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_answered_with_advice(server: Any, workflow_prompt: Any, trained: bool, name: str) -> None:
    bad = REFUSED[name]
    if bad.needs_weights and not trained:
        pytest.skip("random weights find no face anywhere")
    if bad.kind == "MCDMCleanUpRuns":  # in no template
        prompt = {"1": {"class_type": bad.kind, "inputs": {"older_than_days": 7.0, "action": "only show"}}}
    else:
        prompt = workflow_prompt(bad.template)
    spoil(prompt, bad)
    result = server.run(prompt)
    if result.status == "rejected":  # before anything has run
        message = json.dumps(result.data)
    else:
        assert result.status == "execution_error", result.data
        assert result.data["node_type"] == bad.kind
        message = result.data["exception_message"]
        assert "Errno" not in message
    assert bad.message in message


def test_every_node_is_given_something_bad(object_info: dict[str, Any]) -> None:
    assert {bad.kind for bad in REFUSED.values()} == {name for name in object_info if name.startswith("MCDM")}
