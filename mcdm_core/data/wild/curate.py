"""A whole curation: every video by itself, over processes or a cluster, then what concerns all clips together."""

from __future__ import annotations

import functools
import importlib.util
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...checkpoint import face_network_of, load_weights
from ...errors import PackageError
from ...file_lock import FileLock
from ...published.clip_judges import JudgeFiles, load_judges
from ..parallel import run_all
from ..tar_shards import INDEX
from .manifest import Source
from .report import write_report
from .selection import mark_duplicates, split_of
from .settings import CurateSettings
from .shards import DROPPED, remove_others, shard_names, write_index, write_shard
from .sound import check_rate, voice_encoder_of
from .video import Networks, Record, curate_video, failed_record, video_key

logger = logging.getLogger(__name__)

WORK, LOCK = "work", "lock"
_PACKAGES = ("scenedetect", "silero_vad", "pyarrow")


@dataclass(frozen=True)
class CurateVideo:
    """The piece of work of one video, as processes and clusters take it.

    Attributes:
        weights: file with the face network, and best the audio encoder; settings: thresholds.
        folder: of the work under way; judges: published networks, if there are any.
    """

    weights: Path
    settings: CurateSettings
    folder: Path
    judges: JudgeFiles = field(default_factory=JudgeFiles)

    def __call__(self, source: Source) -> list[Record]:
        """Records of the video's clips."""
        return curate_video(source, _networks(self.weights, self.judges), self.settings, self.folder)


@functools.lru_cache(maxsize=1)
def _networks(weights: Path, judges: JudgeFiles) -> Networks:
    found = load_weights(weights)
    return Networks(face_network_of(found, weights), voice_encoder_of(found), load_judges(judges))


def curate(
    sources: list[Source],
    output: Path,
    weights: Path,
    settings: CurateSettings | None = None,
    workers: int = 1,
    engine: str = "processes",
    judges: JudgeFiles | None = None,
) -> list[Record]:
    """Curate videos into ``output``: shards by split, index, dropped clips, report, data card.

    Can be stopped anywhere: a video that is finished is not begun again, and the result is the same. Results of other
    thresholds are kept apart.

    Args:
        sources: of ``manifest.list_sources``; weights: file with the face network.
        workers, engine: see ``parallel.py``; judges: published networks that the user has.

    Returns:
        Records of all clips, kept and dropped.

    Raises:
        MediaError: if another program curates into ``output``, or a network cannot judge clips of such settings.
        PackageError: if a package of the extra ``wild`` is missing.
        WeightsError: if the file holds no face network.
    """
    settings, judges = settings or CurateSettings(), judges or JudgeFiles()
    check_rate(judges, settings)
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise PackageError(f"Curation needs {', '.join(missing)}: pip install 'mcdm-talking-face[wild]'.")
    output = Path(output)
    work = output / WORK / settings.fingerprint(judges.digests())
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / WORK / LOCK, f"Another program curates into {output} at this moment. Wait for it.")
    try:
        return _curate(sources, output, CurateVideo(weights, settings, work, judges), workers, engine)
    finally:
        lock.release()


def _curate(sources: list[Source], output: Path, piece: CurateVideo, workers: int, engine: str) -> list[Record]:
    settings, work = piece.settings, piece.folder
    _networks(piece.weights, piece.judges)
    _forget(output, sources)
    started, records = time.monotonic(), []
    outcomes = run_all(piece, sources, workers, engine)
    for done, outcome in enumerate(outcomes, start=1):
        source = sources[outcome.number]
        if outcome.error:
            logger.warning("%s failed: %s", source.name, outcome.error)
            records.append(failed_record(source, outcome.error))
        else:
            records += outcome.value
        kept = sum(not record["fault"] for record in records)
        logger.info("%d of %d videos, %d clips kept of %d", done, len(sources), kept, len(records))
    records.sort(key=lambda record: record["key"])
    mark_duplicates(records, settings)
    for record in records:
        record["split"] = split_of(record["identity"], settings)
    shards = shard_names(records, settings)
    for name, clips in shards.items():
        write_shard(output / name, clips, work)
    remove_others(output, list(shards))
    write_index(output / INDEX, [record for record in records if not record["fault"]])
    write_index(output / DROPPED, [record for record in records if record["fault"]])
    write_report(output, records, sources, settings, work)
    logger.info("%.0f s in all", time.monotonic() - started)
    return records


def _forget(output: Path, sources: Sequence[Source]) -> None:
    """Delete what earlier runs, of whatever thresholds, made of videos whose consent was withdrawn."""
    for source in sources:
        if not source.consent:
            for place in (output / WORK).glob(f"*/{video_key(source.name)}*"):
                shutil.rmtree(place)


def remove_work(output: Path) -> None:
    """Delete what a finished set needs no more; a later run on the same videos would begin anew."""
    shutil.rmtree(Path(output) / WORK, ignore_errors=True)
