"""Losses of the denoiser of parts: latents, and decoded pictures where it has to paint."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...diffusion.frame_diffusion import FrameDiffusion
from ...diffusion.parameterization import posterior
from ...face.part_guide import PartViews, part_guide, part_tokens
from ...face.part_shapes import SHAPE_TOKENS, SHAPE_WIDTH, shape_tokens
from ...face.parts import MOUTH, NUM_PARTS
from ...models.inputs.gallery import Gallery
from ...models.part_decoder import PartDecoder, PersonFeatures
from ...models.vae import Autoencoder
from ..adversary import Adversary, balanced_weight
from ..perceptual import PerceptualDistance
from ..unet.denoiser import Denoiser
from .batches import Appearance, BatchDrawer, Drawn
from .lip_reading import LipReading
from .retelling import ArchiveRetelling
from .steps import NOTHING_CARRIED, Carried, Conditions, Memory, Step, StepShares, TrainingSteps

LANDMARK_ERROR = 0.0015
"""Standard deviation of the landmarks' error in training, in crop widths: predicted ones are not exact either."""
SHAPE_ERROR = 0.002
"""The same of contours, in parts: one error a clip."""
TOKEN_ERROR, ARCHIVE_ERROR = 0.1, 0.15
"""Largest standard deviations of noise on motion tokens and on archived latents."""
BLURRED_SHARE, EMPTY_SHARE = 0.5, 0.2
"""Shares of galleries that are blurred, more or less, as other pictures may be, and that hold the portrait alone."""
KNOWN_WEIGHT = 0.15
"""Weight of the surroundings in the latents' loss, beside 1 in the region."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses.

    Attributes:
        latents: of the latents' squared error; second_latents: the same at the second step, whose matter is pictures.
        absolute, laplacian: of the pictures' differences; perceptual: of their distance for a network that sees.
        reading: of what the codec reads off the lips (:mod:`.lip_reading`).
        critic: gradient of the critic's reward, beside 1 of the other picture losses; at the second step alone.
        retelling: of the archive retold by layers 2 and 4 (:mod:`.retelling`).
        seam: of the change of the error from a clip's last frame to the next one's first.
    """

    latents: float = 0.5
    second_latents: float = 0.2
    absolute: float = 4.0
    laplacian: float = 8.0
    perceptual: float = 1.2
    reading: float = 2.0
    critic: float = 0.0
    retelling: float = 1.0
    seam: float = 0.5


@dataclass(frozen=True)
class ClipBefore:
    """What a clip has from the one ahead of it.

    Attributes:
        archived: latents ``[b, f, c, h, w]``; carried: M after it.
        error: of its last frame ``[b, c, h, w]``; follows: whether the clip is its sequel ``[b]``, as stills' is not.
    """

    archived: Tensor
    carried: Carried
    error: Tensor
    follows: Tensor


@dataclass(frozen=True)
class PaintedBatch:
    """What a batch is painted from, and what it should look like.

    Attributes:
        true: the true parts ``[b, f, 3, s, s]``; clean: their latents ``[b, f, c, h, w]``; begin: noise to begin with.
        still: latents of the portraits' parts ``[b, c, h, w]``; guide: see :func:`~...face.part_guide.part_guide`.
        archived: latents ``[b, f, c, h, w]``; gallery: pictures of the same frames.
    """

    drawn: Drawn
    look: Appearance
    views: PartViews
    true: Tensor
    clean: Tensor
    begin: Tensor
    still: Tensor
    guide: Tensor
    archived: Tensor
    gallery: Gallery


def laplacian_loss(difference: Tensor, levels: int = 3) -> Tensor:
    """Mean absolute Laplacian pyramid of a difference ``[n, 3, h, w]``; coarse levels weigh more."""
    total = difference.new_zeros(())
    for level in range(levels):
        smaller = F.avg_pool2d(difference, 2)
        blurred = F.interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + (difference - blurred).abs().mean() * 2.0**level / 2
        difference = smaller
    return total


