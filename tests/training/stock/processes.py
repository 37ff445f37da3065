"""Runs of a training in one process, in two, and stopped on the way."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mcdm_core.training.workers import Workers, join_workers

Run = Callable[..., Any]
"""``run(output, workers=..., device=..., tracker=...)``, of a module, with what it is given bound by ``partial``."""


def curve_of(run: Run, output: Path, **more: Any) -> list[float]:
    """The loss after every step."""
    curve: list[float] = []

    def keep(step: int, numbers: Mapping[str, float]) -> None:
        if "loss" in numbers:
            curve.append(numbers["loss"])

    run(output, tracker=keep, **more)
    return curve


def _worker(rank: int, port: int, run: Run, output: Path) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    workers, device = join_workers()
    curve = curve_of(run, output, workers=workers, device=device)
    if workers.first:
        output.with_suffix(".json").write_text(json.dumps(curve))
    torch.distributed.destroy_process_group()


def curve_of_two(run: Run, output: Path) -> list[float]:
    """The loss after every step of two processes; ``run`` is pickled."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_worker, (port, run, output), nprocs=2)
    return json.loads(output.with_suffix(".json").read_text())


def stopped_differs(run: Run, folder: Path, after: int, name: str = "{}") -> float:
    """Largest difference of the weights of a whole run from those of one that was stopped ``after`` steps.

    Args:
        name: file of the weights that are compared, with the stem of the output in place of ``{}``.
    """

    def stop(step: int, numbers: Mapping[str, float]) -> None:
        if step == after:
            raise KeyboardInterrupt

    run(folder / "whole.safetensors", workers=Workers(), device="cpu")
    with pytest.raises(KeyboardInterrupt):
        run(folder / "parts.safetensors", workers=Workers(), device="cpu", tracker=stop)
    run(folder / "parts.safetensors", workers=Workers(), device="cpu")
    one, two = (load_file(str(folder / f"{name.format(stem)}.safetensors")) for stem in ("whole", "parts"))
    return max(float((value.float() - two[key].float()).abs().max()) for key, value in one.items())
