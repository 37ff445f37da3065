"""Coverage-guided fuzzing of one reader.

``python -m tests.fuzz.fuzz sound -runs=200000 -timeout=10 -rss_limit_mb=1500 FOLDER``
Needs atheris. New inputs gather beside the corpus in the folder given last; without one they are dropped.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["mcdm_core", "PIL", "safetensors"]):
    from tests.fuzz.readers import READERS, folders, read


def main() -> None:
    """Run atheris with the command line's own arguments."""
    kind = sys.argv.pop(1)
    if kind not in READERS:
        sys.exit(f"{kind!r} is no reader; choose one of {', '.join(READERS)}")
    atheris.Setup([*sys.argv, *map(str, folders(kind))], lambda data: read(kind, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
