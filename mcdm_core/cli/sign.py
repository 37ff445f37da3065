"""``sign``: content credentials for a finished video, with the user's own certificate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import __version__


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    parser = commands.add_parser(
        "sign",
        help="put content credentials (C2PA) into a video",
        description="Put signed content credentials (C2PA) into a video of MCDM, of whatever way it was made: that it "
        "was generated, by what, and who says so. `info FILE` reads them back and tells whether the video was changed.",
    )
    parser.add_argument("video", type=Path, help="the finished video; it is replaced by the signed one")
    parser.add_argument(
        "--certificate",
        type=Path,
        required=True,
        metavar="PEM",
        help="of the signer, followed by those up to the authority's",
    )
    parser.add_argument("--key", type=Path, required=True, metavar="PEM", help="the certificate's private key")
    parser.add_argument("--parent", type=Path, metavar="FILE", help="the video that was changed, for one made by `dub`")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Sign the video; returns the exit status.

    Raises:
        MCDMError: if it cannot be signed, see the messages.
    """
    from ..media.transparency.credentials import sign_video

    sign_video(options.video, options.certificate, options.key, options.parent, __version__)
    print(f"{options.video} carries signed content credentials")
    return 0
