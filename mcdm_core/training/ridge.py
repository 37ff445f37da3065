"""Ridge regression, for what the stages fit in closed form."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def ridge_solution(features: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """The map ``[a, b]`` that takes ``features [n, a]`` to ``targets [n, b]`` with the least penalised squared error.

    The products are in double precision on the features' device, and the small system is solved on the CPU. The result
    has the features' device and type. ``penalty`` is added to the diagonal of the features' products.
    """
    x, y = features.double(), targets.double()
    products = (x.T @ x).cpu() + penalty * torch.eye(x.shape[1], dtype=torch.float64)
    return torch.linalg.solve(products, (x.T @ y).cpu()).to(features)
