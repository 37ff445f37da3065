"""The 68 landmarks as vertices of the head mesh, chosen on the template and symmetric by construction.

Lips and lids come from the mesh itself. They lie where skin meets the cavity of mouth or eye, and on the outline of the
lip mask. The rest are the skin vertices nearest to given spots of the template.
"""

from __future__ import annotations

import numpy as np

from ....face.landmarks import MIRROR, NUM_LANDMARKS
from .head_asset import EYE_CAVITY, SKIN, HeadAsset

# Spots of the template on the person's left (the picture's right) or on the midline: (x, z), nearest in the picture
# plane among the skin that faces forward.
_FRONT_SPOTS: dict[int, tuple[float, float]] = {
    41: (0.0530, 0.7480),
    42: (0.0423, 0.7520),
    43: (0.0315, 0.7535),
    44: (0.0208, 0.7510),
    45: (0.0122, 0.7480),
    46: (0.0, 0.7300),
    47: (0.0, 0.7120),
    49: (0.0, 0.6827),
    51: (0.0170, 0.6900),
    53: (0.0500, 0.7020),
    63: (0.0, 0.7800),
}
# Spots on the side of the head and on the neck: (x, y, z).
_SIDE_SPOTS: dict[int, tuple[float, float, float]] = {
    54: (0.0, -0.142, 0.6080),
    58: (0.0240, -0.128, 0.6110),
    59: (0.0480, -0.085, 0.6330),
    60: (0.0640, -0.045, 0.6720),
    62: (0.0640, -0.080, 0.7500),
    65: (0.0440, -0.050, 0.5920),
    67: (0.0540, -0.050, 0.5620),
}


def landmark_vertices(asset: HeadAsset) -> np.ndarray:
    """Vertex index of each of the 68 landmarks, ``[68]`` int64."""
    points = asset.template
    skin = asset.vertex_part == SKIN
    found = np.full(NUM_LANDMARKS, -1, dtype=np.int64)

    front = skin & (points[:, 1] < -0.08)
    for index, (x, z) in _FRONT_SPOTS.items():
        found[index] = _nearest(points, front, (x, None, z))
    nose = skin & (np.abs(points[:, 0]) < 0.001) & (points[:, 2] > 0.67) & (points[:, 2] < 0.72)
    found[48] = np.where(nose)[0][np.argmin(points[nose, 1])]
    for index, spot in _SIDE_SPOTS.items():
        found[index] = _nearest(points, skin, spot)

    _find_lips(asset, found, skin)
    _find_lids(asset, found)
    _mirror_rest(points, found, skin)
    return found


def _nearest(points: np.ndarray, allowed: np.ndarray, spot: tuple[float | None, ...]) -> int:
    axes = [axis for axis, value in enumerate(spot) if value is not None]
    if spot[0] == 0.0:
        allowed = allowed & (np.abs(points[:, 0]) < 1e-4)
    candidates = np.where(allowed)[0]
    target = np.array([spot[axis] for axis in axes])
    return int(candidates[np.argmin(((points[candidates][:, axes] - target) ** 2).sum(axis=1))])


def above_mouth(asset: HeadAsset) -> np.ndarray:
    """Mask ``[n]`` of what stays with the upper lip: the jaw carries the rest, and corners follow it in part."""
    jaw = asset.action_shapes[asset.action("jawOpen")][:, 2]
    across = np.abs(asset.template[:, 0])
    return jaw > np.interp(across, [0.0, 0.010, 0.018, 0.026], [-0.010, -0.010, -0.012, -0.0122])


def lip_sides(asset: HeadAsset) -> tuple[np.ndarray, np.ndarray]:
    """Masks ``[n]`` of the visible red of the upper and of the lower lip."""
    red = (asset.vertex_part == SKIN) & (asset.lip_mask > 0.5) & (asset.template[:, 1] < -0.12)
    upper = above_mouth(asset)
    return red & upper, red & ~upper


def _find_lips(asset: HeadAsset, found: np.ndarray, skin: np.ndarray) -> None:
    points = asset.template
    upper, lower = lip_sides(asset)

    def column(mask: np.ndarray, x: float) -> np.ndarray:
        return np.where(mask & (np.abs(points[:, 0] - x) < (1e-4 if x == 0 else 0.0016)))[0]

    for index, x in ((3, 0.0), (4, 0.0070), (5, 0.0165)):
        ids = column(upper, x)
        found[index] = ids[np.argmax(points[ids, 2])]
    # The lower outline has few vertices, so the column is wide and being off its middle costs height.
    for index, x in ((9, 0.0), (8, 0.0105), (7, 0.0185)):
        ids = np.where(lower & (np.abs(points[:, 0] - x) < (1e-4 if x == 0 else 0.004)))[0]
        found[index] = ids[np.argmin(points[ids, 2] + 0.5 * np.abs(points[ids, 0] - x))]
    for index, x in ((14, 0.0), (15, 0.0105)):
        ids = column(upper, x)
        found[index] = ids[np.argmin(points[ids, 2])]
    for index, x in ((18, 0.0), (17, 0.0105)):
        ids = column(lower, x)
        found[index] = ids[np.argmax(points[ids, 2])]
    red = np.where(skin & (asset.lip_mask > 0.5) & (points[:, 1] < -0.12))[0]
    found[6] = red[np.argmax(points[red, 0])]
    inner = red[(points[red, 0] > 0.020) & (points[red, 0] < 0.0235)]
    seam = points[found[18], 2] * 0.5 + points[found[14], 2] * 0.5
    found[16] = inner[np.argmin(np.abs(points[inner, 2] - seam) - 0.2 * points[inner, 0])]


def _find_lids(asset: HeadAsset, found: np.ndarray) -> None:
    """Eight points of the ring where lid meets socket, on the person's left eye."""
    points = asset.template
    blink = asset.action_shapes[asset.action("eyeBlinkLeft")][:, 2]
    socket = np.isin(asset.base_id, asset.base_id[asset.vertex_part == EYE_CAVITY])
    ring = np.where((asset.vertex_part == SKIN) & socket & (points[:, 0] > 0.015))[0]
    outer, inner = ring[np.argmax(points[ring, 0])], ring[np.argmin(points[ring, 0])]
    found[28], found[32] = outer, inner
    upper = ring[blink[ring] < -0.003]
    lower = ring[(blink[ring] > -0.0007) & (points[ring, 2] < points[outer, 2])]
    for place, fraction in enumerate((0.25, 0.5, 0.75)):
        x = points[outer, 0] + fraction * (points[inner, 0] - points[outer, 0])
        found[29 + place] = upper[np.argmin(np.abs(points[upper, 0] - x))]
        found[35 - place] = lower[np.argmin(np.abs(points[lower, 0] - x))]


def _mirror_rest(points: np.ndarray, found: np.ndarray, skin: np.ndarray) -> None:
    candidates = np.where(skin)[0]
    for index in range(NUM_LANDMARKS):
        if found[index] < 0:
            twin = points[found[MIRROR[index]]] * (-1, 1, 1)
            found[index] = candidates[np.argmin(((points[candidates] - twin) ** 2).sum(axis=1))]
