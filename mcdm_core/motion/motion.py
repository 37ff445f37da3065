"""The motion of a segment of video, as the pipeline hands it around and stores it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import FrameRateError, MCDMError
from ..files import read_json, read_tensors, write_tensors
from ..models.motion_tokens import STREAMS, MotionTokens

METADATA = "mcdm_motion"
VERSION = 1


@dataclass(frozen=True)
class Motion:
    """N frames of motion. Never changed in place.

    Attributes:
        tokens: normalised motion tokens, each stream ``[N, n, dm]``.
        landmarks: ``[N, 68, 2]`` in [0, 1] of the face crop, decoded for a certain reference; None before that.
        values: facial values ``[N, 16]``; None before decoding.
        fps: frames a second.
    """

    tokens: MotionTokens
    landmarks: Tensor | None
    values: Tensor | None
    fps: float

    def __post_init__(self) -> None:
        number = len(self.tokens.head)
        sizes = {"lip": len(self.tokens.lip), "expression": len(self.tokens.expression)}
        if self.landmarks is not None:
            sizes["landmarks"] = len(self.landmarks)
        if self.values is not None:
            sizes["values"] = len(self.values)
        for name, size in sizes.items():
            if size != number:
                raise MCDMError(f"motion has {number} frames of head tokens but {size} of {name}: they must agree")
        if not self.fps > 0:
            raise FrameRateError(f"the frame rate of a motion must be positive, got {self.fps}")

    def __len__(self) -> int:
        return len(self.tokens.head)

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self) / self.fps

    def __getitem__(self, index: int | slice) -> Motion:
        """Frames ``index``; a single number gives a motion of one frame.

        Raises:
            IndexError: for a single number outside.
        """
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"frame {index} of a motion of {len(self)} frames")
            index = slice(index % len(self), index % len(self) + 1)
        return Motion(
            self.tokens.map(lambda t: t[index]),
            None if self.landmarks is None else self.landmarks[index],
            None if self.values is None else self.values[index],
            self.fps,
        )

    def clips(self, frames: int) -> list[Motion]:
        """Cut into consecutive motions of ``frames`` frames; the last may be shorter."""
        return [self[start : start + frames] for start in range(0, len(self), frames)]

    def with_tokens(self, tokens: MotionTokens) -> Motion:
        """The same segment with other tokens; what had been decoded is dropped, because it no longer fits."""
        return replace(self, tokens=tokens, landmarks=None, values=None)

    @staticmethod
    def cat(parts: list[Motion]) -> Motion:
        """Join motions in time. What is not decoded in every part is dropped.

        Raises:
            MCDMError: if the list is empty; FrameRateError: if the frame rates differ.
        """
        if not parts:
            raise MCDMError("there is no motion to join: give at least one")
        rates = {p.fps for p in parts}
        if len(rates) > 1:
            raise FrameRateError(f"motions at {sorted(rates)} frames a second cannot be joined: resample them first")

        def join(tensors: list[Tensor | None]) -> Tensor | None:
            known = [t for t in tensors if t is not None]
            return torch.cat(known) if len(known) == len(tensors) else None

        tokens = MotionTokens.join([p.tokens for p in parts])
        return Motion(tokens, join([p.landmarks for p in parts]), join([p.values for p in parts]), parts[0].fps)

    def save(self, path: Path | str) -> None:
        """Write as safetensors.

        Raises:
            MediaError: if it cannot be written.
        """
        tensors = {f"tokens.{name}": stream for name, stream in self.tokens.streams().items()}
        if self.landmarks is not None:
            tensors["landmarks"] = self.landmarks
        if self.values is not None:
            tensors["values"] = self.values
        own = {name: tensor.clone() for name, tensor in tensors.items()}
        write_tensors(path, own, {METADATA: json.dumps({"version": VERSION, "fps": self.fps})})

    @staticmethod
    def load(path: Path | str) -> Motion:
        """Read what :meth:`save` wrote.

        Raises:
            MCDMError: if the file is missing, damaged or holds something else.
        """
        name = Path(path).name
        tensors, metadata = read_tensors(path, error=MCDMError, what="motion")
        if METADATA not in metadata:
            raise MCDMError(f"{name} is a safetensors file but no motion: choose a file saved as motion.")
        about = read_json(metadata[METADATA], error=MCDMError, what=f"The metadata of {name}")
        if about.get("version") != VERSION:
            raise MCDMError(f"{name} is a motion of version {about.get('version')!r}; this MCDM reads {VERSION}.")
        try:
            _check_shapes(tensors)
            tokens = MotionTokens(*(tensors[f"tokens.{s}"] for s in STREAMS))
            fps = about["fps"]
            if not isinstance(fps, int | float) or not 0 < fps <= 1000:
                raise ValueError(f"the frame rate is {str(fps)[:40]}")
        except (KeyError, ValueError) as error:
            raise MCDMError(f"{name} is no whole motion ({error}): save it again.") from error
        return Motion(tokens, tensors.get("landmarks"), tensors.get("values"), float(fps))


def _check_shapes(tensors: dict[str, Tensor]) -> None:
    shapes: dict[str, tuple[int | None, ...]] = {
        **{f"tokens.{stream}": (None, None, None) for stream in STREAMS},
        "landmarks": (None, 68, 2),
        "values": (None, None),
    }
    for name, tensor in tensors.items():
        wanted = shapes.get(name)
        fits = wanted is not None and tensor.ndim == len(wanted) and tensor.is_floating_point() and len(tensor) > 0
        if not fits or any(w not in (None, size) for w, size in zip(wanted or (), tensor.shape, strict=True)):
            raise ValueError(f"{name[:60]} is {tensor.dtype} of shape {list(tensor.shape)}")
