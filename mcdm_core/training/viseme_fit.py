"""The visemes of a filmed speaker: weights, dominance and timing of the synthetic mouth, fitted to real lips.

    python -m mcdm_core.training.viseme_fit --mouth-of DIR --transcripts DIR

``DIR`` and its transcripts are those of ``label-speech --mouth-of``. Prints, as JSON, numbers for
``data/synthetic/people/visemes.py`` and ``data/synthetic/motion.py``, and how well a mouth that uses them follows
clips that were held out.
The lip track is that of ``motion.py`` written with tensors, for one face: its values are linear in the actions.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..correlation import mean_correlation
from ..data.real.fitted_mouth import FilmedSpeech, read_filmed_speech
from ..data.real.phone_alignment import PhoneAligner
from ..data.synthetic.graphics.rig import Rig, RigParts
from ..data.synthetic.labels import values_of_actions
from ..data.synthetic.motion import loudness, viseme_spans
from ..data.synthetic.people.head_asset import HeadAsset, load_head_asset
from ..data.synthetic.people.identity import random_identity
from ..data.synthetic.people.visemes import DOMINANCE, FIXED, VISEMES, viseme_matrix
from ..face.landmarks import LIP_VALUES

logger = logging.getLogger(__name__)

RATE = 200
"""Steps a second, as in ``motion.py``."""
_SMOOTH = 3.0
_VALUE_WEIGHTS = (4.0, 1.5, 1.0, 0.0)
"""Of opening, width, protrusion and press; a press is not read reliably off real lips."""
_HELD_OUT = 6
_KEPT = ("sil", *FIXED)
"""Visemes that stay as they are: rest, and contacts that are what they are."""


@dataclass(frozen=True)
class Spoken:
    """A clip for the fit: ``viseme [n]`` numbers with ``span [n, 2]`` in seconds, ``energy [steps]`` of ``loudness``,
    and the true ``lips [t, 4]``."""

    viseme: Tensor
    span: Tensor
    energy: Tensor
    lips: Tensor


def spoken(clip: FilmedSpeech, fps: int = 25) -> Spoken:
    """What the fit needs of a filmed clip."""
    spans = viseme_spans(clip.phonemes)
    steps = round(len(clip.lips) / fps * RATE) + 1
    energy = loudness(clip.sound.astype(np.float32) / 32768, steps, RATE)
    return Spoken(
        torch.tensor([VISEMES.index(name) for name, _, _ in spans]),
        torch.tensor([[start, end] for _, start, end in spans]),
        torch.from_numpy(energy).float(),
        torch.from_numpy(np.asarray(clip.lips)).float(),
    )


def lip_effects(asset: HeadAsset, faces: int = 8) -> Tensor:
    """How much each action moves each lip value, ``[52, 4]``: the mean over random faces with the jaw half open."""
    parts, jaw, step = RigParts(asset), asset.action("jawOpen"), 0.3
    base = np.zeros((1, len(asset.action_names)))
    base[0, jaw] = step
    total = np.zeros((base.shape[1], len(LIP_VALUES)))
    for seed in range(faces):
        rig = Rig(parts, random_identity(asset, np.random.default_rng(seed)))
        moved = np.concatenate([base, base + step * np.eye(base.shape[1])])
        values = values_of_actions(asset, rig, moved)[:, list(LIP_VALUES)]
        total += (values[1:] - values[0]) / step
    return torch.from_numpy(total / faces).float()


class VisemeMouth(nn.Module):
    """The lip track of ``data/synthetic/motion.py`` with its numbers as parameters.

    Args:
        matrix: ``[14, 52]`` weights to begin with; effects: ``[52, 4]`` of :func:`lip_effects`.
        amplitude, rise, fall: of ``motion.py``, to begin with.
    """

    effects: Tensor
    hand_made: Tensor
    fixed: Tensor

    def __init__(
        self, matrix: Tensor, effects: Tensor, amplitude: float = 0.6, rise: float = 0.055, fall: float = 0.055
    ) -> None:
        super().__init__()
        self.register_buffer("effects", effects)
        self.register_buffer("hand_made", matrix.clone())
        self.register_buffer("fixed", torch.tensor([name in FIXED for name in VISEMES]))
        self.weights = nn.Parameter(matrix.clone())
        self.dominance = nn.Parameter(torch.tensor([float(DOMINANCE[name]) for name in VISEMES]).log())
        self.timing = nn.Parameter(torch.tensor([rise, fall]).log())
        self.amplitude = nn.Parameter(torch.tensor(amplitude))

    def actions(self, clip: Spoken) -> Tensor:
        """``[steps, 52]`` at :data:`RATE`; see ``motion.py:_lip_track``."""
        weights, kinds = self.weights.clamp_min(0), clip.viseme
        times = torch.arange(len(clip.energy)) / RATE
        away = times[:, None] - clip.span.mean(1)
        half = (clip.span[:, 1] - clip.span[:, 0]) / 2
        rise, fall = self.timing.exp()
        beyond = (away.abs() - half * 0.6).clamp_min(1e-6) / torch.where(away < 0, rise, fall)
        pull = self.dominance.exp()[kinds] * (-(beyond**1.3)).exp()
        actions = pull @ weights[kinds] / (pull.sum(1, keepdim=True) + 1e-4)
        actions = actions * (self.amplitude * (0.86 + 0.14 * clip.energy))[:, None]
        hold = (-((away / (half * 0.9).clamp_min(0.030)) ** 4)).exp()
        for number in self.fixed[kinds].nonzero().flatten().tolist():
            held = hold[:, number, None]
            actions = actions * (1 - held) + held * weights[kinds[number]]
        reach = int(4 * _SMOOTH + 0.5)
        kernel = (-0.5 * (torch.arange(-reach, reach + 1) / _SMOOTH) ** 2).exp()
        padded = F.pad(actions.clamp(0, 1.1).T[:, None], (reach, reach), mode="replicate")
        return F.conv1d(padded, (kernel / kernel.sum())[None, None])[:, 0].T

    def forward(self, clip: Spoken, fps: int = 25) -> Tensor:
        """Lip values ``[t, 4]`` at the middle of each frame."""
        at = ((torch.arange(len(clip.lips)) + 0.5) * RATE / fps).long()
        values = self.actions(clip)[at] @ self.effects
        return torch.cat([values[:, :1].clamp_min(0), values[:, 1:]], 1)


def fit_visemes(
    mouth: VisemeMouth, clips: Sequence[Spoken], steps: int = 300, hold: float = 0.04, seed: int = 0
) -> None:
    """Fit ``mouth`` to the lips of ``clips``, each from its own mean: what is read off a resting face is no speech.

    Args:
        steps: of Adam, with six clips each; hold: weight of the squared distance from the weights to begin with.
    """
    movable = torch.tensor([float(name not in _KEPT) for name in VISEMES])[:, None] * (mouth.hand_made > 0).any(0)
    spread = torch.cat([clip.lips for clip in clips]).std(0)
    weight = torch.tensor(_VALUE_WEIGHTS) / sum(_VALUE_WEIGHTS) / spread.square()
    groups = [{"params": [mouth.weights], "lr": 0.01}, {"params": [mouth.dominance, mouth.timing, mouth.amplitude]}]
    optimizer = torch.optim.Adam(groups, lr=0.02)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    random = np.random.default_rng(seed)
    for step in range(steps):
        loss = hold * (mouth.weights - mouth.hand_made).square().sum()
        for number in random.integers(len(clips), size=6):
            clip = clips[number]
            said = mouth(clip)
            error = (said - said.mean(0)) - (clip.lips - clip.lips.mean(0))
            loss = loss + (error.square().mean(0) * weight).sum() / 6
        optimizer.zero_grad()
        loss.backward()
        assert mouth.weights.grad is not None
        mouth.weights.grad.mul_(movable)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            logger.info("step %d of %d, loss %.3f", step, steps, float(loss.detach()))


@torch.no_grad()
def follows(mouth: VisemeMouth, clips: Sequence[Spoken]) -> list[float]:
    """Mean correlation with the true lips within a clip, for each of the four values (nan for one that never moves)."""
    said = [mouth(clip) for clip in clips]
    return [mean_correlation([s[:, k] for s in said], [c.lips[:, k] for c in clips]) for k in range(len(LIP_VALUES))]


def describe(mouth: VisemeMouth, asset: HeadAsset) -> dict[str, object]:
    """Weights by viseme (of the left side, where there are two), dominance, timing and amplitude, rounded."""
    weights: dict[str, dict[str, float]] = {}
    for name, row in zip(VISEMES, mouth.weights.detach().clamp_min(0), strict=True):
        shown = {a: round(float(w), 2) for a, w in zip(asset.action_names, row, strict=True) if w > 0.02}
        weights[name] = {a.removesuffix("Left"): w for a, w in shown.items() if not a.endswith("Right")}
    dominance = mouth.dominance.detach().exp()
    rise, fall = mouth.timing.detach().exp()
    return {
        "weights": weights,
        "dominance": {name: round(float(d), 2) for name, d in zip(VISEMES, dominance, strict=True)},
        "rise": round(float(rise), 3),
        "fall": round(float(fall), 3),
        "amplitude": round(float(mouth.amplitude.detach()), 2),
    }


def main() -> None:
    """Fit and print as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mouth-of", type=Path, required=True, help="one speaker's clips as label-data wrote them")
    parser.add_argument("--transcripts", type=Path, required=True, help="folder of NAME.txt for each video NAME")
    parser.add_argument("--asset", type=Path, help="cache file of the head model")
    parser.add_argument("--steps", type=int, default=300, help="optimiser steps (default: 300)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asset = load_head_asset(arguments.asset)
    clips = [spoken(c) for c in read_filmed_speech(arguments.mouth_of, arguments.transcripts, PhoneAligner())]
    held, rest = clips[::_HELD_OUT], [c for number, c in enumerate(clips) if number % _HELD_OUT]
    mouth = VisemeMouth(torch.from_numpy(viseme_matrix(asset)), lip_effects(asset))
    before = follows(mouth, held)
    fit_visemes(mouth, rest, arguments.steps)
    print(json.dumps({"r_before": before, "r": follows(mouth, held), **describe(mouth, asset)}, indent=2))


if __name__ == "__main__":
    main()
