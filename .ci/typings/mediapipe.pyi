from typing import Any

solutions: Any
