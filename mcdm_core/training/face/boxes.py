"""Training of the box net on pictures with faces of every size laid over backgrounds (``scenes.py``).

The net looks at one level of an image pyramid for faces about 32 px wide. Smaller and larger ones belong to other
levels, so they are shown as background too. Those in between are left out of the loss.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn

from ...config import MCDMConfig, to_json
from ...data.real.stills import list_stills
from ...data.real.video import list_clips, read_clip
from ...errors import MediaError
from ...face.reading.face_network import FaceNetwork
from ..channels_last import channels_last
from ..frame_store import read_pictures, shrunk
from ..loop import LoopSettings, TrainResult, save_state, train
from .scenes import Atlas, KnownFaces, cell_targets, pixel_places, scenes_with_faces
from .train import load_frames

logger = logging.getLogger(__name__)

_SYNTHETIC = 3000
"""The most synthetic frames that are used; they hardly differ where faces are only to be found."""


def box_losses(output: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Focal cross-entropy of presence (gamma 2) and smooth L1 of the boxes; ``[b, 4, s, s]`` and ``[b, 5, s, s]``."""
    logit, presence = output[:, 0], target[:, 0]
    counts = (presence >= 0).float()
    truth = presence.clamp_min(0)
    entropy = functional.binary_cross_entropy_with_logits(logit, truth, reduction="none")
    focus = (truth - logit.sigmoid()).abs().square()
    weight = torch.where(truth > 0, 2.0, 1.0)
    number = target[:, 4].sum().clamp_min(1)
    score = (entropy * focus * weight * counts).sum() / number
    error = functional.smooth_l1_loss(output[:, 1:], target[:, 1:4], beta=0.1, reduction="none").sum(1)
    place = (error * target[:, 4]).sum() / number
    return {"loss": score + place, "score": score, "place": place}


@torch.no_grad()
def refine_squares(
    network: FaceNetwork, atlas: Atlas, squares: Tensor, steps: int = 4, part: int = 128
) -> tuple[Tensor, Tensor]:
    """``FaceNetwork.refine`` for the one face of each of many pictures.

    Args:
        network: in evaluation mode, on the atlas' device.
        squares: ``[n, 3]`` centre x, y and side in pixels to begin from.

    Returns:
        The canonical squares ``[n, 3]`` and the confidence ``[n]`` of the last reading.
    """
    size = network.input_size
    offsets = pixel_places(squares.device, size) / size - 0.5
    found, sure = [], []
    for index in torch.arange(len(atlas), device=squares.device).split(part):
        square, confidence = squares[index], squares.new_zeros(len(index))
        for step in range(steps):
            centre, side = square[:, None, None, :2], square[:, 2]
            crops = atlas.look(index, centre + offsets * side[:, None, None, None], size / side) / 127.5 - 1
            reading = network(crops)
            confidence = reading.confidence
            if step + 1 < steps:
                corner = square[:, :2] - side[:, None] / 2
                square = network.canonical_squares(reading.landmarks * side[:, None, None] + corner[:, None])
        found.append(square)
        sure.append(confidence)
    return torch.cat(found), torch.cat(sure)


def gather_faces(
    network: FaceNetwork,
    data_root: Path | None,
    stills: Path | None = None,
    videos: Path | None = None,
    device: torch.device | str = "cpu",
    labelled: Sequence[Path] = (),
) -> KnownFaces:
    """Known faces from synthetic shards (``train``), from portraits cut around heads and from talking clips likewise.

    The network's own landmarks say where the face is in the real ones; those it is not sure of are left out.

    Args:
        network: with its landmarks trained; it is moved to ``device``.
        labelled: folders of shards of real faces with labels.

    Raises:
        MediaError: if nothing was found at all.
    """
    network.eval().to(device)
    pictures = [] if stills is None else read_pictures(list_stills(stills, 40)[0])
    if videos is not None:
        paths = list_clips(videos)[0]
        paths = paths[:: max(1, len(paths) // 60)]
        pictures += [shrunk(read_clip(path, 40, with_audio=False).frames[0]) for path in paths]
    squares: list[Tensor] = []
    if pictures:
        atlas = Atlas.of(pictures, device)
        width, height = atlas.sizes.unbind(1)
        found, confidence = refine_squares(network, atlas, torch.stack([0.5 * width, 0.5 * height, 0.8 * height], 1))
        share = found[:, 2] / height
        kept = ((confidence > 0.5) & (share > 0.45) & (share < 1.15)).nonzero()[:, 0].tolist()
        pictures = [pictures[k] for k in kept]
        squares.append(found[kept])
    for folder in labelled:
        _add_frames(network, folder, pictures, squares, device)
    real = len(pictures)
    if data_root is not None:
        _add_frames(network, Path(data_root) / "train", pictures, squares, device)
    if not pictures:
        raise MediaError("There are no faces to train the box net on; give synthetic shards, portraits or videos.")
    logger.info("%d known faces, %d of them real", len(pictures), real)
    return KnownFaces(Atlas.of(pictures, device), torch.cat(squares), real)


def _add_frames(
    network: FaceNetwork,
    folder: Path,
    pictures: list[NDArray[np.uint8]],
    squares: list[Tensor],
    device: torch.device | str,
) -> None:
    """Add up to :data:`_SYNTHETIC` frames of a folder's shards to the pictures and their squares."""
    frames = load_frames(folder, every=25)
    if frames is None:
        return
    used = slice(None, None, -(-len(frames) // _SYNTHETIC))
    pictures += list(frames.frames[used].numpy())
    squares.append(network.canonical_squares(frames.landmarks[used].to(device) * frames.frames.shape[1]))


def train_face_boxes(
    network: FaceNetwork,
    faces: KnownFaces,
    scenes: Sequence[NDArray[np.uint8]],
    output: Path,
    config: MCDMConfig,
    minutes: float | None = None,
    steps: int | None = None,
    batch_size: int = 16,
    learning_rate: float = 2e-3,
    resume: bool = True,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> TrainResult:
    """Train ``network.boxes`` alone and save the whole network to ``output``.

    Args:
        network: with its landmarks trained; it is moved to ``device``.
        faces: pictures with one known face each; scenes: pictures that hold no face.
    """
    torch.manual_seed(seed)
    channels_last(network, device)
    faces = faces.to(device)
    empty = Atlas.of([shrunk(scene) for scene in scenes], device) if len(scenes) else None

    def losses(step: int) -> Mapping[str, Tensor]:
        pictures, placed, there = scenes_with_faces(faces, empty, batch_size)
        x = (pictures / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        return box_losses(network.boxes(x).float(), cell_targets(placed, there))

    boxes: nn.Module = network.boxes.requires_grad_(True)
    settings = LoopSettings(
        output=Path(output).with_name("face_boxes.safetensors"),
        steps=steps,
        minutes=minutes,
        learning_rate=learning_rate,
        ema_decay=0.995,
        save_every=500,
        validate_every=10**9,
        resume=resume,
    )
    result = train(boxes, losses, settings)
    network.eval()
    save_state(output, network.state_dict(), {"mcdm_config": to_json(config), "component": "face_network"})
    return result
