"""Writes the template workflows from short descriptions and the committed node definitions.

Run ``python tests/comfyui/build_workflows.py`` after a change of a node's inputs; the result is committed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

from convert import widget_names  # noqa: E402

SNAPSHOT = ROOT / "tests" / "data" / "object_info.json"
COLUMN, ROW_GAP = 380, 60
SIZES = {
    "MCDMSampleVideo": (340, 620),
    "SaveVideo": (340, 400),
    "MCDMPlotMotion": (340, 340),
    "MarkdownNote": (340, 240),
}
SIZES |= {"MCDMSampleClip": (320, 420), "MCDMEncodeReference": (320, 460)}
SIZES |= {"MCDMAssembleVideo": (340, 680), "MCDMUpscaleVideo": (340, 520)}


class Graph:
    """A workflow under construction. A node is added by type, values of widgets and links ``name=(id, output)``."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.info = info
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []
        self.depth: dict[int, int] = {}

    def add(self, kind: str, title: str | None = None, **inputs: Any) -> int:
        """Add a node; a tuple ``(node id, output index)`` is a link, anything else a widget's value."""
        definition = self.info[kind]
        number = len(self.nodes) + 1
        sockets: list[dict[str, Any]] = []
        linked = {name: value for name, value in inputs.items() if isinstance(value, tuple)}
        widgets = widget_names(definition)
        values: list[Any] = []
        for group in ("required", "optional"):
            for name, spec in definition["input"].get(group, {}).items():
                kind_of = "COMBO" if isinstance(spec[0], list) else spec[0]
                if name in widgets and name not in linked:
                    continue
                socket: dict[str, Any] = {"name": name, "type": kind_of, "link": None}
                if group == "optional":
                    socket["shape"] = 7
                if name in widgets:
                    socket["widget"] = {"name": name}
                if name in linked:
                    source, index = linked[name]
                    link = [len(self.links) + 1, source, index, number, len(sockets), kind_of]
                    self.links.append(link)
                    socket["link"] = link[0]
                    self.nodes[source - 1]["outputs"][index].setdefault("links", []).append(link[0])
                sockets.append(socket)
        for name in widgets:
            values.append("fixed" if name.endswith(":control") else inputs.get(name, self._default(definition, name)))
        outputs = [
            {"name": name, "type": "COMBO" if isinstance(kind_of, list) else kind_of, "links": []}
            for name, kind_of in zip(definition["output_name"], definition["output"], strict=True)
        ]
        self.depth[number] = max((self.depth[source] + 1 for source, _ in linked.values()), default=0)
        node = self._node(number, kind, title, sockets, outputs, values)
        self.nodes.append(node)
        return number

    def note(self, text: str) -> int:
        """Add a note for the reader."""
        number = len(self.nodes) + 1
        self.depth[number] = 0
        self.nodes.append(self._node(number, "MarkdownNote", "About this workflow", [], [], [text]))
        return number

    def _node(
        self, number: int, kind: str, title: str | None, sockets: Any, outputs: Any, values: Any
    ) -> dict[str, Any]:
        lines = max(len(sockets), len(outputs)) + len(values)
        size = SIZES.get(kind, (320, 80 + 26 * lines))
        node = {
            "id": number,
            "type": kind,
            "pos": [0, 0],
            "size": list(size),
            "flags": {},
            "order": number - 1,
            "mode": 0,
        }
        node |= {
            "inputs": sockets,
            "outputs": outputs,
            "properties": {"Node name for S&R": kind},
            "widgets_values": values,
        }
        if title:
            node["title"] = title
        return node

    def _default(self, definition: dict[str, Any], name: str) -> Any:
        for group in ("required", "optional"):
            if name in definition["input"].get(group, {}):
                spec = definition["input"][group][name]
                options = spec[1] if len(spec) > 1 else {}
                choices = spec[0] if isinstance(spec[0], list) else options.get("options") or [None]
                return options.get("default", choices[0])
        raise KeyError(name)

    def finished(self) -> dict[str, Any]:
        """The workflow with its nodes in columns by depth."""
        heights: dict[int, int] = {}
        for node in self.nodes:
            column = self.depth[node["id"]]
            top = heights.get(column, 80)
            node["pos"] = [60 + COLUMN * column, top]
            heights[column] = top + node["size"][1] + ROW_GAP
        return {
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": [],
            "config": {},
            "extra": {},
            "version": 0.4,
        }


def _begin(graph: Graph, note: str, seconds: float = 0.0) -> tuple[int, int, int, int]:
    """Note, model, samples, reference and voice, which every workflow begins with."""
    graph.note(note)
    model = graph.add("MCDMLoadModel")
    samples = graph.add("MCDMSamples", portrait="portrait.png", voice="voice.flac")
    reference = graph.add("MCDMEncodeReference", model=(model, 0), image=(samples, 0))
    audio = graph.add("MCDMEmbedAudio", model=(model, 0), audio=(samples, 1), duration=seconds)
    return model, samples, reference, audio


