"""Several processes that train one model: each computes a share of every batch, all take the same step.

``accelerate launch`` or ``torchrun`` starts the processes, on one host or many, and tells each its number in the
environment. Gradients are averaged after the backward pass. So a loss may call the module's parts as it likes (a
wrapper such as DistributedDataParallel would only see the whole module called).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from ..errors import MCDMError

_BUCKET = 64 * 2**20
"""Bytes of gradients sent at a time."""


@dataclass(frozen=True)
class Workers:
    """This process's place: ``rank`` of ``count``. One process is rank 0 of 1 and talks to nobody."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def share(self, samples: int) -> range:
        """The samples of a batch that are this process's.

        >>> list(Workers(1, 2).share(6))
        [1, 3, 5]
        """
        if samples % self.count:
            raise MCDMError(f"A batch of {samples} cannot be shared by {self.count} processes alike: change either.")
        return range(self.rank, samples, self.count)

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes, in a few large messages.

        What no process used has none afterwards: an optimiser counts steps, and would count this one.
        """
        if self.count == 1:
            return
        parameters = list(parameters)
        used = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        distributed.all_reduce(used)
        parameters = [parameter for parameter, times in zip(parameters, used.tolist(), strict=True) if times]
        bucket: list[Tensor] = []
        size = 0
        for parameter in parameters:
            if parameter.grad is None:  # used in another process
                parameter.grad = torch.zeros_like(parameter)
            if bucket and (size >= _BUCKET or bucket[0].dtype != parameter.grad.dtype):
                self._average(bucket)
                bucket, size = [], 0
            bucket.append(parameter.grad)
            size += parameter.grad.numel() * parameter.grad.element_size()
        if bucket:
            self._average(bucket)

    @torch.no_grad()
    def mean(self, value: Tensor) -> Tensor:
        """A number's mean over the processes."""
        total = value.detach().clone()
        total = total if total.dtype == torch.float64 else total.float()
        if self.count == 1:
            return total
        distributed.all_reduce(total)
        return total / self.count

    def gather(self, own: Tensor) -> Tensor:
        """All processes' rows ``[n, ...]`` in the order of one process's batch, of each one's share; with gradients.

        What a batch says as a whole (its variance, its mean) is then the same in one process and in many.
        """
        return own if self.count == 1 else _Gather.apply(own, self)

    def own(self, whole: Tensor) -> Tensor:
        """This process's share of rows ``[n, ...]`` that all have."""
        return whole[self.rank :: self.count]

    def agree(self, number: float, device: torch.device) -> float:
        """A clock's reading's mean over the processes, which would each go by their own."""
        if self.count == 1:  # a tensor would make the GPU's queue run empty
            return number
        return float(self.mean(torch.tensor(number, dtype=torch.float64, device=device)))

    def _average(self, gradients: list[Tensor]) -> None:
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


class _Gather(torch.autograd.Function):
    """Every process's loss depends on every row: what they all say of a row is added up."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, workers: Workers) -> Tensor:
        ctx.workers = workers
        parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(workers.count)]
        distributed.all_gather(parts, own.contiguous())
        return torch.stack(parts, 1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return ctx.workers.own(total), None


def join_workers(device: str = "auto") -> tuple[Workers, torch.device]:
    """This process's place by its environment (RANK, WORLD_SIZE, LOCAL_RANK) and its device; connects the processes.

    Args:
        device: ``cpu``, ``cuda`` or ``auto``: CUDA where there is one. Each process of a host has a GPU of its own.
    """
    count = int(os.getenv("WORLD_SIZE", "1"))
    local = int(os.getenv("LOCAL_RANK", "0"))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device("cuda", local) if device == "cuda" else torch.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if count == 1:
        return Workers(), place
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    return Workers(distributed.get_rank(), count), place
