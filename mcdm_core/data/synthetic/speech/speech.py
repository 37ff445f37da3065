"""Speech with phoneme times from espeak-ng's shared library, and the colouring that makes one voice into many.

espeak-ng is GPL-3 and is only used here, to make training data; nothing of the pack needs it. The command line cannot
print phoneme times for its own voices, the library reports them as events.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import dataclasses
import functools
import logging
from pathlib import Path

import numpy as np

from ....errors import PackageError
from . import flite
from .fresh_process import Utterance, speak_afresh
from .voice_variants import linked_data, random_variant, write_variant

_LOGGER = logging.getLogger(__name__)

SAMPLE_RATE = 16_000
_SYNCHRONOUS, _PHONEME_EVENTS_IPA = 2, 3
_EVENT_END, _EVENT_PHONEME = 0, 7
_UTF8, _UTF8_ENDPAUSE = 1, 1 | 0x1000
TIE = "^"
"""Between the letters of one phone in :func:`phones`."""
_TIED_IPA = 0x02 | 0x80 | ord(TIE) << 8
_RATE, _PITCH, _RANGE = 1, 3, 4

_MALE = (
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "adam", "Alex", "Andy", "antonio", "benjamin", "boris", "caleb",
    "david", "Denis", "Diogo", "ed", "edward", "Gene", "grandpa", "gustave", "Henrique", "Hugo", "iven", "iven2",
    "Jacky", "john", "kaukovalta", "klatt2", "klatt3", "Lee", "marcelo", "Marco", "Mario", "max", "Michael", "michel",
    "miguel", "Mike", "Nguyen", "norbert", "pablo", "paul", "pedro", "quincy", "robert", "sandro", "Storm",
    "travis", "victor", "zac",
)  # fmt: skip
_FEMALE = (
    "f1", "f2", "f3", "f4", "f5", "Alicia", "Andrea", "anika", "Annie", "aunty", "belinda", "grandma", "linda",
    "shelby", "steph", "steph2", "steph3",
)  # fmt: skip
_HELD_OUT: dict[str, dict[bool, tuple[str, ...]]] = {
    "val": {True: ("m4", "robert"), False: ("f4", "shelby")},
    "test": {True: ("m8", "david"), False: ("f5", "linda")},
}

_DRAWN_SHARE = 0.5
"""Share of the training speakers of espeak-ng whose variant is drawn at random."""
_FLITE_SHARE = 0.65  # some of it falls to espeak-ng: a split's flite voices are not of both sexes
_FLITE_WORDS_PER_MINUTE = 165
_BANDS = (80.0, 250.0, 700.0, 1800.0, 4000.0, 7500.0)


@dataclasses.dataclass(frozen=True)
class Phoneme:
    """An IPA symbol spoken from ``start`` to ``end`` seconds."""

    symbol: str
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class Voice:
    """A speaker: the engine's voice and how it is coloured."""

    variant: str
    words_per_minute: int
    pitch: int
    pitch_range: int
    stretch: float  # resampling factor, moves the formants: above 1 longer and deeper
    tilt: float  # spectral tilt, -1 dull to 1 bright
    room: float  # seconds of reverberation, 0 none
    noise: float  # noise amplitude over the speech's
    level: float  # peak of the loudest sample
    engine: str = "espeak-ng"  # or "flite", or "kokoro" (neural.py)
    equalizer: tuple[float, ...] = ()  # decibels at the frequencies of _BANDS, flat without
    cutoff: float = 0.0  # upper limit of the recording in Hz, 0 none
    recipe: str = ""  # of a variant that is not espeak-ng's own (voice_variants.py), or shares of a blend (neural.py)


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Espeak:
    """espeak-ng's library, initialised once a process; not thread safe, as espeak-ng is not."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
        try:
            self._library = ctypes.CDLL(name)
        except OSError as error:
            raise PackageError(
                "Synthetic speech needs espeak-ng's shared library: install the system package espeak-ng"
            ) from error
        self._library.espeak_ng_InitializePath(None)
        installed = ctypes.c_char_p()
        self._library.espeak_Info(ctypes.byref(installed))
        try:
            self.data = linked_data(Path((installed.value or b"").decode()))
        except OSError as error:
            raise PackageError(f"espeak-ng's data could not be linked into the cache: {error}") from error
        self.rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, str(self.data).encode(), _PHONEME_EVENTS_IPA)
        if self.rate <= 0:
            raise PackageError("espeak-ng found no data: install its full data package")
        self._audio: list[np.ndarray] = []
        self._events: list[tuple[float, str]] = []
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, wave, count: int, events) -> int:  # ctypes pointers
        if count > 0 and wave:
            self._audio.append(np.ctypeslib.as_array(wave, (count,)).copy())
        index = 0
        while events[index].type != _EVENT_END:
            event = events[index]
            if event.type == _EVENT_PHONEME:
                raw = ctypes.string_at(ctypes.addressof(event) + _Event.id.offset, 8).split(b"\0")[0]
                self._events.append((event.audio_position / 1000.0, raw.decode("utf8", "ignore")))
            index += 1
        return 0

    def say(self, text: str, voice: str, rate: int, pitch: int, pitch_range: int) -> Utterance:
        self._audio.clear()
        self._events.clear()
        self._choose(voice)
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, int(value), 0)
        data = text.encode("utf8")
        status = self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8_ENDPAUSE, None, None)
        if status != 0:
            raise PackageError(f"espeak-ng could not speak {text!r} (status {status})")
        self._library.espeak_Synchronize()
        audio = np.concatenate(self._audio) if self._audio else np.zeros(0, np.int16)
        ends = [start for start, _ in self._events[1:]] + [len(audio) / self.rate]
        marks = [(symbol, a, b) for (a, symbol), b in zip(self._events, ends, strict=True) if b > a]
        return audio.astype(np.float32) / 32768.0, self.rate, marks

    def phones(self, text: str, voice: str) -> str:
        self._choose(voice)
        data = ctypes.c_char_p(text.encode("utf8"))
        place = ctypes.pointer(ctypes.cast(data, ctypes.c_void_p))
        clauses: list[str] = []
        while place.contents.value:
            # A clause a call, after which the pointer stands at the next one, or is null.
            found = self._library.espeak_TextToPhonemes(place, _UTF8, _TIED_IPA)
            clauses.append((found or b"").decode("utf8", "ignore").strip())
        return " ".join(clause for clause in clauses if clause)

    def _choose(self, voice: str) -> None:
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise PackageError(f"espeak-ng has no voice {voice!r}: install its full data package")


@functools.cache
def _engine() -> _Espeak:
    return _Espeak()


def available() -> bool:
    """Whether espeak-ng's library can be loaded."""
    try:
        _engine()
    except PackageError:
        return False
    return True


