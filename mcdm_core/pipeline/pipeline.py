"""From a portrait and a voice to a video of any length, clip by clip (paper sections 3 and 5).

Predict the motion of a clip, denoise its frames, decode them, push them into the archive, carry M, go on. What goes
from clip to clip is a :class:`MotionMemory` of constant size; :meth:`MCDMPipeline.generate` yields every clip as soon
as it is ready, so memory does not grow with the video.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import LAST_STAGE, load_checkpoint, load_directory
from ..checkpoint import fingerprint as model_fingerprint
from ..config import PRESETS, MCDMConfig
from ..diffusion.frame_diffusion import FrameDiffusion
from ..diffusion.sampling import classifier_free_guidance
from ..errors import FrameRateError, MCDMError, WeightsError
from ..face.reference_warp import warp_guide
from ..model import MCDMModel
from ..models.motion_codec import MotionTokens
from ..motion.motion import Motion
from .defaults import sampling_defaults
from .finishing import detailed_frames, enlarged_frames
from .memory import MotionMemory
from .prediction import Callback, MotionPrediction
from .records import AudioEmbedding, Clip, Reference

__all__ = ["AudioEmbedding", "Clip", "MCDMPipeline", "Reference", "preset_weights"]

logger = logging.getLogger(__name__)


def preset_weights(preset: str) -> Path:
    """Where a preset's shipped weights lie."""
    return Path(__file__).parents[1] / "assets" / f"mcdm_{preset}.safetensors"


