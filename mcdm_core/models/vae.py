"""Image autoencoders: Stable Diffusion's (``base``) and a compact one (``tiny``; section 3.1).

The paper works in the latent space of Stable Diffusion's autoencoder. The ``tiny`` preset has its own. No layer runs at
full resolution (a pixel unshuffle comes first, a pixel shuffle last), so a 128 px frame costs milliseconds on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor, nn

from ..config import MCDMConfig
from ..errors import MCDMError, PackageError

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions on a residual; ``[b, c, h, w] -> [b, c, h, w]``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the two convolutions see to ``x``."""
        silu = nn.functional.silu
        return x + self.second(silu(self.first(silu(x))))


class Autoencoder(nn.Module):
    """What the pipeline asks of an autoencoder; ``forward`` encodes and decodes."""

    def encode(self, x: Tensor) -> Tensor:
        """Latents ``[b, c, h, w]``, about normal, of pictures ``[b, 3, H, W]`` in [-1, 1]."""
        raise NotImplementedError

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures ``[b, 3, H, W]``, about in [-1, 1], of latents ``[b, c, h, w]``."""
        raise NotImplementedError

    def in_tiles(self) -> bool:
        """Work in tiles from now on, with less memory; tells whether that changed anything."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        """Encode and decode."""
        return self.decode(self.encode(x))


class TinyAutoencoder(Autoencoder):
    """Deterministic autoencoder with ``latent_channels`` at an eighth of the resolution.

    Latents that leave :meth:`encode` have mean 0 and standard deviation 1 a channel over the training pictures. The
    buffers ``latent_mean`` and ``latent_std`` are measured once (:meth:`measure_latents`) and stored with the weights.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        vae = config.vae
        widths, counts, latent = vae.block_channels, vae.blocks_per_level, vae.latent_channels
        if vae.downscale != 2 ** len(widths):
            raise MCDMError(
                f"A TinyAutoencoder of {len(widths)} levels scales by {2 ** len(widths)}, but the configuration says "
                f"downscale={vae.downscale}; change block_channels or downscale."
            )
        self.downscale = vae.downscale
        encoder: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(12, widths[0], 3, padding=1)]
        for level, (width, count) in enumerate(zip(widths, counts, strict=True)):
            encoder += [ResidualBlock(width) for _ in range(count)]
            if level + 1 < len(widths):
                encoder.append(nn.Conv2d(width, widths[level + 1], 4, stride=2, padding=1))
        encoder += [nn.SiLU(), nn.Conv2d(widths[-1], latent, 1)]
        decoder: list[nn.Module] = [nn.Conv2d(latent, widths[-1], 3, padding=1)]
        for level in reversed(range(len(widths))):
            width = widths[level]
            decoder += [ResidualBlock(width) for _ in range(counts[level])]
            if level > 0:
                below = widths[level - 1]
                decoder += [nn.Conv2d(width, below * 4, 1), nn.PixelShuffle(2)]
                decoder.append(nn.Conv2d(below, below, 3, padding=1))
        decoder += [nn.SiLU(), nn.Conv2d(widths[0], 12, 3, padding=1), nn.PixelShuffle(2)]
        self.encoder = nn.Sequential(*encoder)
        self.decoder = nn.Sequential(*decoder)
        self.register_buffer("latent_mean", torch.zeros(latent))
        self.register_buffer("latent_std", torch.ones(latent))

    def encode(self, x: Tensor) -> Tensor:
        """Normalised latents of pictures.

        Args:
            x: ``[b, 3, H, W]`` in [-1, 1], H and W multiples of ``downscale``.

        Returns:
            ``[b, c, H / downscale, W / downscale]``, about normal.

        Raises:
            MCDMError: if a side is not a multiple of ``downscale``.
        """
        if x.shape[-1] % self.downscale or x.shape[-2] % self.downscale:
            raise MCDMError(
                f"A picture of {x.shape[-1]}x{x.shape[-2]} cannot be encoded: both sides must be multiples of "
                f"{self.downscale}; resize or pad it."
            )
        raw = self.encoder(x)
        return (raw - self._shape(self.latent_mean, raw)) / self._shape(self.latent_std, raw)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures ``[b, 3, H, W]``, about in [-1, 1] (not clamped), of normalised latents ``[b, c, h, w]``."""
        std, mean = self._shape(self.latent_std, latents), self._shape(self.latent_mean, latents)
        return self.decoder(latents * std + mean)

    @torch.no_grad()
    def measure_latents(self, pictures: Tensor, batch_size: int = 64) -> None:
        """Set the normalisation from ``pictures`` ``[n, 3, H, W]`` in [-1, 1]."""
        raw = torch.cat([self.encoder(part) for part in pictures.split(batch_size)])
        values = rearrange(raw, "n c h w -> c (n h w)")
        self.latent_mean.copy_(values.mean(1))
        self.latent_std.copy_(values.std(1).clamp_min(1e-6))

    @staticmethod
    def _shape(buffer: Tensor, like: Tensor) -> Tensor:
        return buffer.to(device=like.device, dtype=like.dtype).view(1, -1, 1, 1)


class StableDiffusionAutoencoder(Autoencoder):
    """Stable Diffusion 1.5's autoencoder behind the same two methods (section 3.1; the ``base`` preset)."""

    def __init__(self, config: MCDMConfig, autoencoder: AutoencoderKL | None = None) -> None:
        """Wrap ``autoencoder`` (a diffusers ``AutoencoderKL``), or build one of SD 1.5's shape with random weights.

        Raises:
            PackageError: if it is to be built and diffusers is not installed.
        """
        super().__init__()
        if autoencoder is None:
            try:
                from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
            except ImportError as error:
                raise PackageError(
                    "Stable Diffusion's autoencoder of the base preset needs the package diffusers; install it, or use "
                    "the tiny preset."
                ) from error
            # diffusers annotates these tuples as if they had one element.
            autoencoder = AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * len(config.vae.stock_channels),  # pyright: ignore[reportArgumentType]
                up_block_types=("UpDecoderBlock2D",) * len(config.vae.stock_channels),  # pyright: ignore[reportArgumentType]
                block_out_channels=config.vae.stock_channels,  # pyright: ignore[reportArgumentType]
                layers_per_block=2,
                norm_num_groups=config.vae.norm_groups,
                latent_channels=config.vae.latent_channels,
                sample_size=config.image_size,
            )
        self.autoencoder = autoencoder
        self.downscale = config.vae.downscale
        self.tile_side = config.image_size // 2
        self.scaling_factor = config.vae.scaling_factor

    def in_tiles(self) -> bool:
        """Tiles of half of the side, which overlap by a quarter and fade into each other.

        Normalisations see a tile alone, so pictures are no longer quite the same.
        """
        if self.autoencoder.use_tiling:
            return False
        self.autoencoder.enable_tiling()
        self.autoencoder.tile_sample_min_size = max(self.tile_side, self.downscale)
        self.autoencoder.tile_latent_min_size = self.autoencoder.tile_sample_min_size // self.downscale
        return True

    def encode(self, x: Tensor) -> Tensor:
        """Mean of the posterior, scaled: ``[b, 3, H, W]`` in [-1, 1] to ``[b, c, H / 8, W / 8]``."""
        return self.autoencoder.encode(x, return_dict=False)[0].mode() * self.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures ``[b, 3, H, W]`` of scaled latents."""
        return self.autoencoder.decode(latents / self.scaling_factor, return_dict=False)[0]  # pyright: ignore[reportArgumentType] it takes any Tensor


def build_autoencoder(config: MCDMConfig) -> Autoencoder:
    """The autoencoder whose layout the configuration asks for.

    Raises:
        MCDMError: for an unknown ``vae.layout``.
    """
    if config.vae.layout == "stable_diffusion":
        return StableDiffusionAutoencoder(config)
    if config.vae.layout == "compact":
        return TinyAutoencoder(config)
    raise MCDMError(f"vae.layout is {config.vae.layout!r}; expected 'stable_diffusion' or 'compact'.")
