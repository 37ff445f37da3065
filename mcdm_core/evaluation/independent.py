"""Lip sync, identity and drift of generated videos, measured by models this project had no part in.

    python -m mcdm_core.evaluation.remake --clips DIR --output FOLDER        # in the project's environment
    python -m mcdm_core.evaluation.independent clips FOLDER                  # in the evaluation's (docs/evaluation.md)
    python -m mcdm_core.evaluation.independent drift LONG.mp4 --portrait PICTURE

``clips`` reads the folder's ``manifest.json``. It tells mediapipe's lip opening of the generated frames against the
real ones, with the clip's own voice and with another's. It also tells dlib's distance of generated frames from the
portrait, and from the mean of the real clip's frames. ``drift`` compares a long video's first and last clip with the
portrait. No torch is needed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..correlation import correlation
from ..face.reading.face_mesh import FaceOpenings, mesh_points, openings
from .torch_free.agreement import mean_or_nan, share_within
from .torch_free.face_embedding import SAME_PERSON, Embeddings, FaceEmbedder, distances, similarity
from .torch_free.video_frames import Frame, video_frames

LEAST_SIDE = 384
"""Smaller videos are enlarged to this before they are read."""
EMBED_EVERY = 5
CLIP_FRAMES = 16

ReadFace = Callable[[Iterable[Frame]], FaceOpenings]
Embed = Callable[[Iterable[Frame]], Embeddings]


def read_openings(frames: Iterable[Frame]) -> FaceOpenings:
    """Openings of a video's frames by mediapipe."""
    return openings(mesh_points(frames))


def measure_clip(entry: dict[str, Any], folder: Path, read: ReadFace, embed: Embed) -> dict[str, Any]:
    """One manifest entry: lips with the own and the wrong voice, identity.

    Args:
        entry: ``name``, the videos ``real``, ``own`` and ``wrong`` (own voice, another's), and, for rendered clips,
            ``truth``: the true lip opening of every frame.
        folder: the manifest's, which paths are relative to.
        read, embed: the face reader and the embedder.
    """
    real = read(video_frames(folder / entry["real"], LEAST_SIDE))
    own = read(video_frames(folder / entry["own"], LEAST_SIDE))
    wrong = read(video_frames(folder / entry["wrong"], LEAST_SIDE))
    portrait = embed(islice(video_frames(folder / entry["real"], LEAST_SIDE), 1))[0]
    made = embed(islice(video_frames(folder / entry["own"], LEAST_SIDE), 0, None, EMBED_EVERY))
    seen = embed(islice(video_frames(folder / entry["real"], LEAST_SIDE), 0, None, EMBED_EVERY))
    away = distances(made, portrait)
    # The person as the clip shows them, not as the one picture does: what an adapter of a person is to come near to.
    person = np.nanmean(seen, 0) if np.isfinite(seen).any() else np.full(portrait.shape, np.nan)
    report = {
        "name": entry["name"],
        "lip_r": correlation(own.lips, real.lips),
        "wrong_voice_r": correlation(wrong.lips, real.lips),
        "lip_spread_generated": float(np.nanstd(own.lips)),
        "lip_spread_real": float(np.nanstd(real.lips)),
        "blink_r": correlation(own.lids, real.lids),
        "face_found": own.found,
        "distance": mean_or_nan(away),
        "likeness": similarity(made, person),
        "distance_to_person": mean_or_nan(distances(made, person)),
        "distance_of_real": mean_or_nan(distances(seen, portrait)),
        # Where the embedder sees no face even in the portrait, it cannot judge.
        "same_person": share_within(away, SAME_PERSON) if np.isfinite(portrait).all() else float("nan"),
    }
    if entry.get("truth"):
        truth = np.array(entry["truth"], float)
        report |= {
            "lip_r_truth": correlation(own.lips, truth),
            "wrong_voice_r_truth": correlation(wrong.lips, truth),
            "reader_r_truth": correlation(real.lips, truth),
        }
    return report


def summarise(clips: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the clips of every number, and the least lip correlation."""
    names = [name for name, value in clips[0].items() if isinstance(value, float)]
    means = {name: round(mean_or_nan([clip[name] for clip in clips]), 4) for name in names}
    return {"clips": len(clips), "least_lip_r": round(min(clip["lip_r"] for clip in clips), 4), **means}


def measure_drift(video: Path, portrait: Path, embed: Embed, clip_frames: int = CLIP_FRAMES) -> dict[str, float]:
    """Likeness of a long video's first and last clip to the portrait (a picture, or a video's first frame).

    Returns:
        Cosine similarity to the portrait's embedding in both, its change, the similarity of the two clips to each
        other, and both mean distances.
    """
    first: list[Frame] = []
    last: list[Frame] = []
    for frame in video_frames(video, LEAST_SIDE):
        if len(first) < clip_frames:
            first.append(frame)
        last = [*last[-clip_frames + 1 :], frame]
    start, end = embed(first), embed(last)
    still = embed(islice(video_frames(portrait, LEAST_SIDE), 1))[0]
    begin, finish = similarity(start, still), similarity(end, still)
    known = start[np.isfinite(start).all(-1)]
    return {
        "similarity_first": begin,
        "similarity_last": finish,
        "change": finish - begin,
        "first_to_last": similarity(end, known.mean(0)) if len(known) else float("nan"),
        "distance_first": mean_or_nan(distances(start, still)),
        "distance_last": mean_or_nan(distances(end, still)),
    }


def main() -> None:
    """Print the measurements, a line a clip and the means, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m mcdm_core.evaluation.independent", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    clips = commands.add_parser("clips", help="lips and identity of the videos of a manifest")
    clips.add_argument("folder", type=Path)
    drift = commands.add_parser("drift", help="identity of a long video's first and last clip")
    drift.add_argument("video", type=Path)
    drift.add_argument("--portrait", type=Path, required=True)
    arguments = parser.parse_args()
    embed = FaceEmbedder()
    if arguments.command == "drift":
        report = measure_drift(arguments.video, arguments.portrait, embed)
        print(json.dumps({name: round(value, 4) for name, value in report.items()}, indent=2))
        return
    entries = json.loads((arguments.folder / "manifest.json").read_text())
    measured = []
    for entry in entries:
        measured.append(measure_clip(entry, arguments.folder, read_openings, embed))
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in measured[-1].items()}), flush=True)
    print(json.dumps(summarise(measured), indent=2))


if __name__ == "__main__":
    main()
