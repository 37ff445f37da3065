"""What a GPU computes with: Triton's kernels where they are faster; the UNet as CUDA graphs, or in compiled blocks.

Each has the plain network to fall back on. None of it is used on a CPU, nor by the nodes, whose weights may be moved
between two steps.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ...errors import MCDMError, first_line, is_out_of_memory
from ...model import MCDMModel
from ...models.layers.memory_attention import kernels_available
from ...models.layers.residual_block import ResidualBlock
from ...models.temporal_attention import MemoryEfficientTemporalAttention
from ...models.transformer_block import MCDMTransformerBlock
from ...models.unet import DenoisingUNet

logger = logging.getLogger(__name__)

Network = Callable[..., tuple[Tensor, dict[str, Tensor]]]
"""Called as :meth:`DenoisingUNet.forward`."""
WAYS = ("no", "graphs", "blocks")
_LEAST_GAIN = 1.05
_TURNS = 7


def prepare(model: MCDMModel, way: str) -> Network | None:
    """Choose how the UNet is computed: what goes into ``ClipSampler.network``.

    Raises:
        MCDMError: for graphs where there is no CUDA.
    """
    if way == "graphs" and model.device.type != "cuda":
        raise MCDMError(f"CUDA graphs need a CUDA device, not {model.device.type}. Choose blocks, or no.")
    if way != "no" and model.device.type == "cuda":
        unet = model.unet
        shapes = unet.memory_shapes().items()
        with model.products():
            choose_kernels(unet, {name: torch.randn(1, *shape, device=model.device) for name, shape in shapes})
    return computed(model.unet, way)


def computed(unet: DenoisingUNet, way: str) -> Network | None:
    """The network as CUDA ``graphs``, or with compiled ``blocks``; None for ``no``: the network itself."""
    if way == "no":
        return None
    if way == "graphs":
        return Replayed(unet)
    compile_blocks(unet)
    return FallingBack(unet, undo=lambda: plain_blocks(unet))


class Replayed:
    """A network as CUDA graphs, one for each shape of its inputs: the host tells the GPU once a call what to do.

    Args:
        network: without a choice that depends on values.
        capture: makes a call repeatable (:func:`captured`).
    """

    def __init__(self, network: Network, capture: Callable[[Callable[[], Any]], Callable[[], Any]] | None = None):
        self.network, self.capture = network, capture or captured
        self.failed = False
        self._graphs: dict[Any, tuple[list[Any], Callable[[], Any], Any]] = {}

    def __call__(self, *arguments: Any, **named: Any) -> tuple[Tensor, dict[str, Tensor]]:
        if self.failed:
            return self.network(*arguments, **named)
        leaves, shape = tree_flatten((arguments, named))
        key = (
            str(shape),
            tuple((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves),
            _autocast(leaves),
        )
        if key not in self._graphs:
            try:
                self._graphs[key] = self._recorded(leaves, shape)
            except Exception as error:  # whatever a driver or an operation says of it
                logger.warning("CUDA graphs cannot be used (%s); going on without.", first_line(error))
                self.failed = True
                self._graphs.clear()
                return self.network(*arguments, **named)
        held, replay, made = self._graphs[key]
        for place, leaf in zip(held, leaves, strict=True):
            if isinstance(leaf, Tensor):
                place.copy_(leaf)
        replay()
        prediction, memory = made
        # The graph writes there again.
        return prediction.clone(), {block: value.clone() for block, value in memory.items()}

    def _recorded(self, leaves: list[Any], shape: Any) -> tuple[list[Any], Callable[[], Any], Any]:
        held = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        arguments, named = tree_unflatten(held, shape)
        made: list[Any] = []

        def call() -> None:
            # Weights that autocast keeps in another format would lie in the graph's memory.
            kind = _device(held).type
            with torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), False):
                made[:] = [self.network(*arguments, **named)]

        replay = self.capture(call)
        return held, replay, made[0]


def captured(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call's kernels as a CUDA graph, which is replayed."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside), torch.no_grad():
        for _ in range(2):  # libraries choose their kernels
            call()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.no_grad():
        call()
    return graph.replay


class FallingBack:
    """A network that goes on as it was after the first failure that is not a lack of memory.

    Args:
        undo: makes the network as it was.
    """

    def __init__(self, network: Network, undo: Callable[[], None]) -> None:
        self.network, self.undo, self.failed = network, undo, False

    def __call__(self, *arguments: Any, **named: Any) -> tuple[Tensor, dict[str, Tensor]]:
        try:
            return self.network(*arguments, **named)
        except Exception as error:
            if self.failed or is_out_of_memory(error):
                raise
            logger.warning("The network cannot be compiled (%s); going on without.", first_line(error))
        self.failed = True
        self.undo()
        return self.network(*arguments, **named)


def compile_blocks(unet: DenoisingUNet, **options: Any) -> None:
    """Compile the blocks that the UNet repeats, for fixed shapes; ``options`` are ``torch.compile``'s."""
    for block in _blocks(unet):
        block.compile(dynamic=False, **options)


