"""Conversions between ComfyUI's IMAGE, MASK, AUDIO and VIDEO and the core's tensors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from einops import rearrange

from ....mcdm_core.errors import AudioError, MediaError
from ....mcdm_core.media.audio import Audio
from ....mcdm_core.media.audio_reader import AudioReader, has_sound
from ....mcdm_core.media.video_reader import VideoReader, shown_at
from ..interruption import check_interrupt

if TYPE_CHECKING:
    from comfy_api.input import AudioInput, VideoInput
    from comfy_api.util import VideoComponents

PEAKS_PER_FRAME = 4
_NAME, _ADVICE = "The input 'video'", "Save it as mp4 and load it again."


def image_to_frames(image: torch.Tensor, name: str = "image") -> torch.Tensor:
    """IMAGE [b, h, w, 1, 3 or 4] to frames [b, 3, h, w] in [0, 1]; transparency is laid over mid-grey.

    Raises:
        MediaError: for another shape.
    """
    if image.ndim == 3:
        image = image[None]
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        raise MediaError(
            f"The input '{name}' has shape {list(image.shape)}; expected an IMAGE [batch, height, width, 3]. "
            "Connect the IMAGE output of Load Image."
        )
    frames = rearrange(image, "f h w c -> f c h w").float().cpu()
    if frames.shape[1] == 4:
        frames = frames[:, :3] * frames[:, 3:] + 0.5 * (1 - frames[:, 3:])
    if frames.shape[1] == 1:
        frames = frames.expand(-1, 3, -1, -1)
    return frames.clamp(0, 1).contiguous()


def frames_to_image(frames: torch.Tensor) -> torch.Tensor:
    """Frames [f, 3, h, w] to IMAGE [f, h, w, 3] on ComfyUI's intermediate device."""
    import comfy.model_management

    return rearrange(frames, "f c h w -> f h w c").float().contiguous().to(comfy.model_management.intermediate_device())


def mask_to_box(mask: torch.Tensor, width: int, height: int) -> tuple[float, float, float, float] | None:
    """The bounding box (left, top, right, bottom) in a picture of this size of what a MASK [b, h, w] or [h, w] marks.

    None if it marks nothing: Load Image gives such a mask for every picture without transparency.
    """
    marked = (mask[0] if mask.ndim == 3 else mask) > 0.5
    if not bool(marked.any()):
        return None
    rows, columns = torch.where(marked.any(1))[0], torch.where(marked.any(0))[0]
    across, down = width / marked.shape[1], height / marked.shape[0]
    return (
        float(columns[0]) * across,
        float(rows[0]) * down,
        float(columns[-1] + 1) * across,
        float(rows[-1] + 1) * down,
    )


