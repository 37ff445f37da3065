"""Draws a template's thumbnail from what its run has made: at the top what is special about it, below how it sounds.

All templates begin with a portrait and a voice, so the same frame of each would tell a reader nothing. Each has a
layout of its own (:data:`LAYOUTS`), which shows the step that only this template takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageOps

SIZE, STRIP, WAVE = 448, 4, 64
BACKGROUND, COLOUR, LIGHT = (24, 24, 28), (255, 150, 90), (235, 235, 240)
Box = tuple[float, float, float, float]
FACES: dict[str, Box] = {"portrait.png": (0.05, 0.0, 0.95, 0.9), "astronaut.jpg": (0.22, 0.0, 0.66, 0.44)}
"""Square about the face in each sample portrait, in parts of its sides."""


@dataclass
class Made:
    """What a template's run has made."""

    portrait: str
    """File name of the sample portrait; empty where two stand in one picture."""
    videos: dict[str, list[Path]] = field(default_factory=dict)
    """Videos by the type of the node they are from, in the order in which the nodes ran."""
    pictures: dict[str, list[Path]] = field(default_factory=dict)

    def frames(self, kind: str, which: int = -1) -> list[Image.Image]:
        """Frames of a node's video."""
        with av.open(str(self.videos[kind][which])) as container:
            return [frame.to_image() for frame in container.decode(container.streams.video[0])]

    def final(self) -> list[Image.Image]:
        """Frames of the video that the template saves."""
        return self.frames("SaveVideo")

    def sound(self) -> np.ndarray:
        """Mono sound of that video."""
        with av.open(str(self.videos["SaveVideo"][-1])) as container:
            sound = [frame.to_ndarray().mean(0) for frame in container.decode(container.streams.audio[0])]
        return np.concatenate(sound)


def fitted(frame: Image.Image, width: int, height: int | None = None) -> Image.Image:
    """A frame that fills a rectangle, cut about its middle."""
    return ImageOps.fit(frame, (width, height or width), Image.Resampling.LANCZOS)


def close(made: Made, frame: Image.Image) -> Image.Image:
    """The face of a frame of the whole portrait."""
    left, top, right, bottom = FACES.get(made.portrait, (0.0, 0.0, 1.0, 1.0))
    width, height = frame.size
    return frame.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))


def at(frames: list[Image.Image], part: float) -> Image.Image:
    """The frame at a part of the whole length."""
    return frames[min(round(part * len(frames)), len(frames) - 1)]


def strip(frames: list[Image.Image], made: Made) -> Image.Image:
    """Four small frames through the video."""
    small = SIZE // STRIP
    canvas = Image.new("RGB", (SIZE, small), BACKGROUND)
    for index in range(STRIP):
        canvas.paste(fitted(close(made, at(frames, (index + 0.5) / STRIP)), small), (index * small, 0))
    return canvas


