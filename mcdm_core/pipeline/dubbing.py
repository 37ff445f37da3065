"""A new voice for an existing video: its frames, head and eyes stay, the mouth is spoken anew.

The video's own head is the driver (section 3.3 with its landmarks as the condition), the lips come from the voice.
Every frame is its own portrait: the generated crop is pasted into it, within the lower face alone. Frames in which the
face is lost pass through untouched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import FaceNotFoundError, MediaError
from ..face.lower_face import lower_face_mask, respoken, with_lips_of
from ..face.reading.face_track import FaceTrack, track_face
from ..media.audio import Audio
from ..motion.editing import resample_motion
from ..motion.motion import Motion
from .audio import AudioEmbedding
from .memory_builder import seen_in_video
from .reference import Reference, face_box, framed_face
from .sampling import Clip

if TYPE_CHECKING:
    from .memory import MotionMemory
    from .pipeline import MCDMPipeline


CRF = 14
"""x264's quality of a dubbed video, finer than a generated one's: what stays has been through an encoder before."""


@dataclass(frozen=True)
class DubbedClip:
    """Finished frames [f, 3, h, w] in [0, 1], their motion, and the memory after them."""

    frames: Tensor
    motion: Motion
    memory: MotionMemory


@dataclass(frozen=True)
class Dubbing:
    """All that is known before the pictures are made; small whatever the video's size.

    Attributes:
        track: the face that speaks; motion: of the whole video, at its rate; memory: the one to begin with.
    """

    track: FaceTrack
    motion: Motion
    memory: MotionMemory

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.track)


def fitted_sound(audio: Audio, seconds: float) -> Audio:
    """A sound cut, or filled up with silence, to a video's length.

    >>> fitted_sound(Audio(torch.ones(1, 16_000), 16_000), 1.5).waveform.shape
    torch.Size([1, 24000])
    """
    wanted = max(1, round(seconds * audio.sample_rate))
    piece = audio.waveform[:, :wanted]
    return Audio(torch.nn.functional.pad(piece, (0, wanted - piece.shape[1])), audio.sample_rate)


def prepare_dubbing(
    pipe: MCDMPipeline,
    frames: Callable[[], Iterable[Tensor]],
    fps: float,
    audio: Audio,
    *,
    box: Sequence[float] | None = None,
    number: int = 1,
    seed: int = 0,
    **settings: Any,
) -> Dubbing:
    """Follow the face through the whole video and predict how it moves with the new voice.

    Args:
        frames: gives the video's frames [3, h, w] in [0, 1] at ``fps``, anew at each call.
        audio: the new voice; :func:`fitted_sound` makes it as long as the video.
        box, number: which face, see :func:`~..face.reading.face_track.track_face`.
        settings: of :meth:`MCDMPipeline.predict_motion`.

    Raises:
        FaceNotFoundError: if the face is in no frame; MediaError: if there are no frames.
    """
    track = track_face(pipe.model.face_network, frames(), box, number)
    count = len(track)
    if not count:
        raise MediaError("The video to dub has no frames. Give another video.")
    if not bool(track.found.any()):
        which = f"{number} faces were" if number > 1 else "No face was"
        raise FaceNotFoundError(
            f"{which} found in the {count} frames of the video to dub. Give the face's box, or a video with a larger "
            "face seen from the front."
        )
    first = int(track.found.nonzero()[0])
    picture = next(frame for index, frame in enumerate(frames()) if index == first)
    reference = pipe.encode_reference(picture, box=face_box(track, first))
    memory = pipe.start_memory(reference, seed, seen_in_video(pipe, track, frames()))
    sound = fitted_sound(audio, count / fps)
    embedding = pipe.embed_audio(sound.waveform, sound.sample_rate, allow_silent=True)
    motion = pipe.predict_motion(
        reference, embedding, memory, landmarks=_at_rate(track, fps, embedding), blinks=False, **settings
    )
    motion = resample_motion(motion, fps)
    index = torch.arange(count).clamp_max(len(motion) - 1)
    return Dubbing(track, motion if len(motion) == count else _picked(motion, index), memory)


def _at_rate(track: FaceTrack, fps: float, embedding: AudioEmbedding) -> Tensor:
    """The track's landmarks [n, 68, 2] at the middle of each frame of the model's own rate."""
    place = ((torch.arange(embedding.num_frames) + 0.5) / embedding.fps * fps - 0.5).clamp(0, len(track) - 1)
    low = place.floor().long()
    high = (low + 1).clamp_max(len(track) - 1)
    return torch.lerp(track.landmarks[low], track.landmarks[high], (place - low)[:, None, None])


def _picked(motion: Motion, index: Tensor) -> Motion:
    def pick(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[index.to(tensor.device)]

    return Motion(
        motion.tokens.map(lambda s: s[index.to(s.device)]), pick(motion.landmarks), pick(motion.values), motion.fps
    )


def dub(
    pipe: MCDMPipeline,
    dubbing: Dubbing,
    frames: Iterable[Tensor],
    *,
    memory: MotionMemory | None = None,
    start_frame: int = 0,
    **settings: Any,
) -> Iterator[DubbedClip]:
    """Speak the mouth anew, clip by clip; no more than a clip's frames are in memory.

    Args:
        frames: the video's frames [3, h, w] in [0, 1] from its first on.
        memory, start_frame: after the clips that are there already, to resume.
        settings: of :meth:`MCDMPipeline.sample_clip`.
    """
    memory = memory or dubbing.memory
    size = pipe.config.clip_frames
    waiting: list[Tensor] = []
    for index, frame in enumerate(frames):
        if index < start_frame or index >= dubbing.frames:
            continue
        waiting.append(frame)
        if len(waiting) == size or index == dubbing.frames - 1:
            first = index + 1 - len(waiting)
            clip = _dub_clip(pipe, dubbing, first, waiting, memory, settings)
            memory, waiting = clip.memory, []
            yield clip


def _dub_clip(
    pipe: MCDMPipeline, dubbing: Dubbing, first: int, frames: list[Tensor], memory: MotionMemory, settings: Any
) -> DubbedClip:
    motion = dubbing.motion[first : first + len(frames)]
    portraits = [framed_face(pipe, dubbing.track, first + index, frame) for index, frame in enumerate(frames)]
    seen = [portrait for portrait in portraits if portrait is not None]
    if not seen or motion.landmarks is None:
        return DubbedClip(torch.stack(frames), motion, memory)
    own = torch.stack([(portrait or seen[0]).landmarks.cpu() for portrait in portraits])
    wanted = respoken(motion.landmarks.cpu(), own)
    motion = dataclasses.replace(motion, landmarks=wanted)
    clip, memory = pipe.sample_clip(seen[0], motion, memory, **settings)
    made = [
        frame if portrait is None else _pasted(pipe, seen[0], portrait, clip, index)
        for index, (frame, portrait) in enumerate(zip(frames, portraits, strict=True))
    ]
    return DubbedClip(torch.stack(made), motion, memory)


def _pasted(pipe: MCDMPipeline, sampled: Reference, portrait: Reference, clip: Clip, index: int) -> Tensor:
    """A frame [3, h, w] with the generated lower face; beyond it the frame's very pixels.

    Args:
        sampled: the reference the clip was sampled with; portrait: the frame itself.
    """
    now, own = slice(index, index + 1), portrait.landmarks[None].cpu()
    assert clip.motion.landmarks is not None
    wanted = clip.motion.landmarks[now].cpu()
    alone = dataclasses.replace(
        clip,
        frames=clip.frames[now],
        latents=clip.latents[now],
        motion=clip.motion[now],
        painted=None if clip.painted is None else clip.painted[now],
        places=None,
        there=None,
    )
    place = portrait
    if clip.painted is not None:
        # Painted parts lie where the lips of their reference say; those of the frame are open or shut otherwise.
        lips = with_lips_of(sampled.landmarks[None].cpu(), own)[0]
        place = dataclasses.replace(portrait, landmarks=lips.to(portrait.landmarks))
    finished = next(iter(pipe.finish_frames(place, alone)))[0]
    transform = portrait.transform
    side = round(transform.side)
    mask = torch.maximum(lower_face_mask(own, side), lower_face_mask(wanted, side))[0]
    out = portrait.image.clone()
    height, width = out.shape[-2:]
    left, top = round(transform.left), round(transform.top)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + side), min(height, top + side)
    inside = mask[:, y0 - top : y1 - top, x0 - left : x1 - left]
    here = (..., slice(y0, y1), slice(x0, x1))
    out[here] = torch.lerp(out[here], finished[here], inside)
    return out
