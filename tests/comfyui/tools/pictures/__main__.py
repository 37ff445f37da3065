"""Makes all pictures of the weights' work anew, after new weights or a changed node.

    COMFYUI_PATH=... python tests/comfyui/tools/pictures [talking|screenshots|thumbnails ...] [--into FOLDER]

``talking`` is the README's moving picture, ``screenshots`` its pictures of the page (they need a browser),
``thumbnails`` those of the templates; all of them if none is named. They are written where the repository has them, or
into ``FOLDER`` to look at them first. ComfyUI's variables are those of the integration tests.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from runs import ROOT, ComfyServer, run_template  # noqa: E402
from screenshots import write_screenshots  # noqa: E402
from talking import write_talking  # noqa: E402
from thumbnails import LAYOUTS, thumbnail  # noqa: E402

KINDS = ("talking", "screenshots", "thumbnails")
LONG = "MCDM 07 Long video to disk"


def main() -> None:
    """Parse, start a server where one is needed, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], default=list(KINDS))
    parser.add_argument("--into", type=Path, help="folder to write to instead of the repository's places")
    parser.add_argument(
        "--seconds", type=float, default=5.12, help="of speech at most (%(default)s; the long one twice)"
    )
    parser.add_argument("--only", default="", help="part of the names of the templates wanted")
    arguments = parser.parse_args()
    pictures = arguments.into or ROOT / "docs" / "images"
    thumbnails = arguments.into or ROOT / "workflows"
    pictures.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    if "talking" in arguments.kinds:
        write_talking(pictures / "talking.webp")
    if set(arguments.kinds) & {"screenshots", "thumbnails"}:
        with tempfile.TemporaryDirectory() as base:
            extra = os.environ.get("COMFYUI_EXTRA_PATH")
            python = os.environ.get("COMFYUI_PYTHON", sys.executable)
            server = ComfyServer(Path(os.environ["COMFYUI_PATH"]), Path(base), python, extra)
            server.start()
            try:
                if "screenshots" in arguments.kinds:
                    write_screenshots(server, pictures)
                for name in LAYOUTS if "thumbnails" in arguments.kinds else ():
                    if arguments.only in name:
                        made = run_template(server, name, arguments.seconds * (2 if name == LONG else 1))
                        thumbnail(name, made).save(thumbnails / f"{name}.jpg", quality=88)
                        print(f"{time.monotonic() - begun:.0f} s: {name}", flush=True)
            finally:
                server.stop()
    print(f"written in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