def plain_blocks(unet: DenoisingUNet) -> None:
    """Take back :func:`compile_blocks`."""
    for block in _blocks(unet):
        block._compiled_call_impl = None


def _blocks(unet: DenoisingUNet) -> list[torch.nn.Module]:
    return [module for module in unet.modules() if isinstance(module, (MCDMTransformerBlock, ResidualBlock))]


def choose_kernels(
    unet: DenoisingUNet, memory: dict[str, Tensor], clock: Callable[[], float] | None = None
) -> dict[str, float]:
    """Let layer 4 use Triton's kernels where they are as right and measured to be faster, place by place.

    Args:
        memory: that the UNet gave, whose shapes are those of its work; clock: seconds.

    Returns:
        How many times faster the kernels are, by block; nothing where they cannot be used.
    """
    gains: dict[str, float] = {}
    if not kernels_available():
        return gains
    measured: dict[tuple[int, ...], float] = {}
    for (name, carried), block in zip(memory.items(), unet.transformer_blocks(), strict=True):
        shape = tuple(carried.shape)
        if shape not in measured:
            try:
                measured[shape] = kernel_gain(block.temporal, carried, unet.frames, clock or _clock(carried.device))
            except Exception as error:  # a compiler that is not there, a GPU too old
                logger.warning("Triton's kernels cannot be used (%s).", first_line(error))
                measured[shape] = 0.0
        gains[name] = measured[shape]
        block.temporal.kernels = gains[name] >= _LEAST_GAIN
    return gains


@torch.no_grad()
def kernel_gain(
    layer: MemoryEfficientTemporalAttention, memory: Tensor, frames: int, clock: Callable[[], float]
) -> float:
    """How many times faster a layer is by its kernels, both in turns; 0 where their results differ."""
    before = layer.kernels
    frames_of = memory[:, None].expand(-1, frames, -1, -1)
    given = frames_of + torch.randn_like(frames_of), frames_of + torch.randn_like(frames_of), memory
    taken: dict[bool, list[float]] = {False: [], True: []}
    made: dict[bool, Tensor] = {}
    try:
        for _ in range(_TURNS):
            for layer.kernels in taken:
                began = clock()
                made[layer.kernels] = layer(*given)[0]
                taken[layer.kernels].append(clock() - began)
    finally:
        layer.kernels = before
    # What the layer adds to its input is compared: of the sum a fault would be a small part.
    plain, fused = ((result - given[1]).float() for result in (made[False], made[True]))
    if float((plain - fused).norm()) > 0.02 * float(plain.norm()) + 1e-6:
        logger.warning("Triton's kernels compute something else here; they are not used.")
        return 0.0
    # The first turn compiles.
    slow, fast = (statistics.median(taken[kernels][1:]) for kernels in (False, True))
    return slow / max(fast, 1e-9)


def _clock(device: torch.device) -> Callable[[], float]:
    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def _device(leaves: list[Any]) -> torch.device:
    return next(leaf.device for leaf in leaves if isinstance(leaf, Tensor))


def _autocast(leaves: list[Any]) -> Any:
    kind = _device(leaves).type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