class MCDMPipeline(MotionPrediction):
    """The whole model with the steps of making a video. Deterministic for a seed on one device.

    Its parts: :class:`~.preparation.Preparation` (portrait and sound), :class:`~.continuation.Continuation`
    (memories), :class:`~.prediction.MotionPrediction` (motion); here, the pictures.
    """

    def __init__(self, model: MCDMModel, stage: int = LAST_STAGE) -> None:
        """Wrap a model. ``stage`` is the UNet's training stage: one of stage 1 runs with layer 4 bypassed."""
        self.model = model.eval().requires_grad_(False)
        self.stage = stage
        self.config = model.config
        self.diffusion = FrameDiffusion(self.config)
        self.fingerprint = model_fingerprint(model.states(), self.config)

    # Making a pipeline ---------------------------------------------------------------------------------------------

    @classmethod
    def from_config(cls, config: MCDMConfig, seed: int = 0, device: torch.device | str = "cpu") -> MCDMPipeline:
        """Random weights: for tests and for measuring speed and memory."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = MCDMModel(config)
        return cls(model.to(device))

    @classmethod
    def from_preset(cls, preset: str = "tiny", device: torch.device | str = "cpu") -> MCDMPipeline:
        """The shipped weights of a preset.

        Raises:
            WeightsError: if the preset is unknown or its weights are not installed.
        """
        if preset not in PRESETS:
            raise WeightsError(f"There is no preset {preset!r}; choose one of {', '.join(PRESETS)}.")
        path = preset_weights(preset)
        if not path.is_file():
            raise WeightsError(
                f"The weights of the preset {preset!r} are not installed ({path.name} in {path.parent}). "
                "Get the file, or load your own weights."
            )
        return cls.from_file(path, device)

    @classmethod
    def from_file(cls, path: str | Path, device: torch.device | str = "cpu") -> MCDMPipeline:
        """Weights of one file, or of a training directory of one file a component.

        Raises:
            WeightsError: if the weights are missing, damaged or incomplete.
        """
        if Path(path).is_dir():
            return cls.from_directory(path, device=device)
        config, states, stage = load_checkpoint(path)
        model = MCDMModel(config)
        model.load_states(states)
        return cls(model.to(device), stage)

    @classmethod
    def from_directory(
        cls, directory: str | Path, config: MCDMConfig | None = None, *, allow_missing: bool = False,
        device: torch.device | str = "cpu",
    ) -> MCDMPipeline:
        """Weights of a training directory; with ``allow_missing``, absent components stay random (a look on the way).

        Raises:
            WeightsError: see :meth:`from_file`.
        """
        config, states, stage = load_directory(directory, config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = MCDMModel(config)
        missing = model.load_states(states, allow_missing=allow_missing)
        if missing:
            logger.warning("No weights yet for %s: random ones are used.", ", ".join(missing))
        return cls(model.to(device), stage)

    # Pictures ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample_clip(
        self,
        reference: Reference,
        motion: Motion,
        memory: MotionMemory,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        callback: Callback | None = None,
    ) -> tuple[Clip, MotionMemory]:
        """Denoise and decode one clip of at most ``clip_frames`` frames.

        A shorter clip is filled up by repeating its last motion, and cut after decoding.

        Args:
            motion: of this clip; memory: the state before it, which stays as it is.
            steps: denoising steps; guidance: by the motion, 1 is off (and costs nothing); None: the preset's own.
            callback: (done steps, total steps, latents [1, f, c, h, w]) after every step; may raise to stop.

        Returns:
            The clip and the memory after it (also ``clip.memory``).

        Raises:
            MemoryMismatchError: if the memory belongs to another model.
        """
        memory.check(self.fingerprint)
        size, device = self.config.clip_frames, self.device
        defaults = sampling_defaults(self.config.preset)
        guidance = defaults.guidance if guidance is None else guidance
        count = motion.tokens.head.shape[0]
        if not 1 <= count <= size:
            raise MCDMError(f"A clip has 1 to {size} frames, the motion has {count}; pass one of motion.clips({size}).")
        fill = torch.arange(size, device=motion.tokens.head.device).clamp_max(count - 1)
        tokens = motion.tokens.map(lambda stream: stream[fill][None].to(device))
        guide = None
        if self.config.unet.warped_reference:
            guide = self._guide(reference, self._landmarks(reference, motion)[fill.cpu()].to(device))
        carried, bypass = memory.unet_memory, self.stage < LAST_STAGE
        rows, f_pc = memory.archive_rows.to(device), tokens.cat()
        new_memory: dict[str, dict[str, Tensor]] = {}

        def predict(x: Tensor, timestep: Tensor) -> Tensor:
            key = f"{float(timestep):.1f}"
            past = {block: value.to(device) for block, value in _nearest(carried, key).items()} or None
            time = timestep.to(device).expand(1)
            prediction, new_memory[key] = self.model.unet(x, time, rows, f_pc, past, guide, bypass_temporal=bypass)
            if guidance != 1.0:
                free, _ = self.model.unet(x, time, rows, None, past, guide, bypass_temporal=bypass)
                prediction = classifier_free_guidance(prediction, free, guidance)
            return prediction

        shape = (1, size, *reference.latents.shape[1:])
        noise = torch.randn(shape, generator=memory.generator("frames")).to(device)
        latents = self.diffusion.sample(predict, noise, steps or defaults.steps, guide, callback)[:, :count]
        frames = self.model.vae.decode(latents[0]).clamp(-1, 1).float().cpu() / 2 + 0.5
        keep = self.config.present_clip_prior.context_frames
        # The motion context is this clip's own, also when the motion was edited or came from a driver.
        context = motion.tokens.map(lambda stream: stream.to(device)[-keep:])
        if memory.motion_context is not None and count < keep:
            context = MotionTokens(
                *(
                    torch.cat([getattr(memory.motion_context, name).to(device), getattr(context, name)])[-keep:]
                    for name in ("head", "lip", "expression")
                )
            )
        rows_new = self.model.archived_clip_prior(memory.reference_map.to(device), latents)
        after = memory.advanced(latents, rows_new, new_memory, context, memory.audio_context)
        clip = Clip(memory.clip_index, memory.frame_index, frames, latents[0].cpu(), motion, after)
        return clip, after

    def _guide(self, reference: Reference, landmarks: Tensor) -> Tensor:
        """The UNet's guide [1, f, g, h, w] from landmarks [f, 68, 2] (face/reference_warp.py)."""
        signed = (reference.crop * 2 - 1)[None].to(self.device)
        guide, _ = warp_guide(self.model.vae.encode, signed, reference.landmarks[None], landmarks[None])
        return guide

    # The whole -----------------------------------------------------------------------------------------------------

    def generate(
        self,
        reference: Reference,
        audio: AudioEmbedding,
        memory: MotionMemory | None = None,
        *,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        motion_steps: int | None = None,
        motion_guidance: float | None = None,
        temperature: float | None = None,
        landmarks: Tensor | None = None,
        blinks: bool = True,
        start_frame: int = 0,
        callback: Callback | None = None,
    ) -> Iterator[Clip]:
        """Yield finished clips until the sound ends.

        Args:
            memory: continue a video after it; None begins one with ``seed``.
            start_frame: frame of ``audio`` to begin with, to resume a stopped video with the same sound
                (``memory.frame_index``, as a rule).
            others: see :meth:`predict_motion` and :meth:`sample_clip`.

        Raises:
            MemoryMismatchError: if the memory belongs to another model.
            FrameRateError: if ``start_frame`` lies outside the sound.
        """
        if not 0 <= start_frame < audio.num_frames:
            raise FrameRateError(f"start_frame is {start_frame}; the sound has {audio.num_frames} frames, from 0 on.")
        memory = memory or self.start_memory(reference, seed)
        memory.check(self.fingerprint)
        size = self.config.clip_frames
        for first in range(start_frame, audio.num_frames, size):
            with torch.no_grad():
                tokens, predicted = self._predict_clip(
                    reference, audio.tokens[first : first + size], memory, motion_steps, motion_guidance, temperature,
                    None if landmarks is None else landmarks[first : first + size], None,
                )  # fmt: skip
                motion = self._decode_motion(reference, tokens, audio.fps, memory if blinks else None)
                clip, after = self.sample_clip(
                    reference, motion, memory, steps=steps, guidance=guidance, callback=callback
                )
                memory = dataclasses.replace(after, audio_context=predicted.audio_context)
            yield dataclasses.replace(clip, memory=memory)

    def output_size(self, reference: Reference, *, paste: bool = True) -> tuple[int, int]:
        """Height and width of the frames :meth:`finish_frames` gives."""
        if paste:
            return reference.image.shape[-2], reference.image.shape[-1]
        side = round(reference.transform.side)
        return side, side

    @torch.no_grad()
    def finish_frames(
        self, reference: Reference, clip: Clip, *, detail: str = "warp", paste: bool = True
    ) -> Iterator[Tensor]:
        """A clip's frames at the portrait's resolution, one by one: [1, 3, h, w] in [0, 1].

        Args:
            detail: ``"warp"`` takes fine detail from the portrait (face/compositing.py), ``"none"`` only enlarges.
            paste: lay the crops over the portrait; else the crops alone.
        """
        if detail not in ("warp", "none"):
            raise MCDMError(f"detail is {detail!r}; expected 'warp' or 'none'.")
        if detail == "none":
            return enlarged_frames(reference, clip.frames, paste=paste)
        landmarks = self._landmarks(reference, clip.motion)
        return detailed_frames(self.model.vae, reference, clip.frames, landmarks.to(self.device), paste=paste)


def _nearest(memory: dict[str, dict[str, Tensor]], key: str) -> dict[str, Any]:
    """The memory carried at a timestep, or at the nearest one if the number of steps changed between clips."""
    if not memory:
        return {}
    return memory[min(memory, key=lambda other: abs(float(other) - float(key)))]
