"""IPA phonemes to visemes, and visemes to weights of the 52 facial actions."""

from __future__ import annotations

import unicodedata

import numpy as np

from .head_asset import HeadAsset

# First matching symbol wins; the escapes are IPA letters, so that the source stays ASCII.
_SYMBOLS: tuple[tuple[str, str], ...] = (
    ("PP", "pbm\u0253\u0299\u03b2\u0278"),
    ("FF", "fv\u0271\u028b\u2c71"),
    ("TH", "\u03b8\u00f0"),
    ("DD", "tdnl\u027e\u0257r\u0288\u0256\u0273\u026d\u026c\u026b\u027d\u0272"),
    ("kk", "kg\u0261\u014bx\u0263q\u0262\u03c7\u0281\u0127\u0295h\u0266\u0294\u0260\u0274c\u025f"),
    ("SS", "sz"),
    ("CH", "\u0283\u0292\u0255\u0291\u0282\u0290\u00e7"),
    ("RR", "\u0279\u027b\u0280\u025a\u025d\u025c"),
    ("aa", "a\u0251\u0250\u028c\u00e6\u00e4\u0252"),
    ("E", "e\u025b\u0259\u0258\u0264"),
    ("I", "i\u026a\u0268j\u026f\u1d7b\u028e"),
    ("O", "o\u0254\u00f8\u0153\u0275"),
    ("U", "u\u028a\u0289w\u0265y\u028f\u028d"),
)
_VISEME_OF: dict[str, str] = {}
for _name, _letters in _SYMBOLS:
    for _letter in _letters:
        _VISEME_OF.setdefault(_letter, _name)

# Actions without a side are set on both sides. But for rest and the contacts (sil, PP, FF), weights and dominance are
# fitted to a filmed speaker (training/viseme_fit.py), speaker 1 of the GRID corpus, whose lips they follow with r 0.84
# (opening), 0.37 (width) and 0.53 (protrusion) in held-out sentences; those chosen by hand had 0.69, -0.03 and 0.37.
# Different weights may look alike in 68 landmarks, so each was held near what was chosen by hand.
_WEIGHTS: dict[str, dict[str, float]] = {
    "sil": {},
    "PP": {"mouthClose": 0.10, "mouthPress": 0.12, "mouthRollLower": 0.32, "mouthRollUpper": 0.28, "jawOpen": 0.03},
    "FF": {"jawOpen": 0.06, "mouthRollLower": 0.55, "mouthUpperUp": 0.30, "mouthStretch": 0.10},
    "TH": {"jawOpen": 0.06, "tongueOut": 0.30, "mouthLowerDown": 0.24, "mouthUpperUp": 0.13},
    "DD": {"jawOpen": 0.10, "mouthLowerDown": 0.24, "mouthUpperUp": 0.13},
    "kk": {"jawOpen": 0.24, "mouthLowerDown": 0.22, "mouthUpperUp": 0.12},
    "SS": {"jawOpen": 0.20, "mouthStretch": 0.17, "mouthLowerDown": 0.35, "mouthUpperUp": 0.19},
    "CH": {"jawOpen": 0.20, "mouthFunnel": 0.61, "mouthPucker": 0.20, "mouthLowerDown": 0.26, "mouthUpperUp": 0.16},
    "RR": {"jawOpen": 0.03, "mouthFunnel": 0.27, "mouthPucker": 0.10, "mouthLowerDown": 0.11},
    "aa": {"jawOpen": 0.55, "mouthLowerDown": 0.29, "mouthUpperUp": 0.18},
    "E": {"jawOpen": 0.58, "mouthStretch": 0.16, "mouthLowerDown": 0.29, "mouthUpperUp": 0.19},
    "I": {"jawOpen": 0.61, "mouthSmile": 0.08, "mouthStretch": 0.15, "mouthLowerDown": 0.22, "mouthUpperUp": 0.14},
    "O": {"jawOpen": 0.39, "mouthFunnel": 0.57, "mouthPucker": 0.15},
    "U": {"jawOpen": 0.13, "mouthPucker": 0.49, "mouthFunnel": 0.15},
}
VISEMES: tuple[str, ...] = tuple(_WEIGHTS)

DOMINANCE: dict[str, float] = {
    "PP": 1.5, "FF": 1.6, "CH": 2.7, "U": 1.1, "O": 1.2, "SS": 1.3, "TH": 2.2,
    "RR": 3.0, "DD": 0.95, "kk": 0.55, "aa": 2.0, "E": 3.7, "I": 1.7, "sil": 0.57,
}  # fmt: skip
"""How strongly a viseme pulls its neighbours (coarticulation after Cohen and Massaro 1993)."""

CLOSED = ("PP",)
FIXED = ("PP", "FF")
"""Visemes whose contact must be reached whatever the neighbours are."""


def visemes_of(phoneme: str) -> list[str]:
    """Visemes of an IPA phoneme: one, or two for diphthongs and affricates; ``["sil"]`` for a pause."""
    if phoneme.startswith("("):
        return ["sil"]
    found: list[str] = []
    for letter in unicodedata.normalize("NFD", phoneme.replace("\u00e7", "\u0255")):
        name = _VISEME_OF.get(letter)
        if name is not None and (not found or found[-1] != name):
            found.append(name)
    return found[:2] or ["sil"]


def action_vector(asset: HeadAsset, weights: dict[str, float]) -> np.ndarray:
    """Weights ``[52]`` from names; a name without Left or Right sets both sides."""
    vector = np.zeros(len(asset.action_names), dtype=np.float32)
    for name, value in weights.items():
        sides = [name] if name in asset.action_names else [name + "Left", name + "Right"]
        for side in sides:
            vector[asset.action(side)] = value
    return vector


def viseme_matrix(asset: HeadAsset) -> np.ndarray:
    """``[14, 52]`` action weights in the order of :data:`VISEMES`."""
    return np.stack([action_vector(asset, _WEIGHTS[name]) for name in VISEMES])
