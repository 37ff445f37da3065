"""Published layouts written out from diffusers' and transformers' own modules: the converter's way backwards.

What is independent of the converter: each name is composed from the original's structure, not taken from its tables.
"""

from __future__ import annotations

import torch
from torch import Tensor

State = dict[str, Tensor]


def original_unet(state: State, levels: int = 4, layers: int = 2) -> State:
    """diffusers' UNet as the checkpoint's ``model.diffusion_model.``."""
    resnet = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    outside = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "conv_out": "out.2",
        "time_embedding.linear_2": "time_embed.2",
        "conv_norm_out": "out.0",
    }
    result: State = {}
    for key, value in state.items():
        words, name = key.split("."), None
        for ours, theirs in outside.items():
            if key.startswith(ours + "."):
                name = theirs + key[len(ours) :]
        if words[0] == "mid_block":
            place = 1 if words[1] == "attentions" else 2 * int(words[2])
            rest = words[3:] if place == 1 else [resnet[words[3]], *words[4:]]
            name = ".".join(["middle_block", str(place), *rest])
        elif words[0] in ("down_blocks", "up_blocks"):
            down, level, kind, layer = words[0] == "down_blocks", int(words[1]), words[2], int(words[3])
            number = level * (layers + 1) + layer + (1 if down else 0)
            block = "input_blocks" if down else "output_blocks"
            if kind == "resnets":
                name = ".".join([block, str(number), "0", resnet[words[4]], *words[5:]])
            elif kind == "attentions":
                name = ".".join([block, str(number), "1", *words[4:]])
            elif kind == "downsamplers":
                name = ".".join([block, str((level + 1) * (layers + 1)), "0.op", words[-1]])
            else:
                attended = any(k.startswith(f"up_blocks.{level}.attentions") for k in state)
                name = ".".join([block, str(level * (layers + 1) + layers), "2" if attended else "1", *words[4:]])
        assert name is not None, key
        result["model.diffusion_model." + name] = value
    return result


def original_vae(state: State, levels: int = 4) -> State:
    """diffusers' autoencoder as the checkpoint's ``first_stage_model.``, its attention as 1x1 convolutions."""
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}
    result: State = {}
    for key, value in state.items():
        words = key.split(".")
        if words[1:2] == ["mid_block"]:
            if words[2] == "attentions":
                tail = words[-1]
                words = [words[0], "mid", "attn_1", attention[words[4]], tail]
                value = value[:, :, None, None] if value.dim() == 2 else value
            else:
                words = [words[0], "mid", f"block_{int(words[3]) + 1}", *words[4:]]
        elif words[1:2] in (["down_blocks"], ["up_blocks"]):
            down, level = words[1] == "down_blocks", int(words[2])
            head = [words[0], "down" if down else "up", str(level if down else levels - 1 - level)]
            if words[3] == "resnets":
                words = [*head, "block", words[4], *words[5:]]
            else:
                words = [*head, "downsample" if down else "upsample", *words[5:]]
        elif words[1:2] == ["conv_norm_out"]:
            words[1] = "norm_out"
        words = ["nin_shortcut" if word == "conv_shortcut" else word for word in words]
        result["first_stage_model." + ".".join(words)] = value
    return result


def older_vae(state: State) -> State:
    """The names older versions of diffusers gave the autoencoder's attention; published files still have them."""
    names = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    result: State = {}
    for key, value in state.items():
        for new, old in names.items():
            key = key.replace(".attentions.0." + new, ".attentions.0." + old)
        result[key] = value
    return result


def original_clip(state: State) -> State:
    """A transformers vision tower (bare names) as ``visual.`` of OpenAI's model."""
    direct = {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.patch_embedding.weight": "conv1.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
    }
    within = {
        "self_attn.out_proj": "attn.out_proj",
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    result: State = {}
    for key, value in state.items():
        if key in direct:
            result["visual." + direct[key]] = value
        elif key.startswith(("pre_layrnorm", "post_layernorm")):
            result["visual.ln_" + ("pre." if key.startswith("pre") else "post.") + key.split(".")[-1]] = value
        else:
            number, rest = key.removeprefix("encoder.layers.").split(".", 1)
            layer = f"visual.transformer.resblocks.{number}."
            if "self_attn.q_proj" in rest:
                kind = rest.split(".")[-1]
                three = [state[key.replace("q_proj", f"{name}_proj")] for name in "qkv"]
                result[f"{layer}attn.in_proj_{kind}"] = torch.cat(three)
            elif "k_proj" not in rest and "v_proj" not in rest:
                module, kind = rest.rsplit(".", 1)
                result[f"{layer}{within[module]}.{kind}"] = value
    result["visual.proj"] = torch.zeros(3, 3)
    return result
