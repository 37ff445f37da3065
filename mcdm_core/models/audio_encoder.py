"""Audio encoders: sound to one group of tokens a video frame (paper 3.3).

Video frame k belongs to the sound in [k/fps, (k+1)/fps). ``base`` uses a frozen Wav2Vec 2.0, the paper's. ``tiny`` has
a small convolutional network over log-mel windows, a third of a second to either side. It is trained with the prior.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import MCDMConfig
from ..errors import AudioError, FrameRateError, MCDMError, PackageError, WeightsError

if TYPE_CHECKING:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

_WEIGHT_NORM = (
    ("conv.weight_g", "conv.parametrizations.weight.original0"),
    ("conv.weight_v", "conv.parametrizations.weight.original1"),
)
WINDOW_SAMPLES = 400
"""Length of the spectra's window: 25 ms at 16 kHz."""
LOG_FLOOR = 7.0
"""Range kept below the utterance's loud level, in nepers of power (about 30 dB); quieter is silence."""
QUIETEST_LEVEL = -14.0
"""A recording silent throughout (log power near the clamp of 1e-10) stays silent instead of being lifted."""
LOUD_RANGE = 3.0
"""Frames within so many nepers of the loud level count as speech for the mean spectrum."""
MEAN_SPECTRUM = -1.5
"""Where the mean spectrum is moved to, in nepers under the loud level (about the mean of speech)."""


def check_waveform(waveform: Tensor, fps: float, num_frames: int) -> None:
    """Refuse sound no encoder can use.

    Raises:
        AudioError: if the waveform is not ``[t]`` of finite numbers with at least one sample.
        FrameRateError: if ``fps`` is not positive or ``num_frames`` below 1.
    """
    if waveform.dim() != 1 or waveform.numel() == 0:
        raise AudioError(f"audio must be one channel of samples [t], got shape {tuple(waveform.shape)}: mix it to mono")
    if not torch.isfinite(waveform).all():
        raise AudioError("the audio holds values that are not finite numbers: decode or export it again")
    if not fps > 0 or num_frames < 1:
        raise FrameRateError(f"frame rate and frame count must be positive, got {fps} and {num_frames}")


def _mels(hertz: Tensor) -> Tensor:
    """Slaney's mel scale: linear to 1 kHz, then 27 steps for every factor of 6.4."""
    above = 15 + 27 * (hertz.clamp_min(1.0) / 1000).log() / math.log(6.4)
    return torch.where(hertz < 1000, hertz * 3 / 200, above)


def _hertz(mels: Tensor) -> Tensor:
    """The inverse of :func:`_mels`."""
    above = 1000 * ((mels - 15) * math.log(6.4) / 27).exp()
    return torch.where(mels < 15, mels * 200 / 3, above)


