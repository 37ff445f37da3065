"""The decoder of painted parts: it begins as the autoencoder's, and sees contours and portrait."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mcdm_core.config import TINY, PartDecoderConfig
from mcdm_core.face.part_shapes import SHAPE_WIDTH
from mcdm_core.models.inputs.gallery import Gallery
from mcdm_core.models.part_decoder import ArchiveSight, PartDecoder
from mcdm_core.models.vae import TinyAutoencoder

NARROW = dataclasses.replace(
    TINY,
    vae=dataclasses.replace(TINY.vae, block_channels=(8, 12, 16)),
    part_decoder=PartDecoderConfig((8, 12, 16), (2, 2, 2), portrait_gates=True, archive_sight=True, gallery=4),
)


OWN = torch.rand(2, SHAPE_WIDTH, generator=torch.Generator().manual_seed(3))
"""Contours of the portraits."""


@pytest.fixture
def decoder() -> PartDecoder:
    """Random weights, none of them zero."""
    torch.manual_seed(0)
    decoder = PartDecoder(NARROW)
    for name, parameter in decoder.named_parameters():
        torch.nn.init.normal_(parameter, std=0.4 if name.startswith("archive.") else 0.1)
    return decoder


def given(videos: int = 2, frames: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, shape tokens, portraits, archives."""
    draw = torch.Generator().manual_seed(1)
    latents = torch.randn(videos, frames, 12, 12, 12, generator=draw)
    shapes = torch.rand(videos, frames, 2, SHAPE_WIDTH, generator=draw)
    portraits = torch.rand(videos, 3, 96, 96, generator=draw) * 2 - 1
    return latents, shapes, portraits, torch.randn(videos, 4, 12, 12, 12, generator=draw)


@torch.no_grad()
def test_it_begins_with_the_autoencoders_pictures() -> None:
    torch.manual_seed(0)
    blind = dataclasses.replace(NARROW.part_decoder, gallery=0)  # the gallery is shown from the start
    vae, decoder = TinyAutoencoder(NARROW), PartDecoder(dataclasses.replace(NARROW, part_decoder=blind))
    vae.latent_mean.normal_()
    vae.latent_std.uniform_(0.5, 2.0)
    decoder.begin_at(vae)
    latents, shapes, portraits, archives = given()
    pictures = decoder(latents, shapes, decoder.look(portraits, OWN, archives)).flatten(0, 1)
    wanted = vae.decode(latents.flatten(0, 1))
    # The first convolution pads latents there, and here what they are normalised to: that reaches a cell from the rim
    # and, through the blocks of the lowest level, four more.
    inside = (..., slice(44, -44), slice(44, -44))
    assert wanted[inside].std() > 0.01
    torch.testing.assert_close(pictures[inside], wanted[inside], rtol=0, atol=1e-4)
    vae.latent_mean.zero_()
    decoder.begin_at(vae)
    pictures = decoder(latents, shapes, decoder.look(portraits, OWN, archives)).flatten(0, 1)
    torch.testing.assert_close(pictures, vae.decode(latents.flatten(0, 1)), rtol=0, atol=1e-5)


def test_widths_that_are_not_the_autoencoders_are_refused() -> None:
    with pytest.raises(RuntimeError):
        PartDecoder(NARROW).begin_at(TinyAutoencoder(TINY))


@torch.no_grad()
@pytest.mark.parametrize("which", ["latents", "shapes", "portraits", "archives"])
def test_every_input_decides_the_picture(decoder: PartDecoder, which: str) -> None:
    values = dict(zip(("latents", "shapes", "portraits", "archives"), given(), strict=True))

    def decoded(
        latents: torch.Tensor, shapes: torch.Tensor, portraits: torch.Tensor, archives: torch.Tensor
    ) -> torch.Tensor:
        return decoder(latents, shapes, decoder.look(portraits, OWN, archives))

    before, other = decoded(**values), dict(values)
    other[which] = values[which].roll(1, 0)
    assert (decoded(**other) - before).abs().mean() > 0.01 * before.std()


@torch.no_grad()
def test_a_frame_is_decoded_by_itself_with_its_own_portrait(decoder: PartDecoder) -> None:
    latents, shapes, portraits, archives = given()
    together = decoder(latents, shapes, decoder.look(portraits, OWN, archives))
    assert together.shape == (2, 3, 3, 96, 96)
    for video in range(2):
        person = decoder.look(portraits[video : video + 1], OWN[video : video + 1], archives[video : video + 1])
        alone = decoder(latents[video : video + 1, 1:2], shapes[video : video + 1, 1:2], person)
        torch.testing.assert_close(alone[0, 0], together[video, 1], rtol=0, atol=1e-3 * float(together.std()))


@torch.no_grad()
def test_the_archives_order_does_not_matter_but_its_frames_places_do(decoder: PartDecoder) -> None:
    latents, shapes, portraits, archives = given()
    seen = decoder(latents, shapes, decoder.look(portraits, OWN, archives))
    torch.testing.assert_close(decoder(latents, shapes, decoder.look(portraits, OWN, archives.flip(1))), seen)
    assert (decoder(latents, shapes, decoder.look(portraits, OWN, archives.flip(-1))) - seen).abs().mean() > 1e-3


