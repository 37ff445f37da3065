"""Training clips of the image denoiser: frames from shards; latents, guides and motion tokens computed once.

The autoencoder is frozen here, so the latents of a frame, the guide of a (reference, frame) pair and the motion tokens
of a frame never change: they are computed when first asked for and kept, in memory and (:meth:`LatentClips.save`;
latents and guides) on disk under the fingerprint of the autoencoder that made them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

from ..config import MCDMConfig
from ..errors import MCDMError
from ..media.pixels import to_unit
from ..models.landmarks import VALUE_NAMES
from ..models.motion_codec import MotionCodec
from ..models.reference_warp import warp_guide
from .loop import save_state

logger = logging.getLogger(__name__)


CACHED = ("latents", "guide")
"""What goes to disk: both depend on the autoencoder alone."""


OPEN_MOUTH_SHARE = 0.35
"""Share of clips whose reference has an open mouth."""


def fingerprint(module: nn.Module) -> str:
    """Hash of a module's weights, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for key, value in module.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass
class Clip:
    """One clip of a shard: where its frames are, its landmarks ``[t, 68, 2]``, its fixed reference frame, and which of
    the folders it came from."""

    path: Path
    index: int
    landmarks: Tensor
    reference: int
    group: int = 0
    store: dict[str, Tensor] = field(default_factory=dict)
    ready: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Number of frames t."""
        return len(self.landmarks)

    def frames(self, indices: Sequence[int]) -> Tensor:
        """Pictures ``[n, 3, H, W]`` in [-1, 1]; ``indices`` ascending."""
        with safe_open(str(self.path), framework="pt") as file:
            part = file.get_slice(f"{self.index}/frames")[int(indices[0]) : int(indices[-1]) + 1]
        chosen = part[torch.as_tensor([i - int(indices[0]) for i in indices])]
        return to_unit(chosen.permute(0, 3, 1, 2))


def draw_reference(
    values: Tensor,
    random: np.random.Generator,
    candidates: int = 6,
    pose: Tensor | None = None,
    open_mouth: bool = False,
) -> int:
    """A reference frame: of some drawn at random the one most like a portrait, eyes open, mouth at rest, to the front.

    Args:
        values: facial values ``[t, 16]``; pose: head pose ``[t, 6]``, yaw and pitch first, in radians.
        open_mouth: prefer an open mouth instead, as smiling portraits have: the network learns to put teeth right.
    """
    drawn = random.integers(0, len(values), candidates)
    blinks = values[drawn][:, [VALUE_NAMES.index("blink_left"), VALUE_NAMES.index("blink_right")]].sum(1)
    opening = values[drawn][:, VALUE_NAMES.index("lip_opening")]
    restless = blinks + (-0.8 if open_mouth else 0.5) * opening
    if pose is not None:
        restless = restless + pose[drawn][:, :2].abs().sum(1)
    return int(drawn[int(restless.argmin())])


def read_clips(
    folders: Iterable[Path], minimum: int, seed: int, limit: int | None = None, skip: Collection[Path] = ()
) -> list[Clip]:
    """Clips of at least ``minimum`` frames from the shards in ``folders``, each with a reference frame drawn once."""
    clips: list[Clip] = []
    for group, folder in enumerate(folders):
        for path in sorted(Path(folder).glob("*.safetensors")):
            if path in skip:
                continue
            # Drawn a file at a time: files that are added later do not change the references of the others.
            random = np.random.default_rng([seed, zlib.crc32(path.name.encode())])
            with safe_open(str(path), framework="pt") as file:
                names = set(file.keys())
                count = len(json.loads((file.metadata() or {}).get("clips", "[]")))
                for index in range(count):
                    landmarks = file.get_tensor(f"{index}/landmarks")
                    values = file.get_tensor(f"{index}/values")
                    pose = file.get_tensor(f"{index}/pose") if f"{index}/pose" in names else None
                    smiling = zlib.crc32(f"{path.name}:{index}".encode()) % 100 < 100 * OPEN_MOUTH_SHARE
                    reference = draw_reference(values, random, pose=pose, open_mouth=smiling)
                    if len(landmarks) >= minimum:
                        clips.append(Clip(path, index, landmarks, reference, group))
    if limit is not None and len(clips) > limit:
        chosen = np.random.default_rng(seed).choice(len(clips), limit, replace=False)
        clips = [clips[i] for i in sorted(chosen)]
    return clips


class LatentClips:
    """Clips with what the frozen models make of them, computed when first needed.

    Per frame: ``latents [c, h, w]``, ``guide [g, h, w]`` against the clip's reference, ``motion [m, dm]``, all half
    precision. ``own`` holds the denoiser's own samples of a frame, put there by training (:meth:`remember`).
    """

    def __init__(
        self,
        clips: list[Clip],
        vae: nn.Module,
        config: MCDMConfig,
        codec: MotionCodec | None = None,
        batch: int = 32,
        shares: Sequence[float] | None = None,
    ) -> None:
        if not clips:
            raise MCDMError(
                "No clip is long enough to train the denoiser on: expected shards (*.safetensors) with clips of at "
                "least 2 f frames; render synthetic clips or prepare real ones first."
            )
        self.clips = clips
        self.vae = vae.eval().requires_grad_(False)
        self.codec = None if codec is None else codec.eval().requires_grad_(False)
        self.config = config
        self.batch = batch
        self.shares = None if shares is None else tuple(shares)
        self.fingerprint = fingerprint(vae)

    def __len__(self) -> int:
        return len(self.clips)

    def draw(self, random: np.random.Generator) -> Clip:
        """A random clip; with ``shares``, of a folder drawn by them (of those that have clips)."""
        if self.shares is None:
            return self.clips[int(random.integers(len(self)))]
        groups: dict[int, list[Clip]] = {}
        for clip in self.clips:
            groups.setdefault(clip.group, []).append(clip)
        weights = np.array([self.shares[group] for group in groups])
        chosen = groups[list(groups)[int(random.choice(len(weights), p=weights / weights.sum()))]]
        return chosen[int(random.integers(len(chosen)))]

    def add_new(self, folders: Iterable[Path], minimum: int, seed: int) -> int:
        """Add the clips of shards that appeared since; returns how many."""
        new = read_clips(folders, minimum, seed, skip={clip.path for clip in self.clips})
        self.clips += new
        return len(new)

    def get(self, kind: str, clip: Clip, indices: Sequence[int]) -> Tensor:
        """``kind`` (``latents``, ``guide`` or ``motion``) of ascending frames, float32 ``[n, ...]``."""
        ready = clip.ready.setdefault(kind, np.zeros(clip.length, dtype=bool))
        missing = sorted({int(i) for i in indices if not ready[int(i)]})
        for start in range(0, len(missing), self.batch):
            part = missing[start : start + self.batch]
            values = self._compute(kind, clip, part).half()
            if kind not in clip.store:
                clip.store[kind] = values.new_zeros((clip.length, *values.shape[1:]))
            clip.store[kind][part] = values
            ready[part] = True
        return clip.store[kind][torch.as_tensor(list(indices))].float()

    @torch.no_grad()
    def _compute(self, kind: str, clip: Clip, indices: Sequence[int]) -> Tensor:
        frames = clip.frames(indices)
        if kind == "motion":
            return self._motion(clip, indices, frames)
        if kind == "latents":
            return self.vae.encode(frames.contiguous(memory_format=torch.channels_last))
        reference = clip.frames([clip.reference])
        points = clip.landmarks[torch.as_tensor(list(indices))][None]
        still = clip.landmarks[clip.reference][None]
        return warp_guide(self.vae.encode, reference, still, points, self.config.unet.warp)[0][0]

    def _motion(self, clip: Clip, indices: Sequence[int], frames: Tensor) -> Tensor:
        if self.codec is None:
            raise MCDMError("Motion tokens are needed (stage 3), but no motion codec was given.")
        points = clip.landmarks[torch.as_tensor(list(indices))]
        with torch.autocast("cpu", enabled=False):
            return self.codec.encode(frames[None], points[None]).cat()[0]

    def reference(self, clip: Clip) -> Tensor:
        """Latents of the clip's reference ``[c, h, w]``."""
        return self.get("latents", clip, [clip.reference])[0]

    def remember(self, clip: Clip, indices: Sequence[int], samples: Tensor) -> None:
        """Keep the denoiser's own samples ``[n, c, h, w]`` of some frames."""
        if "own" not in clip.store:
            clip.store["own"] = samples.new_zeros((clip.length, *samples.shape[1:]), dtype=torch.half)
            clip.ready["own"] = np.zeros(clip.length, dtype=bool)
        clip.store["own"][torch.as_tensor(list(indices))] = samples.half()
        clip.ready["own"][list(indices)] = True

    def archived(self, clip: Clip, indices: Sequence[int], own: bool) -> Tensor:
        """Latents of archived frames; with ``own``, the denoiser's samples of those it has made."""
        latents = self.get("latents", clip, indices)
        if own and "own" in clip.store:
            made = torch.from_numpy(clip.ready["own"][list(indices)])
            samples = clip.store["own"][torch.as_tensor(list(indices))].float()
            latents = torch.where(made[:, None, None, None], samples, latents)
        return latents

    def save(self, path: Path) -> None:
        """Write what was computed so far; :meth:`load` takes it back if the autoencoder is the same."""
        state: dict[str, Tensor] = {}
        for clip in self.clips:
            for kind, values in clip.store.items():
                if kind in CACHED:
                    state[f"{self._name(clip)}/{kind}"] = values
                    state[f"{self._name(clip)}/{kind}/ready"] = torch.from_numpy(clip.ready[kind])
        save_state(path, state, {"fingerprint": self.fingerprint})

    def load(self, path: Path) -> bool:
        """Take back a file of :meth:`save`; False if there is none, or another autoencoder made it."""
        if not path.exists():
            return False
        with safe_open(str(path), framework="pt") as file:
            if (file.metadata() or {}).get("fingerprint") != self.fingerprint:
                logger.info("%s was made by another autoencoder: latents are computed anew", path.name)
                return False
            kept = set(file.keys())
            for clip in self.clips:
                for kind in CACHED:
                    key = f"{self._name(clip)}/{kind}"
                    if key in kept:
                        clip.store[kind] = file.get_tensor(key)
                        clip.ready[kind] = file.get_tensor(f"{key}/ready").numpy()
        return True

    @staticmethod
    def _name(clip: Clip) -> str:
        folder = ":".join(clip.path.parts[-3:-1])
        return f"{folder}:{clip.path.name}:{clip.index}:{clip.length}:{clip.reference}"
