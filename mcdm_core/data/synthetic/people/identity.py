"""Random people: head shape, skin, hair, eyes, beard, glasses and clothes.

Shape, skin tone and hair are drawn with only a partial tie to the ethnicity mix of the head shape. So the data do not
teach one for the other.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .head_asset import EYE, MOUTH, SKIN, HeadAsset
from .landmark_points import above_mouth, lip_sides

_SKIN_TONES = np.array(
    [
        [0.88, 0.70, 0.60],
        [0.84, 0.63, 0.51],
        [0.76, 0.55, 0.42],
        [0.66, 0.45, 0.33],
        [0.53, 0.34, 0.24],
        [0.40, 0.25, 0.175],
        [0.28, 0.17, 0.12],
    ]
)
_HAIR_TONES = np.array(
    [
        [0.05, 0.04, 0.035],
        [0.10, 0.065, 0.045],
        [0.22, 0.14, 0.08],
        [0.40, 0.26, 0.13],
        [0.66, 0.50, 0.28],
        [0.35, 0.13, 0.06],
    ]
)
_IRIS_TONES = np.array(
    [[0.16, 0.09, 0.05], [0.25, 0.15, 0.07], [0.28, 0.32, 0.18], [0.25, 0.38, 0.50], [0.35, 0.42, 0.48]]
)
_FEATURES = ("age", "gender", "muscle", "weight", "height", "proportions", "cupsize", "firmness")
_EYE_CHIN_HEIGHT = 0.118
_FEATURE_GROUPS = ("nose", "mouth", "chin", "cheek", "forehead", "eyebrow", "eye", "ear", "neck", "head")
_MOST_DEVIANT, _MOST_SPREAD = 1.7, 0.85
"""Largest single change and largest root mean square of a feature's changes, in standard deviations. Beyond these the
sum of shapes, each of them possible, is no face any more."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """One person. Colours are linear RGB; lengths are in the mesh's units."""

    vertices: np.ndarray  # [n, 3] neutral head with closed lips
    scale: float  # eye-to-chin height over the template's
    centre: np.ndarray  # [3] between eyes and chin
    male: bool
    age: float  # 0 to 1, old age only
    skin: np.ndarray
    lip: np.ndarray
    hair: np.ndarray
    brow: np.ndarray
    iris: np.ndarray
    cloth: np.ndarray
    beard: float
    moustache: float
    goatee: float
    hair_style: int  # -1 bald, 0 short, 1 long
    hair_thickness: float
    hair_line: float
    hair_length: float
    brow_thickness: float
    brow_density: float
    blush: float
    collar: float
    freckles: float
    glasses: float  # 0 none, else the half-width of the frame's line
    glasses_colour: np.ndarray
    glasses_size: np.ndarray  # [2] half-width and half-height of a lens
    noise_seed: float
    teeth: np.ndarray  # [6] enamel's colour, its share left between teeth, teeth a radian, height of the gums


def phenotype_coefficients(asset: HeadAsset, phenotype: dict[str, float]) -> np.ndarray:
    """Coefficients ``[p]`` of the phenotype shapes: products of the interpolated variations (as anny does)."""
    weights: dict[str, float] = {}
    for feature in _FEATURES:
        names = [name for name in asset.variation_names if name.startswith(feature + ":")]
        anchors = np.linspace(-1 / 3 if feature == "age" else 0.0, 1.0, len(names))
        value = np.clip(phenotype[feature], anchors[0], anchors[-1])
        upper = int(np.clip(np.searchsorted(anchors, value), 1, len(names) - 1))
        alpha = (value - anchors[upper - 1]) / (anchors[upper] - anchors[upper - 1])
        weights.update(dict.fromkeys(names, 0.0))
        weights[names[upper - 1]], weights[names[upper]] = 1 - alpha, alpha
    total = sum(phenotype[name] for name in ("african", "asian", "caucasian"))
    row = np.array(
        [weights[name] if name in weights else phenotype[name.split(":")[1]] / total for name in asset.variation_names]
    )
    return np.prod(row * asset.phenotype_mask + (1 - asset.phenotype_mask), axis=1)


