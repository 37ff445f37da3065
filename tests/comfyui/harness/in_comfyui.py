"""Runs inside ComfyUI's own Python: model management and borrowed encoders, without a server. See test_in_comfyui.py.

Usage, from ComfyUI's folder: ``python in_comfyui.py CASE PACK``; prints one JSON line of figures.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, "")

import comfy.cli_args

comfy.cli_args.args.cpu = True

import comfy.model_management  # noqa: E402
import comfy.sd  # noqa: E402
import torch  # noqa: E402
import utils.extra_config  # noqa: E402, F401  (as main.py does, before nodes.py puts comfy/utils.py in its way)


def load_pack(path: Path) -> None:
    """Import the pack as ComfyUI does, under a name that is no package of ours."""
    spec = importlib.util.spec_from_file_location(
        "mcdm_pack", path / "__init__.py", submodule_search_locations=[str(path)]
    )
    assert spec and spec.loader
    sys.modules["mcdm_pack"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


def node(name: str) -> Any:
    """A module of ``nodes``."""
    return importlib.import_module(f"mcdm_pack.nodes.{name}")


def core(name: str) -> Any:
    """A module of ``mcdm_core``."""
    return importlib.import_module(f"mcdm_pack.mcdm_core.{name}")


def shipped() -> Path:
    """The weights of the pack."""
    return core("pipeline").preset_weights("tiny")


def one_clip(loaded: Any) -> torch.Tensor:
    """The first frames [16, 3, h, w] that a loaded model makes of the samples."""
    samples = core("samples")
    picture = core("media.portrait").load_portrait(samples.default_portrait())
    sound = core("media.audio").load_audio(samples.default_voice())
    with torch.inference_mode():
        pipeline = loaded.ready()
        reference = pipeline.encode_reference(picture)
        audio = pipeline.embed_audio(sound.waveform[:, : round(0.7 * sound.sample_rate)], sound.sample_rate)
        return next(iter(pipeline.generate(reference, audio, seed=3))).frames


def dtypes() -> dict[str, Any]:
    """How far each number format's frames are from float32's, and what share of the weights ComfyUI can offload."""
    load, wrap = node("comfy.models.pipeline_loading").load_pipeline, node("comfy.models.model_patcher").LoadedModel
    exact, found = None, {}
    for name in ("float32", "bfloat16", "float16", "auto"):
        loaded = wrap(load(shipped(), name, "model's own"), name)
        frames = one_clip(loaded)
        exact = frames if exact is None else exact
        castable = [layer for layer in loaded.pipeline.model.modules() if hasattr(layer, "comfy_cast_weights")]
        inside = sum(weight.numel() for layer in castable for weight in layer.parameters(recurse=False))
        found[name] = {
            "difference": float((frames - exact).abs().mean()),
            "finite": bool(torch.isfinite(frames).all()),
            "castable": inside / sum(weight.numel() for weight in loaded.pipeline.model.parameters()),
            "megabytes": loaded.patcher.model_size() / 2**20,
        }
    return found


def partial() -> dict[str, Any]:
    """Frames of a model that ComfyUI has loaded only in part, then unloaded, then loaded whole."""
    wrap = node("comfy.models.model_patcher").LoadedModel
    loaded = wrap(node("comfy.models.pipeline_loading").load_pipeline(shipped(), "float32", "model's own"), "tiny")
    whole = one_clip(loaded)
    patcher = loaded.patcher
    comfy.model_management.unload_all_models()
    patcher.patch_model(patcher.load_device, lowvram_model_memory=4 * 2**20)
    low = sum(hasattr(layer, "prev_comfy_cast_weights") for layer in loaded.pipeline.model.modules())
    in_part = one_clip(Held(loaded))
    part_size = patcher.loaded_size()
    patcher.detach()
    again = one_clip(loaded)
    return {
        "left behind": low,
        "loaded": part_size,
        "all": patcher.model_size(),
        "in part": float((in_part - whole).abs().max()),
        "again": float((again - whole).abs().max()),
    }


class Held:
    """A loaded model that is taken as it stands."""

    def __init__(self, loaded: Any) -> None:
        self.pipeline = loaded.pipeline

    def ready(self) -> Any:
        """Without asking ComfyUI to load it."""
        return self.pipeline


def dynamic() -> dict[str, Any]:
    """ComfyUI's dynamic VRAM makes layers without weights; ours must not. (Its device part needs a GPU.)"""
    try:
        import comfy.memory_management
    except ModuleNotFoundError:
        return {"dynamic": False}
    wrap, load = node("comfy.models.model_patcher").LoadedModel, node("comfy.models.pipeline_loading").load_pipeline
    plain = one_clip(wrap(load(shipped(), "float32", "model's own"), "tiny"))
    comfy.memory_management.aimdo_enabled = True
    pipeline = load(shipped(), "float32", "model's own")
    comfy.memory_management.aimdo_enabled = False
    return {"dynamic": True, "difference": float((one_clip(wrap(pipeline, "tiny")) - plain).abs().max())}


