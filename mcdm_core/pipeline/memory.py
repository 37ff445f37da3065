"""The state that carries a video from clip to clip, and across sessions (paper section 3.4; constant in size).

A :class:`MotionMemory` holds everything the next clip needs: the archive, the last M of every transformer block and
denoising step, the tail of the predicted motion, counters and the random state. It is immutable: sampling a clip
returns a new one, so any earlier point of a video can be continued again.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..errors import MemoryMismatchError
from ..files import write_tensors
from ..models.motion_tokens import STREAMS, MotionTokens

FORMAT = "mcdm_memory_1"


@dataclass(frozen=True)
class MotionMemory:
    """State between two clips. All tensors are on the CPU or the model's device, batch size 1.

    Attributes:
        reference_map: frame-aligned attention map of the reference [1, n, m] (section 3.2).
        archive_latents: the a most recent frames [1, a, c, h, w], oldest first.
        archive_rows: their rows of F_ac [1, a, n, d]; a row is computed once, when its frame enters.
        unet_memory: last M per denoising step and transformer block, [1, N, c]; the outer key is the timestep.
        motion_context: the last frames of motion already shown [k, n, dm] a stream, or None at the start.
        audio_context: the sound tokens of those frames [k, ka, da], or None if unknown.
        frame_index: number of frames made so far; clip_index: number of clips.
        seed: of the video; with the counters it is the whole random state, every clip draws from
            :meth:`generator`, so a resumed video continues bit for bit.
        fingerprint: of the model that made the memory.
    """

    reference_map: Tensor
    archive_latents: Tensor
    archive_rows: Tensor
    unet_memory: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    motion_context: MotionTokens | None = None
    audio_context: Tensor | None = None
    frame_index: int = 0
    clip_index: int = 0
    seed: int = 0
    fingerprint: str = ""

    def generator(self, purpose: str) -> torch.Generator:
        """A CPU random generator that depends on the seed, the clip and ``purpose`` alone."""
        offset = {"motion": 1, "frames": 2}[purpose]
        mixed = (self.seed * 1_000_003 + self.clip_index * 7_919 + offset) % (2**63 - 1)
        return torch.Generator("cpu").manual_seed(mixed)

    def advanced(
        self,
        latents: Tensor,
        rows: Tensor,
        unet_memory: dict[str, dict[str, Tensor]],
        motion_context: MotionTokens | None,
        audio_context: Tensor | None,
    ) -> MotionMemory:
        """The memory after a clip: its latents [1, f, c, h, w] and their rows [1, f, n, d] enter the archive."""
        archive = self.archive_latents.shape[1]
        return dataclasses.replace(
            self,
            archive_latents=torch.cat([self.archive_latents, latents], 1)[:, -archive:].clone(),
            archive_rows=torch.cat([self.archive_rows, rows], 1)[:, -archive:].clone(),
            unet_memory=unet_memory,
            motion_context=motion_context,
            audio_context=audio_context,
            frame_index=self.frame_index + latents.shape[1],
            clip_index=self.clip_index + 1,
        )

    def tensors(self) -> dict[str, Tensor]:
        """All tensors under flat names, as they are saved."""
        flat = {
            "reference_map": self.reference_map,
            "archive_latents": self.archive_latents,
            "archive_rows": self.archive_rows,
        }
        for step, blocks in self.unet_memory.items():
            flat.update({f"unet_memory/{step}/{block}": value for block, value in blocks.items()})
        if self.motion_context is not None:
            flat.update({f"motion_context/{name}": part for name, part in self.motion_context.streams().items()})
        if self.audio_context is not None:
            flat["audio_context"] = self.audio_context
        return flat

    @property
    def num_bytes(self) -> int:
        """Size of the state; it does not depend on the video's length."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors().values())

    def to(self, device: torch.device | str) -> MotionMemory:
        """A copy with the tensors on ``device``."""
        moved = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        return _from_tensors(moved, self._counters())

    def _counters(self) -> dict[str, int | str]:
        return {
            "frame_index": self.frame_index,
            "clip_index": self.clip_index,
            "seed": self.seed,
            "fingerprint": self.fingerprint,
        }

    def save(self, path: str | Path) -> None:
        """Write the memory as a safetensors file; an older one stays until the new one is complete.

        Raises:
            MediaError: if it cannot be written.
        """
        write_tensors(path, self.tensors(), {"format": FORMAT, "counters": json.dumps(self._counters())})

    @classmethod
    def load(cls, path: str | Path, fingerprint: str | None = None) -> MotionMemory:
        """Read a memory written by :meth:`save`.

        Args:
            path: the file.
            fingerprint: of the model that is to continue (``MCDMPipeline.fingerprint``).

        Raises:
            MemoryMismatchError: if the file is missing, is not a memory, or belongs to another model.
        """
        from safetensors import safe_open

        path = Path(path)
        if not path.is_file():
            raise MemoryMismatchError(f"There is no motion memory at {path}. Check the path.")
        try:
            with safe_open(str(path), "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except Exception as error:  # the reader raises its own untyped errors for damaged files
            raise MemoryMismatchError(f"{path.name} cannot be read ({error}). Save the memory again.") from error
        if metadata.get("format") != FORMAT:
            raise MemoryMismatchError(
                f"{path.name} is not a motion memory of this version ({FORMAT}); give one that this version has saved."
            )
        memory = _from_tensors(tensors, json.loads(metadata["counters"]))
        if fingerprint is not None:
            memory.check(fingerprint)
        return memory

    def check(self, fingerprint: str) -> None:
        """Refuse a memory of another model.

        Raises:
            MemoryMismatchError: if the fingerprints differ.
        """
        if self.fingerprint != fingerprint:
            raise MemoryMismatchError(
                f"This motion memory was made by the model {self.fingerprint!r}, the loaded one is {fingerprint!r}. "
                "Load the weights the video was begun with, or start a new memory."
            )


def _from_tensors(tensors: dict[str, Tensor], counters: dict[str, int | str]) -> MotionMemory:
    unet_memory: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("unet_memory/"):
            _, step, block = name.split("/")
            unet_memory.setdefault(step, {})[block] = tensor
    context = None
    if "motion_context/head" in tensors:
        context = MotionTokens(*(tensors[f"motion_context/{name}"] for name in STREAMS))
    return MotionMemory(
        reference_map=tensors["reference_map"],
        archive_latents=tensors["archive_latents"],
        archive_rows=tensors["archive_rows"],
        unet_memory=unet_memory,
        motion_context=context,
        audio_context=tensors.get("audio_context"),
        frame_index=int(counters["frame_index"]),
        clip_index=int(counters["clip_index"]),
        seed=int(counters["seed"]),
        fingerprint=str(counters["fingerprint"]),
    )
