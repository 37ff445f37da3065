"""Layers that start at zero: what they add to the network grows from nothing in training."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)


def zero_module(layer: Layer) -> Layer:
    """Set all parameters of a layer to zero and return it.

    >>> zero_module(nn.Linear(2, 3)).weight.abs().sum().item()
    0.0
    """
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
