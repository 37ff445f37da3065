"""The present-clip prior: shapes, bookkeeping of given tokens, per-frame limit, sampling."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mcdm_core.config import BASE, TINY
from mcdm_core.errors import MCDMError
from mcdm_core.models.layers.token_transformer import sinusoidal_embedding
from mcdm_core.models.present_clip_prior import PresentClipPrior
from mcdm_core.training.prior.losses import diffusion_loss

from ..motion_fixtures import CONFIG, DIM, TOKENS, awake_prior, conditions

HEAD = CONFIG.motion_codec.head_tokens


def test_noise_prediction_of_an_untrained_model_is_the_noisy_input_scaled() -> None:
    prior = PresentClipPrior(CONFIG)
    noisy, time = torch.randn(2, 4, TOKENS, DIM), torch.tensor([10, 700])
    out = prior(noisy, time, **conditions(2))
    expected = (1 - prior.alphas_cumprod[time]).sqrt()[:, None, None, None] * noisy
    assert torch.allclose(out, expected, atol=1e-6)


def test_with_zeroed_temporal_blocks_the_prior_is_a_per_frame_model() -> None:
    prior = awake_prior()
    for block in prior.temporal_blocks:
        torch.nn.init.zeros_(block.attention.out.weight)
        torch.nn.init.zeros_(block.attention.out.bias)
    noisy, time, given = torch.randn(1, 4, TOKENS, DIM), torch.tensor([300]), conditions()
    whole = prior(noisy, time, **given)
    for frame in range(4):
        alone = prior(noisy[:, frame : frame + 1], time, given["audio"][:, frame : frame + 1], given["image"])
        assert torch.allclose(alone, whole[:, frame : frame + 1], atol=1e-5)


def test_temporal_blocks_and_context_reach_the_clip() -> None:
    prior = awake_prior()
    noisy, time, given = torch.randn(1, 4, TOKENS, DIM), torch.tensor([300]), conditions()
    context = torch.randn(1, 2, TOKENS, DIM)
    out = prior(noisy, time, **given, context=context)
    assert out.shape == noisy.shape
    assert not torch.allclose(out, prior(noisy, time, **given, context=context + 1), atol=1e-4)


def literal_attention(module, x: torch.Tensor) -> torch.Tensor:
    """Multi-head self-attention of one sequence ``[n, width]``, head by head, row by row."""
    q, k, v = module.qkv(x).chunk(3, dim=-1)
    size = x.shape[-1] // module.num_heads
    heads = []
    for h in range(module.num_heads):
        part = slice(h * size, (h + 1) * size)
        rows = [torch.softmax(row @ k[:, part].T / size**0.5, -1) @ v[:, part] for row in q[:, part]]
        heads.append(torch.stack(rows))
    return module.out(torch.cat(heads, -1))


def literal_prior(
    prior: PresentClipPrior,
    noisy: torch.Tensor,
    time: int,
    audio: torch.Tensor,
    image: torch.Tensor,
    known: torch.Tensor,
) -> torch.Tensor:
    """Section 3.3 frame by frame and token by token: ``noisy [f, nq, dm]``, ``known [c, nq, dm]`` -> noise."""
    frames, before = len(noisy), len(known)
    scale, shift = prior.film.modulation(prior.film.norm(image).mean(0)).chunk(2)
    series = []
    for i in range(before + frames):
        old = i < before
        sound = prior.null_audio if old else audio[i - before]
        multimodal = prior.film.audio(sound) * (1 + scale) + shift
        stamp = sinusoidal_embedding(torch.tensor([0 if old else time]), prior.width)
        stamp = prior.time_outer(torch.nn.functional.silu(prior.time_inner(stamp)))
        motion = prior.embed(known[i]) + prior.known if old else prior.embed(noisy[i - before])
        series.append(torch.cat([multimodal, stamp, motion]) + prior.token_types)
    x = torch.stack(series)
    position = prior.position(sinusoidal_embedding(torch.arange(-before, frames), prior.width))
    for within, across in zip(prior.multimodal_blocks, prior.temporal_blocks, strict=True):
        for i in range(len(x)):  # tokens of one frame see each other
            x[i] = x[i] + literal_attention(within.attention, within.attention.norm(x[i]))
            x[i] = x[i] + within.feed_forward(x[i])
        for n in range(x.shape[1]):  # a token sees itself over time
            x[:, n] = x[:, n] + literal_attention(across.attention, across.attention.norm(x[:, n]) + position)
    x = prior.norm(x[before:, -TOKENS:])
    v = torch.stack([x[:, n] @ prior.output["weight"][n] + prior.output["bias"][n] for n in range(TOKENS)], 1)
    signal = prior.alphas_cumprod[time]
    lips = slice(HEAD, HEAD + CONFIG.motion_codec.lip_tokens)
    v[:, lips] -= (1 - signal) ** 1.5 * prior.direct(audio.flatten(1)).unflatten(1, (-1, DIM))
    return (1 - signal).sqrt() * noisy + signal.sqrt() * v


@torch.no_grad()
def test_the_prior_equals_the_paper_s_two_blocks_written_out() -> None:
    prior, given = awake_prior(), conditions()
    noisy, context = torch.randn(1, 4, TOKENS, DIM), torch.randn(1, 2, TOKENS, DIM)
    result = prior(noisy, torch.tensor([300]), **given, context=context)[0]
    expected = literal_prior(prior, noisy[0], 300, given["audio"][0], given["image"][0], context[0])
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_loss_is_the_mse_to_the_added_noise_on_motion_tokens_alone() -> None:
    """Over alpha squared, the weight that gives every noise level the same say; given head tokens do not count."""
    prior, given = awake_prior(), conditions(3)
    clean, head_given = torch.randn(3, 4, TOKENS, DIM), torch.tensor([True, False, True])
    loss, _, _ = diffusion_loss(prior, clean, head_given, torch.Generator().manual_seed(5), **given)
    generator = torch.Generator().manual_seed(5)
    time = torch.randint(1000, (3,), generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    total, counted = 0.0, 0
    for i in range(3):
        signal = prior.alphas_cumprod[time[i]]
        noisy = signal.sqrt() * clean[i] + (1 - signal).sqrt() * noise[i]
        head = clean[i : i + 1, :, :HEAD] if head_given[i] else None
        out = prior(noisy[None], time[i : i + 1], given["audio"][i : i + 1], given["image"][i : i + 1], head=head)[0]
        tokens = slice(HEAD if head_given[i] else 0, None)
        error = (out - noise[i])[:, tokens].square() / signal
        total, counted = total + float(error.sum()), counted + error.numel()
    assert float(loss) == pytest.approx(total / counted, rel=1e-3)


def reading_prior(**changes: object) -> PresentClipPrior:
    """A prior that begins from the past and from the reference's motion tokens."""
    section = dataclasses.replace(CONFIG.present_clip_prior, persistence=True, **changes)
    seen = dataclasses.replace(TINY.image_encoder, kind="codec", feature_dim=DIM)
    torch.manual_seed(0)
    return PresentClipPrior(dataclasses.replace(CONFIG, present_clip_prior=section, image_encoder=seen)).eval()


