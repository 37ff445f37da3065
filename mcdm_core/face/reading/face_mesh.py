"""Lips and lids read by mediapipe's face mesh: a landmark model this project had no part in.

Needs ``mediapipe==0.10.21``, the last one that carries its models inside; it wants numpy 1.x, so it lives in an
environment of its own (docs/evaluation.md). The geometry below needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]
Frame = NDArray[np.uint8]
"""A picture ``[h, w, 3]`` in RGB."""

POINTS = 478
INNER_LIP_PAIRS: tuple[tuple[int, int], ...] = ((82, 87), (13, 14), (312, 317))
"""(upper, lower) mesh points of the inner lip edges that face each other, about the middle."""
LID_PAIRS: tuple[tuple[tuple[int, int], ...], ...] = (
    ((160, 144), (159, 145), (158, 153)),
    ((385, 380), (386, 374), (387, 373)),
)
EYE_CORNERS: tuple[tuple[int, int], ...] = ((33, 133), (263, 362))


@dataclass(frozen=True)
class FaceOpenings:
    """Opening of lips and lids ``[n]`` over the distance between the eyes, nan where no face was found."""

    lips: Series
    lids: Series

    @property
    def found(self) -> float:
        """Share of the frames with a face."""
        return float(np.isfinite(self.lips).mean()) if len(self.lips) else 0.0


def openings(points: NDArray[np.float64]) -> FaceOpenings:
    """Openings from mesh points ``[n, 478, 2]`` in pixels (nan where no face was found)."""
    centres = [(points[:, outer] + points[:, inner]) / 2 for outer, inner in EYE_CORNERS]
    between = np.linalg.norm(centres[0] - centres[1], axis=-1)

    def gap(pairs: tuple[tuple[int, int], ...]) -> Series:
        return np.mean([np.linalg.norm(points[:, a] - points[:, b], axis=-1) for a, b in pairs], axis=0)

    return FaceOpenings(gap(INNER_LIP_PAIRS) / between, np.mean([gap(pairs) for pairs in LID_PAIRS], axis=0) / between)


def mesh_points(frames: Iterable[Frame], follow: bool = True) -> NDArray[np.float64]:
    """Mesh points ``[n, 478, 2]`` in pixels of the first face in every frame ``[h, w, 3]`` uint8 RGB.

    Args:
        follow: follow the face from frame to frame as in a video; else each frame is read by itself.

    Raises:
        ImportError: if mediapipe is not installed.
    """
    import mediapipe

    found = []
    # Refined: lips and lids are read by their own networks.
    with mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=not follow, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.3
    ) as mesh:
        for frame in frames:
            height, width = frame.shape[:2]
            faces = mesh.process(np.ascontiguousarray(frame)).multi_face_landmarks
            if faces:
                found.append([(point.x * width, point.y * height) for point in faces[0].landmark])
            else:
                found.append([(np.nan, np.nan)] * POINTS)
    return np.array(found, float).reshape(-1, POINTS, 2)
