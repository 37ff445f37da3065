"""The player's buttons, pressed by the mouse as a person would: each must do what it says."""

from __future__ import annotations

import random
import urllib.parse
import urllib.request
from typing import Any

import numpy as np
import pytest
from page import (
    choose_rendering,
    load_workflow,
    note_events,
    open_page,
    own_errors,
    screenshot,
    set_widgets,
    wait_for_end,
)

TEMPLATE = "MCDM 02 Step by step"
PANEL = "[data-probed]"
SHOWN = f"document.querySelector('{PANEL} video.mcdm-shown')"
PATIENCE = 60_000
"""Milliseconds that a button may take on a busy machine; one that does nothing fails after them."""

PROBE = """() => {
    const node = app.graph._nodes.find(({ type }) => type === 'MCDMSampleVideo');
    const { element } = node.widgets.find(({ name }) => name === 'mcdm_player');
    element.dataset.probed = '';
    for (const video of element.querySelectorAll('video')) {
        const drawn = (_, { mediaTime }) => {
            video.probedTime = mediaTime;
            video.requestVideoFrameCallback(drawn);
        };
        video.requestVideoFrameCallback(drawn);
        video.probedEnds = 0;
        video.addEventListener('ended', () => { video.probedEnds += 1; });
    }
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [400 - node.pos[0], 100 - node.pos[1]];
    app.canvas.setDirty(true, true);
}"""
"""Brings the sampler's player into view in its true size, marks it, and notes the frame drawn last and each end."""

MOVE_INTO_VIEW = """async top => {
    const { top: now } = document.querySelector('[data-probed]').getBoundingClientRect();
    app.canvas.ds.offset[1] += top - now;
    app.canvas.setDirty(true, true);
}"""


@pytest.mark.parametrize("rendering", ["classic", "vue"])
def test_every_button_does_what_it_says(server: Any, browser: Any, workflow_prompt: Any, rendering: str) -> None:
    choose_rendering(server, rendering)
    page, errors = open_page(server, browser)
    load_workflow(page, TEMPLATE)
    page.wait_for_selector(".mcdm-player", state="attached")
    set_widgets(page, workflow_prompt(TEMPLATE, seconds=1.3), seed=random.randrange(2**31))
    note_events(page)
    page.evaluate("app.queuePrompt(0)")
    seen = wait_for_end(page)
    assert seen[-1][0] == "execution_success", seen[-1]
    done = next(data for kind, data in seen if kind == "mcdm.done" and data["type"] == "output")
    page.evaluate(PROBE)
    page.wait_for_timeout(1000)
    page.evaluate(MOVE_INTO_VIEW, 120)
    page.set_default_timeout(PATIENCE)
    page.wait_for_function(f"{SHOWN}?.readyState >= 2 && {SHOWN}.src.includes({done['filename']!r})")
    place = urllib.parse.urlencode({name: done[name] for name in ("filename", "subfolder", "type")})
    with urllib.request.urlopen(f"{server.url}/view?{place}") as answer:
        video = answer.read()

    _pause(page)
    _play(page)
    _sound(page)
    _scrub(page, done["frames"], done["fps"])
    _loop(page)
    _download(page, done["filename"], video)
    _size(page)
    _full_screen(page)
    assert not own_errors(errors)
    screenshot(page, f"{server.version}_{rendering}_player")


def press(page: Any, name: str) -> None:
    """Click one of the player's buttons with the mouse; Playwright refuses where something else lies over it."""
    page.locator(f"{PANEL} .mcdm-{name}").click()


def is_on(page: Any, name: str, on: bool) -> None:
    """Wait until a button shows that it is on, or off."""
    page.wait_for_function(
        "([button, on]) => document.querySelector(button).classList.contains('mcdm-on') === on",
        arg=[f"{PANEL} .mcdm-{name}", on],
    )


def _pause(page: Any) -> None:
    """Stop what plays by itself, if it still does."""
    if page.evaluate(f"!{SHOWN}.paused"):
        press(page, "play")
    page.wait_for_function(f"{SHOWN}.paused")


def _play(page: Any) -> None:
    """Play goes on to the end, once, and stays there."""
    page.locator(f"{PANEL} .mcdm-wave").press("Home")
    page.wait_for_function(f"{SHOWN}.currentTime < 0.01 && !{SHOWN}.ended")
    ends = page.evaluate(f"{SHOWN}.probedEnds")
    press(page, "play")
    page.wait_for_function(f"{SHOWN}.ended")
    is_on(page, "play", False)
    page.wait_for_timeout(500)
    assert page.evaluate(f"{SHOWN}.ended && {SHOWN}.probedEnds === {ends + 1}")
    now, end = page.locator(f"{PANEL} .mcdm-time").inner_text().split(" / ")
    assert now == end


