"""The training loop every stage shares: resumable, limited by steps or by minutes, with moving-average weights.

A stage gives a module, and a function that computes the losses of one batch. The loop does the rest. It has AdamW
(section 4.1 of the paper), warm-up and cosine learning rate, and gradient clipping. It keeps an exponential moving
average of the weights, validates with it now and then, and writes a log file. Checkpoints are safetensors:

- ``<output>``: the averaged weights, a plain state dict of the module, ready to be used.
- ``<output stem>.resume.safetensors``: raw weights, optimiser moments, counters and random state, to go on later.

Both are written to a temporary name and renamed, so that a stop in the middle never leaves half a file.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import MCDMError, WeightsError
from ..files import write_tensors
from .optimizers import build_optimizer, restored_moments
from .random_state import Draws, RandomState
from .workers import Workers

logger = logging.getLogger(__name__)

LossFunction = Callable[[int], Mapping[str, Tensor]]
Network = TypeVar("Network", bound=nn.Module)
ValidateFunction = Callable[[Network, int], Mapping[str, float]]
Tracker = Callable[[int, Mapping[str, float]], None]
"""Takes a step's number and named numbers beside the log."""


@dataclass
class LoopSettings:
    """How long and how to train.

    Attributes:
        output: file of the averaged weights; its directory is made if needed.
        steps: stop after this many optimiser steps in all (those before a resume included); None: no limit.
        minutes: stop after this much training time in all (earlier runs included); None: no limit.
        learning_rate: peak of the cosine, reached after ``warmup_steps``; it falls to ``final_fraction`` of it.
        ema_decay: decay of the averaged weights; 0 keeps the raw ones. Early steps use a smaller decay.
        validate_every / save_every / log_every: in steps.
        eight_bit: keep the optimiser's moments in 8 bits (``optimizers.py``).
        resume: go on from the resume file if there is one.
        accumulate: call the loss so many times a step, with numbers that go on counting, and average.
        workers: the processes that train together; each calls the loss for its share of the batch.
        tracker: gets the numbers beside the log.
        beside: networks with an optimiser of their own, as critics are: the resume file keeps them too.
        draws: sources of random numbers of the loss's own: the resume file keeps where they stand.
        metadata: strings stored in both files (``mcdm_config`` for instance).
        progress: fraction of the training that is over, kept up to date by :func:`train` for losses that change.
    """

    output: Path
    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 1e-3
    final_fraction: float = 0.01
    warmup_steps: int = 100
    weight_decay: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    eight_bit: bool = False
    ema_decay: float = 0.998
    log_every: int = 50
    validate_every: int = 500
    save_every: int = 500
    resume: bool = True
    accumulate: int = 1
    workers: Workers = field(default_factory=Workers)
    tracker: Tracker | None = None
    beside: nn.Module | None = None
    draws: Draws = ()
    metadata: dict[str, str] = field(default_factory=dict)
    progress: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.output = Path(self.output)
        if self.steps is None and self.minutes is None:
            raise MCDMError("LoopSettings needs a limit: give steps, minutes or both.")


@dataclass(frozen=True)
class TrainResult:
    """What a run did: optimiser steps and seconds in all, the last averaged losses, the last validation."""

    steps: int
    seconds: float
    losses: dict[str, float]
    validation: dict[str, float]


class WeightAverage:
    """Exponential moving average of a module's state dict (floating tensors; others are copied)."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's present weights."""
        self.updates += 1
        decay = min(self.decay, self.updates / (9.0 + self.updates))
        averaged, present = [], []
        for key, value in module.state_dict().items():
            if value.is_floating_point() and self.decay > 0:
                averaged.append(self.state[key])
                present.append(value.detach())
            else:
                self.state[key].copy_(value)
        if averaged:
            torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage] public under no other name
                averaged, present, 1.0 - decay
            )

    @contextmanager
    def swapped_in(self, module: nn.Module) -> Iterator[nn.Module]:
        """Put the averaged weights into the module, in evaluation mode, and back again afterwards."""
        raw = {k: v.detach().clone() for k, v in module.state_dict().items()}
        training = module.training
        module.load_state_dict(self.state)
        module.eval()
        try:
            yield module
        finally:
            module.load_state_dict(raw)
            module.train(training)


def learning_rate_factor(step: int, progress: float, warmup_steps: int, final_fraction: float) -> float:
    """Linear warm-up over ``warmup_steps`` times a cosine over ``progress`` in [0, 1], from 1 to ``final_fraction``."""
    warmup = min(1.0, (step + 1) / max(1, warmup_steps))
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, progress))))
    return warmup * (final_fraction + (1.0 - final_fraction) * cosine)


