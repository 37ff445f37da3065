"""What stands as JSON in files of ours, with any values at any place (hypothesis): read, or one of our errors.

Bytes that are damaged at random hardly ever make JSON that can be parsed; these always do.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from mcdm_core.config import TINY, to_json  # noqa: E402
from mcdm_core.errors import MCDMError  # noqa: E402
from mcdm_core.files import read_tensors, write_tensors  # noqa: E402
from mcdm_core.pipeline.run.finished_clip import FinishedClip  # noqa: E402
from tests.fuzz.readers import CORPUS, read  # noqa: E402

SCALARS = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(width=32) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)
QUICK = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a nest of lists and objects."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in inner for place in places(part, (*at, key)))]


def changed(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value at one place."""
    if not at:
        return new
    copy = value.copy()
    copy[at[0]] = changed(value[at[0]], at[1:], new)
    return copy


def anywhere(whole: Any) -> st.SearchStrategy[str]:
    """JSON texts: ``whole`` with one or two of its parts exchanged for anything."""

    def once(value: Any) -> st.SearchStrategy[Any]:
        return st.tuples(st.sampled_from(places(value)), VALUES).map(lambda new: changed(value, *new))

    return (once(whole) | once(whole).flatmap(once)).map(json.dumps)


def metadata(kind: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Tensors and strings of the corpus's file."""
    return read_tensors(CORPUS / kind / "seed.safetensors", error=MCDMError, what="file")


@pytest.mark.parametrize(
    ("kind", "key"),
    [("weights", "mcdm_config"), ("adapter", "mcdm_adapter"), ("shard", "clips"), ("memory", None), ("motion", None)],
)
def test_metadata(kind: str, key: str | None, tmp_path: Path) -> None:
    tensors, strings = metadata(kind)
    keys = [name for name, text in strings.items() if text[:1] in "[{"] if key is None else [key]

    @QUICK
    @given(st.data())
    def check(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(keys))
        text = data.draw(anywhere(json.loads(strings[name])))
        write_tensors(tmp_path / "a.safetensors", tensors, {**strings, name: text})
        read(kind, (tmp_path / "a.safetensors").read_bytes())

    check()


@QUICK
@given(anywhere(json.loads(to_json(TINY))))
def test_configurations(text: str) -> None:
    read("configuration", text.encode())


@pytest.mark.parametrize("kind", ["jobs", "manifest"])
def test_tables(kind: str) -> None:
    rows = [json.loads(line) for line in (CORPUS / kind / "seed.jsonl").read_text().splitlines()]

    @QUICK
    @given(st.lists(st.sampled_from(rows).flatmap(anywhere), min_size=1, max_size=3))
    def check(lines: list[str]) -> None:
        read(kind, "\n".join(lines).encode())

    check()


def test_journals() -> None:
    header, *lines = (CORPUS / "journal" / "seed.jsonl").read_text().splitlines()
    clips = [json.loads(line.partition(" ")[2]) for line in lines]

    @QUICK
    @given(
        st.lists(st.sampled_from(clips).flatmap(anywhere), max_size=3), st.just(header) | anywhere(json.loads(header))
    )
    def check(texts: list[str], first: str) -> None:
        summed = [f"{zlib.crc32(text.encode()):08x} {text}" for text in texts]
        read("journal", "\n".join([first, *summed]).encode())

    check()


@QUICK
@given(
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.dictionaries(st.text(max_size=5), st.lists(st.floats(allow_nan=False), max_size=3), max_size=3),
)
def test_a_line_of_the_journal_comes_back_as_it_was(index: int, frames: int, curves: dict[str, list[float]]) -> None:
    clip = FinishedClip(index, 3 * index, frames, curves, dict.fromkeys(("clip", "motion", "memory"), (1, 2)))
    assert FinishedClip.from_line(clip.to_line().rstrip("\n")) == clip
