"""A training's numbers in other programs' tables: TensorBoard's files, or a run of Weights & Biases."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..errors import MCDMError, PackageError
from .loop import Tracker

TRACKERS = ("tensorboard", "wandb")


@contextmanager
def tracking(kind: str | None, output: Path) -> Iterator[Tracker | None]:
    """What takes a training's numbers while it runs; None for no ``kind``.

    Args:
        kind: of :data:`TRACKERS`.
        output: the weights' file. TensorBoard's files are written beside it. A run of Weights & Biases is named after
            it, and goes on where the same file's training goes on.

    Raises:
        PackageError: if its package is not installed; MCDMError: for an unknown kind.
    """
    if kind is None:
        yield None
    elif kind == "tensorboard":
        with _tensorboard(output) as tracker:
            yield tracker
    elif kind == "wandb":
        with _wandb(output) as tracker:
            yield tracker
    else:
        raise MCDMError(f"Numbers cannot be sent to {kind!r}; choose one of {', '.join(TRACKERS)}.")


@contextmanager
def _tensorboard(output: Path) -> Iterator[Tracker]:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise PackageError("TensorBoard's files need its package: pip install tensorboard") from error
    writer = SummaryWriter(str(output.parent / "tensorboard" / output.stem))

    def tracker(step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    try:
        yield tracker
    finally:
        writer.close()


@contextmanager
def _wandb(output: Path) -> Iterator[Tracker]:
    try:
        import wandb  # pyright: ignore[reportMissingImports] not among the packages that the types are checked with
    except ImportError as error:
        raise PackageError("Weights & Biases needs its package: pip install wandb") from error
    name = f"{output.parent.name}-{output.stem}"
    number = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:12]
    run = wandb.init(project="mcdm", name=name, id=number, resume="allow", dir=str(output.parent))
    # Its own count would refuse the steps that a resumed training takes again.
    run.define_metric("*", step_metric="step")
    try:
        yield lambda step, numbers: run.log({**numbers, "step": step})
    finally:
        run.finish()