@torch.no_grad()
def test_at_full_noise_an_untrained_prior_goes_where_the_past_the_trend_and_the_reference_lead() -> None:
    prior, time = reading_prior(), torch.tensor([999])
    sound, image = torch.randn(1, 4, 1, CONFIG.audio_encoder.feature_dim), torch.randn(1, TOKENS, DIM)
    context = torch.randn(1, 2, TOKENS, DIM)
    weights = {name: torch.randn(4, TOKENS, DIM) for name in ("last", "trend", "reference")}
    for name, value in weights.items():
        getattr(prior.past, name).copy_(value)
    noise = torch.randn(1, 4, TOKENS, DIM)
    said = prior.denoised(prior(noise, time, sound, image, context=context), noise, time)
    for k in range(4):
        trend = context[0, 1] - context[0, 0]
        expected = weights["last"][k] * context[0, 1] + weights["trend"][k] * trend + weights["reference"][k] * image[0]
        assert torch.allclose(said[0, k], expected, atol=0.02)


@torch.no_grad()
def test_a_fitted_variance_is_the_spread_of_an_untrained_prior_s_samples() -> None:
    prior = reading_prior(fitted_variance=True)
    prior.variance.copy_(torch.linspace(0.05, 0.8, 4)[:, None, None].expand_as(prior.variance))
    many = 120
    sound, image = torch.zeros(many, 4, 1, CONFIG.audio_encoder.feature_dim), torch.zeros(many, TOKENS, DIM)
    context = torch.zeros(many, 2, TOKENS, DIM)
    made = prior.predict(sound, image, context, steps=80, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(made.var((0, 2, 3)), prior.variance[:, 0, 0], rtol=0.15)


@torch.no_grad()
def test_streams_without_noise_are_calm_and_the_temperature_calms_all() -> None:
    prior = reading_prior(fitted_variance=True, noise_scale=(0.0, 1.0, 0.0))
    sound, image = torch.zeros(2, 4, 1, CONFIG.audio_encoder.feature_dim), torch.zeros(2, TOKENS, DIM)
    context = torch.zeros(2, 2, TOKENS, DIM)
    made = prior.predict(sound, image, context, steps=8)
    first, last = HEAD, HEAD + CONFIG.motion_codec.lip_tokens
    assert not made[:, :, :first].any() and not made[:, :, last:].any() and made[:, :, first:last].any()
    assert not prior.predict(sound, image, context, steps=8, temperature=0.0).any()


@torch.no_grad()
def test_image_tokens_of_the_codec_are_read_one_by_one() -> None:
    prior = reading_prior()
    torch.nn.init.normal_(prior.film.modulation.weight)
    torch.nn.init.normal_(prior.output["weight"])
    noisy, time = torch.randn(1, 4, TOKENS, DIM), torch.tensor([300])
    sound, image = torch.randn(1, 4, 1, CONFIG.audio_encoder.feature_dim), torch.randn(1, TOKENS, DIM)
    swapped = image[:, torch.arange(TOKENS).roll(1)]
    assert not torch.allclose(prior(noisy, time, sound, image), prior(noisy, time, sound, swapped), atol=1e-3)


def test_given_head_tokens_replace_the_noised_ones_and_are_not_predicted() -> None:
    prior = awake_prior()
    noisy, time, given = torch.randn(1, 4, TOKENS, DIM), torch.tensor([300]), conditions()
    head = torch.randn(1, 4, HEAD, DIM)
    out = prior(noisy, time, **given, head=head)
    assert not out[:, :, :HEAD].any()
    other = noisy.clone()
    other[:, :, :HEAD] += 5
    assert torch.allclose(out, prior(other, time, **given, head=head))
    free = prior(noisy, time, **given)
    switched_off = prior(noisy, time, **given, head=head, head_given=torch.tensor([False]))
    assert torch.allclose(free, switched_off)


def test_dropped_audio_makes_the_sound_irrelevant() -> None:
    prior = awake_prior()
    noisy, time, given = torch.randn(1, 4, TOKENS, DIM), torch.tensor([300]), conditions()
    drop = torch.tensor([True])
    first = prior(noisy, time, **given, drop_audio=drop)
    given["audio"] = given["audio"] + 1
    assert torch.allclose(first, prior(noisy, time, **given, drop_audio=drop))


def test_prediction_is_deterministic_and_any_length() -> None:
    prior, given = awake_prior(), conditions(2, 10)
    context = torch.randn(2, 1, TOKENS, DIM)

    def run(seed: int) -> torch.Tensor:
        return prior.predict(**given, context=context, steps=2, generator=torch.Generator().manual_seed(seed))

    first = run(3)
    assert first.shape == (2, 10, TOKENS, DIM)
    assert torch.equal(first, run(3))
    assert not torch.equal(first, run(4))


def test_guidance_of_one_equals_no_guidance_and_the_callback_can_stop() -> None:
    prior, given = awake_prior(), conditions(1, 6)
    context, seen = torch.randn(1, 2, TOKENS, DIM), []

    def run(guidance: float, **options: object) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return prior.predict(**given, context=context, steps=2, guidance=guidance, generator=generator, **options)

    plain = run(1.0, callback=lambda done, total, tokens: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert torch.allclose(plain, run(1.0 + 1e-9), rtol=1e-2, atol=1e-2)
    assert not torch.allclose(plain, run(3.0), atol=1e-3)

    def stop(done: int, total: int, tokens: torch.Tensor) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        run(1.0, callback=stop)


def test_a_driver_s_head_tokens_come_out_as_they_went_in() -> None:
    prior, given = awake_prior(), conditions(1, 6)
    head = torch.randn(1, 6, HEAD, DIM)
    out = prior.predict(**given, context=torch.randn(1, 1, TOKENS, DIM), head=head, steps=2)
    assert torch.equal(out[:, :, :HEAD], head)


def test_loss_is_the_noise_error_over_the_signal_and_ignores_given_heads() -> None:
    clean = torch.randn(64, 4, TOKENS, DIM)
    prior = PresentClipPrior(CONFIG)
    generator = torch.Generator().manual_seed(0)
    loss, estimate, alpha = diffusion_loss(prior, clean, torch.zeros(64).bool(), generator, **conditions(64))
    assert 0.9 < float(loss.detach()) < 1.1
    assert estimate.shape == clean.shape and alpha.shape == (64,)
    generator.manual_seed(0)
    given, _, _ = diffusion_loss(prior, clean, torch.ones(64).bool(), generator, **conditions(64))
    given.backward()
    assert not prior.output["bias"].grad[:HEAD].any() and prior.output["bias"].grad[HEAD:].any()


def test_base_preset_builds_and_too_long_clips_are_refused() -> None:
    with torch.device("meta"):
        prior = PresentClipPrior(BASE)
    assert len(prior.multimodal_blocks) == 8
    with pytest.raises(MCDMError, match="frames"):
        awake_prior()(torch.randn(1, 65, TOKENS, DIM), torch.tensor([1]), **conditions(1, 65))
    wrong = dataclasses.replace(CONFIG.present_clip_prior, prediction_type="sample")
    with pytest.raises(MCDMError, match="prediction_type"):
        PresentClipPrior(dataclasses.replace(CONFIG, present_clip_prior=wrong))
