"""Writes the template workflows from short descriptions and the committed node definitions.

Run ``python tests/comfyui/tools/build_workflows.py`` after a change of a node's inputs; the result is committed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))

from convert import widget_names  # noqa: E402

SNAPSHOT = ROOT / "tests" / "nodes" / "object_info.json"
GROUPS = ("Input", "Motion", "Video")
COLOURS = ("#3f5159", "#594a3f", "#3f5940")
IN_GROUP = {
    "MarkdownNote": 0,
    "MCDMLoadModel": 0,
    "MCDMSamples": 0,
    "MCDMEncodeReference": 0,
    "MCDMEmbedAudio": 0,
    "AudioConcat": 0,
    "EmptyAudio": 0,
    "ImageStitch": 0,
    "TrimAudioDuration": 0,
    "MCDMStartMemory": 1,
    "MCDMMemoryFromVideo": 1,
    "MCDMPredictMotion": 1,
    "MCDMEditMotion": 1,
    "MCDMFaceEditor": 1,
    "MCDMPlotMotion": 1,
}
"""Number of a node's group; all others are of the last one."""
WIDTH, GAP, TITLE, MARGIN = 340, 40, 40, 30
TALLEST = 1150
"""Height of a column of nodes."""
PANELS = {"MCDMEncodeReference": 400, "MCDMEmbedAudio": 110, "MCDMPlotMotion": 210, "SaveVideo": 260}
PANELS |= {"MarkdownNote": 180, "MCDMSampleVideo": 350, "MCDMSampleClip": 350, "MCDMAssembleVideo": 350}
PANELS |= {"MCDMFaceEditor": 270, "MCDMUpscaleVideo": 350, "MCDMTalkingPortrait": 350, "MCDMDubVideo": 350}
"""Height of what a node shows beside its sockets and widgets."""


