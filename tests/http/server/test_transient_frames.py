"""What a model says, as frames between the durable ones: over real sockets, from a model endpoint that streams."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from perdure import Run, current_step, step, workflow
from perdure.engine.live import MOST_WAITING
from perdure.model import OpenAIBackend, ask, model_step
from perdure.pipeline import Pipeline
from perdure.server.following.tails import Passing
from tests.http.model.scripted_endpoint import END, STREAM, chunk, chunked, events, head, read_request
from tests.http.server.served import Frame, Served, frames, served

EVENTS = {"accept": "text/event-stream"}


class Speaker:
    """A model endpoint that says a piece whenever the test wants it."""

    def __init__(self) -> None:
        self.url = ""
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()

    def say(self, *pieces: str) -> None:
        for piece in pieces:
            self._pieces.put_nowait(piece)

    def finish(self) -> None:
        self._pieces.put_nowait(None)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head(200, STREAM))
        while (piece := await self._pieces.get()) is not None:
            writer.write(chunked(events(chunk({"content": piece}))))
            await writer.drain()
        writer.write(chunked(events(chunk({}, "stop"), "[DONE]")) + END)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def speaking() -> AsyncIterator[Speaker]:
    speaker = Speaker()
    server = await asyncio.start_server(speaker.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    speaker.url = f"http://{host}:{port}/v1"
    async with server:
        yield speaker


def chat_with(speaker: Speaker) -> Any:
    asking = model_step(OpenAIBackend(speaker.url, model="small"))

    @workflow
    async def chat(run: Run) -> str:
        return (await run.step(asking, ask("Hello"))).text

    return chat


@asynccontextmanager
async def followed(place: Served, run_id: str, **query: Any) -> AsyncIterator[AsyncIterator[Frame]]:
    async with place.client.stream("GET", f"/runs/{run_id}/events", headers=EVENTS, params=query) as answer:
        assert answer.status_code == 200
        yield frames(answer)


async def caught_up(stream: AsyncIterator[Frame]) -> list[Frame]:
    """The durable frames until a comment says that the reader waits for news."""
    found: list[Frame] = []
    while (one := await anext(stream)).event:
        found.append(one)
    return found


async def rest(stream: AsyncIterator[Frame]) -> list[Frame]:
    """The durable frames that are left."""
    return [one async for one in stream if one.id is not None]


async def until_token(stream: AsyncIterator[Frame]) -> tuple[list[Frame], Frame]:
    """The durable frames before the next token, and the token."""
    durable: list[Frame] = []
    async for one in stream:
        if one.event == "token":
            return durable, one
        if one.id is not None:
            durable.append(one)
    raise AssertionError("no token came")


async def test_tokens_come_between_durable_frames_while_the_model_speaks() -> None:
    async with speaking() as speaker, served(workflows=[chat_with(speaker)], heartbeat_s=0.05) as place:
        run_id = await place.start("chat")
        async with followed(place, run_id, transient="true") as stream, followed(place, run_id) as plain:
            replayed = await caught_up(stream)
            speaker.say("Hi ")
            before, first = await until_token(stream)
            speaker.say("there")
            between, second = await until_token(stream)
            speaker.finish()
            found = [*replayed, *before, *between, *await rest(stream)]
            read = [one async for one in plain]
            assert not [one for one in read if one.event == "token"]
            durable = [one for one in read if one.id is not None]
        scope = first.data["scope"]
        assert first.data == {
            "run_id": run_id, "scope": scope, "step": "ask_model", "attempt": 1, "offset": 0, "text": "Hi ",
        }  # fmt: skip
        assert (second.data["offset"], second.data["text"]) == (3, "there")
        assert [one.id for one in found] == list(range(1, len(found) + 1))
        assert found[-1].event == "run.completed"
        assert durable == found, "who does not ask for tokens gets the same durable frames and no others"
        listed = (await place.client.get(f"/runs/{run_id}/events", params={"transient": "true"})).json()["events"]
        assert listed == [one.data for one in found]


async def test_a_reader_that_comes_again_is_told_nothing_twice() -> None:
    async with speaking() as speaker, served(workflows=[chat_with(speaker)], heartbeat_s=0.05) as place:
        run_id = await place.start("chat")
        async with followed(place, run_id, transient="true") as stream:
            replayed = await caught_up(stream)
            speaker.say("Hi ")
            before, _ = await until_token(stream)
        last = [*replayed, *before][-1].id
        async with followed(place, run_id, transient="true", after=last) as stream:
            again = await caught_up(stream)
            speaker.say("there")
            between, token = await until_token(stream)
            speaker.finish()
            left = await rest(stream)
        assert (token.data["offset"], token.data["text"]) == (3, "there")
        ids = [one.id for one in [*replayed, *before, *again, *between, *left]]
        assert ids == list(range(1, len(ids) + 1))


async def test_a_pipeline_tells_what_its_stages_are_answered() -> None:
    source = 'digraph g { start [shape=Mdiamond] work [prompt="Do it"] done [shape=Msquare] start -> work -> done }'
    async with speaking() as speaker:
        pipeline = Pipeline.parse(source, model=OpenAIBackend(speaker.url, model="small"))
        async with served(workflows=[pipeline], heartbeat_s=0.05) as place:
            handle = await place.runtime.start(pipeline)
            async with followed(place, handle.id, transient="true") as stream:
                await caught_up(stream)
                speaker.say("Done.")
                _, token = await until_token(stream)
                speaker.finish()
                assert (await rest(stream))[-1].event == "run.completed"
        assert (token.data["step"], token.data["text"]) == ("ask_model", "Done.")


async def test_a_token_comes_before_the_fact_of_its_step_and_never_behind_it() -> None:
    @step(kind="read")
    async def talk(number: int) -> int:
        current_step().tell(f"<{number}>")
        return number

    @workflow
    async def talks(run: Run) -> None:
        await run.wait_for("go")
        for number in range(50):
            await run.step(talk, number)

    async with served(workflows=[talks], heartbeat_s=0.05) as place:
        run_id = await place.start("talks")
        await place.reaches(run_id, "waiting")
        reading = place.service.app.state.tails.follow_live(run_id)
        while await anext(reading):
            pass  # until it has caught up
        await place.client.post(f"/runs/{run_id}/signal", json={"name": "go"})
        await place.reaches(run_id, "completed")  # it reads all of it at once
        told, done = "", set()
        async for batch in reading:
            for one in batch:
                if isinstance(one, Passing):
                    assert one.piece.step not in done
                    told += one.piece.text
                elif one.event.kind == "step.completed":
                    done.add(one.event.key)
        assert told == "".join(f"<{number}>" for number in range(50))
        assert len(done) == 50


@pytest.mark.time_limit(30)
async def test_a_slow_reader_loses_tokens_and_no_durable_frame_and_nothing_piles_up() -> None:
    rounds = 200

    @step(kind="read")
    async def shout(number: int) -> int:
        current_step().tell("x" * MOST_WAITING)
        return number

    @workflow
    async def shouts(run: Run) -> None:
        await run.wait_for("go")
        for number in range(rounds):
            await run.step(shout, number)

    async with served(workflows=[shouts]) as place:
        run_id = await place.start("shouts")
        await place.reaches(run_id, "waiting")
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        small.setblocking(False)
        await asyncio.get_running_loop().sock_connect(small, (place.service.host, place.service.port))
        reader, writer = await asyncio.open_connection(sock=small, limit=1 << 16)
        token = place.keys.token if place.keys is not None else ""
        writer.write(
            f"GET /runs/{run_id}/events?transient=true HTTP/1.1\r\nhost: 127.0.0.1:{place.service.port}\r\n"
            f"accept: text/event-stream\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n".encode()
        )
        got = await reader.readuntil(b"event: run.suspended")
        await place.client.post(f"/runs/{run_id}/signal", json={"name": "go"})
        await place.reaches(run_id, "completed")
        got += await reader.read()  # only now
        writer.close()
        durable = [int(line[4:]) for line in got.split(b"\n") if line.startswith(b"id: ")]
        assert durable == list(range(1, len(durable) + 1))
        assert b"event: run.completed" in got
        assert got.count(b"xxxx") > 0
        assert len(got) < rounds * MOST_WAITING / 2
