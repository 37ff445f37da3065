"""ComfyUI's own VAE, CLIP vision and audio encoder in the places of the ``base`` preset's, so that nobody loads twice.

They hold no weights of ours: ComfyUI's objects manage their own memory when they are called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from einops import rearrange
from torch import nn

from ....mcdm_core.config import MCDMConfig
from ....mcdm_core.errors import WeightsError
from ....mcdm_core.model import GivenComponents
from ....mcdm_core.models.audio_encoder import AudioEncoder
from ....mcdm_core.models.vae import Autoencoder

if TYPE_CHECKING:
    from comfy.audio_encoders.audio_encoders import AudioEncoderModel
    from comfy.clip_vision import ClipVisionModel
    from comfy.sd import VAE


Loan = TypeVar("Loan")


class _Borrowed(nn.Module, Generic[Loan]):
    """A module without weights around a ComfyUI object, which is no child of it."""

    def __init__(self, loan: Loan) -> None:
        super().__init__()
        self._loan = (loan,)

    @property
    def loan(self) -> Loan:
        """The ComfyUI object."""
        return self._loan[0]


class BorrowedVAE(_Borrowed["VAE"], Autoencoder):
    """A Stable Diffusion VAE; ComfyUI's encoder gives unscaled latents, so scaling is done here."""

    def __init__(self, vae: VAE, config: MCDMConfig) -> None:
        super().__init__(vae)
        self.scale = config.vae.scaling_factor
        channels = getattr(vae, "latent_channels", config.vae.latent_channels)
        if channels != config.vae.latent_channels:
            raise WeightsError(
                f"The connected VAE has {channels} latent channels, the model expects {config.vae.latent_channels}. "
                "Connect a Stable Diffusion 1.5 VAE."
            )

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures [b, 3, h, w] in [-1, 1] to scaled latents."""
        latents = self.loan.encode(rearrange((x / 2 + 0.5).clamp(0, 1), "n c h w -> n h w c"))
        return latents.to(x) * self.scale

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Scaled latents to pictures in [-1, 1]."""
        return rearrange(self.loan.decode(latents / self.scale), "n h w c -> n c h w").to(latents) * 2 - 1


class BorrowedCLIPVision(_Borrowed["ClipVisionModel"]):
    """CLIP ViT-L from ComfyUI's Load CLIP Vision."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Pictures [b, 3, h, w] in [-1, 1] to all tokens of the last layer [b, k, d]."""
        output = self.loan.encode_image(rearrange((image / 2 + 0.5).clamp(0, 1), "n c h w -> n h w c"))
        return output["last_hidden_state"].to(image)


class BorrowedAudioEncoder(_Borrowed["AudioEncoderModel"], AudioEncoder):
    """Wav2Vec 2.0 from ComfyUI's Load Audio Encoder, resampled from its 50 Hz to the video's rate."""

    def frame_windows(self, waveform: torch.Tensor, sample_rate: int, fps: float, num_frames: int) -> torch.Tensor:
        """Features at the middle of every video frame, [num_frames, d, 1].

        The voice is normalised here: ComfyUI does so for the large model only.
        """
        voice = waveform.float().cpu()
        voice = (voice - voice.mean()) / (voice.std(correction=0) + 1e-7)
        features = self.loan.encode_audio(voice[None, None], sample_rate)["encoded_audio"][0].float()
        middle = (torch.arange(num_frames, dtype=torch.float64) + 0.5) / fps * 16_000
        position = ((middle - 200) / 320).clamp(0, len(features) - 1).to(features.device)
        low = position.floor().long()
        high = (low + 1).clamp_max(len(features) - 1)
        return torch.lerp(features[low], features[high], (position - low).to(features)[:, None])[..., None]

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """[n, d, 1] to tokens [n, 1, d]."""
        return windows.transpose(1, 2)


def borrowing_sockets(config: MCDMConfig) -> dict[str, str]:
    """Component to the socket of Load MCDM Model that can supply it, for components that are stock networks."""
    stock = {
        "vae": ("vae", config.vae.layout == "stable_diffusion"),
        "image_encoder": ("clip_vision", config.image_encoder.kind == "clip"),
        "audio_encoder": ("audio_encoder", config.audio_encoder.kind == "wav2vec2"),
    }
    return {component: socket for component, (socket, takes) in stock.items() if takes}


def borrowed_components(
    config: MCDMConfig,
    vae: VAE | None = None,
    clip_vision: ClipVisionModel | None = None,
    audio_encoder: AudioEncoderModel | None = None,
) -> GivenComponents:
    """Replacements by component name.

    Raises:
        WeightsError: for sockets connected to a model that has its own small encoders.
    """
    given = {"vae": vae, "clip_vision": clip_vision, "audio_encoder": audio_encoder}
    takes = borrowing_sockets(config)
    used = [name for name, value in given.items() if value is not None and name not in takes.values()]
    if used:
        raise WeightsError(
            f"The model {config.preset!r} has its own encoders; disconnect {', '.join(used)} (they are for base)."
        )
    parts = GivenComponents()
    if vae is not None:
        parts["vae"] = BorrowedVAE(vae, config)
    if clip_vision is not None:
        parts["image_encoder"] = BorrowedCLIPVision(clip_vision)
    if audio_encoder is not None:
        parts["audio_encoder"] = BorrowedAudioEncoder(audio_encoder)
    return parts
