"""How well mouth and eyes are painted, and what each idea of the method is worth: parts of the model switched off.

Frames of people the model has not seen are painted from a portrait with closed lips and open eyes. Motion tokens and
landmarks are their own. They are compared with the true frames inside the painted regions. Beside them stand the
laziest baselines: the portrait's own part held still, and the pixel warp with the same (all) landmarks.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...config import MCDMConfig
from ...diffusion.frame_diffusion import FrameDiffusion
from ...face.part_guide import PartViews, part_guide, part_tokens, part_views, true_parts
from ...face.part_shapes import SHAPE_TOKENS
from ...face.parts import EYES, MOUTH
from ...face.reference_warp import warp_reference
from ...models.inputs.gallery import Gallery
from ...models.part_decoder import PartDecoder
from ...models.vae import Autoencoder
from ..unet.denoiser import DenoisingNetworks

ABLATIONS = (
    "archive",
    "f_ac",
    "tokens",
    "codec_tokens",
    "shape_tokens",
    "unet",
    "part_decoder",
    "archive_sight",
    "gallery",
    "bare_gallery",
)
"""What :meth:`Painter.paint` can switch off, beside ``"memory"``, the M carried between clips (``seams.py``). The
archive holds the portrait alone then, the autoencoder decodes the parts, or their own decoder sees no archive. F_ac,
the motion tokens (all, the codec's, those of the contours) and the UNet's output are zero. Without the gallery alone
it still sees latents. A bare gallery holds the portrait alone: nothing that helps, and it should not harm."""


Carried = dict[float, dict[str, Tensor]]


@dataclass(frozen=True)
class PaintingCase:
    """A segment of video of one person, with what the model is given.

    Attributes:
        portrait: ``[3, s, s]`` in [-1, 1]; reference: its landmarks ``[68, 2]``; reference_tokens: ``[m, d]``.
        frames: true ones ``[n, 3, s, s]``, n a multiple of the clip's length; landmarks: ``[n, 68, 2]``; tokens:
            ``[n, m, d]``.
        archive: frames ``[a, 3, s, s]`` of the person's widest mouths, with ``archive_landmarks``.
        lips, lids: openings of the true frames ``[n]``; open_lids: the person's usual one.
        judged: numbers of the frames that count, ``[j]``: not the portrait's own, which a warp leaves as it is.
    """

    name: str
    portrait: Tensor
    reference: Tensor
    reference_tokens: Tensor
    frames: Tensor
    landmarks: Tensor
    tokens: Tensor
    archive: Tensor
    archive_landmarks: Tensor
    lips: Tensor
    lids: Tensor
    open_lids: float
    judged: Tensor


@dataclass
class Painter:
    """The denoiser with what it needs around it; parts of the method can be switched off.

    ``denoiser`` has the members ``archived_clip_prior`` and ``unet``. Without a ``decoder`` of their own the
    autoencoder decodes the parts.
    """

    denoiser: DenoisingNetworks
    vae: Autoencoder
    config: MCDMConfig
    bypass_temporal: bool = False
    decoder: PartDecoder | None = None
    diffusion: FrameDiffusion = field(init=False)

    def __post_init__(self) -> None:
        self.diffusion = FrameDiffusion(self.config)

    def encode(self, pictures: Tensor) -> Tensor:
        """Latents ``[..., c, h, w]`` of pictures ``[..., 3, k, k]``."""
        flat = pictures.flatten(0, -4).contiguous(memory_format=torch.channels_last)
        latents = self.vae.encode(flat)
        return latents.view(*pictures.shape[:-3], *latents.shape[1:])

    def views(self, case: PaintingCase, landmarks: Tensor) -> PartViews:
        """Parts of frames with landmarks ``[f, 68, 2]``."""
        return part_views(case.portrait[None], case.reference[None], landmarks[None], self.config.parts.size)

    @torch.no_grad()
    def paint(self, case: PaintingCase, *, off: str | None = None, teeth: bool = True, steps: int = 1) -> Tensor:
        """Painted parts ``[2, n, 3, k, k]`` of a case, clip after clip, each archive the clip before.

        Args:
            off: one of :data:`ABLATIONS`, or "memory".
            teeth: the first archive shows the person's open mouths; else it is the portrait, repeated.
            steps: of sampling.
        """
        length = self.config.clip_frames
        still = self.encode(self.views(case, case.landmarks[:1]).still)
        repeated = still[:, None].expand(-1, length, -1, -1, -1)
        archive, gallery = repeated, None
        if teeth:
            seen, true = self.archived(case)
            shown = seen.shown(true)
            archive, gallery = self.encode(shown), self.gallery_of(shown, seen)
        prior, carried, painted = self.denoiser.archived_clip_prior, {}, []
        attention = prior.reference_attention(still)
        for first in range(0, len(case.frames), length):
            now = slice(first, first + length)
            views = self.views(case, case.landmarks[now])
            guide = part_guide(self.encode, views, still)
            known = repeated if off == "archive" else archive
            f_ac, tokens = prior(attention, known) * (off != "f_ac"), self._tokens(case, now, views, off)
            archive, carried = self._sample(guide, f_ac, tokens, {} if off == "memory" else carried, first, off, steps)
            kept = None if off == "archive" else gallery
            if kept is not None and off == "bare_gallery":
                kept = Gallery.of_portraits(views.still, views.own_shapes.flatten(0, 1))
            decoded = self.decode(archive, tokens[:, :, -SHAPE_TOKENS:], views, known, kept, off).clamp(-1, 1)
            painted.append(views.shown(decoded))
        return torch.cat(painted, 1)

    def archived(self, case: PaintingCase) -> tuple[PartViews, Tensor]:
        """The archived frames' parts and the true pictures of them ``[2, a, 3, k, k]``."""
        seen = self.views(case, case.archive_landmarks)
        return seen, true_parts(case.archive[None], seen.squares, self.config.parts.size)

    def most_alike(self, case: PaintingCase, views: PartViews) -> Tensor:
        """Of each frame the archived one whose contours are most like its own, part by part ``[2, n, 3, k, k]``."""
        seen, true = self.archived(case)
        apart = (views.shapes[0][:, None] - seen.shapes[0][None]).abs().mean(-1)
        return torch.stack([true[part, apart[:, :, part].argmin(1)] for part in range(len(true))])

    def gallery_of(self, pictures: Tensor, views: PartViews) -> Gallery | None:
        """The gallery of pictures ``[2, f, 3, k, k]``; none for weights that look at none."""
        if not self.config.part_decoder.gallery:
            return None
        seen = Gallery(pictures, rearrange(views.shapes, "b f p w -> (b p) f w"))
        return seen.most_different(views.still, self.config.part_decoder.gallery)

    def decode(
        self,
        latents: Tensor,
        shapes: Tensor,
        views: PartViews,
        archive: Tensor,
        gallery: Gallery | None,
        off: str | None = None,
    ) -> Tensor:
        """Pictures ``[2, f, 3, k, k]`` of latents ``[2, f, c, h, w]`` with their shape tokens ``[2, f, 2, d]``.

        ``archive``: of latents ``[2, a, c, h, w]``; ``gallery``: of pictures in [-1, 1].
        """
        if self.decoder is None or off == "part_decoder":
            flat = latents.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            return self.vae.decode(flat).unflatten(0, latents.shape[:2])
        blind = off == "archive_sight"
        known = None if blind or off == "gallery" else gallery
        person = self.decoder.look(views.still, views.own_shapes.flatten(0, 1), archive, known)
        if blind:
            person = dataclasses.replace(person, archive=None)
        return self.decoder(latents, shapes, person)

    def _tokens(self, case: PaintingCase, now: slice, views: PartViews, off: str | None) -> Tensor:
        tokens = part_tokens(case.tokens[None, now], case.reference_tokens[None], views)
        codec = tokens.shape[2] - SHAPE_TOKENS
        tokens[:, :, :codec] *= off not in ("tokens", "codec_tokens")
        tokens[:, :, codec:] *= off not in ("tokens", "shape_tokens")
        return tokens

    def _sample(
        self, guide: Tensor, f_ac: Tensor, tokens: Tensor, carried: Carried, seed: int, off: str | None, steps: int
    ) -> tuple[Tensor, Carried]:
        """Latents of a clip and the memories after it, by timestep."""
        seed = 0 if self.diffusion.shared_noise else seed
        like = guide[:, :, : self.config.unet.latent_channels]
        noise = self.diffusion.draw_noise(like, torch.Generator().manual_seed(seed))
        after: Carried = {}

        def predict(x: Tensor, timestep: Tensor) -> Tensor:
            key = float(timestep)
            prediction, after[key] = self.denoiser.unet(
                x,
                timestep.to(x.device).expand(len(x)),
                f_ac,
                tokens,
                carried.get(key),
                guide,
                bypass_temporal=self.bypass_temporal,
            )
            return prediction * (off != "unet")

        return self.diffusion.sample(predict, noise, steps, guide), after


def region_psnr(painted: Tensor, true: Tensor, region: Tensor) -> Tensor:
    """PSNR in dB inside a region, ``[n]``: pictures ``[n, 3, k, k]`` in [-1, 1], region ``[n, 1, k, k]``."""
    error = (((painted - true) / 2).square() * region).sum((1, 2, 3)) / (3 * region.sum((1, 2, 3))).clamp_min(1e-6)
    return -10 * torch.log10(error.clamp_min(1e-9))


def laplacian_energy(pictures: Tensor, region: Tensor) -> Tensor:
    """Sum of squares of the finest Laplacian level inside a region: how sharp pictures are."""
    blurred = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear", align_corners=False)
    return ((pictures - blurred) * region).square().sum()


@torch.no_grad()
def score_painting(painter: Painter, case: PaintingCase, steps: int = 1) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Scores of a case in dB, and the videos they come from ``[2, n, 3, k, k]`` by name.

    ``mouth`` and ``lids`` are over all frames; ``wide``: the widest fifth of the mouths; ``blink``: lids in the half
    second around the deepest blink, if there is one. ``_warp``, ``_still`` and ``_nearest`` (of the archive, the frame
    whose contours are most alike) name the baselines, ``without_*`` the mouth with a part switched off. ``sharpness``
    is Laplacian energy of the painted mouths over the true ones'.
    """
    views = painter.views(case, case.landmarks)
    true = true_parts(case.frames[None], views.squares, painter.config.parts.size)
    size, count = painter.config.parts.size, len(case.frames)
    warped = warp_reference(
        case.portrait.expand(count, -1, -1, -1), case.landmarks, case.reference.expand(count, -1, -1)
    )
    videos = {
        "true": true,
        "still": views.composite,
        "warp": true_parts(warped[None], views.squares, size),
        "nearest": painter.most_alike(case, views),
        "painted": painter.paint(case, steps=steps),
        **{f"without_{name}": painter.paint(case, off=name, steps=steps) for name in ABLATIONS},
    }
    regions = views.region

    def psnr(name: str, part: int, rows: Tensor) -> float:
        return float(region_psnr(videos[name][part, rows], true[part, rows], regions[part, rows]).mean())

    moving = case.judged
    wide = moving[case.lips[moving].argsort(descending=True)[: max(1, len(moving) // 5)]]
    scores = {}
    for name, suffix in (("painted", ""), ("warp", "_warp"), ("still", "_still"), ("nearest", "_nearest")):
        scores[f"mouth{suffix}"] = psnr(name, MOUTH, moving)
        scores[f"wide{suffix}"] = psnr(name, MOUTH, wide)
        scores[f"lids{suffix}"] = psnr(name, EYES, moving)
        if float(case.lids.min()) < 0.55 * case.open_lids:
            deepest = int(case.lids.argmin())
            around = moving[(moving - deepest).abs() <= 6]
            scores[f"blink{suffix}"] = psnr(name, EYES, around)
    for name in ABLATIONS:
        scores[f"without_{name}"] = psnr(f"without_{name}", MOUTH, moving)
        scores[f"wide_without_{name}"] = psnr(f"without_{name}", MOUTH, wide)
    sharp = laplacian_energy(true[MOUTH], regions[MOUTH]).clamp_min(1e-6)
    for name, suffix in (("painted", ""), ("warp", "_warp"), ("without_part_decoder", "_without_part_decoder")):
        scores[f"sharpness{suffix}"] = float(laplacian_energy(videos[name][MOUTH], regions[MOUTH]) / sharp)
    return scores, videos
