"""English speech from flite's voices, which were cut from recordings of real speakers, with the time of every phone.

flite (Carnegie Mellon University, BSD-like licence) is loaded as a system library, like espeak-ng; without it the data
are made with espeak-ng alone.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools

import numpy as np

from ....errors import PackageError

# flite's American phone set in IPA; the escapes are IPA letters, so that the source stays ASCII.
IPA: dict[str, str] = {
    "aa": "\u0251", "ae": "\u00e6", "ah": "\u028c", "ao": "\u0254", "aw": "a\u028a", "ax": "\u0259", "axr": "\u025a",
    "ay": "a\u026a", "ch": "t\u0283", "dh": "\u00f0", "dx": "\u027e", "eh": "\u025b", "el": "l", "em": "m", "en": "n",
    "er": "\u025d", "ey": "e\u026a", "hh": "h", "hv": "h", "ih": "\u026a", "ix": "\u026a", "iy": "i", "jh": "d\u0292",
    "ng": "\u014b", "nx": "n", "ow": "o\u028a", "oy": "\u0254\u026a", "r": "\u0279", "sh": "\u0283", "th": "\u03b8",
    "uh": "\u028a", "uw": "u", "ux": "u", "y": "j", "zh": "\u0292", "pau": "", "ssil": "", "h#": "", "brth": "",
}  # fmt: skip

_VOICES: dict[str, bool] = {"slt": False, "rms": True, "kal16": True, "awb": True}
_HELD_OUT: dict[str, str] = {"kal16": "val", "awb": "test"}


class _Wave(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    ]


class _Voice(ctypes.Structure):
    """The head of flite's voice record: a name, then the table of features that synthesis reads."""

    _fields_ = [("name", ctypes.c_char_p), ("features", ctypes.c_void_p)]


_POINTER_FUNCTIONS: dict[str, tuple] = {
    "flite_synth_text": (ctypes.c_char_p, ctypes.c_void_p),
    "utt_relation": (ctypes.c_void_p, ctypes.c_char_p),
    "relation_head": (ctypes.c_void_p,),
    "item_next": (ctypes.c_void_p,),
    "utt_wave": (ctypes.c_void_p,),
}


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(ctypes.util.find_library("flite") or "libflite.so.1", mode=ctypes.RTLD_GLOBAL)
        for part in ("cmulex", "usenglish"):
            ctypes.CDLL(ctypes.util.find_library(f"flite_{part}") or f"libflite_{part}.so.1", mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise PackageError("flite's shared library is not installed (system package flite)") from error
    for name, kinds in _POINTER_FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = ctypes.c_void_p, kinds
    library.item_feat_string.restype, library.item_feat_string.argtypes = (
        ctypes.c_char_p,
        (ctypes.c_void_p, ctypes.c_char_p),
    )
    library.item_feat_float.restype, library.item_feat_float.argtypes = (
        ctypes.c_float,
        (ctypes.c_void_p, ctypes.c_char_p),
    )
    library.feat_set_float.restype, library.feat_set_float.argtypes = (
        None,
        (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float),
    )
    library.delete_utterance.restype, library.delete_utterance.argtypes = None, (ctypes.c_void_p,)
    library.flite_init()
    return library


@functools.cache
def _voice(name: str) -> ctypes.c_void_p:
    _library()
    file = f"flite_cmu_us_{name}"
    try:
        voice = ctypes.CDLL(ctypes.util.find_library(file) or f"lib{file}.so.1", mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise PackageError(f"flite's voice {name!r} is not installed (system package flite)") from error
    register = getattr(voice, f"register_cmu_us_{name}")
    register.restype, register.argtypes = ctypes.c_void_p, (ctypes.c_char_p,)
    return ctypes.c_void_p(register(None))


@functools.cache
def available() -> bool:
    """Whether flite and all of its voices used here can be loaded."""
    try:
        for name in _VOICES:
            _voice(name)
    except (PackageError, AttributeError):
        return False
    return True


def voices(split: str, male: bool) -> tuple[str, ...]:
    """Voices of a split, maybe none; a voice belongs to one split only."""
    return tuple(name for name, sex in _VOICES.items() if sex == male and _HELD_OUT.get(name, "train") == split)


def say(text: str, voice: str, slowness: float) -> tuple[np.ndarray, int, list[tuple[str, float, float]]]:
    """Speak English.

    Args:
        text: ASCII English; voice: of :func:`voices`; slowness: factor of all durations.

    Returns:
        Sound ``[s]`` float32, its rate in Hz, and IPA symbols ("" for a pause) with start and end in seconds.

    Raises:
        PackageError: if flite or the voice is missing.
    """
    library, handle = _library(), _voice(voice)
    features = ctypes.cast(handle, ctypes.POINTER(_Voice)).contents.features
    library.feat_set_float(features, b"duration_stretch", slowness)
    utterance = library.flite_synth_text(text.encode("ascii", "ignore"), handle)
    if not utterance:
        raise PackageError(f"flite could not speak {text!r}")
    try:
        wave = ctypes.cast(library.utt_wave(utterance), ctypes.POINTER(_Wave)).contents
        audio = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).astype(np.float32) / 32768.0
        rate, phones, start = int(wave.sample_rate), [], 0.0
        item = library.relation_head(library.utt_relation(utterance, b"Segment"))
        while item:
            name = library.item_feat_string(item, b"name").decode("ascii")
            end = float(library.item_feat_float(item, b"end"))
            if end > start:
                phones.append((IPA.get(name, name), start, end))
            start, item = end, library.item_next(item)
    finally:
        library.delete_utterance(utterance)
    return audio, rate, phones
