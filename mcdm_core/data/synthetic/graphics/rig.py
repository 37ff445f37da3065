"""A person's mesh in motion: facial actions, head turns, glasses, landmarks and pose."""

from __future__ import annotations

import numpy as np

from ....face.landmarks import LIDS
from ..people.head_asset import HAIR, SKIN, HeadAsset
from ..people.identity import Identity
from ..people.landmark_points import landmark_vertices
from .materials import GLASSES
from .raster import vertex_normals
from .scene import Camera, rotation

_RING = 28
_EYE_CHIN_HEIGHT = 0.118


class RigParts:
    """What the rigs of all identities share: landmark vertices, head weights, flattened actions."""

    def __init__(self, asset: HeadAsset) -> None:
        points = asset.template
        rise = np.clip((points[:, 2] - 0.50) / 0.11, 0, 1)
        rise = rise * rise * (3 - 2 * rise)
        follow = np.maximum(rise * np.clip(1.2 - np.abs(points[:, 0]) / 0.16, 0, 1), asset.head_weight * rise)
        follow = np.where(points[:, 2] > 0.60, np.maximum(follow, asset.head_weight), follow)
        _, merged = np.unique(asset.base_id, return_inverse=True)
        self.asset = asset
        self.follow = follow.astype(np.float32)
        self.merged = merged.astype(np.int32)
        self.landmarks = landmark_vertices(asset)
        self.actions = asset.action_shapes.reshape(52, -1)


