"""From a portrait and a voice to a video of any length, clip by clip (paper sections 3 and 5).

Predict the motion of a clip, denoise its frames, decode them, push them into the archive, carry M, go on. What goes
from clip to clip is a :class:`MotionMemory` of constant size; :meth:`MCDMPipeline.generate` yields every clip as soon
as it is ready, so memory does not grow with the video.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .blinks import add_blinks
from .checkpoint import LAST_STAGE, load_checkpoint, load_directory
from .checkpoint import fingerprint as model_fingerprint
from .config import PRESETS, MCDMConfig
from .errors import FrameRateError, MCDMError, WeightsError
from .media.compositing import (
    SURROUNDINGS,
    feather_mask,
    full_resolution_crop,
    head_mask,
    move_surroundings,
    paste_back,
    transfer_detail,
)
from .media.portrait import grown, resample_crop
from .memory import MotionMemory
from .model import MCDMModel
from .models.landmarks import FULL_OPENING, VALUE_NAMES
from .models.motion_codec import MotionTokens
from .models.reference_warp import warp_guide, warp_reference
from .motion import Motion
from .preparation import Preparation, at_size
from .records import AudioEmbedding, Clip, Reference
from .reference_pose import return_tokens, undo_resting_opening
from .schedule import NoiseSchedule, sample_clip

__all__ = ["AudioEmbedding", "Clip", "MCDMPipeline", "Reference", "preset_weights"]

logger = logging.getLogger(__name__)

Callback = Callable[[int, int, Tensor], None]

DEFAULT_STEPS = {"tiny": 1}
DEFAULT_MOTION_STEPS = {"tiny": 4}
DEFAULT_MOTION_GUIDANCE = {"tiny": 1.5}
DEFAULT_TEMPERATURE = {"tiny": 0.0}
"""Measured on the tiny preset, people and voices not trained on: from the prior's most typical motion lips follow the
sound best (predicted against true lip opening r 0.82, 0.81 at temperature 0.5) and do not jitter; 4 steps do as well as
8; guidance on the sound leaves r as it is and gives the lips their full range (1.0 of the true deviation, not 0.83).
"""
HEAD_RETURN = {"tiny": 0.15}
EXPRESSION_RETURN = {"tiny": 0.4}
"""Without it the portrait's expression fades within three seconds into the mean one of the training people: the
astronaut's lids sank to half of their opening; with it they keep four fifths."""
PAPER_STEPS = 25


def preset_weights(preset: str) -> Path:
    """Where a preset's shipped weights lie."""
    return Path(__file__).parent / "assets" / f"mcdm_{preset}.safetensors"