def phones(text: str, language_voice: str) -> str:
    """What espeak-ng would say, in IPA with stress marks and a space between words; punctuation is lost.

    The letters of a phone are tied by :data:`TIE` (affricates, diphthongs).

    Raises:
        PackageError: if espeak-ng is missing or has no such voice.
    """
    return _engine().phones(text, language_voice)


def variants(split: str, male: bool) -> tuple[str, ...]:
    """Voice variants of a split; a variant belongs to one split only."""
    if split in _HELD_OUT:
        return _HELD_OUT[split][male]
    held = {name for group in _HELD_OUT.values() for name in group[male]}
    return tuple(name for name in (_MALE if male else _FEMALE) if name not in held)


def random_voice(split: str, male: bool, rng: np.random.Generator, language: str = "") -> Voice:
    """Draw a speaker of a split; for English ("en") about half of them speak with flite where it has such a voice."""
    recorded = language == "en" and rng.random() < _FLITE_SHARE
    choices = flite.voices(split, male) if recorded else ()
    if choices and not flite.available():
        _warn_without_flite()
        choices = ()
    engine, names = ("flite", choices) if choices else ("espeak-ng", variants(split, male))
    drawn = engine == "espeak-ng" and split not in _HELD_OUT and rng.random() < _DRAWN_SHARE
    recipe = random_variant(male, rng) if drawn else ""
    return random_speaker(rng, "drawn" if drawn else str(rng.choice(names)), engine, recipe)


