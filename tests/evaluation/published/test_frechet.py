"""Fréchet distances: of known Gaussians, batch by batch, and by an exported network over videos."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from mcdm_core.__main__ import main
from mcdm_core.errors import MCDMError, MediaError, PackageError, WeightsError
from mcdm_core.evaluation.published import videos_of
from mcdm_core.evaluation.published.frechet import Moments, frechet_distance
from mcdm_core.published.network import FREE_LENGTH, OnnxNetwork, network_inputs
from tests.media.plain_videos import grey_video


def moments(features: np.ndarray, batches: int = 1) -> Moments:
    made = Moments()
    for part in np.array_split(features, batches):
        made.add(part)
    return made


def test_it_is_the_distance_of_two_gaussians() -> None:
    random = np.random.default_rng(0)
    mixing = [random.normal(size=(6, 6)) for _ in range(2)]
    one, other = (random.normal(size=(400, 6)) @ mix + at for mix, at in zip(mixing, (0.0, 1.0), strict=True))
    linalg = pytest.importorskip("scipy.linalg")
    covariances = [np.cov(x, rowvar=False) for x in (one, other)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    wanted = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(sum(covariances) - 2 * root)
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(wanted, rel=1e-6)
    assert frechet_distance(moments(one, 7), moments(other, 3)) == pytest.approx(wanted, rel=1e-6)
    halves = moments(one[:150]).merge(moments(one[150:]))
    assert frechet_distance(halves, moments(other)) == pytest.approx(wanted, rel=1e-6)
    assert Moments().merge(halves) is halves.merge(Moments()) is halves
    assert frechet_distance(moments(one), moments(one)) == pytest.approx(0, abs=1e-9)


def test_too_few_samples_are_told(caplog: pytest.LogCaptureFixture) -> None:
    random = np.random.default_rng(0)
    frechet_distance(moments(random.normal(size=(5, 8))), moments(random.normal(size=(50, 8))))
    assert "5 and 50 samples of 8 features" in caplog.text
    with pytest.raises(MCDMError, match="at least two"):
        frechet_distance(moments(np.zeros((1, 3))), moments(np.zeros((4, 3))))


@dataclass
class Takes:
    """The inputs a network asks for."""

    shape: tuple[int | None, ...]
    name: str = "some.onnx"

    @property
    def rank(self) -> int:
        return len(self.shape) + 1


def test_networks_of_pictures_and_of_clips_get_their_sizes() -> None:
    frames = [torch.full((3, 20, 30), k / 40) for k in range(40)]
    pictures = list(network_inputs(Takes((3, 8, 10)), frames))
    assert [x.shape for x in pictures] == [(1, 3, 8, 10)] * 40
    assert torch.allclose(pictures[20], torch.tensor(127.5), atol=1e-3)
    clips = list(network_inputs(Takes((3, None, None, None)), frames))
    assert [x.shape for x in clips] == [(1, 3, FREE_LENGTH, 20, 30)] * 2
    # Consecutive frames, in their order.
    assert torch.allclose(clips[1][0, 0, :, 0, 0], torch.arange(16, 32) / 40 * 255, atol=1e-3)
    with pytest.raises(WeightsError, match="expected pictures"):
        list(network_inputs(Takes((1, 13, 20)), frames))


def test_what_is_no_network_or_no_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="neither a video nor a folder"):
        videos_of(tmp_path)
    with pytest.raises((WeightsError, PackageError)):
        OnnxNetwork(tmp_path / "missing.onnx")
    assert main(["evaluate", str(tmp_path), "--frechet", "fid=inception.onnx"]) == 1
    with pytest.raises(SystemExit):
        main(["evaluate", str(tmp_path), "--frechet", "inception.onnx"])


def mean_colour_network(path: Path, batch: int) -> Path:
    """An ONNX network whose features are the mean colour, of bytes 6 by 6."""
    onnx = pytest.importorskip("onnx", reason="makes the network")
    helper, numbers = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["f"], to=numbers.FLOAT),
            helper.make_node("ReduceMean", ["f"], ["y"], axes=[2, 3], keepdims=0),
        ],
        "mean",
        [helper.make_tensor_value_info("x", numbers.UINT8, [batch, 3, 6, 6])],
        [helper.make_tensor_value_info("y", numbers.FLOAT, [batch, 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def test_videos_are_compared_beside_the_first_frame_held_still(tmp_path: Path, capsys) -> None:
    pytest.importorskip("onnxruntime", reason="runs the network")
    network = mean_colour_network(tmp_path / "mean.onnx", 4)
    assert OnnxNetwork(network)(torch.full((5, 3, 6, 6), 77.0)).tolist() == [[77.0] * 3] * 5, "a batch that is not full"
    for folder, add in (("real", 0), ("made", 30)):
        (tmp_path / folder).mkdir()
        grey_video(tmp_path / folder / "a.mp4", [(level + add) / 255 for level in (40, 80)], 32, 32)
        grey_video(tmp_path / folder / "b.mp4", [(level + add) / 255 for level in (100, 140)], 32, 32)
    given = ["--against", str(tmp_path / "real"), "--frechet", f"colour={network}"]
    assert main(["evaluate", str(tmp_path / "made"), *given]) == 0
    scores = json.loads(capsys.readouterr().out)["colour"]
    # 30 levels off in each of three colours, and the spread the same.
    assert scores["distance"] == pytest.approx(3 * 30**2, rel=0.05)
    assert scores["held_still"] > 3 * 15**2 and scores["real_halves"] == pytest.approx(3 * 60**2, rel=0.05)
    assert main(["evaluate", str(tmp_path / "real"), *given]) == 0
    assert json.loads(capsys.readouterr().out)["colour"]["distance"] == pytest.approx(0, abs=1e-6)
