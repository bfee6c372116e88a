"""Logs: with run and step in every record, silent in replayed code, redacted, as text and as JSON."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from perdure import Backoff, BlockingRun, Limits, Run, Runtime, Secret, StepFailed, current_step, step, workflow
from perdure.core.errors import InputError
from perdure.core.secrets import Redactor
from perdure.engine import logs
from perdure.engine.logs import JsonFormatter, TextFormatter, configure
from perdure.store.memory import MemoryStore
from tests.unit.engine.staging import die

elsewhere = logging.getLogger("some.library")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the configured logs say; the process's own are as before when the test is over."""
    root = logging.getLogger()
    level, before = root.level, list(root.handlers)
    stream = io.StringIO()
    configure(form="json", level="debug", stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def lines(written: io.StringIO, name: str = "") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in written.getvalue().splitlines()]
    return [one for one in found if one["logger"].startswith(name)]


def said(written: io.StringIO, name: str = "perdure.run") -> list[str]:
    return [one["message"] for one in lines(written, name)]


# --- run and step -----------------------------------------------------------------------------------------------------


@step(kind="read", retries=1, backoff=Backoff(initial_s=0.001))
async def fetch(url: str) -> str:
    current_step().log.info("fetching %s", url, extra={"url": url})
    elsewhere.info("connected")
    if current_step().attempt == 1:
        raise ConnectionError("again")
    return "page"


@step(kind="read", isolation="thread")
def count() -> int:
    elsewhere.info("counting")
    return 1


@workflow
async def article(run: Run) -> str:
    run.log.info("begun")
    page = await run.step(fetch, "https://example.com")
    elsewhere.warning("between")
    await run.step(count)
    return page


async def test_each_record_says_which_run_and_step_it_comes_from(written: io.StringIO) -> None:
    async with Runtime("memory://") as runtime:
        handle = await runtime.start(article)
        await handle.result()
    begun, first, second = lines(written, "perdure.run.article")
    place = {"run_id": handle.id, "workflow": "article", "scope": "0/main#1"}
    assert begun.items() >= {**place, "node": "main", "message": "begun", "level": "info"}.items()
    assert first.items() >= {**place, "step": "fetch", "attempt": 1, "url": "https://example.com"}.items()
    assert second["attempt"] == 2
    told = {(one["message"], one.get("step"), one.get("attempt")) for one in lines(written, "some.library")}
    assert told == {
        ("connected", "fetch", 1),
        ("connected", "fetch", 2),
        ("between", None, None),
        ("counting", "count", 1),
    }
    assert all(one.items() >= place.items() for one in lines(written, "some.library"))


async def test_what_is_outside_of_runs_says_nothing_of_them(written: io.StringIO) -> None:
    elsewhere.info("alone")
    assert lines(written, "some.library")[0].keys() == {"time", "level", "logger", "message"}


# --- replay -----------------------------------------------------------------------------------------------------------


@step(kind="idempotent")
async def effect(name: str) -> str:
    return name


async def test_code_that_runs_again_over_recorded_facts_is_silent_until_it_goes_beyond_them(
    written: io.StringIO,
) -> None:
    @workflow
    async def story(run: Run) -> None:
        run.log.info("one")
        await run.step(effect, "a")
        run.log.info("two")
        elsewhere.info("two too")
        run.now()
        run.log.info("three")
        await run.wait_for("go")
        run.log.info("four")
        await run.step(effect, "b")
        run.log.info("five")

    store = MemoryStore()
    async with Runtime(store, workflows=[story], limits=Limits(linger_s=0.0)) as runtime:
        handle = await runtime.start(story)
        await until_waiting(runtime, handle.id)
    assert said(written) == ["one", "two", "three"]
    async with Runtime(store, workflows=[story]) as runtime:
        await runtime.signal("go", run_id=handle.id)
        await runtime.run(handle.id).result()
    assert said(written) == ["one", "two", "three", "four", "five"]
    assert said(written, "some.library") == ["two too"]


async def test_branches_are_silent_each_as_far_as_it_is_recorded(written: io.StringIO) -> None:
    reached = asyncio.Event()
    free = asyncio.Event()

    @step(kind="idempotent")
    async def hang() -> None:
        reached.set()
        await free.wait()

    async def left(run: Run) -> None:
        run.log.info("left begins")
        await run.step(effect, "left")
        run.log.info("left has done it")
        await run.step(hang)
        run.log.info("left ends")

    async def right(run: Run) -> None:
        await run.step(effect, "right")
        run.log.info("right ends")

    @workflow
    async def both(run: Run) -> None:
        await run.gather(left(run), right(run))
        run.log.info("joined")

    store = MemoryStore()
    runtime = Runtime(store, workflows=[both])
    await runtime.open()
    handle = await runtime.start(both)
    await reached.wait()
    await die(runtime)
    before = said(written)
    assert before[0] == "left begins"
    assert "left has done it" in before
    free.set()
    async with Runtime(store, workflows=[both]) as again:
        await again.run(handle.id).result()
    after = said(written)[len(before) :]
    assert "left begins" not in after
    assert "left has done it" not in after
    assert after[-2:] == ["left ends", "joined"]


