"""``python -m mcdm_core``: one command each for making, dubbing and measuring videos, data, training and weights."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from . import __version__
from .cli import convert, dub, evaluate, generate, info, sign
from .cli.dataset import curate, label_data, label_speech, render_data
from .cli.interruption import exit_status, stop_on_signals
from .cli.train import plan, stages
from .errors import MCDMError


def build_parser() -> argparse.ArgumentParser:
    """The command line's parser with all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m mcdm_core",
        description="Talking-face video of any length from one portrait and a voice (MCDM, arXiv 2502.09533).",
    )
    parser.add_argument("--version", action="version", version=f"MCDM {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    videos, datasets = (generate, dub, info, sign, evaluate), (curate, render_data, label_data, label_speech)
    for module in (*videos, convert, *datasets, plan, stages):
        module.add_parser(commands)
    return parser


_EXTRAS = {
    "numba": "data",
    "anny": "data",
    "pypinyin": "data",
    "pocketsphinx": "data",
    "threadpoolctl": "data",
    "mediapipe": "evaluation",
    "dlib": "evaluation",
    "transformers": "base",
}
"""Packages of the optional extras of pyproject.toml."""


def _what_to_install(error: ModuleNotFoundError) -> str:
    """One line for a package that is missing, or for a part of this one that its copy for ComfyUI leaves out."""
    names = (error.name or "").split(".")
    if names[0] == __package__:
        return (
            f"This copy of MCDM, made for ComfyUI, holds no {'.'.join(names[:2])}. Clone the whole repository and "
            "install it: pip install -e ."
        )
    extra = _EXTRAS.get(names[0])
    wanted = names[0] if extra is None else f"'mcdm-talking-face[{extra}]'"
    return f"This command needs the package {names[0]}: pip install {wanted}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 good, 1 unusable input, 130 Ctrl-C, 143 SIGTERM)."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        with stop_on_signals():
            arguments = build_parser().parse_args(argv)
            return arguments.run(arguments)
    except MCDMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"error: {_what_to_install(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print("interrupted", file=sys.stderr)
        return exit_status(stop)


if __name__ == "__main__":
    sys.exit(main())
