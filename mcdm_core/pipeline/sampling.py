"""From a clip's motion to its frames: the denoising UNet with its archive and memory (paper sections 3.1, 3.2, 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from ..checkpoint import LAST_STAGE
from ..diffusion.frame_diffusion import FrameDiffusion
from ..diffusion.sampling import Callback, classifier_free_guidance
from ..errors import MCDMError
from ..face.part_places import PartPlaces
from ..model import MCDMModel
from ..models.layers.once import Kept
from ..models.motion_tokens import MotionTokens
from ..motion.motion import Motion
from .canvas.canvas import build_canvas
from .canvas.memory_fallback import in_smaller_parts
from .canvas.painting import Painting
from .defaults import sampling_defaults
from .memory import MotionMemory
from .reference import Reference
from .run.gpu import Network

Memory = dict[str, Tensor]
"""The UNet's memory at one timestep, by block."""
Memories = dict[str, Memory]
"""The UNet's memories by timestep (as text) and block."""


@dataclass(frozen=True)
class Clip:
    """A finished clip: frames [f, 3, s, s] in [0, 1] on the CPU (face crops), latents, and what follows.

    ``latents`` are [f, c, h, w], or [f, p, c, h, w] where p parts are painted. The parts' pictures are ``painted``,
    uint8 [f, p, 3, k, k], with their ``places``; ``there`` are frames that a GPU still holds (``painting.py``).
    ``index`` counts clips and ``start`` frames from the video's beginning; ``memory`` continues after this clip.
    """

    index: int
    start: int
    frames: Tensor
    latents: Tensor
    motion: Motion
    memory: MotionMemory
    painted: Tensor | None = None
    places: PartPlaces | None = None
    there: Tensor | None = None

    @property
    def painting(self) -> Painting:
        """Its pictures."""
        return Painting(self.frames, self.painted, self.places, self.there)


@dataclass(frozen=True)
class Denoised:
    """A clip whose pictures are still latents ``[v, f, c, h, w]`` on the model's device."""

    motion: Motion
    latents: Tensor
    places: PartPlaces | None
    before: MotionMemory
    after: MotionMemory


class ClipSampler:
    """Denoises and decodes clips.

    Args:
        model: all networks.
        stage: the UNet's training stage; one of stage 1 runs with layer 4 bypassed (section 3.5).

    Attributes:
        network: computes in the UNet's place (``run/gpu.py``); None: the UNet itself.
    """

    network: Network | None = None

    def __init__(self, model: MCDMModel, stage: int = LAST_STAGE) -> None:
        self.model, self.config, self.stage = model, model.config, stage
        self.diffusion = FrameDiffusion(model.config)
        self.canvas = build_canvas(model)

    @torch.no_grad()
    def sample(
        self,
        reference: Reference,
        motion: Motion,
        memory: MotionMemory,
        *,
        landmarks: Tensor | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        whole: bool = True,
        callback: Callback | None = None,
    ) -> Clip:
        """Denoise and decode one clip; its ``memory`` is the one after it. See :meth:`denoise`."""
        denoised = self.denoise(
            reference,
            motion,
            memory,
            landmarks=landmarks,
            steps=steps,
            guidance=guidance,
            whole=whole,
            callback=callback,
        )
        return self.paint(reference, denoised)

    @torch.no_grad()
    def denoise(
        self,
        reference: Reference,
        motion: Motion,
        memory: MotionMemory,
        *,
        landmarks: Tensor | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        whole: bool = True,
        callback: Callback | None = None,
    ) -> Denoised:
        """Denoise one clip. What comes after it needs its latents alone, not its pictures.

        Args:
            landmarks: of the motion [f, 68, 2]; needed where it carries none and the model warps the reference.
            whole: fill a shorter clip up, as in training; else it costs as much less as it is shorter, for a preview.
            others: see :meth:`MCDMPipeline.sample_clip`.

        Raises:
            MCDMError: if the motion is empty or longer than a clip.
        """
        model, size, device = self.model, self.config.clip_frames, self.model.device
        defaults = sampling_defaults(self.config.preset)
        guidance = defaults.guidance if guidance is None else guidance
        count = motion.tokens.head.shape[0]
        if not 1 <= count <= size:
            raise MCDMError(f"A clip has 1 to {size} frames, the motion has {count}; pass one of motion.clips({size}).")
        # The UNet sees whole clips: a shorter one repeats its last motion and is cut after sampling.
        size = size if whole else count
        fill = torch.arange(size, device=motion.tokens.head.device).clamp_max(count - 1)
        tokens = motion.tokens.map(lambda stream: stream[fill][None].to(device))
        landmarks = motion.landmarks if landmarks is None else landmarks
        if landmarks is not None:
            landmarks = landmarks[fill.to(landmarks.device)].to(device)
        places = self.canvas.places(reference, landmarks)
        rows = memory.archive_rows if whole else memory.archive_rows[:, -size:]  # one a frame
        guide, f_pc = self.canvas.conditions(reference, tokens.cat(), landmarks, places)
        after: Memories = {}
        predict = _Denoiser(
            model,
            rows.to(device),
            f_pc,
            guide,
            memory.unet_memory,
            after,
            guidance,
            bypass=self.stage < LAST_STAGE,
            network=self.network,
        )
        # The frames of a video with shared noise go on from one clip to the next with the same texture.
        purpose = "video" if self.diffusion.shared_noise else "frames"
        like = reference.latents[:, None].to(device).expand(-1, size, -1, -1, -1)
        noise = self.diffusion.draw_noise(like, memory.generator(purpose))
        latents = self.diffusion.sample(predict, noise, steps or defaults.steps, guide, callback)[:, :count]
        shown = None if places is None else places[:count]
        rows = model.archived_clip_prior(memory.reference_map.to(device), latents)
        context = self._context(memory, motion.tokens.map(lambda stream: stream.to(device)))
        following = memory.advanced(latents, rows, after, context, memory.audio_context)
        return Denoised(motion, latents, shown, memory, following)

    @torch.no_grad()
    def paint(self, reference: Reference, denoised: Denoised) -> Clip:
        """The pictures of a denoised clip."""
        latents, before = denoised.latents, denoised.before
        painting = self.canvas.paint(reference, latents, denoised.places, before)
        kept = rearrange(latents, "v f c h w -> f v c h w").cpu() if len(latents) > 1 else latents[0].cpu()
        return Clip(
            before.clip_index,
            before.frame_index,
            painting.frames,
            kept,
            denoised.motion,
            denoised.after,
            painting.parts,
            painting.places,
            painting.there,
        )

    def _context(self, memory: MotionMemory, tokens: MotionTokens) -> MotionTokens:
        """The last frames' motion: this clip's own, also when it was edited or came from a driver."""
        keep = self.config.present_clip_prior.context_frames
        if memory.motion_context is not None and len(tokens.head) < keep:
            device = tokens.head.device
            tokens = MotionTokens.join([memory.motion_context.map(lambda stream: stream.to(device)), tokens])
        return tokens.map(lambda stream: stream[-keep:])


