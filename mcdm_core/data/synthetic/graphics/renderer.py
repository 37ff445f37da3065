"""The software renderer: one identity, light, camera and background; then a picture a call."""

from __future__ import annotations

import numpy as np

from ..people.head_asset import EYE, HAIR, SKIN, HeadAsset
from ..people.identity import Identity
from .albedo import bake, hair_lift
from .raster import ATLAS_PASS, BODY_PASS, HAIR_PASS, depth_map, rasterize, resolve
from .rig import Rig, hair_shell, skin_triangles
from .scene import Camera, Light
from .shading import shade

_ATLAS = (640, 1024)
_HAIR_OFFSET = 1 << 20


def _f32(value: object) -> np.ndarray:
    return np.ascontiguousarray(value, dtype=np.float32)


class Renderer:
    """Buffers and the parts of the scene that every identity shares.

    Args:
        asset: the head model.
        size: side of the rendered picture; ``output`` the side after down-sampling, a divisor of it.
        shadow_size: side of the shadow map.
    """

    def __init__(self, asset: HeadAsset, size: int = 256, output: int = 128, shadow_size: int = 256) -> None:
        self.asset, self.size, self.output, self.shadow_size = asset, size, output, shadow_size
        self._depth = np.zeros((size, size), np.float32)
        self._triangle = np.zeros((size, size), np.int32)
        self._u, self._v = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
        self._colour = np.zeros((size, size, 3), np.float32)
        self._covered = np.zeros((size, size), np.uint8)
        self._shadow = np.zeros((shadow_size, shadow_size), np.float32)
        self._picture = np.zeros((output, output, 3), np.uint8)
        rest = asset.template
        around = np.arctan2(rest[:, 0], -(rest[:, 1] + 0.03))
        self._uv = _f32(np.stack([around / (2 * np.pi) + 0.5, (rest[:, 2] - 0.37) / 0.49], axis=1))
        self._masks = _f32(np.stack([asset.lip_mask, np.clip(asset.ear_mask, 0, 1)], axis=1))
        self._shadow_triangles = skin_triangles(asset)
        self._shell = hair_shell(asset)
        self._eye_centres = _f32(
            [rest[(asset.vertex_part == EYE) & (rest[:, 0] * side > 0)].mean(axis=0) for side in (1, -1)]
        )
        self._atlas = self._make_atlas()

    def _make_atlas(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rest position, masks and coverage of every texel of the skin."""
        height, width = _ATLAS
        rest, side = self.asset.template, max(_ATLAS)
        screen = _f32(
            np.stack(
                [self._uv[:, 0] * width, self._uv[:, 1] * height, -np.hypot(rest[:, 0], rest[:, 1] + 0.03)], axis=1
            )
        )
        triangles = self._shadow_triangles
        triangles = np.ascontiguousarray(triangles[np.ptp(self._uv[triangles][:, :, 0], axis=1) < 0.4])
        zbuffer, owner = np.full((side, side), 1e9, np.float32), np.full((side, side), -1, np.int32)
        u, v = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
        none, parts = np.zeros((2, 2, 4), np.float32), np.full(len(triangles), SKIN, np.int32)
        rasterize(
            screen, triangles, parts, ATLAS_PASS, self._uv, _f32(rest), none, 0.0, 0.0, side, zbuffer, owner, u, v, 0
        )
        owner, u, v = owner[:height, :width], u[:height, :width, None], v[:height, :width, None]
        corners = triangles[np.maximum(owner, 0)]

        def spread(values: np.ndarray) -> np.ndarray:
            a, b, c = (values[corners[..., i]] for i in range(3))
            return _f32(a * (1 - u - v) + b * u + c * v)

        return spread(rest), spread(self._masks), (owner >= 0).astype(np.int32)

    def setup(
        self, rig: Rig, light: Light, camera: Camera, background: np.ndarray, grain: float, rng: np.random.Generator
    ) -> None:
        """Choose who is drawn, where and under which light.

        Args:
            background: ``[size, size, 3]`` linear RGB.
            grain: standard deviation of the sensor noise in grey levels.
        """
        person = rig.identity
        self._rig, self._light, self._camera, self._background = rig, light, camera, background
        self._grain = float(grain)
        self._noise = rng.normal(0, 1, (8, self.output, self.output, 3)).astype(np.float32)
        self._count = 0
        self._texture = self._bake(person)
        extra = len(rig.template) - len(self.asset.template)
        self._all_uv = np.concatenate([self._uv, np.zeros((extra, 2), np.float32)])
        self._all_masks = np.concatenate([self._masks, np.zeros((extra, 2), np.float32)])
        body = rig.triangle_part != HAIR
        self._body = np.ascontiguousarray(rig.triangles[body]), np.ascontiguousarray(rig.triangle_part[body])
        shell, shell_part = self._shell
        if person.hair_style <= 0:
            shell, shell_part = np.ascontiguousarray(shell[shell_part == SKIN]), shell_part[shell_part == SKIN].copy()
        self._hair = (shell, shell_part)
        self._every = np.concatenate([self._body[0], shell]), np.concatenate([self._body[1], shell_part])
        lift = np.zeros(len(self.asset.template), np.float32)
        hair_lift(
            _f32(self.asset.template),
            self._masks[:, 1].copy(),
            self.asset.vertex_part,
            person.hair_line,
            person.hair_thickness,
            person.noise_seed,
            lift,
        )
        self._lift = np.concatenate([lift, np.zeros(extra, np.float32)])[:, None]
        self._shadow_matrix = self._make_shadow_matrix(light.key_direction, person)

    def _bake(self, person: Identity) -> np.ndarray:
        texture = np.zeros((*_ATLAS, 4), np.float32)
        texture[..., :3] = person.skin * 0.8
        parameters = _f32(
            [
                person.noise_seed,
                person.beard,
                person.moustache,
                person.goatee,
                person.brow_thickness,
                person.brow_density,
                person.age,
                person.blush,
                person.collar,
                person.freckles,
                person.hair_style,
                person.hair_line,
            ]
        )
        skin, lip, hair = _f32(person.skin), _f32(person.lip), _f32(person.hair)
        bake(*self._atlas, parameters, skin, lip, hair, _f32(person.brow), _f32(person.cloth), texture)
        return texture

    def _make_shadow_matrix(self, direction: np.ndarray, person: Identity) -> np.ndarray:
        right = np.cross(direction, [0, 0, 1.0])
        right = -right / np.linalg.norm(right)
        up = np.cross(direction, right)
        scale = self.shadow_size / 2 / 0.20
        matrix = np.zeros((3, 4))
        matrix[0, :3], matrix[1, :3], matrix[2, :3] = right * scale, up * scale, -direction
        matrix[:, 3] = -matrix[:, :3] @ person.centre
        matrix[:2, 3] += self.shadow_size / 2
        return _f32(matrix)

    def draw(self, vertices: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Render vertices and normals ``[n, 3]`` to ``[output, output, 3]`` uint8 RGB."""
        person, size = self._rig.identity, self.size
        self._depth.fill(1e9)
        self._triangle.fill(-1)
        self._shadow.fill(1e9)
        buffers = (size, self._depth, self._triangle, self._u, self._v)
        rest, seed = self._rig.template, person.noise_seed
        body, body_part = self._body
        surface = (self._all_uv, rest, self._texture, person.hair_length, seed)
        screen = self._camera.project(vertices, size)
        rasterize(screen, body, body_part, BODY_PASS, *surface, *buffers, 0)
        if person.hair_style >= 0:
            shell, shell_part = self._hair
            raised = self._camera.project(vertices + normals * self._lift, size)
            rasterize(raised, shell, shell_part, HAIR_PASS, *surface, *buffers, _HAIR_OFFSET)
            # Shell triangles come after those of the body in the list that is shaded.
            hair = self._triangle >= _HAIR_OFFSET
            self._triangle[hair] -= _HAIR_OFFSET - len(body)
        in_light = _f32(vertices @ self._shadow_matrix[:, :3].T + self._shadow_matrix[:, 3])
        depth_map(in_light, self._shadow_triangles, self.shadow_size, self._shadow)
        light, (triangles, parts) = self._light, self._every
        shade(
            self._triangle,
            self._u,
            self._v,
            triangles,
            parts,
            len(body),
            vertices,
            normals,
            rest,
            self._all_uv,
            self._all_masks,
            self._texture,
            self._shadow_matrix,
            self._shadow,
            float(light.shadow),
            _f32(person.skin),
            _f32(person.hair),
            _f32(person.iris),
            _f32(person.glasses_colour),
            _f32(person.teeth),
            self._eye_centres,
            seed,
            _f32(self._camera.position),
            _f32(light.key_direction),
            _f32(light.key_colour),
            _f32(light.fill_direction),
            _f32(light.fill_colour),
            _f32(light.sky),
            _f32(light.ground),
            float(light.exposure),
            self._colour,
            self._covered,
        )
        grain = self._noise[self._count % len(self._noise)]
        self._count += 1
        resolve(self._colour, self._covered, self._background, self._picture, size // self.output, grain, self._grain)
        return self._picture.copy()
