"""From a portrait and a voice to a video of any length, clip by clip (paper sections 3 and 5).

Predict the motion of a clip, denoise its frames, decode them, push them into the archive, carry M, go on. What goes
from clip to clip is a :class:`MotionMemory` of constant size. :meth:`MCDMPipeline.generate` yields every clip as soon
as it is ready, so memory does not grow with the video.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapter import merge_adapters
from ..checkpoint import LAST_STAGE, load_checkpoint, load_directory
from ..checkpoint import fingerprint as model_fingerprint
from ..config import PRESETS, MCDMConfig
from ..diffusion.sampling import Callback
from ..errors import FrameRateError, WeightsError
from ..face.reading.portrait_check import Finding
from ..model import MCDMModel
from ..motion.blinks import BLINK_RATE
from ..motion.motion import Motion
from .audio import AudioEmbedder, AudioEmbedding
from .canvas.canvas import build_canvas
from .finishing import FrameFinisher
from .memory import MotionMemory
from .memory_builder import MemoryBuilder
from .prediction import MotionPredictor
from .reference import Reference, ReferenceEncoder
from .run.overlap import while_the_next
from .sampling import Clip, ClipSampler, Denoised

__all__ = ["AudioEmbedding", "Clip", "MCDMPipeline", "Reference", "preset_weights"]

logger = logging.getLogger(__name__)

Adapters = Sequence[tuple[str | Path, float]]
"""Adapter files (:mod:`..adapter`) with their strengths."""


def preset_weights(preset: str) -> Path:
    """Where a preset's shipped weights lie."""
    return Path(__file__).parents[1] / "assets" / f"mcdm_{preset}.safetensors"


