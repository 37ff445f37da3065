from typing import Any

# Kernels are compiled from their source, not run as Python.
constexpr: Any
int64: Any
float32: Any

def __getattr__(name: str) -> Any: ...
