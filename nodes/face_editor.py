"""Face Editor: sliders for expression, gaze and head that show the face at once; a line for the samplers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..mcdm_core.models.motion_tokens import EXPRESSIONS
from .comfy.media import media_bridge
from .comfy.page.live_faces import LIVE_FACES
from .comfy.page.looks import TRAITS, look_of
from .comfy.page.node_run import NodeRun
from .comfy.page.progress import data_url
from .sockets import inputs
from .sockets.schema import schema

if TYPE_CHECKING:
    from ..mcdm_core.pipeline.reference import Reference as CoreReference
    from .comfy.models.model_patcher import LoadedModel


class MCDMFaceEditor(io.ComfyNode):
    """A look, tried on the portrait, as a line of the samplers' expression schedule."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        def slider(name: str, low: float, high: float, default: float, tooltip: str) -> io.Float.Input:
            return io.Float.Input(
                name,
                default=default,
                min=low,
                max=high,
                step=0.05,
                display_mode=io.NumberDisplay.slider,
                tooltip=tooltip,
            )

        return schema(
            "MCDMFaceEditor",
            "Face Editor",
            description="Sliders for expression, gaze and head; the face follows them at once after the first run.",
            search_aliases=["expression editor", "gaze", "brows", "smile", "head pose", "emotion slider"],
            is_output_node=True,
            inputs=[
                inputs.model(),
                inputs.reference(),
                io.Combo.Input(
                    "expression", options=list(EXPRESSIONS), default="neutral", tooltip="One of eight expressions."
                ),
                slider("strength", 0.0, 1.5, 0.8, "Strength of the expression."),
                *(slider(name, -1.0, 1.0, 0.0, tooltip) for name, tooltip in TRAITS.items()),
                io.Float.Input(
                    "seconds",
                    default=0.0,
                    min=0.0,
                    max=86400.0,
                    step=0.1,
                    tooltip="When the video takes this look on, in seconds.",
                ),
                io.String.Input(
                    "earlier",
                    optional=True,
                    force_input=True,
                    tooltip="The line of another Face Editor, whose looks come beside this one.",
                ),
            ],
            outputs=[
                io.String.Output("line", display_name="expression", tooltip="For 'expression' of the samplers."),
                io.Image.Output("image", display_name="image", tooltip="The face crop with this look."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        model: LoadedModel,
        reference: CoreReference,
        expression: str,
        strength: float,
        smile: float,
        brows: float,
        eyes: float,
        gaze_x: float,
        gaze_y: float,
        yaw: float,
        pitch: float,
        roll: float,
        seconds: float,
        earlier: str | None = None,
    ) -> io.NodeOutput:
        from ..mcdm_core.motion.expression_schedule import format_key, parse_schedule

        traits = {"smile": smile, "brows": brows, "eyes": eyes, "gaze_x": gaze_x, "gaze_y": gaze_y}
        traits |= {"yaw": yaw, "pitch": pitch, "roll": roll}
        look = look_of({"expression": expression, "strength": strength, "seconds": seconds} | traits)
        keys = sorted([*parse_schedule(earlier or ""), look], key=lambda key: key.seconds)
        run = NodeRun.of(cls)
        LIVE_FACES.keep(run, model, reference)
        face = LIVE_FACES.picture(run.workflow, run.node, look)
        run.send("face", {"image": data_url(face)})
        line = ", ".join(map(format_key, keys))
        # Kept with the result: a page that gets it out of ComfyUI's cache asks for faces under the run that made it.
        place = {"workflow": run.workflow, "node": run.node}
        return io.NodeOutput(line, media_bridge.frames_to_image(face[None]), ui={"text": [line], "face": [place]})
