"""The README's pictures of the nodes in ComfyUI's page, after a run, in English and in Chinese."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from runs import template

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from test_browser import CHROMIUM, FLAGS, WAIT

NAME, SECONDS = "MCDM 02 Step by step", 2.56
SCREEN, MARGIN = {"width": 1600, "height": 1000}, 12
DRAWN = """() => {
    const { ds, graph } = app.canvas;
    const boxes = [...graph._nodes.map(n => [n.pos[0], n.pos[1] - 30, n.size[0], n.size[1] + 30]),
        ...graph._groups.map(g => [g.pos[0], g.pos[1], g.size[0], g.size[1]])];
    const edges = [Math.min(...boxes.map(b => b[0])), Math.min(...boxes.map(b => b[1])),
        Math.max(...boxes.map(b => b[0] + b[2])), Math.max(...boxes.map(b => b[1] + b[3]))];
    const canvas = app.canvas.canvas.getBoundingClientRect();
    return edges.map((edge, i) => (edge + ds.offset[i % 2]) * ds.scale + (i % 2 ? canvas.top : canvas.left));
}"""
"""Left, top, right and bottom of the workflow on the page."""
READY = """[...document.querySelectorAll('.mcdm-player video')]
    .filter(video => video.readyState >= 2 && video.videoWidth > 0).length >= 2"""


def take(server: Any, browser: Any, path: Path, *, language: str, vue: bool) -> None:
    """Run the template in the page, and keep a picture of it."""
    wanted = {"Comfy.TutorialCompleted": True, "Comfy.VueNodes.Enabled": vue, "Comfy.Locale": language}
    server.post("/settings", wanted | {"Comfy.Minimap.Visible": False})
    page = browser.new_page(viewport=SCREEN)
    page.set_default_timeout(WAIT)
    page.goto(server.url, wait_until="domcontentloaded")
    page.wait_for_function("window.app && window.app.vueAppReady && app.graph && app.graph._nodes.length > 0")
    workflow = template(NAME)
    page.evaluate("async workflow => { await app.loadGraphData(workflow); }", workflow)
    page.wait_for_selector(".mcdm-player", state="attached")
    page.evaluate(
        """seconds => { for (const node of app.graph._nodes) for (const widget of node.widgets ?? [])
        if (node.type === 'MCDMEmbedAudio' && widget.name === 'duration') widget.value = seconds;
        window.mcdmEnd = [];
        for (const kind of ['execution_success', 'execution_error'])
            app.api.addEventListener(kind, event => window.mcdmEnd.push(kind)); }""",
        SECONDS,
    )
    page.evaluate("app.queuePrompt(0)")
    page.wait_for_function("window.mcdmEnd.length")
    if page.evaluate("window.mcdmEnd[0]") != "execution_success":
        raise RuntimeError(f"{NAME} did not run: see {server.log_path}")
    page.wait_for_function(READY)
    page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.wait_for_timeout(3000)
    page.evaluate(
        """() => document.querySelectorAll('.mcdm-player video').forEach(video => {
        video.pause(); if (video.duration > 0) video.currentTime = video.duration / 3; })"""
    )
    page.wait_for_timeout(3000)
    left, top, right, bottom = page.evaluate(DRAWN)
    left, top = max(left - MARGIN, 0), max(top - MARGIN, 0)
    size = {
        "width": min(right + MARGIN, SCREEN["width"]) - left,
        "height": min(bottom + MARGIN, SCREEN["height"]) - top,
    }
    page.screenshot(path=str(path), type="jpeg", quality=85, clip={"x": left, "y": top, **size})
    page.close()


def write_screenshots(server: Any, folder: Path) -> None:
    """Write both pictures; the second one's frames come out of the cache.

    Raises:
        FileNotFoundError: without a browser, or without a font for Chinese.
    """
    if not Path(CHROMIUM).is_file():
        raise FileNotFoundError(f"there is no browser at {CHROMIUM}; CHROMIUM names another one")
    if shutil.which("fc-list") and not subprocess.check_output(["fc-list", ":lang=zh"]):
        raise FileNotFoundError("there is no font with Chinese characters; install one (fonts-noto-cjk)")
    os.environ.setdefault("PLAYWRIGHT_BROWSERS_PATH", "0")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS, timeout=WAIT)
        take(server, browser, folder / "comfyui.jpg", language="en", vue=True)
        take(server, browser, folder / "comfyui_zh.jpg", language="zh", vue=False)
        browser.close()
