"""One raw video to its clips: every check in order, and the files of what is kept. The unit of work of a curation."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from ...errors import MediaError
from ...face.landmarks import lip_opening
from ...face.reading.face_network import FaceNetwork
from ...media.audio import MODEL_SAMPLE_RATE
from ...media.pixels import to_bytes
from ...models.audio_encoder import ContextAudioEncoder
from ...published.clip_judges import Judges
from ..real.video import fit_audio, read_labels
from ..tar_shards import PictureWriter, write_flac
from .manifest import Source
from .picture import average, measure_face, picture_fault
from .settings import CurateSettings
from .sound import (
    lag_and_strength,
    loudness_db,
    picture_signature,
    pooled_curve,
    sound_signature,
    speech_share,
    speech_spans,
    sync_curve,
    sync_fault,
    syncnet_fault,
)
from .source import VideoFacts, find_shots, probe, read_frames, read_sound
from .track import Squares, cut_square, face_fault, smooth_squares, track_face

logger = logging.getLogger(__name__)

RESULT = "result.json"
PIECES = ("mp4", "flac", "npz")
"""Files of a kept clip beside its record."""
_TRACK_SIDE = 640
_MEASURED_EVERY = 5

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Networks:
    """What reads the faces, in evaluation mode, what tells lips from the voice, if the weights can, and who judges."""

    face: FaceNetwork
    voice: ContextAudioEncoder | None = None
    judges: Judges = dataclasses.field(default_factory=Judges)


def video_key(name: str) -> str:
    """Short name of a video that is the same on every machine."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def curate_video(source: Source, networks: Networks, settings: CurateSettings, folder: Path) -> list[Record]:
    """Records of all clips of a video, kept or dropped; the files of those kept lie in ``folder/<key>/``.

    What is there of an earlier run (of the same settings and file) is read, with what the manifest says now. A file
    that cannot be used gives one record with its reason; nothing but a full disk or an interruption raises.

    Args:
        folder: of the work under way, made if needed.
    """
    if not source.consent:
        return [_record(source, 0, 0.0, 0.0, "no consent")]
    place = folder / video_key(source.name)
    size = source.path.stat().st_size
    finished = _finished(place, size)
    if finished is not None:
        return [{**record, **_known(source)} for record in finished]
    part = place.with_name(place.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    records = _curate(source, networks, settings, part)
    (part / RESULT).write_text(json.dumps({"bytes": size, "clips": records}, ensure_ascii=False, indent=1))
    shutil.rmtree(place, ignore_errors=True)
    os.replace(part, place)
    return records


def _finished(place: Path, size: int) -> list[Record] | None:
    try:
        result = json.loads((place / RESULT).read_text())
    except (OSError, ValueError):
        return None
    return result["clips"] if result["bytes"] == size else None


def _curate(source: Source, networks: Networks, settings: CurateSettings, part: Path) -> list[Record]:
    try:
        facts = probe(source.path)
        shots = find_shots(source.path, facts, settings)
    except MediaError as error:
        return [_record(source, 0, 0.0, 0.0, "unreadable", detail=str(error))]
    length = shots[-1][1] if shots else 0.0
    try:
        sound = read_sound(source.path, facts)
    except MediaError as error:
        return [_record(source, 0, 0.0, length, "no sound", detail=str(error))]
    silent = loudness_db(sound) < settings.min_loudness
    spans = [] if silent else speech_spans(sound)
    records, curves = [], {}
    for number, (begin, end) in enumerate(shots):
        record = _record(source, number, begin, end, "")
        if end - begin < settings.min_seconds:
            record["fault"] = "too short"
        else:
            curve = _check(record, source.path, facts, sound, spans, networks, settings, part)
            if curve is not None:
                curves[number] = curve
        records.append(record)
    _judge_sync(records, curves, settings)
    for record in records:
        pieces = [part / f"{record['key']}.{kind}" for kind in PIECES]
        if record["fault"]:
            for piece in pieces:
                piece.unlink(missing_ok=True)
        else:
            record["digest"] = hashlib.sha256(b"".join(piece.read_bytes() for piece in pieces)).hexdigest()
    return records


def _record(source: Source, number: int, begin: float, end: float, fault: str, **more: Any) -> Record:
    return {
        "key": f"{video_key(source.name)}-{number:04d}",
        "source": source.name,
        "begin": round(begin, 3),
        "end": round(end, 3),
        "seconds": round(end - begin, 3),
        "fault": fault,
        **_known(source),
        "numbers": {},
        **more,
    }


def _known(source: Source) -> Record:
    """What the manifest says of a video."""
    return {"identity": source.identity, "language": source.language, "licence": source.licence, "url": source.url}


def failed_record(source: Source, error: str) -> Record:
    """The record of a video whose work ended in an error."""
    return _record(source, 0, 0.0, 0.0, "failed", detail=error)


def _check(
    record: Record,
    path: Path,
    facts: VideoFacts,
    sound: Tensor,
    spans: list[tuple[float, float]],
    networks: Networks,
    settings: CurateSettings,
    part: Path,
) -> NDArray[np.float64] | None:
    """Judge a clip and write its files; the curve of lips against sound if it is good so far."""
    begin, end, numbers = record["begin"], record["end"], record["numbers"]
    fps, network = settings.fps, networks.face
    scale = min(1.0, _TRACK_SIDE / max(facts.width, facts.height))
    track = track_face(network, read_frames(path, facts, fps, begin, end, _TRACK_SIDE), settings)
    if not len(track.squares):
        record["fault"] = "unreadable"
        return None
    track = dataclasses.replace(track, squares=track.squares / scale)
    record["fault"], found = face_fault(track, facts.width, facts.height, settings)
    numbers.update(found)
    if record["fault"]:
        return None
    squares = smooth_squares(track.squares, fps, settings.steady_reach)
    clip = part / f"{record['key']}.mp4"
    crops, measured = _write_crops(clip, path, facts, record, (squares, track.squares), settings, network.crop_size)
    numbers.update(average(measured))
    record["fault"] = picture_fault(numbers, settings)
    if not record["fault"] and (quality := networks.judges.picture_quality(clip)) is not None:
        numbers["quality"] = quality
        record["fault"] = "poor picture" if quality < settings.min_quality else ""
    if record["fault"]:
        return None
    first = round(begin * MODEL_SAMPLE_RATE)
    speech = sound[first : first + round(len(crops) / fps * MODEL_SAMPLE_RATE)]
    numbers["loudness"] = loudness_db(speech)
    numbers["speech"] = speech_share(spans, begin, end)
    if numbers["loudness"] < settings.min_loudness:
        record["fault"] = "silent"
        return None
    if numbers["speech"] < settings.min_speech:
        record["fault"] = "no speech"
        return None
    labels = read_labels(network, crops.split(25))
    audio = fit_audio((speech * 32767).clamp(-32768, 32767).short().numpy(), len(crops), fps)
    np.savez_compressed(
        part / f"{record['key']}.npz",
        squares=squares,
        landmarks=labels["landmarks"],
        pose=labels["pose"],
        values=labels["values"],
    )
    write_flac(part / f"{record['key']}.flac", audio)
    faces = rearrange(to_bytes(crops), "n c h w -> n h w c").numpy()
    record.update(frames=len(crops), fps=fps)
    record["sound_signature"] = sound_signature(torch.from_numpy(audio.astype(np.float32) / 32768)).tobytes().hex()
    record["picture_signature"] = picture_signature(faces).tobytes().hex()
    if (told := networks.judges.sync(clip, speech)) is not None:
        numbers.update(lag=told.offset / fps, sync_c=told.confidence, sync_d=told.distance)
        record["fault"] = syncnet_fault(told, settings)
        return None
    return sync_curve(lip_opening(torch.from_numpy(labels["landmarks"])), speech, fps, networks.voice)


def _judge_sync(records: list[Record], curves: dict[int, NDArray[np.float64]], settings: CurateSettings) -> None:
    """All clips of a video share one clock: they tell its lag together where one alone tells too little."""
    if not curves:
        return
    lengths = [records[number]["seconds"] for number in curves]
    pooled, together = pooled_curve(list(curves.values()), lengths), sum(lengths)
    for number, curve in curves.items():
        record = records[number]
        alone = record["seconds"] >= settings.sync_seconds
        measured, seconds = (curve, record["seconds"]) if alone else (pooled, together)
        lag, strength = lag_and_strength(measured, settings.fps)
        fault = sync_fault(measured, seconds, settings)
        if not fault and abs(lag) > settings.max_lag:
            fault = sync_fault(pooled, together, settings)
        record["numbers"].update(lag=lag, sync=strength)
        record["fault"] = fault


def _write_crops(
    target: Path,
    path: Path,
    facts: VideoFacts,
    record: Record,
    squares: tuple[Squares, Squares],
    settings: CurateSettings,
    small_size: int,
) -> tuple[Tensor, list[dict[str, float]]]:
    """Encode the clip's squares.

    Args:
        squares: those that are cut out, and the face's own, which are measured.

    Returns:
        Small crops ``[t, 3, s, s]`` in [-1, 1] for the labels, and numbers of some of the pictures.
    """
    small, measured = [], []
    with PictureWriter(target, settings.size, settings.fps) as writer:
        frames = read_frames(path, facts, settings.fps, record["begin"], record["end"])
        for number, (frame, square, face) in enumerate(zip(frames, *squares, strict=False)):
            crop = cut_square(frame, square, settings.size)
            writer.add(rearrange(to_bytes(crop), "c h w -> h w c").contiguous().numpy())
            small.append(torch.nn.functional.interpolate(crop[None], size=(small_size, small_size), mode="area")[0])
            if number % _MEASURED_EVERY == 0:
                measured.append(measure_face(frame, face))
    return torch.stack(small), measured
