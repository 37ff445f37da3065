"""Gates of painting: mouths and eyes beside the laziest baselines, and what is lost when an idea is switched off.

Scores come from people whom the weights were not trained on (``training/parts/painting.py``). A gate whose idea is
dead is missed: the loss without it is then zero.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...errors import MCDMError
from ...pipeline import MCDMPipeline
from ...pipeline.defaults import sampling_defaults
from ...training.parts.rows import FrameRows
from ...training.parts.validation import validate_parts
from .rule import Rule, Scores


def _db(name: str) -> Callable[[Scores], str]:
    return lambda scores: f"{scores[name]:.2f} dB"


PAINTING_RULES = (
    Rule(
        "mouth above the pixel warp, all frames, dB",
        lambda s: s["mouth"] - s["mouth_warp"],
        0.3,
        99,
        lambda s: f"warp {s['mouth_warp']:.2f}, held still {s['mouth_still']:.2f} dB",
        "mouth",
    ),
    Rule(
        "mouth above the pixel warp, widest fifth, dB",
        lambda s: s["wide"] - s["wide_warp"],
        1.5,
        99,
        lambda s: f"warp {s['wide_warp']:.2f}, held still {s['wide_still']:.2f} dB",
        "mouth",
    ),
    Rule(
        "mouth above the portrait held still, dB",
        lambda s: s["mouth"] - s["mouth_still"],
        1.0,
        99,
        lambda s: f"held still {s['mouth_still']:.2f} dB",
        "mouth",
    ),
    Rule(
        "lids around a blink above the pixel warp, dB",
        lambda s: s["blink"] - s["blink_warp"],
        1.0,
        99,
        lambda s: f"warp {s['blink_warp']:.2f}, held still {s['blink_still']:.2f} dB",
        "blink",
    ),
    Rule(
        "widest mouths: loss without the archive, dB",
        lambda s: s["wide"] - s["wide_without_archive"],
        0.5,
        99,
        _db("wide_without_archive"),
        "mouth",
    ),
    Rule(
        "widest mouths: loss without the gallery of archived pictures, dB",
        lambda s: s["wide"] - s["wide_without_gallery"],
        0.5,
        99,
        lambda s: f"{s['wide_without_gallery']:.2f}, the archived mouth most alike {s['wide_nearest']:.2f} dB",
        "mouth",
    ),
    Rule(
        "widest mouths above the archived mouth most alike, dB",
        lambda s: s["wide"] - s["wide_nearest"],
        0.5,
        99,
        _db("wide_nearest"),
        "mouth",
    ),
    Rule(
        "mouth: a gallery of nothing but the portrait above none, dB",
        lambda s: s["without_bare_gallery"] - s["without_gallery"],
        -0.1,
        99,
        _db("without_gallery"),
        "mouth",
    ),
    Rule(
        "mouth: loss without F_ac, dB", lambda s: s["mouth"] - s["without_f_ac"], 0.05, 99, _db("without_f_ac"), "mouth"
    ),
    Rule(
        "mouth: loss without motion tokens, dB",
        lambda s: s["mouth"] - s["without_tokens"],
        2.0,
        99,
        _db("without_tokens"),
        "mouth",
    ),
    Rule(
        "mouth: loss without the codec's tokens, contours left, dB",
        lambda s: s["mouth"] - s["without_codec_tokens"],
        0.05,
        99,
        _db("without_codec_tokens"),
        "mouth",
    ),
    Rule(
        "mouth: loss without the UNet, dB",
        lambda s: s["mouth"] - s["without_unet"],
        1.0,
        99,
        _db("without_unet"),
        "mouth",
    ),
    Rule(
        "seam between clips over the same change inside a clip",
        lambda s: s["seam"],
        0.0,
        1.1,
        lambda s: f"without M {s['seam_without_memory']:.3f}",
        "seam",
    ),
    Rule("seam: gain by M", lambda s: s["seam_without_memory"] - s["seam"], 1e-3, 99, lambda s: "0", "seam"),
    Rule(
        "sharpness of mouths over true ones",
        lambda s: s["sharpness"],
        0.7,
        1.2,
        lambda s: f"warp {s['sharpness_warp']:.2f}, autoencoder's decoder {s['sharpness_without_part_decoder']:.2f}",
        "mouth",
    ),
    Rule(
        "sharpness of mouths: loss without their own decoder",
        lambda s: s["sharpness"] - s["sharpness_without_part_decoder"],
        0.05,
        99,
        lambda s: f"{s['sharpness_without_part_decoder']:.2f}, mouth {s['without_part_decoder']:.2f} dB",
        "mouth",
    ),
    Rule(
        "teeth of photographs: loss where their decoder sees no archive, dB",
        lambda s: s["teeth"] - s["teeth_without_archive_sight"],
        0.05,
        99,
        _db("teeth_without_archive_sight"),
        "teeth",
    ),
    Rule(
        "teeth of photographs: loss without the archive, dB",
        lambda s: s["teeth"] - s["teeth_without_archive"],
        0.5,
        99,
        lambda s: f"{s['teeth_without_archive']:.2f}, warp {s['teeth_warp']:.2f}, shut {s['teeth_still']:.2f} dB",
        "teeth",
    ),
)


def painting_scores(
    pipe: MCDMPipeline, folder: Path, *, limit: int = 6, steps: int | None = None, sheet: Path | None = None
) -> Scores:
    """Mean scores over the first ``limit`` clips of a folder of shards, sampled in the preset's number of ``steps``.

    ``sheet`` is a picture of mouths and eyes.

    Raises:
        MCDMError: if the model paints no parts, or the folder has no clip of two clips' length.
    """
    config = pipe.config
    if not config.parts.size:
        raise MCDMError("These weights paint the whole crop; the gates are for those that paint parts of a face.")
    length = config.clip_frames
    rows = FrameRows([folder], pipe.model.motion_codec, config.image_size, minimum=2 * length, limit=limit)
    return validate_parts(
        pipe.model,
        pipe.model.vae,
        rows,
        config,
        bypass_temporal=pipe.stage == 1,
        picture=sheet,
        people=limit,
        steps=steps or sampling_defaults(config.preset).steps,
        decoder=pipe.model.part_decoder,
    )
