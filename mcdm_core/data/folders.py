"""Folders of training data: what they hold, and whether a stage can use it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import MediaError


def check_for_training(folders: Sequence[Path], speech: Sequence[Path] = (), *, tars: bool = False) -> None:
    """Refuse data no stage could use.

    Args:
        folders: each with ``train/``, the first with ``val/``; speech: folders of recordings with ``train/``.
        tars: clips in tars will do as well as shards.

    Raises:
        MediaError: naming the folder, and the command that fills it.
    """
    if not folders:
        raise MediaError("No data: give --data and the folder that `python -m mcdm_core render-data` made.")
    for folder in [*folders, *speech]:
        if not _holds(folder / "train", tars):
            raise MediaError(
                f"{folder} has no shards in train/; make them with `python -m mcdm_core render-data`, `label-data` or "
                "`label-speech`."
            )
    if not _holds(folders[0] / "val", tars):
        raise MediaError(
            f"{folders[0]} has no shards in val/; every stage is measured on them. `render-data` makes some; "
            "`label-data` keeps a fifth of the files apart, so give it five or more (cut a long one)."
        )


def holding_clips(folders: Sequence[Path], *, speech: bool = False, tars: bool = False) -> list[Path]:
    """Those folders that hold shards, or ``tars``; ``speech`` leaves out those made of stills."""
    from .real.stills import SOURCE
    from .shards import ClipDataset

    shards = [folder for folder in folders if any(folder.glob("*.safetensors"))]
    kept = [folder for folder in shards if not speech or ClipDataset(folder).info(0)["source"] != SOURCE]
    return kept + [f for f in folders if tars and f not in shards and any(f.glob("*.tar"))]


def truly_labelled(folders: Sequence[Path]) -> list[Path]:
    """Those folders of shards whose labels are truer than the face network's: rendered, or labelled by a teacher."""
    from .real.labelling import BY_FACE_NETWORK
    from .shards import ClipDataset

    return [folder for folder in folders if ClipDataset(folder).info(0).get("labels") != BY_FACE_NETWORK]


def _holds(folder: Path, tars: bool) -> bool:
    return any(folder.glob("*.safetensors")) or (tars and any(folder.glob("*.tar")))