def sockets() -> dict[str, Any]:
    """ComfyUI's own encoders, with small random weights, against the library's with the same weights."""
    borrow, config = node("comfy.models.base_components"), core("config").BASE
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        return _vae(borrow, config, picture) | _clip_vision(borrow, config, picture) | _audio(borrow, config)


def _vae(borrow: Any, config: Any, picture: torch.Tensor) -> dict[str, Any]:
    ours = core("models.vae").StableDiffusionAutoencoder(config).eval()
    theirs = borrow.BorrowedVAE(comfy.sd.VAE(sd=ours.autoencoder.state_dict()), config)
    latents, expected = theirs.encode(picture), ours.encode(picture)
    return {
        "vae encode": float((latents - expected).abs().max() / expected.abs().max()),
        "vae decode": float((theirs.decode(expected) - ours.decode(expected).clamp(-1, 1)).abs().max()),
        "vae repeat": float((theirs.encode(picture) - latents).abs().max()),
    }


def _clip_vision(borrow: Any, config: Any, picture: torch.Tensor) -> dict[str, Any]:
    import comfy.clip_vision
    from transformers import CLIPVisionConfig, CLIPVisionModel

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    sizes |= {"image_size": 224, "patch_size": 56, "projection_dim": 16}
    tower = CLIPVisionModel(CLIPVisionConfig(**sizes, hidden_act="quick_gelu")).eval()
    ours = core("models.image_encoder").CLIPImageEncoder(config, tower)
    settings = sizes | {"num_channels": 3, "hidden_act": "quick_gelu", "model_type": "clip_vision_model"}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(settings, file)
        file.flush()
        theirs = comfy.clip_vision.ClipVisionModel(file.name)
    states = {
        key if key.startswith("vision_model.") else f"vision_model.{key}": t for key, t in tower.state_dict().items()
    }
    missing, unexpected = theirs.load_sd(states)
    large = torch.nn.functional.interpolate(picture, size=(224, 224), mode="bilinear")
    tokens, expected = borrow.BorrowedCLIPVision(theirs)(large), ours(large)
    return {
        "clip unknown": [key for key in unexpected if "position_ids" not in key],
        "clip missing": [key for key in missing if "projection" not in key and "position_ids" not in key],
        "clip shape": list(tokens.shape) == list(expected.shape),
        "clip": float((tokens - expected).abs().max() / expected.abs().max()),
    }