@functools.lru_cache(maxsize=4)
def mel_filters(sample_rate: int, num_mels: int) -> Tensor:
    """Filter bank ``[num_mels, 201]``: triangles on Slaney's mel scale, of unit area.

    The same as librosa's, to which the tests hold it. Importing librosa takes as long as importing torch, and 170 MB.

    >>> mel_filters(16_000, 80).shape
    torch.Size([80, 201])
    """
    half = torch.tensor(sample_rate / 2, dtype=torch.float64)
    edges = _hertz(torch.linspace(0, 1, num_mels + 2, dtype=torch.float64) * _mels(half))
    bins = torch.linspace(0, 1, WINDOW_SAMPLES // 2 + 1, dtype=torch.float64) * half
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
    return (torch.minimum(rising, falling).clamp_min(0) * 2 / (right - left)).float()


def log_mel(waveform: Tensor, sample_rate: int, num_mels: int, hop_length: int, *, padded: bool = True) -> Tensor:
    """Natural logarithm of the mel power spectrum.

    Args:
        waveform: ``[..., t]``; sample_rate: in Hz; hop_length: in samples.
        padded: silence is added before and after; else the first column is that of the first ``WINDOW_SAMPLES``.

    Returns:
        ``[..., num_mels, t // hop_length + 1]``; column j is centred on sample ``j * hop_length``. float32 on the CPU.

    >>> log_mel(torch.rand(16_000), 16_000, num_mels=80, hop_length=160).shape
    torch.Size([80, 101])
    """
    samples = waveform.detach().float().cpu()
    window = torch.hann_window(WINDOW_SAMPLES)
    spectrum = torch.stft(
        samples, WINDOW_SAMPLES, hop_length, window=window, center=padded, pad_mode="constant", return_complex=True
    )
    power = torch.view_as_real(spectrum).square().sum(-1)
    return (mel_filters(sample_rate, num_mels) @ power).clamp_min(1e-10).log()


def normalize_level(mels: Tensor, balance: float = 0.0) -> Tensor:
    """Make log-mels independent of the recording's level and, in part, of the speaker's and microphone's colour.

    The reference level is the 95th percentile of the frames' power: loud speech, whatever the pauses. It enters as a
    mere offset, so a louder copy of a recording gives the same result.

    Args:
        mels: ``[..., num_mels, j]`` natural-log power, one utterance each.
        balance: share of the loud frames' mean spectrum that is taken off, in [0, 1].

    Returns:
        ``[..., num_mels, j]``, about [-1, 1]: -1 is :data:`LOG_FLOOR` nepers or more below the loud level (silence).
    """
    power = torch.logsumexp(mels, dim=-2)
    loud = torch.quantile(power, 0.95, dim=-1, keepdim=True)
    level = (loud - math.log(mels.shape[-2])).clamp_min(QUIETEST_LEVEL)
    relative = mels - level[..., None]
    if balance:
        counted = (power > loud - LOUD_RANGE).to(mels)[..., None, :]
        colour = (relative * counted).sum(-1, keepdim=True) / counted.sum(-1, keepdim=True).clamp_min(1.0)
        relative = relative - balance * (colour - MEAN_SPECTRUM)
    return (relative / LOG_FLOOR).clamp(-1.0, 1.0)


def gather_windows(mels: Tensor, centres: Tensor, width: int) -> Tensor:
    """Cut windows of ``width`` mel frames out of ``[num_mels, j]``, centred on ``centres [n]`` (in mel frames).

    Beyond the ends there is silence (-1). Returns ``[n, num_mels, width]``.

    >>> gather_windows(torch.rand(80, 50), torch.tensor([0.0, 25.0]), 30).shape
    torch.Size([2, 80, 30])
    """
    start = (centres - width / 2).round().long().to(mels.device)
    index = start[:, None] + torch.arange(width, device=mels.device)
    inside = (index >= 0) & (index < mels.shape[1])
    windows = mels[:, index.clamp(0, mels.shape[1] - 1)]
    padded = windows.where(inside, torch.full_like(windows[:1, :1, :1], -1.0))
    return rearrange(padded, "mels n w -> n mels w").contiguous()


class ChannelNorm(nn.Module):
    """Root-mean-square norm over the channels of ``[b, c, t]``, each moment on its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(1, keepdim=True) + 1e-6).rsqrt() * self.gain


class ContextBlock(nn.Module):
    """Residual dilated convolution without padding: ``[b, c, t]`` to ``[b, c, t - 2 dilation]``."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = ChannelNorm(channels)
        self.conv = nn.Conv1d(channels, channels, 3, dilation=dilation)
        self.project = nn.Conv1d(channels, channels, 1)
        nn.init.normal_(self.project.weight, std=0.3 / channels**0.5)
        assert self.project.bias is not None
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, self.dilation : -self.dilation] + self.project(F.silu(self.conv(self.norm(x))))


class AudioEncoder(nn.Module):
    """What the pipeline asks of an audio encoder; ``forward`` turns windows ``[n, c, w]`` into tokens ``[n, k, d]``."""

    def frame_windows(self, waveform: Tensor, sample_rate: int, fps: float, num_frames: int) -> Tensor:
        """One window ``[num_frames, c, w]`` for every video frame of a waveform ``[t]``."""
        raise NotImplementedError


