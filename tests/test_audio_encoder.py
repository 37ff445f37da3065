"""Audio encoders: alignment with the video's frames, independence of level, errors."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mcdm_core.config import TINY, AudioEncoderConfig
from mcdm_core.errors import AudioError, FrameRateError
from mcdm_core.models.audio_encoder import LogMelAudioEncoder, Wav2Vec2AudioEncoder, build_audio_encoder


def encoder() -> LogMelAudioEncoder:
    return LogMelAudioEncoder(TINY).eval()


def test_windows_are_centred_on_their_frame() -> None:
    waveform = torch.randn(16000) * 1e-3
    frame, fps = 10, 25.0
    middle = int((frame + 0.5) / fps * 16000)
    waveform[middle - 80 : middle + 80] += torch.randn(160)
    windows = encoder().frame_windows(waveform, 16000, fps, 25)
    assert windows.shape == (25, 80, 20)
    loud = windows.mean(1).argmax(1)
    assert abs(int(loud[frame]) - 10) <= 1
    # One video frame is four mel frames of 10 ms.
    assert abs(int(loud[frame + 1]) - 6) <= 1 and abs(int(loud[frame - 1]) - 14) <= 1


def test_level_of_the_recording_does_not_matter() -> None:
    waveform = torch.randn(16000).cumsum(0)
    waveform = waveform / waveform.abs().max()
    quiet = encoder().frame_windows(waveform * 0.05, 16000, 25, 25)
    assert torch.allclose(encoder().frame_windows(waveform, 16000, 25, 25), quiet, atol=1e-3)


def test_silence_stays_silence_and_the_end_is_padded_with_it() -> None:
    assert (encoder().frame_windows(torch.zeros(8000), 16000, 25, 12) < -0.3).all()
    windows = encoder().frame_windows(torch.randn(3200), 16000, 25, 20)
    assert (windows[-1] == -1).all()


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
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, conv_dim=(8,) * 7,
    )  # fmt: skip
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
    with pytest.raises(ValueError, match="unknown audio encoder"):
        build_audio_encoder(dataclasses.replace(TINY, audio_encoder=AudioEncoderConfig(kind="tape")))
    assert isinstance(build_audio_encoder(TINY), LogMelAudioEncoder)
