"""Writing of safetensors files: whole or not at all."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from mcdm_core.errors import MCDMError, MediaError, OutOfMemoryError
from mcdm_core.files import check_destination, part_path, read_tensors, write_tensors


def test_a_file_is_written_with_its_folder_and_replaced(tmp_path) -> None:
    path = tmp_path / "deep" / "a.safetensors"
    for value in (1.0, 2.0):
        write_tensors(path, {"x": torch.full((2, 3), value).T}, {"about": "a test"})
        assert torch.equal(load_file(path)["x"], torch.full((3, 2), value))
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]


def test_a_failure_leaves_the_older_file_and_no_rest(tmp_path, monkeypatch) -> None:
    import safetensors.torch

    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x": torch.zeros(1)})

    def fail(tensors, name, metadata=None):
        with open(name, "wb") as file:
            file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(MediaError, match="no space left"):
        write_tensors(path, {"x": torch.ones(1)})
    assert torch.equal(load_file(path)["x"], torch.zeros(1)) and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(MediaError, match="cannot be written"):
        write_tensors(path / "below" / "b.safetensors", {"x": torch.ones(1)})


def test_too_little_memory_is_named_before_it_ends_the_process(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x": torch.zeros(1)})
    monkeypatch.setattr("mcdm_core.files._WRITER_BYTES", 1 << 62)
    with pytest.raises(OutOfMemoryError, match="to write"):
        write_tensors(path, {"x": torch.ones(1)})
    assert torch.equal(load_file(path)["x"], torch.zeros(1)) and len(list(tmp_path.iterdir())) == 1

    def starve(*_arguments):
        raise MemoryError

    monkeypatch.setattr("safetensors.safe_open", starve)
    with pytest.raises(OutOfMemoryError, match="to read"):
        read_tensors(path, error=MCDMError, what="memory")


def test_messages_name_a_path_once_and_no_error_number(tmp_path) -> None:
    from mcdm_core.media.audio import load_audio
    from mcdm_core.media.portrait import load_portrait
    from mcdm_core.media.video_reader import VideoReader

    damaged = tmp_path / "damaged.bin"
    damaged.write_bytes(b"nothing that decodes" * 50)
    for read in (load_audio, load_portrait, VideoReader):
        with pytest.raises(MCDMError) as caught:
            read(damaged)
        message = str(caught.value)
        assert "Errno" not in message and message.count("damaged.bin") <= 2, message
        if read is not load_portrait:  # Pillow's own reason is about the file's name
            assert message.count("damaged.bin") == 1, message


def test_a_name_too_long_for_its_part_is_still_written(tmp_path) -> None:
    path = tmp_path / ("n" * 240 + ".safetensors")[-255:]
    write_tensors(path, {"x": torch.ones(1)})
    assert path.is_file() and len(part_path(path).name) <= 255


def test_places_where_nothing_can_be_written_are_named_beforehand(tmp_path) -> None:
    (tmp_path / "in.mp4").touch()
    (tmp_path / "link.mp4").hardlink_to(tmp_path / "in.mp4")
    check_destination(tmp_path / "new" / "a.MP4", [".mp4"], [None, tmp_path / "in.mp4"])
    assert (tmp_path / "new").is_dir() and not list((tmp_path / "new").iterdir())
    for name, words in {
        "a": "NAME.mp4",
        "in.mp4": "input",
        "link.mp4": "input",
        "n" * 300 + ".mp4": "written",
        "in.mp4/a.mp4": "written",
        "a\0.mp4": "written",
    }.items():
        with pytest.raises(MediaError, match=words) as caught:
            check_destination(tmp_path / name, [".mp4"], [tmp_path / "in.mp4"])
        assert "Errno" not in str(caught.value)
    with pytest.raises(MediaError, match="written"):
        check_destination("/proc/nowhere/a.mp4", [".mp4"])