def _sound(page: Any) -> None:
    """The speaker turns the sound off and on."""
    muted = page.evaluate(f"{SHOWN}.muted")
    press(page, "mute")
    assert page.evaluate(f"{SHOWN}.muted") is not muted
    press(page, "mute")
    assert page.evaluate(f"{SHOWN}.muted") is muted


def _scrub(page: Any, count: int, fps: float) -> None:
    """A place on the timeline is a frame: that one is shown, by click, by keys and at the end of a drag."""
    wave = page.locator(f"{PANEL} .mcdm-wave")

    def at(frame: int) -> tuple[float, float]:
        box = wave.bounding_box()
        return box["x"] + (frame + 0.5) / count * box["width"], box["y"] + box["height"] / 2

    for frame in (count // 2, 3, count - 2, 0, count - 1):
        page.mouse.click(*at(frame))
        assert_shown(page, frame, fps)
    for key, frame in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", count - 1)):
        wave.press(key)
        assert_shown(page, frame, fps)
    page.mouse.move(*at(2))
    page.mouse.down()
    page.mouse.move(*at(count // 3), steps=4)
    page.mouse.move(*at(count // 2), steps=4)
    page.mouse.up()
    assert_shown(page, count // 2, fps)
    page.mouse.move(*at(5))  # released: the timeline no longer follows
    assert_shown(page, count // 2, fps)


def assert_shown(page: Any, wanted: int, fps: float) -> None:
    """The frame of the file that the page has drawn last is this one, by the time stamp it has in the file."""
    last = f"Math.round({SHOWN}.probedTime * {fps})"
    try:
        page.wait_for_function(f"!{SHOWN}.seeking && {last} === {wanted}", timeout=20_000)
    except Exception as error:
        raise AssertionError(f"frame {page.evaluate(last)} is shown instead of {wanted}") from error


def _loop(page: Any) -> None:
    """With the loop on it begins again by itself until it is paused; with it off the end is the end."""
    loop = page.locator(f"{PANEL} .mcdm-loop")
    press(page, "loop")
    assert loop.get_attribute("aria-pressed") == "true"
    ends = page.evaluate(f"{SHOWN}.probedEnds")
    press(page, "play")
    page.wait_for_function(f"{SHOWN}.probedEnds >= {ends + 3}")
    is_on(page, "play", True)
    press(page, "play")
    is_on(page, "play", False)
    page.wait_for_function(f"{SHOWN}.paused && !{SHOWN}.seeking")
    stopped = page.evaluate(f"{SHOWN}.currentTime")
    page.wait_for_timeout(500)
    assert page.evaluate(f"{SHOWN}.currentTime") == stopped, "it goes on though it is paused"
    press(page, "loop")
    assert loop.get_attribute("aria-pressed") == "false"
    press(page, "play")
    page.wait_for_function(f"{SHOWN}.ended")
    is_on(page, "play", False)


def _download(page: Any, name: str, video: bytes) -> None:
    """The whole file comes, under its own name."""
    with page.expect_download(timeout=PATIENCE) as download:
        press(page, "save")
    assert download.value.suggested_filename == name
    assert download.value.path().read_bytes() == video


def _height(page: Any) -> float:
    return page.locator(PANEL).bounding_box()["height"]


def _size(page: Any) -> None:
    """The player becomes much larger with its node, and again as it was."""
    node = "app.graph._nodes.find(({ type }) => type === 'MCDMSampleVideo')"
    height, size = _height(page), page.evaluate(f"[...{node}.size]")
    press(page, "size")
    page.wait_for_function(f"document.querySelector('{PANEL}').getBoundingClientRect().height > {height + 250}")
    larger = page.evaluate(f"[...{node}.size]")
    assert larger[0] > size[0] + 250 and larger[1] > size[1] + 250, (size, larger)
    press(page, "size")
    page.wait_for_function(f"Math.abs(document.querySelector('{PANEL}').getBoundingClientRect().height - {height}) < 3")
    again = page.evaluate(f"[...{node}.size]")
    assert np.abs(np.subtract(again, size)).max() < 3, (size, again)


def _full_screen(page: Any) -> None:
    """The player alone fills the screen, with its controls; the same button ends that."""
    height = _height(page)
    press(page, "full")
    page.wait_for_function(f"document.fullscreenElement === document.querySelector('{PANEL}')")
    page.wait_for_function(f"document.querySelector('{PANEL}').getBoundingClientRect().height >= innerHeight - 1")
    screen = page.evaluate("[innerWidth, innerHeight]")
    video = page.locator(f"{PANEL} video.mcdm-shown").bounding_box()
    assert video["height"] > 0.6 * screen[1], "the picture takes most of the screen"
    for name in ("play", "loop", "full"):
        box = page.locator(f"{PANEL} .mcdm-{name}").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= screen[0] and box["y"] + box["height"] <= screen[1], name
    press(page, "full")
    page.wait_for_function("document.fullscreenElement === null")
    page.wait_for_function(f"Math.abs(document.querySelector('{PANEL}').getBoundingClientRect().height - {height}) < 2")
