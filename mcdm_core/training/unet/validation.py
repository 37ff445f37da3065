"""Validation of the image denoiser: videos of two clips from held-out people, against the warped reference alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...diffusion.frame_diffusion import FrameDiffusion
from ...face.compositing.crop import transfer_detail
from ...face.landmarks import LIDS, LIPS
from ...face.reference_warp import warp_reference
from ...models.unet import DenoisingUNet
from ..vae.train import contact_sheet, psnr
from .data import LatentClips
from .denoiser import DenoisingNetworks


class ClipDenoiser:
    """``(x_t, t) -> prediction`` of one clip; collects the memory to carry on in :attr:`carried`, by timestep."""

    def __init__(
        self,
        unet: DenoisingUNet,
        f_ac: Tensor,
        tokens: Tensor | None,
        guide: Tensor | None,
        memory: dict[str, dict[str, Tensor]],
        bypass_temporal: bool,
    ) -> None:
        self.unet, self.f_ac, self.tokens, self.guide = unet, f_ac, tokens, guide
        self.memory, self.bypass_temporal = memory, bypass_temporal
        self.carried: dict[str, dict[str, Tensor]] = {}

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The network's prediction ``[b, f, c, h, w]``."""
        key, t = f"{float(t):.3f}", t.to(x.device)
        prediction, self.carried[key] = self.unet(
            x, t, self.f_ac, self.tokens, self.memory.get(key), self.guide, bypass_temporal=self.bypass_temporal
        )
        return prediction


@torch.no_grad()
def generate_frames(
    denoiser: DenoisingNetworks,
    data: LatentClips,
    clip: int,
    diffusion: FrameDiffusion,
    *,
    num_clips: int,
    steps: int,
    bypass_temporal: bool,
    motion: bool,
    seed: int = 0,
) -> Tensor:
    """Latents ``[1, num_clips * f, c, h, w]`` of a clip's first frames, the archive being the model's own frames."""
    length = data.config.clip_frames
    generator = torch.Generator().manual_seed(seed)
    first, still = int(data.frames.first[clip]), data.frames.references[[clip], 0]
    reference = data.latents(still)
    prior, unet = denoiser.archived_clip_prior, denoiser.unet
    attention = prior.reference_attention(reference)
    archive = reference[:, None].expand(-1, length, -1, -1, -1)
    memory: dict[str, dict[str, Tensor]] = {}
    made = []
    for k in range(num_clips):
        rows = first + np.arange(k * length, (k + 1) * length)[None]
        guide = data.guide(rows, still) if data.config.unet.warped_reference else None
        tokens = data.motion(rows) if motion else None
        f_ac = prior(attention, archive)
        shape = (1, length, *reference.shape[1:])
        denoise = ClipDenoiser(unet, f_ac, tokens, guide, memory, bypass_temporal)
        noise = torch.randn(shape, generator=generator).to(reference.device)
        x0 = diffusion.sample(denoise, noise, steps, guide)
        memory, archive = denoise.carried, x0
        made.append(x0)
    return torch.cat(made, 1)


def mouth_cuts(pictures: Tensor, landmarks: Tensor, side: int, group: slice = LIPS) -> Tensor:
    """The square of ``side`` pixels around the lips (or another group of points) of each picture.

    ``[n, 3, H, W] -> [n, 3, side, side]``.
    """
    size = pictures.shape[-1]
    corners = (landmarks[:, group].mean(1) * size - side / 2).round().long().clamp(0, size - side)
    return torch.stack([p[:, y : y + side, x : x + side] for p, (x, y) in zip(pictures, corners.tolist(), strict=True)])


@torch.no_grad()
def validate_denoiser(
    denoiser: DenoisingNetworks,
    data: LatentClips,
    diffusion: FrameDiffusion,
    *,
    bypass_temporal: bool,
    motion: bool,
    picture: Path | None = None,
    steps: tuple[int, ...] = (4, 1),
    num_clips: int = 2,
) -> dict[str, float]:
    """PSNR in dB of generated frames and of the warped reference alone: whole, at the mouth, at the eyes.

    A contact sheet has four kinds of rows for each person: true frames, warped ones, those of each number of steps,
    finished ones.

    Returns:
        ``warp``, ``mouth_warp``, ``eyes_warp``, and ``psnr_n``, ``mouth_n``, ``eyes_n`` for n of ``steps``. Of the last
        of these also ``finished``, ``mouth_finished``, ``eyes_finished``. They have the portrait's fine detail, as a
        video has it by default (``face/compositing/crop.py:transfer_detail``).
    """
    length = data.config.clip_frames
    totals: dict[str, list[float]] = {}
    sheet: list[tuple[Tensor, ...]] = []
    numbers = np.arange(num_clips * length)
    shown = torch.arange(2, len(numbers), 3)[:10]
    for clip in range(min(6, len(data))):
        rows, reference = data.frames.first[clip] + numbers, data.frames.references[[clip], 0]
        true, points = data.frames.pictures(rows), data.frames.points(rows)
        still = data.frames.points(reference).expand_as(points)
        portrait = data.frames.pictures(reference).expand(len(rows), -1, -1, -1)
        warped = warp_reference(portrait, points, still)
        videos = {"warp": warped}
        for number in steps:
            latents = generate_frames(
                denoiser,
                data,
                clip,
                diffusion,
                num_clips=num_clips,
                steps=number,
                bypass_temporal=bypass_temporal,
                motion=motion,
            )
            videos[str(number)] = data.vae.decode(latents[0]).clamp(-1, 1)
        seen = data.vae.decode(data.vae.encode(warped)).clamp(-1, 1)
        moved, painted, through = (x / 2 + 0.5 for x in (warped, videos[str(steps[-1])], seen))
        videos["finished"] = transfer_detail(moved, painted, through, torch.ones_like(seen[:, :1])) * 2 - 1
        size = true.shape[-1]
        # The reference's own frame comes out of the warp unchanged: its endless decibels would drown the others'.
        other = torch.from_numpy(rows != reference).to(data.device)
        for name, video in videos.items():
            whole = f"psnr_{name}" if name.isdigit() else name
            totals.setdefault(whole, []).append(float(psnr(video, true)[other].mean()))
            for place, group, side in (("mouth", LIPS, size // 3), ("eyes", LIDS, size // 2)):
                parts = (mouth_cuts(pictures, points, side, group) for pictures in (video, true))
                totals.setdefault(f"{place}_{name}", []).append(float(psnr(*parts)[other].mean()))
        sheet.append((true[shown], *(video[shown] for video in videos.values())))
    if picture is not None:
        contact_sheet(picture, *(torch.cat(parts).cpu() for parts in zip(*sheet, strict=True)), columns=10)
    return {name: sum(values) / len(values) for name, values in totals.items()}