def random_identity(asset: HeadAsset, rng: np.random.Generator) -> Identity:
    """Draw a person; the generator's state alone decides who it is."""
    male = bool(rng.random() < 0.5)
    gender = 0.5 + (0.5 if male else -0.5) * rng.uniform(0.5, 1.0)
    shares = rng.dirichlet([0.4, 0.4, 0.4])
    age = rng.uniform(0.42, 0.92)
    vertices = _random_shape(asset, rng, gender, age, shares)
    vertices = close_lips(asset, vertices)
    scale, centre = _frame_of_head(asset, vertices)

    old = max(0.0, (age - 0.72) / 0.28)
    # Half of the tone follows the mix of the shape, half is drawn freely.
    tied = 0.05 + 0.75 * shares[0] + 0.22 * shares[1]
    tone = float(np.clip(0.5 * tied + 0.5 * rng.random() + rng.normal(0, 0.07), 0, 1)) * 6
    low = int(min(tone, 5))
    skin = _SKIN_TONES[low] * (1 - (tone - low)) + _SKIN_TONES[low + 1] * (tone - low)
    skin = np.clip(skin * (1 + rng.normal(0, 0.035, 3)), 0.05, 0.95)
    lip = skin * np.array([0.92, 0.72, 0.70]) * rng.uniform(0.9, 1.05) + np.array([0.06, 0.0, 0.01]) * rng.random()
    if not male and rng.random() < 0.4:
        lip = lip * np.array([1.0, 0.78, 0.82]) + np.array([rng.uniform(0, 0.05), 0, rng.uniform(0, 0.03)])
    light = 1 - tone / 6
    hair_odds = np.array(
        [0.35 + 0.5 * (1 - light), 0.32, 0.06 + 0.22 * light, 0.18 * light, 0.14 * light, 0.07 * light]
    )
    hair = _HAIR_TONES[rng.choice(6, p=hair_odds / hair_odds.sum())] * rng.uniform(0.8, 1.2)
    grey = np.clip(old * rng.uniform(0.2, 1.6), 0, 1)
    hair = hair * (1 - grey) + grey * np.array([0.62, 0.61, 0.60])
    iris_odds = np.array([0.6 + 1.2 * (1 - light), 0.4, 0.22 * light, 0.3 * light, 0.2 * light])
    iris = _IRIS_TONES[rng.choice(5, p=iris_odds / iris_odds.sum())]
    beard = float(rng.choice([0, 0.15, 0.35, 0.85], p=[0.42, 0.27, 0.18, 0.13])) if male else 0.0
    # Most full beards close around the mouth; some men wear that ring alone.
    ringed = male and rng.random() < (0.7 if beard > 0.3 else 0.2)
    goatee = float(max(beard, rng.uniform(0.4, 0.95))) if ringed else 0.0
    bald = male and rng.random() < 0.12 + 0.25 * old
    short = rng.random() < (0.92 if male else 0.35)
    cloth = rng.random(3)
    cloth = (cloth.mean() + (cloth - cloth.mean()) * rng.uniform(0.1, 0.7)) ** 2.2 * 0.8
    has_glasses = rng.random() < 0.16
    person = Identity(
        vertices=vertices,
        scale=scale,
        centre=centre,
        male=male,
        age=float(old),
        skin=skin**2.2,
        lip=np.clip(lip, 0, 1) ** 2.2,
        hair=hair**1.8,
        brow=(hair * 0.8 + 0.01) ** 1.8,
        iris=iris**2.2,
        cloth=cloth,
        beard=beard,
        moustache=float(beard > 0.3 and rng.random() < 0.8),
        goatee=goatee,
        hair_style=-1 if bald else 0 if short else 1,
        hair_thickness=float(rng.uniform(0.004, 0.024) if male else rng.uniform(0.007, 0.030)),
        hair_line=float(rng.normal(0, 0.006) + (0.012 * rng.random() if male else -0.004) + 0.01 * old * male),
        hair_length=float(rng.uniform(0.44, 0.62)),
        brow_thickness=float(rng.uniform(0.0030, 0.0055) * (1.15 if male else 0.8)),
        brow_density=float(rng.uniform(0.5, 0.95)),
        blush=float(rng.uniform(0.0, 0.6) * (1.2 - tone / 6)),
        collar=float(rng.uniform(0.535, 0.60)),
        freckles=float((rng.random() < 0.15) * rng.uniform(0.2, 0.6) * (tone < 2)),
        glasses=float(rng.uniform(0.0009, 0.0022)) if has_glasses else 0.0,
        glasses_colour=0.4 * rng.random() ** 2 * rng.uniform(0.4, 1.0, 3) + 0.005,
        glasses_size=np.array([rng.uniform(0.0205, 0.0255), rng.uniform(0.0145, 0.020)]),
        noise_seed=float(rng.uniform(0, 50)),
        teeth=np.zeros(6),
    )
    return dataclasses.replace(person, teeth=random_teeth(np.random.default_rng(int(person.noise_seed * 1e6))))


def random_teeth(rng: np.random.Generator) -> np.ndarray:
    """Teeth of a person, ``[6]``: see :class:`Identity`. White and even ones, yellow, dark, wide or crowded ones."""
    white, yellow = rng.beta(2.0, 1.2), rng.random() ** 1.5
    colour = (0.30 + 0.55 * white) * np.array([1.0, 0.97 - 0.10 * yellow, 0.92 - 0.42 * yellow])
    gap = rng.uniform(0.15, 0.95)
    return np.array([*colour, gap, rng.uniform(5.0, 9.0), rng.uniform(-0.0035, 0.0015)])


def _local_spread(name: str) -> float:
    if name in ("head-trans-out", "neck-trans-out", "mouth-trans-out", "nose-trans-out"):
        return 0.05
    if "eyebrows-angle" in name:
        return 0.16
    if "eye-scale" in name or ("height" in name and "eye" in name):
        return 0.20
    if "ear" in name or "neck" in name:
        return 0.25
    if "lip-ext" in name or "middle-up" in name or "mouth-angles" in name:
        return 0.18
    if "head-" in name:
        return 0.28
    if "nose" in name or "chin" in name or "cheek" in name:
        return 0.34
    return 0.30