class MCDMPipeline:
    """The whole model with the steps of making a video. Deterministic for a seed on one device.

    Composed of parts, each of which also works alone.

    Attributes:
        model: all networks; config: theirs; stage: the UNet's training stage.
        fingerprint: names the model; memories carry it.
        references, audio, memories, motion, clips, finisher: the parts, in the order in which a video needs them.
    """

    def __init__(self, model: MCDMModel, stage: int = LAST_STAGE) -> None:
        """Wrap a model. ``stage`` is the UNet's training stage: one of stage 1 runs with layer 4 bypassed."""
        self.model = model.eval().requires_grad_(False)
        self.config, self.stage = model.config, stage
        self.fingerprint = model_fingerprint(model.states(), model.config)
        self.references = ReferenceEncoder(model, build_canvas(model).still_latents)
        self.audio = AudioEmbedder(model)
        self.memories = MemoryBuilder(model, self.fingerprint)
        self.motion = MotionPredictor(model)
        self.clips = ClipSampler(model, stage)
        self.finisher = FrameFinisher(model)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    # Making a pipeline ---------------------------------------------------------------------------------------------

    @classmethod
    def from_config(cls, config: MCDMConfig, seed: int = 0, device: torch.device | str = "cpu") -> MCDMPipeline:
        """Random weights: for tests and for measuring speed and memory."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = MCDMModel(config)
        return cls(model.to(device))

    @classmethod
    def from_preset(
        cls, preset: str = "tiny", device: torch.device | str = "cpu", adapters: Adapters = ()
    ) -> MCDMPipeline:
        """The shipped weights of a preset; ``adapters`` as in :meth:`from_file`.

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
        return cls.from_file(path, device, adapters)

    @classmethod
    def from_file(cls, path: str | Path, device: torch.device | str = "cpu", adapters: Adapters = ()) -> MCDMPipeline:
        """Weights of one file, or of a training directory of one file a component.

        Args:
            adapters: files of personal fine-tuning with their strengths, merged into the weights of one file.

        Raises:
            WeightsError: if the weights are missing, damaged or incomplete, or an adapter belongs to others.
        """
        if Path(path).is_dir():
            if adapters:
                raise WeightsError(f"{path} is a training directory: bundle it to use adapters (train bundle).")
            return cls.from_directory(path, device=device)
        config, states, stage = load_checkpoint(path)
        if adapters:
            states = merge_adapters(states, config, adapters)
        return cls(MCDMModel.from_states(config, states).to(device), stage)

    @classmethod
    def from_directory(
        cls,
        directory: str | Path,
        config: MCDMConfig | None = None,
        *,
        allow_missing: bool = False,
        device: torch.device | str = "cpu",
    ) -> MCDMPipeline:
        """Weights of a training directory; with ``allow_missing``, absent components stay random (a look on the way).

        Raises:
            WeightsError: see :meth:`from_file`.
        """
        config, states, stage = load_directory(directory, config)
        MCDMModel.check_fit(config, states)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = MCDMModel(config)
        missing = model.load_states(states, allow_missing=allow_missing)
        if missing:
            logger.warning("No weights yet for %s: random ones are used.", ", ".join(missing))
        return cls(model.to(device), stage)

    # The steps of a video ------------------------------------------------------------------------------------------

    def detect_faces(self, image: Tensor) -> list[tuple[float, float, float, float]]:
        """Boxes (left, top, right, bottom) in pixels of the faces in a portrait [3, h, w] in [0, 1], largest first."""
        return self.references.detect_faces(image)

    def encode_reference(self, image: Tensor, box: Sequence[float] | None = None) -> Reference:
        """Find the face in a portrait, crop it and encode it.

        Args:
            image: portrait [3, h, w] in [0, 1], any size.
            box: the face (left, top, right, bottom) in pixels, roughly; None finds the largest.

        Raises:
            FaceNotFoundError, FaceTooSmallError, MediaError: see the messages; a box can always be given.
        """
        return self.references.encode(image, box)

    def check_portrait(
        self, image: Tensor, box: Sequence[float] | None = None, reference: Reference | None = None
    ) -> list[Finding]:
        """What is wrong with a portrait [3, h, w] in [0, 1] before it speaks, with advice; ``box`` as above.

        Args:
            reference: made of the same picture without a box; its faces are not searched for again.

        Raises:
            FaceNotFoundError, MediaError: see the messages.
        """
        return self.references.check_portrait(image, box, reference)

    def embed_audio(
        self, waveform: Tensor, sample_rate: int, fps: float | None = None, *, allow_silent: bool = False
    ) -> AudioEmbedding:
        """Encode sound: one group of tokens for each of max(1, round(T fps)) video frames.

        Args:
            waveform: [t] or [c, t] at any rate.
            fps: frames a second, the model's by default.
            allow_silent: accept sound that is silent throughout.

        Raises:
            AudioError, FrameRateError: for unusable sound or rates.
        """
        return self.audio.embed(waveform, sample_rate, fps, allow_silent=allow_silent)

    def start_memory(self, reference: Reference, seed: int = 0, seen: Sequence[Reference] = ()) -> MotionMemory:
        """The memory before the first frame: the archive is the reference, repeated (section 3.2).

        ``seen``: further pictures of the person that fill it instead, for teeth and lids that the portrait lacks.
        """
        return self.memories.start(reference, seed, seen)

    def memory_from_frames(self, reference: Reference, frames: Tensor, seed: int = 0) -> MotionMemory:
        """The memory after given frames, to continue a video whose memory was not kept.

        Args:
            reference: of the person.
            frames: the video's last frames [f, 3, h, w] in [0, 1]. They are face crops (square, of the model's size),
                or whole pictures of the portrait's size, cropped where the portrait was.

        Raises:
            MCDMError: for frames of another shape.
        """
        return self.memories.after_frames(reference, frames, seed)

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
        blink_rate: float = BLINK_RATE,
        callback: Callback | None = None,
    ) -> Motion:
        """Facial motion for the whole of ``audio`` (section 3.3).

        Args:
            memory: continue after it; None begins a video with ``seed``.
            steps: denoising steps a clip; guidance: by the sound, 1 is off; temperature: liveliness, 0 the most
                typical motion and the same for every seed, 1 people's.
            landmarks: [N, 68, 2] of a driver in crop units; its head movement is used, the rest predicted.
            blinks: blink ``blink_rate`` times a minute (motion/blinks.py); else the lids are the model's alone.
            callback: (done, total, tokens) after every step; may raise to stop.
        """
        return self.motion.predict(
            reference,
            audio,
            memory or self.start_memory(reference, seed),
            steps=steps,
            guidance=guidance,
            temperature=temperature,
            landmarks=landmarks,
            blinks=blinks,
            blink_rate=blink_rate,
            callback=callback,
        )

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
        landmarks = self._needed_landmarks(reference, motion)
        clip = self.clips.sample(
            reference, motion, memory, landmarks=landmarks, steps=steps, guidance=guidance, callback=callback
        )
        return clip, clip.memory

    def finish_crops(
        self, reference: Reference, frames: Tensor, landmarks: Tensor, *, paste: bool = True, in_bytes: bool = False
    ) -> Iterator[Tensor]:
        """As :meth:`finish_frames`, of crops [f, 3, s, s] in [0, 1] that a video holds, with landmarks [f, 68, 2]."""
        painting = self.finisher.canvas.seen_in(reference, frames, landmarks)
        return self.finisher.finish(reference, painting, landmarks, paste=paste, in_bytes=in_bytes)

    def output_size(self, reference: Reference, *, paste: bool = True) -> tuple[int, int]:
        """Height and width of the frames :meth:`finish_frames` gives."""
        return self.finisher.output_size(reference, paste=paste)

    def finish_frames(
        self, reference: Reference, clip: Clip, *, detail: str = "warp", paste: bool = True, in_bytes: bool = False
    ) -> Iterator[Tensor]:
        """A clip's frames at the portrait's resolution, one by one: [1, 3, h, w] in [0, 1].

        Args:
            detail: ``"warp"`` takes fine detail from the portrait (face/compositing/crop.py), ``"none"`` only enlarges.
            paste: lay the crops over the portrait; else the crops alone.
            in_bytes: uint8 frames instead, as a ``VideoWriter`` takes them too: faster.

        Raises:
            MCDMError: for another ``detail``.
        """
        landmarks = self.motion.landmarks(reference, clip.motion) if detail == "warp" else None
        return self.finisher.finish(reference, clip.painting, landmarks, detail=detail, paste=paste, in_bytes=in_bytes)

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
        blink_rate: float = BLINK_RATE,
        start_frame: int = 0,
        callback: Callback | None = None,
    ) -> Iterator[Clip]:
        """Yield finished clips until the sound ends. On a GPU a clip is painted while the next one is denoised.

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
        of_motion = {"steps": motion_steps, "guidance": motion_guidance, "temperature": temperature}
        of_pictures = {"steps": steps, "guidance": guidance, "callback": callback}
        blinking = blink_rate if blinks else None
        denoised = self._denoised(reference, audio, memory, start_frame, landmarks, blinking, of_motion, of_pictures)
        paint = functools.partial(self.clips.paint, reference)
        return while_the_next(paint, denoised, self.device)

    def _denoised(
        self,
        reference: Reference,
        audio: AudioEmbedding,
        memory: MotionMemory,
        start_frame: int,
        landmarks: Tensor | None,
        blink_rate: float | None,
        of_motion: dict[str, Any],
        of_pictures: dict[str, Any],
    ) -> Iterator[Denoised]:
        """The clips of :meth:`generate` before they are painted, with the options of prediction and of denoising."""
        size = self.config.clip_frames
        for first in range(start_frame, audio.num_frames, size):
            with torch.no_grad():
                tokens, predicted = self.motion.predict_clip(
                    reference,
                    audio.tokens[first : first + size],
                    memory,
                    landmarks=None if landmarks is None else landmarks[first : first + size],
                    **of_motion,
                )
                blinking = (None, BLINK_RATE) if blink_rate is None else (memory, blink_rate)
                motion = self.motion.decode(reference, tokens, audio.fps, *blinking)
                needed = self._needed_landmarks(reference, motion)
                denoised = self.clips.denoise(reference, motion, memory, landmarks=needed, **of_pictures)
                # The next clip goes on from what was predicted, as when all motion comes first: blinks come after it.
                memory = dataclasses.replace(
                    denoised.after, audio_context=predicted.audio_context, motion_context=predicted.motion_context
                )
            yield dataclasses.replace(denoised, after=memory)

    def _needed_landmarks(self, reference: Reference, motion: Motion) -> Tensor | None:
        return self.motion.landmarks(reference, motion) if self.config.unet.warped_reference else None
