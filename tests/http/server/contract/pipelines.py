"""Pipelines over a real socket: what the tests of the contract say to the service, and what it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

from perdure.server.pipelines import PipelineSettings
from perdure.store.port import Store
from tests.http.server.served import frames, served

ENDS: Final = "start [shape=Mdiamond]; done [shape=Msquare];"
PLAIN: Final = f"digraph Plain {{ {ENDS} work [prompt=Work]; start -> work -> done }}"
GATE: Final = f"""digraph Gate {{ {ENDS} ask [shape=hexagon, prompt="Ship it?"]; again [prompt="Do it again"];
    start -> ask; ask -> done [label="[Y] Yes"]; ask -> again [label="[N] No"]; again -> ask }}"""

Record = dict[str, Any]


def graph(statements: str) -> str:
    """A pipeline with a start and an exit."""
    return f"digraph P {{ {ENDS} {statements} }}"


class Pipelines:
    """The routes of `/pipelines`.

    Args:
        client: that speaks to the service.
    """

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def start(self, dot: str, **members: Any) -> str:
        """Start a pipeline."""
        answer = await self.client.post("/pipelines", json={"dot": dot, **members})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["pipeline_id"])

    async def get(self, pipeline_id: str, rest: str = "", **query: Any) -> Any:
        """The JSON that a route of a run gives."""
        answer = await self.client.get(f"/pipelines/{pipeline_id}{rest}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, pipeline_id: str, rest: str) -> tuple[int, Any]:
        """Send a command without a body; the status and what was told."""
        answer = await self.client.post(f"/pipelines/{pipeline_id}{rest}")
        return answer.status_code, answer.json()

    async def answer(self, pipeline_id: str, question_id: str, given: Any) -> tuple[int, Any]:
        """Answer a question; the status and what was told."""
        path = f"/pipelines/{pipeline_id}/questions/{question_id}/answer"
        answer = await self.client.post(path, json={"answer": given})
        return answer.status_code, answer.json()

    async def events(self, pipeline_id: str, **query: Any) -> list[Record]:
        """The records of a run, as JSON."""
        found: list[Record] = (await self.get(pipeline_id, "/events", stream="false", **query))["events"]
        return found

    async def questions(self, pipeline_id: str) -> list[Record]:
        """The open questions of a run."""
        found: list[Record] = (await self.get(pipeline_id, "/questions"))["questions"]
        return found

    async def context(self, pipeline_id: str) -> Any:
        """The context of a run."""
        return (await self.get(pipeline_id, "/context"))["context"]

    async def checkpoint(self, pipeline_id: str) -> Any:
        """The checkpoint of a run."""
        return (await self.get(pipeline_id, "/checkpoint"))["checkpoint"]

    async def until(self, pipeline_id: str, kind: str, count: int = 1) -> list[Record]:
        """Follow a run until it has told so many records of a type."""
        found: list[Record] = []
        async with self.client.stream("GET", f"/pipelines/{pipeline_id}/events") as answer:
            async for frame in frames(answer):
                if frame.data is not None:  # a comment has none
                    found.append(frame.data)
                if sum(one["type"] == kind for one in found) >= count:
                    break
        return found

    async def ended(self, pipeline_id: str) -> Any:
        """The summary of a run once it has ended."""
        async with self.client.stream("GET", f"/pipelines/{pipeline_id}/events") as answer:
            async for _ in frames(answer):
                pass
        return await self.get(pipeline_id)

    async def asked(self, pipeline_id: str, count: int = 1) -> Record:
        """The only question that is open once a run has asked so many."""
        await self.until(pipeline_id, "InterviewStarted", count)
        (found,) = await self.questions(pipeline_id)
        return found


@asynccontextmanager
async def pipelines(
    store: Store | None = None, *, directory: Path | None = None, commands: bool = False
) -> AsyncIterator[Pipelines]:
    """A service, and what speaks to its pipelines.

    Args:
        store: that it keeps runs in.
        directory: of child pipelines.
        commands: `tool` stages run.
    """
    settings = PipelineSettings(allow_commands=commands, directory=directory)
    async with served(store, workflows=(), open_to_all=True, pipelines=settings) as place:
        yield Pipelines(place.client)