class ContextAudioEncoder(AudioEncoder):
    """Convolutional encoder of log-mel windows, a third of a second to either side of a frame (``logmel_context``).

    No layer pads and none mixes moments in its norm. So a segment of speech goes through the convolutions once instead
    of window by window (:meth:`encode_segment`). Training costs a tenth.

    ``predict_values`` is a linear head from the tokens to the sixteen facial values. It is an auxiliary target in
    training only: it makes the tokens carry the mouth's shape long before the diffusion loss alone would.
    """

    STRIDE = 4

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        self.config = audio = config.audio_encoder
        width = audio.width
        self.value_head = nn.Linear(audio.tokens_per_frame * audio.feature_dim, config.motion_codec.num_values)
        reach = 14 + 2 * self.STRIDE * sum(audio.dilations)
        if audio.window_frames != reach:
            raise MCDMError(
                f"dilations {audio.dilations} see {reach} mel frames, window_frames is {audio.window_frames}"
            )
        self.conv1 = nn.Conv1d(audio.num_mels, width, 5)
        self.norm1 = ChannelNorm(width)
        self.conv2 = nn.Conv1d(width, width, 4, stride=2)
        self.norm2 = ChannelNorm(width)
        self.conv3 = nn.Conv1d(width, width, 4, stride=2)
        self.blocks = nn.ModuleList(ContextBlock(width, d) for d in audio.dilations)
        self.norm3 = ChannelNorm(width)
        self.project = nn.Conv1d(width, audio.tokens_per_frame * audio.feature_dim, 1)
        self.norm_out = nn.LayerNorm(audio.feature_dim)

    def _features(self, mels: Tensor) -> Tensor:
        """``[b, mels, 4 (f - 1) + w]`` to ``[b, f, k, d]``."""
        x = F.silu(self.conv1(mels.to(self.project.weight.dtype)))
        x = F.silu(self.conv2(self.norm1(x)))
        x = self.conv3(self.norm2(x))
        for block in self.blocks:
            x = block(x)
        tokens = rearrange(self.project(F.silu(self.norm3(x))), "n d k -> n k d")
        return self.norm_out(tokens.unflatten(2, (self.config.tokens_per_frame, self.config.feature_dim)))

    def forward(self, windows: Tensor) -> Tensor:
        """``[n, mels, w]`` of :meth:`frame_windows` to tokens ``[n, k, d]``."""
        self.check_windows(windows)
        return self._features(windows)[:, 0]

    def encode_segment(self, mels: Tensor, hop: int) -> Tensor:
        """Tokens of consecutive frames whose windows overlap.

        Args:
            mels: ``[b, mels, hop * (f - 1) + w]``, normalised; frame k's window begins at column ``hop * k``.
            hop: mel frames from one video frame to the next.

        Returns:
            ``[b, f, k, d]``, equal to :meth:`forward` of the windows.
        """
        if hop == self.STRIDE:
            return self._features(mels)
        windows = rearrange(mels.unfold(-1, self.config.window_frames, hop), "b mels f w -> b f mels w")
        return self(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])

    def predict_values(self, tokens: Tensor) -> Tensor:
        """Tokens ``[..., k, d]`` to facial values ``[..., 16]`` (auxiliary head)."""
        return self.value_head(tokens.flatten(-2))

    def spectrum(self, waveform: Tensor) -> Tensor:
        """Normalised log-mels ``[mels, j]`` of a whole utterance ``[t]`` at the configuration's rate."""
        audio = self.config
        return self.normalize(log_mel(waveform, audio.sample_rate, audio.num_mels, audio.hop_length))

    def normalize(self, mels: Tensor) -> Tensor:
        """:func:`normalize_level` with the configuration's balance."""
        return normalize_level(mels, self.config.spectral_balance)

    def frame_windows(self, waveform: Tensor, sample_rate: int, fps: float, num_frames: int) -> Tensor:
        """Log-mel windows of every video frame.

        Args:
            waveform: ``[t]`` in [-1, 1]; sample_rate: must be the configuration's (resample before).
            fps: video frames a second; num_frames: how many to return.

        Returns:
            ``[num_frames, mels, w]``; window k is centred on the middle of frame k's sound.

        Raises:
            AudioError, FrameRateError: see :func:`check_waveform`; also for another sample rate.
        """
        check_waveform(waveform, fps, num_frames)
        if sample_rate != self.config.sample_rate:
            raise AudioError(f"expected sound at {self.config.sample_rate} Hz, got {sample_rate} Hz: resample it first")
        centres = frame_centres(num_frames, fps, sample_rate, self.config.hop_length)
        return gather_windows(self.spectrum(waveform), centres, self.config.window_frames)

    def check_windows(self, windows: Tensor) -> None:
        """Raise AudioError unless ``windows`` is ``[n, mels, w]``."""
        if windows.shape[1:] != (self.config.num_mels, self.config.window_frames):
            raise AudioError(
                f"expected windows of [{self.config.num_mels}, {self.config.window_frames}], got {tuple(windows.shape)}"
            )


def frame_centres(num_frames: int, fps: float, sample_rate: int, hop_length: int) -> Tensor:
    """Middle of each video frame's sound in units of mel frames, ``[num_frames]``."""
    return (torch.arange(num_frames, dtype=torch.float64) + 0.5) / fps * sample_rate / hop_length


