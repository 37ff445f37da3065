"""Audio encoders: alignment with the video's frames, independence of level, errors."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mcdm_core.config import TINY, AudioEncoderConfig
from mcdm_core.errors import AudioError, FrameRateError, MCDMError
from mcdm_core.models.audio_encoder import (
    ContextAudioEncoder,
    Wav2Vec2AudioEncoder,
    build_audio_encoder,
    frame_centres,
    gather_windows,
    log_mel,
    mel_filters,
    normalize_level,
)
from mcdm_core.models.inputs.voice_spectrum import VoiceSpectrum
from mcdm_core.training.audio import train

CONFIG = dataclasses.replace(
    TINY,
    audio_encoder=AudioEncoderConfig(
        kind="logmel_context", feature_dim=128, width=24, dilations=(1, 2), window_frames=38, spectral_balance=0.5
    ),
)


def encoder() -> ContextAudioEncoder:
    return ContextAudioEncoder(CONFIG).eval()


def test_windows_are_centred_on_their_frame() -> None:
    waveform = torch.randn(16000) * 1e-3
    frame, fps = 10, 25.0
    middle = int((frame + 0.5) / fps * 16000)
    waveform[middle - 80 : middle + 80] += torch.randn(160)
    windows = encoder().frame_windows(waveform, 16000, fps, 25)
    assert windows.shape == (25, 80, 38)
    loud = windows.mean(1).argmax(1)
    assert abs(int(loud[frame]) - 19) <= 1
    # One video frame is four mel frames of 10 ms.
    assert abs(int(loud[frame + 1]) - 15) <= 1 and abs(int(loud[frame - 1]) - 23) <= 1


def test_level_of_the_recording_does_not_matter() -> None:
    waveform = torch.randn(16000).cumsum(0)
    waveform = waveform / waveform.abs().max()
    quiet = encoder().frame_windows(waveform * 0.05, 16000, 25, 25)
    assert torch.allclose(encoder().frame_windows(waveform, 16000, 25, 25), quiet, atol=1e-3)


def test_silence_stays_silence_and_the_end_is_padded_with_it() -> None:
    assert (encoder().frame_windows(torch.zeros(8000), 16000, 25, 12) < -0.3).all()
    windows = encoder().frame_windows(torch.randn(3200), 16000, 25, 20)
    assert (windows[-1] == -1).all()


def test_a_segment_gives_the_tokens_of_its_windows() -> None:
    torch.manual_seed(0)
    model, width = encoder(), CONFIG.audio_encoder.window_frames
    mels = torch.randn(2, 80, 4 * 6 + width)
    tokens = model.encode_segment(mels, 4)
    assert tokens.shape == (2, 7, 1, 128)
    for frame in (0, 3, 6):
        assert torch.allclose(tokens[:, frame], model(mels[:, :, 4 * frame : 4 * frame + width]), atol=1e-5)
    second = model.encode_segment(mels[:, :, : 5 + width], 5)[:, 1]
    assert torch.allclose(second, model(mels[:, :, 5 : 5 + width]), atol=1e-5)


def test_context_encoder_checks_its_reach() -> None:
    wrong = dataclasses.replace(CONFIG.audio_encoder, window_frames=40)
    with pytest.raises(MCDMError, match="window_frames"):
        build_audio_encoder(dataclasses.replace(CONFIG, audio_encoder=wrong))


def test_balance_takes_the_speaker_s_colour_off_and_leaves_silence() -> None:
    generator = torch.Generator().manual_seed(0)
    mels = torch.randn(80, 200, generator=generator) * 0.5 - 3
    mels[:, 150:] = -20
    colour = torch.linspace(1, -2, 80)[:, None]
    plain, coloured = (normalize_level(m, 1.0) for m in (mels, mels + colour))
    assert torch.allclose(plain[:, :150], coloured[:, :150], atol=0.02)
    assert (coloured[:, 150:] == -1).all()
    assert (normalize_level(mels) - normalize_level(mels + colour)).abs().mean() > 0.05
    assert torch.allclose(normalize_level(mels + 2, 0.7), normalize_level(mels, 0.7), atol=1e-5)
    both = normalize_level(torch.stack([mels, mels + colour]), 1.0)
    assert torch.allclose(both[1], coloured)


@pytest.mark.parametrize("fps", [24.0, 25.0, 29.97, 60.0])
def test_tokens_for_any_frame_rate(fps: float) -> None:
    model = encoder()
    tokens = model(model.frame_windows(torch.randn(16000), 16000, fps, round(fps)))
    assert tokens.shape == (round(fps), 1, TINY.audio_encoder.feature_dim)
    assert model.predict_values(tokens).shape == (round(fps), 16)


def test_unusable_sound_is_refused() -> None:
    model = encoder()
    with pytest.raises(AudioError, match="mono"):
        model.frame_windows(torch.randn(2, 100), 16000, 25, 3)
    with pytest.raises(AudioError, match="finite"):
        model.frame_windows(torch.full((100,), float("nan")), 16000, 25, 3)
    with pytest.raises(AudioError, match="16000"):
        model.frame_windows(torch.randn(100), 44100, 25, 3)
    with pytest.raises(FrameRateError):
        model.frame_windows(torch.randn(100), 16000, 0, 3)
    with pytest.raises(AudioError, match="windows"):
        model(torch.randn(2, 80, 19))


def test_wav2vec2_features_follow_the_video_s_rate() -> None:
    transformers = pytest.importorskip("transformers")
    small = transformers.Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        conv_dim=(8,) * 7,
    )
    config = dataclasses.replace(TINY, audio_encoder=AudioEncoderConfig(feature_dim=16))
    model = Wav2Vec2AudioEncoder(config, model_config=small)
    waveform = torch.randn(16000)
    tokens = model(model.frame_windows(waveform, 16000, 25, 25))
    assert tokens.shape == (25, 1, 16)
    # At 50 frames a second, half a frame before feature j's middle: frame k lies at position k + 0.5 - 0.625.
    features, dense = model.features(waveform), model(model.frame_windows(waveform, 16000, 50, 40))
    expected = torch.lerp(features[9], features[10], 0.875)
    assert torch.allclose(dense[10, 0], expected, atol=1e-4)
    assert not any(p.requires_grad for p in model.parameters()) and not model.train().model.training
    # Shorter than the network's receptive field still works.
    assert model.frame_windows(torch.randn(100), 16000, 25, 1).shape == (1, 16, 1)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(MCDMError, match="tape"):
        build_audio_encoder(dataclasses.replace(TINY, audio_encoder=AudioEncoderConfig(kind="tape")))
    assert isinstance(build_audio_encoder(CONFIG), ContextAudioEncoder)


@pytest.mark.parametrize(("rate", "count"), [(16_000, 80), (16_000, 40), (22_050, 40)])
def test_mel_filters_are_librosa_s(rate: int, count: int) -> None:
    filters = pytest.importorskip("librosa.filters")
    wanted = torch.from_numpy(filters.mel(sr=rate, n_fft=400, n_mels=count, dtype="float64"))
    assert (mel_filters(rate, count) - wanted).abs().max() < 1e-6 * wanted.max()


def test_training_refuses_features_that_are_not_librosa_s(monkeypatch: pytest.MonkeyPatch) -> None:
    train.check_features(16_000, 80)
    monkeypatch.setattr(train, "mel_filters", lambda rate, count: mel_filters(rate, count) * 1.001)
    with pytest.raises(MCDMError, match="librosa"):
        train.check_features(16_000, 80)


def test_log_mels_are_librosa_s() -> None:
    """In power, against a frame's loudest band: a Fourier transform in float32 spreads its rounding over all bands.

    What the encoder is given has a floor :data:`LOG_FLOOR` nepers below the loud level, where that is nothing.
    """
    librosa = pytest.importorskip("librosa")
    sound = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.001, 0.3, 16_000)
    wanted = []
    for row in sound.double().numpy():
        power = librosa.feature.melspectrogram(
            y=row, sr=16_000, n_fft=400, hop_length=160, n_mels=80, center=True, pad_mode="constant"
        )
        wanted.append(torch.from_numpy(power))
    ours, power = log_mel(sound, 16_000, 80, 160), torch.stack(wanted)
    assert ((ours.exp() - power).abs() < 1e-5 * power.amax(1, keepdim=True)).all()
    exact = normalize_level(power.clamp_min(1e-10).log().float())
    assert (normalize_level(ours) - exact).abs().max() < 1e-3


@pytest.mark.parametrize("balance", [0.0, 0.5])
@pytest.mark.parametrize("samples", [7_000, 40_123])
def test_a_spectrum_in_blocks_is_that_of_the_whole(balance: float, samples: int) -> None:
    settings = dataclasses.replace(CONFIG.audio_encoder, spectral_balance=balance)
    generator = torch.Generator().manual_seed(1)
    voice = (
        torch.randn(samples, generator=generator)
        * torch.rand(samples // 500 + 1, generator=generator).pow(4).repeat_interleave(500)[:samples]
    )
    whole = normalize_level(log_mel(voice, 16_000, settings.num_mels, settings.hop_length), balance)
    spectrum = VoiceSpectrum(voice, settings, block=37)
    centres = frame_centres(samples // 640, 25, 16_000, settings.hop_length)
    for part in centres.split(7):
        wanted = gather_windows(whole, part, settings.window_frames)
        assert torch.allclose(spectrum.windows(part), wanted, atol=1e-4)
    beyond = torch.tensor([float(whole.shape[1] + 500)])
    assert (spectrum.windows(beyond) == -1).all()
