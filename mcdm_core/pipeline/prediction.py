"""From sound to facial motion: the present-clip prior clip by clip, decoded for a person (paper section 3.3)."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import torch
from torch import Tensor

from ..diffusion.sampling import Callback
from ..face.landmarks import FULL_OPENING, VALUE_NAMES
from ..model import MCDMModel
from ..models.motion_tokens import MotionTokens
from ..motion.blinks import BLINK_RATE, LidAxis, keep_blinks
from ..motion.motion import Motion
from ..motion.reference_pose import return_tokens, undo_resting_opening
from .audio import AudioEmbedding
from .defaults import sampling_defaults
from .memory import MotionMemory
from .reference import Reference


class _FaceAtRest:
    """What the codec says of a portrait itself, found when it is first asked for."""

    def __init__(self, model: MCDMModel, reference: Reference) -> None:
        self._codec, self._closed_lids = model.motion_codec, model.present_clip_prior.closed_lids
        self._tokens, self._landmarks = reference.motion_tokens, reference.landmarks

    def is_of(self, reference: Reference) -> bool:
        """Whether it is this portrait's."""
        return self._tokens is reference.motion_tokens and self._landmarks is reference.landmarks

    @cached_property
    def lids(self) -> LidAxis:
        """How its tokens tell of the lids."""
        return LidAxis.of(self._codec, self._closed_lids)

    @cached_property
    def reach(self) -> float:
        """How far its lids have to go."""
        return self.lids.reach(self._codec, self._tokens, self._landmarks[None])

    @cached_property
    def opening(self) -> float:
        """How open its lips are, as the codec reads them."""
        own = self._tokens.map(lambda stream: stream[:, None])
        read = self._codec.decode(own, self._tokens, self._landmarks[None])
        return FULL_OPENING * float(read.values[0, 0, VALUE_NAMES.index("lip_opening")])


class MotionPredictor:
    """From an :class:`AudioEmbedding` to the :class:`~mcdm_core.motion.motion.Motion` of a person."""

    def __init__(self, model: MCDMModel) -> None:
        self.model, self.config = model, model.config
        self._last: _FaceAtRest | None = None

    @torch.no_grad()
    def predict(
        self,
        reference: Reference,
        audio: AudioEmbedding,
        memory: MotionMemory,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        temperature: float | None = None,
        landmarks: Tensor | None = None,
        blinks: bool = True,
        blink_rate: float = BLINK_RATE,
        callback: Callback | None = None,
    ) -> Motion:
        """Motion of the whole of ``audio`` after ``memory``; see :meth:`MCDMPipeline.predict_motion`."""
        begin, parts = memory, []
        size = self.config.clip_frames
        for first in range(0, audio.num_frames, size):
            tokens, memory = self.predict_clip(
                reference,
                audio.tokens[first : first + size],
                memory,
                steps=steps,
                guidance=guidance,
                temperature=temperature,
                landmarks=None if landmarks is None else landmarks[first : first + size],
                callback=callback,
            )
            parts.append(tokens)
        return self.decode(reference, MotionTokens.join(parts), audio.fps, begin if blinks else None, blink_rate)

    @torch.no_grad()
    def predict_clip(
        self,
        reference: Reference,
        audio: Tensor,
        memory: MotionMemory,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        temperature: float | None = None,
        landmarks: Tensor | None = None,
        callback: Callback | None = None,
    ) -> tuple[MotionTokens, MotionMemory]:
        """Tokens of one clip, streams [f, n, dm], and the memory with this clip's motion and sound as context.

        The memory's clip counter moves on, its pictures do not: the caller decides which memory it keeps.

        Args:
            audio: tokens [f, k, d] of the clip's frames.
            others: see :meth:`MCDMPipeline.predict_motion`.
        """
        prior, device = self.model.present_clip_prior, self.model.device
        defaults = sampling_defaults(self.config.preset)
        context, still = memory.motion_context, reference.motion_tokens
        known = still.cat()[:, None] if context is None else context.cat()[None]
        sound = None if memory.audio_context is None else memory.audio_context[None].to(device)
        head = None if landmarks is None else self.model.motion_codec.encode_head(landmarks[None].to(device))
        tokens = prior.predict(
            audio[None],
            reference.image_tokens,
            known.to(device),
            context_audio=sound,
            head=head,
            steps=steps or defaults.motion_steps,
            guidance=defaults.motion_guidance if guidance is None else guidance,
            temperature=defaults.temperature if temperature is None else temperature,
            generator=memory.generator("motion"),
            callback=callback,
        )[0]
        split = MotionTokens.split(tokens, self.config)
        face = return_tokens(split.expression, still.expression[0], defaults.expression_return)
        split = dataclasses.replace(split, expression=face)
        if head is None:
            split = dataclasses.replace(split, head=return_tokens(split.head, still.head[0], defaults.head_return))
        tokens, keep = split.cat(), self.config.present_clip_prior.context_frames
        joined = tokens if context is None else torch.cat([context.cat().to(tokens), tokens])
        before = memory.audio_context
        audio_so_far = audio if before is None else torch.cat([before.to(audio), audio])
        return split, dataclasses.replace(
            memory,
            motion_context=MotionTokens.split(joined[-keep:].clone(), self.config),
            audio_context=audio_so_far[-keep:].clone(),
            clip_index=memory.clip_index + 1,
        )

    @torch.no_grad()
    def decode(
        self,
        reference: Reference,
        tokens: MotionTokens,
        fps: float,
        blinks: MotionMemory | None = None,
        blink_rate: float = BLINK_RATE,
    ) -> Motion:
        """Decode tokens, streams [N, n, dm], for this person.

        With ``blinks`` the lids of the frames after this memory close ``blink_rate`` times a minute and never else; the
        tokens say so too.
        """
        codec, still, face = self.model.motion_codec, reference.motion_tokens, self._face_at_rest(reference)
        if blinks is not None:
            rest = still.expression[0].to(tokens.expression)
            drawn = blinks.seed, blinks.frame_index, fps, blink_rate
            expression = keep_blinks(tokens.expression, face.lids, rest, face.reach, *drawn)
            tokens = dataclasses.replace(tokens, expression=expression)
        decoded = codec.decode(tokens.map(lambda stream: stream[None]), still, reference.landmarks[None])
        landmarks, values = decoded.landmarks[0], decoded.values[0]
        if self.config.unet.warped_reference:
            landmarks = undo_resting_opening(landmarks, reference.landmarks.to(landmarks), face.opening)
        return Motion(tokens=tokens, landmarks=landmarks, values=values, fps=fps)

    def _face_at_rest(self, reference: Reference) -> _FaceAtRest:
        """Of the portrait asked about last what was found stays known, since a video asks for every clip."""
        if self._last is None or not self._last.is_of(reference):
            self._last = _FaceAtRest(self.model, reference)
        return self._last

    def landmarks(self, reference: Reference, motion: Motion) -> Tensor:
        """Landmarks of a motion [f, 68, 2], decoded for this person if the motion carries none."""
        if motion.landmarks is None:
            tokens = motion.tokens.map(lambda stream: stream.to(self.model.device))
            motion = self.decode(reference, tokens, motion.fps)
        assert motion.landmarks is not None
        return motion.landmarks