async def test_a_branch_is_silent_to_its_end_where_the_run_is_recorded_beyond_it(written: io.StringIO) -> None:
    reached, free = asyncio.Event(), asyncio.Event()

    @step(kind="idempotent")
    async def hang() -> None:
        reached.set()
        await free.wait()

    async def worded(run: Run) -> None:
        run.log.info("no step here")

    async def working(run: Run) -> None:
        await run.step(effect, "in the branch")
        run.log.info("the branch ends")

    @workflow
    async def further(run: Run) -> None:
        await run.gather(worded(run), working(run))
        async with run.branch("more") as more:
            more.log.info("one more")
        run.log.info("joined")
        await run.step(hang)
        run.log.info("done")

    store = MemoryStore()
    runtime = Runtime(store, workflows=[further])
    await runtime.open()
    handle = await runtime.start(further)
    await reached.wait()
    await die(runtime)
    assert said(written) == ["no step here", "the branch ends", "one more", "joined"]
    free.set()
    async with Runtime(store, workflows=[further]) as again:
        await again.run(handle.id).result()
    assert said(written)[4:] == ["done"]


async def test_a_step_that_the_code_asks_for_no_more_does_not_silence_it_for_ever(written: io.StringIO) -> None:
    @step(kind="pure")
    def guess() -> int:
        return 1

    asked = [True]

    @workflow(version="1")
    async def changing(run: Run) -> None:
        if asked[0]:
            await run.step(guess)
            await run.wait_for("go")
        else:
            await run.wait_for("go")
        run.log.info("beyond")
        await run.step(effect, "new")
        run.log.info("further")

    store = MemoryStore()
    async with Runtime(store, workflows=[changing], limits=Limits(linger_s=0.0)) as runtime:
        handle = await runtime.start(changing)
        await until_waiting(runtime, handle.id)
    asked[0] = False
    async with Runtime(store, workflows=[changing]) as runtime:
        await runtime.signal("go", run_id=handle.id)
        await runtime.run(handle.id).result()
    assert said(written)[-1] == "further"


async def test_a_synchronous_workflow_logs_too_and_is_silent_in_replay(written: io.StringIO) -> None:
    @workflow
    def plain(run: BlockingRun) -> None:
        run.log.info("one")
        run.wait_for("go")
        run.log.info("two")

    store = MemoryStore()
    async with Runtime(store, workflows=[plain], limits=Limits(linger_s=0.0)) as runtime:
        handle = await runtime.start(plain)
        await until_waiting(runtime, handle.id)
    async with Runtime(store, workflows=[plain]) as runtime:
        await runtime.signal("go", run_id=handle.id)
        await runtime.run(handle.id).result()
    assert said(written) == ["one", "two"]
    assert all(one["run_id"] == handle.id for one in lines(written, "perdure.run"))


async def until_waiting(runtime: Runtime, run_id: str) -> None:
    with runtime.hub.watch(run_id) as grown:
        while await runtime.run(run_id).status() != "waiting":
            await grown.wait()
            grown.clear()


# --- the engine's own -------------------------------------------------------------------------------------------------


async def test_the_engine_tells_of_runs_that_fail_are_parked_or_in_doubt(written: io.StringIO) -> None:
    @step(kind="once", in_doubt="fail")
    async def lose() -> None:
        raise ConnectionError("the answer was lost")

    @workflow
    async def unlucky(run: Run) -> None:
        await run.step(lose)

    async with Runtime("memory://") as runtime:
        handle = await runtime.start(unlucky)
        with pytest.raises(Exception, match="doubt"):
            await handle.result()
    told = lines(written, "perdure.engine")
    assert [one["level"] for one in told] == ["warning", "warning"]
    assert "step lose is in doubt" in told[0]["message"]
    assert told[0]["step"] == "lose"
    assert f"run {handle.id}: failed" in told[1]["message"]
    assert {one["run_id"] for one in told} == {handle.id}


