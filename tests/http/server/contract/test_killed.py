"""What holds over `kill -9` of the service: nothing is asked, told or done twice, and no number has a gap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.http.server.contract.pipelines import graph
from tests.http.server.event_reader import EventReader, Streamed
from tests.http.server.killed_service import Caller, KilledService

TWO_GATES = graph("""made [prompt=x, goal_gate=true]; first [shape=hexagon]; second [shape=hexagon];
    start -> made -> first -> second -> done""")


class Killed:
    """A pipeline of a service that is killed between any two requests."""

    def __init__(self, service: KilledService) -> None:
        self._service = service
        self.call = Caller(service)

    async def kill(self) -> None:
        """Kill the service, and start it again."""
        await self._service.kill()
        self.call.close()

    async def asked(self, count: int) -> Any:
        """The open question of the run `one`, once it has asked so many."""
        opened = 0

        def seen(one: Streamed) -> None:
            nonlocal opened
            opened += one.event == "InterviewStarted"
            if opened == count:
                raise _EnoughError

        path = "/pipelines/one/events"
        reader = EventReader(self._service.address, path, self._service.token, "sequence", seen=seen)
        with pytest.raises(_EnoughError):
            await reader.to_end()
        (question,) = (await self.call.get("/pipelines/one/questions"))["questions"]
        return question

    async def answer(self, question: Any) -> tuple[int, Any]:
        """Answer a question with its only choice."""
        return await self.call("POST", f"/pipelines/one/questions/{question['id']}/answer", {"answer": True})

    async def records(self) -> list[Any]:
        """All that is told."""
        found: list[Any] = (await self.call.get("/pipelines/one/events?stream=false"))["events"]
        return found


class _EnoughError(Exception):
    """The reader has seen what it waited for."""


async def test_a_run_goes_on_from_what_was_committed_over_every_kill(tmp_path: Path) -> None:
    async with KilledService(tmp_path) as service:
        place = Killed(service)
        assert (await place.call("POST", "/pipelines", {"dot": TWO_GATES, "opts": {"pipeline_id": "one"}}))[0] == 202
        first = await place.asked(1)
        before = await place.records()
        await place.kill()
        assert await place.asked(1) == first
        assert (await place.records())[: len(before)] == before
        assert (await place.answer(first))[0] == 202
        await place.kill()  # what was answered is durable
        second = await place.asked(2)
        assert (await place.answer(first)) == (404, {"error": "question not found"})
        assert (await place.call("POST", "/pipelines/one/cancel"))[0] == 202
        told = await place.call.get("/pipelines/one")
        assert (told["status"], told["pending_questions"], told["resume_ready"]) == ("cancelled", 1, False)
        assert (await place.answer(second))[0] == 202
        await place.kill()
        assert (await place.call.get("/pipelines/one/checkpoint"))["checkpoint"]["context"]["human"]["answers"] == {
            "first": "S",
            "second": "D",
        }
        assert (await place.call("POST", "/pipelines/one/resume"))[0] == 202
        await place.kill()
        reader = EventReader(service.address, "/pipelines/one/events", service.token, "sequence")
        records = [one.data for one in await reader.to_end()]
        place.call.close()
    assert [one["sequence"] for one in records] == list(range(1, len(records) + 1))
    assert records[: len(before)] == before
    assert records[-1]["type"] == "PipelineCompleted"
    for kind in ("StageStarted", "StageCompleted"):
        stages = [one["name"] for one in records if one["type"] == kind]
        assert stages == ["start", "made", "first", "second", "done"]
    asked = [one["question"]["id"] for one in records if one["type"] == "InterviewStarted"]
    assert asked == [first["id"], second["id"]]
