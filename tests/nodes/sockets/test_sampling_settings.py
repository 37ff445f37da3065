"""What the samplers' widgets mean to the pipeline."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mcdm_core.pipeline.defaults import sampling_defaults

from ..fixtures import pack_module

settings = pack_module("sockets.sampling_settings")


@pytest.mark.parametrize("preset", ["tiny", "base"])
def test_zero_is_the_model_s_own(preset: str) -> None:
    pipeline = SimpleNamespace(config=SimpleNamespace(preset=preset))
    own = sampling_defaults(preset)
    found = settings.PictureSettings.of(pipeline, 0, 0.0)
    assert found.arguments() == {"steps": own.steps, "guidance": own.guidance}
    assert settings.PictureSettings.of(pipeline, 7, 2.5).arguments() == {"steps": 7, "guidance": 2.5}


def test_base_does_not_sample_one_step_without_guidance() -> None:
    pipeline = SimpleNamespace(config=SimpleNamespace(preset="base"))
    found = settings.PictureSettings.of(pipeline, 0, 0.0)
    assert found.steps == 25 and found.guidance > 1


def test_motion_settings_leave_to_the_model_what_is_not_set() -> None:
    assert settings.MotionSettings().arguments() == {
        "steps": None,
        "guidance": None,
        "temperature": None,
        "blinks": True,
        "blink_rate": 17.0,
    }
    given = settings.MotionSettings(4, 1.15, 0.0, blinks=False, blink_rate=9.0).arguments("motion_")
    wanted = {"motion_steps": 4, "motion_guidance": 1.15, "temperature": 0.0, "blinks": False, "blink_rate": 9.0}
    assert given == wanted, "0 is calm"


def test_only_changes_of_the_motion_need_the_whole_of_it() -> None:
    assert not settings.MotionSettings(temperature=1.0).edited and not settings.MotionSettings(expression=" ").edited
    assert settings.MotionSettings(expression="happy").edited and settings.MotionSettings(head_movement=0.5).edited


def test_a_schedule_that_cannot_be_read_is_refused_before_the_work() -> None:
    with pytest.raises(ValueError, match="expression schedule"):
        settings.MotionSettings(expression="1 joyful").check()