def _share_left(names: list[str], draws: np.ndarray) -> np.ndarray:
    """Factors that keep each feature of the face plausible: its draws ``[k]`` may not all be far from the mean."""
    groups = np.array([next((g for g in _FEATURE_GROUPS if g in name), "") for name in names])
    factors = np.ones(len(names))
    for group in set(groups):
        members = groups == group
        factors[members] = min(1.0, _MOST_SPREAD / np.sqrt((draws[members] ** 2).mean() + 1e-9))
    return factors


def _random_shape(
    asset: HeadAsset, rng: np.random.Generator, gender: float, age: float, shares: np.ndarray
) -> np.ndarray:
    phenotype = {
        "gender": gender,
        "age": age,
        "muscle": rng.uniform(0.2, 0.8),
        "weight": rng.uniform(0.15, 0.85),
        "height": 0.5,
        "proportions": rng.uniform(0.2, 1),
        "cupsize": 0.3,
        "firmness": 0.5,
        "african": shares[0],
        "asian": shares[1],
        "caucasian": shares[2],
    }
    local = np.zeros(len(asset.local_shapes))

    def put(name: str, value: float) -> None:
        index = asset.local_names.index(name)
        local[2 * index + (0 if value >= 0 else 1)] = abs(value)

    names = [name for name in asset.local_names if not name.startswith("r-")]
    draws = np.clip(rng.normal(0, 1, len(names)), -_MOST_DEVIANT, _MOST_DEVIANT)
    draws *= _share_left(names, draws)
    for name, draw in zip(names, draws, strict=True):
        value = float(draw * _local_spread(name))
        put(name, value)
        if name.startswith("l-"):
            put("r-" + name[2:], value + float(np.clip(rng.normal(0, 0.03), -0.06, 0.06)))
    coefficients = phenotype_coefficients(asset, phenotype)
    vertices = asset.template + np.tensordot(coefficients, asset.phenotype_shapes, 1)
    return (vertices + np.tensordot(local, asset.local_shapes, 1)).astype(np.float32)


def close_lips(asset: HeadAsset, vertices: np.ndarray, overlap: float = 0.0004) -> np.ndarray:
    """Move both lips of a neutral head together until their inner edges meet along the whole seam.

    Identity shapes part the lips of some people at rest by up to a millimetre or two, or push one into the other. The
    gap is measured in columns across the mouth. Half of it is taken from each lip, fading out away from the seam.

    Args:
        vertices: ``[n, 3]`` neutral head.
        overlap: how far the edges pass each other, so that no light falls through at low resolution.
    """
    rest = asset.template
    upper, lower = lip_sides(asset)
    columns = np.linspace(-0.021, 0.021, 15)
    gap, seam = np.zeros(len(columns)), np.zeros(len(columns))
    for i, x in enumerate(columns):
        near = np.abs(rest[:, 0] - x) < 0.0030
        top, bottom = np.where(upper & near)[0], np.where(lower & near)[0]
        gap[i] = vertices[top, 2].min() - vertices[bottom, 2].max()
        seam[i] = 0.5 * (rest[top, 2].min() + rest[bottom, 2].max())
    half = 0.5 * (gap + overlap)
    half = np.convolve(np.pad(half, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    amount = np.interp(rest[:, 0], columns, half)
    amount *= np.clip((0.034 - np.abs(rest[:, 0])) / 0.010, 0, 1)
    height = rest[:, 2] - np.interp(rest[:, 0], columns, seam)
    fade = np.exp(-((height / 0.011) ** 2)) * np.clip((-0.105 - rest[:, 1]) / 0.02, 0, 1)
    direction = np.where(above_mouth(asset), -1.0, 1.0)
    moves = (asset.vertex_part == SKIN) | (asset.vertex_part == MOUTH)
    closed = vertices.copy()
    closed[:, 2] += np.where(moves, direction * amount * fade, 0.0).astype(np.float32)
    return closed


def _frame_of_head(asset: HeadAsset, vertices: np.ndarray) -> tuple[float, np.ndarray]:
    rest = asset.template
    eyes = [vertices[(asset.vertex_part == EYE) & (rest[:, 0] * side > 0)].mean(axis=0) for side in (1, -1)]
    middle = (eyes[0] + eyes[1]) / 2
    region = (np.abs(rest[:, 0]) < 0.01) & (rest[:, 1] < -0.10) & (rest[:, 2] > 0.58) & (rest[:, 2] < 0.64)
    ids = np.where(region & (asset.vertex_part == SKIN))[0]
    chin = vertices[ids[np.argmin(np.abs(rest[ids, 2] - 0.605))]]
    centre = middle * 0.55 + chin * 0.45
    centre[0] = 0
    return float(np.linalg.norm(middle - chin) / _EYE_CHIN_HEIGHT), centre