def _audio(borrow: Any, config: Any) -> dict[str, Any]:
    import comfy.audio_encoders.audio_encoders as encoders
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    settings = {"embed_dim": 768, "num_heads": 12, "num_layers": 2, "conv_norm": False, "conv_bias": False}
    settings |= {"model_type": "wav2vec2", "do_normalize": False, "do_stable_layer_norm": False}
    library = Wav2Vec2Model(Wav2Vec2Config(num_hidden_layers=2)).eval()
    ours = core("models.audio_encoder").Wav2Vec2AudioEncoder(config, library)
    theirs = encoders.AudioEncoderModel(settings)
    missing, unexpected = theirs.load_sd(library.state_dict())
    voice = torch.sin(torch.arange(16_000) * 0.05) * torch.linspace(0.1, 1, 16_000)
    borrowed = borrow.BorrowedAudioEncoder(theirs)
    tokens = borrowed(borrowed.frame_windows(voice, 16_000, 25.0, 25))
    expected = ours(ours.frame_windows(voice, 16_000, 25.0, 25))
    return {
        "audio unknown": list(unexpected),
        "audio missing": [key for key in missing if "masked_spec" not in key],
        "audio shape": list(tokens.shape) == list(expected.shape),
        "audio": float((tokens - expected).abs().max() / expected.abs().max()),
    }


def lent() -> dict[str, Any]:
    """A model with stock encoders, loaded with its three sockets connected; its own encoders must not be made."""
    model, tiny, base = core("model"), core("config").TINY, core("config").BASE
    names = ("vae", "image_encoder", "audio_encoder")
    config = dataclasses.replace(tiny, **{name: getattr(base, name) for name in names})
    own = model.MCDMModel(tiny).states()
    states = model.MCDMModel(config, given={name: torch.nn.Identity() for name in names}).states()
    states |= {name: own[name] for name in names}
    loans = {"vae": Loan(config.vae.latent_channels), "clip_vision": Loan(), "audio_encoder": Loan()}
    load, save = node("comfy.models.pipeline_loading").load_pipeline, core("checkpoint").save_checkpoint
    built: list[str] = []
    for build in ("build_autoencoder", "build_image_encoder", "build_audio_encoder"):
        setattr(model, build, lambda *_, name=build: built.append(name))
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case, dropped in (("without", names), ("with", ())):
            path = Path(folder) / f"{case}.safetensors"
            save(path, {name: state for name, state in states.items() if name not in dropped}, config)
            pipeline = load(path, "float32", "model's own", **loans)
            parts = [type(getattr(pipeline.model, name)).__name__ for name in names]
            found[case] = {"parts": parts, "weights": sum(len(pipeline.model.states()[name]) for name in names)}
        try:
            load(Path(folder) / "without.safetensors", "float32", "model's own", vae=loans["vae"])
        except core("errors").WeightsError as error:
            found["message"] = str(error)
    return found | {"built": built}


class Loan:
    """In place of a ComfyUI object; it is only held."""

    def __init__(self, latent_channels: int = 0) -> None:
        self.latent_channels = latent_channels


def run_node(kind: str, **inputs: Any) -> tuple[Any, ...]:
    """Execute a node as ComfyUI does, but for its server and cache; its outputs."""
    from comfy_api.latest import io

    listed = {cls.GET_SCHEMA().node_id: cls for cls in node("extension").NODES}
    hidden = {io.Hidden.unique_id: "7", io.Hidden.prompt: {"7": {}}}
    hidden[io.Hidden.extra_pnginfo] = {"workflow": {"id": "a workflow"}}
    clone = type(kind, (listed[kind],), {"hidden": io.HiddenHolder.from_dict(hidden)})
    defaults = {}
    for given in listed[kind].GET_SCHEMA().inputs:
        value = getattr(given, "default", None)
        if value is None and getattr(given, "options", None):
            value = given.options[0]
        if value is not None:
            defaults[given.id] = value
    with torch.inference_mode():
        outputs = clone.execute(**defaults | inputs)
    print(kind, "done", file=sys.stderr, flush=True)
    return outputs.expand or outputs.result


