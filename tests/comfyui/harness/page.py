"""ComfyUI's page in a headless Chromium (``CHROMIUM``, default /usr/bin/chromium), by Playwright.

``SCREENSHOTS`` names a folder for pictures.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"]
WAIT = 300_000
"""Milliseconds; seconds on an idle machine."""


def open_page(server: Any, browser: Any) -> tuple[Any, list[tuple[str, str]]]:
    """ComfyUI's page with its first workflow loaded, and the list its errors go to."""
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(WAIT)
    errors: list[tuple[str, str]] = []
    page.on("pageerror", lambda error: errors.append((str(error), error.stack or "")))
    page.goto(server.url, wait_until="domcontentloaded")
    page.wait_for_function("window.app && window.app.vueAppReady")
    page.wait_for_function("app.graph && app.graph._nodes.length > 0")
    return page, errors


def choose_rendering(server: Any, rendering: str) -> None:
    """Let pages opened from now on draw nodes in the classic way or as Vue does."""
    if rendering == "vue" and server.version == "0.3.64":
        pytest.skip("the new node rendering is unfinished in this front end")
    server.post("/settings", {"Comfy.TutorialCompleted": True, "Comfy.VueNodes.Enabled": rendering == "vue"})


def load_workflow(page: Any, name: str) -> None:
    """Open one of the pack's workflows without its template browser."""
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    page.evaluate("async workflow => { await app.loadGraphData(workflow); }", workflow)


def note_events(page: Any) -> None:
    """Keep the events that tell of a run in ``window.mcdmSeen``."""
    page.evaluate(
        """() => { window.mcdmSeen = [];
        for (const kind of ['execution_success', 'execution_error', 'execution_interrupted', 'mcdm.clip', 'mcdm.done'])
            app.api.addEventListener(kind, event => window.mcdmSeen.push([kind, event.detail])); }"""
    )


def wait_for_end(page: Any) -> list[tuple[str, dict[str, Any]]]:
    """Wait until the queued run ends; the events since :func:`note_events`, the end last."""
    page.wait_for_function("window.mcdmSeen.some(([kind]) => /success|error|interrupted/.test(kind))")
    return page.evaluate("window.mcdmSeen")


def own_errors(errors: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those errors of a page in which this pack's code had a part."""
    return [error for error in errors if "/extensions/ComfyUI-MCDM/" in error[1]]


def screenshot(page: Any, name: str) -> None:
    """Keep a picture of the whole workflow, if SCREENSHOTS names a folder."""
    if os.environ.get("SCREENSHOTS"):
        page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        page.evaluate("document.querySelectorAll('.mcdm-player video').forEach(video => video.pause())")
        page.wait_for_timeout(1500)
        page.screenshot(path=str(Path(os.environ["SCREENSHOTS"]) / f"{name}.png"))


def set_widgets(page: Any, prompt: dict[str, Any], seed: int) -> None:
    """Put the quick settings of a prompt into the widgets of the loaded graph."""
    values = {
        number: {name: value for name, value in node["inputs"].items() if not isinstance(value, list)}
        for number, node in prompt.items()
        if node["class_type"].startswith("MCDM")
    }
    page.evaluate(
        """([values, seed]) => { for (const node of app.graph._nodes) {
            for (const widget of node.widgets ?? []) {
                const wanted = values[node.id]?.[widget.name];
                if (wanted !== undefined) widget.value = widget.name === 'seed' ? seed : wanted;
            } } }""",
        [values, seed],
    )
