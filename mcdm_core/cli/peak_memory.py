"""What a command tells of its memory."""

from __future__ import annotations

import sys


def peak_memory(device_type: str) -> str:
    """Largest memory this process has held, in readable words."""
    words = []
    try:
        import resource

        # Kilobytes on Linux, bytes on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        words.append(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20:.0f} MiB")
    except ImportError:  # Windows has no such count
        words.append("unknown")
    if device_type == "cuda":
        import torch

        words.append(f"{torch.cuda.max_memory_allocated() / 2**20:.0f} MiB on the GPU")
    return ", ".join(words)