def save_state(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a state dict as safetensors, atomically. Tensors are made contiguous and independent of one another."""
    tensors = {k: v.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for k, v in state.items()}
    write_tensors(path, tensors, metadata)


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata strings of a safetensors file.

    Raises:
        WeightsError: if the file is missing or damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {})
    except Exception as error:  # safetensors raises its own untyped errors
        raise WeightsError(f"{path} cannot be read as safetensors ({error}); delete it or give another.") from error


def resume_path(output: Path) -> Path:
    """Where the resume state of ``output`` is kept."""
    return Path(output).with_suffix(".resume.safetensors")


def train(
    module: Network,
    loss_function: LossFunction,
    settings: LoopSettings,
    validate: ValidateFunction[Network] | None = None,
) -> TrainResult:
    """Train ``module`` until a limit of ``settings`` is reached.

    Args:
        module: what is trained; parameters with ``requires_grad`` False stay as they are.
        loss_function: called with the step number, returns named scalar tensors of which ``"loss"`` is minimised.
        settings: limits, rates and files.
        validate: called with the module (averaged weights, evaluation mode, no gradients) and the step number; may
            write pictures; returns numbers for the log. Called every ``validate_every`` steps and at the end.

    Returns:
        TrainResult. The averaged weights are in ``settings.output`` and also left in the module.
    """
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    named = {k: p for k, p in module.named_parameters() if p.requires_grad}
    device = next(iter(named.values())).device
    on_gpu = device.type == "cuda"
    optimizer = build_optimizer(
        named.values(), settings.learning_rate, settings.betas, settings.weight_decay, eight_bit=settings.eight_bit
    )
    # Its scale stays 1: on a GPU it is here to leave out steps with a gradient that is not finite without waiting for
    # the GPU to tell.
    scaler = torch.amp.GradScaler("cuda", init_scale=1.0, growth_interval=10**9, enabled=on_gpu)
    average = WeightAverage(module, settings.ema_decay)
    step, seconds_before = 0, 0.0
    if settings.resume and resume_path(settings.output).exists():
        step, seconds_before = _load_resume(settings, module, named, optimizer, average, device)
        logger.info("resuming %s at step %d after %.0f s", settings.output.name, step, seconds_before)

    losses: dict[str, Tensor] = {}
    validation: dict[str, float] = {}
    # Where random numbers stood before the step under way: what is stopped in a step takes it again.
    drawn = RandomState.now(settings.draws, device)
    started = time.monotonic()
    elapsed = seconds_before
    module.train()

    def checkpoint() -> None:
        if not settings.workers.first:
            return
        save_state(settings.output, average.state, {**settings.metadata, "step": str(step)})
        _save_resume(settings, module, named, optimizer, average, step, elapsed, drawn)

    def check() -> dict[str, float]:
        if validate is None or not settings.workers.first:
            return {}
        with average.swapped_in(module), torch.no_grad():
            numbers = dict(validate(module, step))
        drawn.restore(settings.draws, device)  # what is validated, and how often, changes nothing
        logger.info("%s step %d validation %s", settings.output.stem, step, _format(numbers))
        _track(settings, step, {f"validation/{key}": value for key, value in numbers.items()})
        return numbers

    try:
        while True:
            # Clocks differ: all processes go by their mean, or their learning rates would.
            settings.progress = settings.workers.agree(_progress(settings, step, elapsed), device)
            if settings.progress >= 1.0:
                break
            factor = learning_rate_factor(step, settings.progress, settings.warmup_steps, settings.final_fraction)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * factor
            optimizer.zero_grad(set_to_none=True)
            parts = _backward(loss_function, settings, step, scaler)
            settings.workers.average_gradients(named.values())
            scaler.unscale_(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(named.values(), settings.clip_norm)
            if on_gpu or torch.isfinite(norm):
                scaler.step(optimizer)
                scaler.update(1.0 if on_gpu else None)
                average.update(module)
            else:
                logger.warning("step %d: gradient is not finite, step skipped", step)
            step += 1
            drawn = RandomState.now(settings.draws, device)
            elapsed = seconds_before + time.monotonic() - started
            for key, value in parts.items():
                number = settings.workers.mean(value)
                losses[key] = number if key not in losses else torch.lerp(losses[key], number, 0.05)
            if step % settings.log_every == 0:
                _log_line(settings, step, elapsed, losses)
            if step % settings.save_every == 0:
                checkpoint()
            if step % settings.validate_every == 0:
                validation = check()
    except KeyboardInterrupt:
        checkpoint()
        raise
    checkpoint()  # before the validation: it may take minutes, be stopped, or fail
    validation = check()
    module.load_state_dict(average.state)
    module.eval()
    return TrainResult(step, elapsed, {key: float(value) for key, value in losses.items()}, validation)


def _backward(
    loss_function: LossFunction, settings: LoopSettings, step: int, scaler: torch.amp.GradScaler
) -> dict[str, Tensor]:
    """Gradients of a step, accumulated; the mean of what the loss told each time."""
    total: dict[str, Tensor] = {}
    for turn in range(settings.accumulate):
        parts = loss_function(step * settings.accumulate + turn)
        scaler.scale(parts["loss"] / settings.accumulate).backward()
        for key, value in parts.items():
            share = value.detach().float() / settings.accumulate
            total[key] = total[key] + share if key in total else share
    return total


def _track(settings: LoopSettings, step: int, numbers: Mapping[str, float | Tensor]) -> None:
    if settings.tracker is not None and settings.workers.first:
        settings.tracker(step, {key: float(value) for key, value in numbers.items()})


def log_to_file(path: Path) -> None:
    """Send the library's log to ``path`` (appending), a line an event with the time of day."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger(__name__.rsplit(".", 2)[0])
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def _progress(settings: LoopSettings, step: int, elapsed: float) -> float:
    limits = ((step, settings.steps), (elapsed / 60, settings.minutes))
    return max(1.0 if limit <= 0 else done / limit for done, limit in limits if limit is not None)


def _format(numbers: Mapping[str, float | Tensor]) -> str:
    return " ".join(f"{k} {float(v):.4f}" for k, v in numbers.items())


def _log_line(settings: LoopSettings, step: int, elapsed: float, losses: Mapping[str, Tensor]) -> None:
    steps = "" if settings.steps is None else f" of {settings.steps}"
    minutes = "" if settings.minutes is None else f" of {settings.minutes:g}"
    stem, numbers = settings.output.stem, _format(losses)
    if settings.workers.first:
        logger.info("%s step %d%s, %.1f%s min, %s", stem, step, steps, elapsed / 60, minutes, numbers)
    _track(settings, step, losses)


def _save_resume(
    settings: LoopSettings,
    module: nn.Module,
    named: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    average: WeightAverage,
    step: int,
    seconds: float,
    drawn: RandomState,
) -> None:
    state = {f"module/{k}": v for k, v in module.state_dict().items()}
    state.update({f"average/{k}": v for k, v in average.state.items()})
    for key, parameter in named.items():
        for slot, value in optimizer.state.get(parameter, {}).items():
            state[f"optimizer/{slot}/{key}"] = torch.as_tensor(value)
    if settings.beside is not None:
        state.update({f"beside/{k}": v for k, v in settings.beside.state_dict().items()})
    state.update({f"random/{name}": value for name, value in drawn.tensors.items()})
    counters = {"step": step, "seconds": seconds, "updates": average.updates, **drawn.numbers}
    save_state(resume_path(settings.output), state, {**settings.metadata, "counters": json.dumps(counters)})


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, by the rest of their names."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _load_resume(
    settings: LoopSettings,
    module: nn.Module,
    named: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    average: WeightAverage,
    device: torch.device,
) -> tuple[int, float]:
    path = resume_path(settings.output)
    counters = json.loads(read_metadata(path)["counters"])
    state = load_file(str(path))
    kept = _below("beside/", state)
    try:
        module.load_state_dict(_below("module/", state))
        if settings.beside is not None and kept:
            settings.beside.load_state_dict(kept)
    except RuntimeError as error:
        raise WeightsError(f"{path} belongs to another model; delete it or turn resume off. {error}") from error
    for key in average.state:
        average.state[key].copy_(state[f"average/{key}"])
    average.updates = counters["updates"]
    moments: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith("optimizer/"):
            _, slot, key = name.split("/", 2)
            moments.setdefault(key, {})[slot] = value
    for key, parameter in named.items():
        if key in moments:
            optimizer.state[parameter] = restored_moments(parameter, moments[key], settings.eight_bit)
    RandomState(_below("random/", state), counters).restore(settings.draws, device)
    return int(counters["step"]), float(counters["seconds"])