def wave(sound: np.ndarray) -> Image.Image:
    """How loud the sound is over time."""
    canvas = Image.new("RGB", (SIZE, WAVE), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    loudest = max(float(np.abs(sound).max()), 1e-6)
    for index, column in enumerate(np.array_split(np.abs(sound), SIZE // 4)):
        half = max(1, round(float(column.max()) / loudest * (WAVE // 2 - 4)))
        draw.line((4 * index + 1, WAVE // 2 - half, 4 * index + 1, WAVE // 2 + half), fill=COLOUR, width=2)
    return canvas


def grid(pictures: list[Image.Image], columns: int, words: list[str] | None = None) -> Image.Image:
    """Pictures that fill a square in rows, each with a word in its corner."""
    rows = -(-len(pictures) // columns)
    width, height = SIZE // columns, SIZE // rows
    canvas = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    for index, picture in enumerate(pictures):
        canvas.paste(
            fitted(picture, width - 2, height - 2), (index % columns * width + 1, index // columns * height + 1)
        )
    draw = ImageDraw.Draw(canvas)
    for index, word in enumerate(words or []):
        x, y = index % columns * width + 8, (index // columns + 1) * height - 30
        box = draw.textbbox((x, y), word, font_size=18)
        draw.rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), fill=BACKGROUND)
        draw.text((x, y), word, fill=LIGHT, font_size=18)
    return canvas


def whole(made: Made) -> Image.Image:
    """A large frame."""
    return fitted(at(made.final(), 0.33), SIZE)


def step_by_step(made: Made) -> Image.Image:
    """The portrait, its crop, the spoken crop, and the finished picture."""
    crops, frames = made.frames("MCDMSampleVideo"), made.final()
    return grid(
        [crops[0], at(crops, 0.33), frames[0], at(frames, 0.33)], 2, ["reference", "sampled", "portrait", "video"]
    )


def dub(made: Made) -> Image.Image:
    """The same frame with the former mouth and with the new one."""
    before, after = made.frames("MCDMAssembleVideo"), made.final()
    # Where mouths differ most, the change is seen at a small size too.
    lower = [np.asarray(fitted(close(made, one), 64), np.float32)[36:] for one in (*before, *after)]
    most = max(range(len(after)), key=lambda i: float(np.abs(lower[i] - lower[len(before) + i]).mean()))
    pictures = [close(made, before[most]), close(made, after[most])]
    return grid(pictures, 2, ["given", "new voice"])


def expressions(made: Made) -> Image.Image:
    """The looks, each in its time."""
    frames = made.final()
    moments = [("at rest", 0.5), ("happy", 2.6), ("surprised", 3.9), ("at rest", 4.9)]
    return grid(
        [close(made, frames[min(round(25 * t), len(frames) - 1)]) for _, t in moments], 2, [w for w, _ in moments]
    )


def edited(made: Made) -> Image.Image:
    """The face between its curves before and after the edit."""
    canvas = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    canvas.paste(fitted(close(made, at(made.final(), 0.33)), SIZE // 2), (SIZE // 4, 0))
    for index, path in enumerate(made.pictures["MCDMPlotMotion"][:2]):
        with Image.open(path) as plot:
            canvas.paste(fitted(plot.convert("RGB"), SIZE // 2, SIZE // 2), (index * SIZE // 2, SIZE // 2))
    return canvas


def driven(made: Made) -> Image.Image:
    """The driver above, the portrait that moves with it below."""
    driver, crops = made.frames("MCDMSampleVideo", 0), made.frames("MCDMSampleVideo", 1)
    moments = (0.1, 0.45, 0.8)
    pictures = [at(driver, t) for t in moments] + [at(crops, t) for t in moments]
    return grid(pictures, 3, ["driver", "", "", "driven"])


def long(made: Made) -> Image.Image:
    """Many frames through the video."""
    frames = made.final()
    return grid([close(made, at(frames, (i + 0.5) / 36)) for i in range(36)], 6)


def clips(made: Made) -> Image.Image:
    """Three clips, one behind the other."""
    canvas = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    side = SIZE * 5 // 8
    for index, _ in enumerate(made.videos["MCDMSampleClip"]):
        left = top = index * (SIZE - side) // 2
        canvas.paste(fitted(at(made.frames("MCDMSampleClip", index), 0.5), side), (left, top))
        draw.rectangle((left, top, left + side - 1, top + side - 1), outline=LIGHT, width=2)
        draw.text((left + 8, top + 4), str(index + 1), fill=LIGHT, font_size=28, stroke_width=2, stroke_fill=BACKGROUND)
    return canvas


def continued(made: Made) -> Image.Image:
    """Frames before and after the join."""
    frames = made.final()
    middle = len(frames) // 2
    pictures = [close(made, frames[middle + step]) for step in (-14, -7, 0, 10)]
    canvas = grid(pictures, 2, ["existing", "", "continued", ""])
    ImageDraw.Draw(canvas).line((0, SIZE // 2, SIZE, SIZE // 2), fill=COLOUR, width=4)
    return canvas


def upscaled(made: Made) -> Image.Image:
    """The lower face: as it was on the left, larger on the right."""
    small, large = at(made.frames("MCDMAssembleVideo"), 0.33), at(made.frames("MCDMUpscaleVideo"), 0.33)
    halves = []
    for frame, filter_ in ((small, Image.Resampling.NEAREST), (large, Image.Resampling.LANCZOS)):
        width, height = frame.size
        cut = frame.crop((round(0.25 * width), round(0.4 * height), round(0.75 * width), round(0.9 * height)))
        halves.append(cut.resize((SIZE, SIZE), filter_))
    halves[0].paste(halves[1].crop((SIZE // 2, 0, SIZE, SIZE)), (SIZE // 2, 0))
    ImageDraw.Draw(halves[0]).line((SIZE // 2, 0, SIZE // 2, SIZE), fill=COLOUR, width=3)
    return halves[0]


def speakers(made: Made) -> Image.Image:
    """Each one's turn."""
    frames = made.final()
    canvas = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    for row, moment in enumerate((0.25, 0.75)):
        canvas.paste(fitted(at(frames, moment), SIZE, SIZE // 2 - 2), (0, row * SIZE // 2))
    return canvas


LAYOUTS: dict[str, Callable[[Made], Image.Image]] = {
    "MCDM 01 Talking portrait": whole,
    "MCDM 02 Step by step": step_by_step,
    "MCDM 03 Dub a video": dub,
    "MCDM 04 Expressions over time": expressions,
    "MCDM 05 Motion edited by hand": edited,
    "MCDM 06 Head driven by a video": driven,
    "MCDM 07 Long video to disk": long,
    "MCDM 08 Clip by clip with memory": clips,
    "MCDM 09 Continue a video": continued,
    "MCDM 10 Upscaled": upscaled,
    "MCDM 11 Two speakers": speakers,
}


def thumbnail(name: str, made: Made) -> Image.Image:
    """The thumbnail of a template."""
    parts = [LAYOUTS[name](made), strip(made.final(), made), wave(made.sound())]
    canvas = Image.new("RGB", (SIZE, sum(part.height for part in parts)), BACKGROUND)
    top = 0
    for part in parts:
        canvas.paste(part, (0, top))
        top += part.height
    return canvas
