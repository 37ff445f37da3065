"""Present-clip motion prior: a diffusion model over a clip's motion tokens (paper 3.3, appendix B.2).

First predict motion, then pixels. A frame's tokens are [multimodal, timestep, head, lip, expression]. Each of L layers
has a multimodal block, where tokens of one frame see each other. Its temporal interaction block lets a token see itself
over time. They denoise head, lip and expression tokens. The previous clip's last frames stand un-noised before the clip
on the temporal axis, so that a video goes on without a seam.

The model returns the noise, as in the paper. Inside, the layers' output v enters it as ``sigma z + alpha v`` (z the
noisy tokens, alpha and sigma their signal and noise). This preconditioning keeps input and target at unit variance for
every noise level. The MSE to the noise is then the MSE to the ideal v times alpha squared; training divides by it.

A choice of ours, a switch (``persistence``). Where the noise hides everything, the estimate begins from linear guesses.
They are the known past for all streams (:class:`.KnownPast`) and the sound for the lips (or all, ``sound_path``).
Around them lies a variance, ``prior_variance`` or one fitted for every frame and feature; the layers have only the rest
to learn. Without the switch only the sound's path is there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import MCDMConfig
from ..diffusion.parameterization import implied_noise, to_denoised
from ..diffusion.sampling import Callback, Denoise, classifier_free_guidance, ddim_sample
from ..diffusion.schedule import NoiseSchedule
from ..errors import MCDMError
from .inputs.known_past import KnownPast
from .inputs.motion_noise import by_stream, motion_noise
from .layers.attention import SelfAttention
from .layers.token_transformer import FeedForward, sinusoidal_embedding


class MultimodalFiLM(nn.Module):
    """Feature-wise scale and shift of the audio tokens by the reference image: the multimodal tokens.

    ``image_tokens`` tells how many image tokens are read one beside the other; 0 reads their mean, however many.
    """

    def __init__(self, audio_dim: int, image_dim: int, width: int, image_tokens: int = 0) -> None:
        super().__init__()
        self.joined = image_tokens > 0
        image_dim *= max(1, image_tokens)
        self.audio = nn.Linear(audio_dim, width)
        self.norm = nn.LayerNorm(image_dim)
        self.modulation = nn.Linear(image_dim, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, audio: Tensor, image: Tensor) -> Tensor:
        """``audio [b, f, k, da]`` and ``image [b, ki, di]`` (repeated over time) to ``[b, f, k, width]``."""
        seen = self.norm(image.flatten(1)) if self.joined else self.norm(image).mean(1)
        scale, shift = self.modulation(seen)[:, None, None].chunk(2, dim=-1)
        return self.audio(audio) * (1 + scale) + shift


class MultimodalBlock(nn.Module):
    """DiT-style transformer block over the tokens of one frame; frames are folded into the batch."""

    def __init__(self, width: int, num_heads: int, ratio: float) -> None:
        super().__init__()
        self.attention = SelfAttention(width, num_heads)
        self.feed_forward = FeedForward(width, ratio)

    def forward(self, x: Tensor) -> Tensor:
        """``[b, f, n, width]`` to the same."""
        y = rearrange(x, "b f n c -> (b f) n c")
        y = y + self.attention(y)
        y = y + self.feed_forward(y)
        return rearrange(y, "(b f) n c -> b f n c", b=len(x))


class TemporalInteractionBlock(nn.Module):
    """Self-attention along time; tokens are folded into the batch. Its output projection zero, it does nothing."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attention = SelfAttention(width, num_heads)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """``x [b, f, n, width]``, ``position [f, width]``; returns ``[b, f, n, width]``."""
        y = self.attention(rearrange(x, "b f n c -> (b n) f c"), position=position)
        return x + rearrange(y, "(b n) f c -> b f n c", b=len(x))


class PresentClipPrior(nn.Module):
    """Motion diffusion model of one clip."""

    alphas_cumprod: Tensor
    variance: Tensor | None
    closed_lids: Tensor

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        prior, codec = config.present_clip_prior, config.motion_codec
        if prior.prediction_type not in ("epsilon", "v_prediction"):
            raise MCDMError(
                f"present_clip_prior.prediction_type is {prior.prediction_type!r}; use 'epsilon' or 'v_prediction'."
            )
        self.config = config
        width = prior.width
        self.width = width
        self.head_tokens, self.lip_tokens = codec.head_tokens, codec.lip_tokens
        self.motion_tokens = codec.head_tokens + codec.lip_tokens + codec.expression_tokens
        audio_tokens = config.audio_encoder.tokens_per_frame
        # The codec's tokens of the reference are few and each has its meaning; others are read by their mean.
        self.reads_motion = config.image_encoder.kind == "codec"
        self.film = MultimodalFiLM(
            config.audio_encoder.feature_dim,
            config.image_encoder.feature_dim,
            width,
            image_tokens=self.motion_tokens if self.reads_motion else 0,
        )
        self.null_audio = nn.Parameter(torch.zeros(audio_tokens, config.audio_encoder.feature_dim))
        self.time_inner = nn.Linear(width, width)
        self.time_outer = nn.Linear(width, width)
        self.embed = nn.Linear(codec.motion_dim, width)
        self.token_types = nn.Parameter(torch.empty(audio_tokens + 1 + self.motion_tokens, width).normal_(std=0.1))
        self.known = nn.Parameter(torch.zeros(width))
        self.multimodal_blocks = nn.ModuleList(
            MultimodalBlock(width, prior.num_heads, prior.mlp_ratio) for _ in range(prior.num_layers)
        )
        self.temporal_blocks = nn.ModuleList(
            TemporalInteractionBlock(width, prior.num_heads) for _ in range(prior.num_layers)
        )
        self.position = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        # A linear path from the sound, to the lips at least, strongest where the noise hides all else (zero until
        # trained).
        sound_width = audio_tokens * config.audio_encoder.feature_dim
        lips = slice(codec.head_tokens, codec.head_tokens + codec.lip_tokens)
        self.audio_driven = {"lip": lips, "all": slice(0, self.motion_tokens)}[prior.sound_path]
        reached = self.audio_driven.stop - self.audio_driven.start
        self.direct = nn.Linear(sound_width, reached * codec.motion_dim, bias=False)
        nn.init.zeros_(self.direct.weight)
        shape = (config.clip_frames, self.motion_tokens, codec.motion_dim)
        self.past = KnownPast(*shape) if prior.persistence else None
        # Variance around the guesses, by frame of the clip and feature.
        variance = torch.full(shape, prior.prior_variance) if prior.fitted_variance else None
        self.register_buffer("variance", variance)
        # What closed lids add to the expression tokens of open ones, fitted to the training's clips (motion/blinks.py).
        self.register_buffer("closed_lids", torch.zeros(codec.expression_tokens, codec.motion_dim))
        self.correlation = by_stream(prior.noise_correlation, codec)
        self.noise_scale = by_stream(prior.noise_scale, codec)
        self.schedule = NoiseSchedule(prior.num_train_timesteps)
        self.register_buffer("alphas_cumprod", self.schedule.alphas_cumprod, persistent=False)
        self.output = nn.ParameterDict(
            {
                "weight": nn.Parameter(torch.zeros(self.motion_tokens, width, codec.motion_dim)),
                "bias": nn.Parameter(torch.zeros(self.motion_tokens, codec.motion_dim)),
            }
        )

    def forward(
        self,
        noisy: Tensor,
        timestep: Tensor,
        audio: Tensor,
        image: Tensor,
        head: Tensor | None = None,
        context: Tensor | None = None,
        context_audio: Tensor | None = None,
        drop_audio: Tensor | None = None,
        head_given: Tensor | None = None,
    ) -> Tensor:
        """Predict the added noise (or v, where the configuration's ``prediction_type`` is ``v_prediction``).

        Args:
            noisy: ``[b, f, nq, dm]``, noised normalised motion tokens in the order head, lip, expression.
            timestep: ``[b]``, integers of the training schedule.
            audio: ``[b, f, k, da]``; image: ``[b, ki, di]``, tokens of the reference.
            head: ``[b, f, nh, dm]``, head tokens of a driver; they replace the noised ones and are not predicted.
            context: ``[b, c, nq, dm]``, un-noised tokens of the frames right before the clip.
            context_audio: ``[b, c, k, da]``; None means unknown (the learned null token).
            drop_audio: boolean ``[b]``, True where the audio is replaced by the null token (guidance).
            head_given: boolean ``[b]``, samples for which ``head`` counts; None means all. For training batches.

        Returns:
            ``[b, f, nq, dm]``; zeros for head tokens that were given.
        """
        batch, frames = noisy.shape[:2]
        if frames > self.config.present_clip_prior.max_frames:
            raise MCDMError(f"a clip may have {self.config.present_clip_prior.max_frames} frames, got {frames}")
        given = torch.zeros(batch, dtype=torch.bool, device=noisy.device)
        if head is not None:
            given = torch.ones_like(given) if head_given is None else head_given
            number = self.head_tokens
            mixed = torch.where(given[:, None, None, None], head, noisy[:, :, :number])
            noisy = torch.cat([mixed, noisy[:, :, number:]], dim=2)
        audio = self._drop(audio, drop_audio)
        from_audio = self.direct(audio.flatten(2)).unflatten(2, (self.audio_driven.stop - self.audio_driven.start, -1))
        motion = self.embed(noisy)
        flag = given[:, None, None, None] * self.known
        motion = torch.cat([motion[:, :, : self.head_tokens] + flag, motion[:, :, self.head_tokens :]], dim=2)
        time = timestep[:, None].expand(-1, frames)
        start = 0
        if context is not None:
            start = context.shape[1]
            if context_audio is None:
                context_audio = self.null_audio.expand(batch, start, -1, -1)
            else:
                context_audio = self._drop(context_audio, drop_audio)
            audio = torch.cat([context_audio, audio], dim=1)
            motion = torch.cat([self.embed(context) + self.known, motion], dim=1)
            time = torch.cat([time.new_zeros(batch, start), time], dim=1)
        time_token = sinusoidal_embedding(time, self.width).to(motion.dtype)
        time_token = self.time_outer(F.silu(self.time_inner(time_token)))[:, :, None]
        x = torch.cat([self.film(audio, image), time_token, motion], dim=2) + self.token_types
        # The clip's first frame is position 0, context frames are negative.
        index = torch.arange(-start, frames, device=x.device)
        position = self.position(sinusoidal_embedding(index, self.width).to(x.dtype))
        for within, across in zip(self.multimodal_blocks, self.temporal_blocks, strict=True):
            x = across(within(x), position)
        x = self.norm(x[:, start:, -self.motion_tokens :])
        out = torch.einsum("bfnd,nde->bfne", x, self.output["weight"]) + self.output["bias"]
        alpha_squared = self.alphas_cumprod[timestep][:, None, None, None].to(out.dtype)
        guess = torch.zeros_like(out)
        guess[:, :, self.audio_driven] = from_audio
        if self.past is not None:
            if context is not None:
                # Other image tokens say nothing of the portrait's motion.
                reference = image if self.reads_motion else context[:, -1]
                guess = guess + self.past(context, reference, frames)
            out = self._around(guess, out, noisy, alpha_squared)
        else:
            # The clean tokens' estimate is alpha z - sigma v: the sound's part enters it times sigma to the fourth.
            out = out - (1 - alpha_squared) ** 1.5 * guess
        if self.config.present_clip_prior.prediction_type == "epsilon":
            out = (1 - alpha_squared).sqrt() * noisy + alpha_squared.sqrt() * out
        if head is None:
            return out
        keep = (~given)[:, None, None, None].to(out.dtype)
        return torch.cat([out[:, :, : self.head_tokens] * keep, out[:, :, self.head_tokens :]], dim=2)

    def _around(self, guess: Tensor, out: Tensor, noisy: Tensor, alpha_squared: Tensor) -> Tensor:
        """The v whose estimate is the posterior mean of a Gaussian around ``guess`` plus ``out`` posterior deviations.

        The posterior is :func:`~mcdm_core.diffusion.parameterization.posterior` with its mean written as a weighted
        sum of ``noisy`` and ``guess``, which is exact where alpha is next to nothing.
        """
        variance, noise = self.config.present_clip_prior.prior_variance, 1 - alpha_squared
        if self.variance is not None:
            rows = torch.arange(out.shape[1], device=out.device).clamp_max(len(self.variance) - 1)
            variance = self.variance[rows]
        alpha, sigma, total = alpha_squared.sqrt(), noise.sqrt(), alpha_squared * variance + noise
        denoised = (alpha * variance * noisy + noise * guess) / total + (variance * noise / total) ** 0.5 * out
        return (alpha * noisy - denoised) / sigma

    def alpha_sigma(self, timestep: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t and sigma_t ``[b, 1, 1, 1]`` of ``timestep [b]``, in the type of ``like``."""
        alpha_squared = self.alphas_cumprod[timestep][:, None, None, None].to(like.dtype)
        return alpha_squared.sqrt(), (1 - alpha_squared).sqrt()

    def denoised(self, out: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        """Clean tokens from what :meth:`forward` returned for ``noisy [b, f, nq, dm]`` at ``timestep [b]``."""
        alpha, sigma = self.alpha_sigma(timestep, out)
        velocity = out
        if self.config.present_clip_prior.prediction_type == "epsilon":
            velocity = (out - sigma * noisy) / alpha
        return alpha * noisy - sigma * velocity

    def _drop(self, audio: Tensor, drop: Tensor | None) -> Tensor:
        if drop is None:
            return audio
        return torch.where(drop[:, None, None, None], self.null_audio, audio)

    @torch.no_grad()
    def predict(
        self,
        audio: Tensor,
        image: Tensor,
        context: Tensor,
        context_audio: Tensor | None = None,
        head: Tensor | None = None,
        steps: int = 25,
        guidance: float = 1.0,
        temperature: float = 1.0,
        clip_frames: int | None = None,
        generator: torch.Generator | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Sample the motion of any number of frames, clip by clip, by DDIM.

        Args:
            audio: ``[b, N, k, da]``; image: ``[b, ki, di]``.
            context: ``[b, c, nq, dm]``, motion before the first frame; at a video's start the reference's tokens,
                repeated. The last ``context_frames`` of it are used, fewer are repeated.
            context_audio: ``[b, c, k, da]`` or None.
            head: ``[b, N, nh, dm]``, a driver's head tokens, or None.
            steps: denoising steps a clip; guidance: classifier-free guidance on the audio, 1 switches it (and its
                cost) off; temperature: of the initial noise, beside the configuration's ``noise_scale``; 0 gives the
                most typical motion, the same for every seed.
            generator: source of the noise, on the CPU; the same seed gives the same motion.
            callback: called with (done, total, tokens so far of this clip) after every step; may raise to stop.

        Returns:
            ``[b, N, nq, dm]`` normalised motion tokens.
        """
        batch, number = audio.shape[:2]
        clip = clip_frames or self.config.clip_frames
        wanted = self.config.present_clip_prior.context_frames
        clips = -(-number // clip)
        timesteps = self.schedule.timesteps(steps)
        scale = temperature * self.noise_scale.to(context)
        parts: list[Tensor] = []
        context = _last(context, wanted)
        if context_audio is not None:
            context_audio = _last(context_audio, wanted)
        for index in range(clips):
            span = slice(index * clip, min(number, (index + 1) * clip))
            sound, driver = audio[:, span], None if head is None else head[:, span]
            shape = (batch, sound.shape[1], self.motion_tokens, context.shape[-1])
            noise = motion_noise(shape, self.correlation, generator).to(context)
            predict = self._guided(sound, image, driver, context, context_audio, guidance)

            def report(done: int, _: int, tokens: Tensor, before: int = index * steps) -> None:
                if callback is not None:
                    callback(before + done, clips * steps, tokens)

            sample = ddim_sample(predict, noise * scale, timesteps, self.schedule, report)
            if driver is not None:
                sample = torch.cat([driver, sample[:, :, self.head_tokens :]], dim=2)
            parts.append(sample)
            context = _last(torch.cat([context, sample], dim=1), wanted)
            known = self.null_audio.expand(batch, wanted, -1, -1) if context_audio is None else context_audio
            context_audio = _last(torch.cat([known, sound], dim=1), wanted)
        return torch.cat(parts, dim=1)

    def _guided(
        self,
        audio: Tensor,
        image: Tensor,
        head: Tensor | None,
        context: Tensor,
        context_audio: Tensor | None,
        guidance: float,
    ) -> Denoise:
        """The sampler's view of this network; with guidance it evaluates twice, the audio dropped in the second."""

        def denoise(x: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
            time = torch.full((len(x),), int(timestep), device=x.device)  # copied from the host it would wait for a GPU
            if guidance == 1.0:
                out = self(x, time, audio, image, head, context, context_audio)
            else:
                twice = [None if t is None else torch.cat([t, t]) for t in (x, time, audio, image, head, context)]
                sound = None if context_audio is None else torch.cat([context_audio, context_audio])
                drop = torch.arange(2 * len(x), device=x.device) >= len(x)
                with_sound, without = self(*twice, context_audio=sound, drop_audio=drop).chunk(2)
                out = classifier_free_guidance(with_sound, without, guidance)
            alpha, sigma = self.schedule.alpha_sigma(timestep, x)
            kind = self.config.present_clip_prior.prediction_type
            denoised = to_denoised(out, x, alpha, sigma, kind)
            return denoised, out if kind == "epsilon" else implied_noise(x, denoised, alpha, sigma)

        return denoise


def _last(tokens: Tensor, number: int) -> Tensor:
    """The last ``number`` frames of ``[b, c, ...]``; a shorter one repeats its first frame in front."""
    missing = number - tokens.shape[1]
    if missing > 0:
        tokens = torch.cat([tokens[:, :1].expand(-1, missing, *tokens.shape[2:]), tokens], dim=1)
    return tokens[:, tokens.shape[1] - number :]
