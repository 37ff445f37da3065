"""Everything that decides whether a clip is kept, in one place."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CurateSettings:
    """Thresholds of :func:`~.curate.curate`. P marks what the paper states; the rest is chosen (C).

    Attributes:
        fps, size: of the written clips, frames a second and pixels a side.
        min_seconds, max_seconds: length of a clip (P: 30 s at most).
        cut_threshold: change of content at a cut, at least, of PySceneDetect's adaptive detector.
        look_every: seconds between searches of the whole picture for faces.
        min_face: width of the face in pixels of the video, at least.
        min_confidence: of the face network, for a frame to count as showing the face.
        face_share: share of the frames that must show it.
        several_share: share of the looks that may show a second face; second_face: its width, over the first's, from
            which it counts (people in the background do not speak).
        max_jump: movement of the face from frame to frame, over the side of its square.
        max_outside: share of the face's box beyond the picture's edge.
        steady_reach: a square that strays less than this (over its side) stays fixed; else it follows smoothly.
        min_sharpness: see ``picture.py``; min_sharpness_second: of every second of a clip.
        min_luma, max_luma: mean brightness of the face, of 255.
        max_clipped: share of the face's pixels that are black or white.
        max_blockiness: see ``picture.py``.
        min_loudness: root mean square of the sound, of full scale, in dB.
        min_speech: share of the clip in which somebody speaks.
        max_lag: seconds by which lips and sound may be apart; min_sync: correlation of their changes at the best lag.
        lag_margin: by how much the correlation at a larger lag must be better than within max_lag. It is multiplied by
            the root of the seconds measured, since short clips tell little.
        sync_seconds: clips shorter than this are too short to measure their lag. That of all the video's clips counts,
            and none if these are shorter too.
        min_quality: mean number of a network of picture quality, at least, where one is given (its scale is its own).
        min_sync_c: SyncNet's confidence, at least, where it is given; it judges in place of min_sync and the lag's
            margin then.
        duplicate_distance: bits of 256 by which the pictures' signatures of a duplicate differ at most.
        val_share, test_share: of the identities.
        clips_per_shard: in a tar.
    """

    fps: int = 25
    size: int = 512
    min_seconds: float = 2.0
    max_seconds: float = 30.0
    cut_threshold: float = 7.0
    look_every: float = 0.5
    min_face: float = 96.0
    min_confidence: float = 0.5
    face_share: float = 0.95
    several_share: float = 0.1
    second_face: float = 0.5
    max_jump: float = 0.15
    max_outside: float = 0.05
    steady_reach: float = 0.15
    min_sharpness: float = 1.6
    min_sharpness_second: float = 1.45
    min_luma: float = 40.0
    max_luma: float = 215.0
    max_clipped: float = 0.3
    max_blockiness: float = 2.0
    min_loudness: float = -50.0
    min_speech: float = 0.2
    max_lag: float = 0.13
    min_sync: float = 0.15
    lag_margin: float = 0.25
    sync_seconds: float = 6.0
    min_quality: float = -1e9
    min_sync_c: float = 2.0
    duplicate_distance: int = 40
    val_share: float = 0.05
    test_share: float = 0.05
    clips_per_shard: int = 100

    def fingerprint(self, judges: Sequence[str] = ()) -> str:
        """Names the thresholds and published networks, so that results of others are not mixed with these."""
        text = json.dumps([dataclasses.asdict(self), *judges], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


REASONS: dict[str, str] = {
    "failed": "the work on the file ended in an error; the next run tries it again",
    "no consent": "the manifest does not say that the people agreed",
    "unreadable": "the file cannot be decoded",
    "no sound": "the file has no sound",
    "too short": "the shot is shorter than a clip may be",
    "no face": "no face, or not in enough of the frames",
    "several faces": "more than one face",
    "cut off": "the face reaches beyond the picture",
    "too small": "the face has too few pixels",
    "jumping": "the face jumps from frame to frame: a cut that was not found, or another person",
    "blurred": "the face is not sharp",
    "badly exposed": "the face is too dark or too bright",
    "blocky": "the compression shows",
    "poor picture": "a network of picture quality finds it too poor",
    "silent": "the sound is silent",
    "no speech": "nobody speaks, or too little",
    "out of step": "lips and sound are apart in time",
    "not the speaker": "the lips do not move with the sound",
    "duplicate": "a clip with the same pictures and sound was there before",
}
"""Why something was dropped, in the order in which it is checked."""