class Rig:
    """Moves one identity.

    Attributes:
        template: ``[n + g, 3]`` rest positions used for texturing, with those of the glasses.
        part: ``[n + g]``; ``triangles`` and ``triangle_part`` include the glasses.
    """

    def __init__(self, parts: RigParts, identity: Identity) -> None:
        asset = parts.asset
        self.asset, self.identity = asset, identity
        self.landmark_ids = parts.landmarks
        self._actions, self._merged = parts.actions, parts.merged
        self._num_merged = int(self._merged.max() + 1)
        scale = identity.scale
        self._pivot = identity.centre + np.array([0, 0.075, -0.02]) * scale
        extra, faces = self._glasses()
        self._extra = extra
        num = len(asset.template)
        self._follow = np.concatenate([parts.follow, np.ones(len(extra), np.float32)])[:, None]
        self.template = np.concatenate([asset.template, extra]).astype(np.float32)
        self.part = np.concatenate([asset.vertex_part, np.full(len(extra), GLASSES)]).astype(np.int32)
        self.triangles = np.concatenate([asset.triangles, faces + num]).astype(np.int32)
        self.triangle_part = np.concatenate([asset.triangle_part, np.full(len(faces), GLASSES)]).astype(np.int32)

    def unposed(self, actions: np.ndarray) -> np.ndarray:
        """``[52]`` actions to the vertices ``[n, 3]`` of the unturned head."""
        moved = (actions.astype(np.float32) @ self._actions).reshape(-1, 3)
        return self.identity.vertices + moved * np.float32(self.identity.scale)

    def posed(self, unposed: np.ndarray, head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn and shift the head.

        Args:
            unposed: ``[n, 3]``; ``head``: ``[6]`` yaw, pitch, roll and a shift.

        Returns:
            Vertices and unit normals, both ``[n + g, 3]`` float32.
        """
        turn = rotation(*head[:3])
        points = np.concatenate([unposed, self._extra]) if len(self._extra) else unposed
        turned = (points - self._pivot) @ turn.T + self._pivot + head[3:]
        points = (points + self._follow * (turned - points)).astype(np.float32)
        normals = np.empty((len(self.asset.template), 3), np.float32)
        vertex_normals(points[: len(normals)], self.asset.triangles, self._merged, self._num_merged, normals)
        if len(self._extra):
            forward = np.broadcast_to(turn @ np.array([0, -1.0, 0]), self._extra.shape)
            normals = np.concatenate([normals, forward.astype(np.float32)])
        return points, normals

    def landmarks(self, vertices: np.ndarray, camera: Camera) -> np.ndarray:
        """Projected landmarks ``[68, 2]`` in [0, 1] of the picture (beyond it where the picture ends)."""
        return camera.project(vertices[self.landmark_ids], 1)[:, :2]

    def pose(self, head: np.ndarray, camera: Camera) -> np.ndarray:
        """Head pose ``[6]`` as in face/landmarks.py."""
        centre = (self.identity.centre - self._pivot) @ rotation(*head[:3]).T + self._pivot + head[3:]
        x, y, depth = camera.project(centre[None], 1)[0]
        size = camera.focal(1) * _EYE_CHIN_HEIGHT * self.identity.scale / depth / 0.5
        return np.array([*head[:3], x - 0.5, y - 0.5, np.log(size)], dtype=np.float32)

    def _glasses(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertices ``[g, 3]`` and triangles ``[k, 3]`` of a pair of glasses; empty without."""
        identity = self.identity
        if identity.glasses <= 0:
            return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
        scale, line = identity.scale, identity.glasses * identity.scale
        face = identity.vertices[self.landmark_ids]
        half = identity.glasses_size * scale
        front = min(face[LIDS, 1].min(), face[36:46, 1].min()) - 0.005 * scale
        vertices: list[tuple[float, float, float]] = []
        faces: list[tuple[int, int, int]] = []

        def strip(inner: np.ndarray, outer: np.ndarray, closed: bool) -> None:
            first, count = len(vertices), len(inner)
            for a, b in zip(inner, outer, strict=True):
                vertices.extend((tuple(a), tuple(b)))
            for i in range(count if closed else count - 1):
                a, b = first + 2 * i, first + 2 * ((i + 1) % count)
                faces.extend(((a, a + 1, b), (b, a + 1, b + 1)))

        angles = np.linspace(0, 2 * np.pi, _RING, endpoint=False)
        round_x = np.sign(np.cos(angles)) * np.abs(np.cos(angles)) ** 0.7
        round_z = np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** 0.7
        for side in (-1.0, 1.0):
            eye = face[20:28].mean(axis=0) if side < 0 else face[28:36].mean(axis=0)
            centre_x, centre_z = eye[0] + side * 0.002 * scale, eye[2] - 0.003 * scale
            bend = 0.004 * scale * (round_x * side * 0.5 + 0.5)
            rings = [
                np.stack([centre_x + (half[0] + d) * round_x, front + bend, centre_z + (half[1] + d) * round_z], axis=1)
                for d in (-line, line)
            ]
            strip(rings[0], rings[1], closed=True)
            temple = face[61] if side < 0 else face[62]
            near = np.array([centre_x + side * half[0], front + 0.004 * scale, centre_z + 0.5 * half[1]])
            far = np.array([side * (abs(temple[0]) + 0.006 * scale), front + 0.10 * scale, near[2]])
            up = np.array([0, 0, 1.3 * line])
            strip(np.stack([near - up, far - up]), np.stack([near + up, far + up]), closed=False)
        eyes = face[20:28].mean(axis=0), face[28:36].mean(axis=0)
        left, right = eyes[0][0] - 0.002 * scale + half[0], eyes[1][0] + 0.002 * scale - half[0]
        xs = np.linspace(left, right, 5)
        arch = 1 - ((xs - (left + right) / 2) / max((right - left) / 2, 1e-6)) ** 2
        depth = min(front, face[46, 1] - 0.002 * scale) * arch + front * (1 - arch)
        height = face[46, 2] + 0.002 * scale * arch
        bridge = np.stack([xs, depth, height], axis=1)
        strip(bridge - [0, 0, line], bridge + [0, 0, line], closed=False)
        return np.array(vertices, np.float32), np.array(faces, np.int32)


def skin_triangles(asset: HeadAsset) -> np.ndarray:
    """Triangles of the skin ``[k, 3]``, which cast shadows."""
    return np.ascontiguousarray(asset.triangles[asset.triangle_part == SKIN])


def hair_shell(asset: HeadAsset) -> tuple[np.ndarray, np.ndarray]:
    """Triangles and parts that can carry hair: the scalp (as a shell over the skin) and the long-hair helper."""
    high = (asset.triangle_part == SKIN) & (asset.template[asset.triangles][:, :, 2].max(axis=1) > 0.59)
    chosen = high | (asset.triangle_part == HAIR)
    return np.ascontiguousarray(asset.triangles[chosen]), asset.triangle_part[chosen].copy()
