"""Validation of the denoiser of parts: people held out, against warp and portrait, with parts of the method off."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor

from ...config import MCDMConfig
from ...models.part_decoder import PartDecoder
from ...models.vae import Autoencoder
from ..unet.denoiser import DenoisingNetworks
from ..vae.train import contact_sheet
from .batches import OPEN_LIPS
from .painting import Painter, PaintingCase, score_painting
from .rows import MOVED, STILL_AS_IS, STILL_MOVED, STILL_SHUT, ClipRows, FrameRows
from .seams import seam_scores

SHEET_COLUMNS = ("true", "still", "warp", "painted", "without_archive", "without_tokens")
"""Videos of a contact sheet, by the names of :func:`~.painting.score_painting`."""


def painting_case(
    rows: FrameRows, clip: ClipRows, length: int, clips: int = 2, first: int | None = None
) -> PaintingCase:
    """The segment of a clip with the widest mouths, driven from its most portrait-like frame.

    ``first``: begin there in the clip instead.
    """
    own = torch.arange(clip.first, clip.first + clip.length)
    lips, lids = rows.lips[own], rows.lids[own]
    count = min(clips, clip.length // length) * length
    reference = int(own[int((lips - 2 * lids).argmin())])
    first = _widest(lips, count) if first is None else first
    shown = own[first:][:count]
    # Never a frame that is to be painted, where the clip has others: the archive may show teeth, not the answer.
    free = torch.ones(clip.length, dtype=torch.bool)
    free[shown - clip.first] = bool(clip.length - count < length)
    archive = own[lips.masked_fill(~free, -torch.inf).argsort(descending=True)[:length].sort().values]
    judged = (shown != reference).nonzero()[:, 0]
    return _case(rows, clip, reference, shown, archive, float(lids.median()), judged)


def _widest(lips: Tensor, count: int) -> int:
    """Where the ``count`` frames begin whose mouths are open widest."""
    return int(torch.nn.functional.avg_pool1d(lips[None, None], count, 1)[0, 0].argmax())


def seam_cases(rows: FrameRows, clip: ClipRows, length: int) -> tuple[PaintingCase, PaintingCase] | None:
    """Two clips around the widest mouths, and the two that begin half a clip later; None if the clip is too short."""
    count, half = 2 * length, length // 2
    room = clip.length - count - half
    if room < 0:
        return None
    first = min(_widest(rows.lips[clip.first : clip.first + clip.length], count), room)
    case, later = (painting_case(rows, clip, length, first=begin) for begin in (first, first + half))
    return case, dataclasses.replace(later, archive=case.archive, archive_landmarks=case.archive_landmarks)


def teeth_case(rows: FrameRows, clip: ClipRows, length: int) -> PaintingCase:
    """A photograph with open lips, driven from itself with its lips warped shut.

    The archive holds the teeth that the portrait lacks: the photograph with its mouth moved, not the answer itself.
    """
    as_is, shut = clip.first + STILL_AS_IS, clip.first + STILL_SHUT
    moved = torch.arange(length) % MOVED + clip.first + STILL_MOVED
    shown = torch.full((length,), as_is)
    return _case(rows, clip, shut, shown, moved, float(rows.lids[as_is]), torch.arange(length))


def _case(
    rows: FrameRows, clip: ClipRows, reference: int, shown: Tensor, archive: Tensor, open_lids: float, judged: Tensor
) -> PaintingCase:
    """A case of rows: of the portrait, of the true frames ``shown`` and of the ``archive``."""
    return PaintingCase(
        name=str(clip.first),
        portrait=rows.picture(torch.tensor([reference]))[0],
        reference=rows.landmarks[reference],
        reference_tokens=rows.tokens[reference],
        frames=rows.picture(shown),
        landmarks=rows.landmarks[shown],
        tokens=rows.tokens[shown],
        archive=rows.picture(archive),
        archive_landmarks=rows.landmarks[archive],
        lips=rows.lips[shown],
        lids=rows.lids[shown],
        open_lids=open_lids,
        judged=judged,
    )


def _teeth_scores(painter: Painter, rows: FrameRows, people: int, steps: int) -> dict[str, float]:
    """Mean dB of mouths of photographs with teeth, and of the baselines; none if there are no such photographs."""
    stills = [clip for clip in rows.clips if clip.still and float(rows.lips[clip.first + STILL_AS_IS]) > OPEN_LIPS]
    totals: dict[str, list[float]] = defaultdict(list)
    for clip in stills[:people]:
        scores, _ = score_painting(painter, teeth_case(rows, clip, painter.config.clip_frames), steps)
        for name, of in (
            ("", "mouth"),
            ("_warp", "mouth_warp"),
            ("_still", "mouth_still"),
            ("_without_archive", "without_archive"),
            ("_without_f_ac", "without_f_ac"),
            ("_without_archive_sight", "without_archive_sight"),
        ):
            totals[f"teeth{name}"].append(scores[of])
    return {name: sum(values) / len(values) for name, values in totals.items()}


def validate_parts(
    denoiser: DenoisingNetworks,
    vae: Autoencoder,
    rows: FrameRows,
    config: MCDMConfig,
    *,
    bypass_temporal: bool,
    picture: Path | None = None,
    people: int = 6,
    steps: int = 1,
    decoder: PartDecoder | None = None,
) -> dict[str, float]:
    """Mean scores over some clips; the sheet shows, for each, the widest mouth and the most closed lids.

    Photographs with open lips are scored apart, as ``teeth`` (:func:`teeth_case`).

    Args:
        picture: of the sheet, with :data:`SHEET_COLUMNS` for the mouth and again for the eyes; people: clips at most.
        steps: of sampling; decoder: of the parts, if they have one of their own.
    """
    painter = Painter(denoiser, vae, config, bypass_temporal, decoder)
    totals: dict[str, list[float]] = defaultdict(list)
    sheet: list[Tensor] = []
    for clip in [clip for clip in rows.clips if not clip.still][:people]:
        case = painting_case(rows, clip, config.clip_frames)
        scores, videos = score_painting(painter, case, steps)
        for name, value in scores.items():
            totals[name].append(value)
        if (cases := seam_cases(rows, clip, config.clip_frames)) and not bypass_temporal:
            for name, value in seam_scores(painter, *cases, config.clip_frames // 2, steps).items():
                totals[name].append(value)
        for part, frame in enumerate((int(case.lips.argmax()), int(case.lids.argmin()))):
            sheet += [videos[name][part, frame] for name in SHEET_COLUMNS]
    if picture is not None and sheet:
        contact_sheet(picture, torch.stack(sheet), columns=2 * len(SHEET_COLUMNS))
    means = {name: sum(values) / len(values) for name, values in totals.items()}
    return {**means, **_teeth_scores(painter, rows, people, steps)}
