"""When each phone of a known sentence is spoken, by forced alignment with pocketsphinx's English acoustic model.

pocketsphinx (Carnegie Mellon University, BSD-like licence) is a package of the ``data`` extra; its wheel carries model
and dictionary. Words that are not in the dictionary are pronounced by flite, where that is installed.
"""

from __future__ import annotations

import re

import numpy as np

from ...errors import MediaError, PackageError
from ..synthetic.speech import flite
from ..synthetic.speech.speech import Phoneme

_PHONES = (
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
).split()
_IPA: dict[str, str] = {name: flite.IPA.get(name.lower(), name.lower()) for name in _PHONES}
_REDUCED = {flite.IPA["ax"]: "AH", flite.IPA["axr"]: "ER", flite.IPA["dx"]: "D"}
"""What flite says but the dictionary does not spell."""
_SPELLING: dict[str, str] = {**_REDUCED, **{symbol: name for name, symbol in _IPA.items()}}

_STEP = 0.01
_BIAS = 0.005
"""Seconds a found phone begins too early, against the times flite knows of its own speech."""
_SHORTEST = 3
"""Steps of a phone at least: the states of its model."""
_MOST_CRAMMED, _FASTEST = 0.45, 25.0
"""Share of such phones, and phones a second, of a sentence that was not said like this."""


class PhoneAligner:
    """Finds the phones of transcribed English speech in time.

    Raises:
        PackageError: if pocketsphinx is not installed.
    """

    def __init__(self) -> None:
        try:
            import pocketsphinx
        except ImportError as error:
            raise PackageError(
                "Aligning speech needs pocketsphinx: pip install pocketsphinx (or the extra: '.[data]')"
            ) from error
        path = pocketsphinx.get_model_path
        # Wide beams: the words are known, so the search is small, and noisy speech must not fall out of it. Their best
        # path over the lattice is not always one that the second pass, over the phones, can follow.
        self._decoder = pocketsphinx.Decoder(
            hmm=path("en-us/en-us"),
            dict=path("en-us/cmudict-en-us.dict"),
            lm=None,
            loglevel="FATAL",
            cmn="batch",
            beam=1e-80,
            pbeam=1e-80,
            wbeam=1e-60,
            bestpath=False,
        )

    def align(self, audio: np.ndarray, transcript: str) -> list[Phoneme]:
        """Phones of a sentence in IPA ("" for a pause), one after the other, with times in seconds.

        Args:
            audio: ``[s]`` int16 at 16 kHz, one sentence or a few; transcript: what is said in it, and nothing else.

        Raises:
            MediaError: if the sound does not fit the words, or a word cannot be pronounced.
        """
        words = words_of(transcript)
        if not words:
            raise MediaError("the transcript holds no English words; write down what is said")
        for word in words:
            self._learn(word)
        data, decoder = np.ascontiguousarray(audio, dtype=np.int16).tobytes(), self._decoder
        decoder.set_align_text(" ".join(words))
        self._run(data)
        if decoder.hyp() is None:
            raise MediaError("the sound does not fit the transcript; check that it says just these words")
        decoder.set_alignment()
        self._run(data)
        spoken: list[Phoneme] = []
        for word in decoder.get_alignment() or ():
            for phone in word:
                start, end = phone.start * _STEP + _BIAS, (phone.start + phone.duration) * _STEP + _BIAS
                spoken.append(Phoneme(_IPA.get(phone.name, ""), start, end))
        _check(spoken)
        return spoken

    def _run(self, data: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(data, full_utt=True)
        self._decoder.end_utt()

    def _learn(self, word: str) -> None:
        """Make sure that the dictionary has a word."""
        if self._decoder.lookup_word(word) is not None:
            return
        if not flite.available():
            raise MediaError(f"{word!r} is not in the dictionary; install flite, which pronounces any word")
        symbols = [symbol for symbol, _, _ in flite.say(word, "slt", 1.0)[2]]
        phones = [_SPELLING[symbol] for symbol in symbols if symbol in _SPELLING]
        if not phones:
            raise MediaError(f"{word!r} cannot be pronounced; write it as it is said")
        self._decoder.add_word(word, " ".join(phones), True)


def words_of(transcript: str) -> list[str]:
    """Words as the dictionary has them, in lower case without punctuation."""
    text = transcript.lower().replace("\u2019", "'")
    return [word for word in (part.strip("'") for part in re.findall(r"[a-z0-9']+", text)) if word]


def _check(phones: list[Phoneme]) -> None:
    """Refuse what a wrong transcript looks like: phones crammed together, each as short as the model allows.

    Raises:
        MediaError: for such an alignment, or an empty one.
    """
    lengths = np.array([p.end - p.start for p in phones if p.symbol])
    if not len(lengths):
        raise MediaError("the sound does not fit the transcript; check that it says just these words")
    crammed = float((lengths < (_SHORTEST + 0.5) * _STEP).mean())
    if crammed > _MOST_CRAMMED or len(lengths) / lengths.sum() > _FASTEST:
        raise MediaError(
            f"the sound does not fit the transcript well ({crammed:.0%} of the phones have no room); "
            "check that it says just these words"
        )