@torch.no_grad()
def test_a_shut_gate_hides_the_portrait(decoder: PartDecoder) -> None:
    latents, shapes, portraits, archives = given()

    def decoded(portraits: torch.Tensor) -> torch.Tensor:
        return decoder(latents, shapes, decoder.look(portraits, OWN, archives))

    assert not torch.equal(decoded(portraits), decoded(-portraits))
    decoder.pictures = None  # a portrait is a picture, too
    for gate in decoder.portrait_gates:
        torch.nn.init.constant_(gate.bias, -200.0)
    torch.testing.assert_close(decoded(portraits), decoded(-portraits))


@torch.no_grad()
def test_without_gates_and_archive_it_is_the_decoder_of_older_weights() -> None:
    torch.manual_seed(0)
    plain = dataclasses.replace(
        NARROW,
        part_decoder=dataclasses.replace(NARROW.part_decoder, portrait_gates=False, archive_sight=False, gallery=0),
    )
    blind = dataclasses.replace(NARROW, part_decoder=dataclasses.replace(NARROW.part_decoder, gallery=0))
    older, newer = PartDecoder(plain), PartDecoder(blind)
    for parameter in older.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    missing = newer.load_state_dict(older.state_dict(), strict=False).missing_keys
    assert missing and all(name.startswith(("portrait_gates.", "archive.")) for name in missing)
    latents, shapes, portraits, archives = given()
    wanted = older(latents, shapes, older.look(portraits, OWN, archives))
    torch.testing.assert_close(newer(latents, shapes, newer.look(portraits, OWN, archives)), wanted)


@torch.no_grad()
def test_a_decoder_goes_on_from_one_that_saw_no_pictures_and_from_one_that_did(decoder: PartDecoder) -> None:
    state = decoder.state_dict()
    earlier = {name: value for name, value in state.items() if not name.startswith("pictures.")}
    newer = PartDecoder(NARROW)
    own = newer.pictures.query.weight.clone()
    assert not newer.continue_from(earlier)
    assert torch.equal(newer.pictures.query.weight, own) and torch.equal(newer.conv_in.weight, decoder.conv_in.weight)
    assert newer.continue_from(state) and torch.equal(newer.pictures.query.weight, decoder.pictures.query.weight)
    with pytest.raises(RuntimeError):
        newer.continue_from({name: value for name, value in earlier.items() if not name.startswith("conv_in.")})


@pytest.mark.usefixtures("any_contours")
@torch.no_grad()
def test_a_gallery_is_seen_and_a_shut_gate_hides_it(decoder: PartDecoder) -> None:
    latents, shapes, portraits, archives = given()
    pictures = torch.rand(2, 3, 3, 96, 96, generator=torch.Generator().manual_seed(2)) * 2 - 1
    gallery = Gallery(pictures, OWN[:, None].expand(-1, 3, -1))
    of_portrait = Gallery(portraits[:, None].expand(-1, 3, -1, -1, -1), gallery.shapes)

    def decoded(*seen: Gallery) -> torch.Tensor:
        return decoder(latents, shapes, decoder.look(portraits, OWN, archives, *seen))

    assert (decoded(gallery) - decoded()).abs().mean() > 1e-2
    assert (decoded(of_portrait) - decoded()).abs().mean() > 1e-3, "the portrait can be a picture, too"
    torch.nn.init.zeros_(decoder.pictures.gates.weight)
    torch.nn.init.constant_(decoder.pictures.gates.bias, -200.0)
    torch.nn.init.zeros_(decoder.pictures.correction.weight)
    torch.nn.init.zeros_(decoder.pictures.correction.bias)
    torch.testing.assert_close(decoded(gallery), decoded())


@pytest.mark.usefixtures("any_contours")
def test_no_gradient_passes_the_search_of_the_gallery(decoder: PartDecoder) -> None:
    """Where what was found is shown alone, a painter that is judged by it learns nothing."""
    latents, shapes, portraits, archives = given()
    sight = decoder.pictures
    for layer in (sight.gates, sight.correction):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    with torch.no_grad():
        person = decoder.look(portraits, OWN, archives, Gallery.of_portraits(portraits, OWN))

    def gradient() -> float:
        asked = latents.clone().requires_grad_()
        decoder(asked, shapes, person).square().mean().backward()
        return float(asked.grad.abs().sum())

    assert gradient() > 0
    torch.nn.init.constant_(sight.gates.bias, 200.0)
    assert gradient() == 0


@torch.no_grad()
@pytest.mark.parametrize("aside", [0, 1])
def test_what_the_archive_shows_is_found_where_it_is_or_a_cell_aside(aside: int) -> None:
    sight, draw = ArchiveSight(12, 16), torch.Generator().manual_seed(0)
    latents = torch.randn(2, 3, 12, 12, 12, generator=draw)
    others = torch.randn(2, 5, 12, 12, 12, generator=draw)
    archive = torch.cat([others, latents[:, 1:2].roll(aside, -1)], 1)
    found, apart = sight.found(latents, sight.candidates(archive))
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(found[:, 1][inside], latents[:, 1][inside], rtol=0, atol=1e-3)
    assert apart[:, 1][inside].max() < 1e-3 < 0.3 < apart[:, 0][inside].min()
    assert (found[:, 0] - latents[:, 0])[inside].abs().mean() > 0.3