def seam_loss(error: Tensor, ahead: Tensor, weight: Tensor, follows: Tensor) -> Tensor:
    """Mean square change of the error from the frame ahead, both ``[b, c, h, w]``, of sequels alone.

    Args:
        weight: of places ``[b, 1, h, w]``; follows: 1 for a clip that is the sequel of the one ahead ``[b]``.
    """
    change = ((error - ahead).square() * weight).mean((1, 2, 3))
    return (change * follows).sum() / follows.sum().clamp_min(1.0)


def _at_latents(region: Tensor, latents: Tensor) -> Tensor:
    """Regions ``[b, f, 1, s, s]`` at the size of latents ``[b, f, c, h, w]``."""
    return F.interpolate(region.flatten(0, 1), size=latents.shape[-2:], mode="area").unflatten(0, region.shape[:2])


def _as_kept(gallery: Gallery, own: Gallery) -> Gallery:
    """Galleries of videos: some blurred, each by its own share, some of the portrait alone."""
    pictures = gallery.pictures
    small = F.avg_pool2d(pictures.flatten(0, 1), 2)
    blurred = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False).view_as(pictures)
    chance, amount = torch.rand(2, len(pictures), 1, 1, 1, 1, device=pictures.device)
    softened = torch.lerp(pictures, blurred, amount * (chance < BLURRED_SHARE))
    empty = torch.rand(len(pictures), device=pictures.device) < EMPTY_SHARE
    return Gallery(softened, gallery.shapes).but(empty, own)


