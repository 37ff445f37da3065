"""Which way up a picture stands: photographs lie on their side where a phone's note of its rotation was lost."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .face_network import FaceNetwork

SURELY_UPRIGHT = 0.993
"""Score of a face from which a picture is taken to stand upright, without a look at it turned."""
LEAST_LEAD = 1.0
"""By how much the log-odds of the face in the turned picture must exceed those of the face in the picture as it is."""
LEAST_SCORE = 0.9
"""Of a face in the turned picture, to be believed."""
_TURNS = ("0 degrees", "90 degrees clockwise", "180 degrees", "90 degrees counterclockwise")


@torch.no_grad()
def quarter_turns(network: FaceNetwork, image: Tensor, score: float, place: tuple[float, float] | None = None) -> int:
    """Quarter turns clockwise, 0 to 3, after which the face of a picture stands upright.

    A face on its side is missed, or found and misread with a low score. One that is upside down is often read as
    another face. In the picture that is turned the right way the score is higher.

    Args:
        network: finds faces.
        image: ``[3, h, w]`` in [-1, 1].
        score: of the face that was found in it, 0 if there was none.
        place: x and y in pixels which the face has to cover; anywhere by default.
    """
    if score >= SURELY_UPRIGHT:
        return 0
    best, turns = max(LEAST_SCORE, _odds_to_score(_log_odds(score) + LEAST_LEAD)), 0
    for count in (1, 2, 3):
        turned = torch.rot90(image, -count, (-2, -1))
        there = None if place is None else turned_place(place, image.shape[-1], image.shape[-2], count)
        for face in network.detect(turned, threshold=best, twice=False):
            if there is None or (face.left < there[0] < face.right and face.top < there[1] < face.bottom):
                best, turns = max((best, turns), (face.score, count))
    return turns


def turned_place(place: tuple[float, float], width: int, height: int, turns: int) -> tuple[float, float]:
    """Where a place of a picture lies after so many quarter turns of it clockwise.

    >>> turned_place((1, 0), 4, 3, 1)
    (3, 1)
    """
    x, y = place
    return ((x, y), (height - y, x), (width - x, height - y), (y, width - x))[turns]


def advice(turns: int) -> str:
    """What to do with a picture that needs so many quarter turns clockwise.

    >>> advice(3)
    'Turn the picture by 90 degrees counterclockwise.'
    """
    return f"Turn the picture by {_TURNS[turns]}."


def _log_odds(score: float) -> float:
    score = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(score / (1 - score))


def _odds_to_score(odds: float) -> float:
    return 1 / (1 + math.exp(-odds))
