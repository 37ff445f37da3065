"""Perceptual distance: features of a network trained on photographs, here the first stages of EfficientNet-lite0.

Pixels punish a tooth that lies half a pixel off more than none at all. Features do not (Johnson et al. 2016; Zhang et
al. 2018). The network (Tan and Le 2019; lite: no squeeze-and-excite, ReLU6) is used in training alone and is not
shipped. Where its weights come from, and how they become a safetensors file, is in docs/training.md.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as functional
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import WeightsError

_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40))
"""Of each stage: blocks, kernel, stride of the first, expansion, channels."""
_STEM = 32
_NORM_EPSILON = 1e-3


class InvertedResidual(nn.Module):
    """A block of the network: expand, convolve each channel, project; named as in the published file."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.skip = stride == 1 and channels == out
        if expansion > 1:
            self._expand_conv: nn.Module | None = nn.Conv2d(channels, wide, 1, bias=False)
            self._bn0: nn.Module | None = nn.BatchNorm2d(wide, _NORM_EPSILON)
        else:
            self._expand_conv = self._bn0 = None
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, _NORM_EPSILON)
        self._project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, _NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, c, h, w]`` to the next block's."""
        y = x
        if self._expand_conv is not None and self._bn0 is not None:
            y = functional.relu6(self._bn0(self._expand_conv(y)))
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skip else y


class PerceptualDistance(nn.Module):
    """Weighted distance of two pictures' features, each stage relative to the true one's size.

    Frozen: :meth:`forward` gives gradients to the pictures alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, _STEM, 3, 2, 1, bias=False)
        self._bn0 = nn.BatchNorm2d(_STEM, _NORM_EPSILON)
        blocks: list[nn.Module] = []
        self._ends: list[int] = []
        channels = _STEM
        for count, kernel, stride, expansion, out in _STAGES:
            for number in range(count):
                blocks.append(InvertedResidual(channels, out, kernel, stride if number == 0 else 1, expansion))
                channels = out
            self._ends.append(len(blocks) - 1)
        self._blocks = nn.ModuleList(blocks)
        self.widths = (_STEM, *(out for *_, out in _STAGES))
        self.eval().requires_grad_(False)

    @classmethod
    def from_file(cls, path: Path) -> PerceptualDistance:
        """The published network's weights; later stages in the file are passed over.

        Raises:
            WeightsError: if it is another network's file.
        """
        distance = cls()
        state = load_file(str(path))
        own = distance.state_dict()
        if missing := [key for key in own if key not in state]:
            raise WeightsError(
                f"{path} is no EfficientNet-lite0: {missing[0]} is missing; docs/training.md says how to make the file."
            )
        distance.load_state_dict({key: state[key] for key in own})
        return distance

    def train(self, mode: bool = True) -> PerceptualDistance:
        """Stays as it is: its statistics belong to the photographs it learnt from."""
        return super().train(False)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Of ``[n, 3, h, w]`` in [-1, 1]: after the stem and after each stage, at half to an eighth of the size."""
        x = functional.relu6(self._bn0(self._conv_stem(pictures)))
        found = [x]
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in self._ends:
                found.append(x)
        return found

    def forward(self, made: Tensor, true: Tensor, region: Tensor) -> Tensor:
        """Distance where ``region [n, 1, h, w]`` is 1 (scalar, 0 for equal pictures ``[n, 3, h, w]``)."""
        with torch.no_grad():
            wanted = self.features(true)
        distances = []
        for ours, theirs in zip(self.features(made), wanted, strict=True):
            weight = region_weight(region, theirs)
            apart = ((ours.float() - theirs.float()).abs() * weight).mean()
            distances.append(apart / theirs.float().abs().mean().clamp_min(1e-6))
        return torch.stack(distances).mean()


def region_weight(region: Tensor, like: Tensor) -> Tensor:
    """A region ``[n, 1, h, w]`` at the size of maps ``[n, c, h', w']``, with a mean of 1.

    >>> region_weight(torch.ones(1, 1, 8, 8), torch.zeros(1, 5, 4, 4)).mean()
    tensor(1.)
    """
    weight = functional.adaptive_avg_pool2d(region, (like.shape[-2], like.shape[-1]))
    return weight / weight.mean().clamp_min(0.02)