def half_of_frames(video: Tensor) -> Tensor:
    """Numbers of a random half of the frames of ``[b, f, ...]``, at least one."""
    return torch.randperm(video.shape[1])[: max(1, video.shape[1] // 2)]


class PartLosses:
    """Losses of batches of parts.

    Args:
        denoiser: in training; vae: frozen; drawer: of the batches; size: side of a part in pixels.
        bypass_temporal: stage 1 (method.md, section 4), without layer 4.
        motion_dropout: share of parts without the codec's tokens; twice as many are without contours.
        carried: share of batches with the memory of a clip before. retelling: of the archive, in training as well.
        clips: of a batch; shares: of the steps of sampling; archive: False leaves the archive out (an ablation).
        perceptual: the network of the perceptual distance, if there is one; reading: of lips.
        decoder: frozen, of a finished model's parts: what is painted is judged as that model shows it.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        vae: Autoencoder,
        drawer: BatchDrawer,
        diffusion: FrameDiffusion,
        size: int,
        *,
        clips: int,
        bypass_temporal: bool,
        shares: StepShares,
        motion_dropout: float = 0.06,
        carried: float = 0.0,
        archive: bool = True,
        retelling: ArchiveRetelling | None = None,
        perceptual: PerceptualDistance | None = None,
        reading: LipReading | None = None,
        decoder: PartDecoder | None = None,
        bfloat16: bool = True,
    ) -> None:
        self.denoiser, self.vae, self.drawer, self.diffusion, self.size = denoiser, vae, drawer, diffusion, size
        self.clips, self.bypass_temporal, self.archive, self.bfloat16 = clips, bypass_temporal, archive, bfloat16
        self.motion_dropout, self.carried, self.retelling = motion_dropout, carried, retelling
        self.perceptual, self.reading, self.shares, self.decoder = perceptual, reading, shares, decoder
        self.steps = TrainingSteps(diffusion, self._denoise)

    def autocast(self) -> torch.autocast:
        """Products in bfloat16, where that was asked for."""
        return torch.autocast(self.drawer.rows.device.type, dtype=torch.bfloat16, enabled=self.bfloat16)

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Latents ``[..., c, h, w]`` of pictures ``[..., 3, s, s]``."""
        flat = pictures.flatten(0, -4).contiguous(memory_format=torch.channels_last)
        with self.autocast():
            return self.vae.encode(flat).float().view(*pictures.shape[:-3], -1, self.size // 8, self.size // 8)

    def __call__(self, weights: LossWeights, critic: Adversary | None = None) -> dict[str, Tensor]:
        """Losses of one batch; ``loss`` is the weighted sum."""
        batch, before = self.batch(), None
        clean, guide, archived = batch.clean, batch.guide, batch.archived
        step = self.shares.pick(self.drawer.random.random())
        if not self.bypass_temporal and self.drawer.random.random() < self.carried:
            before = self._clip_before(batch, step)
            archived = before.archived
        conditions = self.conditions(batch, archived)
        carried = NOTHING_CARRIED if before is None else before.carried
        x, timestep, memory = self.steps.shown(step, clean, batch.begin, conditions, carried)
        estimate = self._denoise(x, timestep, conditions, memory)[0]
        painted = _at_latents(batch.views.region, clean)
        # In posterior standard deviations, which is the network's own scale.
        deviation = self._deviation(timestep, clean, guide)
        error = (estimate - clean) / deviation
        weight = KNOWN_WEIGHT + painted
        weight = weight / weight.mean()
        losses = {"latents": (error.square() * weight).mean()}
        second = step is Step.SECOND
        losses.update(self._decoded_losses(estimate, archived, batch, weights, critic if second else None))
        latents = weights.second_latents if second else weights.latents
        losses["loss"] = latents * losses["latents"] + losses.pop("pictures")
        if before is not None and step is not Step.ANYWHERE:
            # The same error on both sides of a seam is one that nobody sees; M alone can tell the next clip of it.
            losses["seam"] = seam_loss(error[:, 0], before.error / deviation[:, 0], weight[:, 0], before.follows)
            losses["loss"] = losses["loss"] + weights.seam * losses["seam"]
        if self.retelling is not None:
            losses["retelling"] = self.retelling(archived, self.diffusion.prior_mean(guide), painted)
            losses["loss"] = losses["loss"] + weights.retelling * losses["retelling"]
        return losses

    def batch(self) -> PaintedBatch:
        """A random batch."""
        drawer = self.drawer
        drawn = drawer.draw(self.clips)
        look = drawer.appearance(drawn.reference)
        views = drawer.views(drawn.reference, drawn.target, look, self.size, LANDMARK_ERROR)
        true = drawer.true(drawn.target, views, look, self.size)
        still, clean = self.encode(views.still), self.encode(true)
        return PaintedBatch(
            drawn,
            look,
            views,
            true,
            clean,
            self.steps.begin(clean),
            still,
            part_guide(self.encode, views, still),
            *self._archived(drawn.reference, drawn.archive, look, views, still),
        )

    def painted(self, batch: PaintedBatch | None = None) -> tuple[PaintedBatch, Tensor, Tensor]:
        """A batch, a random one if none is given, and what the first and the second step make of it."""
        batch = batch or self.batch()
        (soft, made), _ = self.steps.estimates(batch.begin, self.conditions(batch, batch.archived))
        return batch, soft, made

    def conditions(self, batch: PaintedBatch, archived: Tensor) -> Conditions:
        """What the denoiser is given of a batch."""
        tokens = self._tokens(batch.drawn.reference, batch.drawn.target, batch.views)
        return Conditions(archived, batch.still, tokens, batch.guide)

    @torch.no_grad()
    def _archived(
        self, reference: Tensor, rows: Tensor, look: Appearance, targets: PartViews, still: Tensor
    ) -> tuple[Tensor, Gallery]:
        """Latents of archived rows, as a video would have shown them, and a little noise; and the gallery of them."""
        own = Gallery.of_portraits(targets.still, targets.own_shapes.flatten(0, 1))
        if not self.archive:
            return still[:, None].expand(-1, rows.shape[1], -1, -1, -1), own
        views = self.drawer.views(reference, rows, look, self.size)
        pictures = views.shown(self.drawer.true(rows, views, look, self.size))
        latents = self.encode(pictures)
        error = torch.rand(len(latents), 1, 1, 1, 1, device=latents.device) * ARCHIVE_ERROR
        known = Gallery(pictures, rearrange(views.shapes, "b f p w -> (b p) f w"))
        return latents + torch.randn_like(latents) * error, _as_kept(known, own)

    def _tokens(self, reference: Tensor, rows: Tensor, views: PartViews) -> Tensor:
        """Motion tokens with errors; those of the codec, and those of the contours, are left out now and then.

        Each kind has to do alone at times, or layer 3 would leave all to the contours.
        """
        tokens = self.drawer.rows.tokens
        moving = tokens[rows]
        moving = moving + torch.randn_like(moving) * torch.rand(len(rows), 1, 1, 1, device=moving.device) * TOKEN_ERROR
        shapes = views.shapes + torch.randn_like(views.shapes[:, :1]) * SHAPE_ERROR
        given = part_tokens(moving, tokens[reference], dataclasses.replace(views, shapes=shapes))
        kept = torch.rand(2, len(given), 1, 1, 1, device=given.device)
        codec, contours = given[:, :, :-SHAPE_TOKENS], given[:, :, -SHAPE_TOKENS:]
        return torch.cat([codec * (kept[0] > self.motion_dropout), contours * (kept[1] > 2 * self.motion_dropout)], 2)

    def _denoise(
        self, x: Tensor, timestep: Tensor, conditions: Conditions, memory: Memory | None
    ) -> tuple[Tensor, Memory]:
        prior = self.denoiser.archived_clip_prior
        with self.autocast():
            f_ac = prior(prior.reference_attention(conditions.still), conditions.archived)
            prediction, carried = self.denoiser.unet(
                x, timestep, f_ac, conditions.tokens, memory, conditions.guide, bypass_temporal=self.bypass_temporal
            )
        return self.diffusion.denoised(prediction.float(), x, timestep, conditions.guide), carried

    @torch.no_grad()
    def _clip_before(self, batch: PaintedBatch, step: Step) -> ClipBefore:
        """Sample the clip ahead: its memory is carried on, and half of the archives are its frames."""
        drawn, look, still, archived = batch.drawn, batch.look, batch.still, batch.archived
        views = self.drawer.views(drawn.reference, drawn.before, look, self.size)
        guide = part_guide(self.encode, views, still)
        earlier, _ = self._archived(drawn.reference, drawn.before_archive, look, views, still)
        conditions = Conditions(earlier, still, self._tokens(drawn.reference, drawn.before, views), guide)
        made, carried = self.steps.sample(step, batch.begin, conditions)
        own = (torch.rand(len(made), device=made.device) < 0.5).view(-1, 1, 1, 1, 1)
        last = dataclasses.replace(views, squares=views.squares[:, -1:])
        true = self.encode(self.drawer.true(drawn.before[:, -1:], last, look, self.size))
        sequel = (drawn.target[:, 0] == drawn.before[:, -1] + 1) & (drawn.target[:, 0] != drawn.target[:, -1])
        return ClipBefore(
            archived=torch.where(own, made, archived) if self.archive else archived,
            carried=carried,
            error=made[:, -1] - true[:, 0],
            follows=sequel.repeat_interleave(NUM_PARTS).float(),
        )

    def _deviation(self, timestep: Tensor, clean: Tensor, guide: Tensor) -> Tensor:
        """Standard deviation of the posterior of x_0 at ``timestep [b]``, broadcastable to ``clean``."""
        schedule, variance = self.diffusion.schedule, self.diffusion.variance_of(guide)
        return posterior(clean, clean, *schedule.alpha_sigma(timestep, clean), variance)[1].clamp_min(0.05)

    def _decoded_losses(
        self, estimate: Tensor, archived: Tensor, batch: PaintedBatch, weights: LossWeights, critic: Adversary | None
    ) -> dict[str, Tensor]:
        """Picture losses of half of the frames, as the parts' decoder shows them, or else the autoencoder's."""
        frames = half_of_frames(estimate)
        latents = estimate[:, frames]
        if self.decoder is not None:
            decoded = self.shown_by(self.decoder, latents, archived, batch, frames)
        else:
            with self.autocast():
                decoded = self.vae.decode(latents.flatten(0, 1).contiguous(memory_format=torch.channels_last)).float()
        return self.picture_losses(decoded, batch, frames, weights, critic)

    def shown_by(
        self, decoder: PartDecoder, latents: Tensor, archived: Tensor, batch: PaintedBatch, frames: Tensor
    ) -> Tensor:
        """Pictures ``[b*n, 3, s, s]`` that ``decoder`` makes of ``latents [b, n, c, h, w]`` of ``frames [n]``."""
        shapes, person = self.given_to(decoder, archived, batch, frames)
        with self.autocast():
            return decoder(latents, shapes, person).flatten(0, 1).float()

    def given_to(
        self, decoder: PartDecoder, archived: Tensor, batch: PaintedBatch, frames: Tensor
    ) -> tuple[Tensor, PersonFeatures]:
        """What a decoder is given beside latents: shape tokens of ``frames [n]``, with errors, and the person."""
        views = batch.views
        shapes = views.shapes + torch.randn_like(views.shapes[:, :1]) * SHAPE_ERROR
        tokens = shape_tokens(shapes, views.own_shapes, SHAPE_WIDTH)[:, frames]
        with self.autocast():
            return tokens, decoder.look(views.still, views.own_shapes.flatten(0, 1), archived, batch.gallery)

    def picture_losses(
        self,
        decoded: Tensor,
        batch: PaintedBatch,
        frames: Tensor,
        weights: LossWeights,
        critic: Adversary | None,
        emphasis: Tensor | float = 1.0,
    ) -> dict[str, Tensor]:
        """Differences of some frames, as a video shows them, per area that is painted; ``pictures`` is their sum.

        Args:
            decoded: ``[b*n, 3, s, s]`` of the batch's ``frames [n]``.
            emphasis: factors of the differences ``[b*n, 1, 1, 1]``.
        """
        views = batch.views
        target, outer, region = (x[:, frames].flatten(0, 1) for x in (batch.true, views.outer, views.region))
        shown, wanted = torch.lerp(outer, decoded, region), torch.lerp(outer, target, region)
        area = region.mean().clamp_min(0.02)
        difference = (shown - wanted) * emphasis
        losses = {"absolute": difference.abs().mean() / area, "laplacian": laplacian_loss(difference) / area}
        total = weights.absolute * losses["absolute"] + weights.laplacian * losses["laplacian"]
        if self.perceptual is not None:
            with self.autocast():
                losses["perceptual"] = self.perceptual(shown, wanted, region)
            total = total + weights.perceptual * losses["perceptual"]
        if self.reading is not None and weights.reading:
            rows, squares = batch.drawn.target[:, frames], views.squares[:, frames].flatten(0, 1)
            mouths = (x.unflatten(0, (-1, NUM_PARTS, len(frames)))[:, MOUTH].flatten(0, 1) for x in (shown, wanted))
            losses["reading"] = self.reading(*mouths, squares, self.drawer.rows.landmarks[rows].flatten(0, 1))
            total = total + weights.reading * losses["reading"]
        if critic is not None and weights.critic:
            with self.autocast():
                losses["critic"] = critic.teach(shown, wanted, region)
                losses["reward"] = critic.reward(shown, wanted, region)
            share = balanced_weight(losses["reward"], total, shown, weights.critic)
            total = total + share * losses["reward"]
        return {**losses, "pictures": total}
