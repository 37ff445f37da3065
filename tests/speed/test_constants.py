"""What stays through a clip's steps is computed once, and guidance in one batch changes nothing but the speed."""

from __future__ import annotations

import pytest
import torch

from mcdm_core.models.layers.attention import CrossAttention
from mcdm_core.models.unet import DenoisingUNet
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.pipeline.sampling import _Denoiser


def latents(pipe: MCDMPipeline, reference, voice, **options: float) -> torch.Tensor:
    sound = pipe.embed_audio(voice, 16_000)
    made = pipe.generate(reference, sound, motion_steps=1, **options)  # type: ignore[arg-type]
    return torch.cat([clip.latents for clip in made])


def test_keys_and_values_of_motion_and_archive_are_computed_once_a_clip(
    pipe: MCDMPipeline, reference, voice, monkeypatch
) -> None:
    unet, forward, calls = pipe.model.unet, torch.nn.Linear.forward, []
    constant = {id(layer) for block in unet.transformer_blocks() for attention in (block.archived_attn,
                block.present_attn) for layer in (attention.to_k, attention.to_v)}  # fmt: skip

    def counted(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        if id(layer) in constant:
            calls.append(id(layer))
        return forward(layer, x)

    monkeypatch.setattr(torch.nn.Linear, "forward", counted)
    sound = pipe.embed_audio(voice[:2560], 16_000)  # one clip
    next(iter(pipe.generate(reference, sound, steps=5, motion_steps=1, guidance=1.0)))
    assert sorted(calls) == sorted(constant)


def test_what_is_kept_is_what_would_be_computed_again(pipe: MCDMPipeline, reference, voice, monkeypatch) -> None:
    kept = latents(pipe, reference, voice, steps=3, guidance=2.0)
    forward = DenoisingUNet.forward

    def anew(unet: DenoisingUNet, *given: object, **named: object):
        return forward(unet, *given, **{**named, "kept": None})  # type: ignore[arg-type]

    monkeypatch.setattr(DenoisingUNet, "forward", anew)
    assert torch.equal(kept, latents(pipe, reference, voice, steps=3, guidance=2.0))


def test_another_context_has_other_keys() -> None:
    attention, x = CrossAttention(8, 2, 4), torch.randn(1, 3, 8)
    one, other = torch.randn(1, 2, 4), torch.randn(1, 2, 4)
    kept: dict = {}
    assert torch.equal(attention(x, one, kept=kept), attention(x, other, kept=kept))
    assert not torch.equal(attention(x, other, kept={}), attention(x, one, kept=kept))


@pytest.mark.parametrize("most", [4, 3, 1])
def test_guidance_in_one_batch(pipe: MCDMPipeline, reference, voice, monkeypatch, most: int) -> None:
    """Both predictions together, and in parts of that batch where memory is short."""
    apart = latents(pipe, reference, voice, steps=2, guidance=2.0)
    begin, forward, sizes = _Denoiser.__init__, DenoisingUNet.forward, []

    def together(denoiser: _Denoiser, *given: object, **named: object) -> None:
        begin(denoiser, *given, **named)  # type: ignore[arg-type]
        denoiser.together = True

    def short(unet: DenoisingUNet, x: torch.Tensor, *given: object, **named: object):
        sizes.append(len(x))
        if len(x) > most:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return forward(unet, x, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(_Denoiser, "__init__", together)
    monkeypatch.setattr(DenoisingUNet, "forward", short)
    made = latents(pipe, reference, voice, steps=2, guidance=2.0)
    assert max(sizes) == 4, "mouth and eyes, guided and free"
    assert torch.allclose(made, apart, atol=1e-4)
