"""The denoiser of the whole crop (weights of version 0.1) on held-out clips, against the warped reference alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..diffusion.frame_diffusion import FrameDiffusion
from ..face.compositing.crop import transfer_detail
from ..face.landmarks import LIDS, LIPS
from ..face.reference_warp import warp_guide, warp_reference
from ..model import MCDMModel
from ..models.unet import DenoisingUNet
from ..training.vae.train import psnr
from .held_clips import HeldClip


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
    model: MCDMModel, clip: HeldClip, *, num_clips: int, steps: int, stage: int, seed: int = 0
) -> Tensor:
    """Latents ``[1, num_clips * f, c, h, w]`` of a clip's first frames, the archive being the model's own frames."""
    config, length = model.config, model.config.clip_frames
    diffusion, generator = FrameDiffusion(config), torch.Generator().manual_seed(seed)
    portrait = clip.pictures([clip.reference])
    reference = model.vae.encode(portrait)
    prior = model.archived_clip_prior
    attention = prior.reference_attention(reference)
    archive = reference[:, None].expand(-1, length, -1, -1, -1)
    memory: dict[str, dict[str, Tensor]] = {}
    made = []
    for k in range(num_clips):
        frames = slice(k * length, (k + 1) * length)
        points, guide, tokens = clip.landmarks[frames], None, None
        if config.unet.warped_reference:
            still = clip.landmarks[[clip.reference]]
            guide = warp_guide(model.vae.encode, portrait, still, points[None])[0].float()
        if stage == 3:
            tokens = model.motion_codec.encode(clip.pictures(frames)[:, None], points[:, None]).cat()[None, :, 0]
        denoise = ClipDenoiser(model.unet, prior(attention, archive), tokens, guide, memory, stage == 1)
        noise = torch.randn((1, length, *reference.shape[1:]), generator=generator)
        archive = diffusion.sample(denoise, noise, steps, guide)
        memory = denoise.carried
        made.append(archive)
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
    model: MCDMModel, clips: Sequence[HeldClip], *, stage: int, steps: tuple[int, ...] = (4, 2, 1), num_clips: int = 2
) -> dict[str, float]:
    """PSNR in dB of generated frames and of the warped reference alone: whole, at the mouth, at the eyes.

    Args:
        clips: of at least ``num_clips`` of the model's clips, of which six are tried; stage: the UNet's, 1 or 3.

    Returns:
        ``warp``, ``mouth_warp``, ``eyes_warp``, and ``psnr_n``, ``mouth_n``, ``eyes_n`` for n of ``steps``. Of the last
        of these also ``finished``, ``mouth_finished``, ``eyes_finished``. They have the portrait's fine detail, as a
        video has it by default (``face/compositing/crop.py:transfer_detail``).
    """
    vae, count = model.vae, num_clips * model.config.clip_frames
    totals: dict[str, list[float]] = {}
    for clip in clips[:6]:
        true, points = clip.pictures(slice(count)), clip.landmarks[:count]
        still = clip.landmarks[[clip.reference]].expand_as(points)
        warped = warp_reference(clip.pictures([clip.reference]).expand(count, -1, -1, -1), points, still)
        videos = {"warp": warped}
        for number in steps:
            latents = generate_frames(model, clip, num_clips=num_clips, steps=number, stage=stage)
            videos[str(number)] = vae.decode(latents[0]).clamp(-1, 1)
        seen = vae.decode(vae.encode(warped)).clamp(-1, 1)
        moved, painted, through = (x / 2 + 0.5 for x in (warped, videos[str(steps[-1])], seen))
        videos["finished"] = transfer_detail(moved, painted, through, torch.ones_like(seen[:, :1])) * 2 - 1
        size = true.shape[-1]
        # The reference's own frame comes out of the warp unchanged: its endless decibels would drown the others'.
        other = torch.arange(count) != clip.reference
        for name, video in videos.items():
            whole = f"psnr_{name}" if name.isdigit() else name
            totals.setdefault(whole, []).append(float(psnr(video, true)[other].mean()))
            for place, group, side in (("mouth", LIPS, size // 3), ("eyes", LIDS, size // 2)):
                parts = (mouth_cuts(pictures, points, side, group) for pictures in (video, true))
                totals.setdefault(f"{place}_{name}", []).append(float(psnr(*parts)[other].mean()))
    return {name: sum(values) / len(values) for name, values in totals.items()}
