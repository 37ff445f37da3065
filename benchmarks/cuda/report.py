"""Results as they come: printed, and written after every block, so that a run cut short has lost nothing."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Report:
    """Rows by block, with a limit of time that the blocks can ask for."""

    def __init__(self, path: Path | None, seconds: float) -> None:
        self.path, self.seconds = path, seconds
        self.began = time.perf_counter()
        self.found: dict[str, Any] = {}

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return self.seconds - (time.perf_counter() - self.began)

    def add(self, block: str, line: str, **values: object) -> None:
        """A row: the line is printed, the values are kept."""
        print(f"  {line}", flush=True)
        self.found.setdefault(block, []).append(values)

    def run(self, name: str, block: Callable[[Report], None]) -> bool:
        """Run a block; its failure is told and stops nothing. Returns whether it went well."""
        print(f"{name}, {self.left:.0f} s left", flush=True)
        began = time.perf_counter()
        failed = ""
        try:
            block(self)
        except Exception as error:  # the next block may work
            failed = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        taken = time.perf_counter() - began
        self.found.setdefault("blocks", []).append({"block": name, "seconds": taken, "failed": failed})
        print(f"  {'failed' if failed else 'done'} in {taken:.1f} s", flush=True)
        self.write()
        return not failed

    def write(self) -> None:
        """Everything so far as JSON."""
        if self.path is not None:
            self.path.write_text(json.dumps(self.found, indent=1, default=str), encoding="utf-8")
