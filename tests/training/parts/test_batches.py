"""What batches of parts are drawn from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from mcdm_core.training.parts.batches import BatchDrawer
from mcdm_core.training.parts.rows import MOVED, STILL_AS_IS, STILL_MOVED, ClipRows


def _stills(number: int) -> Any:
    """Rows of photographs, whose first has open lips."""
    length = STILL_MOVED + MOVED
    lips = torch.zeros(number * length)
    lips[STILL_AS_IS::length] = 0.1
    clips = [ClipRows(group=0, first=first, length=length, still=True) for first in range(0, number * length, length)]
    return SimpleNamespace(clips=clips, lips=lips, lids=torch.ones(number * length), device="cpu")


def test_filmed_blinks_are_drawn_often() -> None:
    length, blink = 75, 30
    lids = torch.ones(length)
    lids[blink] = 0.0
    rows: Any = SimpleNamespace(clips=[ClipRows(0, length, 0, False)], lips=torch.rand(length), lids=lids, device="cpu")
    targets = BatchDrawer(rows, frames=8, shares=[1.0], seed=0).draw(600).target
    assert torch.equal(targets[:, 1:] - targets[:, :-1], torch.ones(600, 7, dtype=torch.long))
    assert int(targets.min()) >= 0 and int(targets.max()) < length
    # By chance alone one window of seven holds it.
    assert 0.3 < float((targets == blink).any(1).float().mean()) < 0.55


def test_a_photographs_archive_is_of_the_same_person_and_never_the_answer() -> None:
    drawn = BatchDrawer(_stills(5), frames=2, shares=[1.0], seed=0).draw(400)
    length = STILL_MOVED + MOVED
    assert torch.equal(drawn.archive // length, drawn.target // length)
    assert not bool((drawn.archive == drawn.target).any(1)[drawn.target[:, 0] != drawn.reference].any())
    # It shows what the portrait does not, more often than not.
    assert 0.5 < float((drawn.archive[:, 0] != drawn.reference).float().mean()) < 0.9