class _Denoiser:
    """The UNet on one clip, ``(x_t, t) -> prediction``; writes the memory of every timestep into ``after``."""

    def __init__(
        self,
        model: MCDMModel,
        rows: Tensor,
        tokens: Tensor,
        guide: Tensor | None,
        before: Memories,
        after: Memories,
        guidance: float,
        *,
        bypass: bool,
        network: Network | None = None,
    ) -> None:
        self.model, self.rows, self.tokens, self.guide = model, rows, tokens, guide
        self.before, self.after, self.guidance, self.bypass = before, after, guidance, bypass
        self.together = rows.device.type != "cpu"
        self.unet: Network = network or model.unet
        # A graph or a compiled block takes tensors alone.
        self.kept: dict[tuple[int, int, int], Kept] | None = None if network else {}

    def __call__(self, x: Tensor, timestep: Tensor) -> Tensor:
        key = f"{float(timestep):.1f}"
        past = {block: value.to(x.device) for block, value in _nearest(self.before, key).items()} or None
        time = torch.full((len(x),), float(timestep), device=x.device)  # copied from the host it would wait for a GPU
        if self.guidance == 1.0:
            prediction, self.after[key] = self._evaluate(x, time, past, len(x))
            return prediction
        # On a GPU one batch of twice the size costs less than two; on a CPU it only holds more memory.
        if self.together:
            doubled = None if past is None else {block: torch.cat([value, value]) for block, value in past.items()}
            both, memory = self._evaluate(torch.cat([x, x]), torch.cat([time, time]), doubled, len(x))
            self.after[key] = {block: value[: len(x)] for block, value in memory.items()}
            prediction, free = both.chunk(2)
        else:
            prediction, self.after[key] = self._evaluate(x, time, past, len(x))
            free, _ = self._evaluate(x, time, past, 0)
        return classifier_free_guidance(prediction, free, self.guidance)

    def _evaluate(self, x: Tensor, time: Tensor, past: Memory | None, told: int) -> tuple[Tensor, Memory]:
        """The UNet's prediction and memory, for videos of which the first ``told`` know the motion.

        Of one part of the face after the other where memory is short.
        """
        videos = len(self.rows)

        def of_parts(which: Tensor) -> tuple[Tensor, Memory]:
            # Where a part begins is known without asking the device.
            first, count = which.storage_offset(), len(which)
            of_video = which % videos
            knowing = max(0, min(told - first, count))
            tokens = self.tokens[of_video[:knowing]] if knowing else None
            before = None if past is None else {block: value[which] for block, value in past.items()}
            guide = None if self.guide is None else self.guide[of_video]
            kept = None if self.kept is None else self.kept.setdefault((int(first), count, int(knowing)), {})
            with self.model.products():
                made, memory = self.unet(
                    x[which],
                    time[which],
                    self.rows[of_video],
                    tokens,
                    before,
                    guide,
                    bypass_temporal=self.bypass,
                    kept=kept,
                )
            return made.to(x.dtype), {block: value.to(x.dtype) for block, value in memory.items()}

        return in_smaller_parts(of_parts, torch.arange(len(x), device=x.device), "the clip's parts", _joined)


def _joined(parts: list[tuple[Tensor, Memory]]) -> tuple[Tensor, Memory]:
    predictions, memories = zip(*parts, strict=True)
    return torch.cat(predictions), {block: torch.cat([one[block] for one in memories]) for block in memories[0]}


def _nearest(memories: Memories, key: str) -> dict[str, Tensor]:
    """The memory carried at a timestep, or at the nearest one if the number of steps changed between clips."""
    if not memories:
        return {}
    return memories[min(memories, key=lambda other: abs(float(other) - float(key)))]
