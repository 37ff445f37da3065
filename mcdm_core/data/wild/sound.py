"""Is there speech, and do the lips move with it: voice activity (silero-vad), lag and strength of the lips.

How far lips open is told from the voice by the audio encoder of the weights (its head for facial values). Where a file
has none, the loudness stands for it, which is three times less sure: words that follow each other evenly fit many lags.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...checkpoint import Checkpoint
from ...correlation import correlation
from ...errors import MediaError
from ...face.landmarks import VALUE_NAMES
from ...media.audio import MODEL_SAMPLE_RATE, loudness
from ...models.audio_encoder import ContextAudioEncoder
from ...published.clip_judges import JudgeFiles
from ...published.sync_net import FPS as SYNC_NET_FPS
from ...published.sync_net import SyncScores
from .settings import CurateSettings

_REACH = 0.6
"""Seconds to either side in which the lag is looked for."""
_CHUNK = 250
"""Frames whose sound is encoded at a time."""


@functools.lru_cache(maxsize=1)
def _detector() -> Any:
    threads = torch.get_num_threads()
    from silero_vad import load_silero_vad

    torch.set_num_threads(threads)  # the package sets one for the whole process
    return load_silero_vad()


def speech_spans(sound: Tensor) -> list[tuple[float, float]]:
    """Segments ``(begin, end)`` in seconds in which somebody speaks, of sound ``[s]`` at 16 kHz."""
    from silero_vad import get_speech_timestamps

    found = get_speech_timestamps(sound, _detector(), sampling_rate=MODEL_SAMPLE_RATE)
    return [(span["start"] / MODEL_SAMPLE_RATE, span["end"] / MODEL_SAMPLE_RATE) for span in found]


def speech_share(spans: Sequence[tuple[float, float]], begin: float, end: float) -> float:
    """Share of a clip in which somebody speaks.

    >>> speech_share([(0.0, 1.0), (3.0, 9.0)], 0.0, 4.0)
    0.5
    """
    covered = sum(max(0.0, min(end, stop) - max(begin, start)) for start, stop in spans)
    return covered / max(end - begin, 1e-6)


def loudness_db(sound: Tensor) -> float:
    """Root mean square of the sound in dB of full scale."""
    return float(10 * torch.log10(sound.double().square().mean().clamp_min(1e-12))) if len(sound) else -120.0


def voice_encoder_of(found: Checkpoint) -> ContextAudioEncoder | None:
    """The audio encoder of weights; None if they have none that tells facial values."""
    state, settings = found.states.get("audio_encoder"), found.config.audio_encoder
    if state is None or settings.kind != "logmel_context" or settings.sample_rate != MODEL_SAMPLE_RATE:
        return None
    encoder = ContextAudioEncoder(found.config)
    encoder.load_state_dict(state)
    return encoder.eval()


@torch.no_grad()
def told_opening(encoder: ContextAudioEncoder, sound: Tensor, fps: int, count: int) -> Tensor:
    """How far lips open ``[count]`` to say the sound ``[s]``, as the encoder has learnt it."""
    windows = encoder.frame_windows(sound, MODEL_SAMPLE_RATE, fps, count)
    values = torch.cat([encoder.predict_values(encoder(part)) for part in windows.split(_CHUNK)])
    return values[:, VALUE_NAMES.index("lip_opening")]


def sync_curve(
    opening: Tensor, sound: Tensor, fps: int, encoder: ContextAudioEncoder | None = None
) -> NDArray[np.float64]:
    """Correlation of how the lips open ``[t]`` with how the sound says so, at each lag of frames.

    The changes are compared, not the levels: syllables make the levels alike over five frames and more.

    Args:
        encoder: tells the opening from the sound; without it the sound's loudness does.

    Returns:
        ``[2 k + 1]`` for lags of -k to k frames; positive lags: the lips are late.
    """
    if encoder is None:
        said = loudness(sound, MODEL_SAMPLE_RATE, fps, len(opening))
    else:
        said = told_opening(encoder, sound, fps, len(opening))
    lips, level = _change(opening), _change(said)
    reach = min(round(_REACH * fps), max(1, len(lips) // 4))
    curve = np.full(2 * round(_REACH * fps) + 1, np.nan)
    for lag in range(-reach, reach + 1):
        moved, loud = (lips[lag:], level[: len(level) - lag]) if lag >= 0 else (lips[:lag], level[-lag:])
        curve[lag + len(curve) // 2] = correlation(moved, loud)
    return curve


def _change(series: Tensor) -> NDArray[np.float64]:
    """Slope of a series ``[t]`` a frame, over the five frames around each."""
    padded = np.pad(series.double().numpy(), 2, mode="edge")
    return np.convolve(padded, np.array([1.0, 2.0, 0.0, -2.0, -1.0]) / 8, mode="valid")


def pooled_curve(curves: Sequence[NDArray[np.float64]], weights: Sequence[float]) -> NDArray[np.float64]:
    """Mean of the curves of a video's clips, by their lengths: what short clips are too short to tell."""
    total = np.array([np.nan_to_num(curve, nan=-1.0) * weight for curve, weight in zip(curves, weights, strict=True)])
    return total.sum(axis=0) / sum(weights)


