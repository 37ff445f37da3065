"""An adapter: merged weights do what the trained layers did, others' are refused, a person is learnt."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mcdm_core.adapter import MOTION, AdapterInfo, adapter_metadata, load_adapter, merge_adapters, weights_name
from mcdm_core.checkpoint import load_checkpoint, save_checkpoint
from mcdm_core.errors import WeightsError
from mcdm_core.files import write_tensors
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.training.unet.denoiser import Denoiser

from ..motion_fixtures import CONFIG, DIM, TOKENS
from .parts.test_part_losses import NARROW, clip, run

INFO = AdapterInfo("tiny", "a model", 4.0, "anna")


def state_of(denoiser: Denoiser) -> dict[str, dict[str, Tensor]]:
    return {name: child.state_dict() for name, child in denoiser.named_children()}


@pytest.fixture
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    denoiser = Denoiser(NARROW)
    for parameter in denoiser.parameters():  # no layer is silent
        torch.nn.init.normal_(parameter, std=0.1 if parameter.dim() > 1 else 0.05)
    return denoiser.eval()


def random_change(state: dict[str, dict[str, Tensor]], key: str, rank: int = 2) -> dict[str, Tensor]:
    component, _, own = key.partition(".")
    rows, columns = state[component][f"{own}.weight"].shape
    return {f"{key}.lora_A.weight": torch.randn(rank, columns), f"{key}.lora_B.weight": torch.randn(rows, rank)}


@torch.no_grad()
def test_merged_weights_do_what_the_trained_layers_do(denoiser: Denoiser, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="trains the adapter")
    from mcdm_core.training.lora.layers import LowRankChange

    before, given = {k: dict(v) for k, v in state_of(denoiser).items()}, clip(denoiser.unet)
    plain = run(denoiser, given, given["latents"])
    change = LowRankChange(denoiser, rank=4)
    assert torch.allclose(run(denoiser, given, given["latents"]), plain, atol=1e-6)
    assert {"archived_clip_prior", "unet"} == {key.split(".")[0] for key in change.state_dict()}
    assert all(p.requires_grad for p in change.parameters())
    assert sum(p.requires_grad for p in denoiser.parameters()) == len(list(change.parameters()))
    for parameter in change.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    trained = run(denoiser, given, given["latents"])
    assert float((trained - plain).abs().max()) > 0.1 * float(plain.abs().max())
    write_tensors(tmp_path / "a.safetensors", change.state_dict(), adapter_metadata(INFO))
    merged = Denoiser(NARROW).eval()
    for strength, wanted in ((1.0, trained), (0.0, plain)):
        states = merge_adapters(before, NARROW, [(tmp_path / "a.safetensors", strength)])
        for name, child in merged.named_children():
            child.load_state_dict(states[name])
        assert torch.allclose(run(merged, given, given["latents"]), wanted, atol=1e-4)


@torch.no_grad()
def test_an_adapter_of_motion_does_what_its_trained_layers_do(tmp_path: Path, caplog) -> None:
    pytest.importorskip("peft", reason="trains the adapter")
    from mcdm_core.training.lora.layers import MOTION as LAYERS
    from mcdm_core.training.lora.layers import LowRankChange
    from mcdm_core.training.prior.train import PriorModules

    torch.manual_seed(0)
    modules = PriorModules(CONFIG).eval()
    for parameter in modules.parameters():  # no layer is silent
        torch.nn.init.normal_(parameter, std=0.1)
    before = {name: {k: v.clone() for k, v in child.state_dict().items()} for name, child in modules.named_children()}
    audio = torch.randn(1, 8, CONFIG.audio_encoder.tokens_per_frame, CONFIG.audio_encoder.feature_dim)
    past, image = torch.randn(1, 2, TOKENS, DIM), torch.randn(1, 4, CONFIG.image_encoder.feature_dim)

    def predicted(prior) -> Tensor:
        return prior.predict(audio, image, past, steps=2, generator=torch.Generator().manual_seed(0))

    plain = predicted(modules.present_clip_prior)
    change = LowRankChange(modules, rank=3, targets=LAYERS)
    touched = {key.split(".")[2] for key in change.state_dict() if "blocks" in key}
    assert {key.split(".")[0] for key in change.state_dict()} == {"present_clip_prior"}
    assert touched == {str(layer) for layer in range(CONFIG.present_clip_prior.num_layers)}
    assert torch.allclose(predicted(modules.present_clip_prior), plain, atol=1e-6)
    for parameter in change.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    trained, path = predicted(modules.present_clip_prior), tmp_path / "a.safetensors"
    assert float((trained - plain).abs().max()) > 0.1
    name = weights_name(before, CONFIG, MOTION)
    write_tensors(path, change.state_dict(), adapter_metadata(AdapterInfo("tiny", name, 3.0, "anna")))
    merged = PriorModules(CONFIG).eval()
    with caplog.at_level(logging.WARNING):
        for strength, wanted in ((1.0, trained), (0.0, plain)):
            states = merge_adapters({**before, "unet": {"a": torch.ones(1)}}, CONFIG, [(path, strength)])
            merged.present_clip_prior.load_state_dict(states["present_clip_prior"])
            merged.audio_encoder.load_state_dict(states["audio_encoder"])
            assert torch.allclose(predicted(merged.present_clip_prior), wanted, atol=1e-4)
    assert "other weights" not in caplog.text, "another painter is no other prior"


def test_adapters_add_up_by_their_strengths(denoiser: Denoiser, tmp_path: Path) -> None:
    states = state_of(denoiser)
    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    own = f"{key.removeprefix('unet.')}.weight"
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    changes = []
    for path in files:
        tensors = random_change(states, key)
        write_tensors(path, tensors, adapter_metadata(INFO))
        down, up = tensors.values()
        changes.append(up @ down * INFO.alpha / len(down))
    merged = merge_adapters(states, NARROW, [(files[0], 0.5), (files[1], -2.0)])
    assert torch.allclose(merged["unet"][own], states["unet"][own] + 0.5 * changes[0] - 2 * changes[1], atol=1e-4)
    assert not torch.equal(merged["unet"][own], states["unet"][own]), "the weights given have to stay"


def test_what_does_not_fit_is_refused(denoiser: Denoiser, tmp_path: Path) -> None:
    states, path = state_of(denoiser), tmp_path / "a.safetensors"
    key = "unet.mid.to_q"

    def refused(tensors: dict[str, Tensor], match: str) -> None:
        write_tensors(path, tensors, adapter_metadata(INFO))
        with pytest.raises(WeightsError, match=match):
            merge_adapters(states, NARROW, [(path, 1.0)])

    refused({f"{key}.lora_A.weight": torch.ones(2, 3), f"{key}.lora_B.weight": torch.ones(3, 2)}, "lacks")
    refused({f"{key}.lora_A.weight": torch.ones(2, 3)}, "counterpart")
    header = json.dumps({"__metadata__": adapter_metadata(INFO)}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)  # safetensors 0.4.3 spoils an empty one
    with pytest.raises(WeightsError, match="changes nothing"):
        merge_adapters(states, NARROW, [(path, 1.0)])
    there = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    refused({f"{there}.lora_A.weight": torch.ones(2, 3), f"{there}.lora_B.weight": torch.ones(32, 2)}, "another model")
    refused({f"{there}.lora_A.weight": torch.ones(2, 32), f"{there}.lora_B.weight": torch.ones(32, 3)}, "another model")
    save_checkpoint(path, states, NARROW)
    with pytest.raises(WeightsError, match="no adapter"):
        load_adapter(path)
    with pytest.raises(WeightsError, match="no adapter at"):
        load_adapter(tmp_path / "none.safetensors")


def test_an_adapter_of_other_weights_is_told_of(denoiser: Denoiser, tmp_path: Path, caplog) -> None:
    states = state_of(denoiser)
    tensors = random_change(states, "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q")
    path = tmp_path / "a.safetensors"
    with caplog.at_level(logging.WARNING):
        info = dataclasses.replace(INFO, model=weights_name(states, NARROW))
        write_tensors(path, tensors, adapter_metadata(info))
        merge_adapters(states, NARROW, [(path, 1.0), (path, 1.0)])
        assert not caplog.records
        write_tensors(path, tensors, adapter_metadata(INFO))
        merge_adapters(states, NARROW, [(path, 1.0)])
    assert "other weights" in caplog.text


def test_a_pipeline_takes_adapters_and_has_a_name_of_its_own(pipe: MCDMPipeline, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    save_checkpoint(weights, pipe.model.states(), pipe.config)
    key = next(name for name, layer in pipe.model.named_modules() if name.endswith("present_attn.to_v"))
    write_tensors(tmp_path / "a.safetensors", random_change(pipe.model.states(), key), adapter_metadata(INFO))
    plain = MCDMPipeline.from_file(weights)
    adapted = MCDMPipeline.from_file(weights, adapters=[(tmp_path / "a.safetensors", 0.5)])
    assert adapted.fingerprint != plain.fingerprint  # memories and unfinished videos are not mixed up
    changed = [
        name
        for name, weight in adapted.model.named_parameters()
        if not torch.equal(weight, plain.model.get_parameter(name))
    ]
    assert changed == [f"{key}.weight"]
    with pytest.raises(WeightsError, match="bundle"):
        MCDMPipeline.from_file(tmp_path, adapters=[(tmp_path / "a.safetensors", 1.0)])


def test_info_tells_what_an_adapter_is(denoiser: Denoiser, tmp_path: Path, capsys) -> None:
    from mcdm_core.__main__ import main

    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    write_tensors(tmp_path / "a.safetensors", random_change(state_of(denoiser), key), adapter_metadata(INFO))
    assert main(["info", str(tmp_path / "a.safetensors")]) == 0
    assert "adapter of anna for tiny (a model), changes 1 layers" in capsys.readouterr().out


def test_a_person_without_clips_to_measure_on_is_told_how_to_get_some(tmp_path: Path, capsys) -> None:
    from mcdm_core.__main__ import main

    (tmp_path / "anna" / "train").mkdir(parents=True)
    write_tensors(tmp_path / "anna" / "train" / "a.safetensors", {"0/audio": torch.ones(1)}, {"clips": "[{}]"})
    assert main(["train", "lora", "--data", str(tmp_path / "anna"), "--output", str(tmp_path / "run")]) == 1
    assert "keeps a fifth of the files apart" in capsys.readouterr().err


def test_a_strength_stands_after_a_colon() -> None:
    from mcdm_core.cli.arguments import adapter

    assert adapter("a/b.safetensors:0.5") == (Path("a/b.safetensors"), 0.5)
    assert adapter("b.safetensors:-1") == (Path("b.safetensors"), -1.0)
    assert adapter("b.safetensors") == (Path("b.safetensors"), 1.0)
    assert adapter("c:/b.safetensors") == (Path("c:/b.safetensors"), 1.0)


def test_a_manifest_names_adapters_beside_it(tmp_path: Path) -> None:
    import argparse

    from mcdm_core.cli.generate_many import read_jobs

    lines = [{"lora": "anna.safetensors:0.8"}, {"lora": ["anna.safetensors", "calm.safetensors:2"]}]
    (tmp_path / "jobs.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    jobs = read_jobs(tmp_path / "jobs.jsonl", tmp_path / "out", argparse.Namespace(), lambda own, all_: 0)
    assert jobs[0].arguments[:2] == ("--lora", f"{tmp_path}/anna.safetensors:0.8")
    assert jobs[1].arguments[1:3] == (f"{tmp_path}/anna.safetensors", f"{tmp_path}/calm.safetensors:2")


@pytest.mark.slow
def test_a_person_is_learnt_and_the_training_goes_on_where_it_was(tmp_path: Path, capsys) -> None:
    pytest.importorskip("peft", reason="trains the adapter")
    from mcdm_core.__main__ import main
    from mcdm_core.pipeline import preset_weights
    from mcdm_core.training.lora.train import LoraRecipe, train_lora

    from .test_end_to_end import _speaking_clips, _write

    for split, count in (("train", 3), ("val", 2)):
        clips = _speaking_clips(count, seed=len(split))
        for one in clips:  # a person with green lips, whom no portrait shows so
            one["frames"] = one["frames"].copy()
            side = one["frames"].shape[1]
            for frame, points in zip(one["frames"], one["landmarks"], strict=True):
                x, y = (points[:20].mean(0) * side).astype(int)
                frame[y - 8 : y + 8, x - 14 : x + 14, 1] = 255
        _write(tmp_path / "anna" / split, clips, "real video")
    folders = [tmp_path / "anna" / split for split in ("train", "val")]
    output, weights = tmp_path / "run" / "lora.safetensors", preset_weights("tiny")
    recipe = dataclasses.replace(LoraRecipe(), rank=4, clips=1)
    first = train_lora(folders[:1], folders[1:], weights, output, recipe, steps=5, person="anna", bfloat16=False)
    result = train_lora(folders[:1], folders[1:], weights, output, recipe, steps=60, person="anna", bfloat16=False)
    assert first.steps == 5 and result.steps == 60
    assert result.after["mouth"] > result.before["mouth"] + 0.5
    pairs, info = load_adapter(output)
    assert info.person == "anna" and info.preset == "tiny" and output.stat().st_size < 4e6
    states = load_checkpoint(weights).states
    assert all(key.partition(".")[2] in states[key.partition(".")[0]] for key in pairs)
    video = tmp_path / "a.mp4"
    capsys.readouterr()
    assert main(["generate", "--lora", f"{output}:0.5", "--output", str(video), "--steps", "1"]) == 0
    assert video.stat().st_size > 1000
