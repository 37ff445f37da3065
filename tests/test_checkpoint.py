"""Weight files: round trip, half precision, bundling of parts, damage."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mcdm_core.checkpoint import (
    COMPONENTS,
    bundle,
    fingerprint,
    load_checkpoint,
    load_directory,
    load_face_network,
    save_checkpoint,
)
from mcdm_core.config import TINY, to_json
from mcdm_core.errors import PackageError, WeightsError
from mcdm_core.files import read_tensors
from mcdm_core.model import MCDMModel
from mcdm_core.models.present_clip_prior import PresentClipPrior
from mcdm_core.pipeline import MCDMPipeline


def parts(folder, config=TINY, leave: str = ""):
    states = {}
    for index, name in enumerate(COMPONENTS):
        states[name] = {"a.weight": torch.randn(3, 4) + index, "count": torch.tensor(index)}
        if name != leave:
            save_file(states[name], str(folder / f"{name}.safetensors"), {"mcdm_config": to_json(config)})
    return states


def test_parts_bundle_into_one_half_precision_file(tmp_path) -> None:
    states = parts(tmp_path)
    path = bundle(tmp_path, tmp_path / "out" / "all.safetensors")
    config, loaded, stage = load_checkpoint(path)
    assert config == TINY and stage == 3 and set(loaded) == set(COMPONENTS)
    for name, state in states.items():
        assert torch.allclose(loaded[name]["a.weight"], state["a.weight"], atol=1e-2)
        assert loaded[name]["a.weight"].dtype == torch.float32 and loaded[name]["count"] == state["count"]
    assert fingerprint(loaded, config) == fingerprint(states, config)


def test_missing_parts_are_named(tmp_path) -> None:
    parts(tmp_path, leave="unet")
    with pytest.raises(WeightsError, match="unet"):
        bundle(tmp_path, tmp_path / "all.safetensors")
    assert "unet" not in load_directory(tmp_path).states
    with pytest.raises(WeightsError, match="no weights"):
        load_directory(tmp_path / "nowhere")


def test_a_model_gives_what_a_refined_folder_lacks(tmp_path) -> None:
    model = bundle_of(tmp_path / "model")
    trained = {"a.weight": torch.full((3, 4), 9.0)}
    refined = dataclasses.replace(TINY, part_decoder=dataclasses.replace(TINY.part_decoder, portrait_gates=False))
    (tmp_path / "run").mkdir()
    save_file(trained, str(tmp_path / "run" / "part_decoder.safetensors"), {"mcdm_config": to_json(refined)})
    config, states, _ = load_checkpoint(bundle(tmp_path / "run", tmp_path / "new.safetensors", rest=model))
    assert torch.equal(states["part_decoder"]["a.weight"], trained["a.weight"]) and config == refined
    others = load_checkpoint(model).states
    assert all(
        torch.equal(states[name]["a.weight"], others[name]["a.weight"]) for name in COMPONENTS if name != "part_decoder"
    )


def bundle_of(folder) -> Path:
    folder.mkdir()
    parts(folder)
    return bundle(folder, folder / "all.safetensors")


def test_a_prefixed_file_holds_several_parts(tmp_path) -> None:
    save_file(
        {"audio_encoder.w": torch.ones(2), "present_clip_prior.w": torch.zeros(2)},
        str(tmp_path / "present_clip_prior.safetensors"),
    )
    states = load_directory(tmp_path, TINY).states
    assert set(states) == {"audio_encoder", "present_clip_prior"}
    assert torch.equal(states["audio_encoder"]["w"], torch.ones(2))


def test_a_prior_of_version_0_1_keeps_what_it_knew_of_the_last_frame(tmp_path) -> None:
    prior = PresentClipPrior(TINY)
    old = {k: v for k, v in prior.state_dict().items() if not k.startswith("past.") and k != "closed_lids"}
    old["persistence"] = torch.randn_like(prior.past.last)
    save_checkpoint(tmp_path / "old.safetensors", {"present_clip_prior": old}, TINY)
    prior.load_state_dict(load_checkpoint(tmp_path / "old.safetensors").states["present_clip_prior"])
    assert torch.equal(prior.past.last, old["persistence"])
    assert not prior.past.trend.any() and not prior.past.reference.any() and not prior.closed_lids.any()


def test_the_furthest_unet_counts(tmp_path) -> None:
    for stem, stage in (("unet_stage1", "1"), ("unet", "3")):
        tensors = {"unet.w": torch.full((1,), float(stage)), "archived_clip_prior.w": torch.zeros(1)}
        save_file(tensors, str(tmp_path / f"{stem}.safetensors"), {"stage": stage})
    found = load_directory(tmp_path, TINY)
    assert found.stage == 3 and found.states["unet"]["w"] == 3
    (tmp_path / "unet.safetensors").unlink()
    assert load_directory(tmp_path, TINY).stage == 1


def test_what_a_stage_trained_beside_its_networks_is_left_out(tmp_path) -> None:
    tensors = {"unet.w": torch.zeros(1), "archived_clip_prior.w": torch.zeros(1), "retelling.layer.w": torch.zeros(1)}
    save_file(tensors, str(tmp_path / "unet_stage1.safetensors"), {"mcdm_config": to_json(TINY), "stage": "1"})
    found = load_directory(tmp_path)
    assert set(found.states) == {"unet", "archived_clip_prior"} and found.config.unet == TINY.unet


def test_the_fingerprint_tells_models_apart(tmp_path) -> None:
    states = parts(tmp_path)
    first = fingerprint(states, TINY)
    assert first == fingerprint(states, TINY)
    assert first != fingerprint(states, dataclasses.replace(TINY, fps=30))
    states["unet"]["a.weight"] = states["unet"]["a.weight"] + 1
    assert first != fingerprint(states, TINY)


def test_values_that_overflow_half_precision_are_refused(tmp_path) -> None:
    with pytest.raises(WeightsError, match="vae.big"):
        save_checkpoint(tmp_path / "a.safetensors", {"vae": {"big": torch.full((2,), 1e6)}}, TINY, dtype=torch.float16)
    with pytest.raises(WeightsError, match="gizmo"):
        save_checkpoint(tmp_path / "a.safetensors", {"gizmo": {}}, TINY)


def test_unusable_files_are_named(tmp_path) -> None:
    with pytest.raises(WeightsError, match="no weight file"):
        load_checkpoint(tmp_path / "missing.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="broken"):
        load_checkpoint(tmp_path / "broken.safetensors")
    save_file({"vae.a": torch.zeros(1)}, str(tmp_path / "bare.safetensors"))
    with pytest.raises(WeightsError, match="configuration"):
        load_checkpoint(tmp_path / "bare.safetensors")


def test_a_pipeline_survives_its_file(pipe, tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, pipe.model.states(), pipe.config)
    back = MCDMPipeline.from_file(path)
    assert back.config == pipe.config and back.fingerprint == pipe.fingerprint
    states = pipe.model.states()
    del states["unet"]
    save_checkpoint(path, states, pipe.config)
    with pytest.raises(WeightsError, match="unet"):
        MCDMPipeline.from_file(path)


def test_each_part_brings_its_own_section_of_the_configuration(tmp_path) -> None:
    parts(tmp_path)
    prior = dataclasses.replace(TINY.present_clip_prior, num_layers=3)
    audio = dataclasses.replace(TINY.audio_encoder, feature_dim=96)
    other = dataclasses.replace(TINY, fps=30, present_clip_prior=prior, audio_encoder=audio)
    (tmp_path / "audio_encoder.safetensors").unlink()
    tensors = {"audio_encoder.w": torch.ones(2), "present_clip_prior.w": torch.zeros(2)}
    save_file(tensors, str(tmp_path / "present_clip_prior.safetensors"), {"mcdm_config": to_json(other)})
    found = load_directory(tmp_path).config
    assert found.present_clip_prior == prior and found.audio_encoder == audio
    assert found.vae == TINY.vae and found.fps == TINY.fps
    assert load_directory(tmp_path, TINY).config == TINY


def test_the_face_network_is_read_alone_of_a_file_or_a_folder(pipe, tmp_path) -> None:
    save_checkpoint(tmp_path / "whole.safetensors", pipe.model.states(), pipe.config)
    (tmp_path / "parts").mkdir()
    own = {name: tensor.clone() for name, tensor in pipe.model.states()["face_network"].items()}
    save_file(own, str(tmp_path / "parts" / "face_network.safetensors"), {"mcdm_config": to_json(pipe.config)})
    for path in (tmp_path / "whole.safetensors", tmp_path / "parts"):
        network = load_face_network(path)
        assert not network.training
        assert all(torch.allclose(value, own[name], atol=1e-3) for name, value in network.state_dict().items())
    save_file({"vae.x": torch.ones(1)}, str(tmp_path / "vae.safetensors"), {"mcdm_config": to_json(pipe.config)})
    with pytest.raises(WeightsError, match="no face network"):
        load_face_network(tmp_path / "vae.safetensors")


def test_a_second_reading_joins_the_face_network_and_loads(tmp_path) -> None:
    from mcdm_core.face.reading.face_network import FaceNetwork
    from mcdm_core.face.reading.part_reader import PartReader

    channels = (8, 8, 8, 16)
    section = dataclasses.replace(TINY.face_network, part_channels=channels)
    face, reader = FaceNetwork(TINY).state_dict(), PartReader(channels).state_dict()
    plain = {"mcdm_config": to_json(TINY)}
    save_file(face, str(tmp_path / "face_network.safetensors"), plain)
    assert load_directory(tmp_path).config.face_network.part_channels == ()
    with_parts = {"mcdm_config": to_json(dataclasses.replace(TINY, face_network=section))}
    save_file(reader, str(tmp_path / "part_reader.safetensors"), with_parts)
    found = load_directory(tmp_path)
    assert found.config.face_network == section
    network = FaceNetwork(found.config)
    network.load_state_dict(found.states["face_network"])
    assert torch.equal(network.parts.eye.heat.weight, reader["eye.heat.weight"])
    # Once it has joined, a directory with the joined face network and a new second reading takes the new one.
    save_file(found.states["face_network"], str(tmp_path / "face_network.safetensors"), with_parts)
    save_file({key: value + 1 for key, value in reader.items()}, str(tmp_path / "part_reader.safetensors"), with_parts)
    again = load_directory(tmp_path).states["face_network"]
    assert torch.equal(again["parts.eye.heat.weight"], reader["eye.heat.weight"] + 1)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("unet", "block_channels", [16384, 16384, 16384]),
        ("unet", "block_channels", [512, 512, 512]),
        ("unet", "num_heads", 0),
        ("present_clip_prior", "width", 4096),
        ("present_clip_prior", "num_layers", 10**9),
        ("present_clip_prior", "width", "wide"),
        ("present_clip_prior", "width", 33),
        ("vae", "latent_channels", True),
        ("vae", "scaling_factor", float("nan")),
        ("audio_encoder", "num_mels", 10**7),
        ("audio_encoder", "kind", "k" * 1000),
        (None, "clip_frames", -4),
        (None, "unet", 7),
        (None, "fps", 25.5),
    ],
)
def test_a_small_file_cannot_ask_for_a_large_model(pipe, tmp_path, section, field, value) -> None:
    import json

    path = tmp_path / "model.safetensors"
    save_checkpoint(path, pipe.model.states(), pipe.config)
    values = json.loads(to_json(pipe.config))
    (values if section is None else values[section])[field] = value
    tensors = {f"{part}.{key}": t for part, state in pipe.model.states().items() for key, t in state.items()}
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    save_file(copies, str(path), {"mcdm_config": json.dumps(values)})
    with pytest.raises(WeightsError):
        MCDMPipeline.from_file(path)


def test_other_damage_of_weight_files_is_named(pipe, tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, pipe.model.states(), pipe.config)
    from safetensors.torch import load_file

    tensors, config = load_file(path), to_json(pipe.config)
    for text, stage in (("[" * 100_000, "3"), ("[]", "3"), ("{}", "3"), (config, "third"), (config, "9")):
        save_file(tensors, str(path), {"mcdm_config": text, "stage": stage})
        # An empty configuration is that of `base`, whose encoders may not be installed.
        with pytest.raises((WeightsError, PackageError) if text == "{}" else WeightsError):
            MCDMPipeline.from_file(path)
    first = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[first] = torch.full_like(tensors[first], torch.nan)
    save_file(tensors, str(path), {"mcdm_config": config, "stage": "3"})
    with pytest.raises(WeightsError, match="finite"):
        MCDMPipeline.from_file(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_value_that_is_not_finite_is_found(tmp_path, dtype: torch.dtype, value: float) -> None:
    path, weights = tmp_path / "a.safetensors", torch.linspace(-65_000, 65_000, 5000).to(dtype)
    save_file({"weights": weights, "none": torch.zeros(0, dtype=dtype)}, str(path))
    assert torch.equal(read_tensors(path, error=WeightsError, what="test")[0]["weights"], weights)
    weights[4321] = value
    save_file({"weights": weights}, str(path))
    with pytest.raises(WeightsError, match="finite"):
        read_tensors(path, error=WeightsError, what="test")


def test_a_model_of_weights_is_that_of_loading_them_and_draws_nothing(pipe) -> None:
    states = {name: dict(state) for name, state in pipe.model.states().items()}
    before = torch.get_rng_state()
    made = MCDMModel.from_states(pipe.config, states)
    assert torch.equal(torch.get_rng_state(), before)
    loaded = MCDMModel(pipe.config)
    loaded.load_states(states)
    for kind in ("named_parameters", "named_buffers"):
        for (name, one), (_, other) in zip(getattr(made, kind)(), getattr(loaded, kind)(), strict=True):
            assert one.dtype == other.dtype and torch.equal(one, other), name
    weight = states["unet"]["conv_in.weight"]
    assert made.unet.conv_in.weight.data_ptr() == weight.data_ptr()
    with pytest.raises(WeightsError, match="lack unet"):
        MCDMModel.from_states(pipe.config, {name: state for name, state in states.items() if name != "unet"})