class Wav2Vec2AudioEncoder(AudioEncoder):
    """Frozen Wav2Vec 2.0 (``base``; the paper's audio features), resampled from its 50 Hz to the video's rate.

    ``frame_windows`` returns, for every video frame, the whole utterance's features at that frame as a window of width
    one. So both encoders are used alike. The heavy network runs there, once an utterance, and ``forward`` only
    reshapes.

    Args:
        config: the whole configuration.
        model: a ``transformers.Wav2Vec2Model`` with its weights; None builds one from ``model_config``.
        model_config: a ``transformers.Wav2Vec2Config``; None makes one of the configuration (wav2vec2-base's shape).
    """

    def __init__(
        self, config: MCDMConfig, model: Wav2Vec2Model | None = None, model_config: Wav2Vec2Config | None = None
    ) -> None:
        super().__init__()
        self.config = config.audio_encoder
        if model is None:
            try:
                from transformers import Wav2Vec2Config, Wav2Vec2Model
            except ImportError as error:
                raise PackageError(
                    "the base preset's audio encoder needs the package 'transformers': install it, or use tiny"
                ) from error
            audio = config.audio_encoder
            model_config = model_config or Wav2Vec2Config(
                hidden_size=audio.feature_dim,
                intermediate_size=4 * audio.feature_dim,
                num_hidden_layers=audio.num_layers,
                num_attention_heads=audio.num_heads,
            )
            model = Wav2Vec2Model(model_config)
        self.model = model.eval().requires_grad_(False)
        width = model.config.hidden_size
        if width != self.config.feature_dim:
            raise WeightsError(f"the Wav2Vec2 model has {width} features, expected {self.config.feature_dim}")

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict saved under any version of torch: its weight normalisation has had two sets of names."""
        new = any("parametrizations" in key for key in self.model.state_dict())
        swaps = _WEIGHT_NORM if new else tuple((b, a) for a, b in _WEIGHT_NORM)
        renamed = {}
        for key, value in state.items():
            for old, wanted in swaps:
                key = key.removesuffix(old) + wanted if key.endswith(old) else key
            renamed[key] = value
        return renamed

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights under either of the names that :meth:`own_names` knows."""
        return super().load_state_dict(self.own_names(state_dict), strict, assign)

    def train(self, mode: bool = True) -> Wav2Vec2AudioEncoder:
        """Stay in evaluation mode: the paper keeps this encoder frozen."""
        return super().train(False)

    @torch.no_grad()
    def features(self, waveform: Tensor) -> Tensor:
        """Features ``[j, d]`` at 50 Hz of a waveform ``[t]`` at 16 kHz, normalised to mean 0 and deviation 1 first."""
        parameter = next(self.model.parameters())
        samples = waveform.to(parameter)
        samples = (samples - samples.mean()) / (samples.std(correction=0) + 1e-7)
        # The convolutional front needs 400 samples for its first feature.
        samples = F.pad(samples, (0, max(0, 400 - len(samples))))
        return self.model(samples[None]).last_hidden_state[0]

    def frame_windows(self, waveform: Tensor, sample_rate: int, fps: float, num_frames: int) -> Tensor:
        """Features of every video frame, ``[num_frames, d, 1]``: linear interpolation at the frames' middles.

        Raises:
            AudioError, FrameRateError: for sound or rates that cannot be used.
        """
        check_waveform(waveform, fps, num_frames)
        if sample_rate != self.config.sample_rate:
            raise AudioError(f"expected sound at {self.config.sample_rate} Hz, got {sample_rate} Hz: resample it first")
        features = self.features(waveform)
        # Feature j covers samples 320 j .. 320 j + 400: its middle is 320 j + 200.
        middle = (torch.arange(num_frames, dtype=torch.float64) + 0.5) / fps * sample_rate
        position = ((middle - 200) / 320).clamp(0, len(features) - 1).to(features.device)
        low = position.floor().long()
        high = (low + 1).clamp_max(len(features) - 1)
        weight = (position - low).to(features.dtype)[:, None]
        return torch.lerp(features[low], features[high], weight)[..., None]

    def forward(self, windows: Tensor) -> Tensor:
        """``[n, d, 1]`` of :meth:`frame_windows` to tokens ``[n, 1, d]``."""
        return windows.transpose(1, 2)


def with_value_head(encoder: AudioEncoder) -> ContextAudioEncoder:
    """The encoder as one that is trained here, with a head for facial values.

    Raises:
        MCDMError: if it is another.
    """
    if not isinstance(encoder, ContextAudioEncoder):
        raise MCDMError(f"{type(encoder).__name__} has no head for facial values; use one of kind logmel_context.")
    return encoder


def build_audio_encoder(config: MCDMConfig) -> ContextAudioEncoder | Wav2Vec2AudioEncoder:
    """The encoder the configuration names.

    Raises:
        MCDMError: for an unknown kind.
    """
    kinds = {"logmel_context": ContextAudioEncoder, "wav2vec2": Wav2Vec2AudioEncoder}
    if config.audio_encoder.kind not in kinds:
        raise MCDMError(f"unknown audio encoder {config.audio_encoder.kind!r}: use one of {', '.join(kinds)}")
    return kinds[config.audio_encoder.kind](config)
