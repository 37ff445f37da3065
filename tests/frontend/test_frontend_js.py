"""The front end: rules that its files keep, its translations, and its logic run in node where node is installed."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "js").glob("*.js"))
STYLES = sorted((ROOT / "js").glob("*.css"))
NODE = shutil.which("node")
LANGUAGES = ("en", "zh")

FORBIDDEN = {
    r"(?<![\w.])fetch\(": "network other than api.fetchApi",
    r"\b(XMLHttpRequest|WebSocket|EventSource|sendBeacon|importScripts)\b": "network other than api.fetchApi",
    r"\bimport\(": "dynamic import",
    r"\b(eval|Function)\(": "code from text",
    r"\.(innerHTML|outerHTML|insertAdjacentHTML)\b": "markup from text",
    r"\b(window|globalThis)(\.\w+)+\s*=[^=]": "write to the global object",
    r"\bwindow\b": "global object",
    r"\.prototype\b": "patching of other code",
    r"\b(onDrawForeground|onDrawBackground|onMouseDown|getExtraMenuOptions)\b": "hooks that Vue nodes never call",
    r"\b(localStorage|sessionStorage|document\.cookie)\b": "storage beside ComfyUI's settings",
}


def without_comments(source: str) -> str:
    """Source without block comments and whole-line comments, so that prose may name what code may not use."""
    source = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
    return re.sub(r"^\s*//.*$", "", source, flags=re.MULTILINE)


def test_there_are_scripts() -> None:
    assert {"index.js", "player.js", "waveform.js", "drop.js", "weights.js", "strings.js"} <= {p.name for p in SCRIPTS}


@pytest.mark.parametrize("path", SCRIPTS + STYLES, ids=lambda p: p.name)
def test_files_are_ascii_and_short(path: Path) -> None:
    text = path.read_text(encoding="ascii")
    assert len(text.splitlines()) <= 500
    assert "\t" not in text


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_only_documented_imports(path: Path) -> None:
    targets = re.findall(r"""^(?:import|export)\b[^;]*?from\s+["']([^"']+)["']""", path.read_text(), flags=re.MULTILINE)
    local = {f"./{p.name}" for p in SCRIPTS}
    core = {"/scripts/app.js", "/scripts/api.js"}
    assert set(targets) <= (local | core if path.name == "index.js" else local)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_nothing_forbidden(path: Path) -> None:
    code = without_comments(path.read_text())
    found = [f"{why}: {match.group(0)!r}" for rule, why in FORBIDDEN.items() for match in re.finditer(rule, code)]
    assert not found
    assert not re.findall(r"""["'`]https?://""", code)


@pytest.mark.parametrize("path", STYLES, ids=lambda p: p.name)
def test_style_touches_only_our_classes(path: Path) -> None:
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    assert "@import" not in text and "url(" not in text
    for selector in re.findall(r"([^{};]+)\{", text):
        for part in selector.split(","):
            part = part.strip()
            assert part.startswith((".mcdm-", "@")) or re.fullmatch(r"\d+%", part), part


@pytest.mark.parametrize("path", [p for p in SCRIPTS if p.name != "index.js"], ids=lambda p: p.name)
def test_only_the_index_has_side_effects(path: Path) -> None:
    """ComfyUI imports every script of the folder; top-level statements may only declare."""
    code = without_comments(path.read_text())
    top_level = [line for line in code.splitlines() if line and not line[0].isspace() and line[0] not in "})]"]
    allowed = re.compile(r"(import|export (const|function|async function|class)|const|function|async function|class)\b")
    assert [line for line in top_level if not allowed.match(line)] == []


def test_panels_are_saved_nowhere() -> None:
    code = (ROOT / "js" / "index.js").read_text()
    assert code.count("addDOMWidget(") == 1
    assert "serialize: false" in code and "widget.serialize = false" in code


def english() -> dict[str, str]:
    """The texts in strings.js, read without running it."""
    source = (ROOT / "js" / "strings.js").read_text()
    body = re.search(r"ENGLISH = Object\.freeze\(\{(.*?)\}\);", source, flags=re.DOTALL)
    assert body is not None
    pairs = re.findall(r"^\s*(\w+): (\".*\"),$", body.group(1), flags=re.MULTILINE)
    return {key: json.loads(value) for key, value in pairs}


def places(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


def test_english_file_equals_the_built_in_texts() -> None:
    main = json.loads((ROOT / "locales" / "en" / "main.json").read_text(encoding="utf-8"))
    assert main["mcdm"] == english()


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_are_complete(language: str) -> None:
    texts = json.loads((ROOT / "locales" / language / "main.json").read_text(encoding="utf-8"))["mcdm"]
    assert list(texts) == list(english())
    for key, text in english().items():
        assert texts[key].strip() and places(texts[key]) == places(text), key


def test_every_text_is_used() -> None:
    code = "".join(p.read_text() for p in SCRIPTS if p.name != "strings.js")
    built = {"interruptedNone", "failedNone"}  # player.js makes these names from the reason
    assert [key for key in english() if f'"{key}"' not in code and key not in built] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_settings_are_translated(language: str) -> None:
    code = (ROOT / "js" / "index.js").read_text()
    ids = {name.replace(".", "_") for name in re.findall(r'id: "(MCDM\.[\w.]+)"', code)}
    settings = json.loads((ROOT / "locales" / language / "settings.json").read_text(encoding="utf-8"))
    assert ids and set(settings) == ids
    assert all(entry["name"] and entry["tooltip"] for entry in settings.values())


@pytest.fixture(scope="module")
def module_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the scripts and their tests that every version of node takes for ES modules."""
    if NODE is None:
        pytest.skip("node is not installed")
    root = tmp_path_factory.mktemp("frontend")
    (root / "package.json").write_text('{"type": "module"}')
    shutil.copytree(ROOT / "js", root / "js", ignore=shutil.ignore_patterns("docs"))
    shutil.copytree(ROOT / "tests" / "frontend", root / "tests" / "frontend")
    return root


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_syntax(path: Path, module_tree: Path) -> None:
    done = subprocess.run([NODE, "--check", module_tree / "js" / path.name], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "frontend").glob("*.mjs")), ids=lambda p: p.name)
def test_logic_in_node(path: Path, module_tree: Path) -> None:
    script = module_tree / "tests" / "frontend" / path.name
    done = subprocess.run([NODE, "--test", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
