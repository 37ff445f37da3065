"""A node that runs out of memory makes room and goes on; if that does not help, it says what is safe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mcdm_core.media.video_reader import read_video
from tests.nodes.fixtures import comfyui_stubs, pack_core, pack_module, video_job

working_memory = pack_module("comfy.models.working_memory")
errors = pack_core("errors")


@pytest.fixture
def comfyui(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """Stubs of ComfyUI; says whether all models were unloaded."""
    told, modules = SimpleNamespace(unloaded=0), comfyui_stubs(tmp_path)

    def unload_all_models() -> None:
        told.unloaded += 1

    modules["comfy.model_management"].unload_all_models = unload_all_models  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return told


def failing(pipe: Any, reference: Any, voice: torch.Tensor, at: int, times: int) -> Callable[..., Iterator[Any]]:
    """Clips of the random model, of which one cannot be made so many times for want of memory."""
    sound, left = pipe.embed_audio(voice, 16_000), [times]

    def clips(memory: Any, first: int, callback: Any) -> Iterator[Any]:
        made = pipe.generate(reference, sound, memory, start_frame=first, steps=1, motion_steps=1, callback=callback)
        for clip in made:
            if clip.index == at and left[0] > 0:
                left[0] -= 1
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
            yield clip

    return clips


def test_other_models_are_unloaded_and_the_video_goes_on(
    comfyui: SimpleNamespace, pipe: Any, reference: Any, voice: torch.Tensor, tmp_path: Path, caplog: Any
) -> None:
    rooms: list[int] = []
    start = pipe.start_memory(reference)
    videos = []
    for times in (0, 1):
        job = video_job(tmp_path / str(times), pipe, 14, lambda: rooms.append(1))
        path = job.make(start, failing(pipe, reference, voice, 2, times), 1, {})
        assert job.run.frames == 14
        job.run.close()
        videos.append(read_video(path)[0])
    assert rooms == [1] and "clip 3 is made again" in caplog.text
    assert videos[0].shape == videos[1].shape and (videos[0] - videos[1]).abs().mean() < 0.002


def test_what_is_safe_and_what_would_help_are_named(
    comfyui: SimpleNamespace, pipe: Any, reference: Any, voice: torch.Tensor, tmp_path: Path
) -> None:
    job = video_job(tmp_path / "run", pipe, 14)
    with pytest.raises(errors.OutOfMemoryError) as caught:
        job.make(pipe.start_memory(reference), failing(pipe, reference, voice, 2, 2), 1, {})
    job.run.close()
    said = str(caught.value)
    assert "too little free memory" in said and "Close other programs" in said and "\n" not in said
    assert f"2 finished clips are kept in {tmp_path / 'run'}" in said
    job = video_job(tmp_path / "run", pipe, 14)
    job.make(pipe.start_memory(reference), failing(pipe, reference, voice, 9, 0), 1, {})
    assert job.run.taken == 2 and job.run.frames == 14
    job.run.close()


def test_every_other_node_names_a_shortage_too(comfyui: SimpleNamespace) -> None:
    def node(error: Exception) -> Any:
        class Node:
            @classmethod
            def execute(cls, value: int, more: int = 0) -> int:
                if value:
                    raise error
                return more

        working_memory.name_shortages(Node)
        return Node

    assert node(MemoryError()).execute(0, more=3) == 3 and comfyui.unloaded == 0
    with pytest.raises(errors.OutOfMemoryError, match="Close other programs"):
        node(MemoryError()).execute(1)
    assert comfyui.unloaded == 1
    for error in (errors.MediaError("no face"), KeyError("defect")):
        with pytest.raises(type(error)) as caught:
            node(error).execute(1)
        assert caught.value is error
    assert comfyui.unloaded == 1