def random_speaker(rng: np.random.Generator, variant: str, engine: str, recipe: str = "") -> Voice:
    """A voice of an engine that speaks and is recorded in a way of its own."""
    return Voice(
        recipe=recipe,
        variant=variant,
        words_per_minute=int(rng.uniform(120, 200)),
        pitch=int(rng.uniform(18, 82)),
        pitch_range=int(rng.uniform(20, 90)),
        stretch=float(rng.uniform(0.86, 1.16)),
        tilt=float(rng.uniform(-0.6, 0.6)),
        room=float(rng.uniform(0.05, 0.45)) if rng.random() < 0.45 else 0.0,
        noise=float(10 ** rng.uniform(-3.0, -1.2)),
        level=float(rng.uniform(0.15, 0.95)),
        engine=engine,
        equalizer=tuple(float(gain) for gain in rng.normal(0, 4.0, len(_BANDS))),
        cutoff=float(rng.uniform(3200, 7000)) if rng.random() < 0.3 else 0.0,
    )


@functools.cache
def _warn_without_flite() -> None:
    _LOGGER.warning("flite is not installed: English is spoken by espeak-ng alone, so clips will differ")


def speak(text: str, language_voice: str, voice: Voice) -> tuple[np.ndarray, list[Phoneme]]:
    """Clean speech ``[s]`` float32 at 16 kHz and its phonemes.

    Args:
        text: in the engine's spelling; language_voice: espeak-ng's voice of the language, flite speaks English.

    Raises:
        PackageError: if the engine is missing or has no such voice.
    """
    from scipy.signal import resample_poly

    stretch = round(voice.stretch * 50) / 50
    if voice.engine == "flite":
        flite.available()  # loaded here, so that the copies need not
        slowness = _FLITE_WORDS_PER_MINUTE / voice.words_per_minute / stretch
        audio, rate, marks = speak_afresh(flite.say, (text, voice.variant, slowness))
    else:
        variant = write_variant(_engine().data, voice.recipe) if voice.recipe else voice.variant
        request = (text, f"{language_voice}+{variant}", voice.words_per_minute, voice.pitch, voice.pitch_range)
        audio, rate, marks = speak_afresh(_engine().say, request)
    up = round(SAMPLE_RATE * stretch)
    audio = resample_poly(audio, up, rate).astype(np.float32)
    factor = up / SAMPLE_RATE
    return audio, [Phoneme(symbol, start * factor, end * factor) for symbol, start, end in marks]


def colour(audio: np.ndarray, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Tilt, microphone, room, noise and level of a recording, ``[s]`` float32 to int16; the timing does not change."""
    tilted = audio - 0.6 * max(voice.tilt, 0) * np.concatenate([[0.0], audio[:-1]])
    if voice.tilt < 0:
        kernel = np.array([1.0, 0.8 * -voice.tilt, 0.4 * -voice.tilt])
        tilted = np.convolve(audio, kernel / kernel.sum(), "full")[: len(audio)]
    tilted = _microphone(tilted, voice)
    if voice.room > 0:
        from scipy.signal import fftconvolve

        length = int(voice.room * SAMPLE_RATE)
        tail = rng.normal(0, 1, length) * np.exp(-6.0 * np.arange(length) / length)
        tail *= rng.uniform(0.1, 0.4) / (np.sqrt((tail**2).sum()) + 1e-9)
        tilted = tilted + fftconvolve(tilted, tail)[: len(audio)]
    spectrum = np.fft.rfft(rng.normal(0, 1, len(audio)))
    spectrum /= np.maximum(np.arange(len(spectrum)), 20.0) ** rng.uniform(0.0, 0.8)
    hiss = np.fft.irfft(spectrum, len(audio))
    peak = np.abs(tilted).max() + 1e-6
    mixed = tilted / peak + voice.noise * hiss / (hiss.std() + 1e-9)
    return np.clip(mixed / np.abs(mixed).max() * voice.level * 32767.0, -32768, 32767).astype(np.int16)


def _microphone(audio: np.ndarray, voice: Voice) -> np.ndarray:
    """Smooth gain over frequency (decibels at :data:`_BANDS`) and an upper limit, without a delay."""
    if not voice.equalizer and voice.cutoff <= 0:
        return audio
    frequency = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)
    gain = np.ones_like(frequency)
    if voice.equalizer:
        gain *= 10 ** (np.interp(np.log(frequency + 1.0), np.log(_BANDS), voice.equalizer) / 20)
    if voice.cutoff > 0:
        gain /= np.sqrt(1 + (frequency / voice.cutoff) ** 12)
    return np.fft.irfft(np.fft.rfft(audio) * gain, len(audio))
