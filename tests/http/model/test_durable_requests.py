"""Model requests within runs, against a real server: asked once, recorded at once, and never with the key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from perdure import Backoff, Run, Runtime, Secret, StepFailed, StepTimeout, workflow
from perdure.model import (
    Message,
    ModelReply,
    ModelRequest,
    OpenAIBackend,
    SimulatedBackend,
    Usage,
    ask,
    ask_model,
    may_succeed_later,
    model_step,
    request_model,
)
from perdure.store.memory import MemoryStore
from tests.http.model.scripted_endpoint import (
    Answer,
    Endpoint,
    answer,
    chunks,
    completion,
    endpoint,
    events,
    streamed,
)
from tests.unit.engine.staging import die, events_of, on_disk, opened, running

pytestmark = pytest.mark.time_limit(30)

KEY = "canary-key-0123456789"
ENVIRON = {"MODEL_KEY": KEY}
HELLO = ModelRequest((Message("user", "Hello"),), metadata={"stage": "greet"})
FINE = streamed(events(*chunks(["Hi ", "there"]), "[DONE]"))


def backend_at(place: Endpoint, **options: Any) -> OpenAIBackend:
    return OpenAIBackend(place.url, model="small", api_key=Secret("env:MODEL_KEY"), **options)


# --- recorded ---------------------------------------------------------------------------------------------------------


async def test_a_request_is_recorded_with_its_reply_and_what_it_cost() -> None:
    @workflow
    async def greeting(run: Run) -> ModelReply:
        return await request_model(run, backend_at(place), HELLO)

    async with endpoint(FINE) as place, running(MemoryStore(), greeting, environ=ENVIRON) as runtime:
        handle = await runtime.start(greeting)
        reply = await handle.result()
        (fact,) = await events_of(handle, "step.completed")
    assert reply == ModelReply("Hi there", "served-1", Usage(11, 7, 5, 3), "stop")
    assert (fact.key, fact.data["step_kind"], fact.data["secrets"]) == ("ask_model", "read", ["env:MODEL_KEY"])
    assert fact.data["input"]["request"]["messages"] == [{"content": "Hello", "role": "user"}]
    assert fact.data["input"]["request"]["metadata"] == {"stage": "greet"}
    assert fact.data["result"]["usage"] == {
        "input_tokens": 11,
        "output_tokens": 7,
        "cached_tokens": 5,
        "reasoning_tokens": 3,
    }


async def test_a_reply_that_came_is_not_asked_for_again_after_a_crash(store_path: Path) -> None:
    answered, go_on = asyncio.Event(), asyncio.Event()

    @workflow
    async def greeting(run: Run) -> str:
        reply = await request_model(run, backend_at(place), HELLO)
        answered.set()
        await go_on.wait()
        return reply.text

    async with endpoint(FINE) as place:
        first = await opened(on_disk(store_path), greeting, environ=ENVIRON)
        await first.start(greeting, id="greeting")
        await answered.wait()
        await die(first)
        go_on.set()
        async with running(on_disk(store_path), greeting, environ=ENVIRON) as second:
            assert await second.run("greeting").result() == "Hi there"
        assert len(place.asked) == 1


async def test_a_reply_is_durable_before_the_workflow_sees_it(store_path: Path) -> None:
    seen: list[int] = []

    @workflow
    async def greeting(run: Run) -> None:
        await request_model(run, backend_at(place), HELLO)
        seen.append(run._execution.log.backlog)

    async with endpoint(FINE) as place, running(on_disk(store_path), greeting, environ=ENVIRON) as runtime:
        await (await runtime.start(greeting)).result()
    assert seen == [0]


async def test_a_request_in_flight_at_a_crash_is_asked_again(store_path: Path) -> None:
    @workflow
    async def greeting(run: Run) -> str:
        return (await request_model(run, backend_at(place), HELLO)).text

    async with endpoint(Answer([b""], hold=True), FINE) as place:
        first = await opened(on_disk(store_path), greeting, environ=ENVIRON)
        await first.start(greeting, id="greeting")
        await place.held.wait()
        await die(first)
        async with running(on_disk(store_path), greeting, environ=ENVIRON) as second:
            assert await second.run("greeting").result() == "Hi there"
        assert [asked.json["messages"] for asked in place.asked] == [[{"role": "user", "content": "Hello"}]] * 2


async def test_a_run_goes_on_with_another_backend(store_path: Path) -> None:
    answered, go_on = asyncio.Event(), asyncio.Event()

    @workflow
    async def greeting(run: Run) -> list[str]:
        first = await request_model(run, SimulatedBackend() if go_on.is_set() else backend_at(place), HELLO)
        answered.set()
        await go_on.wait()
        second = await request_model(run, SimulatedBackend(), HELLO)
        return [first.text, second.text]

    async with endpoint(FINE) as place:
        first = await opened(on_disk(store_path), greeting, environ=ENVIRON)
        await first.start(greeting, id="greeting")
        await answered.wait()
        await die(first)
        go_on.set()
        async with running(on_disk(store_path), greeting, environ=ENVIRON) as second:
            expected = ["Hi there", "[Simulated] Response for stage: greet"]
            assert await second.run("greeting").result() == expected


async def test_the_key_stands_nowhere_in_the_store(store_path: Path) -> None:
    told = answer(401, {"error": {"message": f"the key {KEY} may not do this"}})
    echo = answer(200, completion(f"your key is {KEY}"))

    @workflow
    async def greeting(run: Run) -> list[str]:
        try:
            await request_model(run, backend_at(place), HELLO)
        except StepFailed as error:
            refused = str(error.to_dict())
        return [refused, (await request_model(run, backend_at(place), HELLO)).text]

    async with endpoint(told, echo) as place, running(on_disk(store_path), greeting, environ=ENVIRON) as runtime:
        handle = await runtime.start(greeting)
        refused, said = await handle.result()
        # While the write-ahead log still is a file.
        leaks = [
            path.name for path in store_path.parent.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()
        ]
        kept = any(
            b"your key is" in path.read_bytes() for path in store_path.parent.rglob("runs.db*") if path.is_file()
        )
    assert place.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in refused
    assert said == "your key is [secret env:MODEL_KEY]"
    assert (leaks, kept) == ([], True)


# --- failures ---------------------------------------------------------------------------------------------------------


async def test_a_wait_that_the_endpoint_asks_for_uses_up_no_attempt() -> None:
    @workflow
    async def greeting(run: Run) -> str:
        return (await request_model(run, backend_at(place), HELLO, retries=0)).text

    busy = answer(429, {}, headers={"Retry-After": "0.1"})
    async with endpoint(busy, busy, FINE) as place, running(MemoryStore(), greeting, environ=ENVIRON) as runtime:
        handle = await runtime.start(greeting)
        assert await handle.result() == "Hi there"
        retried = await events_of(handle, "step.retried")
    assert [(event.data["free"], event.data["error"]["code"]) for event in retried] == [(True, "model_busy")] * 2


async def test_waits_that_the_endpoint_asks_for_have_an_end() -> None:
    @workflow
    async def greeting(run: Run) -> list[Any]:
        try:
            await request_model(run, backend_at(place), HELLO, give_up_after="5m")
        except StepFailed as error:
            return [error.error_code, error.details["status"], may_succeed_later(error)]
        return []

    busy = answer(503, {}, headers={"Retry-After": "3600"})
    async with endpoint(busy) as place, running(MemoryStore(), greeting, environ=ENVIRON) as runtime:
        assert await (await runtime.start(greeting)).result() == ["model_busy", 503, True]
        assert len(place.asked) == 1


async def test_a_fault_of_the_endpoint_is_tried_again() -> None:
    @workflow
    async def greeting(run: Run) -> str:
        asking = model_step(backend_at(place)).options(retries=3, backoff=Backoff(initial_s=0.01))
        return (await run.step(asking, HELLO)).text

    cut = streamed(events(*chunks(["Hi "], finish=None)), end=False, cut=True)
    script = [answer(500, {}), cut, FINE]
    async with endpoint(*script) as place, running(MemoryStore(), greeting, environ=ENVIRON) as runtime:
        handle = await runtime.start(greeting)
        assert await handle.result() == "Hi there"
        assert [event.data["error"]["code"] for event in await events_of(handle, "step.retried")] == [
            "model_unavailable",
            "model_unavailable",
        ]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (answer(404, {"error": "no such model"}), "model_refused"),
        (answer(401, {}), "model_unauthorized"),
        (answer(200, "<html></html>", media_type="text/html"), "model_reply_invalid"),
    ],
)
async def test_a_refused_request_is_asked_once_and_says_that_it_is_final(script: Answer, code: str) -> None:
    @workflow
    async def greeting(run: Run) -> list[Any]:
        try:
            await request_model(run, backend_at(place), HELLO, retries=5)
        except StepFailed as error:
            return [error.error_code, may_succeed_later(error), bool(error.hint)]
        return []

    async with endpoint(script) as place, running(MemoryStore(), greeting, environ=ENVIRON) as runtime:
        assert await (await runtime.start(greeting)).result() == [code, False, True]
        assert len(place.asked) == 1


async def test_a_request_that_takes_too_long_is_a_timeout_of_the_step() -> None:
    @workflow
    async def greeting(run: Run) -> bool:
        try:
            await request_model(run, backend_at(place), HELLO, timeout=0.2, retries=0)
        except StepTimeout as error:
            return may_succeed_later(error)
        return False

    async with endpoint(Answer([b""], hold=True)) as place:
        async with running(MemoryStore(), greeting, environ=ENVIRON) as runtime:
            assert await (await runtime.start(greeting)).result()
        await place.left.wait()


async def test_a_key_that_is_not_there_fails_before_anything_is_sent() -> None:
    @workflow
    async def greeting(run: Run) -> list[Any]:
        try:
            await request_model(run, backend_at(place), HELLO)
        except StepFailed as error:
            return [error.error_code, may_succeed_later(error)]
        return []

    async with endpoint(FINE) as place, running(MemoryStore(), greeting, environ={}) as runtime:
        assert await (await runtime.start(greeting)).result() == ["secret_unresolved", False]
        assert place.asked == []


# --- who is asked -----------------------------------------------------------------------------------------------------


async def test_the_step_asks_the_backend_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    @workflow
    async def greeting(run: Run) -> list[str]:
        replies = await run.map(ask_model, [ask("Hello"), ask("Good bye")])
        return [reply.text for reply in replies]

    async with endpoint(FINE) as place:
        monkeypatch.setenv("PERDURE_MODEL_URL", place.url)
        monkeypatch.setenv("PERDURE_MODEL", "small")
        monkeypatch.setenv("PERDURE_MODEL_KEY", KEY)
        async with Runtime("memory://", workflows=[greeting]) as runtime:
            assert await (await runtime.start(greeting)).result() == ["Hi there", "Hi there"]
        assert {asked.headers["authorization"] for asked in place.asked} == {f"Bearer {KEY}"}


async def test_without_a_backend_the_step_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PERDURE_MODEL_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    @workflow
    async def greeting(run: Run) -> list[str]:
        try:
            await run.step(ask_model, ask("Hello"))
        except StepFailed as error:
            return [error.error_code, error.hint]
        return []

    async with Runtime("memory://", workflows=[greeting]) as runtime:
        code, hint = await (await runtime.start(greeting)).result()
    assert code == "model_not_configured"
    assert "PERDURE_MODEL_URL" in hint