class MCDMPipeline(Preparation):
    """The whole model with the steps of making a video. Deterministic for a seed on one device."""

    def __init__(self, model: MCDMModel, stage: int = LAST_STAGE) -> None:
        """Wrap a model. ``stage`` is the UNet's training stage: one of stage 1 runs with layer 4 bypassed."""
        self.model = model.eval().requires_grad_(False)
        self.stage = stage
        self.config = model.config
        self.schedule = NoiseSchedule(self.config)
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
                "Get the file, or give your own with from_file (--weights)."
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

    # Memory --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def start_memory(self, reference: Reference, seed: int = 0) -> MotionMemory:
        """The memory before the first frame: the archive is the reference, repeated (section 3.2)."""
        prior, count = self.model.archived_clip_prior, self.config.archive_frames
        attention = prior.reference_attention(reference.latents)
        rows = prior(attention, reference.latents[:, None])
        return MotionMemory(
            reference_map=attention,
            archive_latents=reference.latents[:, None].repeat(1, count, 1, 1, 1),
            archive_rows=rows.repeat(1, count, 1, 1),
            seed=seed,
            fingerprint=self.fingerprint,
        )

    @torch.no_grad()
    def memory_from_frames(self, reference: Reference, frames: Tensor, seed: int = 0) -> MotionMemory:
        """The memory after given frames, to continue a video whose memory was not kept.

        Args:
            reference: of the person.
            frames: the video's last frames [f, 3, h, w] in [0, 1]: face crops (square, of the model's size), or
                whole pictures of the portrait's size, cropped where the portrait was.
        """
        if frames.ndim != 4 or frames.shape[0] == 0:
            raise MCDMError(f"The frames have shape {list(frames.shape)}; expected [f, 3, h, w] with f of at least 1.")
        crops = frames[-self.config.archive_frames :].float()
        size = self.config.image_size
        if tuple(crops.shape[-2:]) != (size, size):
            if tuple(crops.shape[-2:]) != tuple(reference.image.shape[-2:]):
                raise MCDMError(
                    f"The frames are {crops.shape[-1]}x{crops.shape[-2]} pixels; expected face crops of {size}x{size} "
                    f"or whole pictures of the portrait's {reference.image.shape[-1]}x{reference.image.shape[-2]}."
                )
            crops = torch.stack([resample_crop(frame, reference.transform, size) for frame in crops])
        signed = (crops * 2 - 1).to(self.device)
        latents = self.model.vae.encode(signed)[None]
        memory = self.start_memory(reference, seed)
        landmarks = self.model.face_network(signed).landmarks
        context = self.model.motion_codec.encode(at_size(signed, 128)[None], landmarks[None])
        keep = self.config.present_clip_prior.context_frames
        after = memory.advanced(
            latents,
            self.model.archived_clip_prior(memory.reference_map, latents),
            {},
            context.map(lambda stream: stream[0, -keep:]),
            None,
        )
        return dataclasses.replace(after, frame_index=frames.shape[0])

    # Motion --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict_motion(
        self,
        reference: Reference,
        audio: AudioEmbedding,
        memory: MotionMemory | None = None,
        *,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        temperature: float | None = None,
        landmarks: Tensor | None = None,
        blinks: bool = True,
        callback: Callback | None = None,
    ) -> Motion:
        """Facial motion for the whole of ``audio`` (section 3.3).

        Args:
            memory: continue after it; None begins a video with ``seed``.
            steps: denoising steps a clip; guidance: by the sound, 1 is off; temperature: liveliness.
            landmarks: [N, 68, 2] of a driver in crop units; its head movement is used, the rest predicted.
            blinks: add blinks where the model's motion has none (blinks.py).
            callback: (done, total, tokens) after every step; may raise to stop.
        """
        memory = memory or self.start_memory(reference, seed)
        begin = memory
        parts: list[MotionTokens] = []
        size = self.config.clip_frames
        for first in range(0, audio.num_frames, size):
            tokens, memory = self._predict_clip(
                reference, audio.tokens[first : first + size], memory, steps, guidance, temperature,
                None if landmarks is None else landmarks[first : first + size], callback,
            )  # fmt: skip
            parts.append(tokens)
        streams = (torch.cat([getattr(part, name) for part in parts]) for name in ("head", "lip", "expression"))
        return self._decode_motion(reference, MotionTokens(*streams), audio.fps, begin if blinks else None)

    def _predict_clip(
        self,
        reference: Reference,
        audio: Tensor,
        memory: MotionMemory,
        steps: int | None,
        guidance: float | None,
        temperature: float | None,
        landmarks: Tensor | None,
        callback: Callback | None,
    ) -> tuple[MotionTokens, MotionMemory]:
        """Tokens of one clip, streams [f, n, dm], and the memory with this clip's motion and sound as context.

        The memory's clip counter moves on, its pictures do not: the caller decides which memory it keeps.
        """
        prior, preset = self.model.present_clip_prior, self.config.preset
        context = memory.motion_context
        known = reference.motion_tokens.cat()[:, None] if context is None else context.cat()[None]
        sound = None if memory.audio_context is None else memory.audio_context[None].to(self.device)
        head = None
        if landmarks is not None:
            head = self.model.motion_codec.encode_head(landmarks[None].to(self.device))
        tokens = prior.predict(
            audio[None],
            reference.image_tokens,
            known.to(self.device),
            context_audio=sound,
            head=head,
            steps=steps or DEFAULT_MOTION_STEPS.get(preset, PAPER_STEPS),
            guidance=DEFAULT_MOTION_GUIDANCE.get(preset, 1.0) if guidance is None else guidance,
            temperature=DEFAULT_TEMPERATURE.get(preset, 1.0) if temperature is None else temperature,
            generator=memory.generator("motion"),
            callback=callback,
        )[0]
        split, still = MotionTokens.split(tokens, self.config), reference.motion_tokens
        face = return_tokens(split.expression, still.expression[0], EXPRESSION_RETURN.get(preset, 0.0))
        split = dataclasses.replace(split, expression=face)
        if head is None:
            split = dataclasses.replace(
                split, head=return_tokens(split.head, still.head[0], HEAD_RETURN.get(preset, 0.0))
            )
        tokens = split.cat()
        keep = self.config.present_clip_prior.context_frames
        if context is not None:
            joined = torch.cat([context.cat().to(tokens), tokens])
        else:
            joined = tokens
        audio_before = memory.audio_context
        audio_joined = audio if audio_before is None else torch.cat([audio_before.to(audio), audio])
        return split, dataclasses.replace(
            memory,
            motion_context=MotionTokens.split(joined[-keep:].clone(), self.config),
            audio_context=audio_joined[-keep:].clone(),
            clip_index=memory.clip_index + 1,
        )

    def _decode_motion(
        self, reference: Reference, tokens: MotionTokens, fps: float, blinks: MotionMemory | None = None
    ) -> Motion:
        """Decode tokens [N, n, dm] for this person; with ``blinks`` those of the frames that follow this memory."""
        decoded = self.model.motion_codec.decode(
            tokens.map(lambda stream: stream[None]), reference.motion_tokens, reference.landmarks[None]
        )
        landmarks, values = decoded.landmarks[0], decoded.values[0]
        if self.config.unet.warped_reference:
            still = reference.motion_tokens
            read = self.model.motion_codec.decode(
                still.map(lambda stream: stream[:, None]), still, reference.landmarks[None]
            )
            seen = FULL_OPENING * float(read.values[0, 0, VALUE_NAMES.index("lip_opening")])
            landmarks = undo_resting_opening(landmarks, reference.landmarks.to(landmarks), seen)
        if blinks is not None:
            landmarks, values = add_blinks(landmarks, values, blinks.seed, blinks.frame_index, fps)
        return Motion(tokens=tokens, landmarks=landmarks, values=values, fps=fps)

    # Pictures ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample_clip(
        self,
        reference: Reference,
        motion: Motion,
        memory: MotionMemory,
        *,
        steps: int | None = None,
        guidance: float = 1.0,
        callback: Callback | None = None,
    ) -> tuple[Clip, MotionMemory]:
        """Denoise and decode one clip of at most ``clip_frames`` frames.

        A shorter clip is filled up by repeating its last motion, and cut after decoding.

        Args:
            motion: of this clip; memory: the state before it, which stays as it is.
            steps: denoising steps; guidance: by the motion, 1 is off (and costs nothing).
            callback: (done steps, total steps, latents [1, f, c, h, w]) after every step; may raise to stop.

        Returns:
            The clip and the memory after it (also ``clip.memory``).

        Raises:
            MemoryMismatchError: if the memory belongs to another model.
        """
        memory.check(self.fingerprint)
        size, device = self.config.clip_frames, self.device
        count = motion.tokens.head.shape[0]
        if not 1 <= count <= size:
            raise MCDMError(f"A clip has 1 to {size} frames, the motion has {count}; pass one of motion.clips({size}).")
        fill = torch.arange(size, device=motion.tokens.head.device).clamp_max(count - 1)
        tokens = motion.tokens.map(lambda stream: stream[fill][None].to(device))
        guide = None
        if self.config.unet.warped_reference:
            guide = self._guide(reference, self._landmarks(reference, motion)[fill.cpu()].to(device))
        schedule, carried, bypass = self.schedule, memory.unet_memory, self.stage < LAST_STAGE
        rows, f_pc = memory.archive_rows.to(device), tokens.cat()
        new_memory: dict[str, dict[str, Tensor]] = {}

        def denoise(x: Tensor, timestep: Tensor) -> Tensor:
            key = f"{float(timestep):.1f}"
            past = {block: value.to(device) for block, value in _nearest(carried, key).items()} or None
            time = timestep.to(device).expand(1)
            prediction, new_memory[key] = self.model.unet(x, time, rows, f_pc, past, guide, bypass_temporal=bypass)
            if guidance != 1.0:
                free, _ = self.model.unet(x, time, rows, None, past, guide, bypass_temporal=bypass)
                prediction = free + guidance * (prediction - free)
            return schedule.estimate(prediction, x, timestep, guide)

        shape = (1, size, *reference.latents.shape[1:])
        noise = torch.randn(shape, generator=memory.generator("frames")).to(device)
        timesteps = schedule.timesteps(steps or DEFAULT_STEPS.get(self.config.preset, PAPER_STEPS))
        latents = sample_clip(denoise, noise, timesteps, schedule, callback)[:, :count]
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

    def _landmarks(self, reference: Reference, motion: Motion) -> Tensor:
        """Landmarks of a motion [f, 68, 2], decoded for this person if the motion carries none."""
        if motion.landmarks is not None:
            return motion.landmarks
        decoded = self._decode_motion(reference, motion.tokens.map(lambda s: s.to(self.device)), motion.fps)
        assert decoded.landmarks is not None
        return decoded.landmarks

    @property
    def _warp(self) -> str:
        return self.config.unet.warp

    def _guide(self, reference: Reference, landmarks: Tensor) -> Tensor:
        """The UNet's guide [1, f, g, h, w] from landmarks [f, 68, 2] (reference_warp.py)."""
        signed = (reference.crop * 2 - 1)[None].to(self.device)
        guide, _ = warp_guide(self.model.vae.encode, signed, reference.landmarks[None], landmarks[None], self._warp)
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
        guidance: float = 1.0,
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
            detail: ``"warp"`` takes fine detail from the portrait (compositing.py), ``"none"`` only enlarges.
            paste: lay the crops over the portrait; else the crops alone.
        """
        if detail not in ("warp", "none"):
            raise MCDMError(f"detail is {detail!r}; expected 'warp' or 'none'.")
        transform, side = reference.transform, round(reference.transform.side)
        if detail == "none":
            for frame in clip.frames:
                large = F.interpolate(frame[None], size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
                yield paste_back(large, reference.image, transform) if paste else large
            return
        outer = grown(transform, SURROUNDINGS)
        surroundings = full_resolution_crop(reference.image, outer)
        margin = (round(outer.side) - side) // 2
        inner = (..., slice(margin, margin + side), slice(margin, margin + side))
        mask = feather_mask(side)
        landmarks = self._landmarks(reference, clip.motion).cpu()
        change = clip.frames - self._warp_reconstructed(reference, landmarks)
        for index in range(len(clip.frames)):
            moved = move_surroundings(
                surroundings, landmarks[index : index + 1], reference.landmarks.cpu(), outer.side / transform.side,
                self._warp,
            )
            here = mask * head_mask(landmarks[index : index + 1], reference.landmarks.cpu(), side)
            moved[inner] = transfer_detail(moved[inner], change[index : index + 1], here)
            # The flow ends inside the square; the mask only hides rounding at its edge.
            edge = feather_mask(moved.shape[-1], 0.02)
            yield paste_back(moved, reference.image, outer, edge) if paste else moved[inner]

    def _warp_reconstructed(self, reference: Reference, landmarks: Tensor) -> Tensor:
        """The warped reference crop through the autoencoder: [f, 3, s, s] in [0, 1] on the CPU."""
        points = landmarks.to(self.device)
        crop = (reference.crop * 2 - 1)[None].to(self.device).expand(len(points), -1, -1, -1)
        still = reference.landmarks[None].to(self.device).expand(len(points), -1, -1)
        warped = warp_reference(crop, points, still, self._warp)
        return self.model.vae.decode(self.model.vae.encode(warped)).clamp(-1, 1).float().cpu() / 2 + 0.5


def _nearest(memory: dict[str, dict[str, Tensor]], key: str) -> dict[str, Any]:
    """The memory carried at a timestep, or at the nearest one if the number of steps changed between clips."""
    if not memory:
        return {}
    return memory[min(memory, key=lambda other: abs(float(other) - float(key)))]
