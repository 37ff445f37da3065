"""From sound to facial motion: the present-clip prior clip by clip, decoded for a person (paper section 3.3)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ..diffusion.sampling import Callback
from ..face.landmarks import FULL_OPENING, VALUE_NAMES
from ..models.motion_codec import MotionTokens
from ..motion.blinks import add_blinks
from ..motion.motion import Motion
from ..motion.reference_pose import return_tokens, undo_resting_opening
from .continuation import Continuation
from .defaults import sampling_defaults
from .memory import MotionMemory
from .records import AudioEmbedding, Reference


class MotionPrediction(Continuation):
    """The pipeline's part that predicts motion; see :class:`~mcdm_core.pipeline.MCDMPipeline`."""

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
            blinks: add blinks where the model's motion has none (motion/blinks.py).
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
        prior, defaults = self.model.present_clip_prior, sampling_defaults(self.config.preset)
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
            steps=steps or defaults.motion_steps,
            guidance=defaults.motion_guidance if guidance is None else guidance,
            temperature=defaults.temperature if temperature is None else temperature,
            generator=memory.generator("motion"),
            callback=callback,
        )[0]
        split, still = MotionTokens.split(tokens, self.config), reference.motion_tokens
        face = return_tokens(split.expression, still.expression[0], defaults.expression_return)
        split = dataclasses.replace(split, expression=face)
        if head is None:
            split = dataclasses.replace(split, head=return_tokens(split.head, still.head[0], defaults.head_return))
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

    def _landmarks(self, reference: Reference, motion: Motion) -> Tensor:
        """Landmarks of a motion [f, 68, 2], decoded for this person if the motion carries none."""
        if motion.landmarks is not None:
            return motion.landmarks
        decoded = self._decode_motion(reference, motion.tokens.map(lambda s: s.to(self.device)), motion.fps)
        assert decoded.landmarks is not None
        return decoded.landmarks