def whole() -> dict[str, Any]:
    """Portrait and voice through the nodes to a video, larger, and dubbed; what each made, in figures."""
    import av
    import folder_paths

    with tempfile.TemporaryDirectory() as base:
        for name, use in (("output", folder_paths.set_output_directory), ("temp", folder_paths.set_temp_directory)):
            (Path(base) / name).mkdir()
            use(str(Path(base) / name))
        model = run_node("MCDMLoadModel")[0]
        image, audio = run_node("MCDMSamples")
        expanded = run_node("MCDMTalkingPortrait", image=image, audio=audio)
        (reference,), crop, check = run_node("MCDMEncodeReference", model=model, image=image)
        common = {"model": model, "reference": reference}
        embedded, sound, frames = run_node("MCDMEmbedAudio", model=model, audio=audio, duration=0.72)
        schedule = "0 happy 0.5"
        video, _, _, motion = run_node("MCDMSampleVideo", **common, audio=embedded, expression=schedule)
        finished, _, _ = run_node("MCDMAssembleVideo", **common, video=video, motion=motion)
        larger = run_node("MCDMUpscaleVideo", video=finished, scale=1.25)[0]
        dubbed = run_node("MCDMDubVideo", model=model, video=finished, audio=sound)[0]
        report = run_node("MCDMCleanUpRuns", older_than_days=0.0)[0]
        found: dict[str, Any] = {"frames": frames, "check": check, "crop": list(crop.shape), "report": report}
        found["expanded"] = sorted(part["class_type"] for part in expanded.values())
        for name, made in (("sampled", video), ("finished", finished), ("larger", larger), ("dubbed", dubbed)):
            with av.open(made.get_stream_source()) as container:
                stream = container.streams.video[0]
                found[name] = {
                    "frames": stream.frames,
                    "rate": float(stream.average_rate),
                    "width": stream.width,
                    "sound": bool(container.streams.audio),
                    "tags": sorted(set(container.metadata) & {"prompt", "workflow", "comment"}),
                }
        found["components"] = len(video.get_components().images)
        before, after = finished.get_components().images, dubbed.get_components().images
        change = (after - before).abs().amax((0, 3))
        found["changed"] = float((change > 0.1).float().mean())
        return found


def adapter() -> dict[str, Any]:
    """What an adapter in models/mcdm does through Load MCDM Model, and that it is no model."""
    import folder_paths

    patcher, load, files = node("comfy.models.model_patcher"), node("loaders").MCDMLoadModel, core("adapter")
    config, states, _ = core("checkpoint").load_checkpoint(shipped())
    key = next(name for name in states["unet"] if name.endswith("present_attn.to_v.weight"))
    rows, columns = states["unet"][key].shape
    layer, name, found = f"unet.{key.removesuffix('.weight')}", "anna.safetensors", {}
    with tempfile.TemporaryDirectory() as folder:
        folder_paths.add_model_folder_path(patcher.FOLDER, folder)
        info = files.AdapterInfo("tiny", files.weights_name(states, config), 1.0)
        tensors = {
            f"{layer}.lora_A.weight": torch.ones(1, columns),
            f"{layer}.lora_B.weight": torch.full((rows, 1), 0.01),
        }
        core("files").write_tensors(Path(folder) / name, tensors, files.adapter_metadata(info))
        found["offered"] = [name in patcher.available_adapters(), name in patcher.available_models()]
        options = {"model_name": patcher.SHIPPED, "dtype": "float32", "attention": "model's own"}
        for strength in (0.0, 0.5):
            model = load.execute(**options, adapter=name, adapter_strength=strength).args[0].pipeline.model
            weights = dict(model.unet.named_parameters())
            found[str(strength)] = float((weights[key] - states["unet"][key]).mean())
        found["reloads"] = load.fingerprint_inputs(**options) != load.fingerprint_inputs(**options, adapter=name)
    return found


CASES = {case.__name__: case for case in (dtypes, partial, dynamic, sockets, lent, whole, adapter)}

if __name__ == "__main__":
    load_pack(Path(sys.argv[2]))
    print(json.dumps(CASES[sys.argv[1]]()))