class Graph:
    """A workflow under construction. A node is added by type, values of widgets and links ``name=(id, output)``."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.info = info
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []
        self.always: dict[str, tuple[int, int]] = {}
        """Links that every later node with an input of that name gets, unless told otherwise."""

    def add(self, kind: str, title: str | None = None, **inputs: Any) -> int:
        """Add a node; a tuple ``(node id, output index)`` is a link, anything else a widget's value."""
        definition = self.info[kind]
        known = {**definition["input"].get("required", {}), **definition["input"].get("optional", {})}
        inputs = {name: link for name, link in self.always.items() if name in known} | inputs
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
        node = self._node(number, kind, title, sockets, outputs, values)
        self.nodes.append(node)
        return number

    def note(self, text: str) -> int:
        """Add a note for the reader."""
        number = len(self.nodes) + 1
        self.nodes.append(self._node(number, "MarkdownNote", "About this workflow", [], [], [text]))
        return number

    def _node(
        self, number: int, kind: str, title: str | None, sockets: Any, outputs: Any, values: Any
    ) -> dict[str, Any]:
        links = sum("widget" not in socket for socket in sockets)
        rows = 22 * max(links, len(outputs)) + 25 * len(values)
        size = (WIDTH, (0 if kind == "MarkdownNote" else rows + 16) + PANELS.get(kind, 0))
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
        """The workflow with its nodes in groups from left to right, in columns within them."""
        groups, left = [], 60
        for number, (title, colour) in enumerate(zip(GROUPS, COLOURS, strict=True)):
            nodes = [node for node in self.nodes if self.group_of(node) == number]
            if not nodes:
                continue
            x, y, bottom = left, 100, 100
            for node in nodes:
                height = node["size"][1] + TITLE
                if y > 100 and y + height > TALLEST:
                    x, y = x + WIDTH + GAP, 100
                node["pos"] = [x, y]
                y += height + GAP
                bottom = max(bottom, y)
            top = 100 - TITLE - MARGIN - 10
            box = [left - MARGIN, top, x + WIDTH + 2 * MARGIN - left, bottom - top]
            title = f"{len(groups) + 1} {title}"
            groups.append({"id": number + 1, "title": title, "bounding": box, "color": colour, "font_size": 24})
            left = x + WIDTH + 2 * MARGIN + GAP
        return {
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": groups,
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    def group_of(self, node: dict[str, Any]) -> int:
        """Number of a node's group."""
        return IN_GROUP.get(node["type"], len(GROUPS) - 1)


def _begin(
    g: Graph, note: str, seconds: float = 0.0, doublings: int = 0, portrait: str = "portrait.png"
) -> tuple[int, int]:
    """Note, model, samples, reference and voice, which every workflow begins with; samples and voice are returned."""
    g.note(note)
    g.always["model"] = (g.add("MCDMLoadModel"), 0)
    samples = g.add("MCDMSamples", portrait=portrait, voice="voice.flac")
    g.always["reference"] = (g.add("MCDMEncodeReference", image=(samples, 0)), 0)
    voice = samples, 1
    for _ in range(doublings):
        voice = g.add("AudioConcat", audio1=voice, audio2=voice, direction="after"), 0
    return samples, g.add("MCDMEmbedAudio", audio=voice, duration=seconds)


def _save(g: Graph, video: tuple[int, int], name: str) -> None:
    g.add("SaveVideo", video=video, filename_prefix=f"mcdm/{name}")


def _assemble_and_save(g: Graph, name: str, **inputs: Any) -> None:
    """Back into the full picture, and to disk."""
    _save(g, (g.add("MCDMAssembleVideo", **inputs), 0), name)


def _sample(g: Graph, audio: int, **inputs: Any) -> dict[str, tuple[int, int]]:
    """A Sample Video; its video and motion, as inputs of Assemble Video."""
    number = g.add("MCDMSampleVideo", audio=(audio, 0), **inputs)
    return {"video": (number, 0), "motion": (number, 3)}


def one_node(g: Graph) -> None:
    """A portrait and a voice to a video in one node."""
    g.note(
        "**Talking portrait.** Press Run. Then replace *MCDM Samples* by *Load Image* and *Load Audio*; only use faces "
        "and voices of people who agreed."
    )
    samples = g.add("MCDMSamples", portrait="portrait.png", voice="voice.flac")
    _save(g, (g.add("MCDMTalkingPortrait", image=(samples, 0), audio=(samples, 1)), 0), "talking_portrait")


def talking_portrait(g: Graph) -> None:
    """The same with every step as a node of its own."""
    note = "**Step by step.** What *Talking Portrait* does, with each step as a node: look into them and change them."
    _, audio = _begin(g, note)
    _assemble_and_save(g, "step_by_step", **_sample(g, audio))


def dubbed(g: Graph) -> None:
    """A video's mouth spoken anew; here the video is made first, so that nothing needs to be loaded."""
    note = (
        "**Dub a video.** *Dub Video* gives a video a new voice. The video is made here first; connect *Load Video* "
        "and *Load Audio* instead to dub your own."
    )
    samples, audio = _begin(g, note, seconds=2.56)
    video = g.add("MCDMAssembleVideo", title="The video to dub", **_sample(g, audio, seed=3)), 0
    voice = g.add("MCDMEmbedAudio", title="The new voice", audio=(samples, 1), start=2.56, duration=2.56)
    _save(g, (g.add("MCDMDubVideo", audio=(voice, 1), video=video), 0), "dubbed")


def expressions(g: Graph) -> None:
    """Expressions that change over time."""
    note = (
        "**Expressions over time.** Each *Face Editor* is a look and the second it begins at: after a first run the "
        "face follows its sliders. Together they make the line `expression`, which can be typed as well."
    )
    _, audio = _begin(g, note, seconds=5.12)
    looks = [("Happy", 1.0, {"expression": "happy", "strength": 0.9})]
    looks += [("Surprised, looking aside", 3.0, {"expression": "surprised", "strength": 0.8, "gaze_x": 0.6})]
    looks += [("At rest", 4.2, {"expression": "neutral"})]
    line: dict[str, tuple[int, int]] = {}
    for title, seconds, sliders in looks:
        line = {"earlier": (g.add("MCDMFaceEditor", title=title, seconds=seconds, **sliders, **line), 0)}
    sampled = _sample(g, audio, expression=line["earlier"], filename_prefix="mcdm/expressions")
    g.add("MCDMPlotMotion", motion=sampled["motion"], audio=(audio, 0))
    _assemble_and_save(g, "expressions", **sampled)


def two_speakers(g: Graph) -> None:
    """Two people in one picture who take turns: the second face is laid into the video of the first."""
    g.note(
        "**Two speakers.** Each face (`face_number`) has a voice of its own, silent while the other speaks. The second "
        "*Assemble Video* takes the first one's video as `background`: both faces and both voices end up in one video."
    )
    g.always["model"] = (g.add("MCDMLoadModel"), 0)
    left = g.add("MCDMSamples", portrait="portrait.png", voice="voice.flac")
    right = g.add("MCDMSamples", portrait="astronaut.jpg", voice="voice_french.flac")
    image = g.add("ImageStitch", image1=(left, 0), image2=(right, 0)), 0
    silence = g.add("EmptyAudio", duration=1.28, sample_rate=16000, channels=1), 0
    background: dict[str, tuple[int, int]] = {}
    for number, (who, samples, turn) in enumerate((("First", left, "after"), ("Second", right, "before"))):
        voice = g.add("TrimAudioDuration", audio=(samples, 1), start_index=0.0, duration=1.28), 0
        voice = g.add("AudioConcat", audio1=voice, audio2=silence, direction=turn), 0
        audio = g.add("MCDMEmbedAudio", title=f"{who} voice", audio=voice)
        face = g.add("MCDMEncodeReference", title=f"{who} face", image=image, face_number=number + 1), 0
        sampled = _sample(g, audio, reference=face, seed=number, filename_prefix=f"mcdm/{who.lower()}_speaker")
        background = {"background": (g.add("MCDMAssembleVideo", reference=face, **sampled, **background), 0)}
    _save(g, background["background"], "two_speakers")


def long_video(g: Graph) -> None:
    """A long sound; clips lie on disk as they come, and a stopped run goes on."""
    note = (
        "**Long video to disk.** Clips are kept under output/mcdm as they come. Stop it whenever you like, "
        "by Cancel or by closing ComfyUI: with the same inputs the next Run goes on where it ended. Memory does not "
        "grow with length."
    )
    _, audio = _begin(g, note, doublings=2, portrait="astronaut.jpg")
    _assemble_and_save(g, "long_video", **_sample(g, audio, filename_prefix="mcdm/long"))


def clip_by_clip(g: Graph) -> None:
    """Three clips, each begun from the memory of the one before."""
    note = (
        "**Clip by clip.** Each *Sample Clip* makes 16 frames and hands its memory to the next. Save a "
        "memory to go on another day."
    )
    _, audio = _begin(g, note, seconds=1.92)
    memory = g.add("MCDMStartMemory"), 0
    motion = g.add("MCDMPredictMotion", audio=(audio, 0), memory=memory), 0
    images: dict[str, tuple[int, int]] = {}
    for index, socket in enumerate(("images", "images_2", "images_3")):
        clip = g.add("MCDMSampleClip", title=f"Clip {index + 1}", motion=motion, memory=memory, clip_index=index)
        images[socket], memory = (clip, 0), (clip, 2)
    g.add("MCDMSaveMemory", memory=memory, filename_prefix="clip_by_clip")
    _assemble_and_save(g, "clip_by_clip", **images, motion=motion, audio=(audio, 1))


def head_driven(g: Graph) -> None:
    """A driver's head on the portrait; here the driver is generated first, so that nothing needs to be loaded."""
    note = (
        "**Head driven by a video.** The driver here is made by the left sampler; connect *Load Video* "
        "instead to use your own. Only the head's movement is taken; lips and expression follow the voice."
    )
    _, audio = _begin(g, note, seconds=2.56)
    driver = _sample(g, audio, title="The driver", seed=7, filename_prefix="mcdm/driver")["video"]
    motion = g.add("MCDMPredictMotion", audio=(audio, 0), driver=driver, seed=1), 0
    _assemble_and_save(g, "head_driven", **_sample(g, audio, motion=motion, filename_prefix="mcdm/driven"))


def edited_motion(g: Graph) -> None:
    """Motion looked at and changed before it becomes pixels."""
    note = (
        "**Motion edited by hand.** Change the values of *Edit Motion* and run again: only what follows is "
        "computed anew."
    )
    _, audio = _begin(g, note, seconds=2.56, portrait="astronaut.jpg")
    motion = g.add("MCDMPredictMotion", audio=(audio, 0)), 0
    edited = g.add("MCDMEditMotion", motion=motion, head_scale=0.6, smooth=0.08, expression="happy", strength=0.6), 0
    g.add("MCDMPlotMotion", title="Before", motion=motion, audio=(audio, 0))
    g.add("MCDMPlotMotion", title="After", motion=edited, audio=(audio, 0))
    _assemble_and_save(g, "edited_motion", **_sample(g, audio, motion=edited, filename_prefix="mcdm/edited"))


def upscaled(g: Graph) -> None:
    """Two ways to a larger picture: in memory with core nodes, and streaming for any length."""
    note = (
        "**Upscaled.** Above: all frames in memory through a core node (*Upscale Image By*; *Upscale Image "
        "using Model* goes into its place). Below: *Upscale Video*, a few frames at a time, for any length; connect "
        "*Load Upscale Model* to it."
    )
    _, audio = _begin(g, note, seconds=1.28, portrait="astronaut.jpg")
    whole = g.add("MCDMAssembleVideo", **_sample(g, audio), compose="face crop", frames_out="all frames")
    larger = g.add("ImageScaleBy", image=(whole, 1), upscale_method="lanczos", scale_by=2.0)
    _save(g, (g.add("CreateVideo", images=(larger, 0), audio=(whole, 2), fps=25.0), 0), "upscaled_core")
    _save(g, (g.add("MCDMUpscaleVideo", video=(whole, 0), scale=2.0), 0), "upscaled_streaming")


def continued(g: Graph) -> None:
    """A second part that goes on where an existing video ends."""
    note = (
        "**Continue an existing video.** The first part is made here; connect *Load Video* instead to "
        "continue your own. The reference must be a frame of that very video."
    )
    samples, audio = _begin(g, note, seconds=1.28)
    voice = samples, 1
    rest = g.add("MCDMEmbedAudio", title="The rest of the voice", audio=voice, start=1.28, duration=1.28)
    whole_sound = g.add("MCDMEmbedAudio", title="The whole sound", audio=voice, duration=2.56)
    first = _sample(g, audio, title="An existing video")["video"]
    memory = g.add("MCDMMemoryFromVideo", video=first), 0
    second = _sample(
        g, rest, title="Its continuation", memory=memory, filename_prefix="mcdm/continued", frames_out="all frames"
    )["video"]
    _assemble_and_save(g, "continued_video", video=first, images=(second[0], 1), audio=(whole_sound, 1))


WORKFLOWS = {
    "MCDM 01 Talking portrait": one_node,
    "MCDM 02 Step by step": talking_portrait,
    "MCDM 03 Dub a video": dubbed,
    "MCDM 04 Expressions over time": expressions,
    "MCDM 05 Motion edited by hand": edited_motion,
    "MCDM 06 Head driven by a video": head_driven,
    "MCDM 07 Long video to disk": long_video,
    "MCDM 08 Clip by clip with memory": clip_by_clip,
    "MCDM 09 Continue a video": continued,
    "MCDM 10 Upscaled": upscaled,
    "MCDM 11 Two speakers": two_speakers,
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
