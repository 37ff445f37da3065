"""Where the random numbers of a training stand, so that a stopped one goes on to draw what it would have drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Draws = Sequence[torch.Generator | np.random.Generator]
"""Sources of a loss's own, beside torch's and NumPy's global ones."""


@dataclass(frozen=True)
class RandomState:
    """States of the global sources, and of a loss's own.

    Attributes:
        tensors: torch's, by the names in a resume file; numbers: NumPy's, which JSON holds.
    """

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, Any]

    @classmethod
    def now(cls, own: Draws, device: torch.device) -> RandomState:
        """As they stand; ``device`` is where the training runs."""
        twister = np.random.get_state(legacy=False)["state"]
        tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(twister["key"].astype(np.int64))}
        if device.type == "cuda":
            tensors["cuda"] = torch.cuda.get_rng_state(device)
        numbers: dict[str, Any] = {"numpy_position": int(twister["pos"])}
        for number, source in enumerate(own):
            if isinstance(source, torch.Generator):
                tensors[f"own{number}"] = source.get_state()
            else:
                numbers[f"own{number}"] = json.dumps(source.bit_generator.state)
        return cls(tensors, numbers)

    def restore(self, own: Draws, device: torch.device) -> None:
        """Put the sources there; those of which an older file says nothing stay as they are."""
        torch.set_rng_state(self.tensors["torch"])
        if device.type == "cuda" and "cuda" in self.tensors:
            torch.cuda.set_rng_state(self.tensors["cuda"], device)
        keys = self.tensors["numpy"].numpy().astype(np.uint32)
        np.random.set_state(("MT19937", keys, self.numbers["numpy_position"], 0, 0.0))
        for number, source in enumerate(own):
            name = f"own{number}"
            if isinstance(source, torch.Generator):
                if name in self.tensors:
                    source.set_state(self.tensors[name])
            elif name in self.numbers:
                source.bit_generator.state = json.loads(self.numbers[name])
