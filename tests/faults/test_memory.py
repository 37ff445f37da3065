"""Too little memory: the command line and the nodes make do with less, or say in one line what is safe."""

from __future__ import annotations

import functools
import importlib
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mcdm_core.media.video_reader import VideoReader
from mcdm_core.pipeline.run.run_folder import RunFolder
from tests.nodes.fixtures import comfyui_stubs, pack_core, pack_module, video_job

from .attempts import Tally, afresh, attempt, moments
from .setting import Setting, grow, grow_under, listed

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="forks and sets limits")]


def test_starved_memory(setting: Setting, tmp_path: Path) -> None:
    output, tally = tmp_path / "out" / "a.mp4", Tally()
    for size in (int(moment) << 20 for moment in moments(3, 200)):
        ending = setting.attempt(output, more_memory=size)
        tally.note(ending)
        tally.others += [] if ending.status in (0, 1) else [f"status {ending.status} with {size >> 20} MiB"]
        if ending.status == 1:
            assert ending.said.splitlines()[-1].startswith("error: "), ending.said
    assert setting.attempt(output).status == 0
    setting.check(output, tally)
    print("\nstarved memory:", tally)
    assert not (tally.unplayable or tally.tracebacks)


class NodeOfTheSetting:
    """A node that makes the setting's video clip by clip into a run folder, as ComfyUI runs it."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.memory, self.errors = pack_module("comfy.models.working_memory"), pack_core("errors")
        self.pipe = pack_core("pipeline.pipeline").MCDMPipeline.from_file(setting.folder / "model.safetensors")

    def work(self, folder: Path) -> Callable[[], int]:
        """The run: 0, or 1 where it ended in one of our errors."""

        class Node:
            @classmethod
            def execute(cls) -> None:
                self._make(folder)

        def work() -> int:
            sys.modules.update(comfyui_stubs(folder.parent))
            self.memory.name_shortages(Node)
            try:
                Node.execute()
            except self.errors.MCDMError as error:
                print(f"error: {error}")
                return 1
            return 0

        return work

    def _make(self, folder: Path) -> None:
        pipe, given = self.pipe, self.setting.folder
        portrait = pack_core("media.portrait").load_portrait(given / "portrait.png", None)
        sound = pack_core("media.audio").load_audio(given / "voice.wav")
        reference = pipe.encode_reference(portrait, box=(40, 50, 120, 130))
        embedding = pipe.embed_audio(sound.waveform, sound.sample_rate, fps=25)
        job = video_job(folder, pipe, embedding.num_frames)

        def clips(memory, first: int, callback):
            return pipe.generate(
                reference, embedding, memory, start_frame=first, steps=1, motion_steps=1, callback=callback
            )

        job.make(pipe.start_memory(reference), clips, 1, {})
        job.run.close()


def alike(run: RunFolder, other: RunFolder) -> bool:
    """Whether two runs show as many frames and end in the same state, but for the rounding of smaller parts.

    The frames themselves do not tell: an encoder that is short of memory for its threads codes them a little otherwise.
    """
    shown, as_many = (sum(len(list(VideoReader(a.clip_path(c.index)))) for c in a.clips) for a in (run, other))
    ends, asked = run.memory().tensors(), other.memory().tensors()
    return shown == as_many and all(torch.allclose(ends[name], asked[name], atol=1e-3) for name in asked)


def test_starved_memory_of_a_node(setting: Setting, tmp_path: Path) -> None:
    node, tally, words, smaller = NodeOfTheSetting(setting), Tally(), Counter(), 0
    # In a process of its own: what this one had freed again would lie ready for those that are to be short.
    assert attempt(node.work(tmp_path / "whole"), tmp_path / "log.txt").status == 0
    whole = RunFolder(tmp_path / "whole")
    folder = tmp_path / "run"
    for size in (int(moment) << 10 for moment in moments(8, 48 << 10)):
        before = listed(folder)
        ending = attempt(node.work(folder), tmp_path / "log.txt", more_memory=size)
        tally.note(ending)
        smaller += "Memory is short" in ending.said
        if ending.status == 1:
            said = ending.said.splitlines()[-1]
            assert said.startswith("error: ") and "Close other programs" in said, ending.said
            words["safe" if "finished clips are kept" in said else "nothing made yet"] += 1
        elif ending.status:
            tally.others.append(f"status {ending.status} with {size >> 10} KiB: {ending.said}")
        with RunFolder(folder) as run:
            tally.lost += max(0, before - len(run.clips))
            if ending.status == 0:
                tally.unplayable += not alike(run, whole)
                folder = tmp_path / f"run{tally.tries}"
    whole.close()
    print("\nstarved memory of a node:", tally, words, f"in smaller parts {smaller}")
    assert not (tally.unplayable or tally.tracebacks or tally.lost or tally.others)


def test_starved_memory_of_a_run_of_the_nodes(tmp_path: Path) -> None:
    """Memory becomes short before a clip of the run; some 6 MiB let it end well, once all is imported."""
    tally = afresh(starve_runs, tmp_path)
    print("\nstarved memory of a run of the nodes:", tally)
    assert not (tally.unplayable or tally.tracebacks or tally.lost or tally.others)
    assert tally.ended or tally.tries < 6  # a few may all have been given enough


def starve_runs(folder: Path) -> Tally:
    """Runs of nodes whose memory becomes short before some clip."""
    _import_all()
    chance = random.Random(8)
    starved = ({"starve": (chance.randrange(40), int(size))} for size in moments(7, 6 << 20))
    return grow_under(starved, folder)


def test_a_video_encoder_without_memory_says_so(tmp_path: Path) -> None:
    """It calls that an error of an external library, which is no matter of the disk."""
    said = afresh(starve_encoders, tmp_path)
    by_encoder = [words for words in said if "DefaultCPUAllocator" not in words]  # of that command line and nodes tell
    assert by_encoder and all("too little free memory" in words for words in by_encoder), said


def starve_encoders(folder: Path) -> list[str]:
    """What runs say whose first clip has 0 to 5 MiB of memory, of those that end early."""
    _import_all()
    endings = [
        attempt(functools.partial(grow, folder / f"{size}", 2, (0, size)), folder / "log.txt")
        for size in range(0, 5 << 20, 1 << 19)
    ]
    return [ending.said for ending in endings if ending.status]


def _import_all() -> None:
    """Map what a clip imports, which takes far more memory than the clip does."""
    for name in ("av.subtitles.stream", "numpy.ctypeslib", "safetensors.torch"):
        importlib.import_module(name)