def lag_and_strength(curve: NDArray[np.float64], fps: int) -> tuple[float, float]:
    """Seconds by which the lips are late, and the correlation there."""
    best = int(np.nanargmax(curve))
    return (best - len(curve) // 2) / fps, float(curve[best])


def sync_fault(curve: NDArray[np.float64], seconds: float, settings: CurateSettings) -> str:
    """Why the sound cannot be used with the pictures; "" if it can.

    Args:
        curve: of :func:`sync_curve`; seconds: of sound and lips that it was measured from.
    """
    lag, strength = lag_and_strength(curve, settings.fps)
    if strength < settings.min_sync:
        return "not the speaker"
    middle, reach = len(curve) // 2, int(settings.max_lag * settings.fps)
    within = float(np.nanmax(curve[middle - reach : middle + reach + 1]))
    better = strength - within > settings.lag_margin / seconds**0.5
    told = better and seconds >= settings.sync_seconds
    return "out of step" if abs(lag) > settings.max_lag and told else ""


def check_rate(files: JudgeFiles, settings: CurateSettings) -> None:
    """Refuse SyncNet for clips of a rate it does not know.

    Raises:
        MediaError: if it is to judge clips of another rate than its own.
    """
    if files.syncnet is not None and settings.fps != SYNC_NET_FPS:
        raise MediaError(
            f"SyncNet knows {SYNC_NET_FPS} frames a second alone, and fps is {settings.fps}: leave one of them out."
        )


def syncnet_fault(scores: SyncScores, settings: CurateSettings) -> str:
    """Why lips and sound do not belong together; "" if they do.

    >>> syncnet_fault(SyncScores(distance=7.0, confidence=6.0, offset=5), CurateSettings())
    'out of step'
    """
    if scores.confidence < settings.min_sync_c:
        return "not the speaker"
    return "out of step" if abs(scores.offset) / settings.fps > settings.max_lag else ""


def sound_signature(sound: Tensor) -> NDArray[np.uint8]:
    """256 bits ``[32]`` bytes that a copy of the sound has too, though coded anew: where the energy of bands rises.

    After the fingerprints of Haitsma and Kalker (2002), over 32 equal parts of the clip.
    """
    spectrum = torch.stft(sound, 512, 256, window=torch.hann_window(512), return_complex=True).abs().square()
    edges = np.geomspace(300, 4000, 10) / (MODEL_SAMPLE_RATE / 2) * (spectrum.shape[0] - 1)
    bands = [spectrum[int(a) : max(int(a) + 1, int(b))].mean(0) for a, b in itertools.pairwise(edges)]
    energy = torch.stack(bands).clamp_min(1e-10).log()
    parts = torch.nn.functional.adaptive_avg_pool1d(energy[None], 33)[0]
    across = parts[1:] - parts[:-1]
    return np.packbits((across[:, 1:] > across[:, :-1]).numpy().reshape(-1))


def picture_signature(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """256 bits of a clip's faces ``[t, h, w, 3]``: where brightness rises from left to right in four of its frames."""
    picked = crops[np.linspace(0, len(crops) - 1, 4).round().astype(int)].astype(np.float32).mean(-1)
    small = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(picked)[:, None], (8, 9))[:, 0]
    return np.packbits((small[:, :, 1:] > small[:, :, :-1]).numpy().reshape(-1))
