"""The tables and plots of a curated set, read as their users read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mcdm_core.data.wild.report import _PLOTTED, _write_plots
from mcdm_core.data.wild.shards import write_index

RECORDS = [
    {
        "key": f"clip-{number:04d}",
        "source": "wörter/a.mp4",
        "seconds": 3.0 + number,
        "identity": "anna",
        "language": "de",
        "fault": "" if number else "blurred",
        "numbers": {name: float(number) for name in _PLOTTED if number or name != "sync"},
    }
    for number in range(3)
]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    pytest.importorskip("pyarrow", reason="writes the index")
    write_index(tmp_path / "index.parquet", RECORDS)
    return tmp_path / "index.parquet"


def test_pandas_reads_the_index(index: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="another reader")
    table = pandas.read_parquet(index)
    assert list(table["key"]) == [record["key"] for record in RECORDS] and table["seconds"].sum() == 12.0
    assert table["measured_sync"].isna().tolist() == [True, False, False], "what was not measured is null"
    assert table.groupby("identity")["seconds"].sum()["anna"] == 12.0 and table["source"][0] == "wörter/a.mp4"


def test_datasets_reads_the_index(index: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="another reader")
    table = datasets.load_dataset("parquet", data_files=str(index), cache_dir=str(tmp_path / "cache"), split="train")
    assert list(table["key"]) == [record["key"] for record in RECORDS]
    assert len(table.filter(lambda row: not row["fault"])) == 2


def test_what_was_measured_is_plotted(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots")
    import cv2

    _write_plots(tmp_path / "plots.png", RECORDS)
    _write_plots(tmp_path / "nothing.png", [])
    full, empty = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("plots", "nothing"))
    assert full is not None and empty is not None and full.shape == empty.shape
    assert np.ptp(full, axis=-1).max() > 50 > np.ptp(empty, axis=-1).max(), "bars in green and red"