def talking_portrait(g: Graph) -> None:
    """The shortest way from a portrait and a voice to a video."""
    note = (
        "**Talking portrait.** Press Run. Then replace *MCDM Samples* by *Load Image* and *Load Audio* with "
        "your own; only use "
    )
    note += "faces and voices of people who agreed."
    model, _, reference, audio = _begin(g, note)
    video = g.add("MCDMSampleVideo", model=(model, 0), reference=(reference, 0), audio=(audio, 0))
    whole = g.add("MCDMAssembleVideo", model=(model, 0), reference=(reference, 0), video=(video, 0))
    g.add("SaveVideo", video=(whole, 0), filename_prefix="mcdm/talking_portrait")


def long_video(g: Graph) -> None:
    """A long sound; clips lie on disk as they come, and a stopped run goes on."""
    note = (
        "**Long video to disk.** Clips are kept under output/mcdm as they come. Stop it whenever you like, "
        "by Cancel or by closing "
    )
    note += "ComfyUI: with the same inputs the next Run goes on where it ended. Memory does not grow with length."
    g.note(note)
    model = g.add("MCDMLoadModel")
    samples = g.add("MCDMSamples", portrait="portrait.png", voice="voice.flac")
    reference = g.add("MCDMEncodeReference", model=(model, 0), image=(samples, 0))
    twice = g.add("AudioConcat", audio1=(samples, 1), audio2=(samples, 1), direction="after")
    more = g.add("AudioConcat", audio1=(twice, 0), audio2=(twice, 0), direction="after")
    audio = g.add("MCDMEmbedAudio", model=(model, 0), audio=(more, 0))
    video = g.add(
        "MCDMSampleVideo", model=(model, 0), reference=(reference, 0), audio=(audio, 0), filename_prefix="mcdm/long"
    )
    whole = g.add("MCDMAssembleVideo", model=(model, 0), reference=(reference, 0), video=(video, 0))
    g.add("SaveVideo", video=(whole, 0), filename_prefix="mcdm/long_video")


def clip_by_clip(g: Graph) -> None:
    """Three clips, each begun from the memory of the one before."""
    note = (
        "**Clip by clip.** Each *Sample Clip* makes 16 frames and hands its memory to the next. Save a "
        "memory to go on another day."
    )
    model, _, reference, audio = _begin(g, note, seconds=1.92)
    memory = g.add("MCDMStartMemory", model=(model, 0), reference=(reference, 0))
    motion = g.add(
        "MCDMPredictMotion", model=(model, 0), reference=(reference, 0), audio=(audio, 0), memory=(memory, 0)
    )
    clips: list[int] = []
    previous = (memory, 0)
    for index in range(3):
        clip = g.add(
            "MCDMSampleClip",
            title=f"Clip {index + 1}",
            model=(model, 0),
            reference=(reference, 0),
            motion=(motion, 0),
            memory=previous,
            clip_index=index,
        )
        clips.append(clip)
        previous = (clip, 2)
    g.add("MCDMSaveMemory", memory=previous, filename_prefix="clip_by_clip")
    whole = g.add(
        "MCDMAssembleVideo",
        model=(model, 0),
        reference=(reference, 0),
        images=(clips[0], 0),
        images_2=(clips[1], 0),
        images_3=(clips[2], 0),
        motion=(motion, 0),
        audio=(audio, 1),
    )
    g.add("SaveVideo", video=(whole, 0), filename_prefix="mcdm/clip_by_clip")


def head_driven(g: Graph) -> None:
    """A driver's head on the portrait; here the driver is generated first, so that nothing needs to be loaded."""
    note = (
        "**Head driven by a video.** The driver here is made by the left sampler; connect *Load Video* "
        "instead to use your own. Only "
    )
    note += "the head's movement is taken; lips and expression follow the voice."
    model, _, reference, audio = _begin(g, note, seconds=2.56)
    driver = g.add(
        "MCDMSampleVideo",
        title="The driver",
        model=(model, 0),
        reference=(reference, 0),
        audio=(audio, 0),
        seed=7,
        filename_prefix="mcdm/driver",
    )
    motion = g.add(
        "MCDMPredictMotion", model=(model, 0), reference=(reference, 0), audio=(audio, 0), driver=(driver, 0), seed=1
    )
    video = g.add(
        "MCDMSampleVideo",
        model=(model, 0),
        reference=(reference, 0),
        audio=(audio, 0),
        motion=(motion, 0),
        filename_prefix="mcdm/driven",
    )
    whole = g.add("MCDMAssembleVideo", model=(model, 0), reference=(reference, 0), video=(video, 0), motion=(motion, 0))
    g.add("SaveVideo", video=(whole, 0), filename_prefix="mcdm/head_driven")


