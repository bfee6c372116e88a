"""Every verb of the client against a real service."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import date

import pytest

from perdure import Run, current_step, step, workflow
from perdure.client import Client, Piece
from perdure.core.errors import (
    AnswerRefusedError,
    ArtifactNotFoundError,
    InputError,
    InputTypeError,
    NotFoundError,
    NotInDoubtError,
    NotReopenableError,
    RunCancelled,
    RunConflictError,
    RunEndedError,
    RunFailed,
    RunNotFoundError,
    RunParkedError,
    UnknownWorkflowError,
    WaitClosedError,
    WaitNotFoundError,
)
from perdure.journal.chain import check
from tests.http.server.served import Served, served


def client_of(service: Served, **settings: str) -> Client:
    return Client(service.service.start_url, **settings)


async def test_a_run_is_started_watched_and_has_its_result() -> None:
    async with served() as service, client_of(service) as client:
        run = await client.start("add", {"a": 1, "b": 2}, tags=["nightly", "b"])
        assert await client.result(run.run_id, timeout="20s") == 3
        view = await client.show(run.run_id)
        assert (view.status, view.ended, view.output, view.input) == ("completed", True, 3, {"a": 1, "b": 2})
        assert sorted(view.tags) == ["b", "nightly"]
        events = [event async for event in client.events(run.run_id)]
        assert [event.seq for event in events] == list(range(1, (view.seq or 0) + 1))
        assert (events[0].kind, events[-1].kind) == ("run.started", "run.completed")
        assert [event async for event in client.events(run.run_id, follow=False)] == events
        assert [event async for event in client.events(run.run_id, after=2)] == events[2:]
        assert [event async for event in client.events(run.run_id, after=99)] == []


async def test_a_start_under_an_id_or_a_key_is_one_run() -> None:
    async with served() as service, client_of(service) as client:
        named = [await client.start("add", {"a": 1}, id="one") for _ in range(2)]
        assert [run.run_id for run in named] == ["one", "one"]
        with pytest.raises(RunConflictError):
            await client.start("add", {"a": 2}, id="one")
        keyed = [await client.start("add", {"a": 1}, idempotency_key="k") for _ in range(2)]
        assert len({run.run_id for run in keyed}) == 1
        drawn = [await client.start("add", {"a": 1}) for _ in range(2)]
        assert len({run.run_id for run in drawn}) == 2
        assert len([row async for row in client.runs()]) == 4


async def test_lists_go_over_pages() -> None:
    async with served() as service, client_of(service) as client:
        started = [(await client.start("add", {"a": number}, tags=["t"])).run_id for number in range(7)]
        await client.start("ask")
        found, cursor = [], None
        while True:
            page = await client.runs_page(workflow="add", tags=["t"], cursor=cursor, limit=3)
            found += [row.run_id for row in page.runs]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert sorted(found) == sorted(started)
        assert [row.run_id async for row in client.runs(workflow="add")] == found
        assert [row.workflow async for row in client.runs(status=["waiting", "running", "pending"])] == ["ask"]
        assert [row.run_id async for row in client.runs(id_prefix=started[3])] == [started[3]]
        created_ms = (await client.show(started[3])).created_ms
        bounded = client.runs(created_after_ms=created_ms, created_before_ms=created_ms + 1)
        assert started[3] in [row.run_id async for row in bounded]
        with pytest.raises(InputError):
            await client.runs_page(limit=0)


async def test_questions_are_found_and_answered() -> None:
    async with served() as service, client_of(service) as client:
        run = await client.start("ask", {"text": "Go?"})
        await service.reaches(run.run_id, "waiting")
        (question,) = await client.questions()
        assert (question.text, question.choices, question.run_id) == ("Go?", ("yes", "no"), run.run_id)
        assert await client.questions(run.run_id) == [question]
        assert (await client.inbox()).damaged == ()
        with pytest.raises(AnswerRefusedError):
            await client.answer(run.run_id, "perhaps")
        with pytest.raises(WaitNotFoundError):
            await client.answer(run.run_id, "yes", wait_id="q0")
        taken = await client.answer(run.run_id, "yes", wait_id=question.wait_id, by="ada", idempotency_key="the answer")
        assert (taken.run_id, taken.wait_id) == (run.run_id, question.wait_id)
        await client.answer(run.run_id, "yes", wait_id=question.wait_id, by="ada", idempotency_key="the answer")
        with pytest.raises((WaitClosedError, RunEndedError)):
            await client.answer(run.run_id, "no", wait_id=question.wait_id)
        assert await client.result(run.run_id) == "yes"
        (answered,) = [one async for one in client.events(run.run_id) if one.kind == "wait.answered"]
        assert answered.actor == "person:ada"


async def test_signals_reach_a_run_or_whoever_waits() -> None:
    async with served() as service, client_of(service) as client:
        first, second = await client.start("listen"), await client.start("listen")
        await client.signal("go", {"n": 1}, run_id=first.run_id)
        assert await client.result(first.run_id) == {"n": 1}
        await service.reaches(second.run_id, "waiting")
        waits = await client.waits(kind="signal", name="go")
        assert [(one.run_id, one.kind, one.name) for one in waits] == [(second.run_id, "signal", "go")]
        assert (await client.signal("go", None)).run_id == second.run_id
        assert await client.result(second.run_id) is None
        with pytest.raises(NotFoundError):
            await client.signal("go")
        with pytest.raises(RunEndedError):
            await client.signal("go", run_id=second.run_id)


async def test_runs_are_paused_resumed_cancelled_and_retried() -> None:
    async with served() as service, client_of(service) as client:
        run = await client.start("listen")
        await service.reaches(run.run_id, "waiting")
        await client.pause(run.run_id)
        with pytest.raises(RunParkedError) as parked:
            await client.result(run.run_id)
        with pytest.raises(RunParkedError) as local:
            await service.runtime.run(run.run_id).result()
        assert parked.value.to_dict() == local.value.to_dict()
        await client.resume(run.run_id)
        await client.cancel(run.run_id, reason="no need")
        with pytest.raises(RunCancelled) as cancelled:
            await client.result(run.run_id, timeout="20s")
        with pytest.raises(RunCancelled) as same:
            await service.runtime.run(run.run_id).result()
        assert cancelled.value.to_dict() == same.value.to_dict()
        assert cancelled.value.ids["reason"] == "no need"
        with pytest.raises(RunEndedError):
            await client.pause(run.run_id)
        await client.retry(run.run_id, reason="again")
        await client.signal("go", 5, run_id=run.run_id)
        assert await client.result(run.run_id, timeout="20s") == 5
        with pytest.raises(NotReopenableError):
            await client.retry(run.run_id)
        with pytest.raises((NotInDoubtError, RunEndedError)):
            await client.resolve(run.run_id, "done", value=1)


async def test_a_failed_run_fails_as_it_does_in_the_engine() -> None:
    async with served() as service, client_of(service) as client:
        run = await client.start("fails")
        with pytest.raises(RunFailed) as caught:
            await client.result(run.run_id)
        with pytest.raises(RunFailed) as local:
            await service.runtime.run(run.run_id).result()
        assert caught.value.to_dict() == local.value.to_dict()


async def test_a_result_that_waits_for_a_parked_run() -> None:
    async with served() as service, client_of(service) as client:
        run = await client.start("listen")
        await service.reaches(run.run_id, "waiting")
        await client.pause(run.run_id)
        waiting = asyncio.ensure_future(client.result(run.run_id, wait_parked=True))
        await client.signal("go", "done", run_id=run.run_id)
        await client.resume(run.run_id)
        assert await waiting == "done"


async def test_a_run_that_is_paused_while_its_result_is_awaited() -> None:
    async with served() as service, client_of(service) as client:
        run = await client.start("listen")
        waiting = asyncio.ensure_future(client.result(run.run_id))
        await service.reaches(run.run_id, "waiting")
        await client.pause(run.run_id)
        with pytest.raises(RunParkedError):
            await waiting


async def test_a_result_that_does_not_come_in_time() -> None:
    async with served() as service, client_of(service) as client:
        run = await client.start("listen")
        with pytest.raises(TimeoutError) as caught:
            await client.result(run.run_id, timeout="100ms")
        assert getattr(caught.value, "code", None) == "result_timeout"
        await client.signal("go", run_id=run.run_id)
        assert await client.result(run.run_id) is None


async def test_artifacts_come_whole_in_ranges_and_checked() -> None:
    async with served() as service, client_of(service) as client:
        text = "über" * 1000
        run = await client.start("keep", {"text": text})
        sha256 = await client.result(run.run_id)
        (info,) = await client.artifacts(run.run_id)
        data = text.encode()
        assert (info.artifact_id, info.size, info.name) == (sha256, len(data), "note.txt")
        assert sha256 == hashlib.sha256(data).hexdigest()
        assert await client.artifact(run.run_id, sha256) == data
        assert await client.artifact(run.run_id, sha256, range=(0, 1)) == data[:1]
        assert await client.artifact(run.run_id, sha256, range=(4000, 9_999_999)) == data[4000:]
        with pytest.raises(InputError):
            await client.artifact(run.run_id, sha256, range=(len(data), len(data) + 1))
        for wanted in (None, (0, 1)):
            with pytest.raises(ArtifactNotFoundError):
                await client.artifact(run.run_id, "0" * 64, range=wanted)


async def test_a_journal_comes_as_it_was_hashed() -> None:
    async with served() as service, client_of(service) as client:
        run = await client.start("count", {"numbers": 20})
        await client.signal("go", run_id=run.run_id)
        await client.result(run.run_id)
        records = [record async for record in client.journal(run.run_id)]
        page = await client.journal_page(run.run_id, after=3, limit=2)
        assert ([record.seq for record in page.records], page.more) == ([4, 5], True)
        head = check(run.run_id, records)
        assert head == page.head
        assert (await client.verify(run.run_id)).head == head.hash.hex()
        local = await service.runtime.store.read(run.run_id)
        assert [(one.header, one.salt, one.payload, one.to_dict()) for one in records] == [
            (one.header, one.salt, one.payload, one.to_dict()) for one in local
        ]


async def test_the_state_at_any_seq() -> None:
    async with served() as service, client_of(service) as client:
        run = await client.start("add", {"a": 1})
        await client.result(run.run_id)
        state = await client.state(run.run_id)
        assert (state.state, state.status) == ({}, "completed")
        assert (await client.state(run.run_id, at=1)).seq == 1
        with pytest.raises(InputError):
            await client.state(run.run_id, at=99)


async def test_the_feed_of_all_runs() -> None:
    async with served() as service, client_of(service) as client:
        first = await client.start("add", {"a": 1})
        await client.result(first.run_id)
        page = await client.feed_page(limit=2)
        assert ([event.seq for event in page.events], page.more) == ([1, 2], True)
        found = []
        async for event in client.feed(kinds=["run.completed", "run.started"], workflows=["add"]):
            found.append((event.run_id, event.kind))
            if len(found) == 2:
                await client.start("ask")
                second = await client.start("add", {"a": 2})
            if len(found) == 4:
                assert event.position > page.next
                break
        ended = [(run.run_id, kind) for run in (first, second) for kind in ("run.started", "run.completed")]
        assert found == ended


@workflow
async def chat(run: Run) -> str:
    """Tells what it says while it says it."""
    await run.wait_for("go")
    return await run.step(says)


@step(kind="read")
async def says() -> str:
    current_step().tell("half a ")
    current_step().tell("word")
    return "half a word"


async def test_what_steps_tell_comes_between_the_events() -> None:
    async with served(workflows=[chat]) as service, client_of(service) as client:
        run = await client.start("chat")
        await service.reaches(run.run_id, "waiting")
        told, events, sent = "", [], False
        seq = (await client.show(run.run_id)).seq or 0
        async for one in client.live(run.run_id, after=seq - 1):
            if isinstance(one, Piece):
                told += one.text
            else:
                events.append(one)
            if not sent:
                sent = True
                await client.signal("go", run_id=run.run_id)
        assert told == "half a word"
        assert events == [event async for event in client.events(run.run_id, after=seq - 1)]


async def test_the_service_itself() -> None:
    async with served() as service, client_of(service) as client:
        assert (await client.health()).status == "ok"
        assert await client.ready()
        assert (await client.version()).name == "perdure"
        assert "perdure_" in await client.metrics()
        names = [one.name for one in await client.workflows()]
        assert names == sorted(names)
        add = await client.workflow("add")
        assert (add.form, add.input["required"]) == ("function", ["a"])
        assert "nodes" in add.raw
        (worker,) = await client.workers()
        assert worker.alive
        with pytest.raises(UnknownWorkflowError):
            await client.workflow("nothing")
        with pytest.raises(UnknownWorkflowError):
            await client.start("nothing")
        with pytest.raises((InputTypeError, InputError)):
            await client.start("add", {"a": "one"})


async def test_a_store_that_is_closed_is_no_readiness() -> None:
    async with served() as service, client_of(service) as client:
        await service.runtime.store.close()
        ready = await client.ready()
        assert (bool(ready), ready.status) == (False, "unavailable")


async def test_an_unknown_run_is_unknown_to_every_verb() -> None:
    async with served() as service, client_of(service) as client:
        for called in (
            client.show("no"),
            client.state("no"),
            client.verify("no"),
            client.questions("no"),
            client.artifacts("no"),
            client.artifact("no", "0" * 64),
            client.journal_page("no"),
            client.answer("no", "yes"),
            client.signal("go", run_id="no"),
            client.cancel("no"),
            client.pause("no"),
            client.resume("no"),
            client.retry("no"),
            client.resolve("no", "done"),
            client.result("no"),
            anext(client.events("no")),
            anext(client.events("no", follow=False)),
            anext(client.live("no")),
            anext(client.journal("no")),
        ):
            with pytest.raises(RunNotFoundError) as caught:
                await called
            assert caught.value.ids["run_id"] == "no"


@workflow
async def dated(run: Run, day: str) -> dict[str, object]:
    """Gives what JSON does not have."""
    run.state["day"] = date.fromisoformat(day)
    return {"day": date.fromisoformat(day), "data": b"\x00\xff", "wide": 2**70}


async def test_an_output_is_what_it_was() -> None:
    async with served(workflows=[dated]) as service, client_of(service) as client:
        run = await client.start("dated", {"day": "2026-11-21"})
        output = {"day": date(2026, 11, 21), "data": b"\x00\xff", "wide": 2**70}
        assert await client.result(run.run_id) == output
        assert (await client.state(run.run_id)).state == {"day": date(2026, 11, 21)}
        assert await service.runtime.run(run.run_id).result() == output
