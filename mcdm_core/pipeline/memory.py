"""The state that carries a video from clip to clip, and across sessions (paper section 3.4; constant in size).

A :class:`MotionMemory` holds everything the next clip needs. That is the archive, the last M of every transformer block
and denoising step, the tail of the predicted motion, counters and the random state. It is immutable: sampling a clip
returns a new one, so any earlier point of a video can be continued again.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import MemoryMismatchError
from ..files import read_json, read_tensors, write_tensors
from ..models.inputs.gallery import Gallery
from ..models.motion_tokens import STREAMS, MotionTokens

FORMAT = "mcdm_memory_1"
METADATA = "mcdm_memory"
_LARGEST_COUNT = 2**64


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
        gallery: what was seen of the person beside the portrait, part by part, as uint8 with its contours; None if
            nothing was. The parts' decoder looks there for what it paints (``models/layers/picture_sight.py``).
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
    gallery: Gallery | None = None
    frame_index: int = 0
    clip_index: int = 0
    seed: int = 0
    fingerprint: str = ""

    def generator(self, purpose: str) -> torch.Generator:
        """A CPU random generator that depends on the seed, ``purpose`` and, but for ``"video"``, the clip alone."""
        offset = {"motion": 1, "frames": 2, "video": 3}[purpose]
        clip = 0 if purpose == "video" else self.clip_index
        mixed = (self.seed * 1_000_003 + clip * 7_919 + offset) % (2**63 - 1)
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
        if self.gallery is not None:
            flat.update({"gallery/pictures": self.gallery.pictures, "gallery/shapes": self.gallery.shapes})
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
        # One entry: the order of several in the file is left to chance.
        write_tensors(path, self.tensors(), {METADATA: json.dumps({"format": FORMAT, **self._counters()})})

    @classmethod
    def load(cls, path: str | Path, fingerprint: str | None = None) -> MotionMemory:
        """Read a memory written by :meth:`save`.

        Args:
            path: the file.
            fingerprint: of the model that is to continue (``MCDMPipeline.fingerprint``).

        Raises:
            MemoryMismatchError: if the file is missing, is not a memory, or belongs to another model.
        """
        path = Path(path)
        tensors, metadata = read_tensors(path, error=MemoryMismatchError, what="motion memory")
        if METADATA in metadata:
            about = read_json(metadata[METADATA], error=MemoryMismatchError, what=f"The metadata of {path.name}")
        else:  # version 0.1
            about = read_json(metadata.get("counters", "{}"), error=MemoryMismatchError, what=path.name)
            about["format"] = metadata.get("format")
        if about.get("format") != FORMAT:
            raise MemoryMismatchError(
                f"{path.name} is not a motion memory of this version ({FORMAT}); give a file that this version saved."
            )
        try:
            memory = _from_tensors(tensors, about)
        except (KeyError, ValueError, TypeError) as error:
            raise MemoryMismatchError(
                f"{path.name} is no whole motion memory ({error}). Save the memory again."
            ) from error
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


def _from_tensors(tensors: dict[str, Tensor], counters: dict[str, Any]) -> MotionMemory:
    """A memory out of flat names.

    Raises:
        KeyError, ValueError, TypeError: if something is missing or of another shape.
    """
    unet_memory: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("unet_memory/"):
            _, step, block = name.split("/")
            if not 0 <= float(step) < 1e9:
                raise ValueError(f"{name} names no step")
            unet_memory.setdefault(step, {})[block] = tensor
    context = None
    if "motion_context/head" in tensors:
        context = MotionTokens(*(tensors[f"motion_context/{name}"] for name in STREAMS))
    _check_shapes(tensors)
    gallery = None
    if "gallery/pictures" in tensors:
        gallery = Gallery(tensors["gallery/pictures"], tensors["gallery/shapes"])
    return MotionMemory(
        reference_map=tensors["reference_map"],
        archive_latents=tensors["archive_latents"],
        archive_rows=tensors["archive_rows"],
        unet_memory=unet_memory,
        motion_context=context,
        audio_context=tensors.get("audio_context"),
        gallery=gallery,
        frame_index=_count(counters, "frame_index"),
        clip_index=_count(counters, "clip_index"),
        seed=_count(counters, "seed", least=-_LARGEST_COUNT),
        fingerprint=str(counters["fingerprint"]),
    )


def _check_shapes(tensors: dict[str, Tensor]) -> None:
    """Refuse parts that do not belong together; the model's own sizes are vouched for by its fingerprint.

    Raises:
        ValueError: if they do not.
    """
    axes = {"reference_map": 3, "archive_latents": 5, "archive_rows": 4, "audio_context": 3}
    axes |= {"gallery/pictures": 5, "gallery/shapes": 3}
    for name, tensor in tensors.items():
        kind = name.partition("/")[0]
        wanted = axes.get(name) or {"unet_memory": 3, "motion_context": 3}.get(kind)
        if wanted is None:
            raise ValueError(f"the part {name[:60]!r} is unknown")
        right_kind = tensor.dtype == torch.uint8 if name == "gallery/pictures" else tensor.is_floating_point()
        if tensor.ndim != wanted or tensor.numel() == 0 or not right_kind:
            raise ValueError(f"{name} is {tensor.dtype} of shape {list(tensor.shape)}")
    batched = [name for name in tensors if name.startswith(("reference_map", "archive_", "unet_memory/", "gallery/"))]
    if len({tensors[name].shape[0] for name in batched}) > 1:
        raise ValueError("its parts are of different numbers of videos")
    if any(name.startswith("gallery/") for name in tensors):
        pictures, shapes = (tensors[f"gallery/{name}"].shape for name in ("pictures", "shapes"))
        if pictures[2] != 3 or pictures[3] != pictures[4] or pictures[:2] != shapes[:2]:
            raise ValueError(f"its gallery has shapes {list(pictures)} and {list(shapes)}")
    if tensors["archive_latents"].shape[1] != tensors["archive_rows"].shape[1]:
        raise ValueError("its archive holds frames without their rows")
    if tensors["reference_map"].shape[1] != tensors["archive_rows"].shape[2]:
        raise ValueError("its archive does not fit its reference")
    if len({tensors[n].shape[0] for n in tensors if n.startswith("motion_context/")}) > 1:
        raise ValueError("its motion has streams of different lengths")


def _count(counters: dict[str, Any], name: str, least: int = 0) -> int:
    value = counters[name]
    if type(value) is not int or not least <= value <= _LARGEST_COUNT:
        raise ValueError(f"{name} is {str(value)[:40]}")
    return value
