"""What stays the same through all denoising steps of a clip is computed at the first of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Kept = dict[Any, Any]
"""Results by what they belong to, of one clip and one batch."""
T = TypeVar("T")


def once(kept: Kept | None, key: object, make: Callable[[], T]) -> T:
    """The kept result, made where there is none yet; without a place to keep it, made anew.

    >>> kept = {}
    >>> [once(kept, "a", lambda: number) for number in (1, 2)]
    [1, 1]
    """
    if kept is None:
        return make()
    if key not in kept:
        kept[key] = make()
    return kept[key]
