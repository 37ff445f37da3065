"""Identity by dlib's 128-number face embedder (public domain), in which one person lies within a radius of 0.6.

Needs ``dlib-bin`` and ``face-recognition-models==0.3.0`` in the evaluation's own environment (docs/evaluation.md).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import PackageError
from .video_frames import Frame

SAME_PERSON = 0.6
"""dlib's own threshold: two pictures of one person are nearer than this."""
SIZE = 128

Embeddings = NDArray[np.float64]


def dlib_models() -> Path:
    """The folder of dlib's models, in the package face-recognition-models.

    Raises:
        PackageError: if it is not installed.
    """
    package = importlib.util.find_spec("face_recognition_models")
    if package is None or not package.submodule_search_locations:
        raise PackageError("the package face-recognition-models 0.3.0 is not installed")
    return Path(package.submodule_search_locations[0]) / "models"


class FaceEmbedder:
    """Finds the largest face of a picture and embeds it.

    Raises:
        ImportError: if dlib is not installed; PackageError: if the models' package is not installed.
    """

    def __init__(self) -> None:
        import dlib

        models = dlib_models()
        self._detect = dlib.get_frontal_face_detector()
        self._points = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
        self._embed = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))

    def __call__(self, frames: Iterable[Frame]) -> Embeddings:
        """Embeddings ``[n, 128]`` of frames ``[h, w, 3]`` uint8 RGB, nan where no face was found."""
        found = []
        for frame in frames:
            picture = np.ascontiguousarray(frame)
            boxes = self._detect(picture, 0) or self._detect(picture, 1)
            if boxes:
                largest = max(boxes, key=lambda box: box.area())
                found.append(np.array(self._embed.compute_face_descriptor(picture, self._points(picture, largest))))
            else:
                found.append(np.full(SIZE, np.nan))
        return np.stack(found) if found else np.zeros((0, SIZE))


def distances(embeddings: Embeddings, reference: Embeddings) -> NDArray[np.float64]:
    """Euclidean distances ``[n]`` of embeddings ``[n, 128]`` from one ``[128]``."""
    return np.linalg.norm(embeddings - reference, axis=-1)


def similarity(embeddings: Embeddings, reference: Embeddings) -> float:
    """Mean cosine of the angle between embeddings ``[n, 128]`` and one ``[128]``; nan if no face was found."""
    known = embeddings[np.isfinite(embeddings).all(-1)]
    if not len(known) or not np.isfinite(reference).all():
        return float("nan")
    return float(np.mean(known @ reference / (np.linalg.norm(known, axis=-1) * np.linalg.norm(reference))))