def edited_motion(g: Graph) -> None:
    """Motion looked at and changed before it becomes pixels."""
    note = (
        "**Motion edited by hand.** Change the values of *Edit Motion* and run again: only what follows is "
        "computed anew."
    )
    model, _, reference, audio = _begin(g, note, seconds=2.56)
    motion = g.add("MCDMPredictMotion", model=(model, 0), reference=(reference, 0), audio=(audio, 0))
    edited = g.add(
        "MCDMEditMotion",
        model=(model, 0),
        reference=(reference, 0),
        motion=(motion, 0),
        head_scale=0.6,
        smooth=0.08,
        expression="happy",
        strength=0.6,
    )
    g.add("MCDMPlotMotion", title="Before", motion=(motion, 0), audio=(audio, 0))
    g.add("MCDMPlotMotion", title="After", motion=(edited, 0), audio=(audio, 0))
    video = g.add(
        "MCDMSampleVideo",
        model=(model, 0),
        reference=(reference, 0),
        audio=(audio, 0),
        motion=(edited, 0),
        filename_prefix="mcdm/edited",
    )
    whole = g.add("MCDMAssembleVideo", model=(model, 0), reference=(reference, 0), video=(video, 0), motion=(edited, 0))
    g.add("SaveVideo", video=(whole, 0), filename_prefix="mcdm/edited_motion")


def upscaled(g: Graph) -> None:
    """Two ways to a larger picture: in memory with core nodes, and streaming for any length."""
    note = (
        "**Upscaled.** Above: all frames in memory through a core node (*Upscale Image By*; *Upscale Image "
        "using Model* goes into its "
    )
    note += (
        "place). Below: *Upscale Video*, a few frames at a time, for any length; connect *Load Upscale Model* to it."
    )
    model, _, reference, audio = _begin(g, note, seconds=1.28)
    video = g.add("MCDMSampleVideo", model=(model, 0), reference=(reference, 0), audio=(audio, 0))
    whole = g.add(
        "MCDMAssembleVideo",
        model=(model, 0),
        reference=(reference, 0),
        video=(video, 0),
        compose="face crop",
        frames_out="all frames",
    )
    larger = g.add("ImageScaleBy", image=(whole, 1), upscale_method="lanczos", scale_by=2.0)
    made = g.add("CreateVideo", images=(larger, 0), audio=(whole, 2), fps=25.0)
    g.add("SaveVideo", video=(made, 0), filename_prefix="mcdm/upscaled_core")
    streamed = g.add("MCDMUpscaleVideo", video=(whole, 0), scale=2.0)
    g.add("SaveVideo", video=(streamed, 0), filename_prefix="mcdm/upscaled_streaming")


def continued(g: Graph) -> None:
    """A second part that goes on where an existing video ends."""
    note = (
        "**Continue an existing video.** The first part is made here; connect *Load Video* instead to "
        "continue your own. The reference "
    )
    note += "must be a frame of that very video."
    model, samples, reference, audio = _begin(g, note, seconds=1.28)
    rest = g.add(
        "MCDMEmbedAudio", title="The rest of the voice", model=(model, 0), audio=(samples, 1), start=1.28, duration=1.28
    )
    whole_sound = g.add("MCDMEmbedAudio", title="The whole sound", model=(model, 0), audio=(samples, 1), duration=2.56)
    first = g.add(
        "MCDMSampleVideo", title="An existing video", model=(model, 0), reference=(reference, 0), audio=(audio, 0)
    )
    memory = g.add("MCDMMemoryFromVideo", model=(model, 0), reference=(reference, 0), video=(first, 0))
    second = g.add(
        "MCDMSampleVideo",
        title="Its continuation",
        model=(model, 0),
        reference=(reference, 0),
        audio=(rest, 0),
        memory=(memory, 0),
        filename_prefix="mcdm/continued",
        frames_out="all frames",
    )
    whole = g.add(
        "MCDMAssembleVideo",
        model=(model, 0),
        reference=(reference, 0),
        video=(first, 0),
        images=(second, 1),
        audio=(whole_sound, 1),
    )
    g.add("SaveVideo", video=(whole, 0), filename_prefix="mcdm/continued_video")


WORKFLOWS = {
    "mcdm_1_talking_portrait": talking_portrait,
    "mcdm_2_long_video_to_disk": long_video,
    "mcdm_3_clip_by_clip_with_memory": clip_by_clip,
    "mcdm_4_head_driven_by_a_video": head_driven,
    "mcdm_5_motion_edited_by_hand": edited_motion,
    "mcdm_6_upscaled": upscaled,
    "mcdm_7_continue_a_video": continued,
}


def main() -> None:
    """Write every workflow."""
    info = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    for name, build in WORKFLOWS.items():
        graph = Graph(info)
        build(graph)
        path = ROOT / "workflows" / f"{name}.json"
        path.write_text(json.dumps(graph.finished(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