def is_background_mask(mask: torch.Tensor) -> bool:
    """Whether a MASK marks what surrounds a person, as the transparency of a cut-out portrait does, and no face.

    Such a mask covers both upper corners and not the middle; one painted over a face does neither.
    """
    marked = (mask[0] if mask.ndim == 3 else mask) > 0.5
    height, width = marked.shape
    upper = marked[: max(1, height // 16)]
    corner = max(1, width // 16)
    corners = upper[:, :corner].float().mean() > 0.5 and upper[:, -corner:].float().mean() > 0.5
    middle = marked[height // 3 : -(-2 * height // 3), width // 3 : -(-2 * width // 3)]
    return bool(corners) and bool(middle.float().mean() < 0.5)


def audio_to_core(audio: AudioInput | None, name: str = "audio") -> Audio:
    """AUDIO to the core's ``Audio`` [c, t]; the first of a batch.

    Raises:
        AudioError: for None (a silent video's sound), an empty or a malformed one.
    """
    if audio is None:
        raise AudioError(
            f"The input '{name}' is empty: the video it comes from has no sound. Connect a recording of speech."
        )
    waveform = audio["waveform"]
    if waveform.ndim == 3:
        waveform = waveform[0]
    if waveform.ndim == 1:
        waveform = waveform[None]
    if waveform.ndim != 2 or waveform.shape[-1] == 0:
        raise AudioError(
            f"The input '{name}' holds no sound (waveform of shape {list(audio['waveform'].shape)}). "
            "Connect a recording of speech."
        )
    return Audio(waveform.detach().float().cpu(), int(audio["sample_rate"]))


def audio_from_core(audio: Audio) -> AudioInput:
    """The core's ``Audio`` to ComfyUI's AUDIO."""
    return {"waveform": audio.waveform[None].contiguous(), "sample_rate": audio.sample_rate}


def cut_audio(audio: Audio, start: float, duration: float) -> Audio:
    """The segment of ``duration`` seconds (0: to the end) from ``start``.

    Raises:
        AudioError: if the segment begins after the sound's end.
    """
    first = round(start * audio.sample_rate)
    if first >= audio.waveform.shape[-1]:
        raise AudioError(
            f"The start, {start:g} s, lies after the end of the audio ({audio.duration:.2f} s). Choose an earlier one."
        )
    last = audio.waveform.shape[-1] if duration <= 0 else first + max(1, round(duration * audio.sample_rate))
    return Audio(audio.waveform[:, first:last].contiguous(), audio.sample_rate)


def audio_of_frames(audio: Audio, first_frame: int, frames: int, fps: float) -> Audio:
    """The sound of video frames [first_frame, first_frame + frames), padded with silence at the end."""
    begin = round(first_frame / fps * audio.sample_rate)
    end = round((first_frame + frames) / fps * audio.sample_rate)
    piece = audio.waveform[:, begin:end]
    return Audio(torch.nn.functional.pad(piece, (0, end - begin - piece.shape[1])).contiguous(), audio.sample_rate)


def waveform_peaks(audio: Audio, frames: int, fps: float, per_frame: int = PEAKS_PER_FRAME) -> list[float]:
    """Loudest sample of each of ``frames * per_frame`` segments, 0..1, for drawing the waveform."""
    count = frames * per_frame
    samples = max(1, round(frames / fps * audio.sample_rate))
    mono = audio.waveform.abs().amax(0)[:samples]
    mono = torch.nn.functional.pad(mono, (0, samples - mono.numel()))
    peaks = torch.nn.functional.adaptive_max_pool1d(mono[None, None], count)[0, 0]
    return [round(float(value), 4) for value in peaks.clamp(0, 1)]


def video_rate(video: VideoInput) -> float:
    """Frames a second of a VIDEO, without decoding it where it is a file.

    Raises:
        MediaError: if it holds no picture stream or is damaged.
    """
    held = components_of(video)
    if held is not None:
        return float(held.frame_rate)
    return _reader(video).fps


def iterate_video(video: VideoInput, chunk: int = 16) -> Iterator[torch.Tensor]:
    """Frames [<=chunk, 3, h, w] in [0, 1] of a VIDEO, one chunk in memory at a time.

    Raises:
        MediaError: if it holds no picture stream or cannot be decoded.
    """
    held = components_of(video)
    if held is not None:
        for begin in range(0, held.images.shape[0], chunk):
            yield image_to_frames(held.images[begin : begin + chunk], "video")
        return
    pending: list[torch.Tensor] = []
    for frame in _reader(video):
        check_interrupt()
        pending.append(frame)
        if len(pending) == chunk:
            yield torch.stack(pending)
            pending = []
    if pending:
        yield torch.stack(pending)


def frames_at_rate(video: VideoInput, fps: float) -> Iterator[torch.Tensor]:
    """The frame [3, h, w] in [0, 1] of a VIDEO that is shown at each moment of a frame rate, by the time stamps.

    Raises:
        MediaError: if it holds no picture stream or cannot be decoded.
    """
    held = components_of(video)
    if held is None:
        frames: Iterator[torch.Tensor] = _reader(video).at_rate(fps)
    else:
        pictures = (frame for chunk in iterate_video(video) for frame in chunk)
        frames = shown_at(((k / float(held.frame_rate), frame) for k, frame in enumerate(pictures)), fps)
    for frame in frames:
        check_interrupt()
        yield frame


def video_audio(video: VideoInput) -> Audio | None:
    """The sound of a VIDEO, or None if it has none; the pictures are not decoded.

    Raises:
        MediaError: if it cannot be decoded.
    """
    held = components_of(video)
    if held is not None:
        return audio_to_core(held.audio) if held.audio else None
    start, duration = _trim_window(video)
    source = video.get_stream_source()
    try:
        if not has_sound(source, name=_NAME, advice=_ADVICE):
            return None
        reader = AudioReader(source, name=_NAME, advice=_ADVICE)
        blocks = []
        for block in reader:
            check_interrupt()
            blocks.append(block)
    except AudioError as error:
        raise MediaError(str(error)) from error
    sound = Audio(torch.cat(blocks, 1), reader.sample_rate)
    return cut_audio(sound, start, duration) if start or duration else sound


def last_frames(video: VideoInput, count: int) -> torch.Tensor:
    """The last ``count`` frames [<=count, 3, h, w] of a VIDEO."""
    kept: list[torch.Tensor] = []
    for chunk in iterate_video(video):
        kept = [*kept, *chunk][-count:]
    if not kept:
        raise MediaError("The input 'video' has no frames. Connect another video.")
    return torch.stack(kept)


def all_frames(video: VideoInput) -> torch.Tensor:
    """All frames [f, 3, h, w] of a VIDEO, in memory."""
    return torch.cat(list(iterate_video(video)))


def components_of(video: VideoInput) -> VideoComponents | None:
    """What a VIDEO made of frames (Create Video) holds in memory; None for one that lies in a file.

    Asked for its stream, ComfyUI would encode such a video each time, and could not if a side is odd.
    """
    api = sys.modules.get("comfy_api.latest")
    if api is None or not isinstance(video, api.InputImpl.VideoFromComponents):
        return None
    return video.get_components()


def _reader(video: VideoInput) -> VideoReader:
    start, duration = _trim_window(video)
    return VideoReader(video.get_stream_source(), name=_NAME, start=start, duration=duration)


def _trim_window(video: VideoInput) -> tuple[float, float]:
    """Start and duration (0: to the end) that newer ComfyUI's trimming asks for."""
    window = getattr(video, "get_active_trim_window", None)
    return window() if window is not None else (0.0, 0.0)
