"""Spoken sentences made into sung ones: vowels are held and each has a note, consonants stay as they are.

The sound is put together anew from its own periods (PSOLA, Moulines and Charpentier 1990). So the times of the phones
are known after it as before.
"""

from __future__ import annotations

import numpy as np

from ..people.visemes import visemes_of
from .fresh_process import Utterance

_VOWELS = ("aa", "E", "I", "O", "U")
_NOTES = (-5, -3, 0, 2, 4, 7)
"""Semitones from the speaker's own pitch: a pentatonic scale."""
_HELD = (0.25, 0.9)
"""Seconds that a vowel is held."""
_VIBRATO, _VIBRATO_RATE = 0.25, 5.5
_LOWEST, _HIGHEST = 65.0, 420.0
_HOP = 0.005
_VOICED = 0.45
"""Share of a window's power that must come back a period later."""


def sing(utterance: Utterance, rng: np.random.Generator) -> Utterance:
    """Sing what was spoken: other lengths and another pitch, the same phones in the same order."""
    audio, rate, marks = utterance
    pitch = pitch_track(audio, rate)
    if not marks or not (pitch > 0).any():
        return utterance
    centre, note = float(np.median(pitch[pitch > 0])), 0
    # Points of the time map (old, new), and the note that begins at each of the old ones.
    old, new, begins = [0.0], [0.0], []
    for symbol, start, end in marks:
        length = end - start
        if visemes_of(symbol)[0] in _VOWELS:
            note = int(np.clip(note + rng.integers(-2, 3), 0, len(_NOTES) - 1))
            begins.append((start, centre * 2 ** (_NOTES[note] / 12)))
            length = max(length, float(rng.uniform(*_HELD)))
        new.append(new[-1] + (start - old[-1]) + length)
        old.append(end)
    seconds = len(audio) / rate
    new.append(new[-1] + seconds - old[-1])
    old.append(seconds)
    times = np.arange(int(new[-1] / _HOP) + 1) * _HOP
    source = np.interp(times, new, old)
    tune = np.full(len(times), centre)
    for start, wanted in begins:
        tune[source >= start] = wanted
    tune *= 2 ** (_VIBRATO / 12 * np.sin(2 * np.pi * _VIBRATO_RATE * times))
    sung = resynthesise(audio, rate, pitch, source, tune)
    moved = [(s, float(np.interp(a, old, new)), float(np.interp(b, old, new))) for s, a, b in marks]
    return sung, rate, moved


def pitch_track(audio: np.ndarray, rate: int) -> np.ndarray:
    """Pitch in Hz every 5 ms, 0 where there is none, from the autocorrelation of windows of 40 ms."""
    hop, window = int(_HOP * rate), int(0.04 * rate)
    low, high = int(rate / _HIGHEST), int(rate / _LOWEST)
    padded = np.pad(audio.astype(np.float64), (window // 2, window))
    count = len(audio) // hop + 1
    rows = np.stack([padded[i * hop : i * hop + window] for i in range(count)])
    rows = (rows - rows.mean(axis=1, keepdims=True)) * np.hanning(window)
    spectrum = np.abs(np.fft.rfft(rows, 2 * window)) ** 2
    taper = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(window), 2 * window)) ** 2)[:high]
    alike = np.fft.irfft(spectrum)[:, :high] / np.maximum(taper / taper[0], 1e-3)
    best = low + alike[:, low:high].argmax(axis=1)
    loud = alike[:, 0] > 1e-3 * alike[:, 0].max()
    voiced = loud & (alike[np.arange(count), best] > _VOICED * alike[:, 0])
    return np.where(voiced, rate / best, 0.0)


def resynthesise(audio: np.ndarray, rate: int, pitch: np.ndarray, source: np.ndarray, tune: np.ndarray) -> np.ndarray:
    """The sound at other times and another pitch.

    Args:
        audio: ``[s]``; pitch: of :func:`pitch_track`; source: ``[n]``, which second of ``audio`` is heard every 5 ms;
        tune: ``[n]`` Hz that voiced sound has then.
    """
    epochs = _epochs(audio, rate, pitch)
    length = int(round((len(source) - 1) * _HOP * rate))
    out, weight = np.zeros(length), np.zeros(length)
    at = 0.0
    while at < length:
        now = min(int(at / rate / _HOP), len(source) - 1)
        wanted = source[now] * rate
        place = int(np.clip(np.searchsorted(epochs, wanted), 1, len(epochs) - 1))
        place -= int(wanted - epochs[place - 1] < epochs[place] - wanted)
        centre = epochs[place]
        own = pitch[min(int(centre / rate / _HOP), len(pitch) - 1)]
        half = int(rate / own) if own else int(_HOP * rate)
        grain = np.hanning(2 * half + 1)
        first, middle = int(round(at)) - half, int(centre) - half
        low = max(0, -first, -middle)
        high = min(2 * half + 1, length - first, len(audio) - middle)
        if high > low:
            out[first + low : first + high] += grain[low:high] * audio[middle + low : middle + high]
            weight[first + low : first + high] += grain[low:high]
        at += rate / tune[now] if own else _HOP * rate
    return (out / np.maximum(weight, 0.35)).astype(np.float32)


def _epochs(audio: np.ndarray, rate: int, pitch: np.ndarray) -> np.ndarray:
    """Samples at which a period begins: a peak near each, and every 5 ms where the sound has no pitch."""
    places, at = [0], int(_HOP * rate)
    while at < len(audio):
        own = pitch[min(int(at / rate / _HOP), len(pitch) - 1)]
        if own:
            reach = max(1, int(0.2 * rate / own))
            near = audio[max(0, at - reach) : at + reach]
            at = max(places[-1] + 1, max(0, at - reach) + int(near.argmax()))
        places.append(at)
        at += int(rate / own) if own else int(_HOP * rate)
    return np.array(places)
