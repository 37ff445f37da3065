from pathlib import Path
from typing import Any

def write_table(table: Any, where: Path) -> None: ...