async def test_the_engine_tells_of_a_run_that_it_takes_over(written: io.StringIO) -> None:
    reached, free = asyncio.Event(), asyncio.Event()

    @step(kind="idempotent")
    async def hang() -> None:
        reached.set()
        await free.wait()

    @workflow
    async def hanging(run: Run) -> None:
        await run.step(hang)

    store = MemoryStore()
    runtime = Runtime(store, workflows=[hanging])
    await runtime.open()
    handle = await runtime.start(hanging)
    await reached.wait()
    await die(runtime)
    free.set()
    async with Runtime(store, workflows=[hanging]) as again:
        await again.run(handle.id).result()
    assert any(
        "taken over" in one["message"] and one["run_id"] == handle.id for one in lines(written, "perdure.engine")
    )


def test_the_engine_is_silent_in_a_program_that_does_not_ask(capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, root.handlers[:] = list(root.handlers), []
    try:
        logs.logger.warning("not asked for")
    finally:
        root.handlers[:] = before
    assert capfd.readouterr() == ("", "")


# --- secrets and formats ----------------------------------------------------------------------------------------------

CANARY = "canary-of-the-logs-0123456789"  # no other test has it, so no other runtime has a label for it


async def test_a_revealed_secret_and_credentials_of_urls_stand_in_no_log(written: io.StringIO) -> None:
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(TextFormatter())
    logging.getLogger().addHandler(handler)

    @step(kind="read")
    async def careless() -> None:
        key = current_step().reveal(Secret("env:KEY"))
        current_step().log.info("the key is %s", key, extra={"headers": {"authorization": f"Bearer {key}"}})
        elsewhere.info("postgres://me:%s@host/db and http://me:" + "other-pass" + "@host/db", key)
        try:
            raise ValueError(f"no {key}")
        except ValueError:
            elsewhere.exception("it broke")

    @workflow
    async def leaking(run: Run) -> None:
        await run.step(careless)

    try:
        async with Runtime("memory://", environ={"KEY": CANARY}) as runtime:
            await (await runtime.start(leaking)).result()
    finally:
        logging.getLogger().removeHandler(handler)
    for shown in (written.getvalue(), text.getvalue()):
        assert CANARY not in shown
        assert "other-pass" not in shown
        assert "[secret env:KEY]" in shown
    assert "ValueError" in lines(written, "some.library")[-1]["exception"]["type"]


def record(message: str = "hello", **extra: Any) -> logging.LogRecord:
    made = logging.getLogger("a.b").makeRecord("a.b", logging.WARNING, "f", 1, message, (), None, extra=extra)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    return made


def test_a_json_record_is_one_line_whatever_is_in_it() -> None:
    odd = {"whole": 1 << 70, "half": "\ud800", "thing": object(), "many": {1: {2, 3}}, "text": "a\nb"}
    line = JsonFormatter().format(record("two\nlines", **odd))
    assert "\n" not in line
    told = json.loads(line)
    assert told["time"] == "2023-11-14T22:13:20.250Z"
    assert (told["level"], told["logger"], told["message"]) == ("warning", "a.b", "two\nlines")
    assert told["whole"] == 1 << 70
    assert told["text"] == "a\nb"


def test_a_text_record_names_run_and_step() -> None:
    assert TextFormatter().format(record(run_id="r1", step="fetch")) == (
        "2023-11-14T22:13:20.250Z WARNING a.b [r1 fetch] hello"
    )
    assert TextFormatter().format(record()) == "2023-11-14T22:13:20.250Z WARNING a.b hello"


def test_configuring_again_replaces_what_was_configured(written: io.StringIO) -> None:
    again = io.StringIO()
    configure(form="text", level="warning", stream=again)
    elsewhere.info("less")
    elsewhere.warning("more")
    assert written.getvalue() == ""
    assert again.getvalue().endswith("WARNING some.library more\n")


@pytest.mark.parametrize("wrong", [{"form": "xml"}, {"level": "loud"}])
def test_what_cannot_be_configured_is_refused(wrong: dict[str, Any]) -> None:
    before = list(logging.getLogger().handlers)
    with pytest.raises(InputError, match="is none of"):
        configure(**wrong)
    assert logging.getLogger().handlers == before


def test_a_redactor_that_is_gone_is_forgotten() -> None:
    redactor = Redactor()
    logs.know(redactor)
    known = len(logs._redactors)
    del redactor
    assert len(logs._redactors) < known or sys.implementation.name != "cpython"


async def test_a_failed_step_does_not_break_the_logger(written: io.StringIO) -> None:
    @step(kind="pure")
    def broken() -> None:
        raise ValueError("no")

    @workflow
    async def careful(run: Run) -> None:
        try:
            await run.step(broken)
        except StepFailed:
            run.log.exception("handled")

    async with Runtime("memory://") as runtime:
        await (await runtime.start(careful)).result()
    (told,) = lines(written, "perdure.run")
    assert told["exception"]["type"] == "StepFailed"
    assert "no" in told["exception"]["message"]
