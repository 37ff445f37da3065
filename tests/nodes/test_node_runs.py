"""Whose event it is, what pages that come late are told, and which run is asked to stop."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from .fixtures import pack_module, tone

node_run = pack_module("comfy.page.node_run")
player_events = pack_module("comfy.page.player_events")
stop_requests = pack_module("comfy.page.stop_requests")
NodeRun = node_run.NodeRun


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What a server would send."""
    messages: list[tuple[str, dict[str, Any]]] = []

    class Server:
        client_id = "page"

        def send_sync(self, name: str, data: dict[str, Any], client: str) -> None:
            assert client == "page"
            messages.append((name.removeprefix("mcdm."), data))

    module = ModuleType("server")
    module.PromptServer = SimpleNamespace(instance=Server())
    monkeypatch.setitem(sys.modules, "server", module)
    monkeypatch.setattr(node_run, "JOURNAL", node_run.Journal())
    return messages


def test_every_event_says_whose_it_is_and_is_numbered(sent: list[Any]) -> None:
    run = NodeRun("7", "workflow A", "prompt 1")
    run.send("start", {"frames": 3, "peaks": [0.5, float("nan")]})
    run.send("clip", {"clip": 0})
    first, second = (data for _, data in sent)
    assert {key: first[key] for key in ("node", "workflow", "prompt_id")} == {
        "node": "7",
        "workflow": "workflow A",
        "prompt_id": "prompt 1",
    }
    assert first["peaks"] == [0.5, None], "JSON has no NaN"
    assert first["seq"] < second["seq"]


def test_the_identity_comes_from_the_workflow_and_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    utils = ModuleType("comfy_execution.utils")
    utils.get_executing_context = lambda: SimpleNamespace(prompt_id="p")
    monkeypatch.setitem(sys.modules, "comfy_execution", ModuleType("comfy_execution"))
    monkeypatch.setitem(sys.modules, "comfy_execution.utils", utils)
    hidden = SimpleNamespace(unique_id=7, extra_pnginfo={"workflow": {"id": "w"}})
    assert NodeRun.of(SimpleNamespace(hidden=hidden)) == NodeRun("7", "w", "p")
    hidden.extra_pnginfo = None  # a client without a page
    assert NodeRun.of(SimpleNamespace(hidden=hidden)) == NodeRun("7", "", "p")


def test_a_page_that_comes_late_is_told_of_its_own_workflow_alone(sent: list[Any]) -> None:
    a, b = NodeRun("7", "A", "1"), NodeRun("7", "B", "2")
    for run in (a, b):
        run.send("start", {})
        run.send("frame", {"image": "x"})
        run.send("progress", {"done": 1})
        run.send("progress", {"done": 2})
        run.send("clip", {"clip": 0})
    (told,) = node_run.JOURNAL.of_workflow("A")
    assert [name for name, _ in told] == ["start", "progress", "clip"], "no frames, the latest progress alone"
    assert told[1][1]["done"] == 2 and all(data["workflow"] == "A" for _, data in told)
    a.send("start", {})
    assert len(node_run.JOURNAL.of_workflow("A")[0]) == 1, "a new run forgets the one before"


def test_a_cached_result_is_found_by_its_file(sent: list[Any]) -> None:
    place = {"filename": "v.mp4", "subfolder": "mcdm", "type": "output"}
    run = NodeRun("7", "A", "1")
    run.send("start", {})
    run.send("done", place)
    found = node_run.JOURNAL.of_file("v.mp4", "mcdm", "output")
    assert [name for name, _ in found] == ["start", "done"]
    assert node_run.JOURNAL.of_file("other.mp4", "mcdm", "output") == []


def test_only_the_latest_runs_are_kept() -> None:
    journal = node_run.Journal(kept=2)
    for number in range(4):
        journal.add("start", {"workflow": "A", "node": str(number)})
        journal.add("clip", {"workflow": "A", "node": "0"})
    assert [run[0][1]["node"] for run in journal.of_workflow("A")] == ["2", "3"]


def test_a_stop_request_concerns_the_run_that_is_meant() -> None:
    requests = stop_requests.StopRequests()
    mine, other = NodeRun("7", "A", "1"), NodeRun("7", "B", "2")
    assert not requests.ask("7"), "it does not run"
    requests.begin(mine)
    assert not requests.ask("7", "2"), "another prompt's node of that number"
    assert requests.ask("7", "1") and requests.asked(mine) and not requests.asked(other)
    requests.end(mine, stopped=True)
    assert requests.stops == 1 and not requests.asked(mine)
    requests.begin(mine)
    assert not requests.asked(mine), "an old request does not end a new run"
    assert requests.ask("7"), "a client may leave the prompt out"


def test_nodes_with_one_video_can_be_stopped_and_tell_speed_and_time_left(
    sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = stop_requests.StopRequests()
    monkeypatch.setattr(player_events, "STOP_REQUESTS", requests)
    monkeypatch.setattr(player_events, "SECONDS_BETWEEN_REPORTS", -1.0)
    run = NodeRun("9", "A", "1")
    with player_events.WholeVideoPlayer(run, (64, 64), 100, 25.0, tone(4.0)) as player:
        player.progress(10)
        assert not player.stop_asked()
        assert requests.ask("9", "1"), "Assemble and Upscale run too"
        assert player.stop_asked()
    start, progress = sent[0][1], sent[1][1]
    assert start["stoppable"] and len(start["peaks"]) == 400
    assert progress["done"] == 10 and progress["frames_per_second"] > 0
    assert progress["eta"] == pytest.approx(90 / progress["frames_per_second"], rel=0.1, abs=0.1)
    assert requests.stops == 1 and not requests.ask("9"), "over"


def test_stop_pressed_the_moment_the_page_hears_of_the_start_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = stop_requests.StopRequests()
    monkeypatch.setattr(player_events, "STOP_REQUESTS", requests)
    answers: list[bool] = []

    def press(name: str, message: dict[str, Any]) -> None:
        if name == "start":
            answers.append(requests.ask(message["node"], message["prompt_id"]))

    monkeypatch.setattr(node_run, "send_event", press)
    with player_events.WholeVideoPlayer(NodeRun("9", "A", "1"), (64, 64), 100, 25.0) as player:
        assert answers == [True] and player.stop_asked()
    assert requests.stops == 1


def test_a_node_that_fails_says_so(sent: list[Any]) -> None:
    class InterruptProcessingException(BaseException):
        pass

    for error, reason in ((InterruptProcessingException(), "interrupted"), (ValueError("x"), "error")):
        with (
            pytest.raises(type(error)),
            player_events.WholeVideoPlayer(NodeRun("9"), (64, 64), 10, 25.0),
        ):
            raise error
        assert sent[-1][0] == "failed" and sent[-1][1]["reason"] == reason
