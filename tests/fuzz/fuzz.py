"""Coverage-guided fuzzing of one reader.

``python -m tests.fuzz.fuzz sound -runs=200000 -timeout=10 -rss_limit_mb=1500 FOLDER``
Needs atheris. New inputs gather in the folder given last; without one they are dropped.
"""

from __future__ import annotations

import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["mcdm_core", "PIL", "safetensors"]):
    from tests.fuzz.readers import READERS, folders, read


def main() -> None:
    """Run atheris with the command line's own arguments."""
    kind = sys.argv.pop(1)
    if kind not in READERS:
        sys.exit(f"{kind!r} is no reader; choose one of {', '.join(READERS)}")
    with tempfile.TemporaryDirectory() as dropped:
        own = [] if any(not argument.startswith("-") for argument in sys.argv[1:]) else [dropped]
        # The first folder is written to.
        atheris.Setup([*sys.argv, *own, *map(str, folders(kind))], lambda data: read(kind, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
