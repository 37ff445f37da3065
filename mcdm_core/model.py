"""All networks of one MCDM model in one module; its state dict's keys are those of the weight files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .config import MCDMConfig
from .errors import PackageError, WeightsError
from .face.reading.face_network import FaceNetwork
from .models.archived_clip_prior import ArchivedClipPrior
from .models.audio_encoder import AudioEncoder, build_audio_encoder
from .models.image_encoder import build_image_encoder
from .models.motion_codec import MotionCodec
from .models.part_decoder import PartDecoder
from .models.present_clip_prior import PresentClipPrior
from .models.unet import DenoisingUNet
from .models.vae import Autoencoder, build_autoencoder


class GivenComponents(TypedDict, total=False):
    """Networks that a host application lends in place of the configuration's."""

    vae: Autoencoder
    audio_encoder: AudioEncoder
    image_encoder: nn.Module


_DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)


class _WithoutDraws(TorchFunctionMode):
    """Leaves out random numbers, where weights are at hand that take their place.

    An outline on the meta device has none, and asking for them imports torch's compiler.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


class MCDMModel(nn.Module):
    """The components by name: ``vae``, ``face_network``, ``motion_codec``, ``audio_encoder``, ``image_encoder``,
    ``present_clip_prior``, ``archived_clip_prior``, ``unet``, and ``part_decoder`` where the configuration has one.

    Args:
        config: of the whole model.
        given: networks used in place of the configuration's, which are then never built.

    Attributes:
        compute_device: set by a host application that keeps some of the weights elsewhere, else None.
        picture_format: of the products in the autoencoder and the UNet (``pipeline/run/number_format.py``).
    """

    compute_device: torch.device | None = None
    picture_format: torch.dtype = torch.float32

    def __init__(self, config: MCDMConfig, given: GivenComponents | None = None) -> None:
        super().__init__()
        self.config = config
        given = given or GivenComponents()
        self.vae: Autoencoder = given["vae"] if "vae" in given else build_autoencoder(config)
        self.part_decoder = PartDecoder(config) if config.part_decoder.block_channels else None
        self.face_network = FaceNetwork(config)
        self.motion_codec = MotionCodec(config)
        self.audio_encoder: AudioEncoder = (
            given["audio_encoder"] if "audio_encoder" in given else build_audio_encoder(config)
        )
        self.image_encoder: nn.Module = (
            given["image_encoder"] if "image_encoder" in given else build_image_encoder(config)
        )
        self.present_clip_prior = PresentClipPrior(config)
        self.archived_clip_prior = ArchivedClipPrior(config)
        self.unet = DenoisingUNet(config)

    @classmethod
    def from_states(cls, config: MCDMConfig, states: Mapping[str, Mapping[str, Tensor]]) -> MCDMModel:
        """A model of the tensors at hand, which become its weights: nothing is drawn, and nothing copied.

        Args:
            states: state dict by component, of all of them; floating tensors of other types become float32.

        Raises:
            WeightsError: if a component is missing or does not fit the configuration.
        """
        cls.check_fit(config, states)
        with _WithoutDraws():
            model = cls(config)
        whole = {name: {key: _single(value) for key, value in state.items()} for name, state in states.items()}
        model.load_states(whole, assign=True)
        return model

    def states(self) -> dict[str, dict[str, Tensor]]:
        """State dict of every component."""
        return {name: child.state_dict() for name, child in self.named_children()}

    def load_states(
        self, states: Mapping[str, Mapping[str, Tensor]], *, allow_missing: bool = False, assign: bool = False
    ) -> list[str]:
        """Load components.

        Args:
            states: state dict by component.
            allow_missing: leave components without weights as they are (training in progress).
            assign: the tensors themselves become the weights; else they are copied.

        Returns:
            Names of the components left as they were.

        Raises:
            WeightsError: if a component is missing or does not fit the configuration.
        """
        missing = [name for name, _ in self.named_children() if name not in states]
        if missing and not allow_missing:
            raise WeightsError(f"The weights lack {', '.join(missing)}; train or bundle those components first.")
        for name, child in self.named_children():
            if name not in states:
                continue
            try:
                child.load_state_dict(dict(states[name]), assign=assign)
            except RuntimeError as error:
                raise WeightsError(f"The weights of {name} do not fit the configuration: {error}") from error
        return missing

    @classmethod
    def check_fit(
        cls,
        config: MCDMConfig,
        states: Mapping[str, Mapping[str, Tensor]],
        given: GivenComponents | None = None,
    ) -> None:
        """Compare the sizes that a configuration asks for with those of the tensors at hand, before either is built.

        A file of some kilobytes could otherwise ask for hundreds of gigabytes.

        Raises:
            WeightsError: if a component's do not agree, or the configuration describes no model.
        """
        try:
            with torch.device("meta"), _WithoutDraws():
                outline = cls(config, given)
        except PackageError:
            raise
        except Exception as error:  # whatever a layer says of sizes that do not go together
            raise WeightsError(
                f"The weights' configuration describes no model ({error}). Get the file again."
            ) from error
        for name, child in outline.named_children():
            if name not in states or name in (given or {}):
                continue
            wanted = {key: tuple(tensor.shape) for key, tensor in child.state_dict().items()}
            own_names = getattr(child, "own_names", dict)
            given_state = own_names(states[name])
            for key, shape in wanted.items():
                have = given_state.get(key)
                if have is None or tuple(have.shape) != shape:
                    found = "missing" if have is None else f"{list(have.shape)}"
                    raise WeightsError(
                        f"The weights of {name} do not fit the configuration: {key} is {found}, expected {list(shape)}."
                    )

    @property
    def device(self) -> torch.device:
        """Where it computes: :attr:`compute_device`, or where the weights are."""
        return self.compute_device or next(self.unet.parameters()).device

    def products(self) -> contextlib.AbstractContextManager[Any]:
        """Where products of pictures are computed in :attr:`picture_format`; elsewhere nothing changes."""
        if self.picture_format == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.picture_format)


def _single(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
