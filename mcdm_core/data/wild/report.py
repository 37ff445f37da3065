"""What a curation did, for people: counts with reasons, histograms, contact sheets and the data card."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from .manifest import Source
from .settings import REASONS, CurateSettings
from .source import probe, read_frames
from .video import Record

_SHEET = 40
"""Clips on a contact sheet at most, spread over all."""
_COLUMNS, _TILE = 8, 128
_PLOTTED = ("face_pixels", "sharpness", "luma", "blockiness", "loudness", "speech", "lag", "sync", "jump")

_CARD = """# Data card

A set of talking faces, made by `python -m mcdm_core curate` after the recipe of TalkingFace-Wild (arXiv 2502.09533,
section 4.1).

| | |
| --- | --- |
{facts}

## What is in it

Tar shards by split, as WebDataset reads them. For each clip: `KEY.mp4` (pictures, {size}x{size}, {fps} frames a second,
no sound), `KEY.flac` (sound, 16 kHz, mono, exactly as long), `KEY.npz` (`landmarks` [t, 68, 2] of the crop, `pose`
[t, 6], `values` [t, 16], `squares` [t, 3] in pixels of the source), `KEY.json` (source, times, person, language,
licence, measurements). `index.parquet` has a row a clip, `dropped.parquet` a row for each that was left out, with the
reason.

Splits are by person: nobody is in two of them.

## Consent and licence

Only videos whose manifest says that the people in them agreed were taken. Licences, in seconds: {licences}.
Who asks to be removed: delete the rows of their `identity` from the manifest, run the command again.

## Limits

Labels are read by this project's own face network, not by people. Sound is judged by whether the lips open when the
voice says so, which does not tell two voices apart. A copy of a clip is found if it is cut where the clip is.
Nobody has looked at every clip: look at `sheets/` before training.

## Thresholds

```json
{settings}
```

## Left out

| reason | clips | seconds | |
| --- | --- | --- | --- |
{dropped}
"""


def write_report(
    output: Path, records: Sequence[Record], sources: Sequence[Source], settings: CurateSettings, work: Path
) -> dict[str, Any]:
    """Write ``report.json``, ``README.md`` (the data card), ``sheets/*.jpg`` and, with matplotlib, ``plots.png``.

    Returns:
        The numbers of ``report.json``.
    """
    numbers = summary(records, settings)
    (output / "report.json").write_text(json.dumps(numbers, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (output / "README.md").write_text(_card(numbers, settings), encoding="utf-8")
    _write_sheets(output / "sheets", records, sources, work)
    _write_plots(output / "plots.png", records)
    return numbers


def summary(records: Sequence[Record], settings: CurateSettings) -> dict[str, Any]:
    """Counts and seconds: kept by split, language and licence, dropped by reason."""
    kept = [record for record in records if not record["fault"]]
    dropped = [record for record in records if record["fault"]]

    def seconds_by(field: str) -> dict[str, float]:
        total: Counter[str] = Counter()
        for record in kept:
            total[record[field]] += record["seconds"]
        return {key: round(value, 2) for key, value in sorted(total.items())}

    reasons = Counter(record["fault"] for record in dropped)
    return {
        "videos": len({record["source"] for record in records}),
        "clips": len(kept),
        "seconds": round(sum(record["seconds"] for record in kept), 2),
        "identities": len({record["identity"] for record in kept}),
        "seconds_by_split": seconds_by("split"),
        "seconds_by_language": seconds_by("language"),
        "seconds_by_licence": seconds_by("licence"),
        "dropped": {
            reason: {
                "clips": reasons[reason],
                "seconds": round(sum(r["seconds"] for r in dropped if r["fault"] == reason), 2),
            }
            for reason in REASONS
            if reasons[reason]
        },
        "settings": dataclasses.asdict(settings),
    }


def _card(numbers: dict[str, Any], settings: CurateSettings) -> str:
    facts = {
        "clips": numbers["clips"],
        "hours": f"{numbers['seconds'] / 3600:.3f}",
        "people": numbers["identities"],
        "from": f"{numbers['videos']} videos",
        "languages (seconds)": _listed(numbers["seconds_by_language"]),
        "splits (seconds)": _listed(numbers["seconds_by_split"]),
    }
    rows = [f"| {r} | {v['clips']} | {v['seconds']:g} | {REASONS[r]} |" for r, v in numbers["dropped"].items()]
    return _CARD.format(
        facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
        size=settings.size,
        fps=settings.fps,
        licences=_listed(numbers["seconds_by_licence"]) or "none",
        settings=json.dumps(numbers["settings"], indent=1),
        dropped="\n".join(rows) or "| nothing | | | |",
    )


def _listed(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def _write_sheets(folder: Path, records: Sequence[Record], sources: Sequence[Source], work: Path) -> None:
    """One picture a reason, and one of what was kept: a frame of the middle of each clip.

    None of videos without consent: nobody agreed to be shown there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.jpg"):
        old.unlink()
    paths = {source.name: source.path for source in sources}
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record["fault"] != "no consent":
            groups.setdefault(record["fault"] or "kept", []).append(record)
    for name, clips in groups.items():
        picked = [clips[i] for i in np.unique(np.linspace(0, len(clips) - 1, min(_SHEET, len(clips))).astype(int))]
        tiles = [_tile(record, paths, work) for record in picked]
        columns = min(_COLUMNS, len(tiles))
        tiles += [np.zeros((_TILE, _TILE, 3), np.uint8)] * (-len(tiles) % columns)
        rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
        cv2.imwrite(str(folder / f"{name.replace(' ', '_')}.jpg"), np.concatenate(rows)[:, :, ::-1])


def _tile(record: Record, paths: dict[str, Path], work: Path) -> NDArray[np.uint8]:
    """A frame of the middle of a clip, from its own file or the source; black where there is none."""
    tile = np.zeros((_TILE, _TILE, 3), np.uint8)
    own = work / record["key"].rsplit("-", 1)[0] / f"{record['key']}.mp4"
    path, middle = own, record["seconds"] / 2
    if not own.is_file():
        path, middle = paths[record["source"]], (record["begin"] + record["end"]) / 2
    try:
        frame = next(read_frames(path, probe(path), 25, middle, middle + 0.5, _TILE), None)
    except MediaError:
        frame = None
    if frame is not None:
        top, left = (_TILE - frame.shape[0]) // 2, (_TILE - frame.shape[1]) // 2
        tile[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
    return tile


def _write_plots(path: Path, records: Sequence[Record]) -> None:
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 3, figsize=(12, 9))
    for axis, name in zip(axes.flat, _PLOTTED, strict=True):
        for kept, colour in ((True, "tab:green"), (False, "tab:red")):
            values = [r["numbers"][name] for r in records if name in r["numbers"] and (not r["fault"]) == kept]
            if values:
                axis.hist(values, bins=30, color=colour, alpha=0.6, label="kept" if kept else "dropped")
        axis.set_title(name.replace("_", " "))
    if axes.flat[0].get_legend_handles_labels()[0]:
        axes.flat[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=80, metadata={"Software": None})
    pyplot.close(figure)
