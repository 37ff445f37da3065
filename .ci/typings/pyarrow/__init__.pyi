from typing import Any

from . import parquet as parquet

def table(data: dict[str, list[Any]]) -> Any: ...
